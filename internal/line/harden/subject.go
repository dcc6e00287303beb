package harden

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
	"syscall"

	"kiln"
	"kiln/internal/tree"

	"golang.org/x/sys/unix"
)

// Bounds on what is read from a tree; both are far above what real trees hold.
const (
	maxFile  = 64 << 20 // bytes of one file that is read whole
	maxLinks = 40       // symbolic links followed for one path, as the kernel does
)

// Subject is what a kind looks at and changes: a tree, the image configuration
// that goes with it, and what the recipe asked for. Every read and write goes
// through an os.Root, so that no symbolic link of the tree leads out of it, and
// paths are resolved as they would be inside the tree.
type Subject struct {
	leftOut map[string]string // objectives that are not pursued, with the reason
	root    *os.Root
	index   map[string]*tree.Entry
	twins   map[string][]string // first name of a hard-linked file -> its further names
	names   []string            // keys of index in byte order; those gone since are dropped when next asked for
	stale   bool                // names holds paths that are gone
	inside  map[string]int      // directory -> how many entries it has
	recipe  *kiln.Recipe
	lock    *kiln.Lock
	config  *kiln.ImageConfig
	probe   Prober

	ctx       context.Context // of the run
	layerList []Layer         // of an image that exists already
	scanned   *layerScan      // what they hold, once they are read
	scanError error
	looked    map[*tree.Entry]*trace // files of the tree in which secrets were looked for

	machine bool   // the tree is a machine's
	kernel  kernel // that runs the tree
	sight   *sight // what an audit could not see; nil when hardening

	filesOnly bool // there is no image configuration

	registers map[string]*register // account files that were looked up since the last change

	epoch   int64
	changed map[string]bool // paths touched since takeChanged
	pkgs    *packages       // nil when not read yet
	release *string         // the distribution; nil when not read yet
	answers map[string]answer
	touched map[string]bool // configurations changed in this round
	removed []string        // packages removed
}

func newSubject(dir string, in Input) (*Subject, error) {
	s, err := readTree(dir, nil)
	if err != nil {
		return nil, err
	}
	s.take(in)
	return s, nil
}

// readTree lists the tree, whole or as far as sight allows.
func readTree(dir string, sight *sight) (*Subject, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the tree: %w", err)
	}
	s := &Subject{root: root, sight: sight, changed: map[string]bool{}}
	if err := s.scan(dir); err != nil {
		root.Close()
		return nil, err
	}
	return s, nil
}

// take sets what the tree is judged with.
func (s *Subject) take(in Input) {
	s.recipe, s.lock, s.probe, s.machine, s.filesOnly = in.Recipe, in.Lock, in.Probe, in.Scope == "machine", in.FilesOnly
	s.leftOut = in.LeftOut
	if s.recipe == nil {
		s.recipe = &kiln.Recipe{}
	}
	if s.lock != nil {
		s.epoch = s.lock.Epoch
	}
	s.layerList, s.looked = in.Layers, map[*tree.Entry]*trace{}
	s.kernel = kernel{in.Proc, s.sight}
}

