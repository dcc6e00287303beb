package harden

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"kiln/internal/deb"
)

const (
	dpkgStatus     = "var/lib/dpkg/status"
	dpkgInfo       = "var/lib/dpkg/info"
	dpkgDiversions = "var/lib/dpkg/diversions"
)

// pkg is an installed package as dpkg's status file has it.
type pkg struct {
	name, arch string
	essential  bool
	needs      [][]string // Depends and Pre-Depends: of every inner list one name is needed
	recommends [][]string
	provides   []string
	files      []string // canonical paths of its .list, in the list's order
	raw        []byte   // its paragraph, with the blank line
	manager    string   // whose it is where it is not dpkg's: it is seen, but not removed
}

// key names a package as dpkg's info files do when several architectures may be installed.
func (p *pkg) key() string { return p.name + ":" + p.arch }

// packages is dpkg's database of a tree. Without one, it is empty.
type packages struct {
	order  []*pkg // as in the status file, installed ones
	byName map[string][]*pkg
	virt   map[string][]*pkg
	owners map[string][]*pkg
	broken error // why a database could not be read
}

func (p *packages) has(name string) bool { return len(p.byName[name]) > 0 }

func (p *packages) owns(q string) bool { return len(p.owners[q]) > 0 }

// owner returns the name of the package that a path belongs to, or nothing.
func (p *packages) owner(q string) string {
	if o := p.owners[q]; len(o) > 0 {
		return o[0].name
	}
	return ""
}

// packages reads the database once; removals keep it up to date.
func (s *Subject) packages() *packages {
	if s.pkgs != nil {
		s.sight.recall()
		return s.pkgs
	}
	defer s.sight.apart()()
	db := &packages{byName: map[string][]*pkg{}, virt: map[string][]*pkg{}, owners: map[string][]*pkg{}}
	s.pkgs = db
	s.foreign(db)
	data, err := s.read(dpkgStatus)
	if err != nil {
		return db
	}
	for _, raw := range paragraphs(data) {
		p, installed := readPackage(raw)
		if !installed {
			continue
		}
		s.readFiles(p)
		db.add(p)
	}
	return db
}

func (p *packages) add(k *pkg) {
	p.order = append(p.order, k)
	p.byName[k.name] = append(p.byName[k.name], k)
	for _, v := range k.provides {
		p.virt[v] = append(p.virt[v], k)
	}
	for _, f := range k.files {
		p.owners[f] = append(p.owners[f], k)
	}
}

// paragraphs splits a control file at its blank lines; the parts keep theirs.
func paragraphs(data []byte) [][]byte {
	var out [][]byte
	for len(data) > 0 {
		end := len(data)
		if i := bytes.Index(data, []byte("\n\n")); i >= 0 {
			end = i + 2
			for end < len(data) && data[end] == '\n' {
				end++
			}
		}
		if len(bytes.TrimSpace(data[:end])) > 0 {
			out = append(out, data[:end])
		}
		data = data[end:]
	}
	return out
}

// readPackage reads a paragraph and reports whether its package is installed.
// One that dpkg would not read either is none.
func readPackage(raw []byte) (*pkg, bool) {
	d, err := deb.ParsePackage(raw)
	if err != nil || d.State() != "installed" {
		return nil, false
	}
	p := &pkg{name: d.Name, arch: d.Architecture, essential: d.Essential, raw: raw}
	var provides [][]string
	for _, f := range []struct {
		text string
		into *[][]string
	}{{d.PreDepends, &p.needs}, {d.Depends, &p.needs}, {d.Recommends, &p.recommends}, {d.Provides, &provides}} {
		names, err := alternatives(f.text)
		if err != nil {
			return nil, false
		}
		*f.into = append(*f.into, names...)
	}
	p.provides = slices.Concat(provides...)
	return p, true
}

// alternatives reads "a (>= 1), b:any | c" into [[a] [b c]]. Versions need no look: the tree is consistent as installed.
func alternatives(field string) ([][]string, error) {
	groups, err := deb.ParseRelations(field)
	out := make([][]string, len(groups))
	for i, group := range groups {
		for _, r := range group {
			out[i] = append(out[i], r.Name)
		}
	}
	return out, err
}

