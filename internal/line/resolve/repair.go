package resolve

import "slices"

// Scores as apt's problem resolver gives them.
const (
	scoreEssential    = 100
	scoreAddProtected = 10000
	scoreAddEssential = 5000
	maxRounds         = 20
)

// scorePriority is by priority, required to extra.
var scorePriority = [...]int{0, 3, 2, 1, -1, -2}

func scoreKind(k kind) int {
	switch k {
	case preDepends, depends, recommends:
		return 1
	case conflicts, breaks:
		return -1
	}
	return 0
}

// repair mends what marking left broken: from the package with the highest
// score down, it drops or replaces what stands in the way. It reports whether
// nothing is broken afterwards.
func (s *solver) repair() bool {
	if len(s.broken()) == 0 {
		return true
	}
	for _, p := range s.u.loaded {
		p.upgradable = true
	}
	s.scoreAll()
	order := slices.Clone(s.u.loaded)
	slices.SortFunc(order, func(a, b *pkg) int {
		if a.score != b.score {
			return b.score - a.score
		}
		return int(a.id - b.id)
	})
	changed := true
	for round := 0; round < maxRounds && changed; round++ {
		changed = false
		for _, p := range order {
			if s.isBroken(p) && s.repairOne(p, round) {
				changed = true
			}
		}
	}
	return len(s.broken()) == 0
}

// scoreAll gives each package the weight of what depends on it.
func (s *solver) scoreAll() {
	all := s.marked()
	for _, p := range all {
		if p.essential || p.protected {
			p.score += scoreEssential
		}
		p.score += scorePriority[p.inst.prio]
		s.eachTarget(p, func(k kind, q *pkg) { q.score += scoreKind(k) })
	}
	before := map[*pkg]int{}
	for _, p := range s.u.loaded {
		before[p] = p.score
	}
	for _, p := range all {
		groups := s.u.dependencies(p.inst)
		for i := range groups {
			if k := groups[i].kind; k.negative() || k == suggests || before[p] <= 0 {
				continue
			}
			for j := range groups[i].alts {
				if q := groups[i].alts[j].target; q.inst != nil {
					q.score += before[p]
				}
			}
		}
	}
	s.scoreProviders(before)
	for _, p := range s.u.loaded {
		if p.fixed {
			p.score += scoreAddProtected
		}
		if p.essential || p.protected {
			p.score += scoreAddEssential
		}
	}
}

// eachTarget calls fn with each package that a relation of p names and each marked one that provides the name.
func (s *solver) eachTarget(p *pkg, fn func(kind, *pkg)) {
	groups := s.u.dependencies(p.inst)
	for i := range groups {
		for j := range groups[i].alts {
			a := &groups[i].alts[j]
			if !(a.kind.negative() && a.owner == a.target) && (a.Op == "" || a.matchesReal(s.u, a.target.inst)) {
				fn(a.kind, a.target)
			}
			seen := map[*pkg]bool{}
			for _, v := range s.u.providersOf(a.target) {
				if v.pkg.inst == v.version && a.matchesProvider(s.u, v) && !seen[v.pkg] {
					seen[v.pkg] = true
					fn(a.kind, v.pkg)
				}
			}
		}
	}
}

// scoreProviders hands what a name gained on to those who provide it.
func (s *solver) scoreProviders(before map[*pkg]int) {
	for _, p := range slices.Clone(s.u.loaded) {
		gain := p.score - before[p]
		if gain < 0 {
			gain = -gain
		}
		if gain == 0 {
			continue
		}
		seen := map[*pkg]bool{}
		for _, v := range s.u.providersOf(p) {
			if v.pkg.inst == v.version && !seen[v.pkg] {
				seen[v.pkg] = true
				v.pkg.score += gain
			}
		}
	}
}

