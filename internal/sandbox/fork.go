package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Fork is a copy-on-write view of layers, for callers that edit files from
// outside a box. It lives in the process's mount namespace: call Enter first.
type Fork struct {
	// Merged is the tree to read and write.
	Merged string
	// Upper holds the changes alone, whiteouts included; empty if Copied.
	Upper string
	// Copied says why the fork is a full copy, where overlay is refused.
	Copied string
	work   string
}

// NewFork makes a fork of layers (top first) in the directory work, which is
// made and must not exist or be empty. Where the kernel refuses an overlay there, the
// layers are copied.
func NewFork(work string, layers ...string) (*Fork, error) {
	if len(layers) == 0 {
		return nil, errors.New("making a fork: no layers")
	}
	s := Spec{Layers: layers}
	if err := s.absolute(); err != nil {
		return nil, fmt.Errorf("making a fork: %w", err)
	}
	work, err := filepath.Abs(work)
	if err != nil {
		return nil, fmt.Errorf("making a fork: %w", err)
	}
	f := &Fork{Merged: filepath.Join(work, "merged"), Upper: filepath.Join(work, "upper"), work: work}
	for _, d := range []string{work, f.Merged, f.Upper, filepath.Join(work, "work")} {
		if err := os.Mkdir(d, 0o700); err != nil && !(d == work && os.IsExist(err)) {
			return nil, fmt.Errorf("making a fork: %w", err)
		}
	}
	if err := sameRoot(s.Layers[0], f.Upper); err != nil {
		return nil, fmt.Errorf("making a fork: %w", err)
	}
	err = mountOverlay(f.Merged, s.Layers, f.Upper, filepath.Join(work, "work"), unix.MS_NODEV)
	var refused *overlayError
	if errors.As(err, &refused) && !errors.Is(err, unix.EPERM) {
		if err := copyLayers(f.Merged, s.Layers); err != nil {
			return nil, errors.Join(fmt.Errorf("making a fork by copying: %w", err), os.RemoveAll(work))
		}
		f.Upper, f.Copied = "", refused.Error()
		return f, nil
	}
	if err != nil {
		return nil, errors.Join(explain(fmt.Errorf("making a fork: %w", err)), os.RemoveAll(work))
	}
	return f, nil
}

// Close unmounts the fork and removes its directory with all changes.
func (f *Fork) Close() error {
	if f.Copied == "" {
		if err := unix.Unmount(f.Merged, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmounting %s: %w", f.Merged, err)
		}
	}
	if err := os.RemoveAll(f.work); err != nil {
		return fmt.Errorf("removing a fork: %w", err)
	}
	return nil
}
