package tree

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bound what ReadTar unpacks. Zero fields mean the defaults: one
// million entries and 20 GiB.
type Limits struct {
	Entries int
	Bytes   int64
}

func (l Limits) orDefault() Limits {
	if l.Entries == 0 {
		l.Entries = 1_000_000
	}
	if l.Bytes == 0 {
		l.Bytes = 20 << 30
	}
	return l
}

// ReadTar unpacks a tar stream below dir, which must exist. The stream is
// hostile: names that leave the tree, links that lead out of it, device nodes
// and more than the limits are errors, and no symbolic link made by an earlier
// member is ever followed out of dir. Owners are set when the process may.
func ReadTar(r io.Reader, dir string, l Limits) (Stats, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Stats{}, fmt.Errorf("unpacking: %w", err)
	}
	defer root.Close()
	x := &extractor{root: root, dir: dir, limits: l.orDefault(), chown: os.Geteuid() == 0, buf: make([]byte, 256<<10)}
	if err := x.all(tar.NewReader(r)); err != nil {
		return x.stats, fmt.Errorf("unpacking: %w", err)
	}
	return x.stats, nil
}

type dirTime struct {
	path  string
	mtime time.Time
}

type extractor struct {
	root    *os.Root
	dir     string
	limits  Limits
	chown   bool
	entries int
	stats   Stats
	dirs    []dirTime
	buf     []byte
}

func (x *extractor) all(tr *tar.Reader) error {
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return x.finishDirs()
		}
		if err != nil {
			return fmt.Errorf("reading tar: %w", err)
		}
		if x.entries++; x.entries > x.limits.Entries {
			return fmt.Errorf("more than %d entries", x.limits.Entries)
		}
		name, err := clean(h.Name)
		if err != nil {
			return err
		}
		if err := CheckDense(h); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := x.member(name, h, tr); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// finishDirs sets directory times last, since making children changes them.
func (x *extractor) finishDirs() error {
	for i := len(x.dirs) - 1; i >= 0; i-- {
		d := x.dirs[i]
		if err := x.root.Chtimes(d.path, d.mtime, d.mtime); err != nil {
			return fmt.Errorf("setting time: %w", err)
		}
	}
	return nil
}

func (x *extractor) member(name string, h *tar.Header, body io.Reader) error {
	if h.Typeflag != tar.TypeDir {
		if err := x.clear(name); err != nil {
			return err
		}
		x.stats.Files++
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return x.file(name, h, body)
	case tar.TypeDir:
		return x.directory(name, h)
	case tar.TypeSymlink:
		if err := x.root.Symlink(h.Linkname, name); err != nil {
			return err
		}
		if x.chown {
			if err := x.root.Lchown(name, h.Uid, h.Gid); err != nil {
				return err
			}
		}
		return x.linkTime(name, h.ModTime)
	case tar.TypeLink:
		target, err := clean(h.Linkname)
		if err != nil {
			return err
		}
		return x.root.Link(target, name)
	case tar.TypeFifo:
		return x.fifo(name, h)
	}
	return fmt.Errorf("type %q is refused: no device nodes, no unknown types", h.Typeflag)
}

// clear makes room for name: parents exist, and what is there already is no longer.
func (x *extractor) clear(name string) error {
	if name == "." {
		return errors.New("the root must be a directory")
	}
	if parent := path.Dir(name); parent != "." {
		if _, err := x.root.Lstat(parent); errors.Is(err, fs.ErrNotExist) {
			if err := x.root.MkdirAll(parent, 0o755); err != nil {
				return err
			}
		}
	}
	if err := x.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (x *extractor) file(name string, h *tar.Header, body io.Reader) error {
	if h.Size < 0 || h.Size > x.limits.Bytes-x.stats.Bytes { // no sum: it could overflow
		return fmt.Errorf("more than %d bytes", x.limits.Bytes)
	}
	x.stats.Bytes += h.Size
	f, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{f}, body, x.buf); err != nil {
		return err
	}
	if err := x.own(f, h); err != nil {
		return err
	}
	return unix.Futimes(int(f.Fd()), times(h.ModTime))
}

func times(t time.Time) []unix.Timeval {
	tv := unix.NsecToTimeval(t.UnixNano())
	return []unix.Timeval{tv, tv}
}

// own sets owner, then mode (chown clears set-id bits), then attributes.
func (x *extractor) own(f *os.File, h *tar.Header) error {
	if x.chown {
		if err := f.Chown(h.Uid, h.Gid); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(int(f.Fd()), uint32(h.Mode&0o7777)); err != nil {
		return err
	}
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, paxXattr)
		if !ok || !carried(attr) {
			continue
		}
		if err := unix.Fsetxattr(int(f.Fd()), attr, []byte(value), 0); err != nil {
			return fmt.Errorf("setting %s: %w", attr, err)
		}
	}
	return nil
}

func (x *extractor) directory(name string, h *tar.Header) error {
	info, err := x.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := x.root.MkdirAll(name, 0o755); err != nil {
			return err
		}
	case err != nil:
		return err
	case !info.IsDir():
		return errors.New("a directory where the tree already has something else")
	}
	f, err := x.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	x.dirs = append(x.dirs, dirTime{name, h.ModTime})
	return x.own(f, h)
}

// inParent runs fn with a descriptor of name's parent directory, resolved inside the root.
func (x *extractor) inParent(name string, fn func(fd int, base string) error) error {
	parent, err := x.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer parent.Close()
	return fn(int(parent.Fd()), path.Base(name))
}

func (x *extractor) linkTime(name string, t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	return x.inParent(name, func(fd int, base string) error {
		return unix.UtimesNanoAt(fd, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (x *extractor) fifo(name string, h *tar.Header) error {
	return x.inParent(name, func(fd int, base string) error {
		if err := unix.Mknodat(fd, base, unix.S_IFIFO|uint32(h.Mode&0o777), 0); err != nil {
			return err
		}
		if !x.chown {
			return nil
		}
		return unix.Fchownat(fd, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW)
	})
}
