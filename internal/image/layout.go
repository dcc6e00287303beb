// Package image reads, writes and moves OCI images: layouts on disk,
// registries, docker archives, and the layers inside them. Everything it reads
// is taken for hostile: sizes are bounded, digests are checked before a byte
// is used, and nothing escapes the directory it is unpacked into.
package image

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"kiln"
	"kiln/internal/atomicfile"
	"kiln/internal/smallfile"
)

const (
	// maxManifest bounds manifests, indexes and configurations (the distribution specification suggests 4 MiB).
	maxManifest = 4 << 20
	// maxIndexJSON bounds a layout's index.json, which lists every referrer.
	maxIndexJSON = 64 << 20
	// annotationKind and kindImage mark, for `cosign verify --local-image`, the image of a layout to look at.
	annotationKind = "kind"
	kindImage      = "dev.cosignproject.cosign/image"
)

// ErrNotFound says that a layout has no such reference or blob.
var ErrNotFound = errors.New("not found")

// ErrDamaged says that a blob's bytes are not those that its digest names.
var ErrDamaged = errors.New("is damaged")

// Layout is an OCI image layout directory. Its methods are safe for concurrent
// use, by several processes too: blobs appear complete or not at all, and
// index.json is replaced whole under a lock.
//
// Referrers (signatures, SBOMs) stand in index.json as entries without a name,
// as oras does; their manifests name the subject.
type Layout struct {
	dir string

	mu       sync.Mutex
	unsynced []string // blobs written but not yet known to be on disk
}

// OpenLayout opens an existing layout.
func OpenLayout(dir string) (*Layout, error) {
	data, err := smallfile.Regular(filepath.Join(dir, ocispec.ImageLayoutFile), 4096)
	if err != nil {
		return nil, fmt.Errorf("opening OCI layout %s: %w", dir, err)
	}
	var head ocispec.ImageLayout
	if err := json.Unmarshal(data, &head); err != nil || head.Version != ocispec.ImageLayoutVersion {
		return nil, fmt.Errorf("opening OCI layout %s: %s does not say version %s", dir, ocispec.ImageLayoutFile, ocispec.ImageLayoutVersion)
	}
	return &Layout{dir: dir}, nil
}

