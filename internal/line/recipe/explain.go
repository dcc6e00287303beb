package recipe

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"kiln"
)

// Explain prints in plain words what building the recipe will do.
func Explain(w io.Writer, r *kiln.Recipe) error {
	e := &explainer{}
	e.line("%s%s: %s", r.Name, prefix(" ", r.Version), or(r.Description, "an image"))
	e.base(r)
	e.packages(r)
	e.changes(r)
	e.runtime(r)
	e.hardening(r)
	e.tests(r)
	e.outputs(r)
	_, err := io.WriteString(w, e.b.String())
	return err
}

type explainer struct{ b strings.Builder }

func (e *explainer) line(format string, args ...any) {
	fmt.Fprintf(&e.b, format+"\n", args...)
}

func (e *explainer) head(title string) { e.line("\n%s", title) }

func (e *explainer) item(format string, args ...any) { e.line("  - "+format, args...) }

func prefix(p, s string) string {
	if s == "" {
		return ""
	}
	return p + s
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

func keys[V any](m map[string]V) []string {
	list := make([]string, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

func (e *explainer) base(r *kiln.Recipe) {
	e.head("Starts from")
	b := r.Base
	switch {
	case b.Apt != nil && b.Apt.Machine:
		e.item("the signed package archives this machine uses%s, checked with the machine's keyrings", prefix(", release ", b.Apt.Release))
	case b.Apt != nil:
		for _, a := range b.Apt.Archives {
			e.item("%s: %s (%s), signed by a key in %s", a.URI, strings.Join(a.Suites, ", "), or(strings.Join(a.Components, ", "), "main"), a.Keyring)
		}
	case b.OCI != "":
		e.item("the image %s from its registry, fixed by digest", b.OCI)
	case b.Layout != "":
		e.item("the OCI layout in %s, fixed by digest", b.Layout)
	case b.Archive != "":
		e.item("the docker archive %s, fixed by digest", b.Archive)
	case b.Kiln != "":
		e.item("%s from the local store", b.Kiln)
	}
	e.item("for %s", or(r.Platform, "this machine's own architecture"))
	for _, name := range keys(r.Variables) {
		v := r.Variables[name]
		e.item("with %s = %q%s", name, *v.Default, prefix(": ", v.Description))
	}
}

func (e *explainer) packages(r *kiln.Recipe) {
	if r.Base.Apt == nil {
		return
	}
	e.head("Installs")
	e.item("the minimal base of the release")
	for _, p := range r.Packages {
		e.item("%s%s%s", p.Name, prefix(", version ", p.Version), prefix(", from ", p.Suite))
	}
	extra := "no recommended packages"
	if r.Recommends {
		extra = "their recommended packages too"
	}
	e.item("what those depend on, %s", extra)
	for _, p := range r.Pins {
		e.item("preferring %s of %s with priority %d", or(p.Release, p.Version), p.Package, p.Priority)
	}
}

func (e *explainer) changes(r *kiln.Recipe) {
	if len(r.Groups)+len(r.Users)+len(r.Files)+len(r.Steps) == 0 {
		return
	}
	e.head("Then, in this order")
	for _, g := range r.Groups {
		e.item("makes the group %s%s", g.Name, number(" with id ", g.GID))
	}
	for _, u := range r.Users {
		e.item("makes the account %s%s, without a password", u.Name, number(" with id ", u.UID))
	}
	for _, f := range r.Files {
		e.item("%s", fileWords(f))
	}
	for i, s := range r.Steps {
		e.item("%s", stepWords(i, s))
	}
}

func number(label string, n *int) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(label, *n)
}

func fileWords(f kiln.FileSpec) string {
	owner := prefix(", mode ", f.Mode) + prefix(", owner ", f.Owner) + prefix(", group ", f.Group)
	switch {
	case f.Content != nil:
		return fmt.Sprintf("writes %s (%d bytes%s)", f.Path, len(*f.Content), owner)
	case f.Source != "":
		return fmt.Sprintf("copies %s to %s%s", f.Source, f.Path, owner)
	case f.Directory:
		return fmt.Sprintf("makes the folder %s%s", f.Path, owner)
	}
	return fmt.Sprintf("links %s to %s", f.Path, f.Symlink)
}

func stepWords(i int, s kiln.Step) string {
	network := "without a network"
	if s.Network {
		network = "WITH a network"
	}
	if s.Component != "" {
		return fmt.Sprintf("runs the component %s%s, %s", s.Component, prefix(" for ", s.Name), network)
	}
	lines := "1 line"
	if n := strings.Count(strings.TrimSpace(s.Run), "\n") + 1; n > 1 {
		lines = fmt.Sprintf("%d lines", n)
	}
	return fmt.Sprintf("runs %s: %s of shell as root in the sandbox, %s", or(s.Name, fmt.Sprintf("step %d", i+1)), lines, network)
}

func (e *explainer) runtime(r *kiln.Recipe) {
	e.head("The image")
	if command := append(slices.Clone(r.Entrypoint), r.Command...); len(command) > 0 {
		e.item("runs %s", quoteAll(command))
	} else {
		e.item("has no command of its own")
	}
	e.item("as %s", or(r.User, "the user that hardening chooses"))
	if r.WorkDir != "" {
		e.item("in %s", r.WorkDir)
	}
	for _, name := range keys(r.Env) {
		e.item("with %s=%s", name, r.Env[name])
	}
	if len(r.Ports) > 0 {
		e.item("serves %s", strings.Join(r.Ports, ", "))
	}
	if len(r.Volumes) > 0 {
		e.item("keeps data in %s", strings.Join(r.Volumes, ", "))
	}
	if h := r.Healthcheck; h != nil {
		e.item("is healthy while %s succeeds, asked every %s", quoteAll(h.Command), h.Interval.Or(30*time.Second))
	}
}

func quoteAll(args []string) string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = a
		if a == "" || strings.ContainsAny(a, " \t\n\"'\\$;|&") {
			out[i] = fmt.Sprintf("%q", a)
		}
	}
	return strings.Join(out, " ")
}

