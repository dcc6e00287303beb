package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"kiln/internal/factory"
)

func newPush(a *app) *cobra.Command {
	var plain bool
	cmd := &cobra.Command{
		Use: "push REF TARGET", Short: "copy a published image with all its signatures to a registry", Args: exactArgs(2),
		Long:    "REF is NAME, NAME@CHANNEL, a build ID or an image digest of the local store; only admitted images can be pushed.\nTARGET is a registry reference. Credentials come from the usual docker or podman configuration.",
		Example: "  kiln push nginx registry.example.com/base/nginx:stable",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(f *factory.Factory) error {
				digest, err := f.Push(cmd.Context(), args[0], args[1], plain)
				if err != nil {
					return err
				}
				fmt.Fprintf(a.out, "%s@%s\n", args[1], digest)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&plain, "plain-http", false, "speak http to a registry that has no TLS (loopback ones may always)")
	return cmd
}
