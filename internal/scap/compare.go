package scap

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"kiln"
)

// ruleReference is the benchmark name by which the catalogue refers to rules of the SCAP Security Guide.
const ruleReference = "SCAP Security Guide rule"

// cisRule is the id of a rule of CIS's own content: the section's number, then its title, which is licensed and never repeated.
var cisRule = regexp.MustCompile(`^xccdf_org\.cisecurity\.benchmarks_rule_([0-9]+(?:\.[0-9]+)+)_`)

// RuleID is the id by which a rule is named and compared: the number of a CIS
// section, the short id that DISA gives (UBTU-22-255040), or the last part of the id.
func RuleID(id, version string) string {
	if m := cisRule.FindStringSubmatch(id); m != nil {
		return m[1]
	}
	if strings.Contains(id, "mil.disa") && version != "" {
		return version
	}
	return Short(id)
}

// benchmarkOf reports whether a reference's benchmark is the one of the results, for ids such as 5.1.8 that several use.
func benchmarkOf(results string) func(name string) bool {
	tidy := func(s string) string { return strings.ToLower(strings.NewReplacer("_", " ", "-", " ").Replace(s)) }
	results = tidy(results)
	return func(name string) bool {
		if !strings.HasPrefix(name, "CIS ") {
			return true
		}
		return strings.Contains(results, tidy(name))
	}
}

// index finds the outcomes that refer to a rule.
type index map[string][]kiln.Outcome

// byRule maps the ids of rules to the outcomes that refer to them.
func byRule(outcomes []kiln.Outcome, benchmark string) index {
	fits := benchmarkOf(benchmark)
	out := index{}
	for _, o := range outcomes {
		seen := map[string]bool{}
		for _, r := range o.References {
			if !fits(r.Benchmark) || seen[r.ID] {
				continue
			}
			if r.Benchmark == ruleReference || strings.HasPrefix(r.Benchmark, "DISA STIG") || strings.HasPrefix(r.Benchmark, "CIS ") {
				seen[r.ID] = true
				out[r.ID] = append(out[r.ID], o)
			}
		}
	}
	return out
}

// Compare sets the results beside the outcomes. Rules that were not selected are left out.
func Compare(r *Results, by string, outcomes []kiln.Outcome) kiln.Comparison {
	c := kiln.Comparison{By: by, Benchmark: clip(r.Benchmark, 200), Profile: clip(r.Profile, 200), Rules: []kiln.ComparedRule{}}
	known := byRule(outcomes, r.Benchmark)
	met := map[string]bool{} // objectives that a rule of theirs met
	for _, rule := range r.Rules {
		if rule.Result == "notselected" {
			continue
		}
		id := RuleID(rule.Rule, rule.Version)
		row := compareRule(clip(id, 200), rule, known[id])
		for _, o := range known[id] {
			met[o.Objective] = true
		}
		c.Rules = append(c.Rules, row)
	}
	for _, o := range outcomes {
		if !met[o.Objective] {
			c.Rules = append(c.Rules, kiln.ComparedRule{Objectives: []string{o.Objective}, Ours: verdict(o.State), Relation: kiln.OnlyUs})
		}
	}
	slices.SortStableFunc(c.Rules, func(a, b kiln.ComparedRule) int {
		if d := slices.Index(order, a.Relation) - slices.Index(order, b.Relation); d != 0 {
			return d
		}
		return strings.Compare(a.Rule, b.Rule)
	})
	return c
}

var order = []string{kiln.Disagree, kiln.Agree, kiln.Undecided, kiln.OnlyThem, kiln.OnlyUs}

const notApplicable = "notapplicable"

// theirs is a result in the words of a comparison: what was not judged is unknown.
func theirs(result string) string {
	switch result {
	case "pass", "fixed":
		return "pass"
	case "fail", notApplicable:
		return result
	}
	return "unknown"
}

// verdict is a state likewise: what is waived is not met.
func verdict(state string) string {
	switch state {
	case kiln.Satisfied:
		return "pass"
	case kiln.NotSatisfied, kiln.Waived:
		return "fail"
	case kiln.NotApplicable:
		return notApplicable
	}
	return "unknown"
}

// gravity orders verdicts: of several objectives the worst counts.
var gravity = map[string]int{notApplicable: 0, "pass": 1, "fail": 2, "unknown": 3}

func compareRule(id string, rule RuleResult, outcomes []kiln.Outcome) kiln.ComparedRule {
	row := kiln.ComparedRule{Rule: id, Theirs: theirs(rule.Result), Relation: kiln.OnlyThem}
	if len(outcomes) == 0 {
		return row
	}
	for _, o := range outcomes {
		row.Objectives = append(row.Objectives, o.Objective)
		if v := verdict(o.State); row.Ours == "" || gravity[v] > gravity[row.Ours] {
			row.Ours = v
		}
	}
	switch {
	case row.Ours == "unknown" || row.Theirs == "unknown":
		row.Relation = kiln.Undecided
	case row.Ours == row.Theirs:
		row.Relation = kiln.Agree
		return row
	default:
		row.Relation = kiln.Disagree
	}
	row.Reason = reason(rule, outcomes)
	return row
}

// reason is what each side saw.
func reason(rule RuleResult, outcomes []kiln.Outcome) string {
	var parts []string
	if theirs(rule.Result) == "unknown" {
		parts = append(parts, "they say "+rule.Result)
	}
	for _, m := range rule.Messages {
		parts = append(parts, "they: "+m)
	}
	for _, o := range outcomes {
		text := o.Objective + " is " + o.State
		if o.Variant != "" {
			text += " by variant " + o.Variant
		}
		if n := len(rules(o)); n > 1 {
			text += fmt.Sprintf(", and stands for %d rules", n)
		}
		if saw := strings.Join(slices.DeleteFunc([]string{o.Observed, o.Reason}, func(s string) bool { return s == "" }), "; "); saw != "" {
			text += ": " + clip(saw, 300)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

func rules(o kiln.Outcome) []string {
	set := map[string]bool{}
	for _, r := range o.References {
		if r.Benchmark == ruleReference {
			set[r.ID] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}
