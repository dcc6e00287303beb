package assess_test

import (
	"fmt"
	"slices"
	"testing"

	"kiln"
	"kiln/internal/assess"
)

// outcomesOf makes an outcome for each "objective state benchmark-id...".
func with(objective, state string, refs ...kiln.Reference) kiln.Outcome {
	return kiln.Outcome{Objective: objective, Title: objective, State: state, References: refs}
}

func ref(id, level string) kiln.Reference {
	return kiln.Reference{Benchmark: "CIS Debian Linux 12", Version: "1.1.0", ID: id, Level: level}
}

func TestScores(t *testing.T) {
	got := assess.Scores([]kiln.Outcome{
		with("a", kiln.Satisfied, ref("1.1", "L1"), ref("1.2", "L1")),
		with("b", kiln.NotSatisfied, ref("1.2", "L1")), // one rule, two objectives: both must hold
		with("c", kiln.Waived, ref("1.3", "L1")),
		with("d", kiln.Unknown, ref("1.4", "L2")),
		with("e", kiln.NotApplicable, ref("1.5", "L2")),
		with("f", kiln.NotApplicable, ref("1.1", "L1")), // does not apply beside one that holds
		with("g", kiln.Satisfied, kiln.Reference{Benchmark: "CIS Ubuntu Linux 24.04 LTS", Version: "1.0.0", ID: "1.1"}),
		with("h", kiln.NotSatisfied, kiln.Reference{Benchmark: "DISA STIG Canonical Ubuntu 24.04 LTS", Version: "V1R5", ID: "UBTU-24-1"}),
		with("i", kiln.Satisfied, kiln.Reference{Benchmark: "NIST SP 800-53", Version: "revision 5", ID: "CM-6"}),
		with("j", kiln.Satisfied, kiln.Reference{Benchmark: "CIS Docker", Version: "1.6.0", ID: "4.1"}),
	}, nil, "debian-12")
	want := "[CIS Debian Linux 12 1.1.0: 1 1 1 1 1 25.0 %] [CIS Docker 1.6.0: 1 0 0 0 0 100.0 %] [DISA STIG Canonical Ubuntu 24.04 LTS V1R5 derived: 0 1 0 0 0 0.0 %] "
	text := ""
	for _, s := range got {
		text += fmt.Sprintf("[%s %s%s: %d %d %d %d %d %s] ", s.Benchmark, s.Version, map[bool]string{true: " derived"}[s.Derived],
			s.Pass, s.Fail, s.NotApplicable, s.Unknown, s.Waived, s.SharePercent())
	}
	if text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	levels := got[0].Levels
	if len(levels) != 2 || levels[0].Level != "L1" || levels[0].Pass != 1 || levels[0].Fail != 1 || levels[0].Waived != 1 || levels[1].Unknown != 1 || levels[1].NotApplicable != 1 {
		t.Errorf("levels are %+v", levels)
	}
}

// A share of 100 % means all of it, and nothing that applies has no share.
func TestShare(t *testing.T) {
	for _, c := range []struct {
		score assess.Score
		want  string
	}{
		{assess.Score{Pass: 9999, Fail: 1}, "99.9 %"},
		{assess.Score{Pass: 9999, Waived: 1}, "99.9 %"},
		{assess.Score{Pass: 3, NotApplicable: 7}, "100.0 %"},
		{assess.Score{NotApplicable: 7}, "–"},
		{assess.Score{Unknown: 7}, "0.0 %"},
	} {
		if got := c.score.SharePercent(); got != c.want {
			t.Errorf("%+v is %s, want %s", c.score, got, c.want)
		}
		if _, ok := c.score.Share(); ok == (c.want == "–") {
			t.Errorf("%+v has a share: %v", c.score, ok)
		}
	}
}

// Where variants say which rule they meet, holding a weaker one does not meet it.
func TestWeakerVariantDoesNotMeetTheStricterRule(t *testing.T) {
	cis, stig := ref("5.1", "L1"), kiln.Reference{Benchmark: "DISA STIG Canonical Ubuntu 24.04 LTS", Version: "V1R5", ID: "UBTU-24-1"}
	control := kiln.Control{ID: "a", Variants: []kiln.Variant{
		{ID: "strict", References: []kiln.Reference{cis, stig}}, {ID: "cis", References: []kiln.Reference{cis}}, {ID: "narrow", References: []kiln.Reference{stig}}, {ID: "neither"},
	}}
	for variant, want := range map[string][]int{"strict": {1, 1}, "cis": {1, 0}, "narrow": {0, 1}, "neither": {0, 0}, "unknown": {0, 0}} {
		o := with("a", kiln.Satisfied, cis, stig)
		o.Variant = variant
		got := assess.Scores([]kiln.Outcome{o}, []kiln.Control{control}, "debian-12")
		if pass := []int{got[0].Pass, got[1].Pass}; !slices.Equal(pass, want) {
			t.Errorf("%s: the rules pass %v, want %v", variant, pass, want)
		}
	}
}

func TestScoresOfAnUnknownPlatformLeaveOutPlatforms(t *testing.T) {
	a := sample(t, "")
	got := assess.Scores(a.Result.Outcomes, a.Controls, "")
	names := map[string]bool{}
	for _, s := range got {
		names[s.Benchmark] = true
		if s.Derived {
			t.Errorf("%s is derived of an unknown platform", s.Benchmark)
		}
	}
	if !names["CIS Docker"] {
		t.Error("CIS Docker is not scored")
	}
	for _, none := range []string{"CIS Debian Linux 12", "CIS Debian Linux 13", "CIS Ubuntu Linux 22.04 LTS", "CIS Ubuntu Linux 24.04 LTS", "DISA STIG Canonical Ubuntu 22.04 LTS"} {
		if names[none] {
			t.Errorf("%s is scored, though nobody knows that it is for this platform", none)
		}
	}
}

func TestCompare(t *testing.T) {
	earlier := &kiln.HardeningResult{Profile: "p", Outcomes: []kiln.Outcome{
		with("a", kiln.Satisfied), with("b", kiln.NotSatisfied), with("c", kiln.NotSatisfied), with("d", kiln.Satisfied), with("gone", kiln.Satisfied),
	}}
	later := &kiln.HardeningResult{Profile: "p", Outcomes: []kiln.Outcome{
		with("a", kiln.Unknown), with("b", kiln.Satisfied), with("c", kiln.Waived), with("d", kiln.Satisfied), with("new", kiln.NotSatisfied),
	}}
	c := assess.Compare(earlier, later)
	text := func(list []assess.Change) string {
		s := ""
		for _, x := range list {
			s += fmt.Sprintf("%s %s>%s ", x.Objective, x.Before, x.After)
		}
		return s
	}
	if got := text(c.Worse); got != "a satisfied>unknown " {
		t.Errorf("worse: %s", got)
	}
	if got := text(c.Better); got != "b not-satisfied>satisfied " {
		t.Errorf("better: %s", got)
	}
	if got := text(c.Other); got != "c not-satisfied>waived gone satisfied> new >not-satisfied " {
		t.Errorf("other: %s", got)
	}
	if c.Same != 1 || c.Profile != "" {
		t.Errorf("%d the same, %q", c.Same, c.Profile)
	}
}
