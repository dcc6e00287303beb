package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"kiln"
	"kiln/internal/factory"
)

func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func newShow(a *app) *cobra.Command {
	var out []string
	var auditor auditorFlags
	cmd := &cobra.Command{
		Use: "show REF", Short: "show a build: what is in it and why it was admitted", Args: exactArgs(1),
		Long: "REF is NAME (channel stable), NAME@CHANNEL, a build ID or an image digest. With --out the build's own\n" +
			"hardening result is also written in the formats of `kiln audit`, for auditors and their tools.",
		Example: "  kiln show nginx\n  kiln show nginx@stable --out xccdf=nginx.xccdf.xml --out html=nginx.html",
		RunE: func(cmd *cobra.Command, args []string) error {
			outputs, err := outputs(out)
			if err == nil {
				err = auditor.read()
			}
			if err != nil {
				return err
			}
			return a.with(func(f *factory.Factory) error { return a.show(cmd.Context(), f, args[0], outputs, &auditor) })
		},
	}
	cmd.Flags().StringArrayVarP(&out, "out", "o", nil, "also write the hardening result in every format into this `directory`, or one: FORMAT=FILE (repeatable)")
	auditor.flags(cmd.Flags())
	return cmd
}

func (a *app) show(ctx context.Context, f *factory.Factory, ref string, outputs []output, auditor *auditorFlags) error {
	b, err := f.Find(ctx, ref)
	if err != nil {
		return err
	}
	if len(outputs) > 0 {
		found, err := f.Assessment(b)
		if err != nil {
			return err
		}
		found.Version = version
		auditor.apply(found)
		if err := writeOutputs(outputs, found); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(b)
	}
	printBuild(a.out, b)
	return nil
}

func printBuild(w io.Writer, b *kiln.Build) {
	fmt.Fprintf(w, "name       %s\nbuild      %s\n", releaseName(b), b.ID)
	if a := b.Artifact; a != nil {
		fmt.Fprintf(w, "digest     %s\nplatform   %s\nsize       %.1f MiB in %d layers, %.1f MiB unpacked, %d files\n",
			a.Index, a.Platform, mib(a.Size), len(a.Layers), mib(a.Unpacked), a.Files)
	}
	if b.Lock != nil {
		fmt.Fprintf(w, "inputs     %d packages from %d suites", len(b.Lock.Packages), len(b.Lock.Archives))
		if b.Lock.Image != nil {
			fmt.Fprintf(w, " on image %s", b.Lock.Image.Digest.Short())
		}
		fmt.Fprintln(w)
	}
	if h := b.Hardening; h != nil {
		fmt.Fprintf(w, "hardening  %s: %d hold, %d do not, %d waived, %d unknown, %d not applicable\n", h.Profile,
			h.Count(kiln.Satisfied), h.Count(kiln.NotSatisfied), h.Count(kiln.Waived), h.Count(kiln.Unknown), h.Count(kiln.NotApplicable))
	}
	if b.Trial != nil {
		fmt.Fprintf(w, "tests      %s, %d run\n", b.Trial.Result, len(b.Trial.Tests))
	}
	if b.Bill != nil {
		fmt.Fprintf(w, "contents   %d components, %d unaccounted files\n", len(b.Bill.Components), len(b.Bill.Unowned))
	}
	for _, s := range b.Statements {
		fmt.Fprintf(w, "signed     %-20s %s\n", s.Role, s.PredicateType)
	}
	if b.Verdict != nil {
		printVerdict(w, b.Verdict)
	}
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

func printVerdict(w io.Writer, v *kiln.Verdict) {
	fmt.Fprintf(w, "verdict    %s (%s, %s)\n", v.Decision, v.Rule, v.Mode)
	for _, c := range v.Checks {
		fmt.Fprintf(w, "  %-8s %s", c.Decision, c.Rule)
		if c.Decision != kiln.Allow {
			fmt.Fprintf(w, ": expected %s, found %s", c.Expected, c.Found)
		}
		fmt.Fprintln(w)
		if c.Remedy != "" && c.Decision != kiln.Allow {
			fmt.Fprintf(w, "           %s\n", c.Remedy)
		}
	}
}

func newLs(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "ls [NAME]", Short: "list what is published, or the history of one name", Args: rangeArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(f *factory.Factory) error {
				list, err := f.Releases(cmd.Context())
				if len(args) == 1 {
					list, err = f.History(cmd.Context(), args[0])
				}
				if err != nil {
					return err
				}
				return a.printReleases(list)
			})
		},
	}
}

func (a *app) printReleases(list []*kiln.Release) error {
	if a.json {
		return a.printJSON(append([]*kiln.Release{}, list...))
	}
	for _, r := range list {
		fmt.Fprintf(a.out, "%-30s %s  %s  build %s\n", r.Name+"@"+r.Channel, r.Digest.Short(), time.Unix(r.Time, 0).UTC().Format(time.DateTime), r.Build)
	}
	return nil
}

func newDiff(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "diff A B", Short: "what changed between two builds: packages, files, controls, size", Args: exactArgs(2),
		Long: "A and B are each NAME, NAME@CHANNEL, a build ID or an image digest. Exit status 0 whether or not they differ.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(f *factory.Factory) error {
				d, err := f.Diff(cmd.Context(), args[0], args[1])
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(d)
				}
				return d.Text(a.out)
			})
		},
	}
}
