package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/factory"
	"kiln/internal/strictyaml"
)

func newControls(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "controls", Short: "the catalogue of hardening objectives",
		Long: "Controls shows what Kiln means by hardened: objectives in our own words, each with its variants\n" +
			"(the strictest first) and the ids of the benchmarks that ask for it. Profiles choose among them.",
	}
	cmd.AddCommand(newControlsLs(a), &cobra.Command{
		Use: "show ID", Short: "show one objective: why, in which ways, who asks for it", Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.showControl(args[0]) },
	}, &cobra.Command{
		Use: "profiles", Short: "list the profiles and what they are for", Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return a.listProfiles() },
	}, newControlsExport(a), newControlsDiff(a), newControlsApply(a))
	return cmd
}

func newControlsLs(a *app) *cobra.Command {
	var f controlFilter
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "list objectives, all or some", Args: noArgs,
		Long: "Ls lists every objective of the catalogue, or those that meet every filter given. With --profile each begins\n" +
			"with the variant that the profile chooses. With --json an array, one object per objective.",
		Example: "  kiln controls ls --profile container-strict\n  kiln controls ls --benchmark stig-ubuntu-24.04 --severity high\n  kiln controls ls --json | jq -r '.[] | select(.kinds | index(\"sysctl\")) | .id'",
		RunE:    func(*cobra.Command, []string) error { return a.listControls(f) },
	}
	cmd.Flags().StringVar(&f.profile, "profile", "", "only the objectives of this `profile`, or of several: cis-l2,stig-cat1")
	cmd.Flags().StringVar(&f.benchmark, "benchmark", "", "only what this `benchmark` asks for: a key such as cis-debian-12, or its name")
	cmd.Flags().StringVar(&f.scope, "scope", "", "only what is meant for this `scope`: container or machine")
	cmd.Flags().StringVar(&f.kind, "kind", "", "only what is reached by this `kind` of setting")
	cmd.Flags().StringVar(&f.severity, "severity", "", "only this `severity`: high, medium or low")
	return cmd
}

// controlFilter narrows a list of objectives; empty fields let everything pass.
type controlFilter struct{ profile, benchmark, scope, kind, severity string }

// choose returns the objectives that meet every filter.
func (f controlFilter) choose(c *catalogue.Catalogue) ([]kiln.Control, error) {
	chosen := c.Objectives()
	var err error
	if f.profile != "" {
		if chosen, _, err = factory.Profiles(c, []string{f.profile}); err != nil {
			return nil, err
		}
	}
	var mark catalogue.Benchmark
	if f.benchmark != "" {
		if mark, err = c.Benchmark(f.benchmark); err != nil {
			return nil, err
		}
	}
	if err := f.check(c); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(chosen, func(k kiln.Control) bool {
		return f.severity != "" && k.Severity != f.severity || f.scope != "" && k.Scope != f.scope && k.Scope != "both" ||
			f.kind != "" && !slices.Contains(kindsOf(k), f.kind) || mark.Name != "" && !refersTo(k, mark.Name)
	}), nil
}

// check refuses words that no objective could have: a filter that finds nothing must not look like an empty catalogue.
func (f controlFilter) check(c *catalogue.Catalogue) error {
	if !slices.Contains([]string{"", "high", "medium", "low"}, f.severity) {
		return fmt.Errorf("severity is high, medium or low, not %q", f.severity)
	}
	if !slices.Contains([]string{"", "container", "machine"}, f.scope) {
		return fmt.Errorf("scope is container or machine, not %q", f.scope)
	}
	var kinds []string
	for _, k := range c.Objectives() {
		kinds = append(kinds, kindsOf(k)...)
	}
	if f.kind != "" && !slices.Contains(kinds, f.kind) {
		slices.Sort(kinds)
		return fmt.Errorf("no objective is reached by kind %q; there are %s", f.kind, strings.Join(slices.Compact(kinds), ", "))
	}
	return nil
}

