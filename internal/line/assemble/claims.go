package assemble

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"kiln/internal/deb"
)

// dirClaim is what the first package (in the lock's order) that ships a
// directory says about it. dpkg, too, leaves an existing directory as it is.
type dirClaim struct {
	index    int
	mode     uint32
	uid, gid int
	mtime    int64 // Unix seconds; 0 leaves it as it comes
}

// claims is the shared memory of packages that are unpacked at the same time:
// which package a path belongs to, and what was made.
type claims struct {
	mu    sync.Mutex
	files map[string]*pkg
	dirs  map[string]dirClaim
	made  map[string]bool // directories that this run made
	// refused are packages that cannot be unpacked beside the others, with the reason.
	refused map[*pkg]error
}

func newClaims() *claims {
	return &claims{files: map[string]*pkg{}, dirs: map[string]dirClaim{}, made: map[string]bool{}, refused: map[*pkg]error{}}
}

func (c *claims) make(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made[name] = true
}

func (c *claims) dir(name string, d dirClaim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.dirs[name]; !ok || d.index < old.index {
		c.dirs[name] = d
	}
}

func (c *claims) refuse(p *pkg, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused[p] == nil {
		c.refused[p] = err
	}
}

// take gives the path to p unless a package that replaces p has it. When p
// replaces the present owner, the path is taken from that one. Two packages
// that hold the same path and do not replace one another are an error.
func (c *claims) take(name string, p *pkg) (mine bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	owner := c.files[name]
	switch {
	case owner == nil || owner == p:
	case p.replaces(owner):
		owner.lost[name], p.won[name] = true, true
	case owner.replaces(p):
		p.lost[name] = true
		return false, nil
	default:
		return false, fmt.Errorf("packages %s and %s both hold /%s, and neither replaces the other", owner.Name, p.Name, name)
	}
	c.files[name] = p
	return true, nil
}

// release forgets a path that turned out to have been there before.
func (c *claims) release(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.files, name)
}

func (c *claims) owner(name string) *pkg {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.files[name]
}

// finish sets modes and owners of the directories that were made.
func (c *claims) finish(at *place) error {
	names := slices.Sorted(maps.Keys(c.dirs))
	slices.Reverse(names) // children first: they change their parent's time
	for _, name := range names {
		d := c.dirs[name]
		if !c.made[name] {
			continue
		}
		fd, err := at.dir(name, false)
		if err != nil {
			return err
		}
		if err := setDir(fd, d); err != nil {
			return fmt.Errorf("setting mode and owner of %s: %w", name, err)
		}
	}
	return nil
}

func setDir(fd int, d dirClaim) error {
	if err := unix.Fchownat(fd, "", d.uid, d.gid, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("owner %d:%d: %w", d.uid, d.gid, err)
	}
	// fchmod does not work on O_PATH descriptors.
	if err := unix.Fchmodat(fd, ".", d.mode, 0); err != nil || d.mtime == 0 {
		return err
	}
	ts := unix.Timespec{Sec: d.mtime}
	return unix.UtimesNanoAt(fd, ".", []unix.Timespec{ts, ts}, 0)
}

// undo removes everything that was made.
func (c *claims) undo(at *place) error {
	for name := range c.files {
		if err := at.remove(name); err != nil && !errors.Is(err, errThroughLink) { // nothing was made there
			return fmt.Errorf("removing %s: %w", name, err)
		}
	}
	at.forget()
	names := slices.Sorted(maps.Keys(c.made))
	slices.Reverse(names)
	for _, name := range names {
		err := at.in(name, func(dir int, base string) error { return unix.Unlinkat(dir, base, unix.AT_REMOVEDIR) })
		if err != nil {
			return fmt.Errorf("removing directory %s: %w", name, err)
		}
		at.forget()
	}
	return nil
}

// replaces reports whether p's Replaces field names q in its version.
func (p *pkg) replaces(q *pkg) bool {
	groups, err := deb.ParseRelations(p.meta.Replaces)
	if err != nil {
		return false
	}
	for _, g := range groups {
		for _, r := range g {
			if r.Name == q.Name && r.Satisfied(q.Version) {
				return true
			}
		}
	}
	return false
}

// checkName turns a member's name into a path below the root.
func checkName(name string) (string, error) {
	p := strings.TrimPrefix(name, "./")
	p = strings.Trim(p, "/")
	if p == "" || p == "." {
		return ".", nil
	}
	if len(p) > 4000 || strings.Count(p, "/") > 100 {
		return "", fmt.Errorf("member %.60q: the path is too long or too deep", name)
	}
	if strings.ContainsAny(p, "\n\x00") {
		return "", fmt.Errorf("member %.60q: the path holds a line break or a zero byte", name)
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." || part == "." || part == "" {
			return "", fmt.Errorf("member %.60q: the path is not plain, or leaves the tree", name)
		}
	}
	return p, nil
}
