package scap

import (
	"errors"
	"io"
	"slices"
)

// Results are one XCCDF TestResult, alone, in a benchmark or in an ARF report.
type Results struct {
	ID        string // of the TestResult
	Benchmark string // its id or address
	Profile   string
	Target    string
	Start     string // as written
	End       string
	System    string // the program that evaluated, as it names itself
	Rules     []RuleResult
}

// RuleResult is what became of one rule.
type RuleResult struct {
	Rule     string // full id
	Version  string // DISA's short id in its content
	Severity string
	Result   string // pass, fail, error, unknown, notapplicable, notchecked, notselected, informational, fixed
	Messages []string
	Idents   []string
}

// The results that XCCDF 1.2 knows.
var resultWords = []string{"pass", "fail", "error", "unknown", "notapplicable", "notchecked", "notselected", "informational", "fixed"}

// ReadResults reads the last TestResult of a document.
func ReadResults(r io.Reader) (*Results, error) {
	var out *Results
	start := func(stack []*element) error {
		switch e := stack[len(stack)-1]; {
		case e.name == "TestResult":
			out = &Results{ID: e.attr["id"], Start: e.attr["start-time"], End: e.attr["end-time"], System: e.attr["test-system"]}
		case e.name == "rule-result" && under(stack, "TestResult"):
			if err := room(len(out.Rules), "results"); err != nil {
				return err
			}
			out.Rules = append(out.Rules, RuleResult{Rule: e.attr["idref"], Version: e.attr["version"], Severity: e.attr["severity"]})
		}
		return nil
	}
	end := func(stack []*element, _ int64) error {
		if out == nil || inside(stack, "TestResult") == nil {
			return nil
		}
		e := stack[len(stack)-1]
		switch {
		case under(stack, "TestResult"):
			out.take(e)
		case under(stack, "rule-result"):
			return out.Rules[len(out.Rules)-1].take(e)
		}
		return nil
	}
	if err := scan(r, visitor{keep: names("target", "result", "message", "ident"), start: start, end: end}); err != nil {
		return nil, err
	}
	if out == nil || len(out.Rules) == 0 {
		return nil, errors.New("has no XCCDF TestResult with results of rules")
	}
	for _, x := range out.Rules {
		if x.Rule == "" || x.Result == "" {
			return nil, errors.New("has a result without a rule, or a rule without a result")
		}
	}
	return out, nil
}

// ReadResultsFile reads the file at path by [ReadResults].
func ReadResultsFile(path string) (*Results, error) { return readFile(path, ReadResults) }

func (r *Results) take(e *element) {
	switch e.name {
	case "benchmark":
		r.Benchmark = e.attr["id"]
		if r.Benchmark == "" {
			r.Benchmark = e.attr["href"]
		}
	case "profile":
		r.Profile = e.attr["idref"]
	case "target":
		r.Target = e.words()
	}
}

// maxMessages bounds what is kept of one rule's messages and idents.
const maxMessages = 20

func (r *RuleResult) take(e *element) error {
	switch e.name {
	case "result":
		r.Result = e.words()
		if !slices.Contains(resultWords, r.Result) {
			return errors.New("result " + clip(r.Result, 40) + " is none that XCCDF knows")
		}
	case "message":
		if len(r.Messages) < maxMessages {
			r.Messages = append(r.Messages, clip(e.words(), 500))
		}
	case "ident":
		if len(r.Idents) < maxMessages {
			r.Idents = append(r.Idents, clip(e.words(), 100))
		}
	}
	return nil
}