func (s *Subject) scan(dir string) error {
	s.index, s.twins, s.inside = map[string]*tree.Entry{}, map[string][]string{}, map[string]int{}
	err := s.sight.walk(dir, func(e tree.Entry) error {
		s.index[e.Path] = &e
		s.inside[path.Dir(e.Path)]++
		s.names = append(s.names, e.Path)
		if e.Type == 'h' {
			s.twins[e.Link] = append(s.twins[e.Link], e.Path)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the tree: %w", err)
	}
	slices.Sort(s.names)
	return nil
}

// insert puts an entry that was just made into the index.
func (s *Subject) insert(e tree.Entry) {
	s.registers = nil
	if s.index[e.Path] == nil {
		s.inside[path.Dir(e.Path)]++
		if at, found := slices.BinarySearch(s.names, e.Path); !found {
			s.names = slices.Insert(s.names, at, e.Path)
		}
	}
	s.index[e.Path] = &e
	s.changed[e.Path] = true
}

func (s *Subject) close() { s.root.Close() }

// context is the run's; the background's where a kind is asked by itself.
func (s *Subject) context() context.Context {
	if s.ctx == nil {
		return context.Background()
	}
	return s.ctx
}

// paths returns every path of the tree in byte order. The slice is not to be kept over a change.
func (s *Subject) paths() []string {
	s.sight.below(".")
	return s.sorted()
}

func (s *Subject) sorted() []string {
	if s.stale {
		kept := make([]string, 0, len(s.index))
		for _, p := range s.names {
			if s.index[p] != nil {
				kept = append(kept, p)
			}
		}
		s.names, s.stale = kept, false
	}
	return s.names
}

// below returns the paths strictly below dir in byte order.
func (s *Subject) below(dir string) []string {
	s.sight.below(dir)
	if dir == "." {
		return slices.DeleteFunc(slices.Clone(s.sorted()), func(p string) bool { return p == "." })
	}
	names, prefix := s.sorted(), dir+"/"
	from, _ := slices.BinarySearch(names, prefix)
	to := from
	for to < len(names) && strings.HasPrefix(names[to], prefix) {
		to++
	}
	return names[from:to]
}

// resolve returns where p leads inside the tree when every symbolic link is
// followed with the tree as root, and whether something is there.
func (s *Subject) resolve(p string) (string, bool) {
	return s.follow(clean(p), true, maxLinks)
}

// canonical follows the links in p's directory but not p itself.
func (s *Subject) canonical(p string) (string, bool) {
	return s.follow(clean(p), false, maxLinks)
}

func clean(p string) string {
	p = strings.TrimPrefix(path.Clean("/"+p), "/")
	if p == "" {
		return "."
	}
	return p
}

func (s *Subject) follow(p string, last bool, budget int) (string, bool) {
	done, rest := ".", p
	for rest != "" && rest != "." {
		part, tail, _ := strings.Cut(rest, "/")
		next := path.Join(done, part)
		if part == ".." {
			next = path.Dir(done)
		}
		e := s.index[next]
		if e == nil {
			s.sight.missed(done, next)
			return path.Join(next, tail), false
		}
		if e.Type == 'l' && (tail != "" || last) {
			if budget--; budget < 0 {
				return next, false
			}
			target := e.Link
			if strings.HasPrefix(target, "/") {
				done = "."
			}
			rest = path.Join(strings.TrimLeft(target, "/"), tail)
			continue
		}
		done, rest = next, tail
	}
	_, ok := s.index[done]
	return done, ok
}

// lookup returns the entry that p leads to, links followed, or nil.
func (s *Subject) lookup(p string) *tree.Entry {
	q, ok := s.resolve(p)
	if !ok {
		return nil
	}
	return s.index[q]
}

func (s *Subject) isFile(p string) bool {
	e := s.lookup(p)
	return e != nil && (e.Type == 'f' || e.Type == 'h')
}

func (s *Subject) isDir(p string) bool {
	e := s.lookup(p)
	return e != nil && e.Type == 'd'
}

// read returns the content of the regular file that p leads to; fs.ErrNotExist where there is none.
func (s *Subject) read(p string) ([]byte, error) {
	if !s.isFile(p) {
		if s.lookup(p) != nil {
			s.sight.failed(fmt.Errorf("reading %s: it is no regular file", p))
		}
		return nil, fmt.Errorf("reading %s: %w", p, fs.ErrNotExist)
	}
	q, _ := s.resolve(p)
	data, err := s.content(q)
	if err != nil {
		err = fmt.Errorf("reading %s: %w", p, err)
		s.sight.failed(err)
	}
	return data, err
}

func (s *Subject) content(q string) ([]byte, error) {
	f, err := s.open(q)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Size() > maxFile {
		return nil, fmt.Errorf("larger than %d MiB", maxFile>>20)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		return nil, fmt.Errorf("larger than %d MiB", maxFile>>20)
	}
	return data, err
}

// open opens the regular file at q, canonical. What took its place since the
// tree was listed is refused and never waited for, a FIFO for instance.
func (s *Subject) open(q string) (*os.File, error) {
	f, err := s.root.OpenFile(q, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file any more")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// head returns up to n first bytes of a regular file; nothing where it cannot be read.
func (s *Subject) head(p string, n int) []byte {
	f, err := s.open(p)
	if err != nil {
		return nil
	}
	defer f.Close()
	buf := make([]byte, n)
	m, _ := io.ReadFull(f, buf)
	return buf[:m]
}

const temporary = ".kiln-new"

// write replaces the content of the file that p leads to, or creates it with
// mode as root's: a temporary file beside it, then a rename, so that a killed
// run leaves the old content or the new one. Owner and mode of an existing file stay.
//
// What is no regular file, a symbolic link above all, is refused: its target may belong to something else.
func (s *Subject) write(p string, data []byte, mode uint32) error {
	if err := s.editable(p); err != nil {
		return err
	}
	q, exists := s.resolve(p)
	old := s.index[q]
	uid, gid := 0, 0
	if exists {
		mode, uid, gid = old.Mode, old.UID, old.GID
	} else if err := s.mkdirs(path.Dir(q)); err != nil {
		return err
	}
	if err := s.replace(q, data, mode, uid, gid); err != nil {
		return fmt.Errorf("writing %s: %w", p, err)
	}
	if exists {
		s.forget(q)
	}
	s.insert(tree.Entry{Path: q, Type: 'f', Mode: mode, UID: uid, GID: gid, Size: int64(len(data))})
	return nil
}

func (s *Subject) replace(q string, data []byte, mode uint32, uid, gid int) error {
	tmp := path.Join(path.Dir(q), temporary)
	if err := s.root.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := s.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = own(f, uid, gid)
	}
	if err == nil {
		err = f.Chmod(fileMode(mode))
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = s.root.Rename(tmp, q)
	}
	if err != nil {
		s.root.Remove(tmp)
	}
	return err
}

// own gives f to uid:gid. Without the right to do so an unchanged owner is no error: development trees belong to their user.
func own(f *os.File, uid, gid int) error {
	err := f.Chown(uid, gid)
	if err != nil && os.Geteuid() != 0 {
		return nil
	}
	return err
}

func (s *Subject) mkdirs(dir string) error {
	if e := s.index[dir]; e != nil {
		if e.Type != 'd' {
			return &refusal{dir, 0, "is no directory"}
		}
		return nil
	}
	if err := s.mkdirs(path.Dir(dir)); err != nil {
		return err
	}
	if err := s.root.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("making %s: %w", dir, err)
	}
	if err := s.root.Chmod(dir, 0o755); err != nil {
		return fmt.Errorf("making %s: %w", dir, err)
	}
	s.insert(tree.Entry{Path: dir, Type: 'd', Mode: 0o755})
	return nil
}

// chmod sets the mode bits (07777) of the file or directory at p, which must be canonical.
func (s *Subject) chmod(p string, mode uint32) error {
	if s.index[p].Type == 'l' || s.index[p].Mode == mode {
		return nil
	}
	if err := s.part(p); err != nil {
		return err
	}
	for _, q := range s.same(p) {
		if err := s.root.Chmod(q, fileMode(mode)); err != nil {
			return fmt.Errorf("setting the mode of %s: %w", q, err)
		}
		s.index[q].Mode = mode
		s.changed[q] = true
	}
	return nil
}

// chown gives the entry at p, canonical and not followed, to uid:gid and keeps its mode.
func (s *Subject) chown(p string, uid, gid int) error {
	e := s.index[p]
	if e.UID == uid && e.GID == gid {
		return nil
	}
	if err := s.part(p); err != nil {
		return err
	}
	e = s.index[p]
	for _, q := range s.same(p) {
		if err := s.root.Lchown(q, uid, gid); err != nil {
			return fmt.Errorf("setting the owner of %s: %w", q, err)
		}
		s.index[q].UID, s.index[q].GID = uid, gid
		s.changed[q] = true
		if e.Type == 'l' || e.Mode&0o6000 == 0 {
			continue
		}
		if err := s.root.Chmod(q, fileMode(e.Mode)); err != nil { // the kernel clears set-id bits on a change of owner
			return fmt.Errorf("setting the mode of %s: %w", q, err)
		}
	}
	return nil
}

// same returns all names of the file at p. Each is changed by itself: on a
// copy-on-write fork a change may part them.
func (s *Subject) same(p string) []string {
	first := p
	if s.index[p].Type == 'h' {
		first = s.index[p].Link
	}
	return append([]string{first}, s.twins[first]...)
}

// part makes a copy of its own of a file that has names outside of the tree, before its mode or owner is changed: a
// hard link into a backup or a store of objects must not change those.
func (s *Subject) part(p string) error {
	if e := s.index[p]; e.Type != 'f' && e.Type != 'h' {
		return nil
	}
	names := s.same(p)
	info, err := s.root.Lstat(p)
	if err != nil {
		return fmt.Errorf("looking at %s: %w", p, err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Nlink) <= len(names) {
		return nil
	}
	data, err := s.content(p)
	if err != nil {
		return &refusal{p, 0, "has a name outside of the tree, and cannot be copied: " + err.Error()}
	}
	for _, q := range slices.Clone(names) {
		if err := s.write(q, data, 0); err != nil {
			return err
		}
	}
	return nil
}

// dropAttribute removes one extended attribute of the file at p, canonical.
func (s *Subject) dropAttribute(p, name string) error {
	if err := s.part(p); err != nil {
		return err
	}
	for _, q := range s.same(p) {
		f, err := s.root.Open(q)
		if err != nil {
			return fmt.Errorf("opening %s: %w", q, err)
		}
		err = unix.Fremovexattr(int(f.Fd()), name)
		f.Close()
		if err != nil && !errors.Is(err, unix.ENODATA) {
			return fmt.Errorf("removing %s of %s: %w", name, q, err)
		}
		delete(s.index[q].Xattrs, name)
		s.changed[q] = true
	}
	return nil
}

// remove deletes the entry at p, canonical and not followed; a directory with all below it.
func (s *Subject) remove(p string) error {
	e := s.index[p]
	if e == nil || p == "." {
		return nil
	}
	gone := []string{p}
	if e.Type == 'd' && s.inside[p] > 0 {
		gone = append(gone, s.below(p)...)
	}
	drop := s.root.Remove
	if len(gone) > 1 {
		drop = s.root.RemoveAll
	}
	if err := drop(p); err != nil {
		return fmt.Errorf("removing %s: %w", p, err)
	}
	for _, q := range gone {
		s.forget(q)
	}
	s.changed[p] = true
	return nil
}

// forget takes a path out of the index; where it was the first name of a hard-linked file, the next name takes its place.
func (s *Subject) forget(p string) {
	e := s.index[p]
	if e == nil {
		return
	}
	delete(s.index, p)
	s.registers = nil
	s.inside[path.Dir(p)]--
	s.stale = true
	if e.Type == 'h' {
		s.twins[e.Link] = slices.DeleteFunc(s.twins[e.Link], func(q string) bool { return q == p })
		return
	}
	rest := s.twins[p]
	delete(s.twins, p)
	if len(rest) == 0 {
		return
	}
	heir := *e
	heir.Path = rest[0]
	s.index[rest[0]] = &heir
	for _, q := range rest[1:] {
		s.index[q].Link = heir.Path
	}
	s.twins[heir.Path] = rest[1:]
}

// link makes p a symbolic link to target.
func (s *Subject) link(p, target string) error {
	if e := s.index[p]; e != nil {
		if e.Type == 'l' && e.Link == target {
			return nil
		}
		if err := s.remove(p); err != nil {
			return err
		}
	}
	if err := s.root.Symlink(target, p); err != nil {
		return fmt.Errorf("linking %s: %w", p, err)
	}
	s.insert(tree.Entry{Path: p, Type: 'l', Mode: 0o777, Link: target})
	return nil
}

// rename moves a file to a place that is free.
func (s *Subject) rename(from, to string) error {
	if err := s.root.Rename(from, to); err != nil {
		return fmt.Errorf("moving %s to %s: %w", from, to, err)
	}
	e := *s.index[from]
	e.Path = to
	s.forget(from)
	s.insert(e)
	s.changed[from] = true
	return nil
}

// takeChanged returns the paths touched since the last call, sorted.
func (s *Subject) takeChanged() []string {
	out := make([]string, 0, len(s.changed))
	for p := range s.changed {
		s.outdate(p)
		out = append(out, p)
	}
	slices.Sort(out)
	clear(s.changed)
	return out
}

func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	if mode&0o4000 != 0 {
		m |= fs.ModeSetuid
	}
	if mode&0o2000 != 0 {
		m |= fs.ModeSetgid
	}
	if mode&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	return m
}
