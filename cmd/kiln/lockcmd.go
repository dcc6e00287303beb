package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"kiln"
	"kiln/internal/factory"
	"kiln/internal/line/recipe"
)

func newLock(a *app) *cobra.Command {
	var out string
	var vars []string
	cmd := &cobra.Command{
		Use: "lock RECIPE", Short: "resolve a recipe: every input by digest", Args: exactArgs(1),
		Long:    "Lock writes kiln.lock: exact version, size, SHA-256 and archive of every package, without building.\n`kiln build RECIPE --lock FILE` then builds exactly that.",
		Example: "  kiln lock examples/nginx --out nginx.lock\n  kiln lock export nginx.lock --out nginx.tar\n  kiln lock import nginx.tar --out nginx.lock",
		RunE: func(cmd *cobra.Command, args []string) error {
			given, err := parseVars(vars)
			if err != nil {
				return err
			}
			r, err := recipe.Load(args[0], given)
			if err != nil {
				return kiln.Misuse(err)
			}
			return a.with(func(f *factory.Factory) error {
				lock, err := f.Lock(cmd.Context(), r)
				if err != nil {
					return err
				}
				return a.writeLock(lock, out)
			})
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "kiln.lock", "lock `file` to write")
	cmd.Flags().StringArrayVar(&vars, "var", nil, "give a variable a value: `name=value` (repeatable)")
	cmd.AddCommand(newLockExport(a), newLockImport(a))
	return cmd
}

func (a *app) writeLock(lock *kiln.Lock, out string) error {
	if err := factory.WriteLock(lock, out); err != nil {
		return err
	}
	if !a.quiet {
		fmt.Fprintf(a.out, "%s: %d packages from %d suites\n", out, len(lock.Packages), len(lock.Archives))
	}
	return nil
}

func newLockExport(a *app) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "export LOCK --out BUNDLE", Short: "write a lock and all its inputs as one file", Args: exactArgs(1),
		Long: "Export writes a tar with the lock, the signed indexes, the keyrings and every package:\nwhat is needed to build the same image when the archive has moved on, or without a network.",
		RunE: func(cmd *cobra.Command, args []string) error {
			lock, err := factory.ReadLock(args[0])
			if err != nil {
				return err
			}
			return a.with(func(f *factory.Factory) error {
				if err := f.ExportLock(cmd.Context(), lock, out); err != nil {
					return err
				}
				fmt.Fprintln(a.out, out)
				return nil
			})
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "kiln-bundle.tar", "bundle `file` to write")
	return cmd
}

func newLockImport(a *app) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "import BUNDLE", Short: "take a bundle's inputs into the cache and write its lock", Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.with(func(f *factory.Factory) error {
				lock, err := f.ImportLock(args[0])
				if err != nil {
					return err
				}
				return a.writeLock(lock, out)
			})
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "kiln.lock", "lock `file` to write")
	return cmd
}
