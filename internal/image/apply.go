package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kiln/internal/tree"
)

const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	paxXattr       = "SCHILY.xattr."
	// maxLinks bounds symbolic links followed on the way to one member's directory.
	maxLinks = 40
)

// applier puts tar members into a directory. It resolves symbolic links in the
// directory part itself, as if the directory were the root of a file system,
// and then acts through os.Root, so that nothing outside can be reached.
type applier struct {
	root   *os.Root
	dir    string
	limits Limits
	out    *Unpacked
	added  map[string]bool // what the current layer has put there, directories on the way too
	dirs   map[string]time.Time
}

func (a *applier) member(h *tar.Header, content io.Reader) error {
	if err := tree.CheckDense(h); err != nil {
		return err
	}
	// No sum: with a size from the archive it could overflow.
	if a.out.Entries >= a.limits.Entries || h.Size < 0 || h.Size > a.limits.Bytes-a.out.Bytes {
		return fmt.Errorf("the image is larger than the limit of %d entries and %d bytes", a.limits.Entries, a.limits.Bytes)
	}
	a.out.Entries++
	a.out.Bytes += h.Size
	name, err := cleanMember(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return errors.New("the root is not a directory")
		}
		return a.metadata(".", h)
	}
	base := path.Base(name)
	whiteout := strings.HasPrefix(base, whiteoutPrefix)
	dir, err := a.resolveDir(path.Dir(name), !whiteout)
	if whiteout && errors.Is(err, fs.ErrNotExist) {
		return nil // nothing there to hide
	}
	if err != nil {
		return err
	}
	switch {
	case base == whiteoutOpaque:
		return a.hideChildren(dir)
	case strings.HasPrefix(base, whiteoutPrefix+whiteoutPrefix):
		return nil // aufs bookkeeping
	case whiteout:
		return a.hide(path.Join(dir, strings.TrimPrefix(base, whiteoutPrefix)))
	}
	return a.place(path.Join(dir, base), h, content)
}

// cleanMember returns the member's path below the root.
func cleanMember(name string) (string, error) {
	if slices.Contains(strings.Split(name, "/"), "..") {
		return "", errors.New("the name leaves the image")
	}
	if strings.ContainsRune(name, 0) || len(name) > 4096 {
		return "", errors.New("the name is no path")
	}
	return path.Clean(strings.TrimLeft(name, "/") + "/."), nil
}

// resolveDir returns the directory without symbolic links in it; what is
// missing is made, or fs.ErrNotExist.
func (a *applier) resolveDir(dir string, create bool) (string, error) {
	links := 0
	done, todo := ".", strings.Split(dir, "/")
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done) // "." stays ".": the root is its own parent
			continue
		}
		next := path.Join(done, part)
		info, err := a.root.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist) && create:
			if err := a.root.Mkdir(next, 0o755); err != nil {
				return "", err
			}
			done = next
		case err != nil:
			return "", err
		case info.Mode()&fs.ModeSymlink != 0:
			if links++; links > maxLinks {
				return "", errors.New("too many symbolic links in the directory part")
			}
			target, err := a.root.Readlink(next)
			if err != nil {
				return "", err
			}
			if strings.HasPrefix(target, "/") {
				done = "."
			}
			todo = append(strings.Split(target, "/"), todo...)
		case info.IsDir():
			done = next
		default:
			return "", fmt.Errorf("%s is not a directory", next)
		}
	}
	return done, nil
}

// hide removes what lower layers had at p; what this layer put there stays.
func (a *applier) hide(p string) error {
	if !a.added[p] {
		return a.root.RemoveAll(p)
	}
	info, err := a.root.Lstat(p)
	if err == nil && info.IsDir() {
		return a.hideChildren(p)
	}
	return nil
}