// CreateLayout opens the layout in dir, or makes one where dir is missing or
// empty. A directory that holds something else is refused.
func CreateLayout(dir string) (*Layout, error) {
	if _, err := os.Lstat(filepath.Join(dir, ocispec.ImageLayoutFile)); err == nil {
		return OpenLayout(dir)
	}
	names, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("making OCI layout: %w", err)
	}
	for _, n := range names {
		if n.Name() != "blobs" && n.Name() != ocispec.ImageIndexFile { // a creation that was interrupted
			return nil, fmt.Errorf("making OCI layout: %s exists, is not empty and is no OCI layout; choose another directory", dir)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return nil, fmt.Errorf("making OCI layout: %w", err)
	}
	empty := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	for _, f := range []struct {
		name string
		v    any
	}{ // the file that makes it a layout comes last
		{ocispec.ImageIndexFile, empty},
		{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
	} {
		data, err := json.Marshal(f.v)
		if err == nil {
			err = atomicfile.Create(filepath.Join(dir, f.name), data, 0o644)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) { // another process may be making the same layout
			return nil, fmt.Errorf("making OCI layout %s: %w", dir, err)
		}
	}
	return OpenLayout(dir)
}

// Dir returns the layout's directory.
func (l *Layout) Dir() string { return l.dir }

// BlobPath returns where the blob of digest d lies.
func (l *Layout) BlobPath(d kiln.Digest) string {
	return filepath.Join(l.dir, "blobs", "sha256", d.Hex())
}

// Has reports whether the blob is there with that size; size -1 means any.
func (l *Layout) Has(d kiln.Digest, size int64) bool {
	if d.Validate() != nil {
		return false
	}
	info, err := os.Lstat(l.BlobPath(d))
	return err == nil && info.Mode().IsRegular() && (size < 0 || info.Size() == size)
}

// Open opens a blob. The reader reports an error instead of io.EOF when the
// bytes do not have the digest, so use nothing of it before it ended well.
func (l *Layout) Open(d kiln.Digest) (io.ReadCloser, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	f, err := os.Open(l.BlobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s in %s: %w", d, l.dir, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("opening blob: %w", err)
	}
	return &verified{file: f, want: d, sum: sha256.New()}, nil
}

// Read returns a whole blob of at most limit bytes, its digest checked.
func (l *Layout) Read(d kiln.Digest, limit int64) ([]byte, error) {
	r, err := l.Open(d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("blob %s has more than %d bytes", d.Short(), limit)
	}
	return data, nil
}

type verified struct {
	file *os.File
	want kiln.Digest
	sum  hash.Hash
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.file.Read(p)
	v.sum.Write(p[:n])
	if err == io.EOF {
		if got := kiln.DigestSum(v.sum.Sum(nil)); got != v.want {
			return n, fmt.Errorf("blob %s %w: its bytes have digest %s", v.want.Short(), ErrDamaged, got.Short())
		}
	}
	return n, err
}

func (v *verified) Close() error { return v.file.Close() }

// WriteBlob stores what r gives and returns its digest and size. With want set
// a different digest is an error and nothing is stored; more than limit bytes
// are an error too (0 means no limit).
func (l *Layout) WriteBlob(r io.Reader, want kiln.Digest, limit int64) (kiln.Digest, int64, error) {
	w, err := l.NewBlob()
	if err != nil {
		return "", 0, err
	}
	defer w.Abort()
	if limit > 0 {
		r = io.LimitReader(r, limit+1)
	}
	n, err := io.Copy(w, r)
	if err != nil {
		return "", 0, fmt.Errorf("writing blob: %w", err)
	}
	if limit > 0 && n > limit {
		return "", 0, fmt.Errorf("writing blob: it has more than the %d bytes expected", limit)
	}
	d, err := w.Commit(want)
	return d, n, err
}

// BlobWriter is a blob being written; it is invisible until Commit.
type BlobWriter struct {
	l    *Layout
	file *os.File
	sum  hash.Hash
	n    int64
}

// NewBlob starts a blob. Call Commit, or Abort, which does nothing after Commit.
func (l *Layout) NewBlob() (*BlobWriter, error) {
	f, err := os.CreateTemp(filepath.Join(l.dir, "blobs"), ".part-*")
	if err != nil {
		return nil, fmt.Errorf("writing blob: %w", err)
	}
	return &BlobWriter{l: l, file: f, sum: sha256.New()}, nil
}

// Write appends to the blob.
func (w *BlobWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.sum.Write(p[:n])
	w.n += int64(n)
	return n, err
}

// Commit gives the blob its name; with want set its digest must be that.
func (w *BlobWriter) Commit(want kiln.Digest) (kiln.Digest, error) {
	d := kiln.DigestSum(w.sum.Sum(nil))
	if want != "" && d != want {
		return "", fmt.Errorf("writing blob: it %w: expected %s, the bytes have digest %s", ErrDamaged, want, d)
	}
	defer w.Abort()
	if w.l.Has(d, w.n) {
		return d, nil
	}
	path := w.l.BlobPath(d)
	err := errors.Join(w.file.Chmod(0o644), os.Rename(w.file.Name(), path))
	if err != nil {
		return "", fmt.Errorf("writing blob: %w", err)
	}
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	w.l.unsynced = append(w.l.unsynced, path)
	return d, nil
}

// Abort drops a blob that was not committed.
func (w *BlobWriter) Abort() {
	if w.file == nil {
		return
	}
	w.file.Close()
	os.Remove(w.file.Name())
	w.file = nil
}

// sync makes every blob written so far durable.
func (l *Layout) sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.unsynced {
		if err := atomicfile.Sync(p); err != nil {
			return err
		}
	}
	if len(l.unsynced) > 0 {
		if err := atomicfile.Sync(filepath.Join(l.dir, "blobs", "sha256")); err != nil {
			return err
		}
	}
	l.unsynced = nil
	return nil
}

