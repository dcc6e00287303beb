// Command kiln is the hardened image factory.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"kiln/internal/sandbox"
)

func main() {
	sandbox.Init()
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{out: os.Stdout, err: os.Stderr, in: os.Stdin}
	root := newRoot(a)
	root.SetArgs(os.Args[1:])
	if err := root.ExecuteContext(ctx); err != nil {
		return a.fail(err)
	}
	return 0
}

// version is what this program calls itself; releases set it when linking.
var version = "0.1.0-dev"

func printVersion(a *app) { fmt.Fprintln(a.out, "kiln "+version) }