// infoNames returns the info files of a package: PKG.ext, or PKG:ARCH.ext for co-installable ones.
func (s *Subject) infoNames(p *pkg) []string {
	var out []string
	for _, stem := range []string{p.name, p.key()} {
		prefix := dpkgInfo + "/" + stem + "."
		for _, q := range s.below(dpkgInfo) {
			// "libfoo.bar" is no extension of package "libfoo": extensions have no further dot.
			if strings.HasPrefix(q, prefix) && !strings.ContainsAny(q[len(prefix):], ".:") {
				out = append(out, q)
			}
		}
	}
	return out
}

func (s *Subject) readFiles(p *pkg) {
	data, err := s.read(dpkgInfo + "/" + p.key() + ".list")
	if err != nil {
		if data, err = s.read(dpkgInfo + "/" + p.name + ".list"); err != nil {
			return
		}
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\n")
		if line == "" || line == "/." {
			continue
		}
		q, _ := s.canonical(line)
		p.files = append(p.files, q)
	}
}

// erase removes packages as dpkg --purge would, without running anything of
// theirs: files that no other package owns, directories left empty, info files,
// status entry, diversions, alternatives, and links that lead nowhere afterwards.
func (s *Subject) erase(list []*pkg) error {
	if len(list) == 0 {
		return nil
	}
	if err := refuseForeign(list); err != nil {
		return err
	}
	db := s.packages()
	going := map[*pkg]bool{}
	for _, p := range list {
		going[p] = true
	}
	gone := map[string]bool{}
	if err := s.eraseFiles(list, going, gone); err != nil {
		return err
	}
	if err := s.undivert(list, going); err != nil {
		return err
	}
	if err := s.chooseAlternatives(); err != nil {
		return err
	}
	if err := s.eraseDangling(gone); err != nil {
		return err
	}
	if err := s.eraseRecords(list, going); err != nil {
		return err
	}
	s.pkgs = nil
	keep := &packages{byName: map[string][]*pkg{}, virt: map[string][]*pkg{}, owners: map[string][]*pkg{}}
	for _, p := range db.order {
		if !going[p] {
			keep.add(p)
			continue
		}
		s.removed = append(s.removed, p.name)
	}
	s.pkgs = keep
	return nil
}

func (s *Subject) eraseFiles(list []*pkg, going map[*pkg]bool, gone map[string]bool) error {
	db := s.packages()
	moved := s.diversions()
	var dirs []string
	for _, p := range list {
		for _, q := range p.files {
			if slices.ContainsFunc(db.owners[q], func(o *pkg) bool { return !going[o] }) && s.divertedTo(moved, q, p) == q {
				continue
			}
			q = s.divertedTo(moved, q, p)
			e := s.index[q]
			switch {
			case e == nil || s.fromRecipe(q):
			case e.Type == 'd':
				dirs = append(dirs, q)
			default:
				if err := s.remove(q); err != nil {
					return err
				}
				gone[q] = true
			}
		}
	}
	slices.Sort(dirs)
	for _, q := range slices.Backward(slices.Compact(dirs)) {
		if err := s.eraseDirectory(q, gone); err != nil {
			return err
		}
	}
	return nil
}

// eraseDirectory removes a directory that only removed packages had, with byte code compiled into it, when nothing else is left.
func (s *Subject) eraseDirectory(q string, gone map[string]bool) error {
	if s.index[q] == nil || rootDirectory(q) {
		return nil
	}
	cache := path.Join(q, "__pycache__")
	if s.index[cache] != nil && !s.packages().owns(cache) {
		if err := s.remove(cache); err != nil {
			return err
		}
	}
	if s.inside[q] > 0 {
		return nil
	}
	gone[q] = true
	return s.remove(q)
}

// rootDirectory names directories that belong to the layout rather than to the last package in them.
func rootDirectory(q string) bool {
	return !strings.Contains(q, "/") || strings.HasPrefix(q, "usr/") && strings.Count(q, "/") == 1 ||
		strings.HasPrefix(q, "var/") && strings.Count(q, "/") == 1
}

