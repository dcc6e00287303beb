package kiln

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Invalid says which field of a document breaks which rule.
type Invalid struct{ Field, Rule string }

func (e *Invalid) Error() string { return e.Field + ": " + e.Rule }

func invalid(field, rule string) error { return &Invalid{field, rule} }

func at(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }

func oneOf(s string, set ...string) bool { return slices.Contains(set, s) }

const nameRule = "is 1 to 128 of a-z 0-9 . _ - /, begins and ends with a letter or digit"

var (
	nameForm    = regexp.MustCompile(`^[a-z0-9]([a-z0-9._/-]{0,126}[a-z0-9])?$`)
	packageForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]{0,127}$`)
)

func validName(s string) bool {
	return nameForm.MatchString(s) && !strings.Contains(s, "..") && !strings.Contains(s, "//")
}

func validPackage(s string) bool { return packageForm.MatchString(s) }

// ValidName reports whether s can name a recipe or release: it is also a legal OCI repository path.
func ValidName(s string) bool { return validName(s) }

// localPath reports whether p is relative, clean and stays below its root.
func localPath(p string) bool {
	return p != "" && !strings.HasPrefix(p, "/") && path.Clean(p) == p && p != ".." && !strings.HasPrefix(p, "../") && !strings.ContainsRune(p, 0)
}

// Validate reports missing fields and dates that are no dates.
func (e Exception) Validate() error {
	switch {
	case e.Owner == "":
		return invalid("owner", "an exception needs an owner")
	case e.Reason == "":
		return invalid("reason", "an exception needs a reason")
	}
	if _, err := time.Parse(time.DateOnly, e.Expires); err != nil {
		return invalid("expires", "an exception needs an expiry as YYYY-MM-DD")
	}
	return nil
}

// Expired reports whether the exception's last day is over at now, in UTC. An exception without a readable date has expired.
func (e Exception) Expired(now time.Time) bool {
	last, err := time.Parse(time.DateOnly, e.Expires)
	return err != nil || !now.UTC().Before(last.AddDate(0, 0, 1))
}

// Duration is a time.Duration written as text ("30s").
type Duration time.Duration

// Or returns d, or def where d is zero.
func (d Duration) Or(def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return time.Duration(d)
}

// MarshalText writes the duration as Go does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads a Go duration, not negative.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no duration; write 30s, 5m or 1h", clip(string(b), 40))
	}
	*d = Duration(v)
	return nil
}
