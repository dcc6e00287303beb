package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"kiln"
	"kiln/internal/factory"
)

const longApply = `Apply makes the objectives of one or more profiles hold on a root file system,
in place and by the code that ` + "`kiln build`" + ` uses, and says what it changed. It is
for trying profiles, and for trees that other tools build. Packages that an
objective does not allow are removed; those that one asks for are added only
with --add-packages, from this machine's own signed archives, and the tree must
be of the machine's release.

There is no way back but a copy: work on one. The running system (/), and a
directory in which other file systems are mounted, are refused. Applying the
same profiles again changes nothing.`

func newControlsApply(a *app) *cobra.Command {
	var req factory.ApplyRequest
	var waivers string
	cmd := &cobra.Command{
		Use: "apply DIRECTORY", Short: "make profiles hold on a root file system, in place", Long: longApply,
		Example: "  cp -a tree try && kiln controls apply try --profile cis-l2 --profile stig-cat1\n  kiln audit try --profile cis-l2 --profile stig-cat1",
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			req.Dir = args[0]
			if err := checkScope(req.Scope); err != nil {
				return err
			}
			if waivers != "" {
				if req.Waivers, err = factory.ReadWaivers(waivers); err != nil {
					return err
				}
			}
			if req.AddPackages { // their scripts run in trees that are mounted
				if err := a.enter(); err != nil {
					return err
				}
			}
			result, err := factory.ApplyControls(cmd.Context(), factory.Config{State: a.state, Report: a.warningsOnly()}, req)
			if err != nil {
				return err
			}
			return a.printApplied(result)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&req.Profiles, "profile", nil, "`profile` to apply, several by commas (repeatable; default container-baseline, on machines cis-l1)")
	f.StringVar(&req.Scope, "scope", "", "treat it as a `container|machine` (default: what the profiles are for, or what it looks like)")
	f.StringVar(&waivers, "waivers", "", "`file` with exceptions: a recipe, or a list under waivers:")
	f.BoolVar(&req.AddPackages, "add-packages", false, "first install the packages that objectives ask for, from this machine's archives")
	f.BoolVar(&req.AtRest, "at-rest", false, "run none of the tree's programs")
	return cmd
}

func checkScope(scope string) error {
	switch scope {
	case "", "container", "machine":
		return nil
	}
	return kiln.Misuse(fmt.Errorf("--scope is container or machine, not %q", scope))
}

func (a *app) printApplied(h *kiln.HardeningResult) error {
	if a.json {
		return a.printJSON(h)
	}
	var w strings.Builder
	if !a.quiet {
		for _, o := range h.Outcomes {
			printChange(&w, o)
		}
		if len(h.Added) > 0 {
			fmt.Fprintf(&w, "added packages: %s\n", flat(strings.Join(h.Added, " "), maxRemoved))
		}
		if len(h.Removed) > 0 {
			fmt.Fprintf(&w, "removed packages: %s\n", flat(strings.Join(h.Removed, " "), maxRemoved))
		}
		for _, o := range h.Outcomes {
			if o.State == kiln.NotSatisfied || o.State == kiln.Unknown {
				fmt.Fprintf(&w, "%-9s %-30s %s\n", stateWord(o.State), o.Objective, flat(o.Reason, maxCell))
			}
		}
	}
	fmt.Fprintf(&w, "%s, %s: %d met, %d not, %d unknown, %d waived, %d not applicable\n", flat(h.Target, maxCell), h.Profile, h.Count(kiln.Satisfied),
		h.Count(kiln.NotSatisfied), h.Count(kiln.Unknown), h.Count(kiln.Waived), h.Count(kiln.NotApplicable))
	_, err := io.WriteString(a.out, w.String())
	return err
}

// maxRemoved bounds the list of removed packages, in characters.
const maxRemoved = 4000

// printChange names what was changed for an objective, the first few places.
func printChange(w io.Writer, o kiln.Outcome) {
	if len(o.Changed) == 0 {
		return
	}
	const most = 4
	places := make([]string, 0, most+1)
	for i, p := range o.Changed {
		if i == most {
			places = append(places, fmt.Sprintf("and %d more", len(o.Changed)-most))
			break
		}
		places = append(places, "/"+p)
	}
	fmt.Fprintf(w, "changed   %-30s %s\n", o.Objective, flat(strings.Join(places, ", "), maxCell))
}
