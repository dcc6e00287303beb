package catalogue

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"kiln"
)

// What may happen to an objective between two versions.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// Change is what another version of the catalogue does to one objective.
type Change struct {
	Objective string  `json:"objective"`
	Title     string  `json:"title"`
	Severity  string  `json:"severity"`
	Change    string  `json:"change"` // added, removed or changed
	Fields    []Field `json:"fields,omitempty"`
}

// Field is one thing that differs: Old is empty where it is new, New where it is gone.
type Field struct {
	// What is severity, scope, platforms, applies, acknowledge, title, rationale, conflicts, "order of variants",
	// "variant ID", or a benchmark's name for ids that were renumbered.
	What string `json:"what"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
}

// Difference is what a new version of the catalogue changes.
type Difference struct {
	Old kiln.Digest `json:"old"`
	New kiln.Digest `json:"new"`
	// Benchmarks are those that came, went, or have another version.
	Benchmarks []Field  `json:"benchmarks"`
	Objectives []Change `json:"objectives"`
	// Recipe is what becomes of one recipe; nil without one.
	Recipe *Effect `json:"recipe,omitempty"`
}

// Compare says what next changes against the version old.
func Compare(old, next *Catalogue) Difference {
	d := Difference{Old: old.Digest(), New: next.Digest(), Benchmarks: compareBenchmarks(old, next), Objectives: []Change{}}
	for _, id := range union(old.ids, next.ids) {
		before, was := old.objectives[id]
		after, is := next.objectives[id]
		c, differs := compareControls(before, was, after, is)
		if was && is && old.joint[id] != next.joint[id] {
			c.Fields, differs = append(c.Fields, Field{"joint variant", old.joint[id], next.joint[id]}), true
		}
		if differs {
			d.Objectives = append(d.Objectives, c)
		}
	}
	return d
}

func union(a, b []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}

func compareBenchmarks(old, next *Catalogue) []Field {
	text := func(c *Catalogue) map[string]string {
		out := map[string]string{}
		for _, b := range c.benchmarks {
			out[b.Key] = b.Name + " " + b.Version
		}
		return out
	}
	return compareTexts(text(old), text(next))
}

// compareTexts lists what differs by key, in the keys' order.
func compareTexts(old, next map[string]string) []Field {
	out := []Field{}
	for _, k := range union(slices.Collect(maps.Keys(old)), slices.Collect(maps.Keys(next))) {
		if old[k] != next[k] {
			out = append(out, Field{k, old[k], next[k]})
		}
	}
	return out
}

func compareControls(before kiln.Control, was bool, after kiln.Control, is bool) (Change, bool) {
	switch {
	case !was:
		return Change{Objective: after.ID, Title: after.Title, Severity: after.Severity, Change: Added}, true
	case !is:
		return Change{Objective: before.ID, Title: before.Title, Severity: before.Severity, Change: Removed}, true
	}
	fields := compareTexts(described(before), described(after))
	return Change{Objective: after.ID, Title: after.Title, Severity: after.Severity, Change: Changed, Fields: fields}, len(fields) > 0
}

// described is everything an objective says, by what it is about.
func described(k kiln.Control) map[string]string {
	out := map[string]string{
		"title": k.Title, "rationale": k.Rationale, "severity": k.Severity, "scope": k.Scope,
		"platforms": strings.Join(k.Platforms, " "), "acknowledge": fmt.Sprint(k.Acknowledge),
		"applies": encoded(k.Applies), "conflicts": encoded(k.Conflicts),
	}
	var order []string
	for _, v := range k.Variants {
		order = append(order, v.ID)
		out["variant "+v.ID] = settingsText(v)
	}
	out["order of variants"] = strings.Join(order, " ")
	for name, ids := range referenceIDs(k) {
		out[name] = strings.Join(ids, " ")
	}
	return out
}

// encoded is JSON, of which Go sorts the keys; nothing for nothing.
func encoded(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic("internal error: a checked objective does not encode: " + err.Error())
	}
	if string(data) == "null" {
		return ""
	}
	return string(data)
}

func settingsText(v kiln.Variant) string {
	parts := make([]string, 0, len(v.Settings))
	for _, s := range v.Settings {
		text := s.Kind
		if len(s.Params) > 0 {
			text += " " + encoded(s.Params)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// referenceIDs are the ids by benchmark, with level or category.
func referenceIDs(k kiln.Control) map[string][]string {
	out := map[string][]string{}
	add := func(r kiln.Reference) {
		id := strings.TrimSpace(r.ID + " " + r.Level)
		if !slices.Contains(out[r.Benchmark], id) {
			out[r.Benchmark] = append(out[r.Benchmark], id)
		}
	}
	for _, r := range k.References {
		add(r)
	}
	for _, v := range k.Variants {
		for _, r := range v.References {
			add(r)
		}
	}
	return out
}

// Effect is what a new version of the catalogue does to one recipe.
type Effect struct {
	Profile string `json:"profile"`
	// Gained and Lost are objectives that its profile, or what it includes, has more or less.
	Gained []string `json:"gained"`
	Lost   []string `json:"lost"`
	// Revalued are objectives whose first variant, the one that is tried first, sets something else.
	Revalued []Field `json:"revalued"`
	// Renumbered are objectives of the recipe whose ids in a benchmark differ; What is objective and benchmark.
	Renumbered []Field `json:"renumbered"`
	// Waivers are the recipe's that need a decision, each with the reason.
	Waivers []Note `json:"waivers"`
	// Broken says why the recipe cannot be built with the new version; empty when it can.
	Broken string `json:"broken,omitempty"`
}

// Note is a remark about an objective.
type Note struct {
	Objective string `json:"objective"`
	Note      string `json:"note"`
}

// Chooser returns the objectives that a recipe asks for from one version of the catalogue.
type Chooser func(*Catalogue) ([]kiln.Control, error)

// EffectOn says what next changes for a recipe that was made with old. What the
// old version cannot give is an error; what the new one cannot stands in Broken.
func EffectOn(h kiln.Hardening, choose Chooser, old, next *Catalogue) (*Effect, error) {
	e := &Effect{Profile: ProfileOf(h), Gained: []string{}, Lost: []string{}, Revalued: []Field{}, Renumbered: []Field{}, Waivers: []Note{}}
	if h.ProfileFile != "" {
		e.Profile = h.ProfileFile
	}
	before, err := choose(old)
	if err != nil {
		return nil, fmt.Errorf("with the old catalogue: %w", err)
	}
	after, err := choose(next)
	if err != nil {
		e.Broken = err.Error()
		return e, nil
	}
	was, is := byID(before), byID(after)
	for _, id := range union(slices.Collect(maps.Keys(was)), slices.Collect(maps.Keys(is))) {
		a, inOld := was[id]
		b, inNew := is[id]
		switch {
		case !inOld:
			e.Gained = append(e.Gained, id)
		case !inNew:
			e.Lost = append(e.Lost, id)
		default:
			e.compare(a, b)
		}
	}
	for _, w := range h.Waivers {
		if note := waiverNote(w.Objective, was, is); note != "" {
			e.Waivers = append(e.Waivers, Note{w.Objective, note})
		}
	}
	return e, nil
}

func byID(list []kiln.Control) map[string]kiln.Control {
	out := map[string]kiln.Control{}
	for _, k := range list {
		out[k.ID] = k
	}
	return out
}

func (e *Effect) compare(a, b kiln.Control) {
	if x, y := firstVariant(a), firstVariant(b); x != y {
		e.Revalued = append(e.Revalued, Field{a.ID, x, y})
	}
	old, next := referenceIDs(a), referenceIDs(b)
	for _, name := range union(slices.Collect(maps.Keys(old)), slices.Collect(maps.Keys(next))) {
		if x, y := strings.Join(old[name], " "), strings.Join(next[name], " "); x != y {
			e.Renumbered = append(e.Renumbered, Field{a.ID + ", " + name, x, y})
		}
	}
}

func firstVariant(k kiln.Control) string {
	return k.Variants[0].ID + ": " + settingsText(k.Variants[0])
}

func waiverNote(id string, was, is map[string]kiln.Control) string {
	a, inOld := was[id]
	b, inNew := is[id]
	switch {
	case !inNew && inOld:
		return "no longer in what the recipe asks for: remove the waiver"
	case !inNew:
		return "names nothing that the recipe asks for"
	case !inOld:
		return "the objective is new to what the recipe asks for: the waiver takes effect"
	case firstVariant(a) != firstVariant(b):
		return "what is waived has changed; decide again: " + firstVariant(b)
	case a.Severity != b.Severity:
		return fmt.Sprintf("the severity of what is waived went from %s to %s: decide again", a.Severity, b.Severity)
	}
	return ""
}