// kindsOf are the kinds of all variants, sorted, each once.
func kindsOf(k kiln.Control) []string {
	var out []string
	for _, v := range k.Variants {
		for _, s := range v.Settings {
			out = append(out, s.Kind)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func refersTo(k kiln.Control, benchmark string) bool {
	is := func(r kiln.Reference) bool { return r.Benchmark == benchmark }
	return slices.ContainsFunc(k.References, is) ||
		slices.ContainsFunc(k.Variants, func(v kiln.Variant) bool { return slices.ContainsFunc(v.References, is) })
}

// listedControl is an objective with the profiles it is in.
type listedControl struct {
	kiln.Control
	Profiles []string `json:"profiles"`
}

// briefControl is what ls prints of an objective: lists are never null.
type briefControl struct {
	ID         string           `json:"id"`
	Title      string           `json:"title"`
	Rationale  string           `json:"rationale"`
	Severity   string           `json:"severity"`
	Scope      string           `json:"scope"`
	Platforms  []string         `json:"platforms"`
	Kinds      []string         `json:"kinds"` // of all variants
	Variants   []briefVariant   `json:"variants"`
	References []kiln.Reference `json:"references"`
	Conflicts  []kiln.Conflict  `json:"conflicts"`
	Profiles   []string         `json:"profiles"`
}

type briefVariant struct {
	ID    string   `json:"id"`
	Kinds []string `json:"kinds"`
}

func brief(k kiln.Control, profiles []string) briefControl {
	out := briefControl{
		ID: k.ID, Title: k.Title, Rationale: k.Rationale, Severity: k.Severity, Scope: k.Scope, Platforms: list(k.Platforms), Kinds: kindsOf(k),
		References: list(k.References), Conflicts: list(k.Conflicts), Profiles: list(profiles),
	}
	for _, v := range k.Variants {
		b := briefVariant{ID: v.ID}
		for _, s := range v.Settings {
			b.Kinds = append(b.Kinds, s.Kind)
		}
		out.Variants = append(out.Variants, b)
	}
	return out
}

// list makes an absent list an empty one.
func list[T any](items []T) []T { return append([]T{}, items...) }

func (a *app) listControls(f controlFilter) error {
	c, err := catalogue.Load()
	if err != nil {
		return err
	}
	chosen, err := f.choose(c)
	if err != nil {
		return kiln.Misuse(err)
	}
	in := c.Membership()
	if a.json {
		out := make([]briefControl, 0, len(chosen))
		for _, k := range chosen {
			out = append(out, brief(k, in[k.ID]))
		}
		return a.printJSON(out)
	}
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	for _, k := range chosen {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", k.ID, k.Severity, k.Scope, k.Title)
	}
	return w.Flush()
}

func (a *app) showControl(id string) error {
	c, err := catalogue.Load()
	if err != nil {
		return err
	}
	k, ok := c.Objective(id)
	if !ok {
		return noObjective(c, id)
	}
	full := listedControl{k, list(c.Membership()[id])}
	if a.json {
		return a.printJSON(full)
	}
	return printControl(a.out, full)
}

func noObjective(c *catalogue.Catalogue, id string) error {
	var ids []string
	for _, k := range c.Objectives() {
		ids = append(ids, k.ID)
	}
	hint := "`kiln controls ls` lists them"
	if near := strictyaml.Nearest(id, ids); near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	return kiln.Misuse(kiln.WithHint(fmt.Errorf("no objective %q in the catalogue", strictyaml.Clip(id, 60)), hint))
}

func printControl(out io.Writer, k listedControl) error {
	w := &strings.Builder{}
	fmt.Fprintf(w, "%s\n%s.\n%s\n\n", k.ID, k.Title, k.Rationale)
	fmt.Fprintf(w, "severity   %s\nscope      %s\n", k.Severity, k.Scope)
	if len(k.Platforms) > 0 {
		fmt.Fprintf(w, "platforms  %s\n", strings.Join(k.Platforms, ", "))
	}
	fmt.Fprintf(w, "profiles   %s\n", orNone(strings.Join(k.Profiles, ", ")))
	if p := k.Applies; p != nil {
		fmt.Fprintf(w, "applies    where %s\n", applies(p))
	}
	if k.Acknowledge {
		fmt.Fprintf(w, "careful    it can lock people out or stop the boot\n")
	}
	fmt.Fprintf(w, "\nvariants, the strictest first\n")
	for i, v := range k.Variants {
		if err := printVariant(w, i+1, v); err != nil {
			return err
		}
	}
	printReferences(w, k.References)
	for i, c := range k.Conflicts {
		if i == 0 {
			fmt.Fprintf(w, "\nknown to break\n")
		}
		fmt.Fprintf(w, "  %s in %d %% of cases%s\n", c.Package, c.Percent, prefixed(": ", c.Note))
	}
	_, err := io.WriteString(out, w.String())
	return err
}

func applies(p *kiln.Applicability) string {
	var parts []string
	if p.Package != "" {
		parts = append(parts, "package "+p.Package+" is installed")
	}
	if p.File != "" {
		parts = append(parts, p.File+" exists")
	}
	if len(p.Without) > 0 {
		parts = append(parts, "none of "+strings.Join(p.Without, ", ")+" is")
	}
	switch p.Init {
	case "":
	case "any":
		parts = append(parts, "an init system is there")
	default:
		parts = append(parts, "the init system is "+p.Init)
	}
	return strings.Join(parts, " and ")
}

func printVariant(w io.Writer, n int, v kiln.Variant) error {
	fmt.Fprintf(w, "  %d. %s%s\n", n, v.ID, prefixed(": ", v.Title))
	for _, s := range v.Settings {
		text, err := json.Marshal(s.Params) // keys come sorted
		if err != nil {
			return err
		}
		if len(s.Params) == 0 {
			text = nil
		}
		fmt.Fprintf(w, "     %s%s\n", s.Kind, prefixed(" ", string(text)))
	}
	if v.Gives != "" {
		fmt.Fprintf(w, "     gives up %s\n", v.Gives)
	}
	printMet(w, v.References)
	return nil
}

// printMet names the rules that a variant meets, those of a benchmark in a line.
func printMet(w io.Writer, refs []kiln.Reference) {
	for i := 0; i < len(refs); {
		first := refs[i]
		var ids []string
		for ; i < len(refs) && refs[i].Benchmark == first.Benchmark && refs[i].Version == first.Version; i++ {
			ids = append(ids, strings.TrimSpace(refs[i].ID+" "+refs[i].Level))
		}
		fmt.Fprintf(w, "     meets %s %s: %s\n", first.Benchmark, first.Version, strings.Join(ids, ", "))
	}
}

func printReferences(w io.Writer, refs []kiln.Reference) {
	if len(refs) == 0 {
		return
	}
	fmt.Fprintf(w, "\nmaps to\n")
	for _, r := range refs {
		fmt.Fprintf(w, "  %s\n", referenceText(r))
	}
}

func referenceText(r kiln.Reference) string {
	return r.Benchmark + " " + r.Version + " " + r.ID + prefixed(" ", r.Level)
}

// prefixed is text after a prefix, or nothing.
func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// listedProfile is a profile in JSON.
type listedProfile struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Objectives  int    `json:"objectives"`
}

func (a *app) listProfiles() error {
	c, err := catalogue.Load()
	if err != nil {
		return err
	}
	names, about := c.Profiles()
	out := make([]listedProfile, 0, len(names))
	for _, name := range names {
		members, err := c.Profile(name)
		if err != nil {
			return err
		}
		out = append(out, listedProfile{name, about[name], len(members)})
	}
	if a.json {
		return a.printJSON(out)
	}
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	for _, p := range out {
		fmt.Fprintf(w, "%s\t%d objectives\t%s\n", p.Name, p.Objectives, p.Description)
	}
	return w.Flush()
}