// diversions returns dpkg's diversions with the places in the tree that they mean.
func (s *Subject) diversions() []deb.Diversion {
	data, err := s.read(dpkgDiversions)
	if err != nil {
		return nil
	}
	all := deb.ParseDiversions(data)
	for i := range all {
		all[i].From, _ = s.canonical(all[i].From)
		all[i].To, _ = s.canonical(all[i].To)
	}
	return all
}

func (s *Subject) divertedTo(moved []deb.Diversion, q string, p *pkg) string {
	for _, d := range moved {
		if d.From == q && d.By != p.name {
			return d.To
		}
	}
	return q
}

// undivert drops the diversions of removed packages and moves what they had moved away back.
func (s *Subject) undivert(list []*pkg, going map[*pkg]bool) error {
	data, err := s.read(dpkgDiversions)
	if err != nil {
		return nil
	}
	var keep strings.Builder
	for _, d := range deb.ParseDiversions(data) {
		if !slices.ContainsFunc(list, func(p *pkg) bool { return p.name == d.By }) {
			fmt.Fprintf(&keep, "%s\n%s\n%s\n", d.From, d.To, d.By)
			continue
		}
		from, taken := s.canonical(d.From)
		to, there := s.canonical(d.To)
		if there && !taken && s.isDir(path.Dir(from)) {
			if err := s.rename(to, from); err != nil {
				return err
			}
		}
	}
	if keep.String() == string(data) {
		return nil
	}
	return s.write(dpkgDiversions, []byte(keep.String()), 0o644)
}

// eraseDangling removes links that no package owns and that led to what is gone, and links to those.
func (s *Subject) eraseDangling(gone map[string]bool) error {
	for again := true; again; {
		again = false
		for _, q := range slices.Clone(s.paths()) {
			e := s.index[q]
			if e == nil || e.Type != 'l' || s.fromRecipe(q) || !s.ledTo(e.Link, q, gone) {
				continue
			}
			if s.ownedByStaying(q, gone) {
				continue
			}
			if err := s.remove(q); err != nil {
				return err
			}
			gone[q], again = true, true
		}
	}
	return nil
}

func (s *Subject) ledTo(target, at string, gone map[string]bool) bool {
	if !strings.HasPrefix(target, "/") {
		target = path.Join(path.Dir(at), target)
	}
	q, there := s.canonical(target)
	return !there && gone[q]
}

func (s *Subject) ownedByStaying(q string, gone map[string]bool) bool {
	return s.packages().owns(q) && !gone[q]
}

// eraseRecords drops the packages from dpkg's database.
func (s *Subject) eraseRecords(list []*pkg, going map[*pkg]bool) error {
	for _, p := range list {
		for _, q := range s.infoNames(p) {
			if err := s.remove(q); err != nil {
				return err
			}
		}
	}
	data, err := s.read(dpkgStatus)
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for p := range going {
		names[p.key()] = true
	}
	var out bytes.Buffer
	for _, raw := range paragraphs(data) {
		if p, installed := readPackage(raw); installed && names[p.key()] {
			continue
		}
		out.Write(bytes.TrimRight(raw, "\n"))
		out.WriteString("\n\n")
	}
	if err := s.write(dpkgStatus, out.Bytes(), 0o644); err != nil {
		return err
	}
	return s.eraseTriggers(list)
}

// eraseTriggers drops the removed packages' interests; a line is "path package".
func (s *Subject) eraseTriggers(list []*pkg) error {
	const file = "var/lib/dpkg/triggers/File"
	data, err := s.read(file)
	if err != nil {
		return nil
	}
	var keep strings.Builder
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) > 0 {
			name, _, _ := strings.Cut(f[len(f)-1], "/")
			name, _, _ = strings.Cut(name, ":")
			if slices.ContainsFunc(list, func(p *pkg) bool { return p.name == name }) {
				continue
			}
		}
		keep.WriteString(line)
	}
	if keep.String() == string(data) {
		return nil
	}
	return s.write(file, []byte(keep.String()), 0o644)
}
