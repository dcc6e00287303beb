package resolve

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"kiln"
)

// choose solves the minimal base alone, then together with what the recipe
// asks for, and writes the packages into the lock.
//
// The base is what mmdebstrap's minbase variant takes: every Essential
// package, every one of priority required, apt, and what they need.
func choose(lock *kiln.Lock, r *kiln.Recipe, also []kiln.PackageRequest, suites []*suite, files []*packagesFile, arch string) error {
	u := newUniverse(files, arch)
	var err error
	if u.policy, err = newPolicy(r.Pins, files); err != nil {
		return kiln.Misuse(err)
	}
	roots := baseRequests(u)
	if len(roots) == 0 {
		return kiln.Misuse(fmt.Errorf("the archives have no essential package for %s: a base needs a suite of the distribution itself, not only pockets", arch))
	}
	base, err := u.solve(roots, false)
	if err != nil {
		return fmt.Errorf("resolving the minimal base: %w", err)
	}
	inBase := map[string]bool{}
	for _, p := range base {
		inBase[p.name] = true
	}
	u.reset()
	wanted, err := requests(u, slices.Concat(r.Packages, also))
	if err != nil {
		return kiln.Misuse(err)
	}
	all, err := u.solve(append(roots, wanted...), r.Recommends)
	if err != nil {
		return fmt.Errorf("resolving packages: %w", err)
	}
	why := reasons(u, all)
	for _, p := range all {
		lock.Packages = append(lock.Packages, lockPackage(p, inBase[p.name], why[p]))
	}
	slices.SortFunc(lock.Packages, func(a, b kiln.LockedPackage) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// solve returns the packages that satisfy the requests.
func (u *universe) solve(all []*request, recommends bool) ([]*pkg, error) {
	s := &solver{u: u, recommends: recommends}
	ok := s.solve(all)
	if u.err != nil {
		return nil, u.err
	}
	if !ok {
		return nil, kiln.Misuse(s.explain(all))
	}
	marked := s.marked()
	for _, r := range all {
		if r.version.pkg.inst != r.version {
			return nil, kiln.Misuse(s.explain(all))
		}
	}
	return marked, nil
}

// baseRequests are the roots of the minimal base: the essential packages and
// apt, then the required ones, each in the order of the archives.
func baseRequests(u *universe) []*request {
	names := map[int32]string{}
	for _, f := range u.files {
		for rec, flags := range f.pkgFlags {
			switch id := u.ids[f.names[f.pkgName[rec]]]; {
			case flags&flagEssential != 0:
				names[id] = "essential"
			case flags&priorityMask == priorityRequired && names[id] == "":
				names[id] = "required"
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	if id, ok := u.ids["apt"]; ok && names[id] == "" {
		names[id] = "required"
	}
	var all []*request
	for id, why := range names {
		p := u.load(id)
		if p.best == nil || (why != "essential" && p.name != "apt" && p.best.prio != priorityRequired) {
			continue
		}
		all = append(all, &request{version: p.best, why: why})
	}
	later := func(r *request) int {
		if r.why == "required" && r.version.Name != "apt" {
			return 1
		}
		return 0
	}
	slices.SortFunc(all, func(a, b *request) int {
		return cmp.Or(later(a)-later(b), int(a.version.pkg.id-b.version.pkg.id))
	})
	return all
}

// requests finds the version of each package that is wanted by name.
func requests(u *universe, wanted []kiln.PackageRequest) ([]*request, error) {
	var all []*request
	var errs []error
	for _, q := range wanted {
		p, err := u.named(q.Name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		v, err := u.version(p, q)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, &request{version: v, recommends: q.Recommends, why: "requested"})
		if q.Suite != "" {
			u.preferSuite(v, q.Suite, map[*version]bool{})
		}
	}
	return all, errors.Join(errs...)
}

// named finds a package; a virtual one stands for its only provider.
func (u *universe) named(name string) (*pkg, error) {
	p := u.find(name)
	if p != nil && len(p.versions) > 0 {
		return p, nil
	}
	if p == nil || len(u.providersOf(p)) == 0 {
		return nil, fmt.Errorf("package %s is in none of the archives (%s)%s", name, u.suiteNames(), u.similar(name))
	}
	var names []string
	for _, v := range u.providersOf(p) {
		if v.pkg.best == v.version && !slices.Contains(names, v.Name) {
			names = append(names, v.Name)
		}
	}
	slices.Sort(names)
	if len(names) == 1 {
		return u.find(names[0]), nil
	}
	return nil, fmt.Errorf("package %s is virtual; ask for one of those that provide it: %s", name, clipList(names, 12))
}

// version chooses the version that the request names, else the candidate.
func (u *universe) version(p *pkg, q kiln.PackageRequest) (*version, error) {
	for _, v := range p.versions {
		if q.Version != "" && !glob(q.Version, v.Version) || q.Suite != "" && v.from(q.Suite) == nil {
			continue
		}
		if q.Version != "" || q.Suite != "" || v == p.best {
			return v, nil
		}
	}
	switch {
	case q.Version != "":
		return nil, fmt.Errorf("package %s has no version %s; available: %s", p.name, q.Version, u.available(p))
	case q.Suite != "":
		return nil, fmt.Errorf("package %s is not in suite %s; available: %s", p.name, q.Suite, u.available(p))
	}
	return nil, fmt.Errorf("package %s: the pins forbid every version; available: %s", p.name, u.available(p))
}

// preferSuite makes versions of the suite candidates where v's dependencies
// ask for a version that only the suite has.
func (u *universe) preferSuite(v *version, release string, seen map[*version]bool) {
	if seen[v] {
		return
	}
	seen[v] = true
	groups := u.dependencies(v)
	for i := range groups {
		g := &groups[i]
		if g.kind != preDepends && g.kind != depends || slices.ContainsFunc(g.alts, func(a alternative) bool { return a.possible(u) }) {
			continue
		}
		for j := range g.alts {
			a := &g.alts[j]
			k := slices.IndexFunc(a.target.versions, func(w *version) bool { return w.from(release) != nil && a.matchesReal(u, w) })
			if k >= 0 {
				w := a.target.versions[k]
				a.target.cand = w
				a.target.tell()
				u.preferSuite(w, release, seen)
				break
			}
		}
	}
}

// reasons says of each package why it is there: what asked for it, or the first package, breadth first, that needed it.
func reasons(u *universe, all []*pkg) map[*pkg]string {
	why := map[*pkg]string{}
	var queue []*pkg
	for _, p := range all {
		if p.requested != nil {
			why[p] = p.requested.why
			queue = append(queue, p)
		}
	}
	s := &solver{u: u}
	for len(queue) > 0 {
		p := queue[0]
		queue = queue[1:]
		for _, q := range s.reaches(p) {
			if why[q] == "" {
				why[q] = p.name
				queue = append(queue, q)
			}
		}
	}
	return why
}

func lockPackage(p *pkg, base bool, why string) kiln.LockedPackage {
	v := p.inst
	f := v.files[0]
	for _, g := range v.files[1:] {
		if g.priority > f.priority {
			f = g
		}
	}
	return kiln.LockedPackage{
		Name: v.Name, Version: v.Version, Architecture: v.Architecture, Archive: f.suite.id, Component: f.component,
		Path: v.Filename, Size: v.Size, Digest: v.SHA256, Source: v.Source, SourceVersion: v.SourceVersion,
		Essential: v.Essential, Base: base, Why: why,
	}
}

// available lists a package's versions with the suites that have them.
func (u *universe) available(p *pkg) string {
	var all []string
	for _, v := range p.versions {
		var ids []string
		for _, f := range v.files {
			ids = append(ids, f.suite.id)
		}
		all = append(all, v.Version+" ("+strings.Join(ids, ", ")+")")
	}
	if len(all) == 0 {
		return "none"
	}
	return clipList(all, 6)
}

func (u *universe) suiteNames() string {
	var ids []string
	for _, f := range u.files {
		if !slices.Contains(ids, f.suite.id) {
			ids = append(ids, f.suite.id)
		}
	}
	return strings.Join(ids, ", ")
}

// similar suggests existing names at a small edit distance.
func (u *universe) similar(name string) string {
	var close []string
	for id, n := range u.names {
		if u.first[id] >= 0 && near(name, n) {
			close = append(close, n)
		}
	}
	if len(close) == 0 {
		return ""
	}
	slices.SortFunc(close, func(a, b string) int {
		if d := distance(name, a) - distance(name, b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return "; did you mean " + clipList(close, 3) + "?"
}

func near(a, b string) bool {
	if d := len(a) - len(b); d > 2 || d < -2 {
		return false
	}
	return distance(a, b) <= 1+len(a)/6
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last = row[j+1]
			row[j+1] = min(cost, row[j]+1, last+1)
		}
	}
	return row[len(b)]
}

func clipList(all []string, n int) string {
	if len(all) > n {
		return strings.Join(all[:n], ", ") + fmt.Sprintf(" and %d more", len(all)-n)
	}
	return strings.Join(all, ", ")
}