func (e *explainer) hardening(r *kiln.Recipe) {
	e.head("Hardening")
	h := r.Hardening
	if h.Profile == "none" {
		e.item("none: the profile is none")
	} else {
		e.item("meets every objective of %s, or says which it does not", or(strings.Join(h.Profiles, " and "), or(h.Profile, "container-baseline")))
	}
	for _, id := range h.Include {
		e.item("meets %s too", id)
	}
	for _, w := range h.Waivers {
		e.item("does not meet %s until %s, by %s: %s", w.Objective, w.Expires, w.Owner, w.Reason)
	}
	m := h.Remove
	for _, what := range []struct {
		on   bool
		text string
	}{
		{m.PackageManager, "removes apt and dpkg; the package database stays for scanners"},
		{m.Shell, "removes every shell"},
		{m.Docs, "removes manual pages, documentation and translations; copyright files stay"},
		{m.Unused, "removes every package that nothing asked for needs" + prefix(", except ", strings.Join(m.Keep, ", "))},
		{len(m.Packages) > 0, "removes " + strings.Join(m.Packages, ", ")},
	} {
		if what.on {
			e.item("%s", what.text)
		}
	}
}

func (e *explainer) tests(r *kiln.Recipe) {
	e.head("Is kept only if, started cold in the sandbox,")
	if len(r.Tests) == 0 {
		e.item("nothing: the recipe has no tests")
	}
	for _, t := range r.Tests {
		e.item("%s%s", prefixColon(t.Name), testWords(t))
	}
}

func prefixColon(name string) string {
	if name == "" {
		return ""
	}
	return name + ": "
}

func testWords(t kiln.Test) string {
	switch {
	case t.Run != nil:
		return fmt.Sprintf("%s exits with %d%s", quoteAll(t.Run.Command), t.Run.Exit, matches(append(slices.Clone(t.Run.Stdout), t.Run.Stderr...)))
	case t.HTTP != nil:
		status := t.HTTP.Status
		if status == 0 {
			status = 200
		}
		return fmt.Sprintf("%s %s answers %d%s", or(t.HTTP.Method, "GET"), t.HTTP.URL, status, matches(t.HTTP.Match))
	case t.TCP != nil && t.TCP.Refused:
		return t.TCP.Address + " refuses connections"
	case t.TCP != nil:
		return t.TCP.Address + " accepts connections" + matches(t.TCP.Match)
	case t.File != nil && t.File.Absent:
		return t.File.Path + " is not there"
	case t.File != nil:
		return t.File.Path + " is there" + prefix(" as ", t.File.Type) + prefix(", mode ", t.File.Mode) + prefix(", owner ", t.File.Owner) + prefix(", group ", t.File.Group) + prefix(", SHA-256 ", t.File.SHA256) + matches(t.File.Match)
	case t.Process != nil && t.Process.Absent:
		return t.Process.Name + " does not run"
	case t.Process != nil:
		return t.Process.Name + " runs" + prefix(" as ", t.Process.User)
	case t.Listening != nil && len(t.Listening.Ports) == 0:
		return "no port listens"
	case t.Listening != nil:
		return "exactly these ports listen: " + strings.Join(t.Listening.Ports, ", ")
	case t.Goss != "":
		return "the goss file " + t.Goss + " passes"
	}
	return "the test phase of " + t.Component + " passes"
}

func matches(patterns []string) string {
	if len(patterns) == 0 {
		return ""
	}
	return ", with text matching " + quoteAll(patterns)
}

func (e *explainer) outputs(r *kiln.Recipe) {
	e.head("Goes to")
	e.item("the local store, if the %s admits it", or(prefix("policy ", r.Policy), "built-in policy"))
	for _, o := range r.Outputs {
		switch {
		case o.Layout != "":
			e.item("the OCI layout folder %s", o.Layout)
		case o.Archive != "":
			e.item("the docker archive %s", o.Archive)
		default:
			e.item("the registry as %s", o.Registry)
		}
	}
}
