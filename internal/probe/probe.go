// Package probe asks programs for their effective configuration, such as sshd -T,
// within bounds of time, output and means.
package probe

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"kiln/internal/capture"
	"kiln/internal/sandbox"
)

// Bounds on one program.
const (
	timeout   = 10 * time.Second
	maxOutput = 4 << 20 // bytes
	maxMemory = 512 << 20
	maxPIDs   = 64
)

var environment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}

// Host runs a program of the running system, as it is, and returns what it prints.
// A program that fails, or prints more than 4 MiB, is an error: half an answer is none.
func Host(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out := &capture.Head{Max: maxOutput}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env, cmd.Stdout, cmd.WaitDelay = environment, out, time.Second
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("running %s: %w", strings.Join(args, " "), err)
	}
	return whole(out, args)
}

// Tree is Host for a program of the tree in dir, which runs in the sandbox on a
// copy-on-write view, without a network.
func Tree(ctx context.Context, dir string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out := &capture.Head{Max: maxOutput}
	res, err := sandbox.Run(ctx, sandbox.Spec{
		Layers: []string{dir}, Args: args, Env: environment, Stdout: out, NoNewPrivileges: true, Memory: maxMemory, PIDs: maxPIDs,
	})
	if err != nil {
		return nil, fmt.Errorf("running %s: %w", strings.Join(args, " "), err)
	}
	if res.ExitCode != 0 {
		return nil, fmt.Errorf("running %s: it ended with status %d", strings.Join(args, " "), res.ExitCode)
	}
	return whole(out, args)
}

func whole(out *capture.Head, args []string) ([]byte, error) {
	if out.Lost {
		return nil, fmt.Errorf("running %s: it printed more than %d bytes", strings.Join(args, " "), maxOutput)
	}
	return out.Bytes(), nil
}
