package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kiln"
	"kiln/internal/factory"
)

func newVerify(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "verify", Short: "check evidence again"}
	cmd.AddCommand(&cobra.Command{
		Use: "lock FILE", Short: "re-check a lock offline: signature, index, package", Args: exactArgs(1),
		Long: "Lock re-checks every input of a lock from the cache, without the network: the signature over each suite,\nthat the signed index names each package with its hash, and the bytes of each package.\nExit status 3 when anything fails.",
		RunE: func(cmd *cobra.Command, args []string) error {
			lock, err := factory.ReadLock(args[0])
			if err != nil {
				return err
			}
			return a.with(func(f *factory.Factory) error {
				evidence, err := f.VerifyLock(cmd.Context(), lock)
				if err != nil {
					return err
				}
				return a.printEvidence(lock, evidence)
			})
		},
	})
	return cmd
}

func (a *app) printEvidence(lock *kiln.Lock, evidence []kiln.Evidence) error {
	if a.json {
		return a.printJSON(evidence)
	}
	for _, e := range evidence {
		signed := time.Unix(e.SignedAt, 0).UTC().Format(time.RFC1123)
		fmt.Fprintf(a.out, "ok  %s  signed %s\n      by %s\n", e.Subject.Name, signed, strings.Join(e.Signers, "\n         "))
		if e.Exception != nil {
			fmt.Fprintf(a.out, "      exception: %s (%s, until %s)\n", e.Exception.Reason, e.Exception.Owner, e.Exception.Expires)
		}
	}
	fmt.Fprintf(a.out, "%d packages reached by these signatures\n", len(lock.Packages))
	return nil
}
