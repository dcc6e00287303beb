package assess

import (
	"cmp"
	"slices"
	"strings"

	"kiln"
)

// Score counts the rules of one benchmark, in one version, by what became of
// them. Rules of the benchmark that no objective of the profile covers are not in
// it: a share is one of what was assessed.
type Score struct {
	Benchmark string `json:"benchmark"`
	Version   string `json:"version"`
	// Level is "" for the whole benchmark, else the level or category that is counted.
	Level string `json:"level,omitempty"`
	// Derived is set where the benchmark is not made for the target's platform: the result is ours, not its publisher's.
	Derived       bool `json:"derived,omitempty"`
	Pass          int  `json:"pass"`
	Fail          int  `json:"fail"`
	NotApplicable int  `json:"notApplicable"`
	Unknown       int  `json:"unknown"`
	Waived        int  `json:"waived"`
	// Levels are the counts of each level, sorted.
	Levels []Score `json:"levels,omitempty"`
}

// Applicable is how many of the rules that were assessed apply: all but the not applicable ones.
func (s Score) Applicable() int { return s.Pass + s.Fail + s.Unknown + s.Waived }

// Share is the share of rules that pass among those that apply, from 0 to 1; ok is false where none applies. A waived or
// unknown rule applies and does not pass.
func (s Score) Share() (share float64, ok bool) {
	if s.Applicable() == 0 {
		return 0, false
	}
	return float64(s.Pass) / float64(s.Applicable()), true
}

func (s *Score) count(state string) {
	switch state {
	case kiln.Satisfied:
		s.Pass++
	case kiln.NotSatisfied:
		s.Fail++
	case kiln.NotApplicable:
		s.NotApplicable++
	case kiln.Waived:
		s.Waived++
	default:
		s.Unknown++
	}
}

// Total counts the objectives themselves.
func Total(outcomes []kiln.Outcome) Score {
	s := Score{Benchmark: "objectives"}
	for _, o := range outcomes {
		s.count(o.State)
	}
	return s
}

// Scores counts per benchmark that is made for the platform, or for any, and
// then, as derived, per STIG of Ubuntu where the platform is Debian, which has
// none. Of an unknown platform ("") none of a platform's counts. Controls say which variant meets
// which rule; they may be nil. The order is fixed.
func Scores(outcomes []kiln.Outcome, controls []kiln.Control, platform string) []Score {
	var out []Score
	for _, b := range byBenchmark(join(outcomes, controls), platform) {
		s := Score{Benchmark: b.name, Version: b.version, Derived: b.derived}
		levels := map[string]*Score{}
		for _, r := range b.rules {
			s.count(r.state)
			if r.level != "" {
				if levels[r.level] == nil {
					levels[r.level] = &Score{Benchmark: b.name, Version: b.version, Level: r.level, Derived: b.derived}
				}
				levels[r.level].count(r.state)
			}
		}
		for _, l := range levels {
			s.Levels = append(s.Levels, *l)
		}
		slices.SortFunc(s.Levels, func(a, b Score) int { return cmp.Compare(a.Level, b.Level) })
		out = append(out, s)
	}
	return out
}

// benchmark is what was assessed of one benchmark.
type benchmark struct {
	name, version string
	derived       bool
	rules         []rule // sorted by id
}

// rule is one rule of a benchmark and the objectives that cover it.
type rule struct {
	id, level string
	state     string
	outcomes  []outcome
}

// byBenchmark collects the rules that outcomes refer to.
func byBenchmark(outcomes []outcome, platform string) []benchmark {
	at := map[[2]string]int{}
	var out []benchmark
	for _, o := range outcomes {
		for _, r := range o.References {
			fits, derived := fitsPlatform(r.Benchmark, platform)
			if crossReference(r.Benchmark) || !fits {
				continue
			}
			key := [2]string{r.Benchmark, r.Version}
			i, ok := at[key]
			if !ok {
				i = len(out)
				at[key] = i
				out = append(out, benchmark{name: r.Benchmark, version: r.Version, derived: derived})
			}
			out[i].add(r, o)
		}
	}
	for i := range out {
		slices.SortFunc(out[i].rules, func(a, b rule) int { return compareIDs(a.id, b.id) })
	}
	slices.SortFunc(out, func(a, b benchmark) int {
		return cmp.Or(compareBool(a.derived, b.derived), cmp.Compare(a.name, b.name), cmp.Compare(a.version, b.version))
	})
	return out
}

func (b *benchmark) add(r kiln.Reference, o outcome) {
	state := stateFor(r, o)
	for i := range b.rules {
		if have := &b.rules[i]; have.id == r.ID {
			have.state, have.outcomes = worst(have.state, state), append(have.outcomes, o)
			return
		}
	}
	b.rules = append(b.rules, rule{r.ID, r.Level, state, []outcome{o}})
}

// stateFor is an outcome's state in the eyes of one rule: where variants say
// which rules they meet, one that does not name the rule does not meet it,
// though the objective holds.
func stateFor(r kiln.Reference, o outcome) string {
	if o.State != kiln.Satisfied {
		return o.State
	}
	meets := func(v kiln.Variant) bool {
		return slices.ContainsFunc(v.References, func(x kiln.Reference) bool { return x.Benchmark == r.Benchmark && x.ID == r.ID })
	}
	if !slices.ContainsFunc(o.control.Variants, meets) {
		return o.State
	}
	if slices.ContainsFunc(o.control.Variants, func(v kiln.Variant) bool { return v.ID == o.Variant && meets(v) }) {
		return o.State
	}
	return kiln.NotSatisfied
}

// gravity puts the states of a rule's objectives in order: the gravest is the rule's.
var gravity = []string{kiln.NotApplicable, kiln.Satisfied, kiln.Waived, kiln.Unknown, kiln.NotSatisfied}

func worst(a, b string) string {
	if slices.Index(gravity, a) >= slices.Index(gravity, b) {
		return a
	}
	return b
}

// crossReference tells catalogues of controls and of identifiers, to which a rule maps, from benchmarks, which are met or not.
func crossReference(name string) bool {
	for _, p := range []string{"DISA Control Correlation Identifier", "DISA General Purpose Operating System SRG", "NIST ", "SCAP Security Guide"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// Names of benchmarks of one platform begin like this, and go on with its version.
var platformNames = []struct{ prefix, distro string }{
	{"CIS Debian Linux ", "debian"},
	{"CIS Ubuntu Linux ", "ubuntu"},
	{stigUbuntu, "ubuntu"},
}

const stigUbuntu = "DISA STIG Canonical Ubuntu "

// fitsPlatform says whether a benchmark is counted for the platform, and whether it is made for another.
func fitsPlatform(name, platform string) (fits, derived bool) {
	for _, p := range platformNames {
		version, ok := strings.CutPrefix(name, p.prefix)
		if !ok {
			continue
		}
		version, _, _ = strings.Cut(version, " ")
		distro, _, _ := strings.Cut(platform, "-")
		switch {
		case platform == p.distro+"-"+version:
			return true, false
		case p.prefix == stigUbuntu && distro == "debian":
			return true, true
		}
		return false, false
	}
	return true, false
}

// compareIDs sorts section numbers by their numbers: 5.2 before 5.10.
func compareIDs(a, b string) int {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		if c := cmp.Or(cmp.Compare(len(x[i]), len(y[i])), strings.Compare(x[i], y[i])); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(x), len(y))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
