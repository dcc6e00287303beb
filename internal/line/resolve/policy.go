package resolve

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"kiln"
	"kiln/internal/deb"
)

// policy gives versions their priority, by the rules of apt_preferences(5).
type policy struct {
	pins []kiln.Pin // for packages; those for "*" are in the files' priorities
}

// newPolicy checks the pins and sets the priority of every file.
func newPolicy(pins []kiln.Pin, files []*packagesFile) (*policy, error) {
	p := &policy{}
	var general []kiln.Pin
	for i, pin := range pins {
		if err := checkPin(pin); err != nil {
			return nil, fmt.Errorf("pins[%d]: %w", i, err)
		}
		if pin.Package == "*" {
			general = append(general, pin)
		} else {
			p.pins = append(p.pins, pin)
		}
	}
	for _, f := range files {
		f.priority = defaultPriority(f.suite.release)
		i := slices.IndexFunc(general, func(pin kiln.Pin) bool { return pin.Release != "" && f.matches(pin.Release) })
		if i >= 0 {
			f.priority = general[i].Priority
		}
	}
	return p, nil
}

func checkPin(p kiln.Pin) error {
	if p.Package == "" || (p.Version == "") == (p.Release == "") {
		return fmt.Errorf("a pin needs package and exactly one of version and release")
	}
	if p.Priority == 0 || p.Priority < -32768 || p.Priority > 32767 {
		return fmt.Errorf("priority %d is not allowed; use 1 to 32767, or a negative number to forbid", p.Priority)
	}
	if p.Package == "*" && p.Version != "" {
		return fmt.Errorf("a pin for every package needs release, not version")
	}
	for _, pattern := range []string{p.Package, p.Version, p.Release} {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("pattern %q is malformed", pattern)
		}
	}
	return nil
}

func defaultPriority(r *deb.Release) int {
	switch {
	case r.ButAutomaticUpgrades:
		return 100
	case r.NotAutomatic:
		return 1
	}
	return 500
}

// priority is the pin's that applies first, else the highest of the version's files.
func (p *policy) priority(v *version) int {
	for _, pin := range p.pins {
		if matchesPackage(pin.Package, v) && (pin.Version != "" && glob(pin.Version, v.Version) || pin.Release != "" && v.from(pin.Release) != nil) {
			return pin.Priority
		}
	}
	best := v.files[0].priority
	for _, f := range v.files[1:] {
		best = max(best, f.priority)
	}
	return best
}

// candidate returns the version that would be installed: the highest priority
// wins, and of those the newest. A version with a negative priority never is.
func (p *policy) candidate(pk *pkg) *version {
	var best *version
	bestPriority := -1
	for _, v := range pk.versions {
		if n := p.priority(v); n != 0 && n > bestPriority {
			best, bestPriority = v, n
		}
	}
	return best
}

// matchesPackage reads a pin's Package: names or globs separated by spaces, "src:" for source packages.
func matchesPackage(pattern string, v *version) bool {
	for one := range strings.FieldsSeq(pattern) {
		name := v.Name
		if source, ok := strings.CutPrefix(one, "src:"); ok {
			one, name = source, v.Source
		}
		if glob(one, name) {
			return true
		}
	}
	return false
}

// from returns the first of the version's files that release describes, or nil.
func (v *version) from(release string) *packagesFile {
	for _, f := range v.files {
		if f.matches(release) {
			return f
		}
	}
	return nil
}

// matches judges a release expression: a suite or codename, a version such as
// "12*", or apt's list "a=stable,o=Debian" of a (suite), n (codename),
// v (version), c (component), o (origin), l (label), b (architecture, not judged).
func (f *packagesFile) matches(release string) bool {
	r := f.suite.release
	if release == "*" {
		return true
	}
	if !strings.Contains(release, "=") {
		if release != "" && release[0] >= '0' && release[0] <= '9' {
			return glob(release, r.Version)
		}
		return glob(release, r.Suite) || glob(release, r.Codename) || release == f.suite.name
	}
	have := map[string]string{"a": r.Suite, "n": r.Codename, "v": r.Version, "c": f.component, "o": r.Origin, "l": r.Label}
	for part := range strings.SplitSeq(release, ",") {
		key, want, _ := strings.Cut(strings.TrimSpace(part), "=")
		value, known := have[key]
		if !known || !glob(want, value) {
			return false
		}
	}
	return true
}

// glob is fnmatch without regard to case; in what it is used for there are no slashes.
func glob(pattern, s string) bool {
	ok, err := path.Match(strings.ToLower(pattern), strings.ToLower(s))
	return err == nil && ok
}
