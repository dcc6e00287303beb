// Package tree reads, compares, packs and unpacks root file systems that lie
// in a directory. Its tar form is canonical: the same tree gives the same
// bytes, whatever machine, order or clock made it.
package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Entry is one path of a tree.
type Entry struct {
	Path string // slash-separated, relative to the root; "." is the root itself
	// Type is 'f' file, 'd' directory, 'l' symbolic link, 'h' further name of the file at Link, 'p' fifo, 's' socket, 'c' or 'b' device.
	Type     byte
	Mode     uint32 // permission, set-id and sticky bits (07777)
	UID, GID int
	Size     int64 // of regular files
	MTime    int64 // Unix seconds
	Link     string
	Xattrs   map[string]string
}

type inode struct{ dev, ino uint64 }

// Survey says how a walk treats trees that may be large, unreadable or changing.
type Survey struct {
	// Unread is told of a place that could not be looked at, or not completely,
	// and why. What it returns ends the walk; nil goes on with the rest. Without
	// it any such place ends the walk.
	Unread func(path string, err error) error
	// Skip leaves out a directory's content before it is read. The directory itself is visited.
	Skip func(path string) bool
	// Entries is how many entries are visited at most; 0 means no bound. A directory with more names than are left of
	// it ends the walk before any of them is visited.
	Entries int
}

// ErrTooMany says that a tree has more entries than the survey allows.
var ErrTooMany = errors.New("too many entries")

// maxDepth bounds how many directories lie in one another: each holds a file descriptor open.
const maxDepth = 500

// Walk calls fn for every entry below dir, the root first, children in byte
// order of their names, a directory before what is in it. The second and later
// names of a hard-linked file come as type 'h' with Link set to the first.
// fn may return fs.SkipDir for a directory. Symbolic links are never followed,
// not even one that takes a directory's place while the walk goes on (of such
// a place only the extended attributes may be another file's).
func Walk(dir string, fn func(Entry) error) error {
	return WalkSurvey(context.Background(), dir, Survey{}, fn)
}

// WalkSurvey is Walk with bounds, until ctx is done.
func WalkSurvey(ctx context.Context, dir string, o Survey, fn func(Entry) error) error {
	w := &walker{ctx: ctx, o: o, root: dir, seen: map[inode]string{}, visit: fn}
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		return fmt.Errorf("looking at %s: %w", dir, err)
	}
	e := entryOf(".", &st)
	if e.Xattrs, err = xattrs(dir + "/."); err != nil {
		return fmt.Errorf("reading extended attributes of %s: %w", dir, err)
	}
	err = w.enter(root, e, 0)
	if errors.Is(err, fs.SkipAll) {
		return nil
	}
	return err
}

type walker struct {
	ctx   context.Context
	o     Survey
	root  string
	seen  map[inode]string
	count int
	visit func(Entry) error
}

// enter visits the directory e, which dir is open on, and what is in it.
func (w *walker) enter(dir *os.File, e Entry, depth int) error {
	if err := w.visitOne(e); err != nil {
		if errors.Is(err, fs.SkipDir) {
			return nil
		}
		return err
	}
	if w.o.Skip != nil && w.o.Skip(e.Path) {
		return nil
	}
	if depth >= maxDepth {
		return w.failed(e.Path, fmt.Errorf("more than %d directories in one another", maxDepth))
	}
	names, err := w.names(dir, e.Path)
	if err != nil {
		return err
	}
	fd := int(dir.Fd())
	for _, name := range names {
		if err := w.child(fd, e.Path, name, depth); err != nil {
			return err
		}
	}
	return nil
}

// namesAtOnce is how many names of a directory are read before the bounds are looked at again.
const namesAtOnce = 4096

// names lists a directory in byte order. It stops as soon as the names alone are more than may still be visited, so
// that a directory of millions is neither read nor held whole.
func (w *walker) names(dir *os.File, rel string) ([]string, error) {
	var names []string
	for {
		if err := w.ctx.Err(); err != nil {
			return nil, err
		}
		some, err := dir.Readdirnames(namesAtOnce)
		names = append(names, some...)
		if w.o.Entries > 0 && w.count+len(names) > w.o.Entries {
			return nil, fmt.Errorf("%s: %w: more than %d", rel, ErrTooMany, w.o.Entries)
		}
		if err == nil {
			continue
		}
		slices.Sort(names)
		if errors.Is(err, io.EOF) {
			return names, nil
		}
		return names, w.failed(rel, fmt.Errorf("listing %s: %w", rel, err))
	}
}

