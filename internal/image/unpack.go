package image

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
)

// Limits bound what an image may unpack to.
type Limits struct {
	Entries int   // over all layers
	Bytes   int64 // of file content over all layers
}

// DefaultLimits suit any honest base image.
var DefaultLimits = Limits{Entries: 2_000_000, Bytes: 16 << 30}

// Unpacked is what Unpack did.
type Unpacked struct {
	Config ocispec.Image
	// Annotations are those of the image's manifest.
	Annotations map[string]string
	// Created is the date in Config as it is locked; Healthcheck is docker's
	// addition to it, nil where there is none that names a program.
	Created     int64
	Healthcheck *kiln.Healthcheck
	Entries     int
	Bytes       int64
	// Skipped are members that were left out, with the reason: device nodes.
	Skipped []string
}

// Unpack applies the layers of the image manifest desc, lowest first, to the
// empty directory into, with owners, modes, times and extended attributes (it
// needs root, or root in a user namespace). Each layer is checked against its
// digest and the configuration's diff id; whiteouts and opaque directories hide
// what lower layers had. Members that leave the directory are errors, device
// nodes are skipped and reported. After an error into holds rubbish.
func Unpack(ctx context.Context, l *Layout, desc ocispec.Descriptor, into string, limits Limits) (*Unpacked, error) {
	m, err := l.Manifest(desc)
	if err != nil {
		return nil, fmt.Errorf("unpacking image: %w", err)
	}
	out := &Unpacked{Annotations: m.Annotations}
	raw, err := l.Read(kiln.Digest(m.Config.Digest), maxManifest)
	if err == nil {
		out.Config, err = parseConfig(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("unpacking image: %w", err)
	}
	out.Created, out.Healthcheck = created(raw), healthcheck(raw)
	if len(out.Config.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("unpacking image: %d layers, but the configuration knows %d", len(m.Layers), len(out.Config.RootFS.DiffIDs))
	}
	root, err := os.OpenRoot(into)
	if err != nil {
		return nil, fmt.Errorf("unpacking image: %w", err)
	}
	defer root.Close()
	if limits == (Limits{}) {
		limits = DefaultLimits
	}
	a := &applier{root: root, dir: into, limits: limits, out: out}
	for i, d := range m.Layers {
		if err := a.layer(ctx, l, d, kiln.Digest(out.Config.RootFS.DiffIDs[i])); err != nil {
			return nil, fmt.Errorf("unpacking layer %d (%s): %w", i+1, kiln.Digest(d.Digest).Short(), err)
		}
	}
	return out, a.finish()
}

func parseConfig(raw []byte) (c ocispec.Image, err error) {
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("its configuration: %w", err)
	}
	return c, nil
}

// layer applies one layer.
func (a *applier) layer(ctx context.Context, l *Layout, d ocispec.Descriptor, diffID kiln.Digest) error {
	blob, err := l.Open(kiln.Digest(d.Digest))
	if err != nil {
		return err
	}
	defer blob.Close()
	plain, closePlain, err := decompress(blob)
	if err != nil {
		return err
	}
	defer closePlain()
	sum := sha256.New()
	stream := io.TeeReader(contextReader{ctx, plain}, sum)
	a.added = map[string]bool{}
	in := tar.NewReader(stream)
	for {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("reading tar: %w", err)
		}
		if err := a.member(h, in); err != nil {
			return fmt.Errorf("member %q: %w", clip(h.Name), err)
		}
	}
	// What follows the end of the tar counts for the digests; it must be short.
	if n, err := io.Copy(io.Discard, io.LimitReader(stream, maxTrailer+1)); err != nil {
		return err
	} else if n > maxTrailer {
		return fmt.Errorf("more than %d bytes after the end of the tar archive", maxTrailer)
	}
	if got := kiln.DigestSum(sum.Sum(nil)); got != diffID {
		return fmt.Errorf("its content has digest %s, the configuration says %s", got.Short(), diffID.Short())
	}
	if _, err := io.Copy(io.Discard, blob); err != nil { // so that the blob's own digest is checked
		return err
	}
	return nil
}

// maxTrailer is the padding allowed after a tar archive's end marker.
const maxTrailer = 1 << 20

// decompress looks at the first bytes: media types are often wrong in old images.
func decompress(r io.Reader) (io.Reader, func(), error) {
	b := bufio.NewReaderSize(r, 64<<10)
	magic, _ := b.Peek(4)
	switch {
	case len(magic) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, nil, fmt.Errorf("reading gzip: %w", err)
		}
		return z, func() { z.Close() }, nil
	case string(magic) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxMemory(256<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, fmt.Errorf("reading zstd: %w", err)
		}
		return z, z.Close, nil
	}
	return b, func() {}, nil
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}
