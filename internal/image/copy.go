package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
)

// graph is everything that belongs to one image.
type graph struct {
	root      ocispec.Descriptor
	blobs     []ocispec.Descriptor // content before what refers to it, each once
	referrers []ocispec.Descriptor // of the root and of the manifests in it
	seen      map[string]bool
}

// graph follows desc to its manifests, configurations, layers and referrers.
func (l *Layout) graph(desc ocispec.Descriptor) (*graph, error) {
	g := &graph{root: desc, seen: map[string]bool{}}
	if err := l.follow(g, desc, 0); err != nil {
		return nil, err
	}
	return g, nil
}

// maxNesting bounds indexes in indexes and referrers of referrers.
const maxNesting = 8

func (l *Layout) follow(g *graph, desc ocispec.Descriptor, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("manifests are nested deeper than %d", maxNesting)
	}
	if g.seen[string(desc.Digest)] {
		return nil
	}
	g.seen[string(desc.Digest)] = true
	data, err := l.Read(kiln.Digest(desc.Digest), maxManifest)
	if err != nil {
		return err
	}
	m, err := parseManifest(data)
	if err != nil {
		return fmt.Errorf("reading manifest %s: %w", kiln.Digest(desc.Digest).Short(), err)
	}
	for _, d := range m.Manifests {
		if err := l.follow(g, d, depth+1); err != nil {
			return err
		}
	}
	if m.Config != nil {
		g.add(*m.Config)
	}
	for _, d := range m.Layers {
		g.add(d)
	}
	g.blobs = append(g.blobs, ocispec.Descriptor{MediaType: m.MediaType, Digest: desc.Digest, Size: int64(len(data))})
	referrers, err := l.Referrers(kiln.Digest(desc.Digest))
	if err != nil {
		return err
	}
	for _, r := range referrers {
		if !g.seen[string(r.Digest)] {
			g.referrers = append(g.referrers, r)
		}
		if err := l.follow(g, r, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (g *graph) add(d ocispec.Descriptor) {
	if !g.seen[string(d.Digest)] {
		g.seen[string(d.Digest)] = true
		g.blobs = append(g.blobs, d)
	}
}

// verify reads every blob and compares it with its digest.
func (l *Layout) verify(g *graph) error {
	for _, d := range g.blobs {
		r, err := l.Open(kiln.Digest(d.Digest))
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, r)
		r.Close()
		if err != nil {
			return err
		}
		if n != d.Size {
			return fmt.Errorf("blob %s has %d bytes, its descriptor says %d", kiln.Digest(d.Digest).Short(), n, d.Size)
		}
	}
	return nil
}

// Verify checks that everything desc needs, referrers included, is there and undamaged.
func (l *Layout) Verify(desc ocispec.Descriptor) error {
	g, err := l.graph(desc)
	if err != nil {
		return err
	}
	return l.verify(g)
}

// DropDamaged removes every blob whose bytes do not have its digest, with the
// names of manifests that are gone, and returns how many there were. It reads the whole layout.
func (l *Layout) DropDamaged() (int, error) {
	files, err := os.ReadDir(filepath.Join(l.dir, "blobs", "sha256"))
	if err != nil {
		return 0, fmt.Errorf("checking layout: %w", err)
	}
	n := 0
	for _, f := range files {
		d, err := kiln.ParseDigest(f.Name())
		if err != nil {
			continue // no blob
		}
		if err := l.check(d); !errors.Is(err, ErrDamaged) {
			if err != nil {
				return n, err
			}
			continue
		}
		if err := os.Remove(l.BlobPath(d)); err != nil {
			return n, fmt.Errorf("dropping damaged blob: %w", err)
		}
		n++
	}
	if n == 0 {
		return 0, nil
	}
	return n, l.Update(func(index *ocispec.Index) error {
		index.Manifests = slices.DeleteFunc(index.Manifests, func(m ocispec.Descriptor) bool { return !l.Has(kiln.Digest(m.Digest), -1) })
		return nil
	})
}

// check reads a blob and compares it with its digest.
func (l *Layout) check(d kiln.Digest) error {
	r, err := l.Open(d)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// CopyTo copies what desc names, with all referrers, into another layout and
// gives it a name there ("" gives none). Blobs are checked on the way; the
// name moves last. Referrers that the other layout had already are replaced
// where this one brings some of the same artifact type, so that statements do
// not pile up.
func (l *Layout) CopyTo(to *Layout, desc ocispec.Descriptor, name string) error {
	if sameDir(l.dir, to.dir) {
		return to.enter(desc, nil, name)
	}
	g, err := l.graph(desc)
	if err != nil {
		return fmt.Errorf("copying from layout %s: %w", l.dir, err)
	}
	for _, d := range g.blobs {
		if to.Has(kiln.Digest(d.Digest), d.Size) {
			continue
		}
		r, err := l.Open(kiln.Digest(d.Digest))
		if err != nil {
			return err
		}
		_, _, err = to.WriteBlob(r, kiln.Digest(d.Digest), d.Size)
		r.Close()
		if err != nil {
			return fmt.Errorf("copying to layout %s: %w", to.dir, err)
		}
	}
	if err := to.enter(g.root, g.referrers, name); err != nil {
		return err
	}
	return to.dropStale(g)
}

// dropStale removes referrers of what is being copied that the source no longer has.
func (l *Layout) dropStale(g *graph) error {
	types, subjects := map[string]bool{}, []kiln.Digest{}
	for _, r := range g.referrers {
		types[r.ArtifactType] = true
	}
	for _, d := range g.blobs {
		if isIndex(d.MediaType) || isManifest(d.MediaType) {
			subjects = append(subjects, kiln.Digest(d.Digest))
		}
	}
	if len(types) == 0 {
		return nil
	}
	return l.DropReferrersIf(func(d ocispec.Descriptor) bool { return types[d.ArtifactType] && !g.seen[string(d.Digest)] }, subjects...)
}

func (l *Layout) enter(root ocispec.Descriptor, referrers []ocispec.Descriptor, name string) error {
	root.Annotations = nil
	if name == "" {
		return l.Add(append([]ocispec.Descriptor{root}, referrers...)...)
	}
	if len(referrers) > 0 {
		if err := l.Add(referrers...); err != nil {
			return err
		}
	}
	return l.Tag(name, root)
}

func sameDir(a, b string) bool {
	x, err := os.Stat(a)
	y, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// Sweep removes blobs that nothing in index.json leads to, and files that
// interrupted writers left. Call it only while nobody else writes. It returns
// the bytes freed.
func (l *Layout) Sweep() (int64, error) {
	var freed int64
	err := l.Update(func(index *ocispec.Index) error {
		keep := &graph{seen: map[string]bool{}}
		for _, d := range index.Manifests {
			if err := l.follow(keep, d, 0); err != nil {
				return fmt.Errorf("sweeping layout %s: %w", l.dir, err)
			}
		}
		var err error
		freed, err = l.removeUnless(keep.seen)
		return err
	})
	return freed, err
}

func (l *Layout) removeUnless(keep map[string]bool) (int64, error) {
	var freed int64
	for _, sub := range []string{"blobs", "blobs/sha256"} {
		entries, err := os.ReadDir(l.dir + "/" + sub)
		if err != nil {
			return freed, err
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || !info.Mode().IsRegular() || keep["sha256:"+e.Name()] {
				continue
			}
			if err := os.Remove(l.dir + "/" + sub + "/" + e.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return freed, err
			}
			freed += info.Size()
		}
	}
	return freed, nil
}
