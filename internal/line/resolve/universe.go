package resolve

import (
	"fmt"
	"slices"

	"kiln/internal/deb"
)

// universe is every package of every archive that takes part, loaded as far
// as the solver looks.
type universe struct {
	arch      string
	files     []*packagesFile
	ids       map[string]int32
	names     []string // in the order in which apt would first meet them
	first     []int32  // name -> its first entry, -1 if none
	entries   []entry
	firstProv []int32 // name -> its first provider, -1 if none
	providers []entry
	pkgs      []*pkg // by name, nil until looked at
	loaded    []*pkg // in the order of loading
	policy    *policy
	err       error // the first damaged record
}

// entry is a link of a list: a record in a file.
type entry struct {
	file int32
	rec  uint32
	next int32
}

// packagesFile is one Packages index of one suite.
type packagesFile struct {
	*index
	suite     *suite
	component string
	priority  int // apt_preferences: 500, 100, 1, or a pin's
}

// pkg is a package name: its versions and what the solver decided about it.
type pkg struct {
	id        int32
	name      string
	versions  []*version // newest first
	best      *version   // the candidate by policy
	essential bool
	protected bool // Protected: yes
	provs     []provider
	hasProvs  bool

	// What follows is the solver's state.
	inst, cand *version
	// candReal and candProvided are the candidate as dependencies on this name
	// and on the names it provides were last told: apt updates both lazily.
	candReal, candProvided *version
	install, fixed, auto   bool
	requested              *request
	upgradable             bool
	score                  int
}

// version is one version of a package, perhaps in several files.
type version struct {
	*deb.Package
	pkg    *pkg
	prio   byte
	files  []*packagesFile
	groups []group
	parsed bool
}

type kind byte

const (
	preDepends kind = iota
	depends
	conflicts
	breaks
	recommends
	suggests
)

func (k kind) negative() bool { return k == conflicts || k == breaks }
func (k kind) critical() bool { return k <= breaks }

func (k kind) String() string {
	return [...]string{"pre-depends on", "depends on", "conflicts with", "breaks", "recommends", "suggests"}[k]
}

// group is one element of a relation field: one of the alternatives must hold.
type group struct {
	kind kind
	alts []alternative
}

type alternative struct {
	deb.Relation
	owner  *pkg
	target *pkg
	kind   kind
}

// provider is a version that provides a name.
type provider struct {
	*version
	as string // the provided version, "" if none
}

func newUniverse(files []*packagesFile, arch string) *universe {
	u := &universe{arch: arch, files: files, ids: make(map[string]int32, 1<<17)}
	for fi, f := range files {
		global := make([]int32, len(f.names))
		for i, n := range f.names {
			global[i] = u.intern(n)
		}
		for rec, n := range f.pkgName {
			u.entries = append(u.entries, entry{int32(fi), uint32(rec), u.first[global[n]]})
			u.first[global[n]] = int32(len(u.entries) - 1)
		}
		for i := 0; i+1 < len(f.provides); i += 2 {
			n := global[f.provides[i]]
			u.providers = append(u.providers, entry{int32(fi), f.provides[i+1], u.firstProv[n]})
			u.firstProv[n] = int32(len(u.providers) - 1)
		}
	}
	u.pkgs = make([]*pkg, len(u.names))
	return u
}

func (u *universe) intern(name string) int32 {
	id, ok := u.ids[name]
	if !ok {
		id = int32(len(u.names))
		u.ids[name] = id
		u.names = append(u.names, name)
		u.first = append(u.first, -1)
		u.firstProv = append(u.firstProv, -1)
	}
	return id
}

// find returns the package of that name; a name that no archive mentions gives nil.
func (u *universe) find(name string) *pkg {
	id, ok := u.ids[name]
	if !ok {
		return nil
	}
	return u.load(id)
}

func (u *universe) load(id int32) *pkg {
	if p := u.pkgs[id]; p != nil {
		return p
	}
	p := &pkg{id: id, name: u.names[id]}
	u.pkgs[id] = p
	u.loaded = append(u.loaded, p)
	var recs []entry
	for e := u.first[id]; e >= 0; e = u.entries[e].next {
		recs = append(recs, u.entries[e])
	}
	slices.Reverse(recs)
	for _, e := range recs {
		u.addVersion(p, e)
	}
	slices.SortStableFunc(p.versions, func(a, b *version) int { return deb.CompareVersions(b.Version, a.Version) })
	p.best = u.policy.candidate(p)
	p.reset()
	return p
}

func (u *universe) addVersion(p *pkg, e entry) {
	f := u.files[e.file]
	d, err := f.record(e.rec)
	if err != nil {
		u.fail(fmt.Errorf("package %s: %w", p.name, err))
		return
	}
	if d.Architecture != u.arch && d.Architecture != "all" {
		return
	}
	for _, v := range p.versions {
		if v.Version == d.Version && v.SHA256 == d.SHA256 {
			v.files = append(v.files, f)
			return
		}
	}
	p.versions = append(p.versions, &version{Package: d, pkg: p, prio: f.pkgFlags[e.rec] & priorityMask, files: []*packagesFile{f}})
	p.essential = p.essential || d.Essential
	p.protected = p.protected || d.Protected
}

