package scap

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Content is what a file of benchmarks offers.
type Content struct {
	Benchmarks []Benchmark
	// cuts are the places in the document of each benchmark's own platforms.
	cuts []cut
}

type cut struct{ from, to int64 }

// Benchmark is one XCCDF benchmark.
type Benchmark struct {
	ID, Title, Version string
	// Platforms are the CPE names of what it is for; empty means anything.
	Platforms []string
	Profiles  []Profile
	Rules     []Rule
	Values    []Value
}

// Profile is a choice of rules.
type Profile struct {
	ID, Title, Extends string
	Choices            []Choice
}

// Choice is one thing a profile changes about a rule or value.
type Choice struct {
	Kind string // select, set-value, refine-value, refine-rule
	ID   string // of the rule, group or value
	// Selected is of select.
	Selected bool
	// Value is of set-value, Selector of refine-value and refine-rule; Severity, Role and Weight are of refine-rule.
	Value, Selector, Severity, Role, Weight string
}

// Rule is one rule: Version holds DISA's short id in its content, Values the ids of values that its check takes.
type Rule struct {
	ID, Title, Version, Severity string
	Idents, Values               []string
}

// Value is a named value that checks take, by selector ("" is the default).
type Value struct {
	ID        string
	Selectors map[string]string
}

// ReadContent reads a data stream, or an XCCDF benchmark alone.
func ReadContent(r io.Reader) (*Content, error) {
	b := &contentReader{content: &Content{}}
	v := visitor{keep: names("title", "version", "platform", "ident", "value", "set-value"), start: b.start, end: b.end}
	if err := scan(r, v); err != nil {
		return nil, err
	}
	if len(b.content.Benchmarks) == 0 {
		return nil, errors.New("has no XCCDF benchmark")
	}
	return b.content, nil
}

// ReadContentFile reads the file at path by [ReadContent].
func ReadContentFile(path string) (*Content, error) { return readFile(path, ReadContent) }

type contentReader struct {
	content *Content
	seen    int // rules, values, choices: one bound for all
}

func (c *contentReader) benchmark() *Benchmark {
	return &c.content.Benchmarks[len(c.content.Benchmarks)-1]
}

func (c *contentReader) start(stack []*element) error {
	e := stack[len(stack)-1]
	if e.name == "Benchmark" {
		if len(c.content.Benchmarks) > 100 {
			return errors.New("holds more than 100 benchmarks")
		}
		c.content.Benchmarks = append(c.content.Benchmarks, Benchmark{ID: e.attr["id"]})
		return nil
	}
	if inside(stack, "Benchmark") == nil || inside(stack, "TestResult") != nil {
		return nil
	}
	b := c.benchmark()
	switch e.name {
	case "Profile":
		b.Profiles = append(b.Profiles, Profile{ID: e.attr["id"], Extends: e.attr["extends"]})
	case "Rule":
		b.Rules = append(b.Rules, Rule{ID: e.attr["id"], Severity: e.attr["severity"]})
	case "Value":
		b.Values = append(b.Values, Value{ID: e.attr["id"], Selectors: map[string]string{}})
	case "platform", "select", "check-export":
	default:
		return nil
	}
	c.seen++
	return room(c.seen/4, "rules, values and choices")
}

func (c *contentReader) end(stack []*element, after int64) error {
	e := stack[len(stack)-1]
	if len(stack) < 2 || inside(stack, "Benchmark") == nil || inside(stack, "TestResult") != nil {
		return nil
	}
	b := c.benchmark()
	switch parent := stack[len(stack)-2].name; parent {
	case "Benchmark":
		c.ofBenchmark(b, e, after)
	case "Profile":
		p := &b.Profiles[len(b.Profiles)-1]
		if e.name == "title" && p.Title == "" {
			p.Title = e.words()
		} else if choice, ok := choiceOf(e); ok {
			p.Choices = append(p.Choices, choice)
		}
	case "Rule":
		ofRule(&b.Rules[len(b.Rules)-1], e)
	case "check", "complex-check":
		if e.name == "check-export" && len(b.Rules) > 0 && inside(stack, "Rule") != nil {
			r := &b.Rules[len(b.Rules)-1]
			r.Values = append(r.Values, e.attr["value-id"])
		}
	case "Value":
		if e.name == "value" {
			b.Values[len(b.Values)-1].Selectors[e.attr["selector"]] = e.words()
		}
	}
	return nil
}

func (c *contentReader) ofBenchmark(b *Benchmark, e *element, after int64) {
	switch e.name {
	case "title":
		if b.Title == "" {
			b.Title = e.words()
		}
	case "version":
		b.Version = e.words()
	case "platform":
		b.Platforms = append(b.Platforms, e.attr["idref"])
		c.content.cuts = append(c.content.cuts, cut{e.offset, after})
	}
}

func ofRule(r *Rule, e *element) {
	switch e.name {
	case "title":
		if r.Title == "" {
			r.Title = e.words()
		}
	case "version":
		r.Version = e.words()
	case "ident":
		r.Idents = append(r.Idents, e.words())
	}
}

// choiceOf reads what a profile says about a rule or value.
func choiceOf(e *element) (Choice, bool) {
	c := Choice{Kind: e.name, ID: e.attr["idref"]}
	switch e.name {
	case "select":
		c.Selected = e.attr["selected"] == "true" || e.attr["selected"] == "1"
	case "set-value":
		c.Value = e.words()
	case "refine-value":
		c.Selector = e.attr["selector"]
	case "refine-rule":
		c.Selector, c.Severity, c.Role, c.Weight = e.attr["selector"], e.attr["severity"], e.attr["role"], e.attr["weight"]
	default:
		return c, false
	}
	return c, c.ID != ""
}

// Profile returns the profile with that id, or with that id's last part ("cis_level1_server"), and its benchmark.
func (c *Content) Profile(id string) (*Profile, *Benchmark, error) {
	var known []string
	for i := range c.Benchmarks {
		b := &c.Benchmarks[i]
		for j := range b.Profiles {
			p := &b.Profiles[j]
			if p.ID == id || Short(p.ID) == id {
				return p, b, nil
			}
			known = append(known, Short(p.ID))
		}
	}
	return nil, nil, fmt.Errorf("the content has no profile %.80q; there are %s", id, strings.Join(known, ", "))
}

// Short is the last part of an XCCDF 1.2 id, such as "sshd_disable_root_login" of
// "xccdf_org.ssgproject.content_rule_sshd_disable_root_login"; other ids stay as they are.
func Short(id string) string {
	for _, mark := range []string{"_rule_", "_profile_", "_value_", "_group_", "_benchmark_"} {
		if strings.HasPrefix(id, "xccdf_") {
			if _, tail, ok := strings.Cut(id, mark); ok {
				return tail
			}
		}
	}
	return id
}

// Bind copies a document without its benchmarks' own platforms, so that content
// for one release can be evaluated on another. Platforms of rules stay. The content
// must have been read from the same document.
func (c *Content) Bind(w io.Writer, r io.Reader) error {
	var at int64
	for _, x := range c.cuts {
		if _, err := io.CopyN(w, r, x.from-at); err != nil {
			return fmt.Errorf("binding content: %w", err)
		}
		if _, err := io.CopyN(io.Discard, r, x.to-x.from); err != nil {
			return fmt.Errorf("binding content: %w", err)
		}
		at = x.to
	}
	_, err := io.Copy(w, io.LimitReader(r, maxDocument))
	return err
}
