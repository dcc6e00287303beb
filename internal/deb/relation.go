package deb

import (
	"fmt"
	"strings"
)

// Relation is one alternative of a relation field such as Depends: a package
// name, perhaps with a version bound, an architecture qualifier ("any",
// "native" or an architecture) and a restriction to architectures.
type Relation struct {
	Name    string
	Arch    string
	Op      string // "", "<<", "<=", "=", ">=", ">>"
	Version string
	// Architectures is the restriction list in brackets, entries as written ("amd64", "!i386", "linux-any").
	Architectures []string
}

// ParseRelations reads a relation field (Policy 7.1): a list of groups, in each
// of which one alternative must hold. Build profiles are read and dropped.
func ParseRelations(field string) ([][]Relation, error) {
	if strings.TrimSpace(field) == "" {
		return nil, nil
	}
	groups := make([][]Relation, 0, strings.Count(field, ",")+1)
	for part := range strings.SplitSeq(field, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue // a trailing comma is legal
		}
		group := make([]Relation, 0, strings.Count(part, "|")+1)
		for alternative := range strings.SplitSeq(part, "|") {
			r, err := parseRelation(strings.TrimSpace(alternative))
			if err != nil {
				return nil, err
			}
			group = append(group, r)
		}
		groups = append(groups, group)
	}
	return groups, nil
}

func parseRelation(s string) (Relation, error) {
	bad := func(why string) (Relation, error) {
		return Relation{}, fmt.Errorf("relation %.80q: %s", s, why)
	}
	end := strings.IndexAny(s, " \t\n([<")
	if end < 0 {
		end = len(s)
	}
	var r Relation
	r.Name, r.Arch, _ = strings.Cut(s[:end], ":")
	if r.Name == "" || strings.ContainsAny(r.Name, ")]>\\/") {
		return bad("no package name")
	}
	rest := strings.TrimSpace(s[end:])
	if strings.HasPrefix(rest, "(") {
		inner, after, ok := strings.Cut(rest[1:], ")")
		if !ok {
			return bad("the parenthesis is not closed")
		}
		if r.Op, r.Version = splitBound(strings.TrimSpace(inner)); r.Op == "" || r.Version == "" {
			return bad("the version bound has no operator or no version")
		}
		rest = strings.TrimSpace(after)
	}
	if strings.HasPrefix(rest, "[") {
		inner, after, ok := strings.Cut(rest[1:], "]")
		if !ok {
			return bad("the bracket is not closed")
		}
		r.Architectures, rest = strings.Fields(inner), strings.TrimSpace(after)
	}
	for strings.HasPrefix(rest, "<") {
		_, after, ok := strings.Cut(rest, ">")
		if !ok {
			return bad("the build profile is not closed")
		}
		rest = strings.TrimSpace(after)
	}
	if rest != "" {
		return bad("text after the relation")
	}
	return r, nil
}

// splitBound reads ">= 1.2". The historic "<" and ">" mean "<=" and ">=" (Policy 7.1).
func splitBound(s string) (op, version string) {
	for _, o := range []string{"<<", "<=", ">=", ">>", "=", "<", ">"} {
		if v, ok := strings.CutPrefix(s, o); ok {
			if o == "<" || o == ">" {
				o += "="
			}
			return o, strings.TrimSpace(v)
		}
	}
	return "", ""
}

// Satisfied reports whether that version fulfils the relation's bound. A
// relation without a bound is fulfilled by every version, also by none
// (an unversioned Provides).
func (r Relation) Satisfied(version string) bool {
	if r.Op == "" {
		return true
	}
	if version == "" {
		return false
	}
	c := CompareVersions(version, r.Version)
	switch r.Op {
	case "<<":
		return c < 0
	case "<=":
		return c <= 0
	case "=":
		return c == 0
	case ">=":
		return c >= 0
	}
	return c > 0
}

// AppliesTo reports whether the relation's architecture restriction includes
// arch (a Debian name such as amd64 of a Linux system).
func (r Relation) AppliesTo(arch string) bool {
	if len(r.Architectures) == 0 {
		return true
	}
	negative := strings.HasPrefix(r.Architectures[0], "!")
	for _, a := range r.Architectures {
		a = strings.TrimPrefix(a, "!")
		if a == arch || a == "any" || a == "linux-any" || a == "any-"+arch || a == "linux-"+arch {
			return !negative
		}
	}
	return negative
}

// String writes the relation as in a control file.
func (r Relation) String() string {
	s := r.Name
	if r.Arch != "" {
		s += ":" + r.Arch
	}
	if r.Op != "" {
		s += " (" + r.Op + " " + r.Version + ")"
	}
	if len(r.Architectures) > 0 {
		s += " [" + strings.Join(r.Architectures, " ") + "]"
	}
	return s
}
