package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"kiln"
	"kiln/internal/factory"
	"kiln/internal/line/recipe"
)

func newRecipe(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "recipe", Short: "check and explain recipes"}
	var vars []string
	load := func(path string) (*kiln.Recipe, error) {
		given, err := parseVars(vars)
		if err != nil {
			return nil, err
		}
		r, err := recipe.Load(path, given)
		return r, kiln.Misuse(err)
	}
	check := &cobra.Command{
		Use: "check RECIPE", Short: "check a recipe, its policy and the files it names", Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := load(args[0])
			if err != nil {
				return err
			}
			if _, err := factory.ReadPolicy(r, ""); err != nil {
				return err
			}
			if !a.quiet {
				fmt.Fprintf(a.out, "%s: recipe %s is well-formed\n", args[0], r.Name)
			}
			return nil
		},
	}
	explain := &cobra.Command{
		Use: "explain RECIPE", Short: "say in words what a recipe does", Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := load(args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(r)
			}
			return recipe.Explain(a.out, r)
		},
	}
	schema := &cobra.Command{
		Use: "schema", Short: "print the JSON Schema of kiln.yaml, for editors", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.out.Write(recipe.Schema())
			return err
		},
	}
	for _, c := range []*cobra.Command{check, explain} {
		c.Flags().StringArrayVar(&vars, "var", nil, "give a variable a value: `name=value` (repeatable)")
	}
	cmd.AddCommand(check, explain, schema)
	return cmd
}