func (u *universe) fail(err error) {
	if u.err == nil {
		u.err = err
	}
}

func (p *pkg) reset() {
	p.inst, p.cand, p.candReal, p.candProvided = nil, p.best, p.best, p.best
	p.install, p.fixed, p.auto, p.requested = false, false, false, nil
	p.upgradable, p.score = false, 0
}

// reset forgets every decision, so that another set can be solved.
func (u *universe) reset() {
	for _, p := range u.loaded {
		p.reset()
	}
}

// providersOf returns the versions, of any package, that provide p's name.
func (u *universe) providersOf(p *pkg) []provider {
	if p.hasProvs {
		return p.provs
	}
	p.hasProvs = true
	for e := u.firstProv[p.id]; e >= 0; e = u.providers[e].next {
		f := u.files[u.providers[e].file]
		owner := u.load(u.intern(f.names[f.pkgName[u.providers[e].rec]]))
		for _, v := range owner.versions {
			for _, as := range v.provides(u, p.name) {
				if !slices.Contains(p.provs, provider{v, as}) {
					p.provs = append(p.provs, provider{v, as})
				}
			}
		}
	}
	return p.provs
}

// provides returns the versions in which v provides name.
func (v *version) provides(u *universe, name string) []string {
	groups, err := deb.ParseRelations(v.Provides)
	if err != nil {
		u.fail(fmt.Errorf("package %s %s: Provides: %w", v.Name, v.Version, err))
	}
	var as []string
	for _, g := range groups {
		for _, r := range g {
			// Policy 7.5: only "=" is allowed.
			if r.Name == name && (r.Op == "" || r.Op == "=") {
				as = append(as, r.Version)
			}
		}
	}
	return as
}

// dependencies returns v's relation groups in the order in which apt looks at them.
func (u *universe) dependencies(v *version) []group {
	if v.parsed {
		return v.groups
	}
	v.parsed = true
	for k, field := range []string{v.PreDepends, v.Depends, v.Conflicts, v.Breaks, v.Recommends, v.Suggests} {
		groups, err := deb.ParseRelations(field)
		if err != nil {
			u.fail(fmt.Errorf("package %s %s: %w", v.Name, v.Version, err))
			continue
		}
		for _, rels := range groups {
			g := group{kind: kind(k), alts: make([]alternative, 0, len(rels))}
			for _, r := range rels {
				if r.AppliesTo(u.arch) {
					g.alts = append(g.alts, u.alternative(v, r, kind(k)))
				}
			}
			if len(g.alts) > 0 {
				v.groups = append(v.groups, g)
			}
		}
	}
	return v.groups
}

func (u *universe) alternative(v *version, r deb.Relation, k kind) alternative {
	id, ok := u.ids[r.Name]
	if !ok { // only with an architecture qualifier: nothing has this name
		return alternative{Relation: r, owner: v.pkg, target: &pkg{id: -1, name: r.Name, hasProvs: true}, kind: k}
	}
	return alternative{Relation: r, owner: v.pkg, target: u.load(id), kind: k}
}

// matchesReal reports whether version t of the alternative's own target fulfils it.
func (a *alternative) matchesReal(u *universe, t *version) bool {
	if t == nil || (a.kind.negative() && a.owner == a.target) || !a.qualifies(u, t) {
		return false
	}
	return a.Satisfied(t.Version)
}

// matchesProvider reports whether a provider of the target's name fulfils the alternative.
func (a *alternative) matchesProvider(u *universe, p provider) bool {
	if (a.kind.negative() && a.owner == p.pkg) || !a.qualifies(u, p.version) {
		return false
	}
	return a.Satisfied(p.as)
}

// qualifies judges the architecture qualifier: ":any" asks for a package that
// is Multi-Arch: allowed, another architecture's package is never here.
func (a *alternative) qualifies(u *universe, t *version) bool {
	switch a.Arch {
	case "", "native", u.arch:
		return true
	case "any":
		return t.MultiArch == "allowed"
	}
	return false
}

// installed reports whether something marked for installation fulfils the alternative.
func (a *alternative) installed(u *universe) bool {
	if a.matchesReal(u, a.target.inst) {
		return true
	}
	for _, p := range u.providersOf(a.target) {
		if p.pkg.inst == p.version && a.matchesProvider(u, p) {
			return true
		}
	}
	return false
}

// possible reports whether a candidate fulfils the alternative, as far as dependencies were told.
func (a *alternative) possible(u *universe) bool {
	if a.matchesReal(u, a.target.candReal) {
		return true
	}
	for _, p := range u.providersOf(a.target) {
		if p.pkg.candProvided == p.version && a.matchesProvider(u, p) {
			return true
		}
	}
	return false
}

// holds reports whether the group is fulfilled by what is marked for installation.
func (g *group) holds(u *universe) bool {
	for i := range g.alts {
		if g.alts[i].installed(u) {
			return !g.kind.negative()
		}
	}
	return g.kind.negative()
}
