package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
)

// userAgent is what registries see.
const userAgent = "kiln"

// guard refuses plain http except to loopback hosts or where the user asked for it.
type guard struct {
	insecure bool
	next     http.RoundTripper
}

func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !g.insecure && !loopback(r.URL.Hostname()) {
		return nil, fmt.Errorf("refusing plain http to %s; use a registry with TLS, or set insecure for this reference", r.URL.Host)
	}
	return g.next.RoundTrip(r)
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// remoteOptions are the client options of every conversation with a registry.
// Credentials come from the user's docker or podman login.
func remoteOptions(ctx context.Context, insecure bool) []remote.Option {
	transport := remote.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = 60 * time.Second
	return []remote.Option{
		remote.WithContext(ctx),
		remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithTransport(guard{insecure, transport}),
		remote.WithUserAgent(userAgent),
		remote.WithJobs(4),
		remote.WithReferrersTagFallback(true),
	}
}

// parseRemote reads a reference that must name its registry: nothing is looked
// up at a place the user did not write.
func parseRemote(ref string, insecure bool) (name.Reference, error) {
	opts := []name.Option{}
	if insecure {
		opts = append(opts, name.Insecure)
	}
	parsed, err := name.ParseReference(ref, opts...)
	if err != nil {
		return nil, fmt.Errorf("image reference %q: %w", ref, err)
	}
	host, _, found := strings.Cut(ref, "/")
	if !found || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return nil, fmt.Errorf("image reference %q names no registry; write registry.example.com/NAME:TAG", ref)
	}
	return parsed, nil
}

// CheckReference reports whether ref can be pushed to or pulled from.
func CheckReference(ref string) error {
	_, err := parseRemote(ref, false)
	return err
}

// resolveRemote asks the registry which manifest ref means for platform.
func resolveRemote(ctx context.Context, ref string, o options, platform string) (kiln.LockedImage, error) {
	parsed, err := parseRemote(ref, o.insecure)
	if err != nil {
		return kiln.LockedImage{}, err
	}
	got, m, err := remoteManifest(parsed, remoteOptions(ctx, o.insecure))
	if err != nil {
		return kiln.LockedImage{}, err
	}
	if isIndex(m.MediaType) {
		desc, err := choosePlatform(m.Manifests, platform)
		if err != nil {
			return kiln.LockedImage{}, fmt.Errorf("%s: %w", ref, err)
		}
		if got, m, err = remoteManifest(parsed.Context().Digest(string(desc.Digest)), remoteOptions(ctx, o.insecure)); err != nil {
			return kiln.LockedImage{}, err
		}
	}
	if m.Config == nil {
		return kiln.LockedImage{}, fmt.Errorf("%s: an index of indexes is no base image", ref)
	}
	config, err := smallBlob(parsed.Context(), *m.Config, remoteOptions(ctx, o.insecure))
	if err == nil {
		err = checkPlatform(config, platform)
	}
	if err != nil {
		return kiln.LockedImage{}, fmt.Errorf("%s: %w", ref, err)
	}
	return kiln.LockedImage{Reference: parsed.Name(), Digest: kiln.DigestBytes(got), Size: int64(len(got)), Created: created(config)}, nil
}

// remoteManifest fetches a manifest or an index; the client checks the digest where ref has one.
func remoteManifest(ref name.Reference, opts []remote.Option) ([]byte, *manifestOrIndex, error) {
	got, err := remote.Get(ref, opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("asking the registry for %s: %w", ref, err)
	}
	m, err := parseManifest(got.Manifest)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the manifest of %s: %w", ref, err)
	}
	return got.Manifest, m, nil
}

// smallBlob fetches a configuration into memory; the client checks its digest.
func smallBlob(repo name.Repository, d ocispec.Descriptor, opts []remote.Option) ([]byte, error) {
	layer, err := remote.Layer(repo.Digest(string(d.Digest)), opts...)
	if err != nil {
		return nil, err
	}
	r, err := layer.Compressed()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err == nil && len(data) > maxManifest {
		err = fmt.Errorf("the configuration has more than %d bytes", maxManifest)
	}
	return data, err
}

