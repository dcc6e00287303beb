package factory

import (
	"errors"

	"kiln/internal/fetch"
	"kiln/internal/line/verify"
)

// isRefusal reports whether an input failed a check, rather than could not be had.
func isRefusal(err error) bool {
	var refused *verify.Refusal
	var fetched *fetch.Error
	var chain *verify.LockError
	if errors.As(err, &refused) || errors.As(err, &chain) {
		return true
	}
	return errors.As(err, &fetched) && (errors.Is(err, fetch.ErrDigest) || errors.Is(err, fetch.ErrSize))
}
