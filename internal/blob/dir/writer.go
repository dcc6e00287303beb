package dir

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"kiln"
)

// Writer is a blob being written. Nothing of it is visible before Commit.
// It is not safe for concurrent use. After an error of Write only Abort is useful.
type Writer struct {
	store *Store
	file  *os.File
	hash  hash.Hash
	size  int64
}

// Writer begins a blob. The caller ends it with Commit, Abort, or both in that order.
func (s *Store) Writer() (*Writer, error) {
	f, err := os.CreateTemp(s.temps(), fmt.Sprintf("%d-*", os.Getpid()))
	if err != nil {
		return nil, fmt.Errorf("storing blob: %w", s.explain(err))
	}
	// The lock tells cleaners in other processes, and in other PID namespaces, that somebody writes.
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		err = fmt.Errorf("locking %s: %w", f.Name(), err)
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return &Writer{store: s, file: f, hash: sha256.New()}, nil
}

// Write appends p.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	if err != nil {
		return n, w.store.explain(err)
	}
	return n, nil
}

// Size returns the number of bytes written so far.
func (w *Writer) Size() int64 { return w.size }

// Digest returns the digest of what was written so far.
func (w *Writer) Digest() kiln.Digest { return kiln.DigestSum(w.hash.Sum(nil)) }

// Reset throws away what was written so far.
func (w *Writer) Reset() error {
	if err := w.file.Truncate(0); err != nil {
		return fmt.Errorf("starting blob again: %w", err)
	}
	if _, err := w.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("starting blob again: %w", err)
	}
	w.hash.Reset()
	w.size = 0
	return nil
}

// Commit makes the blob visible under its digest and returns it. Where want is
// not empty and differs, nothing is stored and the error is ErrDigest.
func (w *Writer) Commit(want kiln.Digest) (kiln.Digest, error) {
	if w.file == nil {
		return "", errors.New("internal error: blob committed after its end")
	}
	got := w.Digest()
	if want != "" && got != want {
		w.Abort()
		return "", fmt.Errorf("storing blob: %w: expected %s, found %s", ErrDigest, want, got)
	}
	if err := w.publish(got); err != nil {
		w.Abort()
		return "", fmt.Errorf("storing blob %s: %w", got, w.store.explain(err))
	}
	w.file = nil
	return got, nil
}

func (w *Writer) publish(d kiln.Digest) error {
	if err := w.file.Chmod(0o444); err != nil {
		return err
	}
	if w.store.durable {
		if err := w.file.Sync(); err != nil {
			return err
		}
	}
	target := w.store.Path(d)
	made, err := ensureDir(filepath.Dir(target))
	if err != nil {
		return err
	}
	// Another writer of the same digest has the same bytes: whose rename comes last does not matter.
	if err := os.Rename(w.file.Name(), target); err != nil {
		return err
	}
	if err := w.file.Close(); err != nil {
		return err
	}
	if !w.store.durable {
		return nil
	}
	if made {
		if err := syncDir(w.store.blobs()); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(target))
}

// Abort throws the blob away. After Commit it does nothing.
func (w *Writer) Abort() {
	if w.file == nil {
		return
	}
	// Nothing depends on these: the next Open of the store removes what they leave.
	_ = os.Remove(w.file.Name())
	_ = w.file.Close()
	w.file = nil
}

func ensureDir(path string) (made bool, err error) {
	err = os.Mkdir(path, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func check(r io.Reader, want kiln.Digest) error {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return fmt.Errorf("reading blob %s: %w", want, err)
	}
	if got := kiln.DigestSum(h.Sum(nil)); got != want {
		return fmt.Errorf("blob %s: %w: it has %s", want, ErrDigest, got)
	}
	return nil
}

// staleAge is how old a temporary file must be to be removed while its writer's process id is in use.
const staleAge = time.Hour

// clean removes temporary files that nobody writes any more.
func (s *Store) clean() error {
	entries, err := os.ReadDir(s.temps())
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(s.temps(), e.Name())
		if !stale(path) {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func stale(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	if time.Since(info.ModTime()) < staleAge && alive(filepath.Base(path)) {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// alive reports whether the process that names the temporary file "PID-RANDOM" runs. A name of another form has no such process.
func alive(name string) bool {
	text, _, _ := strings.Cut(name, "-")
	pid, err := strconv.Atoi(text)
	if err != nil || pid <= 0 {
		return false
	}
	return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}
