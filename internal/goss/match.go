package goss

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"kiln/internal/strictyaml"
)

// A value is what a look found: a string, text (many lines, searched by
// patterns), a float64, a bool, or a []string.
type value any

// text is output or content: a list matches it line by line.
type text string

// textMatchers, and others, by what their argument must be.
var (
	textMatchers   = []string{"have-prefix", "have-suffix", "match-regexp", "contain-substring"}
	numberMatchers = []string{"gt", "ge", "lt", "le", "have-len"}
	listMatchers   = []string{"contain-elements", "consist-of", "and", "or", "have-patterns"}
	singleMatchers = []string{"equal", "not", "contain-element"}
	unsupported    = []string{"semver-constraint", "gjson", "have-key"}
)

// checkMatcher finds mistakes before anything runs.
func checkMatcher(n *strictyaml.Node) error {
	switch n.Kind {
	case strictyaml.Null:
		return errors.New("must have a value")
	case strictyaml.Sequence:
		return checkAll(n.Items)
	case strictyaml.Mapping:
		return checkNamed(n)
	}
	return nil
}

func checkAll(items []*strictyaml.Node) error {
	for _, i := range items {
		if err := checkMatcher(i); err != nil {
			return err
		}
	}
	return nil
}

func checkNamed(n *strictyaml.Node) error {
	if len(n.Pairs) != 1 {
		return errors.New("a matcher has exactly one name")
	}
	name, arg := n.Pairs[0].Key, n.Pairs[0].Value
	switch {
	case slices.Contains(unsupported, name):
		return fmt.Errorf("the matcher %s is not supported", name)
	case name == "match-regexp":
		if _, err := regexp.Compile(arg.Text); err != nil || !arg.Scalar() {
			return fmt.Errorf("match-regexp: %q is no expression", arg.Text)
		}
		return nil
	case slices.Contains(textMatchers, name):
		if !arg.Scalar() {
			return fmt.Errorf("the matcher %s takes a text", name)
		}
		return nil
	case slices.Contains(numberMatchers, name):
		if _, err := strconv.ParseFloat(arg.Text, 64); err != nil {
			return fmt.Errorf("the matcher %s takes a number", name)
		}
		return nil
	case slices.Contains(listMatchers, name):
		if arg.Kind != strictyaml.Sequence {
			return fmt.Errorf("the matcher %s takes a list", name)
		}
		return checkAll(arg.Items)
	case slices.Contains(singleMatchers, name):
		return checkMatcher(arg)
	}
	return fmt.Errorf("unknown matcher %q", name)
}

// match tells whether a value is what the file wants.
func match(n *strictyaml.Node, v value) bool {
	switch n.Kind {
	case strictyaml.Sequence:
		if t, ok := v.(text); ok {
			return patterns(n.Items, string(t))
		}
		return containsAll(n.Items, list(v))
	case strictyaml.Mapping:
		return matchNamed(n.Pairs[0].Key, n.Pairs[0].Value, v)
	}
	return equal(n, v)
}

func matchNamed(name string, arg *strictyaml.Node, v value) bool {
	s := str(v)
	switch name {
	case "equal":
		if arg.Kind == strictyaml.Sequence {
			return slices.Equal(texts(arg.Items), list(v))
		}
		return equal(arg, v)
	case "have-prefix":
		return strings.HasPrefix(s, arg.Text)
	case "have-suffix":
		return strings.HasSuffix(s, arg.Text)
	case "match-regexp":
		return regexp.MustCompile(arg.Text).MatchString(s) // checkMatcher compiled it
	case "contain-substring":
		return strings.Contains(s, arg.Text)
	case "have-len":
		n := len(s)
		if l, ok := v.([]string); ok {
			n = len(l)
		}
		return compare(float64(n), arg) == 0
	case "gt", "ge", "lt", "le":
		return ordered(name, v, arg)
	case "have-patterns":
		return patterns(arg.Items, s)
	case "contain-element":
		return containsAll([]*strictyaml.Node{arg}, list(v))
	case "contain-elements":
		return containsAll(arg.Items, list(v))
	case "consist-of":
		return consists(arg.Items, list(v))
	case "not":
		return !match(arg, v)
	case "and":
		return !slices.ContainsFunc(arg.Items, func(n *strictyaml.Node) bool { return !match(n, v) })
	case "or":
		return slices.ContainsFunc(arg.Items, func(n *strictyaml.Node) bool { return match(n, v) })
	}
	return false
}

