package assess

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"

	"kiln"
	"kiln/internal/report"
)

//go:embed assess.html
var pageText string

var page = template.Must(report.Template("assess.html", pageText))

// htmlPage is the assessment arranged for the page.
type htmlPage struct {
	report.Dress
	*view
	Target, Host, Profile string
	Result                *kiln.HardeningResult
	Sign, Headline, Text  string
	Facts                 []htmlFact
	States                []htmlState
	Scores                []Score
	Rows                  []htmlRow
	Waivers               []outcome
	Compared              *Comparison
	Opinions              []htmlOpinion
	When, Took            string
}

// htmlOpinion is another program's results beside Kiln's.
type htmlOpinion struct {
	kiln.Comparison
	Relations []htmlRelation
	Apart     []kiln.ComparedRule // on which the two differ
}

// htmlRelation counts the rules in one relation; State is how it looks.
type htmlRelation struct {
	Name, State string
	Count       int
}

func htmlOpinions(all []kiln.Comparison) []htmlOpinion {
	var out []htmlOpinion
	for _, c := range all {
		o := htmlOpinion{Comparison: c}
		for _, r := range []htmlRelation{
			{kiln.Disagree, "bad", 0}, {kiln.Agree, "good", 0}, {kiln.Undecided, "warn", 0}, {kiln.OnlyThem, "plain", 0}, {kiln.OnlyUs, "plain", 0},
		} {
			r.Count = c.Count(r.Name)
			o.Relations = append(o.Relations, r)
		}
		for _, r := range c.Rules {
			if r.Relation == kiln.Disagree || r.Relation == kiln.Undecided {
				o.Apart = append(o.Apart, r)
			}
		}
		out = append(out, o)
	}
	return out
}

type htmlFact struct{ Value, Label, State string }

// htmlState is one state's share of a bar, in thousandths.
type htmlState struct {
	State        string
	Count        int
	Start, Width float64
}

// htmlRow is one objective; its methods are what the template may say of it.
type htmlRow struct{ outcome }

// Wanted, Reason, Evidence and Gives say what the outcome's own fields leave open.
func (r htmlRow) Wanted() string   { return r.wanted() }
func (r htmlRow) Reason() string   { return r.outcome.reason() }
func (r htmlRow) Evidence() string { return r.evidence() }
func (r htmlRow) Gives() string    { return r.gives() }

func writeHTML(w io.Writer, v *view) error {
	p := &htmlPage{
		Dress: report.NewDress(), view: v, Target: v.target, Host: v.host, Profile: v.result.Profile, Result: v.result,
		Scores: Scores(v.result.Outcomes, v.Controls, v.Platform), When: stamp(v.Start), Took: fmt.Sprintf("%.1f s", v.End.Sub(v.Start).Seconds()),
	}
	p.Opinions = htmlOpinions(v.result.Comparisons)
	total := Total(v.result.Outcomes)
	p.Sign, p.Headline, p.Text = headline(total)
	p.Facts = htmlFacts(total)
	p.States = htmlStates(total)
	for _, o := range v.outcomes {
		o.References = slices.Clone(o.References)
		slices.SortStableFunc(o.References, func(a, b kiln.Reference) int {
			return compareBool(crossReference(a.Benchmark), crossReference(b.Benchmark))
		})
		p.Rows = append(p.Rows, htmlRow{o})
		if o.Waiver != nil {
			p.Waivers = append(p.Waivers, o)
		}
	}
	slices.SortStableFunc(p.Rows, func(a, b htmlRow) int { return byAttention(a.Outcome, b.Outcome) })
	if v.earlier != nil {
		c := Compare(v.earlier, v.result)
		p.Compared = &c
	}
	return page.Execute(w, p)
}

// byAttention puts what needs attention first.
func byAttention(a, b kiln.Outcome) int {
	states := []string{kiln.NotSatisfied, kiln.Unknown, kiln.Waived, kiln.Satisfied, kiln.NotApplicable}
	grades := []string{"high", "medium", "low"}
	return cmp.Or(
		cmp.Compare(slices.Index(states, a.State), slices.Index(states, b.State)),
		cmp.Compare(slices.Index(grades, a.Severity), slices.Index(grades, b.Severity)),
		cmp.Compare(a.Objective, b.Objective))
}

func headline(t Score) (sign, word, text string) {
	switch {
	case t.Fail > 0:
		return kiln.NotSatisfied, fmt.Sprintf("%d of %d objectives that apply are not met", t.Fail, t.Applicable()), rest(t)
	case t.Unknown > 0 || t.Applicable() == 0:
		return kiln.Unknown, fmt.Sprintf("%d of %d objectives that apply could not be judged", t.Unknown, t.Applicable()), rest(t)
	case t.Waived > 0:
		return kiln.Waived, fmt.Sprintf("Met, but for %d by an exception", t.Waived), rest(t)
	}
	return kiln.Satisfied, "Every objective that applies is met", rest(t)
}

func rest(t Score) string {
	return fmt.Sprintf("%d met, %d not met, %d unknown, %d waived; %d do not apply. An unknown or waived objective counts as not met.", t.Pass, t.Fail, t.Unknown, t.Waived, t.NotApplicable)
}

func htmlFacts(t Score) []htmlFact {
	out := []htmlFact{{sharePercent(t), "of what applies is met", ""}}
	for _, f := range []htmlFact{
		{fmt.Sprint(t.Fail), "not met", kiln.NotSatisfied},
		{fmt.Sprint(t.Unknown), "unknown", kiln.Unknown},
		{fmt.Sprint(t.Waived), "waived", kiln.Waived},
	} {
		if f.Value == "0" {
			f.State = ""
		}
		out = append(out, f)
	}
	return append(out, htmlFact{fmt.Sprint(t.Pass), "met", ""}, htmlFact{fmt.Sprint(t.NotApplicable), "not applicable", ""})
}

// SharePercent is the share as people read it, rounded down so that 100 % means all; "–" where nothing applies.
func (s Score) SharePercent() string { return sharePercent(s) }

func sharePercent(s Score) string {
	if s.Applicable() == 0 {
		return "–"
	}
	tenths := 1000 * s.Pass / s.Applicable()
	return fmt.Sprintf("%d.%d %%", tenths/10, tenths%10)
}

func htmlStates(t Score) []htmlState {
	all := float64(t.Applicable() + t.NotApplicable)
	var out []htmlState
	at := 0
	for _, s := range []htmlState{
		{State: kiln.NotSatisfied, Count: t.Fail},
		{State: kiln.Unknown, Count: t.Unknown},
		{State: kiln.Waived, Count: t.Waived},
		{State: kiln.Satisfied, Count: t.Pass},
		{State: kiln.NotApplicable, Count: t.NotApplicable},
	} {
		if s.Count > 0 {
			s.Start, s.Width = 1000*float64(at)/all, 1000*float64(s.Count)/all
			at += s.Count
			out = append(out, s)
		}
	}
	return out
}
