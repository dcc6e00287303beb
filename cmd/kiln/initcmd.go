package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"kiln"
	"kiln/internal/line/recipe"
)

func newInit(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "init [DIRECTORY]", Short: "write a commented recipe to start from", Args: rangeArgs(0, 1),
		Long: "Init writes DIRECTORY/kiln.yaml (default: here), a commented recipe that builds as it is.\nA file that exists is never overwritten.",
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			return a.init(dir)
		},
	}
}

func (a *app) init(dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := recipe.Init(&text, filepath.Base(abs)); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(dir, "kiln.yaml")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if os.IsExist(err) {
		return kiln.Misuse(fmt.Errorf("%s exists already; it is left as it is", path))
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(text.Bytes()); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "wrote %s\nnext  kiln recipe explain %s   what a build will do\n      kiln key new            once: the keys that sign\n      kiln build %s\n", path, dir, dir)
	return f.Close()
}