func (a *applier) hideChildren(dir string) error {
	names, err := a.readNames(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := a.hide(path.Join(dir, n)); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) readNames(dir string) ([]string, error) {
	f, err := a.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func (a *applier) mark(p string) {
	for ; p != "." && !a.added[p]; p = path.Dir(p) {
		a.added[p] = true
	}
}

// place makes one member at p, whose directory part has no symbolic links.
func (a *applier) place(p string, h *tar.Header, content io.Reader) error {
	if err := a.clear(p, h); err != nil {
		return err
	}
	a.mark(p)
	var err error
	switch h.Typeflag {
	case tar.TypeDir:
		if err = a.root.Mkdir(p, 0o700); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	case tar.TypeReg:
		err = a.file(p, content, h.Size)
	case tar.TypeSymlink:
		err = a.root.Symlink(h.Linkname, p)
	case tar.TypeLink:
		return a.link(p, h.Linkname)
	case tar.TypeFifo:
		err = unix.Mkfifo(filepath.Join(a.dir, p), 0o600)
	case tar.TypeChar, tar.TypeBlock:
		a.skip(p, "device node")
		return nil
	case tar.TypeXGlobalHeader:
		return nil
	default:
		a.skip(p, fmt.Sprintf("unknown type %q", h.Typeflag))
		return nil
	}
	if err != nil {
		return err
	}
	return a.metadata(p, h)
}

const maxSkipped = 1000

func (a *applier) skip(p, why string) {
	if len(a.out.Skipped) < maxSkipped {
		a.out.Skipped = append(a.out.Skipped, p+": "+why)
	}
}

// clear removes what stands at p, except a directory that stays one.
func (a *applier) clear(p string, h *tar.Header) error {
	info, err := a.root.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() && h.Typeflag == tar.TypeDir {
		return nil
	}
	return a.root.RemoveAll(p)
}

func (a *applier) file(p string, content io.Reader, size int64) error {
	f, err := a.root.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, content)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	return errors.Join(err, f.Close())
}

func (a *applier) link(p, target string) error {
	clean, err := cleanMember(target)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", clip(target), err)
	}
	dir, err := a.resolveDir(path.Dir(clean), false)
	if err != nil {
		return err
	}
	from := path.Join(dir, path.Base(clean))
	if info, err := a.root.Lstat(from); err != nil || info.IsDir() {
		return fmt.Errorf("hard link to %q, which is not there or a directory", clip(target))
	}
	if from == p {
		return errors.New("hard link to itself")
	}
	return a.root.Link(from, p)
}

// metadata sets owner, mode, attributes and time; those of a directory's time wait for finish.
func (a *applier) metadata(p string, h *tar.Header) error {
	if err := a.root.Lchown(p, h.Uid, h.Gid); err != nil {
		return fmt.Errorf("setting the owner %d:%d: %w", h.Uid, h.Gid, err)
	}
	mtime := h.ModTime
	if h.Typeflag == tar.TypeSymlink {
		ts := []unix.Timespec{unix.NsecToTimespec(mtime.UnixNano()), unix.NsecToTimespec(mtime.UnixNano())}
		return unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(a.dir, p), ts, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err := unix.Chmod(filepath.Join(a.dir, p), uint32(h.Mode)&0o7777); err != nil {
		return fmt.Errorf("setting the mode: %w", err)
	}
	for name, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(name, paxXattr)
		if !ok || (attr != "security.capability" && !strings.HasPrefix(attr, "user.")) {
			continue
		}
		if err := unix.Lsetxattr(filepath.Join(a.dir, p), attr, []byte(value), 0); err != nil {
			return fmt.Errorf("setting attribute %s: %w", attr, err)
		}
	}
	if h.Typeflag == tar.TypeDir {
		if a.dirs == nil {
			a.dirs = map[string]time.Time{}
		}
		a.dirs[p] = mtime
		return nil
	}
	return a.root.Chtimes(p, mtime, mtime)
}

// finish sets the times of directories, which unpacking into them has changed.
func (a *applier) finish() error {
	for p, t := range a.dirs {
		info, err := a.root.Lstat(p)
		if err != nil || !info.IsDir() { // a later layer removed it
			continue
		}
		if err := a.root.Chtimes(p, t, t); err != nil {
			return fmt.Errorf("setting the time of %s: %w", p, err)
		}
	}
	return nil
}
