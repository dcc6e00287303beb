package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"kiln/internal/factory"
)

func newPolicy(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "admission policies"}
	cmd.AddCommand(&cobra.Command{
		Use: "check FILE", Short: "check a policy file and name what looks wrong", Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := factory.LoadPolicy(args[0])
			if err != nil {
				return err
			}
			for _, w := range p.Warnings {
				fmt.Fprintln(a.out, "warning: "+w)
			}
			fmt.Fprintf(a.out, "%s: policy is well-formed\n", args[0])
			return nil
		},
	}, &cobra.Command{
		Use: "default", Short: "print the built-in policy, to start from", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.out.Write(factory.DefaultPolicy())
			return err
		},
	})
	cmd.AddCommand(&cobra.Command{
		Use: "schema", Short: "print the JSON Schema of policy files, for editors", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.out.Write(factory.PolicySchema())
			return err
		},
	})
	return cmd
}