// Index returns the layout's index.json.
func (l *Layout) Index() (*ocispec.Index, error) {
	data, err := smallfile.Regular(filepath.Join(l.dir, ocispec.ImageIndexFile), maxIndexJSON)
	if err != nil {
		return nil, fmt.Errorf("reading OCI layout: %w", err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("reading index.json of %s: %w", l.dir, err)
	}
	return &index, nil
}

// Update changes index.json: everything written before is durable when the new
// one becomes visible, and two updates never lose one another's entries.
func (l *Layout) Update(change func(*ocispec.Index) error) error {
	// The file that is never replaced carries the lock.
	lock, err := os.Open(filepath.Join(l.dir, ocispec.ImageLayoutFile))
	if err != nil {
		return fmt.Errorf("locking OCI layout: %w", err)
	}
	defer lock.Close()
	if err := flock(lock); err != nil {
		return fmt.Errorf("locking OCI layout %s: %w", l.dir, err)
	}
	index, err := l.Index()
	if err != nil {
		return err
	}
	if err := change(index); err != nil {
		return err
	}
	data, err := json.Marshal(index)
	if err != nil {
		return fmt.Errorf("encoding index.json: %w", err)
	}
	if err := l.sync(); err != nil {
		return fmt.Errorf("writing OCI layout: %w", err)
	}
	return atomicfile.Write(filepath.Join(l.dir, ocispec.ImageIndexFile), data, 0o644)
}

// Add enters manifests that have no name, referrers for instance, into
// index.json; one that is there already stays as it is.
func (l *Layout) Add(descs ...ocispec.Descriptor) error {
	return l.Update(func(index *ocispec.Index) error {
		for _, d := range descs {
			if !slices.ContainsFunc(index.Manifests, func(m ocispec.Descriptor) bool { return m.Digest == d.Digest }) {
				index.Manifests = append(index.Manifests, d)
			}
		}
		return nil
	})
}

// Tag names a manifest; the name is taken from whatever had it before. The
// image tagged last is the one that `cosign verify --local-image` looks at.
func (l *Layout) Tag(name string, desc ocispec.Descriptor) error {
	if name == "" {
		return errors.New("tagging in an OCI layout: the name is empty")
	}
	return l.Update(func(index *ocispec.Index) error {
		index.Manifests = slices.DeleteFunc(index.Manifests, func(m ocispec.Descriptor) bool {
			n := m.Annotations[ocispec.AnnotationRefName]
			return n == name || (n == "" && m.Digest == desc.Digest)
		})
		for i := range index.Manifests {
			delete(index.Manifests[i].Annotations, annotationKind)
		}
		desc.Annotations = map[string]string{ocispec.AnnotationRefName: name, annotationKind: kindImage}
		index.Manifests = append([]ocispec.Descriptor{desc}, index.Manifests...)
		return nil
	})
}

// Find returns the descriptor of a name, of a digest listed in index.json, or,
// with ref empty, of the layout's only named image.
func (l *Layout) Find(ref string) (ocispec.Descriptor, error) {
	index, err := l.Index()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var named []string
	var only ocispec.Descriptor
	for _, m := range index.Manifests {
		name := m.Annotations[ocispec.AnnotationRefName]
		if ref != "" && (name == ref || string(m.Digest) == ref) {
			return m, nil
		}
		if name != "" || len(index.Manifests) == 1 {
			only, named = m, append(named, name)
		}
	}
	if ref == "" && len(named) == 1 {
		return only, nil
	}
	if d := kiln.Digest(ref); d.Validate() == nil && l.Has(d, -1) {
		return l.describe(d)
	}
	if ref == "" {
		return only, fmt.Errorf("%s holds %d images; name one of %q: %w", l.dir, len(named), named, ErrNotFound)
	}
	return only, fmt.Errorf("%s has no image %q; it has %q: %w", l.dir, ref, named, ErrNotFound)
}

// describe makes the descriptor of a manifest blob.
func (l *Layout) describe(d kiln.Digest) (ocispec.Descriptor, error) {
	data, err := l.Read(d, maxManifest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	m, err := parseManifest(data)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("reading manifest %s: %w", d.Short(), err)
	}
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.Digest(d), Size: int64(len(data))}, nil
}

// Referrers returns the manifests in index.json whose subject is d, in the order they were added.
func (l *Layout) Referrers(d kiln.Digest) ([]ocispec.Descriptor, error) {
	index, err := l.Index()
	if err != nil {
		return nil, err
	}
	var out []ocispec.Descriptor
	for _, desc := range index.Manifests {
		if desc.MediaType != ocispec.MediaTypeImageManifest || desc.Annotations[ocispec.AnnotationRefName] != "" || desc.ArtifactType == "" {
			continue
		}
		m, err := l.Manifest(desc)
		if err != nil {
			return nil, fmt.Errorf("looking for referrers of %s: %w", d.Short(), err)
		}
		if m.Subject != nil && string(m.Subject.Digest) == string(d) {
			out = append(out, desc)
		}
	}
	return out, nil
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
