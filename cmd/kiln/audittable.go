package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"kiln"
	"kiln/internal/assess"
	"kiln/internal/report"
	"kiln/internal/scap"
)

// auditTable shows an audit to a person: what is not met comes first, the
// gravest on top, with what was seen, what is wanted and what to do.
type auditTable struct {
	found  *assess.Assessment
	quiet  bool // sums only
	all    bool // what is met and what does not apply, too
	colour bool
	texts  *scap.Texts // a benchmark's own words, from the user's file; may be nil

	text strings.Builder
}

// groups are the states in the order in which they are shown.
var groups = []struct {
	state, title, colour string
	always               bool
}{
	{kiln.NotSatisfied, "not met", "31", true},
	{kiln.Unknown, "unknown", "33", true},
	{kiln.Waived, "waived", "36", true},
	{kiln.Satisfied, "met", "32", false},
	{kiln.NotApplicable, "not applicable", "90", false},
}

func (t *auditTable) print(out io.Writer) error {
	h := t.found.Result
	t.head(h)
	for _, g := range groups {
		if !t.quiet && (g.always || t.all) {
			t.group(h, g.state, t.paint(g.colour, g.title))
		}
	}
	t.comparison()
	for _, c := range h.Comparisons {
		t.opinion(c)
	}
	t.scores(h)
	if !t.quiet {
		t.foot(h)
	}
	_, err := io.WriteString(out, t.text.String())
	return err
}

func (t *auditTable) printf(format string, args ...any) { fmt.Fprintf(&t.text, format, args...) }

