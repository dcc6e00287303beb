package component

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"kiln/internal/strictyaml"
)

// An expression is what stands between {{ and }}. Those that are none of a
// document's own ({{.State}}, {{json .}}) stay as they are.
var (
	expressionForm = regexp.MustCompile(`\{\{\s*([^{}\n]{1,300}?)\s*\}\}`)
	chainForm      = regexp.MustCompile(`^([A-Za-z0-9_ -]+)\.([A-Za-z0-9_ -]+)\.(inputs|outputs)(?:\[(\d{1,4})\])?\.([A-Za-z0-9_-]+)$`)
	loopForm       = regexp.MustCompile(`^([A-Za-z0-9_-]+)\.(index|value)$`)
)

// chain is {{ phase.step.inputs[i].name }} or its outputs form.
type chain struct {
	phase, step string
	outputs     bool
	index       int
	name        string
}

func parseChain(text string) (chain, bool) {
	m := chainForm.FindStringSubmatch(text)
	if m == nil {
		return chain{}, false
	}
	index, _ := strconv.Atoi(m[4])
	return chain{phase: m[1], step: m[2], outputs: m[3] == "outputs", index: index, name: m[5]}, true
}

// outputNames are what actions leave behind for later steps.
var outputNames = map[string][]string{
	"ExecuteBash": {"stdout"}, "ExecuteBinary": {"stdout"}, "ReadFile": {"content"}, "ListFiles": {"files"},
}

// references checks every expression of the document.
func (r *reader) references() {
	done := map[string]*Step{} // "phase.step" of steps before the current one
	for i := range r.doc.Phases {
		p := &r.doc.Phases[i]
		for j := range p.Steps {
			s := &p.Steps[j]
			path := fmt.Sprintf("phases[%d].steps[%d]", i, j)
			visit := func(n *strictyaml.Node) { r.expressions(path, n, done) }
			each(s.inputs, visit)
			if s.condition != nil {
				each(s.condition.test, visit)
			}
			if s.loop != nil {
				for _, n := range s.loop.list {
					each(n, visit)
				}
				if s.loop.joined != "" {
					visit(&strictyaml.Node{Kind: strictyaml.Text, Text: s.loop.joined, Line: s.Line, Column: 1})
				}
			}
			done[p.Name+"."+s.Name] = s
		}
	}
}

// each visits the scalars below n.
func each(n *strictyaml.Node, visit func(*strictyaml.Node)) {
	if n == nil {
		return
	}
	if n.Scalar() {
		visit(n)
	}
	for _, p := range n.Pairs {
		each(p.Value, visit)
	}
	for _, item := range n.Items {
		each(item, visit)
	}
}

func (r *reader) expressions(path string, n *strictyaml.Node, done map[string]*Step) {
	for _, m := range expressionForm.FindAllStringSubmatch(n.Text, -1) {
		text := m[1]
		if c, ok := parseChain(text); ok {
			r.chained(path, n, text, c, done)
			continue
		}
		switch {
		case strings.HasPrefix(text, "aws:"):
			r.fail(n, path, fmt.Sprintf("{{ %s }} is refused: a build has no cloud credentials and no instance", strictyaml.Clip(text, 60)), "declare a parameter and give it in the recipe")
		case strings.HasPrefix(text, "env:"):
			r.fail(n, path, fmt.Sprintf("{{ %s }} is refused: the environment of the build must not reach the image", strictyaml.Clip(text, 60)), "declare a parameter and give it in the recipe, or use $NAME in a command")
		case nameForm.MatchString(text) && !r.declared(text):
			r.undeclared(path, n, text)
		}
	}
}

func (r *reader) declared(name string) bool {
	_, constant := r.doc.Constants[name]
	return constant || r.doc.parameter(name) != nil
}

