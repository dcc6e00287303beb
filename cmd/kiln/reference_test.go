package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestTheReferenceNamesEveryCommandAndFlag compares docs/reference/cli.md with
// the program, both ways.
func TestTheReferenceNamesEveryCommandAndFlag(t *testing.T) {
	text, err := os.ReadFile("../../docs/reference/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	root := newRoot(&app{out: io.Discard, err: io.Discard})
	commands, flags := map[string]bool{}, map[string]bool{"version": true, "help": true}
	note := func(f *pflag.Flag) { flags[f.Name] = true }
	for _, c := range append(allCommands(root), root) {
		c.Flags().VisitAll(note)
		c.PersistentFlags().VisitAll(note)
		if c.Runnable() && c.Name() != "help" && !isGroup(c) && c != root {
			commands[c.CommandPath()] = true
		}
	}
	documented := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if usage, ok := strings.CutPrefix(line, "| `kiln "); ok {
			usage, _, _ = strings.Cut(usage, "`")
			documented[commandOf("kiln "+usage)] = true
		}
	}
	for c := range commands {
		if !documented[c] {
			t.Errorf("the reference does not name %s", c)
		}
	}
	for c := range documented {
		if !commands[c] {
			t.Errorf("the reference names %s, which there is not", c)
		}
	}
	for f := range flags {
		if f != "help" && !strings.Contains(string(text), "`--"+f) {
			t.Errorf("the reference does not name --%s", f)
		}
	}
}

// isGroup tells commands that only hold others from `lock`, which does both.
func isGroup(c *cobra.Command) bool { return c.HasSubCommands() && c.Name() != "lock" }

// commandOf drops the arguments, which are in capitals or brackets.
func commandOf(usage string) string {
	var words []string
	for _, w := range strings.Fields(usage) {
		if strings.ToLower(w) == w && !strings.HasPrefix(w, "[") {
			words = append(words, w)
		}
	}
	return strings.Join(words, " ")
}