func (t *auditTable) paint(code, s string) string {
	if !t.colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (t *auditTable) head(h *kiln.HardeningResult) {
	t.printf("%s", t.paint("1", flat(h.Target, maxCell)))
	if h.Platform != "" {
		t.printf(", %s", flat(h.Platform, maxCell))
	}
	t.printf(", judged by %s\n", h.Profile)
	if h.Image != "" {
		t.printf("%s\n", h.Image)
	}
}

var severities = []string{"high", "medium", "low"}

func (t *auditTable) group(h *kiln.HardeningResult, state, title string) {
	var list []kiln.Outcome
	for _, o := range h.Outcomes {
		if o.State == state {
			list = append(list, o)
		}
	}
	if len(list) == 0 {
		return
	}
	slices.SortStableFunc(list, func(a, b kiln.Outcome) int {
		return cmp.Compare(slices.Index(severities, a.Severity), slices.Index(severities, b.Severity))
	})
	t.printf("\n%s (%d)\n", title, len(list))
	for _, o := range list {
		t.outcome(o)
	}
}

func (t *auditTable) outcome(o kiln.Outcome) {
	t.printf("  %-6s  %s  %s\n", o.Severity, t.paint("1", o.Objective), flat(o.Title, maxCell))
	switch o.State {
	case kiln.Satisfied:
		t.line("seen", o.Observed+effective(o))
		t.line("note", o.Reason)
	case kiln.NotApplicable:
		t.line("since", o.Reason)
	case kiln.Unknown:
		t.line("since", o.Reason)
		t.line("wanted", o.Wanted)
	default:
		t.line("seen", o.Observed+effective(o))
		t.line("wanted", o.Wanted)
		if o.Waiver == nil {
			t.line("note", notes(o))
		}
	}
	if w := o.Waiver; w != nil {
		t.line("waived", "by "+w.Owner+" until "+w.Expires+": "+w.Reason)
	}
	if o.State != kiln.NotApplicable {
		t.line("asked", t.askedBy(o))
		for _, text := range t.texts.Of(o.References) {
			t.line("text", text)
		}
	}
}

// maxCell bounds one value in the table, in characters; the JSON document has it whole.
const maxCell = 160

func (t *auditTable) line(label, text string) {
	if text != "" {
		t.printf("          %-7s %s\n", label, flat(text, maxCell))
	}
}

// effective says which program was asked, where one was.
func effective(o kiln.Outcome) string {
	if o.Effective == "" || o.Effective == "file" {
		return ""
	}
	return " (in effect, " + o.Effective + ")"
}

// notes is what the outcome's reason says beyond what was seen: what stands in the way, and what about its other variants.
func notes(o kiln.Outcome) string {
	var parts []string
	for part := range strings.SplitSeq(o.Reason, "; ") {
		_, why, named := strings.Cut(part, ": ")
		if strings.Contains(o.Observed, part) || named && strings.Contains(o.Observed, why) || slices.Contains(parts, part) {
			continue
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}

// askedBy names the benchmarks that ask for the objective: the platform's own where there are, and the first few.
func (t *auditTable) askedBy(o kiln.Outcome) string {
	var own, others []string
	for _, r := range o.References {
		switch {
		case !strings.HasPrefix(r.Benchmark, "CIS ") && !strings.HasPrefix(r.Benchmark, "DISA STIG"):
		case t.madeForIt(r.Benchmark):
			own = append(own, r.Benchmark+" "+r.ID)
		default:
			others = append(others, r.Benchmark+" "+r.ID)
		}
	}
	if len(own) > 0 {
		others = own
	}
	const most = 3
	if more := len(others) - most; more > 0 {
		others = append(others[:most], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(others, ", ")
}

// madeForIt tells whether a benchmark's name has the platform's name and version.
func (t *auditTable) madeForIt(benchmark string) bool {
	name, release, ok := strings.Cut(t.found.Platform, "-")
	return ok && name != "" && strings.Contains(strings.ToLower(benchmark), name) && strings.Contains(benchmark, release)
}

// comparison says what changed since the earlier audit.
func (t *auditTable) comparison() {
	if t.found.Earlier == nil {
		return
	}
	c := assess.Compare(t.found.Earlier, t.found.Result)
	t.printf("\nsince the earlier audit: %d worse, %d better, %d otherwise changed, %d as before\n", len(c.Worse), len(c.Better), len(c.Other), c.Same)
	if c.Profile != "" {
		t.line("note", c.Profile)
	}
	for _, list := range []struct {
		word, colour string
		changes      []assess.Change
	}{{"worse", "31", c.Worse}, {"better", "32", c.Better}, {"other", "33", c.Other}} {
		for _, x := range list.changes {
			t.printf("  %s  %s: %s, was %s\n", t.paint(list.colour, fmt.Sprintf("%-6s", list.word)), flat(x.Objective, maxCell), stateWord(x.After), stateWord(x.Before))
		}
	}
}

// stateWord is a state as the table's titles have it.
func stateWord(state string) string {
	for _, g := range groups {
		if g.state == state {
			return g.title
		}
	}
	return "not in it"
}

func (t *auditTable) scores(h *kiln.HardeningResult) {
	t.printf("\n%-60s %6s %6s %8s %7s %7s %7s\n", "", "met", "not", "unknown", "waived", "n. a.", "share")
	rows := append(assess.Scores(h.Outcomes, t.found.Controls, t.found.Platform), assess.Total(h.Outcomes))
	for _, s := range rows {
		name := strings.TrimSpace(s.Benchmark + " " + s.Version)
		if s.Derived {
			name += " *"
		}
		share := "-"
		if part, ok := s.Share(); ok {
			share = fmt.Sprintf("%.1f %%", 100*part)
		}
		t.printf("%-60s %6d %6d %8d %7d %7d %7s\n", name, s.Pass, s.Fail, s.Unknown, s.Waived, s.NotApplicable, share)
	}
	if slices.ContainsFunc(rows, func(s assess.Score) bool { return s.Derived }) {
		t.printf("* made for another platform: derived, not its publisher's result\n")
	}
}

func (t *auditTable) foot(h *kiln.HardeningResult) {
	const most = 8
	for i, place := range h.LeftOut {
		if i == most {
			t.printf("left out: %d more places, see --json\n", len(h.LeftOut)-most)
			break
		}
		t.printf("left out: %s\n", flat(place, maxCell))
	}
	if h.Count(kiln.NotSatisfied) > 0 {
		t.printf("`kiln controls show ID` says why an objective matters and in which ways it can be met; a recipe's hardening.profile, or\n" +
			"`kiln controls apply DIRECTORY`, makes hold what can be.\n")
	}
}

// flat is a stranger's text on one line, with nothing in it that a terminal obeys, cut at most characters.
func flat(s string, most int) string {
	s = report.VisibleText(s)
	s = strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(s)
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
