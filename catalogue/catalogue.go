// Package catalogue holds the hardening objectives and profiles as data: what is
// wanted, why, in which ways it can be had, and which benchmark asks for it. The
// wording is our own; benchmark ids are cross references, never text.
//
// Objectives stand in objectives/*.yaml, profiles in profiles/*.yaml, and the
// benchmarks with their versions once in benchmarks.yaml.
package catalogue

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"kiln"

	"github.com/goccy/go-yaml"
)

//go:embed benchmarks.yaml gpos-srg.yaml objectives/*.yaml profiles/*.yaml
var data embed.FS

// DefaultProfile is used where a recipe names none.
const DefaultProfile = "container-baseline"

// Catalogue is the checked content of this package. Objectives that it returns share their variants, parameters and references
// with it and with every other caller: whoever wants to change one makes a copy first.
type Catalogue struct {
	objectives map[string]kiln.Control
	joint      map[string]string // objective to the variant that meets every profile's choice
	ids        []string          // sorted
	profiles   map[string]profile
	benchmarks []Benchmark // sorted by key
	digest     func() kiln.Digest
}

// Benchmark is what references point at: a document of rules, in one version.
type Benchmark struct {
	// Key is its short name in the catalogue's files, such as cis-debian-12.
	Key     string `json:"key" yaml:"-"`
	Name    string `json:"name" yaml:"name"`
	Version string `json:"version" yaml:"version"`
}

// objective is an objective as written: references by benchmark key.
type objective struct {
	ID          string              `yaml:"id"`
	Title       string              `yaml:"title"`
	Rationale   string              `yaml:"rationale"`
	Severity    string              `yaml:"severity"`
	Scope       string              `yaml:"scope"`
	Platforms   []string            `yaml:"platforms"`
	Applies     *kiln.Applicability `yaml:"applies"`
	Acknowledge bool                `yaml:"acknowledge"`
	Variants    []variant           `yaml:"variants"`
	Level       string              `yaml:"level"` // of the CIS references: L1 or L2
	References  map[string][]string `yaml:"references"`
	Conflicts   []kiln.Conflict     `yaml:"conflicts"`
	// Joint is the variant that meets every profile's choice at once, where profiles begin with different ones.
	// Without it the strictest of them is it.
	Joint string `yaml:"joint"`
}

// variant is a variant as written. Meets says which of the objective's references it meets: "all" (what a variant that
// says nothing means only where it is the first), a benchmark's key or the beginning of one ("cis"), or single ids.
type variant struct {
	kiln.Variant `yaml:",inline"`
	Meets        *[]string `yaml:"meets"`
}

// profile names objectives; it takes those of the profile it inherits and may begin with another variant.
type profile struct {
	Name        string   `json:"name" yaml:"name"`
	Description string   `json:"description" yaml:"description"`
	Inherits    string   `json:"inherits,omitempty" yaml:"inherits"`
	Scope       string   `json:"scope,omitempty" yaml:"scope"` // container (the default) or machine
	Objectives  []choice `json:"objectives" yaml:"objectives"`
}

// choice is an objective's id, or the id with the variant to begin with.
type choice struct {
	ID      string `json:"id"`
	Variant string `json:"variant,omitempty"`
}

// UnmarshalYAML reads both forms.
func (c *choice) UnmarshalYAML(raw []byte) error {
	var id string
	if err := yaml.Unmarshal(raw, &id); err == nil {
		c.ID = id
		return nil
	}
	var full struct {
		ID      string `yaml:"id"`
		Variant string `yaml:"variant"`
	}
	if err := strict(raw, &full); err != nil {
		return err
	}
	c.ID, c.Variant = full.ID, full.Variant
	return nil
}

func strict(raw []byte, into any) error {
	return yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict()).Decode(into)
}

// Load reads and checks the embedded catalogue, once in a process. An error is a mistake in this program's own data.
func Load() (*Catalogue, error) { return embedded() }

var embedded = sync.OnceValues(func() (*Catalogue, error) {
	c, err := load(data)
	if err != nil {
		return nil, fmt.Errorf("internal error: catalogue: %w", err)
	}
	return c, nil
})

