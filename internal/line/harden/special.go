package harden

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"kiln/internal/tree"
)

// setidParams: no set-id program but those kept.
type setidParams struct {
	Bits      string   `json:"bits"`      // octal: 4000 setuid, 2000 setgid, 6000 both
	Keep      []string `json:"keep"`      // base names of programs
	Requested bool     `json:"requested"` // programs of packages that the recipe names stay
	Unowned   bool     `json:"unowned"`   // only programs that no package owns
}

func (p setidParams) check() error {
	bits, err := octal(p.Bits)
	if err == nil && (bits == 0 || bits&^0o6000 != 0) {
		err = fmt.Errorf("bits are 4000, 2000 or 6000, not %q", p.Bits)
	}
	return err
}

func (p setidParams) found(s *Subject) (off, kept []string) {
	bits, _ := octal(p.Bits)
	for _, q := range s.paths() {
		e := s.index[q]
		if (e.Type != 'f' && e.Type != 'h') || e.Mode&bits == 0 {
			continue
		}
		if p.keeps(s, q) {
			kept = append(kept, q)
		} else {
			off = append(off, q)
		}
	}
	return off, kept
}

func (p setidParams) keeps(s *Subject, q string) bool {
	if slices.Contains(p.Keep, path.Base(q)) {
		return true
	}
	owner := s.packages().owner(q)
	if p.Unowned {
		return owner != ""
	}
	return p.Requested && owner != "" && s.requested(owner)
}

func setidState(s *Subject, p setidParams) (Observation, error) {
	if err := s.brokenPackages(p.Unowned); err != nil {
		return unknown(err.Error()), nil
	}
	off, kept := p.found(s)
	fine := "none"
	if len(kept) > 0 {
		fine = "kept: " + list(slash(kept))
	}
	return judge(slash(off), fine), nil
}

func setidApply(s *Subject, p setidParams) error {
	bits, _ := octal(p.Bits)
	off, _ := p.found(s)
	for _, q := range off {
		if err := s.chmod(q, s.index[q].Mode&^bits); err != nil {
			return err
		}
	}
	return nil
}

// capabilityParams: no program with file capabilities but those kept.
type capabilityParams struct {
	Keep      []string `json:"keep"`
	Requested bool     `json:"requested"`
}

const capability = "security.capability"

func (p capabilityParams) found(s *Subject) []string {
	keep := setidParams{Keep: p.Keep, Requested: p.Requested}
	var off []string
	for _, q := range s.paths() {
		if _, ok := s.index[q].Xattrs[capability]; ok && !keep.keeps(s, q) {
			off = append(off, q)
		}
	}
	return off
}

func capabilityState(s *Subject, p capabilityParams) (Observation, error) {
	return judge(slash(p.found(s)), "none"), nil
}

func capabilityApply(s *Subject, p capabilityParams) error {
	for _, q := range p.found(s) {
		if err := s.dropAttribute(q, capability); err != nil {
			return err
		}
	}
	return nil
}

// none is the parameter of kinds that take none.
type none struct{}

// sweep makes State and Apply of a rule that looks at every entry: offends picks, fix mends.
func sweep(offends func(*Subject, *tree.Entry) bool, fix func(*Subject, *tree.Entry) error) (func(*Subject, none) (Observation, error), func(*Subject, none) error) {
	find := func(s *Subject) []*tree.Entry {
		var out []*tree.Entry
		for _, q := range s.paths() {
			if e := s.index[q]; offends(s, e) {
				out = append(out, e)
			}
		}
		return out
	}
	state := func(s *Subject, _ none) (Observation, error) {
		var off []string
		for _, e := range find(s) {
			off = append(off, describe(e))
		}
		return judge(off, "none"), nil
	}
	apply := func(s *Subject, _ none) error {
		for _, e := range find(s) {
			if err := fix(s, e); err != nil {
				return err
			}
		}
		return nil
	}
	return state, apply
}

// runtimeTree says that a path is filled at run time and is not the image's.
func runtimeTree(p string) bool {
	top, _, _ := strings.Cut(p, "/")
	return top == "dev" || top == "proc" || top == "sys"
}

func worldWritable(_ *Subject, e *tree.Entry) bool {
	return (e.Type == 'f' || e.Type == 'h') && e.Mode&0o002 != 0 && !runtimeTree(e.Path)
}

func clearOthersWrite(s *Subject, e *tree.Entry) error { return s.chmod(e.Path, e.Mode&^0o002) }

func notSticky(_ *Subject, e *tree.Entry) bool {
	return e.Type == 'd' && e.Mode&0o002 != 0 && e.Mode&0o1000 == 0 && !runtimeTree(e.Path)
}

func setSticky(s *Subject, e *tree.Entry) error { return s.chmod(e.Path, e.Mode|0o1000) }

// sharedSetgid: a directory in which every member of a group makes files of that group.
func sharedSetgid(_ *Subject, e *tree.Entry) bool {
	return e.Type == 'd' && e.Mode&0o2020 == 0o2020
}

func clearSetgid(s *Subject, e *tree.Entry) error { return s.chmod(e.Path, e.Mode&^0o2020) }

func isDevice(_ *Subject, e *tree.Entry) bool {
	return (e.Type == 'c' || e.Type == 'b') && !runtimeTree(e.Path)
}

func removeEntry(s *Subject, e *tree.Entry) error { return s.remove(e.Path) }

// ownedParams: every path belongs to an account and a group that exist.
type ownedParams struct {
	Allow []int `json:"allow"` // ids that need no entry
}

func (p ownedParams) found(s *Subject) []*tree.Entry {
	users, groups := s.idSet("etc/passwd"), s.idSet("etc/group")
	for _, id := range p.Allow {
		users[id], groups[id] = true, true
	}
	users[0], groups[0] = true, true
	if uid, gid, ok := numericUser(s.config.User); ok { // random numeric ids of orchestrators need no entry
		users[uid] = true
		groups[gid] = true
	}
	var out []*tree.Entry
	for _, q := range s.paths() {
		if e := s.index[q]; !users[e.UID] || !groups[e.GID] {
			out = append(out, e)
		}
	}
	return out
}

func ownedState(s *Subject, p ownedParams) (Observation, error) {
	if s.lookup("etc/passwd") == nil {
		return absent("/etc/passwd is not in the image"), nil
	}
	var off []string
	for _, e := range p.found(s) {
		off = append(off, describe(e))
	}
	return judge(off, "none"), nil
}

func ownedApply(s *Subject, p ownedParams) error {
	users, groups := s.idSet("etc/passwd"), s.idSet("etc/group")
	for _, e := range p.found(s) {
		uid, gid := e.UID, e.GID
		if !users[uid] {
			uid = 0
		}
		if !groups[gid] {
			gid = 0
		}
		if err := s.chown(e.Path, uid, gid); err != nil {
			return err
		}
		// A set-id program must not become root's by losing its owner.
		if (e.Type == 'f' || e.Type == 'h') && e.Mode&0o6000 != 0 {
			if err := s.chmod(e.Path, e.Mode&^0o6000); err != nil {
				return err
			}
		}
	}
	return nil
}
