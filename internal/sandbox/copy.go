package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// copyLayers writes what an overlay of layers (top first) would show to dir.
func copyLayers(dir string, layers []string) error {
	for _, l := range slices.Backward(layers) {
		c := copier{from: l, to: dir, links: map[[2]uint64]string{}}
		if err := c.dir("."); err != nil {
			return fmt.Errorf("copying %s: %w", l, err)
		}
	}
	return nil
}

// copier copies one layer onto what lies below it.
type copier struct {
	from, to string
	links    map[[2]uint64]string // first copy of a file with several names
}

// dir copies a directory's entries, then its own attributes.
func (c *copier) dir(path string) error {
	entries, err := os.ReadDir(filepath.Join(c.from, path))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.entry(filepath.Join(path, e.Name())); err != nil {
			return err
		}
	}
	return c.attributes(path)
}

func (c *copier) entry(path string) error {
	src, dst := filepath.Join(c.from, path), filepath.Join(c.to, path)
	var st unix.Stat_t
	if err := unix.Lstat(src, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: src, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	whiteout := kind == unix.S_IFCHR && st.Rdev == 0
	if kind != unix.S_IFDIR || opaque(src) {
		if err := os.RemoveAll(dst); err != nil {
			return err
		}
	}
	if whiteout {
		return nil
	}
	if kind == unix.S_IFDIR {
		if d, err := os.Lstat(dst); err == nil && !d.IsDir() {
			if err := os.Remove(dst); err != nil {
				return err
			}
		}
		if err := os.Mkdir(dst, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return c.dir(path)
	}
	return c.file(path, &st)
}

// file copies anything but a directory.
func (c *copier) file(path string, st *unix.Stat_t) error {
	src, dst := filepath.Join(c.from, path), filepath.Join(c.to, path)
	if st.Nlink > 1 {
		id := [2]uint64{uint64(st.Dev), st.Ino}
		if first, ok := c.links[id]; ok {
			return os.Link(first, dst)
		}
		c.links[id] = dst
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if err := copyData(src, dst); err != nil {
			return err
		}
	case unix.S_IFLNK:
		to, err := os.Readlink(src)
		if err != nil {
			return err
		}
		if err := os.Symlink(to, dst); err != nil {
			return err
		}
	default: // fifo, socket, device
		if err := unix.Mknod(dst, st.Mode, int(st.Rdev)); err != nil {
			return &fs.PathError{Op: "mknod", Path: dst, Err: err}
		}
	}
	return c.attributes(path)
}

func copyData(src, dst string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(err, out.Close())
	}
	return out.Close()
}

// attributes copies owner, extended attributes, mode and times, in this order:
// a change of owner clears setuid and file capabilities.
func (c *copier) attributes(path string) error {
	src, dst := filepath.Join(c.from, path), filepath.Join(c.to, path)
	var st unix.Stat_t
	if err := unix.Lstat(src, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: src, Err: err}
	}
	if err := unix.Lchown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return &fs.PathError{Op: "chown", Path: dst, Err: err}
	}
	if err := copyXattrs(src, dst); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(dst, st.Mode&0o7777); err != nil {
			return &fs.PathError{Op: "chmod", Path: dst, Err: err}
		}
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(unix.AT_FDCWD, dst, times, unix.AT_SYMLINK_NOFOLLOW)
}

// copyXattrs copies extended attributes but those of overlay itself.
func copyXattrs(src, dst string) error {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(src, buf)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "listxattr", Path: src, Err: err}
	}
	for _, name := range strings.FieldsFunc(string(buf[:n]), func(r rune) bool { return r == 0 }) {
		if strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		v := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(src, name, v)
		if err == nil {
			err = unix.Lsetxattr(dst, name, v[:n], 0)
		}
		if err != nil {
			return &fs.PathError{Op: "copying attribute " + name, Path: src, Err: err}
		}
	}
	return nil
}

// opaque tells whether a directory hides those below it.
func opaque(dir string) bool {
	var v [1]byte
	for _, name := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		if n, err := unix.Lgetxattr(dir, name, v[:]); err == nil && n == 1 && v[0] == 'y' {
			return true
		}
	}
	return false
}
