package component

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"kiln/internal/smallfile"
)

// maxLinks bounds how many symbolic links one path may pass.
const maxLinks = 40

// follow returns the path below the root that p means inside the image, with
// symbolic links resolved as the image's own programs would: an absolute target
// begins at the image's root. What does not exist yet is kept as it is. The
// last element is followed only when last is set. os.Root, which every access
// goes through, refuses what would leave the tree all the same.
func (x *run) follow(p string, last bool) (string, error) {
	if strings.ContainsRune(p, 0) || p == "" {
		return "", fmt.Errorf("%q is no path", p)
	}
	rest := strings.Split(p, "/")
	var done []string
	for links := 0; len(rest) > 0; {
		element := rest[0]
		rest = rest[1:]
		switch element {
		case "", ".":
			continue
		case "..":
			done = done[:max(len(done)-1, 0)]
			continue
		}
		here := strings.Join(append(slices.Clone(done), element), "/")
		info, err := x.root.Lstat(here)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		final := len(strings.Join(rest, "")) == 0
		if err != nil || info.Mode()&fs.ModeSymlink == 0 || final && !last {
			done = append(done, element)
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s passes too many symbolic links", p)
		}
		target, err := x.root.Readlink(here)
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			done = nil
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	if len(done) == 0 {
		return ".", nil
	}
	return strings.Join(done, "/"), nil
}

func (x *run) stat(p string) (os.FileInfo, error) {
	at, err := x.follow(p, true)
	if err != nil {
		return nil, err
	}
	return x.root.Stat(at)
}

// open opens a regular file for reading.
func (x *run) open(p string) (*os.File, error) {
	at, err := x.follow(p, true)
	if err != nil {
		return nil, err
	}
	info, err := x.root.Stat(at)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", p)
	}
	return x.root.Open(at)
}

// text reads a whole file of at most 1 MiB.
func (x *run) text(p string) ([]byte, error) {
	f, err := x.open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return smallfile.All(f, p, maxText)
}

// parents makes the folders above a path, 0755, owned by root.
func (x *run) parents(at string) error {
	dir := path.Dir(at)
	if dir == "." {
		return nil
	}
	if info, err := x.root.Stat(dir); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("/%s is no folder", dir)
		}
		return nil
	}
	if err := x.parents(dir); err != nil {
		return err
	}
	if err := x.root.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return x.root.Chmod(dir, 0o755)
}

// write replaces or makes a regular file. A file that is there keeps mode and owner.
func (x *run) write(at string, data []byte, mode fs.FileMode) error {
	if info, err := x.root.Lstat(at); err == nil {
		if !info.Mode().IsRegular() {
			return fmt.Errorf("/%s is there and no regular file", at)
		}
		return x.root.WriteFile(at, data, 0)
	}
	if err := x.parents(at); err != nil {
		return err
	}
	if err := x.root.WriteFile(at, data, 0o600); err != nil {
		return err
	}
	return x.root.Chmod(at, mode)
}

func (x *run) createFile(in input) error {
	at, err := x.follow(in.text("path"), true)
	if err != nil {
		return err
	}
	if _, err := x.root.Lstat(at); err == nil && !in.flag("overwrite", true) {
		return fmt.Errorf("%s is already there, and overwrite is false", in.text("path"))
	}
	data, err := encodeText(in.text("content"), in.text("encoding"))
	if err != nil {
		return err
	}
	if err := x.write(at, data, 0o644); err != nil {
		return err
	}
	return x.properties(at, in)
}

// properties applies owner, group and permissions, owner first: changing it clears set-id bits.
func (x *run) properties(at string, in input) error {
	if in.text("owner") != "" || in.text("group") != "" {
		uid, gid, err := x.owner(in.text("owner"), in.text("group"), false)
		if err != nil {
			return err
		}
		if err := x.root.Chown(at, uid, gid); err != nil {
			return err
		}
	}
	if in.text("permissions") == "" {
		return nil
	}
	mode, err := permissions(in.text("permissions"))
	if err != nil {
		return err
	}
	return x.root.Chmod(at, mode)
}

var octal = regexp.MustCompile(`^(0o?)?[0-7]{3,4}$`)

func permissions(s string) (fs.FileMode, error) {
	if !octal.MatchString(s) {
		return 0, fmt.Errorf("permissions %q are not octal such as 0644", s)
	}
	bits, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 32)
	if err != nil {
		return 0, err
	}
	mode := fs.FileMode(bits & 0o777)
	for bit, flag := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	return mode, nil
}

