// Package tree reads, compares, packs and unpacks root file systems that lie
// in a directory. Its tar form is canonical: the same tree gives the same
// bytes, whatever machine, order or clock made it.
package tree

import (
	"errors"
	"fmt"
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

type walker struct {
	root  string
	seen  map[inode]string
	visit func(Entry) error
}

// Walk calls fn for every entry below dir, the root first, children in byte
// order of their names, a directory before what is in it. The second and later
// names of a hard-linked file come as type 'h' with Link set to the first.
// fn may return fs.SkipDir for a directory. Symbolic links are never followed.
func Walk(dir string, fn func(Entry) error) error {
	w := &walker{root: dir, seen: map[inode]string{}, visit: fn}
	if err := w.walk("."); err != nil && !errors.Is(err, fs.SkipAll) {
		return err
	}
	return nil
}

func (w *walker) walk(rel string) error {
	e, err := w.entry(rel)
	if err != nil {
		return err
	}
	if err := w.visit(e); err != nil {
		if e.Type == 'd' && errors.Is(err, fs.SkipDir) {
			return nil
		}
		return err
	}
	if e.Type != 'd' {
		return nil
	}
	names, err := readNames(w.root + "/" + rel)
	if err != nil {
		return fmt.Errorf("listing %s: %w", rel, err)
	}
	for _, name := range names {
		if err := w.walk(join(rel, name)); err != nil {
			return err
		}
	}
	return nil
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (w *walker) entry(rel string) (Entry, error) {
	full := w.root + "/" + rel
	var st unix.Stat_t
	if err := unix.Lstat(full, &st); err != nil {
		return Entry{}, fmt.Errorf("looking at %s: %w", rel, err)
	}
	e := Entry{
		Path: rel, Type: typeOf(st.Mode), Mode: st.Mode & 0o7777,
		UID: int(st.Uid), GID: int(st.Gid), MTime: st.Mtim.Sec,
	}
	switch e.Type {
	case 'l':
		target, err := os.Readlink(full)
		if err != nil {
			return e, fmt.Errorf("reading link %s: %w", rel, err)
		}
		e.Link, e.Mode = target, 0o777
	case 'f':
		e.Size = st.Size
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
		if e.Xattrs, err = xattrs(full); err != nil {
			return e, fmt.Errorf("reading extended attributes of %s: %w", rel, err)
		}
	}
	return e, nil
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
