package resolve

import "slices"

// maxDepth is where apt, too, stops following dependencies.
const maxDepth = 3000

// solver marks packages for installation on an empty system and comes to the
// set that apt-get's own solver comes to: the same order of looking at
// dependencies, the same choice between providers, the same repairs.
type solver struct {
	u          *universe
	recommends bool // of every package
}

// request is a package that was asked for, in a version.
type request struct {
	version    *version
	recommends *bool
	why        string // requested, essential, required
}

// solve marks all requests and what they need. It reports whether everything
// marked works together; the universe holds the marks.
func (s *solver) solve(requests []*request) bool {
	var roots []*pkg
	for _, r := range requests {
		p := r.version.pkg
		if p.requested == nil {
			roots = append(roots, p)
		}
		if p.requested != nil { // essential or required, and asked for: it stays the former
			r = &request{version: r.version, recommends: r.recommends, why: p.requested.why}
		}
		p.requested = r
		s.setCandidate(p, r.version)
		p.fixed = true
		s.markInstall(p, false, 0, true)
	}
	for _, p := range roots {
		s.markInstall(p, true, 0, true)
	}
	ok := s.repair()
	if ok {
		s.sweep()
		ok = len(s.broken()) == 0
	}
	return ok
}

// marked returns the packages marked for installation, by id.
func (s *solver) marked() []*pkg {
	var out []*pkg
	for _, p := range s.u.loaded {
		if p.inst != nil {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *pkg) int { return int(a.id - b.id) })
	return out
}

// broken returns the marked packages with an unfulfilled dependency.
func (s *solver) broken() []*pkg {
	return slices.DeleteFunc(s.marked(), func(p *pkg) bool { return !s.isBroken(p) })
}

func (s *solver) isBroken(p *pkg) bool {
	if p.inst == nil {
		return false
	}
	groups := s.u.dependencies(p.inst)
	for i := range groups {
		if groups[i].kind.critical() && !groups[i].holds(s.u) {
			return true
		}
	}
	return false
}

// lacks reports an unfulfilled dependency that should be followed, recommendations included.
func (s *solver) lacks(p *pkg) bool {
	if p.inst == nil {
		return false
	}
	groups := s.u.dependencies(p.inst)
	for i := range groups {
		if s.follows(p, groups[i].kind) && !groups[i].holds(s.u) {
			return true
		}
	}
	return false
}

// follows says which relations of a package are acted upon.
func (s *solver) follows(p *pkg, k kind) bool {
	if k == recommends {
		if p.requested != nil && p.requested.recommends != nil {
			return *p.requested.recommends
		}
		return s.recommends
	}
	return k.critical()
}

// tell makes the package's candidate known to dependencies on it.
func (p *pkg) tell() {
	p.candReal = p.cand
	if p.cand != nil {
		p.candProvided = p.cand
	}
}

func (s *solver) setCandidate(p *pkg, v *version) {
	if p.cand == v {
		return
	}
	if p.install && p.inst == p.cand {
		p.inst = v
	}
	p.cand = v
	p.tell()
}

// mayChange is false for a package whose mode is settled.
func (s *solver) mayChange(p *pkg, install bool, depth int, user bool) bool {
	if depth > maxDepth || len(p.versions) == 0 {
		return false
	}
	return user || p.install == install || !p.fixed
}

// keep takes the mark away.
func (s *solver) keep(p *pkg, depth int) bool {
	if !s.mayChange(p, false, depth, false) {
		return false
	}
	if p.install {
		p.install, p.inst = false, nil
		p.tell()
	}
	return true
}

// remove is keep for a package that the user did not ask for and the system can do without.
func (s *solver) remove(p *pkg, depth int) bool {
	if !s.mayChange(p, false, depth, false) || p.inst != nil && (p.essential || p.protected || !p.auto) {
		return false
	}
	if p.inst != nil {
		p.install, p.inst = false, nil
		p.tell()
	}
	return true
}

func (s *solver) mark(p *pkg, user bool) {
	if p.fixed && p.inst == p.cand {
		return
	}
	p.install, p.inst, p.auto = true, p.cand, !user
	p.tell()
}

// discard takes the mark away and gives the candidate up.
func (s *solver) discard(p *pkg) {
	p.install, p.inst = false, nil
	p.tell()
	p.cand = nil
}

// markInstall marks p and, with deep, whatever it needs. A failure below a
// package that nobody asked for gives that package up.
func (s *solver) markInstall(p *pkg, deep bool, depth int, user bool) bool {
	if !s.mayChange(p, true, depth, user) || p.cand == nil {
		return false
	}
	if !p.fixed && p.install && !s.lacks(p) {
		return true
	}
	if deep && !s.satisfiable(p) {
		return false
	}
	if user {
		s.mark(p, user)
	}
	failEarly := !p.fixed && !user
	failed := false
	var needs, against []*group
	if deep {
		needs, against = s.open(p)
		if !s.clearConflicts(against, p.fixed, user, depth) {
			if failEarly {
				return false
			}
			failed = true
		}
	}
	if !user {
		s.mark(p, user)
	}
	if !deep {
		return !failed
	}
	settled := p.fixed
	p.fixed = true
	ok := s.installNeeds(p, needs, settled, user, depth)
	p.fixed = settled
	if !ok && failEarly {
		s.discard(p)
		return false
	}
	return ok && !failed
}

// satisfiable checks that each dependency of the candidate has a candidate; else p is given up.
func (s *solver) satisfiable(p *pkg) bool {
	groups := s.u.dependencies(p.cand)
	for i := range groups {
		g := &groups[i]
		if !g.kind.critical() || g.kind.negative() {
			continue
		}
		if !slices.ContainsFunc(g.alts, func(a alternative) bool { return a.installed(s.u) || a.possible(s.u) }) {
			if !p.fixed {
				p.cand, p.install = nil, false
			}
			return false
		}
	}
	return true
}

// open collects the candidate's dependencies to act upon; a settled package settles the fulfilled ones too.
func (s *solver) open(p *pkg) (needs, against []*group) {
	groups := s.u.dependencies(p.cand)
	for i := range groups {
		g := &groups[i]
		if !s.follows(p, g.kind) || g.holds(s.u) && !p.fixed {
			continue
		}
		if g.kind.negative() {
			against = append(against, g)
		} else {
			needs = append(needs, g)
		}
	}
	return needs, against
}

// clearConflicts unmarks what must not be there beside the package; below a
// settled package it also rules them out for later.
func (s *solver) clearConflicts(against []*group, settled, user bool, depth int) bool {
	ok := true
	for _, g := range against {
		for _, v := range s.solutions(g) {
			q := v.pkg
			if q.cand != v {
				continue
			}
			if q.install && !s.keep(q, depth) {
				ok = false
				if !settled && !user {
					return false
				}
			} else if settled {
				q.cand = q.inst
				q.fixed = true
			}
		}
	}
	return ok
}

// installNeeds fulfils the groups in order, each by its first solution that works.
func (s *solver) installNeeds(p *pkg, needs []*group, settled, user bool, depth int) bool {
	ok := true
	for _, g := range needs {
		if g.holds(s.u) {
			if settled && g.kind.critical() && !s.settle(g, depth) {
				ok = false
			}
			continue
		}
		if s.installOne(g, settled, depth) || !g.kind.critical() {
			continue
		}
		ok = false
		if !settled && !user {
			break
		}
	}
	return ok
}

// settle fixes the only package that can fulfil an already fulfilled group.
func (s *solver) settle(g *group, depth int) bool {
	all := s.solutions(g)
	slices.SortFunc(all, func(a, b *version) int { return int(a.pkg.id - b.pkg.id) })
	all = slices.Compact(all)
	if len(all) != 1 || all[0].pkg.fixed {
		return true
	}
	all[0].pkg.fixed = true
	return s.markInstall(all[0].pkg, true, depth+1, false)
}

func (s *solver) installOne(g *group, settled bool, depth int) bool {
	all := s.solutions(g)
	for _, v := range all {
		q := v.pkg
		if q.cand != v {
			continue
		}
		if settled && g.kind.critical() && len(all) == 1 {
			if !s.markInstall(q, false, depth+1, false) {
				continue
			}
			q.fixed = true
		}
		if s.markInstall(q, true, depth+1, false) {
			return true
		}
	}
	return false
}

// solutions lists the candidates that fulfil the group: alternatives in their
// order, and within each the better provider first.
func (s *solver) solutions(g *group) []*version {
	var all []*version
	for i := range g.alts {
		a := &g.alts[i]
		if !a.possible(s.u) {
			continue
		}
		start := len(all)
		if a.matchesReal(s.u, a.target.cand) {
			all = append(all, a.target.cand)
		}
		for _, p := range s.u.providersOf(a.target) {
			if p.pkg.cand == p.version && a.matchesProvider(s.u, p) {
				all = append(all, p.version)
			}
		}
		slices.SortFunc(all[start:], func(x, y *version) int { return compareProviders(a, x, y) })
	}
	all = slices.Compact(all)
	if g.kind.negative() {
		return all
	}
	return slices.DeleteFunc(all, func(v *version) bool { return v.pkg.fixed && !v.pkg.install })
}

// compareProviders is negative when x is the better one: settled, the target
// itself, essential, protected, of higher priority, met later in the archives.
func compareProviders(a *alternative, x, y *version) int {
	p, q := x.pkg, y.pkg
	for _, pair := range [][2]bool{
		{p.fixed, q.fixed},
		{p == a.target && a.Arch != "any", q == a.target && a.Arch != "any"},
		{p.essential, q.essential},
		{p.protected, q.protected},
	} {
		if pair[0] != pair[1] {
			if pair[0] {
				return -1
			}
			return 1
		}
	}
	if x.prio != y.prio {
		return int(x.prio) - int(y.prio)
	}
	return int(q.id - p.id)
}

// sweep unmarks what nothing asked for needs, recommends or suggests: leftovers of choices given up.
func (s *solver) sweep() {
	all := s.marked()
	needed := map[*pkg]bool{}
	var queue []*pkg
	for _, p := range all {
		if !p.auto || p.essential || p.protected {
			needed[p] = true
			queue = append(queue, p)
		}
	}
	for len(queue) > 0 {
		p := queue[0]
		queue = queue[1:]
		for _, q := range s.reaches(p) {
			if !needed[q] {
				needed[q] = true
				queue = append(queue, q)
			}
		}
	}
	for _, p := range all {
		if !needed[p] {
			p.fixed = false
			s.remove(p, 0)
		}
	}
}

// reaches returns the marked packages that fulfil a positive relation of p.
func (s *solver) reaches(p *pkg) []*pkg {
	var out []*pkg
	groups := s.u.dependencies(p.inst)
	for i := range groups {
		if groups[i].kind.negative() {
			continue
		}
		for j := range groups[i].alts {
			a := &groups[i].alts[j]
			if a.matchesReal(s.u, a.target.inst) {
				out = append(out, a.target)
			}
			for _, v := range s.u.providersOf(a.target) {
				if v.pkg.inst == v.version && a.matchesProvider(s.u, v) {
					out = append(out, v.pkg)
				}
			}
		}
	}
	return out
}