// equal compares by the value's type: numbers as numbers, the rest as text.
func equal(n *strictyaml.Node, v value) bool {
	switch v := v.(type) {
	case float64:
		return compare(v, n) == 0
	case bool:
		return n.Text == strconv.FormatBool(v)
	case []string:
		return len(v) == 1 && v[0] == n.Text
	}
	return str(v) == n.Text
}

// compare is -1, 0 or 1, or 2 if the wanted value is no number.
func compare(got float64, want *strictyaml.Node) int {
	w, err := strconv.ParseFloat(want.Text, 64)
	if err != nil {
		return 2
	}
	return cmp.Compare(got, w)
}

func ordered(name string, v value, arg *strictyaml.Node) bool {
	got, err := strconv.ParseFloat(strings.TrimSpace(str(v)), 64)
	if err != nil {
		return false
	}
	c := compare(got, arg)
	switch name {
	case "gt":
		return c == 1
	case "ge":
		return c == 0 || c == 1
	case "lt":
		return c == -1
	}
	return c == 0 || c == -1
}

// patterns is goss's search of lines: "text", "/expression/", and with a "!"
// before them what no line may hold.
func patterns(items []*strictyaml.Node, s string) bool {
	lines := strings.Split(s, "\n")
	for _, i := range items {
		if i.Kind == strictyaml.Mapping {
			if !match(i, text(s)) {
				return false
			}
			continue
		}
		p, inverse := strings.CutPrefix(i.Text, "!")
		found := p == "" || slices.ContainsFunc(lines, linePattern(p))
		if found == inverse {
			return false
		}
	}
	return true
}

// linePattern is one pattern; a backslash protects a leading "!" or "/".
func linePattern(p string) func(string) bool {
	if len(p) >= 2 && p[0] == '/' && p[len(p)-1] == '/' {
		re, err := regexp.Compile(p[1 : len(p)-1])
		if err != nil {
			return func(string) bool { return false }
		}
		return re.MatchString
	}
	if strings.HasPrefix(p, `\!`) || strings.HasPrefix(p, `\/`) {
		p = p[1:]
	}
	return func(line string) bool { return strings.Contains(line, p) }
}

// containsAll tells whether each matcher finds an element.
func containsAll(items []*strictyaml.Node, l []string) bool {
	for _, i := range items {
		if !slices.ContainsFunc(l, func(s string) bool { return match(i, s) }) {
			return false
		}
	}
	return true
}

// consists tells whether matchers and elements pair up.
func consists(items []*strictyaml.Node, l []string) bool {
	if len(items) != len(l) {
		return false
	}
	left := slices.Clone(l)
	for _, i := range items {
		at := slices.IndexFunc(left, func(s string) bool { return match(i, s) })
		if at < 0 {
			return false
		}
		left = slices.Delete(left, at, at+1)
	}
	return true
}

// list is a value as elements.
func list(v value) []string {
	if l, ok := v.([]string); ok {
		return l
	}
	return []string{str(v)}
}

func texts(items []*strictyaml.Node) []string {
	var out []string
	for _, i := range items {
		out = append(out, i.Text)
	}
	return out
}

// str is a value as text.
func str(v value) string {
	switch v := v.(type) {
	case string:
		return v
	case text:
		return string(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	case []string:
		return strings.Join(v, "\n")
	}
	return ""
}

// show bounds a value for people.
func show(v value) string {
	s := str(v)
	if l, ok := v.([]string); ok {
		s = strings.Join(l, ", ")
	}
	s = strings.TrimSpace(s)
	if s == "" {
		return "empty"
	}
	return strictyaml.Clip(s, 300)
}

// describe writes a matcher for people.
func describe(n *strictyaml.Node) string {
	switch n.Kind {
	case strictyaml.Sequence:
		var s []string
		for _, i := range n.Items {
			s = append(s, describe(i))
		}
		return "[" + strings.Join(s, ", ") + "]"
	case strictyaml.Mapping:
		var s []string
		for _, p := range n.Pairs {
			s = append(s, p.Key+" "+describe(p.Value))
		}
		return strings.Join(s, ", ")
	}
	return n.Text
}
