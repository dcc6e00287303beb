package harden

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"kiln/internal/tree"
)

// glob returns the paths of the tree that match any pattern (path.Match), in byte order. A pattern without
// meta characters is one path, its links followed; links that match a pattern are left out.
func (s *Subject) glob(patterns []string) []string {
	var out []string
	for _, pat := range patterns {
		pat = clean(pat)
		if !strings.ContainsAny(pat, "*?[") {
			if p, ok := s.resolve(pat); ok {
				out = append(out, p)
			}
			continue
		}
		out = append(out, s.match(pat)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (s *Subject) match(pat string) []string {
	fixed := pat[:strings.IndexAny(pat, "*?[")]
	dir := "."
	if i := strings.LastIndexByte(fixed, '/'); i >= 0 {
		dir = fixed[:i]
	}
	real, ok := s.resolve(dir)
	if !ok {
		return nil
	}
	if dir != "." && real != dir {
		pat = real + strings.TrimPrefix(pat, dir)
	}
	var out []string
	for _, p := range s.below(real) {
		if hit, _ := path.Match(pat, p); hit && s.index[p].Type != 'l' {
			out = append(out, p)
		}
	}
	return out
}

func checkGlobs(patterns []string) error {
	if len(patterns) == 0 {
		return errors.New("paths: needs at least one")
	}
	for _, p := range patterns {
		if !strings.HasPrefix(p, "/") || path.Clean(p) != p {
			return fmt.Errorf("path %q is not absolute and clean", p)
		}
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("path %q: %w", p, err)
		}
	}
	return nil
}

// modeParams: each path at most Mode, its owner and group among those named.
type modeParams struct {
	Paths  []string `json:"paths"`
	Mode   string   `json:"mode"`
	Owners []string `json:"owners"`
	Groups []string `json:"groups"`
	Only   string   `json:"only"` // "files" or "directories"; empty is both
}

func (p modeParams) check() error {
	if !slices.Contains([]string{"", "files", "directories"}, p.Only) {
		return fmt.Errorf("only is files or directories, not %q", p.Only)
	}
	if p.Mode != "" {
		if _, err := octal(p.Mode); err != nil {
			return err
		}
	}
	return checkGlobs(p.Paths)
}

func (p modeParams) targets(s *Subject) []string {
	return slices.DeleteFunc(s.glob(p.Paths), func(q string) bool { return !p.wants(s.index[q]) })
}

func (p modeParams) wants(e *tree.Entry) bool {
	switch e.Type {
	case 'f', 'h':
		return p.Only != "directories"
	case 'd':
		return p.Only != "files"
	}
	return false
}

// fix returns the mode and owners an entry should have.
func (p modeParams) fix(s *Subject, e *tree.Entry) (mode uint32, uid, gid int) {
	mode, uid, gid = e.Mode, e.UID, e.GID
	if p.Mode != "" {
		limit, _ := octal(p.Mode)
		mode &= limit
	}
	if ids := s.ids("etc/passwd", p.Owners); len(ids) > 0 && !slices.Contains(ids, uid) {
		uid = ids[0]
	}
	if ids := s.ids("etc/group", p.Groups); len(ids) > 0 && !slices.Contains(ids, gid) {
		gid = ids[0]
	}
	return mode, uid, gid
}

func modeState(s *Subject, p modeParams) (Observation, error) {
	targets := p.targets(s)
	if len(targets) == 0 {
		return absent(strings.Join(p.Paths, ", ") + ": not in the image"), nil
	}
	var off []string
	for _, q := range targets {
		e := s.index[q]
		if mode, uid, gid := p.fix(s, e); mode != e.Mode || uid != e.UID || gid != e.GID {
			off = append(off, describe(e))
		}
	}
	if len(off) == 0 && len(targets) == 1 {
		return good(describe(s.index[targets[0]])), nil
	}
	return judge(off, fmt.Sprintf("%d paths", len(targets))), nil
}

func describe(e *tree.Entry) string {
	return fmt.Sprintf("/%s %04o %d:%d", e.Path, e.Mode, e.UID, e.GID)
}

func modeApply(s *Subject, p modeParams) error {
	for _, q := range p.targets(s) {
		mode, uid, gid := p.fix(s, s.index[q])
		if err := s.chown(q, uid, gid); err != nil {
			return err
		}
		if err := s.chmod(q, mode); err != nil {
			return err
		}
	}
	return nil
}

// treeParams: everything below the directories has no bit of Mask and belongs to root.
type treeParams struct {
	Directories []string `json:"directories"`
	Mask        string   `json:"mask"`
	Owner       bool     `json:"owner"` // root owns all
	Group       bool     `json:"group"` // a system group has all
	Only        string   `json:"only"`
}

func (p treeParams) check() error {
	if _, err := octal(p.Mask); err != nil {
		return err
	}
	return checkGlobs(p.Directories)
}

func (p treeParams) each(s *Subject, fn func(e *tree.Entry, mode uint32, uid, gid int) error) (int, error) {
	mask, _ := octal(p.Mask)
	want := modeParams{Only: p.Only}
	seen := map[string]bool{}
	for _, d := range p.Directories {
		real, ok := s.resolve(d)
		if !ok {
			continue
		}
		for _, q := range append([]string{real}, s.below(real)...) {
			e := s.index[q]
			if seen[q] || !want.wants(e) {
				continue
			}
			seen[q] = true
			mode, uid, gid := e.Mode&^mask, e.UID, e.GID
			if e.Mode&0o1000 != 0 { // a sticky directory protects its content by itself
				mode = e.Mode
			}
			if p.Owner {
				uid = 0
			}
			if p.Group && gid >= 1000 {
				gid = 0
			}
			if mode != e.Mode || uid != e.UID || gid != e.GID {
				if err := fn(e, mode, uid, gid); err != nil {
					return len(seen), err
				}
			}
		}
	}
	return len(seen), nil
}

func treeState(s *Subject, p treeParams) (Observation, error) {
	var off []string
	n, _ := p.each(s, func(e *tree.Entry, _ uint32, _, _ int) error {
		off = append(off, describe(e))
		return nil
	})
	if n == 0 {
		return absent(strings.Join(p.Directories, ", ") + ": not in the image"), nil
	}
	return judge(off, fmt.Sprintf("%d paths", n)), nil
}

func treeApply(s *Subject, p treeParams) error {
	_, err := p.each(s, func(e *tree.Entry, mode uint32, uid, gid int) error {
		q := e.Path
		if err := s.chown(q, uid, gid); err != nil {
			return err
		}
		return s.chmod(q, mode)
	})
	return err
}

// absentParams: none of the paths exists. What the recipe itself puts there stays and is reported.
type absentParams struct {
	Paths    []string `json:"paths"`    // patterns
	Names    []string `json:"names"`    // patterns of base names, looked for below Under
	Under    []string `json:"under"`    // directories
	Unowned  bool     `json:"unowned"`  // only what no package owns
	Contains string   `json:"contains"` // only files whose first 64 KiB match this expression
}

func (p absentParams) check() error {
	if p.Contains != "" {
		if _, err := regexp.Compile(p.Contains); err != nil {
			return err
		}
	}
	if len(p.Names) > 0 {
		for _, n := range p.Names {
			if _, err := path.Match(n, ""); err != nil || strings.Contains(n, "/") {
				return fmt.Errorf("name %q is no pattern of a base name", n)
			}
		}
		return checkGlobs(p.Under)
	}
	return checkGlobs(p.Paths)
}

func (p absentParams) found(s *Subject) []string {
	var out []string
	for _, pat := range p.Paths {
		pat = clean(pat)
		if !strings.ContainsAny(pat, "*?[") {
			if q, ok := s.canonical(pat); ok {
				out = append(out, q)
			}
			continue
		}
		out = append(out, s.match(pat)...)
	}
	for _, dir := range p.Under {
		real, ok := s.resolve(dir)
		if !ok {
			continue
		}
		for _, q := range s.below(real) {
			if slices.ContainsFunc(p.Names, func(n string) bool { ok, _ := path.Match(n, path.Base(q)); return ok }) {
				out = append(out, q)
			}
		}
	}
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(q string) bool { return !p.counts(s, q) })
}

func (p absentParams) counts(s *Subject, q string) bool {
	if p.Unowned && s.packages().owns(q) {
		return false
	}
	if p.Contains == "" {
		return true
	}
	e := s.index[q]
	if e.Type != 'f' && e.Type != 'h' {
		return false
	}
	return regexp.MustCompile(p.Contains).Match(s.head(q, 64<<10))
}

func absentState(s *Subject, p absentParams) (Observation, error) {
	if err := s.brokenPackages(p.Unowned); err != nil {
		return unknown(err.Error()), nil
	}
	found := p.found(s)
	var ours []string
	for _, q := range found {
		if s.fromRecipe(q) {
			ours = append(ours, "/"+q)
		}
	}
	if len(ours) > 0 && len(ours) == len(found) {
		return blocked(list(ours), "the recipe puts it there: "+list(ours)), nil
	}
	return judge(slash(found), "none"), nil
}

func slash(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = "/" + p
	}
	return out
}

