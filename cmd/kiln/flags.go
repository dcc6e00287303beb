package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"kiln"
)

// setFlags gives flags that the command line left out their value from the
// environment (KILN_NAME), else from the configuration file. An unknown name in the file is misuse.
func setFlags(cmd *cobra.Command, file map[string]any) error {
	known := map[string]bool{}
	for _, c := range append([]*cobra.Command{cmd.Root()}, allCommands(cmd.Root())...) {
		c.Flags().VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
		c.PersistentFlags().VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
	}
	for name := range file {
		if !known[name] {
			return kiln.Misuse(fmt.Errorf("%s: no flag is called %q", configFile, name))
		}
	}
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || failed != nil || f.Name == "help" || f.Name == "version" {
			return
		}
		variable := "KILN_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		values, from := []any{os.Getenv(variable)}, variable
		if values[0] == "" {
			values, from = listOf(file[f.Name]), configFile
		}
		for _, v := range values {
			if err := cmd.Flags().Set(f.Name, fmt.Sprint(v)); err != nil {
				failed = kiln.Misuse(fmt.Errorf("%s: --%s: %w", from, f.Name, err))
			}
		}
	})
	return failed
}

// listOf is a value of the file as a list: one that repeats a flag, or of one value.
func listOf(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

func allCommands(c *cobra.Command) []*cobra.Command {
	var list []*cobra.Command
	for _, sub := range c.Commands() {
		list = append(append(list, sub), allCommands(sub)...)
	}
	return list
}