// fetchRemote copies one image manifest and its blobs from a registry into l.
func fetchRemote(ctx context.Context, locked kiln.LockedImage, o options, l *Layout) (ocispec.Descriptor, error) {
	parsed, err := parseRemote(locked.Reference, o.insecure)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	repo, opts := parsed.Context(), remoteOptions(ctx, o.insecure)
	got, err := remote.Get(repo.Digest(string(locked.Digest)), opts...)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("fetching %s@%s: %w", repo.Name(), locked.Digest.Short(), err)
	}
	m, err := parseManifest(got.Manifest)
	if err != nil || !isManifest(m.MediaType) {
		return ocispec.Descriptor{}, fmt.Errorf("fetching %s@%s: no image manifest (%v)", repo.Name(), locked.Digest.Short(), err)
	}
	for _, d := range append([]ocispec.Descriptor{*m.Config}, m.Layers...) {
		if err := fetchBlob(repo, d, opts, l); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	desc, err := l.PutBytes(m.MediaType, got.Manifest)
	if err == nil && kiln.Digest(desc.Digest) != locked.Digest {
		err = fmt.Errorf("fetching %s: the registry sent a manifest with digest %s, not the locked %s", locked.Reference, desc.Digest, locked.Digest)
	}
	return desc, err
}

func fetchBlob(repo name.Repository, d ocispec.Descriptor, opts []remote.Option, l *Layout) error {
	if l.Has(kiln.Digest(d.Digest), d.Size) {
		return nil
	}
	if d.Size > DefaultLimits.Bytes {
		return fmt.Errorf("fetching layer %s: its size %d is beyond the limit of %d", kiln.Digest(d.Digest).Short(), d.Size, DefaultLimits.Bytes)
	}
	layer, err := remote.Layer(repo.Digest(string(d.Digest)), opts...)
	if err != nil {
		return fmt.Errorf("fetching layer %s: %w", kiln.Digest(d.Digest).Short(), err)
	}
	r, err := layer.Compressed()
	if err != nil {
		return fmt.Errorf("fetching layer %s: %w", kiln.Digest(d.Digest).Short(), err)
	}
	defer r.Close()
	if _, _, err := l.WriteBlob(r, kiln.Digest(d.Digest), d.Size); err != nil {
		return fmt.Errorf("fetching layer %s: %w", kiln.Digest(d.Digest).Short(), err)
	}
	return nil
}

// Push copies what desc names, with every referrer of it and of the manifests
// in it, to the registry reference ref. Everything is checked before the first
// byte leaves, and the tag moves last: whoever pulls by tag finds all
// signatures there. insecure allows plain http to hosts other than loopback.
func Push(ctx context.Context, l *Layout, desc ocispec.Descriptor, ref string, insecure bool) (kiln.Digest, error) {
	parsed, err := parseRemote(ref, insecure)
	if err != nil {
		return "", err
	}
	g, err := l.graph(desc)
	if err != nil {
		return "", fmt.Errorf("checking the image before pushing it to %s: %w", ref, err)
	}
	if err := l.verify(g); err != nil {
		return "", fmt.Errorf("checking the image before pushing it to %s: %w", ref, err)
	}
	p := pusher{layout: l, repo: parsed.Context(), opts: remoteOptions(ctx, insecure)}
	root, err := p.image(desc)
	if err != nil {
		return "", fmt.Errorf("pushing to %s: %w", ref, err)
	}
	for _, r := range g.referrers {
		if _, err := p.image(r); err != nil {
			return "", fmt.Errorf("pushing referrer %s to %s: %w", kiln.Digest(r.Digest).Short(), ref, err)
		}
	}
	if tag, ok := parsed.(name.Tag); ok {
		if err := remote.Tag(tag, root, p.opts...); err != nil {
			return "", fmt.Errorf("tagging %s: %w", ref, err)
		}
	} else if parsed.Identifier() != string(desc.Digest) {
		return "", fmt.Errorf("pushing to %s: the image has digest %s; push to a tag", ref, desc.Digest)
	}
	return kiln.Digest(desc.Digest), nil
}

