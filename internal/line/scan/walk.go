package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of one walk. They are far above what an operating system has.
const (
	maxEntries = 1 << 20
	maxDepth   = 128
	maxLinks   = 40 // symbolic links followed for one path, as the kernel does
)

// entry is one path of the tree.
type entry struct {
	mode fs.FileMode
	size int64
	link string // target of a symbolic link
}

// table is the whole tree in memory: path -> entry, without the root.
type table struct {
	entries map[string]entry
	paths   []string // in byte order
	dirs    map[string]string
	count   int // of regular files
	bytes   int64
}

// walk lists the tree below root, never following a symbolic link.
func walk(ctx context.Context, root *os.Root) (*table, error) {
	t := &table{entries: map[string]entry{}, dirs: map[string]string{".": "."}}
	if err := t.walk(ctx, root, "", 0); err != nil {
		return nil, err
	}
	slices.Sort(t.paths)
	return t, nil
}

func (t *table) walk(ctx context.Context, dir *os.Root, prefix string, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if depth > maxDepth {
		return fmt.Errorf("%s: directories nested deeper than %d", printable(prefix), maxDepth)
	}
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	list, err := f.ReadDir(-1)
	f.Close()
	if err != nil {
		return err
	}
	for _, d := range list {
		if err := t.visit(ctx, dir, prefix, d, depth); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) visit(ctx context.Context, dir *os.Root, prefix string, d fs.DirEntry, depth int) error {
	name := prefix + d.Name()
	info, err := dir.Lstat(d.Name())
	if err != nil {
		return err
	}
	if len(t.paths) >= maxEntries {
		return fmt.Errorf("more than %d files and directories", maxEntries)
	}
	e := entry{mode: info.Mode(), size: info.Size()}
	switch {
	case e.mode.IsRegular():
		t.count++
		t.bytes += e.size
	case e.mode.Type() == fs.ModeSymlink:
		if e.link, err = dir.Readlink(d.Name()); err != nil {
			return err
		}
	}
	t.entries[name] = e
	t.paths = append(t.paths, name)
	if !e.mode.IsDir() {
		return nil
	}
	sub, err := dir.OpenRoot(d.Name())
	if err != nil {
		return err
	}
	defer sub.Close()
	return t.walk(ctx, sub, name+"/", depth+1)
}

// place returns where a path lies once the symbolic links among its directories
// are followed, the tree being the root: "bin/sh" is "usr/bin/sh" in a merged tree.
func (t *table) place(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" {
		return "."
	}
	dir, base := path.Split(name)
	return path.Join(t.directory(path.Clean(dir), maxLinks), base)
}

// follow is place with a link at the end followed too.
func (t *table) follow(name string) string { return t.resolve(t.place(name), maxLinks) }

// directory resolves every component of dir; a path that does not exist or loops is returned as far as it is known.
func (t *table) directory(dir string, links int) string {
	if known, ok := t.dirs[dir]; ok {
		return known
	}
	parent, base := path.Split(dir)
	at := t.resolve(path.Join(t.directory(path.Clean(parent), links), base), links)
	if links == maxLinks {
		t.dirs[dir] = at
	}
	return at
}

func (t *table) resolve(at string, links int) string {
	e := t.entries[at]
	if e.mode.Type() != fs.ModeSymlink || links <= 0 {
		return at
	}
	target := e.link
	if !strings.HasPrefix(target, "/") {
		target = "/" + path.Join(path.Dir(at), target)
	}
	target = strings.TrimPrefix(path.Clean(target), "/")
	if target == "" {
		return "."
	}
	dir, base := path.Split(target)
	return t.resolve(path.Join(t.directory(path.Clean(dir), links-1), base), links-1)
}

// tooLarge says that a file exceeds what is read of its kind.
type tooLarge struct{ size, max int64 }

func (e *tooLarge) Error() string {
	return fmt.Sprintf("%d bytes, more than the %d that are read of such a file", e.size, e.max)
}

// read returns the content of a regular file of at most max bytes, links followed inside the tree.
func (t *table) read(root *os.Root, name string, max int64) ([]byte, error) {
	at := t.follow(name)
	e, ok := t.entries[at]
	switch {
	case !ok:
		return nil, fmt.Errorf("%s: %w", printable(name), fs.ErrNotExist)
	case !e.mode.IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", printable(name))
	case e.size > max:
		return nil, &tooLarge{e.size, max}
	}
	f, err := root.Open(at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, max)
}

func readAll(r io.Reader, max int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, max+1))
	if err == nil && int64(len(data)) > max {
		return nil, &tooLarge{int64(len(data)), max}
	}
	return data, err
}

func exists(err error) bool { return !errors.Is(err, fs.ErrNotExist) }

// printable returns s with control characters and bytes that are no UTF-8 written as escapes, so that a file
// name can neither break a document nor a terminal.
func printable(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, isControl) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case isControl(r):
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

func isControl(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }
