package factory

import (
	"context"
	"os"

	"kiln/internal/line/harden"
	"kiln/internal/probe"
	"kiln/internal/target"
)

// prober runs programs of the target: on the host as they are, elsewhere in the
// sandbox. Nil where neither is possible.
func prober(t *target.Target) harden.Prober {
	if t.Kind == target.Host {
		return probe.Host
	}
	if os.Geteuid() != 0 { // a sandbox of another user's would show other owners than the tree has
		return nil
	}
	return func(ctx context.Context, args ...string) ([]byte, error) { return probe.Tree(ctx, t.Dir, args...) }
}
