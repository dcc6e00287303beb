package factory

import (
	"errors"
	"strings"

	"kiln"
	"kiln/internal/blob/dir"
	"kiln/internal/deb"
	"kiln/internal/fetch"
	"kiln/internal/image"
	"kiln/internal/line"
	"kiln/internal/line/verify"
	"kiln/internal/sandbox"
)

// explain marks what was refused by a check, a test or the policy, and adds what to do.
func explain(err error) error {
	var failed *line.TestFailure
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failed):
		return kiln.Refuse(kiln.WithHint(err, "the tests run against the hardened image; `--json` shows each attempt, and a waiver in hardening.waivers leaves an objective out"))
	case doesNotStart(err):
		return kiln.Refuse(kiln.WithHint(err, "check entrypoint and command in the recipe, and whether hardening.remove took the program away"))
	case errors.Is(err, line.ErrDenied):
		return kiln.Refuse(err)
	case isNoSpace(err):
		return kiln.WithHint(err, "free space in the state directory or choose another with --state; nothing half-written was kept")
	case isRefusal(err):
		return kiln.Refuse(advise(err))
	}
	return advise(err)
}

// doesNotStart reports whether the candidate has no such program as its entrypoint.
func doesNotStart(err error) bool {
	var stopped *line.StationError
	var missing *sandbox.NotFoundError
	return errors.As(err, &stopped) && stopped.Station == kiln.StationTrial && errors.As(err, &missing)
}

func isNoSpace(err error) bool {
	return strings.Contains(err.Error(), "no space left on device")
}

// isRefusal reports whether an input failed a check, rather than could not be had.
func isRefusal(err error) bool {
	var refused *verify.Refusal
	var chain *verify.LockError
	if errors.As(err, &refused) || errors.As(err, &chain) {
		return true
	}
	for _, check := range []error{fetch.ErrDigest, fetch.ErrSize, dir.ErrDigest, dir.ErrSize, deb.ErrTooLarge, image.ErrDamaged} {
		if errors.Is(err, check) {
			return true
		}
	}
	return false
}

// advise says what helps against an input that failed, where nothing deeper said so.
func advise(err error) error {
	var failed *fetch.Error
	var advised *kiln.Hinted
	switch {
	case errors.As(err, &advised):
		return err
	case errors.Is(err, image.ErrDamaged):
		return kiln.WithHint(err, "copy or pull the image again")
	case !errors.As(err, &failed):
		return err
	case errors.Is(err, fetch.ErrDigest), errors.Is(err, fetch.ErrSize):
		return kiln.WithHint(err, "the mirror may be in the middle of an update: try again in some minutes, or use another mirror; nothing wrong was kept")
	case errors.Is(err, fetch.ErrNotFound):
		return kiln.WithHint(err, "check the archive's uri and suites; a mirror may lag behind or have dropped the file")
	}
	return kiln.WithHint(err, "check the network, the proxy in the environment and the archive's uri; what was fetched is kept, and the same command continues there")
}
