package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"kiln"
	"kiln/internal/factory"
	"kiln/internal/sandbox"
)

// app is the command line's own state: streams and global flags.
type app struct {
	out, err io.Writer
	in       *os.File

	state, passphraseFile string
	stateTyped            string // state, as the command line says it
	json, quiet, noColor  bool
}

const longRoot = `Kiln builds hardened images from signed sources.

One command takes a recipe along the line
  resolve, verify, assemble, harden, trial, scan, pack, attest, admit, publish
and leaves a minimal, tested, signed OCI image with the evidence attached.

Exit status: 0 done, 1 broken, 2 misuse, 3 refused by policy or found something.
Every flag may also be set in the environment as KILN_<FLAG>, or in kiln.config.yaml.`

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use: "kiln", Short: "hardened image factory", Long: longRoot,
		SilenceErrors: true, SilenceUsage: true, Version: version,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.configure(cmd) },
	}
	f := root.PersistentFlags()
	f.StringVar(&a.state, "state", "", "state `directory` (default /var/lib/kiln as root, else the XDG data home)")
	f.StringVar(&a.passphraseFile, "passphrase-file", "", "`file` with the pass phrase of the signing keys (else KILN_KEY_PASSPHRASE, else asked for)")
	f.BoolVar(&a.json, "json", false, "machine-readable output: a build's events, one JSON object a line; documents otherwise")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "print results and errors only")
	f.BoolVar(&a.noColor, "no-color", false, "no colours (also NO_COLOR)")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return kiln.Misuse(kiln.WithHint(err, "see `"+cmd.CommandPath()+" --help`"))
	})
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.AddCommand(newInit(a), newBuild(a), newRecipe(a), newLock(a), newVerify(a), newKey(a), newShow(a), newLs(a), newDiff(a), newPush(a), newPolicy(a), newControls(a), newAudit(a), newVersion(a))
	refuseUnknown(root)
	return root
}

// refuseUnknown makes a word that is no command misuse below groups as well,
// where the library would print the help and report success.
func refuseUnknown(parent *cobra.Command) {
	for _, group := range parent.Commands() {
		refuseUnknown(group)
		if !group.HasSubCommands() || group.Runnable() {
			continue
		}
		group.DisableFlagsInUseLine = true
		group.SuggestionsMinimumDistance = 2
		group.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			hint := "see `" + cmd.CommandPath() + " --help`"
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
				hint = "did you mean `" + cmd.CommandPath() + " " + like[0] + "`?"
			}
			return kiln.Misuse(kiln.WithHint(fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath()), hint))
		}
	}
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{Use: "version", Short: "print the version", Args: noArgs, Run: func(*cobra.Command, []string) { printVersion(a) }}
}

func noArgs(cmd *cobra.Command, args []string) error { return exactArgs(0)(cmd, args) }

// exactArgs refuses another number of arguments as misuse.
func exactArgs(n int) cobra.PositionalArgs { return rangeArgs(n, n) }

func rangeArgs(low, high int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low || len(args) > high {
			return kiln.Misuse(kiln.WithHint(fmt.Errorf("%s: %d arguments given", cmd.CommandPath(), len(args)), "usage: "+cmd.UseLine()))
		}
		return nil
	}
}

// configFile is read from the working directory: names are those of the flags.
const configFile = "kiln.config.yaml"

// configure fills flags that were not given from KILN_<FLAG> and the configuration file.
func (a *app) configure(cmd *cobra.Command) error {
	a.stateTyped = a.state
	file := map[string]any{}
	data, err := os.ReadFile(configFile)
	if err == nil {
		err = yaml.Unmarshal(data, &file)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return kiln.Misuse(fmt.Errorf("reading %s: %w", configFile, err))
	}
	if err := setFlags(cmd, file); err != nil {
		return err
	}
	if a.state == "" {
		a.state = defaultState()
	}
	abs, err := filepath.Abs(a.state)
	a.state = abs
	return err
}

func defaultState() string {
	if os.Geteuid() == 0 {
		return "/var/lib/kiln"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "kiln")
	}
	home, _ := os.UserHomeDir()
	return filepath.Join(home, ".local", "share", "kiln")
}

// enter puts the process where trees can be mounted without a trace. What
// depends on who called is fixed before, since the user is root inside.
func (a *app) enter() error {
	if err := os.Setenv("KILN_STATE", a.state); err != nil {
		return err
	}
	return sandbox.Enter()
}

func (a *app) open(report kiln.Report) (*factory.Factory, error) {
	return factory.Open(factory.Config{State: a.state, Passphrase: a.passphrase, Report: report})
}

// with opens the state directory for the time of fn.
func (a *app) with(fn func(*factory.Factory) error) error {
	f, err := a.open(nil)
	if err != nil {
		return err
	}
	return errors.Join(fn(f), f.Close())
}

// passphrase comes from the file named, the environment, or the terminal.
func (a *app) passphrase() ([]byte, error) {
	if a.passphraseFile != "" {
		data, err := os.ReadFile(a.passphraseFile)
		if err != nil {
			return nil, kiln.Misuse(fmt.Errorf("reading pass phrase: %w", err))
		}
		return trimNewline(data), nil
	}
	if p, ok := os.LookupEnv("KILN_KEY_PASSPHRASE"); ok {
		return []byte(p), nil
	}
	if !term.IsTerminal(int(a.in.Fd())) {
		return nil, kiln.Misuse(kiln.WithHint(errors.New("the signing keys need a pass phrase and there is no terminal to ask on"), "give --passphrase-file FILE or set KILN_KEY_PASSPHRASE"))
	}
	fmt.Fprint(a.err, "Pass phrase of the signing keys: ")
	p, err := term.ReadPassword(int(a.in.Fd()))
	fmt.Fprintln(a.err)
	return p, err
}

func trimNewline(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	return b
}
