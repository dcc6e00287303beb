// Package component runs EC2 Image Builder component documents (schemaVersion
// 1.0) on a tree or a running candidate, unchanged: phases, parameters,
// constants, loops, conditions, chaining and onFailure. Actions that make no
// sense in an image are refused by name when the document is read.
//
// Commands run through a [Host]; file actions work below the host's root and
// cannot leave it. The rules follow the Image Builder user guide; where it
// leaves a question open, docs/reference/recipe.md says what is done here.
package component

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"kiln/internal/strictyaml"
)

// Error is one thing wrong with a document.
type Error = strictyaml.Error

// Document is a component document that has been read and checked.
type Document struct {
	Name        string
	Description string
	// File is the document's path: nested documents are looked for in its folder.
	File string
	// Open reads a nested document by its path, which begins with the folder of
	// File. The caller sets it where files come from a lock; nil reads the folder itself, and nothing outside it.
	Open       func(file string) ([]byte, error)
	Constants  map[string]string
	Parameters []Parameter
	Phases     []Phase
}

// Parameter is a value that the caller may give.
type Parameter struct {
	Name        string
	Default     *string
	Allowed     []string // empty means any
	Description string
}

// Phase is a list of steps under a name: build, validate, test, or another.
type Phase struct {
	Name  string
	Steps []Step
}

// Step is one action with its inputs.
type Step struct {
	Name   string
	Action string
	Line   int
	// Timeout bounds one attempt, all iterations together; negative means none. Default two hours.
	Timeout     time.Duration
	OnFailure   string // Abort, Continue, Ignore
	MaxAttempts int
	loop        *loop
	condition   *condition
	inputs      *strictyaml.Node
}

type loop struct {
	name      string
	integers  bool
	start     int
	end       int
	by        int
	list      []*strictyaml.Node
	joined    string // a delimited list
	delimiter string
}

type condition struct {
	test            *strictyaml.Node
	then, otherwise string // Execute, Skip, Abort
}

// What a step does on failure.
const (
	Abort    = "Abort"
	Continue = "Continue"
	Ignore   = "Ignore"
)

const (
	defaultTimeout = 2 * time.Hour
	maxAttempts    = 100
	maxIterations  = 10_000
	maxCondition   = 4 // nesting of and, or, not
)

var (
	nameForm      = regexp.MustCompile(`^[A-Za-z0-9_-]{3,128}$`)
	stepForm      = regexp.MustCompile(`^[A-Za-z0-9_ -]{1,128}$`)
	delimiterForm = ".,;:\n\t -_"
)

// Parse reads a document and checks everything that can be known before it
// runs: fields, actions, their inputs, references, loops and conditions.
func Parse(data []byte, file string) (*Document, error) {
	root, err := strictyaml.Parse(data, file)
	if err != nil {
		return nil, err
	}
	r := &reader{doc: &Document{File: file, Constants: map[string]string{}}}
	r.file = file
	r.document(root)
	if err := r.errs.Sorted(); err != nil {
		return nil, err
	}
	return r.doc, nil
}

// Phase returns the phase of that name, or nil.
func (d *Document) Phase(name string) *Phase {
	for i := range d.Phases {
		if d.Phases[i].Name == name {
			return &d.Phases[i]
		}
	}
	return nil
}

// Nested returns the local documents that ExecuteDocument steps name, as paths
// beside this document; one that a loop or parameter names is not among them.
func (d *Document) Nested() []string {
	var list []string
	for _, p := range d.Phases {
		for _, s := range p.Steps {
			if s.Action != "ExecuteDocument" {
				continue
			}
			if n := s.inputs.Get("document"); n != nil && !strings.Contains(n.Text, "{{") {
				list = append(list, filepath.Join(filepath.Dir(d.File), localDocument(n.Text)))
			}
		}
	}
	return list
}

type reader struct {
	doc  *Document
	file string
	errs strictyaml.Errors
}

func (r *reader) fail(n *strictyaml.Node, field, message, hint string) {
	r.errs = append(r.errs, &Error{File: r.file, Line: n.Line, Column: n.Column, Field: field, Message: message, Hint: hint})
}

// fields visits a mapping's entries and reports those that are not known.
func (r *reader) fields(n *strictyaml.Node, path string, known []string, visit func(key string, v *strictyaml.Node)) {
	if n.Kind != strictyaml.Mapping {
		r.fail(n, path, "must be a mapping, found "+n.Kind.String(), "")
		return
	}
	for _, p := range n.Pairs {
		if !slices.Contains(known, p.Key) {
			hint := "known here: " + strings.Join(known, ", ")
			if near := strictyaml.Nearest(p.Key, known); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			at := &strictyaml.Node{Line: p.Line, Column: p.Column}
			r.fail(at, strictyaml.Join(path, p.Key), "unknown field", hint)
			continue
		}
		visit(p.Key, p.Value)
	}
}

