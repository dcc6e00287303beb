package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/atomicfile"
	"kiln/internal/factory"
	"kiln/internal/line/recipe"
)

func newControlsExport(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "export FILE", Short: "write the catalogue as one document, to compare with later", Args: exactArgs(1),
		Long: "Export writes this program's catalogue, its digest with it. `kiln controls diff FILE` then says what a\n" +
			"later program changes. Every build and lock keeps the catalogue it was made with in the state directory too.",
		RunE: func(_ *cobra.Command, args []string) error { return a.exportControls(args[0]) },
	}
}

func (a *app) exportControls(path string) error {
	c, err := catalogue.Load()
	if err != nil {
		return err
	}
	data, err := c.Export()
	if err != nil {
		return err
	}
	if err := atomicfile.Write(path, data, 0o644); err != nil {
		return fmt.Errorf("writing the catalogue: %w", err)
	}
	if !a.quiet {
		fmt.Fprintf(a.err, "catalogue %s written to %s\n", c.Digest().Short(), path)
	}
	return nil
}

func newControlsDiff(a *app) *cobra.Command {
	var recipe string
	var marks []string
	cmd := &cobra.Command{
		Use: "diff [OLD [NEW]]", Short: "what another version of the catalogue or of a benchmark changes", Args: rangeArgs(0, 2),
		Long: "Diff compares two versions of the catalogue: objectives added, removed, set to other values, renumbered.\n" +
			"OLD and NEW are files that `kiln controls export` wrote, directories of a catalogue, or locks; NEW is this\n" +
			"program's own by default. With --recipe it says what that changes for the recipe's profile and waivers.\n" +
			"With --benchmark given twice it compares two benchmarks instead: what only one asks for, other ids, other values.",
		Example: "  kiln controls diff kiln.lock --recipe kiln.yaml\n  kiln controls diff --benchmark cis-debian-12 --benchmark cis-debian-13\n" +
			"  kiln controls diff --benchmark cis-ubuntu-24.04 --benchmark stig-ubuntu-24.04 --json",
		RunE: func(_ *cobra.Command, args []string) error {
			switch {
			case len(marks) == 2 && recipe == "" && len(args) < 2:
				return a.diffBenchmarks(args, marks)
			case len(marks) != 0:
				return kiln.Misuse(errors.New("--benchmark is given twice, with at most one catalogue and without --recipe"))
			case len(args) == 0:
				return kiln.Misuse(kiln.WithHint(errors.New("nothing to compare with"), "name an exported catalogue, a directory or a lock, or give --benchmark twice"))
			}
			return a.diffControls(args, recipe)
		},
	}
	cmd.Flags().StringVar(&recipe, "recipe", "", "say what changes for this `recipe`, a file or folder")
	cmd.Flags().StringArrayVar(&marks, "benchmark", nil, "a `benchmark` to compare, by key or name; twice")
	return cmd
}

func (a *app) diffBenchmarks(args, marks []string) error {
	c, err := a.catalogueOr(args, 0)
	if err != nil {
		return err
	}
	var two [2]catalogue.Benchmark
	for i, word := range marks {
		if two[i], err = c.Benchmark(word); err != nil {
			return kiln.Misuse(err)
		}
	}
	list := c.Contrasts(two[0], two[1])
	if a.json {
		return a.printJSON(struct {
			A       catalogue.Benchmark  `json:"a"`
			B       catalogue.Benchmark  `json:"b"`
			Differs []catalogue.Contrast `json:"differs"`
		}{two[0], two[1], list})
	}
	printContrasts(a.out, two[0], two[1], list)
	return nil
}

func printContrasts(w io.Writer, one, other catalogue.Benchmark, list []catalogue.Contrast) {
	fmt.Fprintf(w, "A  %s %s\nB  %s %s\n", one.Name, one.Version, other.Name, other.Version)
	for _, x := range list {
		fmt.Fprintf(w, "\n%s: %s\n  differs: %s\n", x.Objective, x.Title, strings.Join(x.Differs, ", "))
		for _, side := range []struct {
			name  string
			asked *catalogue.Asked
		}{{"A", x.A}, {"B", x.B}} {
			if side.asked != nil {
				fmt.Fprintf(w, "  %s %s: %s, %s\n", side.name, strings.Join(side.asked.IDs, " "), side.asked.Variant, side.asked.Settings)
			}
		}
	}
	fmt.Fprintf(w, "\n%d objectives differ\n", len(list))
}