// owner looks names up in the image's own account files. Without a group the
// user's own one is taken when primary is set; -1 leaves an id as it is.
func (x *run) owner(user, group string, primary bool) (uid, gid int, err error) {
	uid, gid = -1, -1
	if user != "" {
		entry, err := x.account("/etc/passwd", user, 4)
		if err != nil {
			return 0, 0, err
		}
		uid = entry[0]
		if primary && len(entry) > 1 {
			gid = entry[1]
		}
	}
	if group != "" {
		entry, err := x.account("/etc/group", group, 3)
		if err != nil {
			return 0, 0, err
		}
		gid = entry[0]
	}
	return uid, gid, nil
}

// account returns the ids of an entry in an account file with at least that many fields; a number that is not listed stands for itself.
func (x *run) account(file, name string, fields int) ([]int, error) {
	data, err := x.text(file)
	if err != nil {
		return nil, fmt.Errorf("looking up %s: %w", name, err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		f := strings.Split(line, ":")
		if len(f) < fields || f[0] != name && f[2] != name {
			continue
		}
		var ids []int
		for _, text := range f[2:fields] {
			id, err := strconv.Atoi(text)
			if err != nil || id < 0 {
				return nil, fmt.Errorf("%s: the entry of %s has a bad id", file, name)
			}
			ids = append(ids, id)
		}
		return ids, nil
	}
	if id, err := strconv.ParseUint(name, 10, 32); err == nil && id < 1<<32-1 {
		return []int{int(id)}, nil
	}
	return nil, fmt.Errorf("%s has no entry %s", file, name)
}

func (x *run) appendFile(in input) error {
	at, err := x.follow(in.text("path"), true)
	if err != nil {
		return err
	}
	info, err := x.root.Stat(at)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", in.text("path"))
	}
	data, err := encodeText(in.text("content"), in.text("encoding"))
	if err != nil {
		return err
	}
	f, err := x.root.OpenFile(at, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// createFolder keeps what an existing folder holds.
func (x *run) createFolder(in input) error {
	at, err := x.follow(in.text("path"), true)
	if err != nil {
		return err
	}
	switch info, err := x.root.Lstat(at); {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is there and no folder", in.text("path"))
	case err == nil && !in.flag("overwrite", true):
		return fmt.Errorf("%s is already there, and overwrite is false", in.text("path"))
	case err != nil:
		if err := x.parents(at + "/x"); err != nil {
			return err
		}
	}
	return x.properties(at, in)
}

func (x *run) createSymlink(in input) error {
	at, err := x.follow(in.text("path"), false)
	if err != nil {
		return err
	}
	target := in.text("target")
	from := target
	if !path.IsAbs(from) {
		from = "/" + path.Join(path.Dir(at), target)
	}
	if _, err := x.stat(from); err != nil {
		return fmt.Errorf("the link's target %s is not there", target)
	}
	if info, err := x.root.Lstat(at); err == nil {
		if info.Mode()&fs.ModeSymlink == 0 || !in.flag("force", false) {
			return fmt.Errorf("%s is already there", in.text("path"))
		}
		if err := x.root.Remove(at); err != nil {
			return err
		}
	}
	if err := x.parents(at); err != nil {
		return err
	}
	return x.root.Symlink(target, at)
}

func (x *run) deleteFile(in input) error {
	list, err := x.expand(in.text("path"), func(m fs.FileMode) bool { return !m.IsDir() })
	if err != nil {
		return err
	}
	for _, at := range list {
		info, err := x.root.Lstat(at)
		if err != nil {
			return err
		}
		if info.IsDir() {
			return fmt.Errorf("/%s is a folder; use DeleteFolder", at)
		}
		if err := x.root.Remove(at); err != nil {
			return err
		}
	}
	return nil
}

func (x *run) deleteFolder(in input) error {
	at, err := x.follow(in.text("path"), false)
	if err != nil {
		return err
	}
	info, err := x.root.Lstat(at)
	switch {
	case err != nil:
		return err
	case at == ".":
		return errors.New("the image's root cannot be deleted")
	case !info.IsDir():
		return fmt.Errorf("%s is no folder", in.text("path"))
	case in.flag("force", false):
		return x.root.RemoveAll(at)
	}
	return x.root.Remove(at)
}

// expand returns the paths that p stands for: itself, or, with * in its last element, all entries of that folder that match and are wanted.
func (x *run) expand(p string, want func(fs.FileMode) bool) ([]string, error) {
	dir, name := path.Split(strings.TrimRight(p, "/"))
	if strings.Contains(dir, "*") {
		return nil, fmt.Errorf("%s has * before its last element", p)
	}
	if !strings.Contains(name, "*") {
		at, err := x.follow(p, false)
		return []string{at}, err
	}
	if dir == "" {
		dir = "/"
	}
	at, err := x.follow(dir, true)
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(x.root.FS(), at)
	if err != nil {
		return nil, err
	}
	match := wildcard(name)
	var list []string
	for _, e := range entries {
		if match.MatchString(e.Name()) && want(e.Type()) {
			list = append(list, path.Join(at, e.Name()))
		}
	}
	return list, nil
}

// wildcard knows * only.
func wildcard(pattern string) *regexp.Regexp {
	return regexp.MustCompile("^(?s:" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + ")$")
}

const maxListed = 10_000

func (x *run) listFiles(in input) error {
	at, err := x.follow(in.text("path"), true)
	if err != nil {
		return err
	}
	pattern := in.text("fileNamePattern")
	if pattern == "" {
		pattern = "*"
	}
	match := wildcard(pattern)
	var files []string
	err = fs.WalkDir(x.root.FS(), at, func(p string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case len(files) >= maxListed:
			return fmt.Errorf("%s holds more than %d files", in.text("path"), maxListed)
		case e.IsDir() && p != at && !in.flag("recursive", false):
			return fs.SkipDir
		case !e.IsDir() && match.MatchString(e.Name()):
			files = append(files, "/"+p)
		}
		return x.ctx.Err()
	})
	if err != nil {
		return err
	}
	x.output("files", strings.Join(files, ","))
	return nil
}

func (x *run) readFile(in input) error {
	data, err := x.text(in.text("path"))
	if err != nil {
		return err
	}
	text, err := decodeText(data, in.text("encoding"))
	if err != nil {
		return fmt.Errorf("reading %s: %w", in.text("path"), err)
	}
	if in.flag("printFileContent", false) {
		x.step.Stdout = tail(x.step.Stdout + text)
	}
	x.output("content", text)
	return nil
}

func (x *run) setFileEncoding(in input) error {
	data, err := x.text(in.text("path"))
	if err != nil {
		return err
	}
	text, err := decodeText(data, "utf-8")
	if err != nil {
		return fmt.Errorf("reading %s: %w", in.text("path"), err)
	}
	if data, err = encodeText(text, in.text("encoding")); err != nil {
		return err
	}
	at, err := x.follow(in.text("path"), true)
	if err != nil {
		return err
	}
	return x.write(at, data, 0)
}

// target finds the file or folder that a Set action names.
func (x *run) target(in input, folder bool) (string, error) {
	at, err := x.follow(in.text("path"), true)
	if err != nil {
		return "", err
	}
	info, err := x.root.Stat(at)
	switch {
	case err != nil:
		return "", err
	case info.IsDir() != folder && folder:
		return "", fmt.Errorf("%s is no folder", in.text("path"))
	case info.IsDir() != folder:
		return "", fmt.Errorf("%s is a folder", in.text("path"))
	}
	return at, nil
}

func (x *run) setFileOwner(in input) error {
	at, err := x.target(in, false)
	if err != nil {
		return err
	}
	uid, gid, err := x.owner(in.text("owner"), in.text("group"), true)
	if err != nil {
		return err
	}
	return x.root.Chown(at, uid, gid)
}

func (x *run) setFolderOwner(in input) error {
	at, err := x.target(in, true)
	if err != nil {
		return err
	}
	uid, gid, err := x.owner(in.text("owner"), in.text("group"), true)
	if err != nil {
		return err
	}
	return x.below(at, in.flag("recursive", true), func(p string, _ fs.FileMode) error { return x.root.Lchown(p, uid, gid) })
}

func (x *run) setFilePermissions(in input) error {
	at, err := x.target(in, false)
	if err != nil {
		return err
	}
	mode, err := permissions(in.text("permissions"))
	if err != nil {
		return err
	}
	return x.root.Chmod(at, mode)
}

func (x *run) setFolderPermissions(in input) error {
	at, err := x.target(in, true)
	if err != nil {
		return err
	}
	mode, err := permissions(in.text("permissions"))
	if err != nil {
		return err
	}
	return x.below(at, in.flag("recursive", true), func(p string, is fs.FileMode) error {
		if is&fs.ModeSymlink != 0 {
			return nil
		}
		return x.root.Chmod(p, mode)
	})
}

// below visits a folder and, when recursive, everything in it, the deepest
// first, so that a mode which forbids entering cannot stop the walk.
func (x *run) below(at string, recursive bool, visit func(p string, mode fs.FileMode) error) error {
	if !recursive {
		return visit(at, fs.ModeDir)
	}
	type found struct {
		path string
		mode fs.FileMode
	}
	var list []found
	err := fs.WalkDir(x.root.FS(), at, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		list = append(list, found{p, e.Type()})
		return x.ctx.Err()
	})
	if err != nil {
		return err
	}
	for _, f := range slices.Backward(list) {
		if err := visit(f.path, f.mode); err != nil {
			return err
		}
	}
	return nil
}

func crossDevice(err error) bool { return errors.Is(err, syscall.EXDEV) }