func (w *walker) visitOne(e Entry) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if w.count++; w.o.Entries > 0 && w.count > w.o.Entries {
		return fmt.Errorf("%s: %w: more than %d", e.Path, ErrTooMany, w.o.Entries)
	}
	return w.visit(e)
}

func (w *walker) failed(rel string, err error) error {
	if w.o.Unread == nil {
		return err
	}
	return w.o.Unread(rel, err)
}

// child visits one name in an open directory. A name that has gone since it was listed is no error in a survey.
func (w *walker) child(dir int, parent, name string, depth int) error {
	rel := join(parent, name)
	e, err := w.entry(dir, rel, name)
	if err != nil {
		return w.failed(rel, err)
	}
	if e.Type != 'd' {
		return w.visitOne(e)
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		if err := w.visitOne(e); err != nil { // that it is there is known
			return skipped(err)
		}
		return w.failed(rel, fmt.Errorf("listing %s: %w", rel, err))
	}
	sub := os.NewFile(uintptr(fd), name)
	defer sub.Close()
	return w.enter(sub, e, depth+1)
}

func skipped(err error) error {
	if errors.Is(err, fs.SkipDir) {
		return nil
	}
	return err
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// entry looks at name in an open directory; rel is its path in the tree.
func (w *walker) entry(dir int, rel, name string) (Entry, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return Entry{}, fmt.Errorf("looking at %s: %w", rel, err)
	}
	e := entryOf(rel, &st)
	switch e.Type {
	case 'l':
		target, err := readlinkat(dir, name)
		if err != nil {
			return e, fmt.Errorf("reading link %s: %w", rel, err)
		}
		e.Link = target
	case 'f':
		id := inode{st.Dev, st.Ino}
		if first, ok := w.seen[id]; ok {
			e.Type, e.Link, e.Size = 'h', first, 0
			return e, nil
		}
		if st.Nlink > 1 {
			w.seen[id] = rel
		}
	}
	if e.Type == 'f' || e.Type == 'd' {
		var err error
		if e.Xattrs, err = xattrs(w.root + "/" + rel); err != nil {
			return e, fmt.Errorf("reading extended attributes of %s: %w", rel, err)
		}
	}
	return e, nil
}

func readlinkat(dir int, name string) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(dir, name, buf[:])
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// entryOf is what stat says of a path; Link and Xattrs are not set.
func entryOf(rel string, st *unix.Stat_t) Entry {
	e := Entry{
		Path: rel, Type: typeOf(st.Mode), Mode: st.Mode & 0o7777,
		UID: int(st.Uid), GID: int(st.Gid), MTime: st.Mtim.Sec,
	}
	switch e.Type {
	case 'l':
		e.Mode = 0o777
	case 'f':
		e.Size = st.Size
	}
	return e
}

func typeOf(mode uint32) byte {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 'f'
	case unix.S_IFDIR:
		return 'd'
	case unix.S_IFLNK:
		return 'l'
	case unix.S_IFIFO:
		return 'p'
	case unix.S_IFSOCK:
		return 's'
	case unix.S_IFCHR:
		return 'c'
	}
	return 'b'
}

// carried lists the attributes that belong to an image. Others (overlay's own,
// SELinux labels of the build host) are the machine's.
func carried(name string) bool {
	return name == "security.capability" || (strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay."))
}

func xattrs(full string) (map[string]string, error) {
	var buf [4096]byte
	n, err := unix.Llistxattr(full, buf[:])
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) || n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out map[string]string
	for name := range strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		if !carried(name) {
			continue
		}
		var val [4096]byte
		m, err := unix.Lgetxattr(full, name, val[:])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = string(val[:m])
	}
	return out, nil
}

// clean turns a tar member's name into a path below the root, or reports that it escapes.
func clean(name string) (string, error) {
	p := path.Clean(strings.TrimLeft(name, "/"))
	if p == ".." || strings.HasPrefix(p, "../") || strings.ContainsRune(p, 0) {
		return "", fmt.Errorf("member %q leaves the tree", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("member %q leaves the tree", name)
		}
	}
	return p, nil
}