func (a *app) diffControls(args []string, recipePath string) error {
	old, err := a.catalogueOr(args, 0)
	if err != nil {
		return err
	}
	next, err := a.catalogueOr(args, 1)
	if err != nil {
		return err
	}
	d := catalogue.Compare(old, next)
	if recipePath != "" {
		r, err := recipe.Load(recipePath, nil)
		if err != nil {
			return kiln.Misuse(err)
		}
		if d.Recipe, err = catalogue.EffectOn(r.Hardening, factory.Chooser(r), old, next); err != nil {
			return kiln.Misuse(err)
		}
	}
	if a.json {
		return a.printJSON(d)
	}
	printDifference(a.out, d)
	return nil
}

// catalogueOr is the catalogue that the argument names, or this program's own where there is none.
func (a *app) catalogueOr(args []string, i int) (*catalogue.Catalogue, error) {
	if i >= len(args) {
		return catalogue.Load()
	}
	if lock, err := lockAt(args[i]); lock != nil || err != nil {
		return a.catalogueOf(lock, err)
	}
	c, err := catalogue.Read(args[i])
	return c, kiln.Misuse(err)
}

// maxCompared bounds a file that is looked at for being a lock.
const maxCompared = 64 << 20

// lockAt reads the file as a lock where it says that it is one.
func lockAt(path string) (*kiln.Lock, error) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxCompared {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, kiln.Misuse(err)
	}
	var head struct {
		Kind string `json:"kind"`
	}
	if json.Unmarshal(data, &head) != nil || head.Kind != "Lock" {
		return nil, nil
	}
	return factory.ReadLock(path)
}

func (a *app) catalogueOf(lock *kiln.Lock, err error) (*catalogue.Catalogue, error) {
	if err != nil {
		return nil, err
	}
	own, err := catalogue.Load()
	if err != nil || lock.Catalogue == own.Digest() {
		return own, err
	}
	if lock.Catalogue == "" {
		return nil, kiln.Misuse(errors.New("the lock does not say with which catalogue it was made"))
	}
	c, err := factory.Catalogue(a.state, lock.Catalogue)
	if errors.Is(err, os.ErrNotExist) {
		return nil, kiln.Misuse(kiln.WithHint(fmt.Errorf("the catalogue %s of the lock is not in the state directory", lock.Catalogue.Short()),
			"run `kiln controls export FILE` with the program that made the lock, and compare with FILE"))
	}
	return c, err
}

func printDifference(w io.Writer, d catalogue.Difference) {
	if d.Old == d.New {
		fmt.Fprintf(w, "the same catalogue, %s\n", d.Old.Short())
	}
	for _, f := range d.Benchmarks {
		fmt.Fprintf(w, "benchmark %s: %s -> %s\n", f.What, orNone(f.Old), orNone(f.New))
	}
	counts := map[string]int{}
	for _, c := range d.Objectives {
		counts[c.Change]++
		fmt.Fprintf(w, "%s %s: %s\n", c.Change, c.Objective, c.Title)
		for _, f := range c.Fields {
			fmt.Fprintf(w, "  %s: %s -> %s\n", f.What, orNone(f.Old), orNone(f.New))
		}
	}
	fmt.Fprintf(w, "%d objectives added, %d removed, %d changed\n", counts[catalogue.Added], counts[catalogue.Removed], counts[catalogue.Changed])
	if d.Recipe != nil {
		printEffect(w, d.Recipe)
	}
}

func printEffect(w io.Writer, e *catalogue.Effect) {
	fmt.Fprintf(w, "\nfor the recipe, profile %s\n", e.Profile)
	if e.Broken != "" {
		fmt.Fprintf(w, "  it cannot be built: %s\n", e.Broken)
		return
	}
	if len(e.Gained)+len(e.Lost)+len(e.Revalued)+len(e.Renumbered)+len(e.Waivers) == 0 {
		fmt.Fprintln(w, "  nothing changes")
	}
	for _, id := range e.Gained {
		fmt.Fprintf(w, "  asks for %s too\n", id)
	}
	for _, id := range e.Lost {
		fmt.Fprintf(w, "  no longer asks for %s\n", id)
	}
	for _, f := range e.Revalued {
		fmt.Fprintf(w, "  %s begins with other values\n    old %s\n    new %s\n", f.What, f.Old, f.New)
	}
	for _, f := range e.Renumbered {
		fmt.Fprintf(w, "  %s: %s -> %s\n", f.What, orNone(f.Old), orNone(f.New))
	}
	for _, n := range e.Waivers {
		fmt.Fprintf(w, "  waiver of %s: %s\n", n.Objective, n.Note)
	}
}