func absentApply(s *Subject, p absentParams) error {
	for _, q := range p.found(s) {
		if s.fromRecipe(q) {
			continue
		}
		if err := s.remove(q); err != nil {
			return err
		}
	}
	return nil
}

// fromRecipe reports whether the recipe's files section put something at q, below it, or a directory around it.
func (s *Subject) fromRecipe(q string) bool {
	for _, f := range s.recipe.Files {
		at, _ := s.canonical(f.Path)
		if at == q || strings.HasPrefix(at, q+"/") || (f.Source != "" && strings.HasPrefix(q, at+"/")) {
			return true
		}
	}
	return false
}

// contentParams: the file has exactly this text.
type contentParams struct {
	Path    string `json:"path"`
	Content string `json:"content"`
	Mode    string `json:"mode"`
	Exists  bool   `json:"exists"` // only where the file exists already
	// Instead is an expression: a file that it matches is as good as one with Content.
	Instead string `json:"instead"`
}

func (p contentParams) check() error {
	if _, err := regexp.Compile(p.Instead); err != nil {
		return fmt.Errorf("instead: %w", err)
	}
	if _, err := octal(p.Mode); err != nil {
		return err
	}
	return checkGlobs([]string{p.Path})
}

func contentState(s *Subject, p contentParams) (Observation, error) {
	data, err := s.read(p.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && p.Exists:
		return absent(p.Path + " is not in the image"), nil
	case errors.Is(err, fs.ErrNotExist):
		if e := s.lookup(p.Path); e != nil {
			return blocked(p.Path+" is no regular file", p.Path+" is no regular file"), nil
		}
		return bad(p.Path + " is missing"), nil
	case err != nil:
		return Observation{}, err
	}
	if string(data) == p.Content || p.Instead != "" && regexp.MustCompile(p.Instead).Match(data) {
		return good(p.Path + " as wanted"), nil
	}
	if q, _ := s.resolve(p.Path); s.fromRecipe(q) {
		return blocked(p.Path+" differs", "the recipe writes "+p.Path), nil
	}
	return bad(p.Path + " differs"), nil
}

