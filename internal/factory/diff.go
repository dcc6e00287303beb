package factory

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"

	"github.com/klauspost/compress/gzip"

	"kiln"
	"kiln/internal/report"
)

// Diff compares two builds: packages, objectives, size, and files where both images are still in the store.
func (f *Factory) Diff(ctx context.Context, refA, refB string) (*report.Difference, error) {
	a, err := f.Find(ctx, refA)
	if err != nil {
		return nil, err
	}
	b, err := f.Find(ctx, refB)
	if err != nil {
		return nil, err
	}
	filesA, err := f.files(a)
	if err != nil {
		return nil, fmt.Errorf("listing the files of %s: %w", refA, err)
	}
	filesB, err := f.files(b)
	if err != nil {
		return nil, fmt.Errorf("listing the files of %s: %w", refB, err)
	}
	d := report.Diff(a, b, report.FileLists{A: filesA, B: filesB})
	return &d, nil
}

// files lists what an image holds, one line a path as tree.Dump writes it. The
// layers never hide one another's files, so reading them one by one is enough.
func (f *Factory) files(b *kiln.Build) (map[string]string, error) {
	out := map[string]string{}
	for _, layer := range b.Artifact.Layers {
		if err := f.layerFiles(layer.Digest, out); err != nil {
			return nil, kiln.WithHint(fmt.Errorf("layer %s: %w", layer.Digest.Short(), err), "if the image in the local store is damaged, building its recipe makes it again")
		}
	}
	return out, nil
}

func (f *Factory) layerFiles(d kiln.Digest, out map[string]string) error {
	blob, err := f.layout.Open(d)
	if err != nil {
		return err
	}
	defer blob.Close()
	z, err := gzip.NewReader(blob)
	if err != nil {
		return err
	}
	defer z.Close()
	tr := tar.NewReader(z)
	for {
		h, err := tr.Next()
		if err == io.EOF { // the digest is known when everything was read
			_, err = io.Copy(io.Discard, io.MultiReader(z, blob))
			return err
		}
		if err != nil {
			return err
		}
		line, err := describeMember(h, tr)
		if err != nil {
			return err
		}
		out[path.Clean(h.Name)] = line
	}
}

func describeMember(h *tar.Header, body io.Reader) (string, error) {
	switch h.Typeflag {
	case tar.TypeSymlink:
		return "l -> " + h.Linkname, nil
	case tar.TypeLink:
		return "h -> " + h.Linkname, nil
	case tar.TypeReg:
		sum := sha256.New()
		if _, err := io.Copy(sum, body); err != nil {
			return "", err
		}
		return fmt.Sprintf("f %04o %d:%d %s", h.Mode&0o7777, h.Uid, h.Gid, hex.EncodeToString(sum.Sum(nil))[:8]), nil
	}
	return fmt.Sprintf("d %04o %d:%d", h.Mode&0o7777, h.Uid, h.Gid), nil
}
