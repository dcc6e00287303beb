// Package goss reads goss files and runs their checks against a candidate.
//
// The goss library itself cannot be used: it looks at the machine it runs on,
// and a candidate has no goss inside. So the file's resources and matchers are
// mapped onto what a trial can see from outside. Supported are addr, command,
// file, group, http, kernel-param, matching, package, port, process, service
// (by its running process) and user; what is not is refused by name before
// anything runs, since a check that is skipped silently is a lie.
package goss

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"kiln/internal/sandbox"
	"kiln/internal/strictyaml"
)

// Host is the candidate as a check sees it.
type Host interface {
	// Exec runs a command line by the candidate's /bin/sh.
	Exec(ctx context.Context, command string) (exit int, stdout, stderr string, err error)
	Processes() ([]sandbox.Process, error)
	Listening() ([]sandbox.Port, error)
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	// ReadFile reads a regular file of the candidate, links resolved inside it.
	ReadFile(path string) ([]byte, error)
	// Stat describes a path without following its last component, with the
	// target if it is a link; os.ErrNotExist if there is none.
	Stat(path string) (st unix.Stat_t, link string, err error)
	// Packages are the installed versions by package name.
	Packages() (map[string][]string, error)
}

// File is a goss file that can be run.
type File struct{ resources []resource }

// resource is one entry: what it looks at, and what each attribute must be.
type resource struct {
	kind, id string
	node     *strictyaml.Node
	skip     bool
}

// Result is how one attribute of one resource was found.
type Result struct {
	Resource  string // "file /etc/passwd"
	Attribute string
	Expected  string
	Observed  string
	OK        bool
	Skipped   bool // the file says skip: true
}

// refused says why a kind of resource cannot be checked here.
var refused = map[string]string{
	"dns":       "a candidate runs without a name service",
	"interface": "a candidate has only a loopback device",
	"mount":     "mounts belong to whoever runs the image",
	"gossfile":  "name each file as a test of its own in the recipe",
}

// Parse reads a goss file and refuses what could not be run.
func Parse(data []byte, name string) (*File, error) {
	if at := strings.Index(string(data), "{{"); at >= 0 {
		line := 1 + strings.Count(string(data[:at]), "\n")
		return nil, &strictyaml.Error{File: name, Line: line, Column: 1, Message: "templates are not supported", Hint: "render the file with goss first"}
	}
	root, err := strictyaml.Parse(data, name)
	if err != nil {
		return nil, err
	}
	p := parser{name: name}
	p.file(root)
	if err := p.errs.Sorted(); err != nil {
		return nil, err
	}
	return &File{resources: p.out}, nil
}

type parser struct {
	name string
	errs strictyaml.Errors
	out  []resource
}

func (p *parser) fail(n *strictyaml.Node, field, message, hint string) {
	p.errs = append(p.errs, &strictyaml.Error{File: p.name, Line: n.Line, Column: n.Column, Field: field, Message: message, Hint: hint})
}

func (p *parser) file(root *strictyaml.Node) {
	if root.Kind != strictyaml.Mapping {
		p.fail(root, "", "a goss file is a mapping of resource kinds", "")
		return
	}
	for _, kind := range root.Pairs {
		if why, no := refused[kind.Key]; no {
			p.fail(kind.Value, kind.Key, "this kind of goss resource is not supported", why)
			continue
		}
		k, ok := kinds[kind.Key]
		if !ok {
			p.fail(kind.Value, kind.Key, "unknown kind of goss resource", hint(kind.Key, sortedKeys(kinds)))
			continue
		}
		if kind.Value.Kind != strictyaml.Mapping {
			p.fail(kind.Value, kind.Key, "must be a mapping from names to attributes", "")
			continue
		}
		for _, r := range kind.Value.Pairs {
			p.resource(kind.Key, k, r)
		}
	}
}

func (p *parser) resource(name string, k kind, r strictyaml.Pair) {
	field := name + "." + r.Key
	if r.Value.Kind != strictyaml.Mapping {
		p.fail(r.Value, field, "must be a mapping of attributes", "")
		return
	}
	res := resource{kind: name, id: r.Key, node: r.Value}
	checks := 0
	for _, a := range r.Value.Pairs {
		switch {
		case a.Key == "skip":
			res.skip = a.Value.Text == "true"
		case a.Key == "title" || a.Key == "meta" || slices.Contains(k.options, a.Key):
		case slices.Contains(k.attributes, a.Key):
			checks++
			if err := checkMatcher(a.Value); err != nil {
				p.fail(a.Value, field+"."+a.Key, err.Error(), "")
			}
		default:
			p.fail(a.Value, field+"."+a.Key, "this attribute is not supported", hint(a.Key, slices.Concat(k.attributes, k.options)))
		}
	}
	if checks == 0 && !res.skip {
		p.fail(r.Value, field, "checks nothing", "give one of "+strings.Join(k.attributes, ", "))
	}
	p.out = append(p.out, res)
}

func hint(word string, known []string) string {
	if n := strictyaml.Nearest(word, known); n != "" {
		return "did you mean " + n + "?"
	}
	return "supported: " + strings.Join(known, ", ")
}

// Run runs all checks, in the file's order. An error of the candidate (a
// command that cannot be run, a file that cannot be read) is a failed check.
func (f *File) Run(ctx context.Context, h Host) []Result {
	var out []Result
	for _, r := range f.resources {
		out = append(out, r.run(ctx, h)...)
	}
	return out
}

func (r resource) run(ctx context.Context, h Host) []Result {
	k := kinds[r.kind]
	label := r.kind + " " + r.id
	if r.skip {
		return []Result{{Resource: label, OK: true, Skipped: true}}
	}
	values, err := k.look(ctx, h, r)
	var out []Result
	for _, a := range r.node.Pairs {
		if !slices.Contains(k.attributes, a.Key) {
			continue
		}
		res := Result{Resource: label, Attribute: a.Key, Expected: describe(a.Value)}
		v, there := values[a.Key]
		switch {
		case err != nil:
			res.Observed = err.Error()
		case !there:
			res.Observed = "nothing to look at"
		default:
			res.OK, res.Observed = match(a.Value, v), show(v)
		}
		out = append(out, res)
	}
	return out
}

// option is the text of an attribute that is no check.
func (r resource) option(name, def string) string {
	if n := r.node.Get(name); n != nil && n.Scalar() {
		return n.Text
	}
	return def
}

// String is one line for people.
func (r Result) String() string {
	switch {
	case r.Skipped:
		return r.Resource + ": skipped"
	case r.OK:
		return fmt.Sprintf("%s: %s is %s", r.Resource, r.Attribute, r.Expected)
	}
	return fmt.Sprintf("%s: %s should be %s, is %s", r.Resource, r.Attribute, r.Expected, r.Observed)
}
