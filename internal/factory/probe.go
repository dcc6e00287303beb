package factory

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"kiln/internal/line/harden"
	"kiln/internal/sandbox"
	"kiln/internal/target"
)

// Bounds on a program that is asked for an effective value.
const (
	probeTime   = 10 * time.Second
	probeOutput = 4 << 20
)

var probeEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}

// prober runs programs of the target: on the host as they are, elsewhere in the
// sandbox, on a copy-on-write view, without a network. Nil where neither is possible.
func prober(t *target.Target) harden.Prober {
	if t.Kind == target.Host {
		return probeHost
	}
	if os.Geteuid() != 0 { // a sandbox of another user's would show other owners than the tree has
		return nil
	}
	return func(ctx context.Context, args ...string) ([]byte, error) { return probeTree(ctx, t.Dir, args) }
}

func probeHost(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env, cmd.Stdout, cmd.WaitDelay = probeEnv, &limited{&out, probeOutput}, time.Second
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("running %s: %w", strings.Join(args, " "), err)
	}
	return out.Bytes(), nil
}

func probeTree(ctx context.Context, dir string, args []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	var out bytes.Buffer
	res, err := sandbox.Run(ctx, sandbox.Spec{
		Layers: []string{dir}, Args: args, Env: probeEnv, Stdout: &limited{&out, probeOutput}, NoNewPrivileges: true,
		Memory: 512 << 20, PIDs: 64,
	})
	if err != nil {
		return nil, err
	}
	if res.ExitCode != 0 {
		return nil, fmt.Errorf("%s ended with status %d", strings.Join(args, " "), res.ExitCode)
	}
	return out.Bytes(), nil
}

// limited keeps the first max bytes and drops the rest.
type limited struct {
	buf *bytes.Buffer
	max int
}

func (l *limited) Write(p []byte) (int, error) {
	if room := l.max - l.buf.Len(); room > 0 {
		l.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
