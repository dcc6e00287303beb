package factory

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"kiln"
	"kiln/internal/store"
)

// Releases lists what every name and channel means now.
func (f *Factory) Releases(ctx context.Context) ([]*kiln.Release, error) {
	return f.records.Releases(ctx)
}

// History lists every release of a name, newest first.
func (f *Factory) History(ctx context.Context, name string) ([]*kiln.Release, error) {
	return f.records.History(ctx, name)
}

// Find returns the build that REF means: NAME, NAME@CHANNEL, a build ID, or an image digest.
func (f *Factory) Find(ctx context.Context, ref string) (*kiln.Build, error) {
	if d, err := kiln.ParseDigest(ref); err == nil {
		return f.found(ctx, ref, string(d))
	}
	name, channel, given := strings.Cut(ref, "@")
	if !given {
		channel = DefaultChannel
	}
	r, err := f.records.Current(ctx, name, channel)
	if err == nil {
		return f.found(ctx, ref, string(r.Digest))
	}
	if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	return f.found(ctx, ref, ref)
}

func (f *Factory) found(ctx context.Context, ref, key string) (*kiln.Build, error) {
	b, err := f.records.Build(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, kiln.Misuse(kiln.WithHint(fmt.Errorf("%s is no name, name@channel, build or digest known here", ref), "`kiln ls` lists what there is"))
	}
	return b, err
}

// DefaultChannel is where builds are published and looked for when no channel is named.
const DefaultChannel = "stable"
