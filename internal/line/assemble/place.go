package assemble

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// merged are the directories that are links into usr/ in a merged-/usr system.
var merged = map[string]bool{"bin": true, "sbin": true, "lib": true, "lib32": true, "lib64": true, "libo32": true, "libx32": true}

// canonical maps a path to where it lies in a merged-/usr tree: lib/x to usr/lib/x.
func canonical(p string) string {
	first, rest, below := strings.Cut(p, "/")
	if below && merged[first] {
		return "usr/" + first + "/" + rest
	}
	return p
}

// errThroughLink says that a path leads through something that is no directory.
var errThroughLink = errors.New("leads through a symbolic link or a file")

// maxOpenDirs bounds the descriptors that one place keeps.
const maxOpenDirs = 400

// place reaches paths below a root through descriptors of their parent
// directories. No symbolic link is ever followed, so nothing outside the root
// can be reached, whatever lies in it. A place is not for concurrent use; each
// worker has its own.
type place struct {
	root int
	dirs map[string]int
	// made, when set, hears of every directory that dir makes.
	made func(name string)
}

func openPlace(dir string) (*place, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening tree %s: %w", dir, err)
	}
	return &place{root: fd, dirs: map[string]int{}}, nil
}

func (p *place) close() {
	p.forget()
	unix.Close(p.root)
}

func (p *place) forget() {
	for _, fd := range p.dirs {
		unix.Close(fd)
	}
	clear(p.dirs)
}

// dir returns a descriptor of a directory; missing ones are made (0755) when make is set.
// It stays valid until the next call of dir or forget.
func (p *place) dir(name string, create bool) (int, error) {
	if name == "." || name == "" {
		return p.root, nil
	}
	if fd, ok := p.dirs[name]; ok {
		return fd, nil
	}
	if len(p.dirs) >= maxOpenDirs {
		p.forget()
	}
	parent, err := p.dir(path.Dir(name), create)
	if err != nil {
		return -1, err
	}
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(parent, path.Base(name), flags, 0)
	if errors.Is(err, unix.ENOENT) && create {
		switch err := unix.Mkdirat(parent, path.Base(name), 0o755); {
		case err == nil && p.made != nil:
			p.made(name)
		case err != nil && !errors.Is(err, unix.EEXIST):
			return -1, fmt.Errorf("making directory %s: %w", name, err)
		}
		fd, err = unix.Openat(parent, path.Base(name), flags, 0)
	}
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return -1, fmt.Errorf("%s: %w", name, errThroughLink)
	}
	if err != nil {
		return -1, fmt.Errorf("opening directory %s: %w", name, err)
	}
	p.dirs[name] = fd
	return fd, nil
}

// in calls fn with the parent directory of name, which is made if missing, and name's last part.
func (p *place) in(name string, fn func(dir int, base string) error) error {
	dir, err := p.dir(path.Dir(name), true)
	if err != nil {
		return err
	}
	return fn(dir, path.Base(name))
}

// create opens a new file for writing; something that is there already is unix.EEXIST.
func (p *place) create(name string) (fd int, err error) {
	err = p.in(name, func(dir int, base string) error {
		fd, err = unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	return fd, err
}

// remove removes what is no directory; nothing there is fine.
func (p *place) remove(name string) error {
	return p.in(name, func(dir int, base string) error {
		if err := unix.Unlinkat(dir, base, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	})
}

func (p *place) symlink(target, name string) error {
	return p.in(name, func(dir int, base string) error { return unix.Symlinkat(target, dir, base) })
}

func (p *place) lstat(name string) (st unix.Stat_t, err error) {
	dir, err := p.dir(path.Dir(name), false)
	if err != nil {
		return st, err
	}
	err = unix.Fstatat(dir, path.Base(name), &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

func (p *place) readlink(name string) (string, error) {
	dir, err := p.dir(path.Dir(name), false)
	if err != nil {
		return "", err
	}
	buf := make([]byte, 4096)
	n, err := unix.Readlinkat(dir, path.Base(name), buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// write makes or replaces a whole file, owned by root.
func (p *place) write(name string, data []byte, mode uint32) error {
	if err := p.remove(name); err != nil {
		return fmt.Errorf("replacing %s: %w", name, err)
	}
	fd, err := p.create(name)
	if err != nil {
		return fmt.Errorf("creating %s: %w", name, err)
	}
	defer unix.Close(fd)
	if err := writeAll(fd, data); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return unix.Fchmod(fd, mode)
}

// read returns a whole regular file of at most limit bytes.
func (p *place) read(name string, limit int64) ([]byte, error) {
	dir, err := p.dir(path.Dir(name), false)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Openat(dir, path.Base(name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > limit {
		return nil, fmt.Errorf("reading %s: not a regular file of at most %d bytes", name, limit)
	}
	data := make([]byte, st.Size)
	for done := 0; done < len(data); {
		n, err := unix.Read(fd, data[done:])
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		if n == 0 {
			return data[:done], nil
		}
		done += n
	}
	return data, nil
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

func notExist(err error) bool { return errors.Is(err, unix.ENOENT) }

// writeFrom makes a new file with the content of r, owned by root, mode 0644.
func (p *place) writeFrom(name string, r io.Reader) error {
	fd, err := p.create(name)
	if err != nil {
		return fmt.Errorf("creating %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if err := f.Chmod(0o644); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// rewrite replaces the content of a regular file and keeps its mode and owner; a missing one is made with mode.
func (p *place) rewrite(name string, data []byte, mode uint32) error {
	return p.in(name, func(dir int, base string) error {
		fd, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if notExist(err) {
			return p.write(name, data, mode)
		}
		if err != nil {
			return fmt.Errorf("opening %s: %w", name, err)
		}
		defer unix.Close(fd)
		if err := writeAll(fd, data); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
		return nil
	})
}

// maxLinks bounds the symbolic links that resolve follows.
const maxLinks = 40

// resolve returns where a path lies, following symbolic links as a process
// does whose root is the tree: absolute links begin at the tree's root, ".."
// never leaves it. Parts that do not exist are taken as they are.
func (p *place) resolve(name string) (string, error) {
	todo := strings.Split(path.Clean("/" + name)[1:], "/")
	var done []string
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = done[:max(0, len(done)-1)]
			continue
		}
		here := strings.Join(append(slices.Clone(done), part), "/")
		target, err := p.readlink(here)
		if err != nil { // no link, or nothing there
			done = append(done, part)
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: more than %d symbolic links on the way", name, maxLinks)
		}
		if strings.HasPrefix(target, "/") {
			done = nil
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	if len(done) == 0 {
		return ".", nil
	}
	return strings.Join(done, "/"), nil
}

// resolveParent is resolve for all but the last part, which is taken as it is.
func (p *place) resolveParent(name string) (string, error) {
	name = path.Clean("/" + name)[1:]
	if name == "" {
		return ".", nil
	}
	dir, err := p.resolve(path.Dir(name))
	if err != nil {
		return "", err
	}
	return path.Join(dir, path.Base(name)), nil
}
