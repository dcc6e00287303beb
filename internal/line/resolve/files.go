package resolve

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"kiln"
	"kiln/internal/component"
)

// Bounds of the files beside a recipe.
const (
	maxFiles     = 100_000
	maxFileBytes = 16 << 30
)

// lockFiles records every file beside the recipe that the build reads: the
// sources of files (directories whole), component documents with those that
// they name, goss files, profile and tailoring. The
// mode is octal text, with "d" before it for a directory and "l" for a
// symbolic link, whose digest is its target's; a directory's digest is that of
// no bytes. The policy is judged by, not built from, and is not listed.
func lockFiles(r *kiln.Recipe) ([]kiln.LockedFile, error) {
	refs := references(r)
	if len(refs) == 0 {
		return nil, nil
	}
	dir := r.Dir
	if dir == "" {
		dir = "."
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the recipe's folder: %w", err)
	}
	defer root.Close()
	w := &fileLocker{root: root, found: map[string]kiln.LockedFile{}, left: maxFileBytes}
	for _, ref := range refs {
		if err := w.add(ref.path); err != nil {
			return nil, fmt.Errorf("%s: %w", ref.field, err)
		}
		if ref.component {
			if err := w.nested(path.Clean(filepath.ToSlash(ref.path)), 0); err != nil {
				return nil, fmt.Errorf("%s: %w", ref.field, err)
			}
		}
	}
	var all []kiln.LockedFile
	for _, f := range w.found {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b kiln.LockedFile) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

type reference struct {
	field, path string
	component   bool
}

func references(r *kiln.Recipe) []reference {
	var refs []reference
	add := func(p, format string, i int) {
		if p != "" {
			refs = append(refs, reference{fmt.Sprintf(format, i), p, strings.HasSuffix(format, ".component")})
		}
	}
	for i, f := range r.Files {
		add(f.Source, "files[%d].source", i)
	}
	for i, s := range r.Steps {
		add(s.Component, "steps[%d].component", i)
	}
	for i, t := range r.Tests {
		add(t.Goss, "tests[%d].goss", i)
		add(t.Component, "tests[%d].component", i)
	}
	add(r.Hardening.ProfileFile, "hardening.profileFile%.0d", 0)
	add(r.Hardening.Tailoring, "hardening.tailoring%.0d", 0)
	return refs
}

type fileLocker struct {
	root  *os.Root
	found map[string]kiln.LockedFile
	left  int64
}

func (w *fileLocker) add(p string) error {
	p = path.Clean(filepath.ToSlash(p))
	if !fs.ValidPath(p) {
		return fmt.Errorf("%s leaves the recipe's folder; put the file beside the recipe", p)
	}
	if fi, err := w.root.Stat(p); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s does not exist in the recipe's folder", p)
		}
		return err
	} else if fi.Mode().IsRegular() {
		return w.file(p, fi)
	}
	return fs.WalkDir(w.root.FS(), p, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := w.root.Lstat(name)
		if err != nil {
			return err
		}
		return w.entry(name, fi)
	})
}

// maxComponent is far above the largest component document that can be run.
const maxComponent = 16 << 20

// maxNested is how deep components may name further ones; running them stops earlier.
const maxNested = 8

// nested adds the documents that a component names, and those that they name.
// A document that cannot be read as one is for the station that runs it to
// report; one that a loop or parameter names is not known before it runs, and
// is found there only if the recipe names it too.
func (w *fileLocker) nested(name string, depth int) error {
	if depth >= maxNested {
		return fmt.Errorf("documents are nested deeper than %d", maxNested)
	}
	if w.found[name].Size > maxComponent {
		return nil // too large for one: said where it runs
	}
	data, err := w.root.ReadFile(name)
	if err != nil {
		return err
	}
	doc, err := component.Parse(data, name)
	if err != nil {
		return nil //nolint:nilerr // said with more words where it runs
	}
	for _, n := range doc.Nested() {
		if _, known := w.found[n]; known {
			continue
		}
		if err := w.add(n); err != nil {
			return fmt.Errorf("%s names %w", name, err)
		}
		if err := w.nested(n, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (w *fileLocker) entry(name string, fi fs.FileInfo) error {
	switch {
	case fi.IsDir():
		return w.put(kiln.LockedFile{Path: name, Digest: kiln.DigestBytes(nil), Mode: mode("d", fi)})
	case fi.Mode()&fs.ModeSymlink != 0:
		target, err := w.root.Readlink(name)
		if err != nil {
			return err
		}
		return w.put(kiln.LockedFile{Path: name, Digest: kiln.DigestBytes([]byte(target)), Size: int64(len(target)), Mode: "l0777"})
	case fi.Mode().IsRegular():
		return w.file(name, fi)
	}
	return fmt.Errorf("%s is neither file, directory nor symbolic link", name)
}

func (w *fileLocker) file(name string, fi fs.FileInfo) error {
	if _, known := w.found[name]; known {
		return nil
	}
	f, err := w.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, w.left+1))
	if err != nil {
		return err
	}
	if w.left -= n; w.left < 0 {
		return fmt.Errorf("the recipe's files are larger than %d bytes together", int64(maxFileBytes))
	}
	return w.put(kiln.LockedFile{Path: name, Digest: kiln.DigestSum(h.Sum(nil)), Size: n, Mode: mode("", fi)})
}

func (w *fileLocker) put(f kiln.LockedFile) error {
	if len(w.found) >= maxFiles {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	w.found[f.Path] = f
	return nil
}

// mode is the permission bits, set-id and sticky bits as chmod takes them.
func mode(prefix string, fi fs.FileInfo) string {
	m := uint32(fi.Mode().Perm())
	for bit, set := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if fi.Mode()&bit != 0 {
			m |= set
		}
	}
	return fmt.Sprintf("%s%04o", prefix, m)
}