// items visits a list.
func (r *reader) items(n *strictyaml.Node, path string, visit func(path string, v *strictyaml.Node)) {
	if n.Kind != strictyaml.Sequence {
		r.fail(n, path, "must be a list, found "+n.Kind.String(), "")
		return
	}
	for i, item := range n.Items {
		visit(fmt.Sprintf("%s[%d]", path, i), item)
	}
}

func (r *reader) text(n *strictyaml.Node, path string) string {
	if !n.Scalar() {
		r.fail(n, path, "must be text, found "+n.Kind.String(), "")
		return ""
	}
	return n.Text
}

func (r *reader) integer(n *strictyaml.Node, path string) int {
	i, err := strconv.Atoi(n.Text)
	if !n.Scalar() || err != nil {
		r.fail(n, path, "must be a whole number", "")
	}
	return i
}

func (r *reader) oneOf(n *strictyaml.Node, path string, set ...string) string {
	s := r.text(n, path)
	if !slices.Contains(set, s) {
		r.fail(n, path, "is "+strings.Join(set, ", ")+"; found "+strictyaml.Clip(s, 40), "")
	}
	return s
}

func (r *reader) document(root *strictyaml.Node) {
	version, phases := "", (*strictyaml.Node)(nil)
	r.fields(root, "", []string{"name", "description", "schemaVersion", "constants", "parameters", "phases"}, func(key string, v *strictyaml.Node) {
		switch key {
		case "name":
			r.doc.Name = r.text(v, key)
		case "description":
			r.doc.Description = r.text(v, key)
		case "schemaVersion":
			version = r.text(v, key)
		case "constants":
			r.items(v, key, r.constant)
		case "parameters":
			r.items(v, key, r.parameter)
		case "phases":
			phases = v
		}
	})
	if version != "1.0" && version != "1" {
		r.fail(root, "schemaVersion", fmt.Sprintf("is %q; 1.0 is read here", strictyaml.Clip(version, 20)), "write schemaVersion: 1.0")
	}
	if phases == nil {
		r.fail(root, "phases", "is missing", "a document needs a build, validate or test phase")
		return
	}
	r.items(phases, "phases", r.phase)
	r.references()
}

// named reads the one-entry mapping that declares a constant or parameter.
func (r *reader) named(n *strictyaml.Node, path string) (string, *strictyaml.Node, bool) {
	if n.Kind != strictyaml.Mapping || len(n.Pairs) != 1 {
		r.fail(n, path, "must be one name with its fields below it", "write - NAME: {type: string, ...}")
		return "", nil, false
	}
	name := n.Pairs[0].Key
	_, constant := r.doc.Constants[name]
	switch {
	case !nameForm.MatchString(name):
		r.fail(n, path, "a name is 3 to 128 letters, digits, - and _", "")
	case constant || r.doc.parameter(name) != nil:
		r.fail(n, path, name+" is declared twice", "constants and parameters share their names")
	}
	return name, n.Pairs[0].Value, true
}

func (d *Document) parameter(name string) *Parameter {
	for i := range d.Parameters {
		if d.Parameters[i].Name == name {
			return &d.Parameters[i]
		}
	}
	return nil
}

func (r *reader) constant(path string, n *strictyaml.Node) {
	name, body, ok := r.named(n, path)
	if !ok {
		return
	}
	var value *string
	r.fields(body, path+"."+name, []string{"type", "value", "description"}, func(key string, v *strictyaml.Node) {
		switch key {
		case "type":
			r.oneOf(v, path+"."+name+".type", "string")
		case "value":
			s := r.text(v, path+"."+name+".value")
			value = &s
		}
	})
	if value == nil {
		r.fail(n, path+"."+name, "has no value", "")
		return
	}
	r.doc.Constants[name] = *value
}

func (r *reader) parameter(path string, n *strictyaml.Node) {
	name, body, ok := r.named(n, path)
	if !ok {
		return
	}
	p := Parameter{Name: name}
	path += "." + name
	r.fields(body, path, []string{"type", "default", "description", "allowedValues"}, func(key string, v *strictyaml.Node) {
		switch key {
		case "type":
			r.oneOf(v, path+".type", "string")
		case "default":
			s := r.text(v, path+".default")
			p.Default = &s
		case "description":
			p.Description = r.text(v, path+".description")
		case "allowedValues":
			r.items(v, path+".allowedValues", func(at string, v *strictyaml.Node) { p.Allowed = append(p.Allowed, r.text(v, at)) })
		}
	})
	if p.Default != nil && len(p.Allowed) > 0 && !slices.Contains(p.Allowed, *p.Default) {
		r.fail(n, path+".default", "is not among allowedValues", "")
	}
	r.doc.Parameters = append(r.doc.Parameters, p)
}

func (r *reader) phase(path string, n *strictyaml.Node) {
	var p Phase
	r.fields(n, path, []string{"name", "steps"}, func(key string, v *strictyaml.Node) {
		if key == "name" {
			p.Name = r.text(v, path+".name")
			return
		}
		r.items(v, path+".steps", func(at string, v *strictyaml.Node) { p.Steps = append(p.Steps, r.step(at, v)) })
	})
	seen := map[string]bool{}
	for _, s := range p.Steps {
		if seen[s.Name] {
			r.fail(n, path, "two steps are named "+s.Name, "a step's name is unique in its phase")
		}
		seen[s.Name] = true
	}
	switch {
	case !stepForm.MatchString(p.Name):
		r.fail(n, path+".name", "is missing or is no name", "")
	case r.doc.Phase(p.Name) != nil:
		r.fail(n, path+".name", "phase "+p.Name+" stands twice", "")
	}
	r.doc.Phases = append(r.doc.Phases, p)
}

var stepFields = []string{"name", "action", "timeoutSeconds", "onFailure", "maxAttempts", "inputs", "loop", "if"}

func (r *reader) step(path string, n *strictyaml.Node) Step {
	s := Step{Line: n.Line, Timeout: defaultTimeout, OnFailure: Abort, MaxAttempts: 1}
	r.fields(n, path, stepFields, func(key string, v *strictyaml.Node) {
		at := path + "." + key
		switch key {
		case "name":
			s.Name = r.text(v, at)
		case "action":
			s.Action = r.text(v, at)
		case "timeoutSeconds":
			s.Timeout = r.timeout(v, at)
		case "onFailure":
			s.OnFailure = r.oneOf(v, at, Abort, Continue, Ignore)
		case "maxAttempts":
			if s.MaxAttempts = r.integer(v, at); s.MaxAttempts < 1 || s.MaxAttempts > maxAttempts {
				r.fail(v, at, fmt.Sprintf("is a number from 1 to %d", maxAttempts), "")
			}
		case "inputs":
			s.inputs = v
		case "loop":
			s.loop = r.loop(at, v)
		case "if":
			s.condition = r.condition(at, v)
		}
	})
	if !stepForm.MatchString(s.Name) {
		r.fail(n, path+".name", "is missing or is no name", "a step's name is letters, digits, blanks, - and _")
	}
	r.action(path, n, &s)
	return s
}

func (r *reader) timeout(n *strictyaml.Node, path string) time.Duration {
	seconds := r.integer(n, path)
	if seconds == -1 {
		return -1
	}
	if seconds < 1 || seconds > 1_000_000 {
		r.fail(n, path, "is a number of seconds from 1 to 1000000, or -1 for no limit", "")
	}
	return time.Duration(seconds) * time.Second
}

func (r *reader) loop(path string, n *strictyaml.Node) *loop {
	l := &loop{delimiter: ","}
	kinds := 0
	r.fields(n, path, []string{"name", "for", "forEach"}, func(key string, v *strictyaml.Node) {
		switch key {
		case "name":
			l.name = r.text(v, path+".name")
		case "for":
			kinds++
			r.integers(l, path+".for", v)
		case "forEach":
			kinds++
			r.forEach(l, path+".forEach", v)
		}
	})
	if kinds != 1 {
		r.fail(n, path, "has exactly one of for and forEach", "")
	}
	return l
}

func (r *reader) integers(l *loop, path string, n *strictyaml.Node) {
	l.integers = true
	r.fields(n, path, []string{"start", "end", "updateBy"}, func(key string, v *strictyaml.Node) {
		switch key {
		case "start":
			l.start = r.integer(v, path+".start")
		case "end":
			l.end = r.integer(v, path+".end")
		case "updateBy":
			l.by = r.integer(v, path+".updateBy")
		}
	})
	for _, key := range []string{"start", "end", "updateBy"} {
		if n.Get(key) == nil {
			r.fail(n, path+"."+key, "is missing", "")
		}
	}
	switch {
	case l.by == 0 || l.by > 0 && l.end < l.start || l.by < 0 && l.end > l.start:
		r.fail(n, path, "never reaches its end", "updateBy must lead from start to end")
	case (l.end-l.start)/l.by >= maxIterations:
		r.fail(n, path, fmt.Sprintf("has more than %d iterations", maxIterations), "")
	}
}

func (r *reader) forEach(l *loop, path string, n *strictyaml.Node) {
	if n.Kind == strictyaml.Sequence {
		r.items(n, path, func(at string, v *strictyaml.Node) {
			r.text(v, at)
			l.list = append(l.list, v)
		})
		return
	}
	r.fields(n, path, []string{"list", "delimiter"}, func(key string, v *strictyaml.Node) {
		switch key {
		case "list":
			l.joined = r.text(v, path+".list")
		case "delimiter":
			l.delimiter = r.text(v, path+".delimiter")
			if len(l.delimiter) != 1 || !strings.Contains(delimiterForm, l.delimiter) {
				r.fail(v, path+".delimiter", `is one of . , ; : - _ blank, tab "\t" and line break "\n"`, "")
			}
		}
	})
	if n.Get("list") == nil {
		r.fail(n, path+".list", "is missing", "")
	}
}
