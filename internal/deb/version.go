package deb

import (
	"errors"
	"fmt"
	"strings"
)

// CompareVersions orders two Debian versions by Policy 5.6.12: it returns a
// negative number when a is older than b, zero when they are equal ("1.0" and
// "0:1.0-0" are), a positive number when a is newer.
func CompareVersions(a, b string) int {
	if a == b {
		return 0
	}
	ea, ua, ra := splitVersion(a)
	eb, ub, rb := splitVersion(b)
	if c := compareDigits(ea, eb); c != 0 {
		return c
	}
	if c := comparePart(ua, ub); c != 0 {
		return c
	}
	return comparePart(ra, rb)
}

func splitVersion(v string) (epoch, upstream, revision string) {
	if i := strings.IndexByte(v, ':'); i >= 0 {
		epoch, v = v[:i], v[i+1:]
	}
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return epoch, v[:i], v[i+1:]
	}
	return epoch, v, ""
}

// comparePart compares alternating runs of non-digits and digits.
func comparePart(a, b string) int {
	for a != "" || b != "" {
		for (a != "" && !digit(a[0])) || (b != "" && !digit(b[0])) {
			wa, wb := weight(a), weight(b)
			if wa != wb {
				return wa - wb
			}
			a, b = a[1:], b[1:]
		}
		na, nb := digits(a), digits(b)
		if c := compareDigits(a[:na], b[:nb]); c != 0 {
			return c
		}
		a, b = a[na:], b[nb:]
	}
	return 0
}

// weight orders the first byte of s: "~" before the end, the end (and a digit)
// before letters, letters before everything else.
func weight(s string) int {
	switch {
	case s == "" || digit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case letter(s[0]):
		return int(s[0])
	}
	return int(s[0]) + 256
}

func compareDigits(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

func digits(s string) int {
	n := 0
	for n < len(s) && digit(s[n]) {
		n++
	}
	return n
}

func digit(c byte) bool  { return c >= '0' && c <= '9' }
func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// maxVersion bounds a version; the longest in public archives has about 60 characters.
const maxVersion = 256

// ValidateVersion reports whether v has the form of Policy 5.6.12.
func ValidateVersion(v string) error {
	if v == "" || len(v) > maxVersion {
		return fmt.Errorf("version %.40q is empty or longer than %d", v, maxVersion)
	}
	epoch, upstream, revision := splitVersion(v)
	if strings.Contains(v, ":") && (epoch == "" || digits(epoch) != len(epoch)) {
		return fmt.Errorf("version %q: the epoch is no number", v)
	}
	if upstream == "" || strings.HasSuffix(v, "-") {
		return fmt.Errorf("version %q has an empty part", v)
	}
	for _, part := range []string{upstream, revision} {
		for i := range len(part) {
			if c := part[i]; !digit(c) && !letter(c) && !strings.ContainsRune(".+-~:", rune(c)) {
				return fmt.Errorf("version %q contains %q", v, c)
			}
		}
	}
	return nil
}

// ValidateName reports whether s has the form of a package name. One-character
// names, upper case and "_" are refused, as Policy 5.6.7 does.
func ValidateName(s string) error {
	if len(s) < 2 || len(s) > 128 {
		return fmt.Errorf("package name %.40q has not 2 to 128 characters", s)
	}
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || digit(c) || i > 0 && (c == '+' || c == '-' || c == '.') {
			continue
		}
		return errors.New("package name " + fmt.Sprintf("%q", s) + " may contain a-z 0-9 + - . only, and begins with a letter or digit")
	}
	return nil
}