func contentApply(s *Subject, p contentParams) error {
	mode, _ := octal(p.Mode)
	return s.write(p.Path, []byte(p.Content), mode)
}

// emptyParams: files are there without content.
type emptyParams struct {
	Paths []string `json:"paths"`
	Below []string `json:"below"` // every regular file below these directories
}

func (p emptyParams) check() error { return checkGlobs(append(slices.Clone(p.Paths), p.Below...)) }

func (p emptyParams) full(s *Subject) []string {
	found := s.glob(p.Paths)
	for _, d := range p.Below {
		if real, ok := s.resolve(d); ok {
			found = append(found, s.below(real)...)
		}
	}
	return slices.DeleteFunc(found, func(q string) bool {
		e := s.index[q]
		return (e.Type != 'f' && e.Type != 'h') || s.size(e) == 0 || s.fromRecipe(q)
	})
}

// size of a file under any of its names.
func (s *Subject) size(e *tree.Entry) int64 {
	if e.Type == 'h' && s.index[e.Link] != nil {
		return s.index[e.Link].Size
	}
	return e.Size
}

func emptyState(s *Subject, p emptyParams) (Observation, error) {
	return judge(slash(p.full(s)), "empty"), nil
}

func emptyApply(s *Subject, p emptyParams) error {
	for _, q := range p.full(s) {
		if err := s.write(q, nil, 0); err != nil {
			return err
		}
	}
	return nil
}

// directoryParams: nothing but what Keep names is in the directories.
type directoryParams struct {
	Paths []string `json:"paths"`
	Keep  []string `json:"keep"` // base names
}

func (p directoryParams) check() error { return checkGlobs(p.Paths) }

func (p directoryParams) extra(s *Subject) []string {
	var out []string
	for _, dir := range p.Paths {
		real, ok := s.resolve(dir)
		if !ok || s.index[real].Type != 'd' {
			continue
		}
		for _, q := range s.below(real) {
			if path.Dir(q) == real && !slices.Contains(p.Keep, path.Base(q)) && !s.fromRecipe(q) {
				out = append(out, q)
			}
		}
	}
	return out
}

func directoryState(s *Subject, p directoryParams) (Observation, error) {
	return judge(slash(p.extra(s)), "empty"), nil
}

func directoryApply(s *Subject, p directoryParams) error {
	for _, q := range p.extra(s) {
		if err := s.remove(q); err != nil {
			return err
		}
	}
	return nil
}
