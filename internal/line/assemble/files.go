package assemble

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"kiln"
)

// filer puts the recipe's files into the tree.
type filer struct {
	at       *place
	accounts *accounts
	dir      *os.Root // the recipe's folder
	locked   []kiln.LockedFile
}

func (w *filer) all(files []kiln.FileSpec) error {
	for i, f := range files {
		if err := w.one(f); err != nil {
			return fmt.Errorf("files[%d], %s: %w", i, f.Path, err)
		}
	}
	return nil
}

// look is how an entry is to appear.
type look struct {
	mode     uint32
	set      bool // the recipe gave the mode
	uid, gid int
}

func (w *filer) one(f kiln.FileSpec) error {
	if !strings.HasPrefix(f.Path, "/") || strings.ContainsAny(f.Path, "\x00\n") {
		return errors.New("the path must be absolute")
	}
	for part := range strings.SplitSeq(f.Path, "/") {
		if part == ".." {
			return errors.New(`the path must not hold ".."`)
		}
	}
	l, err := w.look(f)
	if err != nil {
		return err
	}
	name, err := w.at.resolveParent(f.Path)
	if err != nil {
		return err
	}
	switch {
	case f.Content != nil:
		return w.file(name, strings.NewReader(*f.Content), l.or(0o644))
	case f.Source != "":
		return w.source(f, name, l)
	case f.Directory:
		return w.directory(f.Path, l.or(0o755))
	case f.Symlink != "":
		return w.symlink(name, f.Symlink, l)
	}
	return errors.New("one of content, source, directory and symlink must be given")
}

func (w *filer) look(f kiln.FileSpec) (l look, err error) {
	if l.uid, l.gid, err = w.accounts.ownerOf(f.Owner, f.Group); err != nil {
		return l, err
	}
	if f.Mode == "" {
		return l, nil
	}
	m, err := strconv.ParseUint(f.Mode, 8, 32)
	if err != nil || m > 0o7777 {
		return l, fmt.Errorf("mode %.12q is not octal text such as \"0644\"", f.Mode)
	}
	l.mode, l.set = uint32(m), true
	return l, nil
}

func (l look) or(mode uint32) look {
	if !l.set {
		l.mode = mode
	}
	return l
}

// forDirectory gives a directory the right to enter wherever the files' mode gives the right to read.
func (l look) forDirectory() look {
	if l.set {
		l.mode |= l.mode & 0o444 >> 2
	}
	return l.or(0o755)
}

// clear makes room for something that is no directory.
func (w *filer) clear(name string) error {
	if name == "." {
		return errors.New("that is the root directory")
	}
	st, err := w.at.lstat(name)
	if notExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return errors.New("a directory is there; remove it in a step, or choose another path")
	}
	return w.at.remove(name)
}

// file makes or replaces a file; a symbolic link that is there is replaced, not followed.
func (w *filer) file(name string, r io.Reader, l look) error {
	if err := w.clear(name); err != nil {
		return err
	}
	if err := w.at.writeFrom(name, r); err != nil {
		return err
	}
	return w.at.in(name, func(dir int, base string) error {
		if err := unix.Fchownat(dir, base, l.uid, l.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("setting owner %d:%d: %w", l.uid, l.gid, err)
		}
		return unix.Fchmodat(dir, base, l.mode, 0)
	})
}

func (w *filer) directory(name string, l look) error {
	name, err := w.at.resolve(name)
	if err != nil {
		return err
	}
	fd, err := w.at.dir(name, true)
	if err != nil {
		return err
	}
	return setDir(fd, dirClaim{mode: l.mode, uid: l.uid, gid: l.gid})
}

func (w *filer) symlink(name, target string, l look) error {
	if strings.ContainsRune(target, 0) {
		return errors.New("the target holds a zero byte")
	}
	if err := w.clear(name); err != nil {
		return err
	}
	if err := w.at.symlink(target, name); err != nil {
		return fmt.Errorf("making the symbolic link: %w", err)
	}
	return w.at.in(name, func(dir int, base string) error {
		return unix.Fchownat(dir, base, l.uid, l.gid, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// source copies a file or a whole directory beside the recipe, exactly what
// the lock lists of it, each file checked against its digest.
func (w *filer) source(f kiln.FileSpec, name string, l look) error {
	source := path.Clean(filepath.ToSlash(f.Source))
	found := false
	for _, lf := range w.locked {
		rel, below := strings.CutPrefix(lf.Path, source+"/")
		if source == "." {
			rel, below = lf.Path, lf.Path != "."
		}
		switch {
		case lf.Path == source && strings.HasPrefix(lf.Mode, "d"):
			found = true
			if err := w.directory(f.Path, l.forDirectory()); err != nil {
				return err
			}
		case lf.Path == source:
			return w.locked1(lf, name, l)
		case below && found:
			if err := w.below(f, lf, rel, l); err != nil {
				return fmt.Errorf("%s: %w", lf.Path, err)
			}
		}
	}
	if !found {
		return fmt.Errorf("source %s is not in the lock; lock the recipe again", source)
	}
	return nil
}

func (w *filer) below(f kiln.FileSpec, lf kiln.LockedFile, rel string, l look) error {
	dest := path.Join(f.Path, rel)
	if strings.HasPrefix(lf.Mode, "d") {
		return w.directory(dest, l.forDirectory())
	}
	name, err := w.at.resolveParent(dest)
	if err != nil {
		return err
	}
	return w.locked1(lf, name, l)
}

// locked1 copies one file or symbolic link that the lock lists.
func (w *filer) locked1(lf kiln.LockedFile, name string, l look) error {
	if strings.HasPrefix(lf.Mode, "l") {
		target, err := w.dir.Readlink(lf.Path)
		if err != nil {
			return err
		}
		if kiln.DigestBytes([]byte(target)) != lf.Digest {
			return changed(lf.Path)
		}
		return w.symlink(name, target, l)
	}
	mode, err := strconv.ParseUint(lf.Mode, 8, 32)
	if err != nil {
		return fmt.Errorf("the lock gives mode %.12q", lf.Mode)
	}
	usual := uint32(0o644)
	if mode&0o111 != 0 {
		usual = 0o755
	}
	f, err := openLocked(w.dir, lf)
	if err != nil {
		return err
	}
	defer f.Close()
	return w.file(name, f, l.or(usual))
}

// openLocked opens a file of the recipe's folder that has the locked content.
func openLocked(dir *os.Root, lf kiln.LockedFile) (*os.File, error) {
	f, err := dir.Open(lf.Path)
	if err != nil {
		return nil, err
	}
	sum, err := fileSum(f)
	if err == nil && sum != lf.Digest.Hex() {
		err = changed(lf.Path)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func changed(name string) error {
	return fmt.Errorf("%s has changed since the recipe was locked; lock it again", name)
}
