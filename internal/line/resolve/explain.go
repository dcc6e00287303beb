package resolve

import (
	"fmt"
	"slices"
	"strings"
)

// Unsolvable says why requests cannot be installed together.
type Unsolvable struct {
	// Chains have one entry per request that fails: the way from the request to what is missing or in conflict.
	Chains []string
}

func (e *Unsolvable) Error() string {
	return "the packages cannot be installed together:\n  " + strings.Join(e.Chains, "\n  ") +
		"\nhint: ask for another version (name=version) or suite (name/suite), add a pin or an archive that has the version, or drop one of the packages in conflict"
}

// explain follows each failing request to the reason.
func (s *solver) explain(all []*request) error {
	x := &explainer{u: s.u, fixed: map[*pkg]*version{}, memo: map[*version]string{}}
	for _, r := range all {
		x.fixed[r.version.pkg] = r.version
	}
	var chains []string
	for _, r := range all {
		if why := x.why(r.version, 0); why != "" {
			chains = append(chains, fmt.Sprintf("%s %s (%s) %s", r.version.Name, r.version.Version, r.why, why))
		}
	}
	if len(chains) == 0 {
		chains = s.describeBroken(all)
	}
	slices.Sort(chains)
	return &Unsolvable{Chains: slices.Compact(chains)}
}

// describeBroken is for sets whose parts can each be installed, but that the solver cannot bring together.
func (s *solver) describeBroken(all []*request) []string {
	var out []string
	for _, p := range s.broken() {
		groups := s.u.dependencies(p.inst)
		for i := range groups {
			if g := &groups[i]; g.kind.critical() && !g.holds(s.u) {
				out = append(out, fmt.Sprintf("%s %s %s %s, which the other packages rule out", p.name, p.inst.Version, g.kind, g))
			}
		}
	}
	for _, r := range all {
		if p := r.version.pkg; p.inst != r.version && !s.isBroken(p) {
			out = append(out, fmt.Sprintf("%s %s (%s) is ruled out by another package", p.name, r.version.Version, r.why))
		}
	}
	return out
}

func (g *group) String() string {
	var alts []string
	for _, a := range g.alts {
		alts = append(alts, a.Relation.String())
	}
	return strings.Join(alts, " | ")
}

type explainer struct {
	u     *universe
	fixed map[*pkg]*version // what was asked for
	memo  map[*version]string
}

const maxChain = 12

// why says what stops a version from being installed beside what was asked
// for; "" means that nothing does, as far as its dependencies were followed.
func (x *explainer) why(v *version, depth int) string {
	if known, ok := x.memo[v]; ok || depth > maxChain {
		return known
	}
	x.memo[v] = "" // a circle is no reason
	reason := x.conflict(v)
	groups := x.u.dependencies(v)
	for i := 0; i < len(groups) && reason == ""; i++ {
		if g := &groups[i]; g.kind.critical() && !g.kind.negative() {
			reason = x.unmet(g, depth)
		}
	}
	x.memo[v] = reason
	return reason
}

// conflict finds what was asked for and excludes v, or is excluded by it.
func (x *explainer) conflict(v *version) string {
	if w, ok := x.fixed[v.pkg]; ok && w != v {
		return fmt.Sprintf("is not %s %s, which is asked for", w.Name, w.Version)
	}
	for _, w := range x.sortedFixed() {
		for _, pair := range [][2]*version{{v, w}, {w, v}} {
			g := x.excludes(pair[0], pair[1])
			if g == nil {
				continue
			}
			if pair[0] == v {
				return fmt.Sprintf("%s %s, and %s %s is asked for", g.kind, g, w.Name, w.Version)
			}
			return fmt.Sprintf("is excluded: %s %s, which is asked for, %s %s", w.Name, w.Version, g.kind, g)
		}
	}
	return ""
}

func (x *explainer) sortedFixed() []*version {
	var all []*version
	for _, v := range x.fixed {
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b *version) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// excludes returns v's negative relation that w falls under, or nil.
func (x *explainer) excludes(v, w *version) *group {
	if v.pkg == w.pkg {
		return nil
	}
	groups := x.u.dependencies(v)
	for i := range groups {
		g := &groups[i]
		if g.kind.negative() && slices.Contains(targetsOf(x.u, &g.alts[0]), w) {
			return g
		}
	}
	return nil
}

// unmet says why no alternative of the group can be had.
func (x *explainer) unmet(g *group, depth int) string {
	var reasons []string
	for i := range g.alts {
		a := &g.alts[i]
		targets := slices.DeleteFunc(targetsOf(x.u, a), func(v *version) bool { return v.pkg.best != v && x.fixed[v.pkg] != v })
		if len(targets) == 0 {
			reasons = append(reasons, x.missing(a))
			continue
		}
		for _, v := range targets {
			why := x.why(v, depth+1)
			if why == "" {
				return ""
			}
			reasons = append(reasons, fmt.Sprintf("%s %s %s", v.Name, v.Version, why))
		}
	}
	if len(reasons) > 3 {
		reasons = append(reasons[:3], fmt.Sprintf("and %d more alternatives fail", len(reasons)-3))
	}
	return fmt.Sprintf("%s %s, but %s", g.kind, g, strings.Join(reasons, "; "))
}

// missing says what the archives have instead of the alternative.
func (x *explainer) missing(a *alternative) string {
	if len(a.target.versions) == 0 {
		return fmt.Sprintf("%s is in none of the archives", a.target.name)
	}
	if len(targetsOf(x.u, a)) > 0 {
		candidate := "none"
		if a.target.best != nil {
			candidate = a.target.best.Version
		}
		return fmt.Sprintf("the candidate of %s is %s (available: %s)", a.target.name, candidate, x.u.available(a.target))
	}
	return fmt.Sprintf("%s is not available in such a version (available: %s)", a.target.name, x.u.available(a.target))
}

// targetsOf returns every version that fulfils the alternative.
func targetsOf(u *universe, a *alternative) []*version {
	var all []*version
	for _, v := range a.target.versions {
		if a.matchesReal(u, v) {
			all = append(all, v)
		}
	}
	for _, p := range u.providersOf(a.target) {
		if a.matchesProvider(u, p) {
			all = append(all, p.version)
		}
	}
	return all
}
