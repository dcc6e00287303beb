package admit

import (
	"fmt"
	"slices"
	"strings"

	"kiln"
)

// Types of evidence, as package verify writes them.
const digestPin = "digest-pin"

// accepts returns the first of the roots that accepts the evidence.
func (d *decision) accepts(refs []rootRef, e kiln.Evidence) (name string, ok bool) {
	for _, ref := range refs {
		r := d.roots[ref.Root]
		if r.pinned && e.Type == digestPin {
			return ref.Root, true
		}
		for _, s := range e.Signers {
			if slices.Contains(r.fingerprints, s) || r.key != "" && s == string(r.key) && r.valid(d.now) {
				return ref.Root, true
			}
		}
	}
	return "", false
}

// signed returns a statement about the artefact of one of the types that the root's key signed.
func (d *decision) signed(r root, types ...string) *kiln.Statement {
	for i := range d.r.Statements {
		s := &d.r.Statements[i]
		if len(types) > 0 && !slices.Contains(types, s.PredicateType) || !d.about(s) {
			continue
		}
		if r.key != "" && s.KeyID == r.key && r.valid(d.now) {
			return s
		}
		if r.self != "" && s.Role == r.self && d.own(s) {
			return s
		}
	}
	return nil
}

func (d *decision) about(s *kiln.Statement) bool {
	return slices.ContainsFunc(s.Subject, func(sub kiln.Subject) bool { return sub.Digest == d.r.Subject.Digest })
}

// own reports whether this factory's key for the statement's role signed it.
func (d *decision) own(s *kiln.Statement) bool { return slices.Contains(d.self[s.Role], s.KeyID) }

// signedBy asks whether one of the roots signed the artefact itself.
func (d *decision) signedBy(r *rule, path string) {
	a := answer{expected: "the artefact is signed by " + rootNames(r.SignedBy), remedy: "get the artefact from somebody whom a root trusts, or add a root for its signer"}
	var others []string
	for _, e := range d.r.Evidence {
		if e.Subject.Digest != d.r.Subject.Digest {
			continue
		}
		if name, ok := d.accepts(r.SignedBy, e); ok {
			a.decision, a.found, a.evidence = kiln.Allow, fmt.Sprintf("signed, accepted by root %s (%s)", name, strings.Join(e.Signers, ", ")), []string{string(e.Subject.Digest)}
			d.add(condSignedBy, path, a)
			return
		}
		others = append(others, e.Signers...)
	}
	for _, ref := range r.SignedBy {
		root := d.roots[ref.Root]
		types := []string(nil)
		if root.self == "release" {
			types = []string{kiln.PredicateRelease}
		}
		if s := d.signed(root, types...); s != nil {
			a.decision, a.found, a.evidence = kiln.Allow, fmt.Sprintf("signed, accepted by root %s (key %s)", ref.Root, s.KeyID.Short()), []string{string(s.Bundle)}
			d.add(condSignedBy, path, a)
			return
		}
	}
	a.decision, a.found = kiln.Unknown, "no evidence of a signature"
	if len(others) > 0 {
		a.decision, a.found = kiln.Deny, "signed by "+strings.Join(others, ", ")
	}
	d.add(condSignedBy, path, a)
}

func rootNames(refs []rootRef) string {
	var names []string
	for _, r := range refs {
		names = append(names, r.Root)
	}
	return strings.Join(names, " or ")
}

// inputs asks whether every input has evidence by one of the roots, and every
// operating system package that the bill lists is one of the inputs.
func (d *decision) inputs(r *rule, path string) {
	a := answer{
		decision: kiln.Allow, expected: "every input has evidence accepted by " + rootNames(r.Inputs),
		remedy: "check who signs this archive; if you trust its key, add a root with its fingerprint to the policy",
	}
	t := &inputTally{roots: map[string]int{}, known: map[kiln.Digest]bool{}}
	for _, e := range d.r.Evidence {
		if e.Subject.Digest == d.r.Subject.Digest {
			continue
		}
		name, ok := d.accepts(r.Inputs, e)
		t.add(e, name, ok)
	}
	unproven := d.unproven(t)
	switch {
	case len(t.refused) > 0:
		a.decision, a.found = kiln.Deny, "no root accepts "+shorten(t.refused)
	case t.total == 0:
		a.decision, a.found, a.remedy = kiln.Unknown, "no evidence about any input", "verify the lock before asking for admission"
	case len(unproven) > 0:
		a.decision, a.found, a.remedy = kiln.Unknown, "no evidence about "+shorten(unproven), "find out where these packages come from; install them from a signed archive through the recipe"
	default:
		a.found = t.String()
	}
	a.evidence = t.documents
	d.add(condInputs, path, a)
}

// inputTally counts evidence by the root that accepted it.
type inputTally struct {
	total     int
	roots     map[string]int
	order     []string
	refused   []string
	documents []string
	known     map[kiln.Digest]bool
	base      bool // a base image is among the inputs: its packages are accounted for by it
	exempted  []string
}

func (t *inputTally) add(e kiln.Evidence, root string, ok bool) {
	t.total++
	if !ok {
		signers := strings.Join(e.Signers, ", ")
		if signers == "" {
			signers = "nobody (" + e.Type + ")"
		}
		t.refused = append(t.refused, fmt.Sprintf("%s, signed by %s", e.Subject.Name, signers))
		return
	}
	if t.roots[root]++; t.roots[root] == 1 {
		t.order = append(t.order, root)
	}
	t.known[e.Subject.Digest] = true
	if strings.HasPrefix(e.Subject.Name, "oci:") {
		t.base = true
	}
	// An archive's index stands for the packages it lists; naming each would drown the reader.
	if !strings.HasPrefix(e.Subject.Name, "apt:") {
		t.documents = append(t.documents, string(e.Subject.Digest))
	}
	if e.Exception != nil {
		t.exempted = append(t.exempted, fmt.Sprintf("%s excepted until %s by %s", e.Subject.Name, e.Exception.Expires, e.Exception.Owner))
	}
}

func (t *inputTally) String() string {
	var parts []string
	for _, name := range t.order {
		parts = append(parts, fmt.Sprintf("%d accepted by %s", t.roots[name], name))
	}
	text := fmt.Sprintf("%d inputs: %s", t.total, strings.Join(parts, ", "))
	if len(t.exempted) > 0 {
		text += " (" + shorten(t.exempted) + ")"
	}
	return text
}

// unproven lists operating system packages of the bill that no evidence names.
func (d *decision) unproven(t *inputTally) []string {
	if d.r.Bill == nil {
		return nil
	}
	var list []string
	for _, c := range d.r.Bill.Components {
		switch {
		case c.Type != "deb", c.Digest != "" && t.known[c.Digest], c.Digest == "" && t.base:
		default:
			list = append(list, c.Name+" "+c.Version)
		}
	}
	return list
}

// shorten joins the first few and says how many more there are.
func shorten(list []string) string {
	const most = 5
	if len(list) <= most {
		return strings.Join(list, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(list[:most], "; "), len(list)-most)
}