// repairOne looks at each broken dependency of p and reports whether it changed anything.
func (s *solver) repairOne(p *pkg, round int) bool {
	v := p.inst
	var kills []*pkg
	changed := false
	groups := s.u.dependencies(v)
	for i := range groups {
		g := &groups[i]
		if !g.kind.critical() || g.holds(s.u) {
			continue
		}
		fix := &groupFix{solver: s, p: p, group: g, round: round, or: len(g.alts) > 1}
		fix.run()
		changed = changed || fix.changed
		kills = append(kills, fix.kills...)
		if fix.leave {
			break
		}
	}
	if p.inst == nil {
		return changed
	}
	for _, q := range kills {
		done := s.keep(q, 0)
		if (!done || round > 1) && p.score > q.score {
			q.score = p.score
			changed = true
		}
		changed = changed || done
	}
	return changed
}

// groupFix is the treatment of one broken dependency.
type groupFix struct {
	*solver
	p       *pkg
	group   *group
	round   int
	or      bool
	keeps   bool // p can be held back instead of removed
	kills   []*pkg
	changed bool
	leave   bool // p is settled: look at no further dependency
}

func (f *groupFix) run() {
	for i := range f.group.alts {
		a := &f.group.alts[i]
		targets := targetsOf(f.u, a)
		if len(targets) == 0 && !f.p.fixed && !a.kind.negative() {
			if f.or {
				continue
			}
			f.keep(f.p, 0)
			f.changed, f.leave = true, true
			return
		}
		if done := f.consider(a, targets); done && !f.or {
			f.leave = true
			return
		}
		if f.group.holds(f.u) {
			return
		}
	}
	if f.or && len(f.kills) == 0 && !f.p.fixed {
		f.keep(f.p, 0)
		f.changed = true
	}
}

// consider tries the targets in turn; it reports that p was dealt with.
func (f *groupFix) consider(a *alternative, targets []*version) bool {
	negative := a.kind.negative()
	for _, v := range targets {
		q := v.pkg
		if negative && q.inst != v {
			continue
		}
		if f.p.score <= q.score || !negative {
			if f.p.fixed {
				if f.reinstate(q, 0) {
					q.score = min(q.score, f.p.score)
					return false
				}
				continue
			}
			f.holdBack()
			return true
		}
		if q.fixed {
			continue
		}
		f.kills = append(f.kills, q)
	}
	return false
}

// holdBack does without p, unless another alternative may still help.
func (f *groupFix) holdBack() {
	marked := f.p.install
	f.keep(f.p, 0)
	f.keeps, f.changed = true, true
	if f.or && marked {
		f.markInstall(f.p, false, 0, false)
	}
}

// reinstate marks a package and, one by one, what it lacks.
func (s *solver) reinstate(p *pkg, depth int) bool {
	if !p.upgradable || p.cand == nil || p.fixed || depth > maxDepth {
		return false
	}
	p.upgradable = false
	if !s.markInstall(p, false, 0, false) || p.inst == nil {
		return false
	}
	groups := s.u.dependencies(p.inst)
	for i := range groups {
		g := &groups[i]
		if !g.kind.critical() || g.holds(s.u) {
			continue
		}
		if !s.reinstateOne(g, depth) {
			s.keep(p, 0)
			return false
		}
	}
	return true
}

func (s *solver) reinstateOne(g *group, depth int) bool {
	ok := true
	for i := range g.alts {
		a := &g.alts[i]
		if g.holds(s.u) {
			return ok
		}
		q := s.smartTarget(a)
		switch {
		case q.fixed:
			ok = false
		case !a.kind.negative() && a.possible(s.u):
			if s.reinstate(q, depth+1) {
				return true
			}
			ok = false
		case a.kind.negative():
			return ok // the next round deals with it
		default:
			ok = false
		}
	}
	return ok
}

// smartTarget is the target, or the first provider of a purely virtual one.
func (s *solver) smartTarget(a *alternative) *pkg {
	if len(a.target.versions) > 0 {
		return a.target
	}
	for _, p := range s.u.providersOf(a.target) {
		if p.pkg != a.owner {
			return p.pkg
		}
	}
	return a.target
}
