package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"kiln/internal/factory"
)

func newKey(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "signing keys: one a role"}
	create := &cobra.Command{
		Use: "new [ROLE...]", Short: "make signing keys (default: every role that has none)",
		Long: "New makes ECDSA P-256 keys, encrypted with a pass phrase in the format that cosign reads.\nRoles: builder/workstation, scanner, tester, gate, release. Only release means \"good\".\nA key that exists is never overwritten.",
		RunE: func(_ *cobra.Command, args []string) error {
			return a.with(func(f *factory.Factory) error {
				made, err := f.NewKeys(args...)
				if err != nil {
					return err
				}
				return a.printKeys(made)
			})
		},
	}
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "list the keys", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.with(func(f *factory.Factory) error {
				list, err := f.Keys()
				if err != nil {
					return err
				}
				return a.printKeys(list)
			})
		},
	}
	cmd.AddCommand(create, list)
	return cmd
}

func (a *app) printKeys(list []factory.KeyInfo) error {
	if a.json {
		return a.printJSON(list)
	}
	if len(list) == 0 && !a.quiet {
		fmt.Fprintln(a.err, "no keys were made: every role has one, or none was asked for; see `kiln key list`")
	}
	for _, k := range list {
		fmt.Fprintf(a.out, "%-20s %s  %s\n", k.Role, k.ID.Short(), k.Public)
	}
	return nil
}
