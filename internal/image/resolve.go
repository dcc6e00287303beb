package image

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
)

// Option changes how base images are found.
type Option func(*options)

type options struct {
	insecure bool
	dir      string
	store    func(name, channel string) (layoutDir string, d kiln.Digest, err error)
}

// Insecure allows plain http to registries that are not on loopback.
func Insecure() Option { return func(o *options) { o.insecure = true } }

// RelativeTo makes relative paths of layouts and archives start at dir, the recipe's folder.
func RelativeTo(dir string) Option { return func(o *options) { o.dir = dir } }

// Store says where images of the local store lie: bases of the form NAME@CHANNEL.
func Store(find func(name, channel string) (layoutDir string, d kiln.Digest, err error)) Option {
	return func(o *options) { o.store = find }
}

// Resolve locks an image base to the digest of its manifest for platform
// (os/arch[/variant]). A docker archive has no manifest; it is locked to the
// one that Fetch makes of it, which depends on its content only.
func Resolve(ctx context.Context, base kiln.Base, platform string, opts ...Option) (kiln.LockedImage, error) {
	o := collect(opts)
	if base.OCI != "" {
		return resolveRemote(ctx, base.OCI, o, platform)
	}
	if base.Archive != "" {
		return resolveArchive(o.path(base.Archive), base.Archive, platform)
	}
	l, desc, ref, err := o.local(base)
	if err != nil {
		return kiln.LockedImage{}, err
	}
	desc, err = l.ForPlatform(desc, platform)
	if err != nil {
		return kiln.LockedImage{}, fmt.Errorf("resolving base %s: %w", ref, err)
	}
	m, err := l.Manifest(desc)
	if err != nil {
		return kiln.LockedImage{}, fmt.Errorf("resolving base %s: %w", ref, err)
	}
	config, err := l.Read(kiln.Digest(m.Config.Digest), maxManifest)
	if err != nil {
		return kiln.LockedImage{}, fmt.Errorf("resolving base %s: %w", ref, err)
	}
	return kiln.LockedImage{Reference: ref, Digest: kiln.Digest(desc.Digest), Size: desc.Size, Created: created(config)}, nil
}

// Fetch copies the locked image, manifest, configuration and layers, into a
// layout; what is there already is not read again. Every byte is checked
// against the locked digest.
func Fetch(ctx context.Context, base kiln.Base, locked kiln.LockedImage, into *Layout, opts ...Option) (ocispec.Descriptor, error) {
	o := collect(opts)
	if desc, err := into.Find(string(locked.Digest)); err == nil {
		err := into.Verify(desc)
		if err == nil {
			return desc, nil
		}
		if errors.Is(err, ErrDamaged) {
			if _, err := into.DropDamaged(); err != nil {
				return desc, err
			}
		}
	}
	var desc ocispec.Descriptor
	var err error
	switch {
	case base.OCI != "":
		desc, err = fetchRemote(ctx, locked, o, into)
	case base.Archive != "":
		desc, err = fetchArchive(o.path(base.Archive), locked, into)
	default:
		desc, err = o.fetchLocal(base, locked, into)
	}
	if err != nil {
		return desc, err
	}
	return desc, into.Add(desc)
}

func (o options) fetchLocal(base kiln.Base, locked kiln.LockedImage, into *Layout) (ocispec.Descriptor, error) {
	l, _, ref, err := o.local(base)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc, err := l.describe(locked.Digest)
	if err != nil {
		return desc, fmt.Errorf("fetching base %s: %w", ref, err)
	}
	return desc, l.CopyTo(into, desc, "")
}

func collect(opts []Option) options {
	var o options
	for _, f := range opts {
		f(&o)
	}
	return o
}

func (o options) path(p string) string {
	if filepath.IsAbs(p) || o.dir == "" {
		return p
	}
	return filepath.Join(o.dir, p)
}

// local opens the layout that a base of form layout or kiln names.
func (o options) local(base kiln.Base) (*Layout, ocispec.Descriptor, string, error) {
	fail := func(err error) (*Layout, ocispec.Descriptor, string, error) {
		return nil, ocispec.Descriptor{}, "", err
	}
	dir, ref := SplitLayout(base.Layout)
	shown := "oci:" + base.Layout
	switch {
	case base.Layout != "":
		dir = o.path(dir)
	case base.Kiln != "" && o.store != nil:
		name, channel, _ := strings.Cut(base.Kiln, "@")
		found, d, err := o.store(name, channel)
		if err != nil {
			return fail(fmt.Errorf("looking for base %s in the local store: %w", base.Kiln, err))
		}
		dir, ref, shown = found, string(d), "kiln:"+base.Kiln
	default:
		return fail(fmt.Errorf("the base is no image: set one of oci, layout, archive, kiln"))
	}
	l, err := OpenLayout(dir)
	if err != nil {
		return fail(err)
	}
	desc, err := l.Find(ref)
	if err != nil {
		return fail(fmt.Errorf("looking for base %s: %w", shown, err))
	}
	return l, desc, shown, nil
}

// SplitLayout splits PATH[:NAME] or PATH[@DIGEST].
func SplitLayout(s string) (dir, ref string) {
	if dir, d, ok := strings.Cut(s, "@sha256:"); ok {
		return dir, "sha256:" + d
	}
	dir, ref, _ = strings.Cut(s, ":")
	return dir, ref
}