type pusher struct {
	layout *Layout
	repo   name.Repository
	opts   []remote.Option
}

// image pushes one manifest, or index with its manifests, by digest.
func (p pusher) image(desc ocispec.Descriptor) (remote.Taggable, error) {
	to := p.repo.Digest(string(desc.Digest))
	if isIndex(desc.MediaType) {
		index := layoutIndex{p.layout, desc}
		return index, remote.WriteIndex(to, index, p.opts...)
	}
	img, err := layoutImage(p.layout, desc)
	if err != nil {
		return nil, err
	}
	return img, remote.Write(to, img, p.opts...)
}

// layoutIndex presents an index blob of a layout as the client library wants it.
type layoutIndex struct {
	l    *Layout
	desc ocispec.Descriptor
}

func (i layoutIndex) MediaType() (types.MediaType, error) {
	return types.MediaType(i.desc.MediaType), nil
}
func (i layoutIndex) Digest() (v1.Hash, error) { return v1.NewHash(string(i.desc.Digest)) }
func (i layoutIndex) Size() (int64, error)     { return i.desc.Size, nil }

func (i layoutIndex) RawManifest() ([]byte, error) {
	return i.l.Read(kiln.Digest(i.desc.Digest), maxManifest)
}

func (i layoutIndex) IndexManifest() (*v1.IndexManifest, error) {
	data, err := i.RawManifest()
	if err != nil {
		return nil, err
	}
	return v1.ParseIndexManifest(bytes.NewReader(data))
}

func (i layoutIndex) Image(h v1.Hash) (v1.Image, error) {
	desc, err := i.child(h)
	if err != nil {
		return nil, err
	}
	return layoutImage(i.l, desc)
}

func (i layoutIndex) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	desc, err := i.child(h)
	return layoutIndex{i.l, desc}, err
}

func (i layoutIndex) child(h v1.Hash) (ocispec.Descriptor, error) {
	return i.l.describe(kiln.Digest(h.String()))
}

// imageCore is the least the client library needs to know of an image.
type imageCore struct {
	l    *Layout
	desc ocispec.Descriptor
	m    *ocispec.Manifest
}

func layoutImage(l *Layout, desc ocispec.Descriptor) (v1.Image, error) {
	m, err := l.Manifest(desc)
	if err != nil {
		return nil, err
	}
	return partial.CompressedToImage(imageCore{l, desc, m})
}

func (c imageCore) MediaType() (types.MediaType, error) { return types.MediaType(c.m.MediaType), nil }

func (c imageCore) RawManifest() ([]byte, error) {
	return c.l.Read(kiln.Digest(c.desc.Digest), maxManifest)
}

func (c imageCore) RawConfigFile() ([]byte, error) {
	return c.l.Read(kiln.Digest(c.m.Config.Digest), maxManifest)
}

func (c imageCore) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, d := range append([]ocispec.Descriptor{c.m.Config}, c.m.Layers...) {
		if string(d.Digest) == h.String() {
			return blobCore{c.l, d}, nil
		}
	}
	return nil, fmt.Errorf("blob %s is not part of the image", h)
}

type blobCore struct {
	l    *Layout
	desc ocispec.Descriptor
}

func (b blobCore) Digest() (v1.Hash, error)            { return v1.NewHash(string(b.desc.Digest)) }
func (b blobCore) Size() (int64, error)                { return b.desc.Size, nil }
func (b blobCore) MediaType() (types.MediaType, error) { return types.MediaType(b.desc.MediaType), nil }

func (b blobCore) Compressed() (io.ReadCloser, error) { return b.l.Open(kiln.Digest(b.desc.Digest)) }
