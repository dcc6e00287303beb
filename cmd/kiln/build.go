package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"kiln"
	"kiln/internal/factory"
	"kiln/internal/line/recipe"
)

const longBuild = `Build takes a recipe along the whole line and publishes the image in the local
store under its name and a channel. It signs with the keys that kiln key new makes once.

RECIPE is a file, or a directory with kiln.yaml. Stations whose inputs did not
change answer from what is kept, so a build that was stopped continues where it
was, and a build with nothing new says so.

With --out DIR it leaves there:
  oci/         the image with its signatures and attestations (OCI layout)
  kiln.lock    every input by digest; build from it again with --lock
  report.html  what was done and why; report.json is the same for programs
  key.pub      the public key of the release signature; keys/ has the other roles'
  verify.txt   the commands with which skopeo, podman and cosign read, run and check it

Exit status: 0 done, 1 broken, 2 misuse, 3 refused (a signature, a test or the policy).`

type buildFlags struct {
	out, lock, policy, channel, until string
	vars                              []string
}

func newBuild(a *app) *cobra.Command {
	var b buildFlags
	cmd := &cobra.Command{
		Use: "build RECIPE", Short: "build, harden, test, sign and publish an image", Long: longBuild,
		Example: "  kiln key new\n  kiln build examples/nginx --out out/nginx\n  kiln build examples/nginx --var port=8443 --channel edge",
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.enter(); err != nil {
				return err
			}
			return a.build(cmd, args[0], b)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&b.out, "out", "o", "", "also write image, lock, report and public keys to this `directory`")
	f.StringVar(&b.lock, "lock", "", "build exactly the inputs of this lock `file` (kiln.lock)")
	f.StringArrayVar(&b.vars, "var", nil, "give a variable of the recipe a value: `name=value` (repeatable)")
	f.StringVar(&b.policy, "policy", "", "admission policy `file` (default: the recipe's, else the built-in one)")
	f.StringVar(&b.channel, "channel", factory.DefaultChannel, "`channel` to publish under")
	f.StringVar(&b.until, "until", "", "stop after this `station`: resolve, verify, assemble, ...")
	return cmd
}

func (a *app) build(cmd *cobra.Command, path string, b buildFlags) error {
	req, err := a.request(path, b)
	if err != nil {
		return err
	}
	report, end := a.listener()
	f, err := a.open(report)
	if err != nil {
		return err
	}
	defer f.Close()
	if !a.json && !a.quiet {
		fmt.Fprintf(a.err, "kiln: building %s\n", req.Recipe.Name)
	}
	built, err := f.Build(cmd.Context(), req)
	end()
	if built != nil && b.out != "" {
		err = errors.Join(err, f.Leave(cmd.Context(), built, factory.Leaving{Dir: b.out, Program: a.self(), Recipe: path}))
	}
	if a.json && built != nil {
		report.Emit(kiln.Event{Type: kiln.EventResult, Build: built.ID, Result: built})
	}
	if err != nil {
		a.explainVerdict(built)
		return err
	}
	return a.printBuilt(built, b)
}

// self is how the user called this program, with the state directory where one
// was named on the command line; the environment names it for the next call too.
func (a *app) self() string {
	if a.stateTyped == "" {
		return os.Args[0]
	}
	return os.Args[0] + " --state " + a.stateTyped
}

func (a *app) request(path string, b buildFlags) (factory.BuildRequest, error) {
	req := factory.BuildRequest{Channel: b.channel, Until: b.until}
	vars, err := parseVars(b.vars)
	if err != nil {
		return req, err
	}
	if req.Recipe, err = recipe.Load(path, vars); err != nil {
		return req, kiln.Misuse(err)
	}
	if b.lock != "" {
		if req.Lock, err = factory.ReadLock(b.lock); err != nil {
			return req, err
		}
	}
	req.Policy, err = factory.ReadPolicy(req.Recipe, b.policy)
	return req, err
}

func (a *app) printBuilt(b *kiln.Build, flags buildFlags) error {
	if a.json || b.Artifact == nil {
		return nil
	}
	if a.quiet {
		fmt.Fprintln(a.out, b.Artifact.Index)
		return nil
	}
	if b.Unchanged {
		fmt.Fprintf(a.out, "Nothing changed: %s is still %s\n", releaseName(b), b.Artifact.Index)
		return nil
	}
	fmt.Fprintf(a.out, "%s %s\n", releaseName(b), b.Artifact.Index)
	if flags.out != "" {
		fmt.Fprintf(a.out, "image   %s/oci\nlock    %s/kiln.lock\nreport  %s/report.html\nkey     %s/key.pub\nverify  %s/verify.txt\n", flags.out, flags.out, flags.out, flags.out, flags.out)
	}
	return nil
}

func releaseName(b *kiln.Build) string {
	if b.Release == nil {
		return b.Name
	}
	return b.Release.Name + "@" + b.Release.Channel
}

// explainVerdict prints a refusal rule by rule.
func (a *app) explainVerdict(b *kiln.Build) {
	if b == nil || b.Verdict == nil || a.json {
		return
	}
	printVerdict(a.err, b.Verdict)
}
