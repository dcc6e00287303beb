// Package dir stores content by its digest in a directory:
// ROOT/sha256/aa/HEX, where aa are the first two digits of HEX.
//
// A blob is visible only when it is complete and has the digest that names it;
// until then it is a temporary file in ROOT/tmp. Several processes may share a
// store. Whoever can write to the directory can replace a blob's content:
// [Store.Verify] and [Store.OpenVerified] notice, [Store.Open] does not.
package dir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"kiln"
)

// DefaultMax is the largest blob that Put accepts when no bound is given.
const DefaultMax = 16 << 30

// Errors of the store, to be tested with errors.Is.
var (
	// ErrDigest says that content does not have the digest that names it.
	ErrDigest = errors.New("content does not have the expected digest")
	// ErrSize says that content is larger than was allowed, or has another size than expected.
	ErrSize = errors.New("content does not have the expected size")
)

// Store is a directory of blobs. Its methods are safe for concurrent use, by several processes too.
type Store struct {
	root    string
	durable bool
}

// Option changes how a store works.
type Option func(*Store)

// Durable makes a write return only when the blob and its name are on the disk
// (fsync of file and directory). Without it a power failure may leave a blob
// with wrong content, which is right for a cache whose readers check sizes and
// digests; a process that is killed never does.
func Durable() Option { return func(s *Store) { s.durable = true } }

// Open opens the store in path, makes it where it does not exist, and removes
// temporary files whose writers are gone.
func Open(path string, options ...Option) (*Store, error) {
	root, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening blob store %s: %w", path, err)
	}
	s := &Store{root: root}
	for _, o := range options {
		o(s)
	}
	for _, d := range []string{s.blobs(), s.temps()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("opening blob store: %w", s.explain(err))
		}
	}
	if err := s.clean(); err != nil {
		return nil, fmt.Errorf("cleaning blob store %s: %w", s.root, err)
	}
	return s, nil
}

func (s *Store) blobs() string { return filepath.Join(s.root, "sha256") }
func (s *Store) temps() string { return filepath.Join(s.root, "tmp") }

// Path returns where the blob lies or would lie. It must only be read. A string
// that is no digest gives a path that never exists.
func (s *Store) Path(d kiln.Digest) string {
	if d.Validate() != nil {
		return filepath.Join(s.blobs(), "not-a-digest")
	}
	return filepath.Join(s.blobs(), d.Hex()[:2], d.Hex())
}

// Has reports whether the blob is in the store. It does not read it.
func (s *Store) Has(d kiln.Digest) bool {
	_, err := s.Size(d)
	return err == nil
}

// Size returns the blob's size in bytes; the error is fs.ErrNotExist when the store lacks it.
func (s *Store) Size(d kiln.Digest) (int64, error) {
	if err := d.Validate(); err != nil {
		return 0, err
	}
	info, err := os.Lstat(s.Path(d))
	switch {
	case err != nil:
		return 0, fmt.Errorf("blob %s: %w", d, err)
	case !info.Mode().IsRegular():
		return 0, fmt.Errorf("blob %s: %s is not a regular file", d, s.Path(d))
	}
	return info.Size(), nil
}

// Open opens the blob for reading; the error is fs.ErrNotExist when the store lacks it.
func (s *Store) Open(d kiln.Digest) (*os.File, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(s.Path(d), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("opening blob %s: %w", d, err)
	}
	return f, nil
}

// OpenVerified opens the blob after reading it whole and comparing its digest.
func (s *Store) OpenVerified(d kiln.Digest) (*os.File, error) {
	f, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	if err := check(f, d); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(fmt.Errorf("rereading blob %s: %w", d, err), f.Close())
	}
	return f, nil
}

// Verify reads the blob and reports whether its content still has its digest.
func (s *Store) Verify(d kiln.Digest) error {
	f, err := s.OpenVerified(d)
	if err != nil {
		return err
	}
	return f.Close()
}

// Remove deletes the blob. Removing one that is not there is no error.
func (s *Store) Remove(d kiln.Digest) error {
	if err := d.Validate(); err != nil {
		return err
	}
	if err := os.Remove(s.Path(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing blob %s: %w", d, err)
	}
	return nil
}

// Put stores what r yields and returns its digest and size. A want that is not
// empty must be the content's digest, and max bounds its size (0 means
// [DefaultMax]); otherwise nothing is stored. Where the store already has want,
// r is not read.
func (s *Store) Put(r io.Reader, want kiln.Digest, max int64) (kiln.Digest, int64, error) {
	if want != "" {
		if size, err := s.Size(want); err == nil {
			return want, size, nil
		}
	}
	if max <= 0 {
		max = DefaultMax
	}
	w, err := s.Writer()
	if err != nil {
		return "", 0, err
	}
	defer w.Abort()
	n, err := io.Copy(w, io.LimitReader(r, max+1))
	if err != nil {
		return "", 0, fmt.Errorf("storing blob: %w", err)
	}
	if n > max {
		return "", 0, fmt.Errorf("storing blob: %w: more than the %d bytes allowed", ErrSize, max)
	}
	d, err := w.Commit(want)
	return d, n, err
}

// explain adds to an error of the file system what its user can do.
func (s *Store) explain(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %s is full; free some space there or choose another place for the store", err, s.root)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: the store needs a directory that this user may write", err)
	}
	return err
}