func (r *reader) undeclared(path string, n *strictyaml.Node, name string) {
	var names []string
	for c := range r.doc.Constants {
		names = append(names, c)
	}
	for _, p := range r.doc.Parameters {
		names = append(names, p.Name)
	}
	hint := "declare it under parameters or constants"
	if near := strictyaml.Nearest(name, names); near != "" {
		hint = fmt.Sprintf("did you mean {{ %s }}?", near)
	} else if len(names) > 0 {
		slices.Sort(names)
		hint = "declared are " + strings.Join(names, ", ")
	}
	r.fail(n, path, fmt.Sprintf("{{ %s }} is no parameter and no constant", name), hint)
}

func (r *reader) chained(path string, n *strictyaml.Node, text string, c chain, done map[string]*Step) {
	what := fmt.Sprintf("{{ %s }}", strictyaml.Clip(text, 100))
	s, ok := done[c.phase+"."+c.step]
	if !ok {
		r.fail(n, path, what+" names no step before this one", "write {{ PHASE.STEP.outputs.NAME }} with the names of an earlier step")
		return
	}
	if c.outputs {
		if !slices.Contains(outputNames[s.Action], c.name) {
			hint := s.Action + " has no output"
			if names := outputNames[s.Action]; len(names) > 0 {
				hint = s.Action + " has the output " + strings.Join(names, ", ")
			}
			r.fail(n, path, what+" names no output of that step", hint)
		}
		return
	}
	if inputOf(s.inputs, c) == nil {
		r.fail(n, path, what+" names no input of that step", "")
	}
}

// inputOf finds the input that a chain names, or nil.
func inputOf(inputs *strictyaml.Node, c chain) *strictyaml.Node {
	if inputs != nil && inputs.Kind == strictyaml.Sequence {
		if c.index >= len(inputs.Items) {
			return nil
		}
		inputs = inputs.Items[c.index]
	}
	if inputs == nil || c.index > 0 && inputs.Kind != strictyaml.Mapping {
		return nil
	}
	n := inputs.Get(c.name)
	if n == nil || !n.Scalar() {
		return nil
	}
	return n
}

// resolve replaces the expressions of a text.
func (x *run) resolve(text string) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	var problem error
	out := expressionForm.ReplaceAllStringFunc(text, func(whole string) string {
		value, err := x.value(whole, expressionForm.FindStringSubmatch(whole)[1])
		if err != nil && problem == nil {
			problem = err
		}
		return value
	})
	if problem == nil && len(out) > maxText {
		problem = fmt.Errorf("a text grows beyond %d bytes with its expressions replaced", maxText)
	}
	return out, problem
}

func (x *run) value(whole, text string) (string, error) {
	if v, ok := x.values[text]; ok {
		return v, nil
	}
	if m := loopForm.FindStringSubmatch(text); m != nil && x.iteration != nil && (m[1] == "loop" || m[1] == x.iteration.name) {
		if m[2] == "index" {
			return strconv.Itoa(x.iteration.index), nil
		}
		return x.iteration.value, nil
	}
	c, ok := parseChain(text)
	if !ok {
		return whole, nil
	}
	rec, ok := x.records[c.phase+"."+c.step]
	switch {
	case !ok:
		return "", fmt.Errorf("%s: phase %s has not run here, or the step was skipped; run the phases together (build,validate)", whole, c.phase)
	case c.outputs:
		return rec.outputs[c.name], nil
	}
	if n := inputOf(rec.inputs, c); n != nil {
		return n.Text, nil
	}
	return "", fmt.Errorf("%s: the step has no such input", whole)
}

// resolved returns a copy of n with every expression replaced.
func (x *run) resolved(n *strictyaml.Node) (*strictyaml.Node, error) {
	out := *n
	if n.Scalar() {
		text, err := x.resolve(n.Text)
		out.Text = text
		return &out, err
	}
	out.Pairs, out.Items = nil, nil
	for _, p := range n.Pairs {
		v, err := x.resolved(p.Value)
		if err != nil {
			return nil, err
		}
		p.Value = v
		out.Pairs = append(out.Pairs, p)
	}
	for _, item := range n.Items {
		v, err := x.resolved(item)
		if err != nil {
			return nil, err
		}
		out.Items = append(out.Items, v)
	}
	return &out, nil
}
