package target

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
	"kiln/internal/image"
	"kiln/internal/workspace"
)

// image unpacks an image into the work folder.
func (t *Target) image(ctx context.Context, form, ref string, o Options) error {
	if _, err := image.ParsePlatform(o.Platform); err != nil {
		return kiln.Misuse(err)
	}
	work, err := workspace.Open(o.Work, 4<<30)
	if err != nil {
		return err
	}
	t.onClose(work.Close)
	l, desc, err := find(ctx, form, ref, work, o)
	if err != nil {
		return err
	}
	if desc, err = l.ForPlatform(desc, o.Platform); err != nil {
		return kiln.Misuse(kiln.WithHint(err, "choose another with --platform OS/ARCH"))
	}
	if t.Dir, err = work.Fresh("tree"); err != nil {
		return err
	}
	unpacked, err := image.Unpack(ctx, l, desc, t.Dir, image.Limits{})
	if err != nil {
		return err
	}
	t.Config, t.Digest, t.Notes = unpacked.ImageConfig(), kiln.Digest(desc.Digest), unpacked.Skipped
	t.Layers, err = image.Layers(l, desc)
	return err
}

// find returns the layout that holds an image, and the image or index in it.
func find(ctx context.Context, form, ref string, work *workspace.Space, o Options) (*image.Layout, ocispec.Descriptor, error) {
	switch form {
	case "registry:":
		return fetch(ctx, strings.TrimPrefix(ref, "//"), o)
	case "kiln:":
		return stored(ctx, ref, o)
	case "oci:":
		dir, name := image.SplitLayout(ref)
		l, err := image.OpenLayout(dir)
		if err != nil {
			return nil, ocispec.Descriptor{}, kiln.Misuse(err)
		}
		desc, err := l.Find(name)
		return l, desc, err
	}
	file := ref
	if form != "archive:" {
		var err error
		if file, err = saved(ctx, strings.TrimSuffix(form, ":"), ref, work); err != nil {
			return nil, ocispec.Descriptor{}, err
		}
	}
	return archived(file, work)
}

func fetch(ctx context.Context, ref string, o Options) (*image.Layout, ocispec.Descriptor, error) {
	cache, err := o.Cache()
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	var options []image.Option
	if o.PlainHTTP {
		options = append(options, image.Insecure())
	}
	base := kiln.Base{OCI: ref}
	locked, err := image.Resolve(ctx, base, o.Platform, options...)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	desc, err := image.Fetch(ctx, base, locked, cache, options...)
	return cache, desc, err
}

func stored(ctx context.Context, ref string, o Options) (*image.Layout, ocispec.Descriptor, error) {
	l, d, err := o.Store(ctx, ref)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	desc, err := l.Find(string(d))
	return l, desc, err
}

func archived(file string, work *workspace.Space) (*image.Layout, ocispec.Descriptor, error) {
	dir, err := work.Fresh("layout")
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	l, err := image.CreateLayout(dir)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	desc, err := image.ReadArchive(file, l)
	if err != nil {
		return nil, desc, kiln.Misuse(err)
	}
	return l, desc, nil
}

// saved has podman or docker write one of its images as an archive.
func saved(ctx context.Context, program, name string, work *workspace.Space) (string, error) {
	dir, err := work.Fresh("saved")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "image.tar")
	if err := save(ctx, program, name, file); err != nil {
		return "", err
	}
	if _, err := os.Stat(file); err != nil {
		return "", fmt.Errorf("%s save wrote no file: %w", program, err)
	}
	return file, nil
}