func load(files fs.FS) (*Catalogue, error) {
	c := &Catalogue{objectives: map[string]kiln.Control{}, joint: map[string]string{}, profiles: map[string]profile{}}
	marks := map[string]Benchmark{}
	if err := readFile(files, "benchmarks.yaml", &marks); err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(marks)) {
		c.benchmarks = append(c.benchmarks, Benchmark{key, marks[key].Name, marks[key].Version})
	}
	lists, err := objectiveFiles(files)
	if err != nil {
		return nil, err
	}
	err = eachFile(files, "objectives", func(name string) error {
		for _, o := range lists[name] {
			if err := c.add(o, marks); err != nil {
				return fmt.Errorf("%s: objective %s: %w", name, o.ID, err)
			}
		}
		return nil
	})
	if err == nil {
		err = eachFile(files, "profiles", func(name string) error { return c.addProfile(files, name) })
	}
	if err != nil {
		return nil, err
	}
	return c, c.finish()
}

// finish sorts what was added and checks that every profile loads.
func (c *Catalogue) finish() error {
	slices.Sort(c.ids)
	for name := range c.profiles {
		if _, err := c.Profile(name); err != nil {
			return err
		}
	}
	c.digest = sync.OnceValue(func() kiln.Digest {
		d, err := kiln.DigestOf(c.content())
		if err != nil {
			panic("internal error: the catalogue has no canonical form: " + err.Error())
		}
		return d
	})
	return nil
}

// maxFile bounds one file of a catalogue, maxFiles how many a directory of it may hold.
const (
	maxFile  = 4 << 20
	maxFiles = 500
)

