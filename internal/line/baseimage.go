package line

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"kiln"
	"kiln/internal/image"
)

// imageOptions say how base images are found: relative to the recipe, and NAME@CHANNEL in the local store.
func (l *Line) imageOptions(ctx context.Context, r *kiln.Recipe) []image.Option {
	return []image.Option{
		image.RelativeTo(r.Dir),
		image.Store(func(name, channel string) (string, kiln.Digest, error) {
			release, err := l.Records.Current(ctx, name, channel)
			if err != nil {
				return "", "", err
			}
			made, err := l.Records.Build(ctx, string(release.Digest))
			if err != nil {
				return "", "", err
			}
			if err := l.CheckServable(made); err != nil { // a channel keeps its image when a later decision denies it
				return "", "", kiln.Refuse(err)
			}
			return l.Layout.Dir(), release.Digest, nil
		}),
	}
}

func (l *Line) resolveImage(r *kiln.Recipe) func(context.Context, kiln.Base, string) (kiln.LockedImage, error) {
	return func(ctx context.Context, base kiln.Base, platform string) (kiln.LockedImage, error) {
		return image.Resolve(ctx, base, platform, l.imageOptions(ctx, r)...)
	}
}

// unpackBase puts the base image's files into dir and returns its configuration.
func (j *journey) unpackBase(ctx context.Context, dir string) (*kiln.ImageConfig, error) {
	cache, err := image.CreateLayout(j.path("cache", "images"))
	if err != nil {
		return nil, err
	}
	r := j.req.Recipe
	desc, err := image.Fetch(ctx, r.Base, *j.build.Lock.Image, cache, j.imageOptions(ctx, r)...)
	if err != nil {
		return nil, err
	}
	out, err := image.Unpack(ctx, cache, desc, dir, image.Limits{})
	if err != nil {
		return nil, err
	}
	if locked := j.build.Lock.Image; out.Created != locked.Created {
		return nil, kiln.Refuse(fmt.Errorf("the lock dates base image %s to %d, its configuration to %d; make the lock again with `kiln lock`", locked.Digest.Short(), locked.Created, out.Created))
	}
	for _, s := range out.Skipped {
		j.Report.Warn(kiln.StationAssemble, "left out of the base image: "+s)
	}
	return baseConfig(out), nil
}

// baseConfig is what a recipe inherits: everything but labels, and no history.
func baseConfig(from *image.Unpacked) *kiln.ImageConfig {
	c := from.ImageConfig()
	c.Labels, c.History = nil, nil
	return c
}

// inherit fills what the recipe leaves open from the base image, as a
// Dockerfile's FROM does. An entrypoint of the recipe's own drops the base's command.
func inherit(r *kiln.Recipe, base *kiln.ImageConfig) *kiln.Recipe {
	if base == nil {
		return r
	}
	out := *r
	if len(r.Entrypoint) == 0 {
		out.Entrypoint = base.Entrypoint
		if len(r.Command) == 0 {
			out.Command = base.Command
		}
	}
	for _, f := range []struct{ mine, theirs *string }{{&out.User, &base.User}, {&out.WorkDir, &base.WorkDir}, {&out.StopSignal, &base.StopSignal}} {
		if *f.mine == "" {
			*f.mine = *f.theirs
		}
	}
	if len(r.Ports) == 0 {
		out.Ports = base.Ports
	}
	if len(r.Volumes) == 0 {
		out.Volumes = base.Volumes
	}
	if r.Healthcheck == nil {
		out.Healthcheck = base.Healthcheck
	}
	out.Env = map[string]string{}
	for _, kv := range base.Env {
		name, value, _ := strings.Cut(kv, "=")
		out.Env[name] = value
	}
	maps.Copy(out.Env, r.Env)
	return &out
}

// wholeImageOnly refuses packages on top of an image: there is no archive to take them from.
func wholeImageOnly(r *kiln.Recipe) error {
	if r.Base.Apt == nil && len(r.Packages) > 0 {
		return kiln.Misuse(fmt.Errorf("packages cannot be added to an image base: an image names no signed archive; use base.apt, or put what is needed into files or steps"))
	}
	return nil
}