func readFile(files fs.FS, name string, into any) error {
	info, err := fs.Lstat(files, name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return fmt.Errorf("%s: is no regular file of at most %d MiB", name, maxFile>>20)
	}
	raw, err := fs.ReadFile(files, name)
	if err != nil {
		return err
	}
	if _, ours := files.(embed.FS); !ours { // reading twice would double the time that a command takes to begin
		if err := plain(raw); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := strict(raw, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// objectiveFiles reads all files of objectives at once: parsing is most of the time that a command takes to begin.
func objectiveFiles(files fs.FS) (map[string][]objective, error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	lists, errs := map[string][]objective{}, map[string]error{}
	err := eachFile(files, "objectives", func(name string) error {
		wg.Go(func() {
			var list []objective
			err := readFile(files, name, &list)
			mu.Lock()
			defer mu.Unlock()
			lists[name], errs[name] = list, err
		})
		return nil
	})
	wg.Wait()
	for _, name := range slices.Sorted(maps.Keys(errs)) {
		if errs[name] != nil {
			return nil, errs[name]
		}
	}
	return lists, err
}

func eachFile(files fs.FS, dir string, fn func(name string) error) error {
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		return err
	}
	if len(entries) > maxFiles {
		return fmt.Errorf("%s: holds more than %d files", dir, maxFiles)
	}
	for _, e := range entries {
		if err := fn(path.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (c *Catalogue) add(o objective, marks map[string]Benchmark) error {
	if _, twice := c.objectives[o.ID]; twice {
		return errors.New("stands twice")
	}
	refs, err := references(o, marks)
	if err != nil {
		return err
	}
	k := kiln.Control{
		ID: o.ID, Title: o.Title, Rationale: o.Rationale, Severity: o.Severity, Scope: o.Scope, Platforms: o.Platforms,
		Applies: o.Applies, References: refs, Conflicts: o.Conflicts, Acknowledge: o.Acknowledge,
	}
	if k.Variants, err = o.variants(refs, marks); err != nil {
		return err
	}
	if err := k.Validate(); err != nil {
		return err
	}
	if o.Joint != "" && variantIndex(k, o.Joint) < 0 {
		return fmt.Errorf("joint names no variant: %q", o.Joint)
	}
	c.objectives[o.ID], c.joint[o.ID] = k, o.Joint
	c.ids = append(c.ids, o.ID)
	return nil
}

// variants gives each variant the references that it meets, where there are several to tell apart.
func (o objective) variants(refs []kiln.Reference, marks map[string]Benchmark) ([]kiln.Variant, error) {
	all := []string{"all"}
	list := make([]kiln.Variant, len(o.Variants))
	for i, v := range o.Variants {
		list[i] = v.Variant
		switch {
		case v.Meets == nil && i > 0:
			return nil, fmt.Errorf("variant %s does not say which references it meets: meets: [], [all], or some", v.ID)
		case v.Meets == nil:
			v.Meets = &all
		}
		if len(o.Variants) == 1 {
			continue // the objective's references are its own
		}
		for _, name := range *v.Meets {
			met := slices.DeleteFunc(slices.Clone(refs), func(r kiln.Reference) bool { return !refersTo(r, name, marks) })
			if len(met) == 0 && name != "all" {
				return nil, fmt.Errorf("variant %s meets %q, which the objective does not refer to", v.ID, name)
			}
			list[i].References = append(list[i].References, met...)
		}
	}
	return list, nil
}

// refersTo tells whether a reference is meant by name; cross references, such as CCI, are of the objective, not of a variant.
func refersTo(r kiln.Reference, name string, marks map[string]Benchmark) bool {
	if r.ID == name {
		return true
	}
	for key, b := range marks {
		if b.Name == r.Benchmark && (name == "all" || strings.HasPrefix(key, name)) {
			return !slices.Contains(crossReferences, key)
		}
	}
	return false
}

// crossReferences are catalogues of controls and rules that benchmarks map to.
var crossReferences = []string{"cci", "cci-kiln", "nist-800-53", "scap", "srg-gpos"}

// references writes out benchmark name and version for every id, in a fixed order.
func references(o objective, marks map[string]Benchmark) ([]kiln.Reference, error) {
	keys := make([]string, 0, len(o.References))
	for k := range o.References {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var out []kiln.Reference
	for _, k := range keys {
		b, ok := marks[k]
		if !ok || b.Name == "" || b.Version == "" {
			return nil, fmt.Errorf("benchmark %q is not in benchmarks.yaml with name and version", k)
		}
		for _, id := range o.References[k] {
			r := kiln.Reference{Benchmark: b.Name, Version: b.Version, ID: id}
			if strings.HasPrefix(k, "cis-debian") || strings.HasPrefix(k, "cis-ubuntu") {
				r.Level = o.Level
			}
			if graded(k) && strings.Contains(id, " ") {
				r.ID, r.Level, _ = strings.Cut(id, " ")
			}
			out = append(out, r)
		}
	}
	return out, nil
}

// graded benchmarks give their ids a level or category, written after the id: "5.1.8 L2", "UBTU-24-300022 CAT II".
func graded(key string) bool {
	return strings.HasPrefix(key, "cis-") || strings.HasPrefix(key, "stig-")
}

func (c *Catalogue) addProfile(files fs.FS, name string) error {
	var p profile
	if err := readFile(files, name, &p); err != nil {
		return err
	}
	if p.Name+".yaml" != path.Base(name) || p.Description == "" {
		return fmt.Errorf("%s: the profile's name is its file's, and it needs a description", name)
	}
	if !slices.Contains([]string{"", "container", "machine"}, p.Scope) {
		return fmt.Errorf("%s: scope is container or machine, not %q", name, p.Scope)
	}
	c.profiles[p.Name] = p
	return nil
}

// content is what the digest is over.
func (c *Catalogue) content() any {
	list := make([]kiln.Control, 0, len(c.ids))
	for _, id := range c.ids {
		list = append(list, c.objectives[id])
	}
	return map[string]any{"objectives": list, "profiles": c.profiles, "joint": c.joint}
}

// Digest identifies the catalogue's content.
func (c *Catalogue) Digest() kiln.Digest { return c.digest() }

// Benchmark returns the benchmark with that key or name.
func (c *Catalogue) Benchmark(word string) (Benchmark, error) {
	var keys []string
	for _, b := range c.benchmarks {
		if b.Key == word || strings.EqualFold(b.Name, word) {
			return b, nil
		}
		keys = append(keys, b.Key)
	}
	return Benchmark{}, fmt.Errorf("no benchmark %.60q in the catalogue; there are %s", word, strings.Join(keys, ", "))
}

// Objectives returns every objective, sorted by id.
func (c *Catalogue) Objectives() []kiln.Control {
	out := make([]kiln.Control, 0, len(c.ids))
	for _, id := range c.ids {
		out = append(out, c.objectives[id])
	}
	return out
}

// Objective returns one objective by its id.
func (c *Catalogue) Objective(id string) (kiln.Control, bool) {
	k, ok := c.objectives[id]
	return k, ok
}

// Profiles returns the profiles' names, sorted, and what they are for.
func (c *Catalogue) Profiles() (names []string, descriptions map[string]string) {
	descriptions = map[string]string{}
	for name, p := range c.profiles {
		names, descriptions[name] = append(names, name), p.Description
	}
	slices.Sort(names)
	return names, descriptions
}

// Scope says what a profile is for: "container" or "machine". It is what harden.Input.Scope takes.
func (c *Catalogue) Scope(name string) string {
	if name == "" {
		name = DefaultProfile
	}
	first, _, _ := strings.Cut(name, joiner)
	if s := c.profiles[first].Scope; s != "" {
		return s
	}
	return "container"
}

// Membership says for every objective which profiles it is in, sorted.
func (c *Catalogue) Membership() map[string][]string {
	out := map[string][]string{}
	names, _ := c.Profiles()
	for _, name := range names {
		list, err := c.Profile(name)
		if err != nil {
			panic("internal error: a checked profile does not load: " + err.Error())
		}
		for _, k := range list {
			out[k.ID] = append(out[k.ID], name)
		}
	}
	return out
}

// maxInherit bounds the chain of profiles.
const maxInherit = 10

// joiner stands between the names of profiles that are taken together: "cis-l2+stig-cat3".
const joiner = "+"

// UnionName is the name of several profiles taken together, as Profile and Scope read it and results carry it.
func UnionName(names ...string) string { return strings.Join(names, joiner) }

// Profile returns the objectives of a profile, those it inherits included,
// sorted by id. Variants stricter than the profile's choice are left out.
// Names joined by "+" are the union of those profiles, see Union.
func (c *Catalogue) Profile(name string) ([]kiln.Control, error) {
	if name == "" {
		name = DefaultProfile
	}
	if names := strings.Split(name, joiner); len(names) > 1 {
		return c.Union(names...)
	}
	chosen := map[string]kiln.Control{}
	if err := c.collect(name, chosen, maxInherit); err != nil {
		return nil, err
	}
	return sorted(chosen), nil
}

// maxUnion bounds how many profiles can be taken together.
const maxUnion = 32

// Union returns the objectives that are in any of the profiles, sorted by id.
// Where they begin an objective with different variants, the union begins with
// the one that meets all of them: the objective's joint variant, else the
// strictest of those chosen. Profiles for containers and for machines do not
// go together; the profile "none" adds nothing to others.
func (c *Catalogue) Union(names ...string) ([]kiln.Control, error) {
	if len(names) == 0 || len(names) > maxUnion {
		return nil, fmt.Errorf("taking %d profiles together: want 1 to %d", len(names), maxUnion)
	}
	scope, chosen := "", map[string]kiln.Control{}
	for _, name := range names {
		own := map[string]kiln.Control{}
		if err := c.collect(name, own, maxInherit); err != nil {
			return nil, err
		}
		if len(own) > 0 {
			if scope != "" && c.Scope(name) != scope {
				return nil, fmt.Errorf("profile %s is for a %s, %s before it is for a %s: they do not go together", name, c.Scope(name), names[0], scope)
			}
			scope = c.Scope(name)
		}
		for id, k := range own {
			if before, both := chosen[id]; both {
				k = c.meet(before, k)
			}
			chosen[id] = k
		}
	}
	return sorted(chosen), nil
}

// meet returns an objective that begins with the variant that meets what both choices begin with.
func (c *Catalogue) meet(a, b kiln.Control) kiln.Control {
	if len(a.Variants) == len(b.Variants) {
		return a
	}
	all := c.objectives[a.ID]
	if at := variantIndex(all, c.joint[a.ID]); at >= 0 {
		all.Variants = all.Variants[at:]
		return all
	}
	if len(a.Variants) > len(b.Variants) {
		return a
	}
	return b
}

func variantIndex(k kiln.Control, id string) int {
	return slices.IndexFunc(k.Variants, func(v kiln.Variant) bool { return v.ID == id })
}

func (c *Catalogue) collect(name string, into map[string]kiln.Control, depth int) error {
	p, ok := c.profiles[name]
	if !ok {
		names, _ := c.Profiles()
		return fmt.Errorf("no profile %q; there are %s", name, strings.Join(names, ", "))
	}
	if depth == 0 {
		return fmt.Errorf("profile %s inherits itself, or from more than %d profiles", name, maxInherit)
	}
	if p.Inherits != "" {
		if err := c.collect(p.Inherits, into, depth-1); err != nil {
			return err
		}
	}
	for _, ch := range p.Objectives {
		k, err := c.from(ch)
		if err != nil {
			return fmt.Errorf("profile %s: %w", name, err)
		}
		into[k.ID] = k
	}
	return nil
}

// Begin returns an objective that begins with a variant: those stricter than it are left out. Without a variant it is whole.
func (c *Catalogue) Begin(id, variant string) (kiln.Control, error) {
	return c.from(choice{id, variant})
}

// from returns an objective that begins with the chosen variant.
func (c *Catalogue) from(ch choice) (kiln.Control, error) {
	k, ok := c.objectives[ch.ID]
	if !ok {
		return k, fmt.Errorf("no objective %q in the catalogue", ch.ID)
	}
	if ch.Variant == "" {
		return k, nil
	}
	at := variantIndex(k, ch.Variant)
	if at < 0 {
		return k, fmt.Errorf("objective %s has no variant %q", ch.ID, ch.Variant)
	}
	k.Variants = k.Variants[at:]
	return k, nil
}

func sorted(chosen map[string]kiln.Control) []kiln.Control {
	out := make([]kiln.Control, 0, len(chosen))
	for _, k := range chosen {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b kiln.Control) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// ProfileOf is the name of what a recipe's hardening section chooses: its profile, several joined by "+", or the default.
func ProfileOf(h kiln.Hardening) string {
	switch {
	case len(h.Profiles) > 0:
		return UnionName(h.Profiles...)
	case h.Profile != "":
		return h.Profile
	}
	return DefaultProfile
}

// Select returns the objectives of a recipe's hardening section: its profiles',
// those it includes by id (or id/variant, to begin with that variant), and those
// that perform the removals it asks for. It is what the harden station takes.
// Files that the section names are not read: see package tailor.
func (c *Catalogue) Select(h kiln.Hardening) ([]kiln.Control, error) {
	list, err := c.Profile(ProfileOf(h))
	if err != nil {
		return nil, err
	}
	return c.Extend(list, h)
}

// Extend adds to objectives what the section includes by id, and those that perform the removals it asks for.
func (c *Catalogue) Extend(list []kiln.Control, h kiln.Hardening) ([]kiln.Control, error) {
	chosen := byID(list)
	for _, item := range h.Include {
		id, variant, _ := strings.Cut(item, "/")
		k, err := c.from(choice{id, variant})
		if err != nil {
			return nil, fmt.Errorf("hardening.include: %w", err)
		}
		chosen[k.ID] = k
	}
	for _, id := range removals(h.Remove) {
		if _, there := chosen[id]; !there {
			chosen[id] = c.objectives[id]
		}
	}
	return sorted(chosen), nil
}

// removals are the objectives that perform removals.
func removals(r kiln.Removal) []string {
	var out []string
	for id, asked := range map[string]bool{
		"unused-packages-absent": r.Unused, "requested-removals": len(r.Packages) > 0,
		"package-manager-absent": r.PackageManager, "shells-absent": r.Shell, "documentation-absent": r.Docs,
	} {
		if asked {
			out = append(out, id)
		}
	}
	return out
}

// AskedFor are the objectives that a section asks for itself, whatever its profile says: included ones, and removals.
func AskedFor(h kiln.Hardening) []string {
	out := removals(h.Remove)
	for _, item := range h.Include {
		id, _, _ := strings.Cut(item, "/")
		out = append(out, id)
	}
	return out
}
