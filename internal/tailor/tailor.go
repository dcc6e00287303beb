// Package tailor finds the objectives that a recipe asks for where it changes the
// catalogue's profiles: by a profile of the user's own, or by an XCCDF tailoring file
// that was made for another tool.
//
// Nothing gets lost on the way. What is left out stays in the list with the reason,
// so that the result shows it; what a tailoring names and no objective stands for is
// named in a note; a value that no variant has is an error.
package tailor

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/scap"
	"kiln/internal/strictyaml"
)

// Selection is what a recipe's hardening section asks for.
type Selection struct {
	// Profile is the name that results carry, Scope what it is for: "container" or "machine".
	Profile, Scope string
	// Controls are the objectives, those left out too, sorted by id.
	Controls []kiln.Control
	// LeftOut says of objectives that are not pursued who left them out. One that a waiver names, or
	// that the recipe asks for by name, is not here.
	LeftOut map[string]string
	// Notes are for the user: rules that no objective stands for, choices without effect.
	Notes []string
}

// Pursued are the objectives without those left out.
func (s *Selection) Pursued() []kiln.Control {
	return slices.DeleteFunc(slices.Clone(s.Controls), func(k kiln.Control) bool { return s.LeftOut[k.ID] != "" })
}

// Read returns the content of a file that the recipe names.
type Read func(name string) ([]byte, error)

// Choose finds the objectives of a hardening section.
func Choose(c *catalogue.Catalogue, h kiln.Hardening, read Read) (*Selection, error) {
	var tailoring *scap.Profile
	if h.Tailoring != "" {
		p, err := readTailoring(h, read)
		if err != nil {
			return nil, err
		}
		tailoring = p
		if h.Profile == "" && len(h.Profiles) == 0 && h.ProfileFile == "" {
			if h.Profile = extended(p); h.Profile == "" {
				return nil, fmt.Errorf("%s extends %q, for which the catalogue has no profile: name one in hardening.profile", h.Tailoring, scap.Short(p.Extends))
			}
		}
	}
	w, err := begin(c, h, read)
	if err != nil {
		return nil, err
	}
	if tailoring != nil {
		if err := w.tailor(tailoring, h.Tailoring); err != nil {
			return nil, fmt.Errorf("%s: %w", h.Tailoring, err)
		}
	}
	list, err := c.Extend(slices.Collect(maps.Values(w.chosen)), h)
	if err != nil {
		return nil, err
	}
	for _, id := range catalogue.AskedFor(h) {
		delete(w.LeftOut, id)
	}
	for _, waiver := range h.Waivers {
		delete(w.LeftOut, waiver.Objective)
	}
	w.Controls = list
	slices.Sort(w.Notes)
	w.Notes = slices.Compact(w.Notes)
	return &w.Selection, nil
}

// work is a selection in the making.
type work struct {
	Selection
	catalogue *catalogue.Catalogue
	chosen    map[string]kiln.Control
}

func begin(c *catalogue.Catalogue, h kiln.Hardening, read Read) (*work, error) {
	w := &work{catalogue: c, chosen: map[string]kiln.Control{}}
	w.Profile, w.LeftOut = catalogue.ProfileOf(h), map[string]string{}
	if h.ProfileFile != "" {
		return w, w.ownProfile(h.ProfileFile, read)
	}
	w.Scope = c.Scope(w.Profile)
	return w, w.inherit(w.Profile)
}

func (w *work) inherit(name string) error {
	list, err := w.catalogue.Profile(name)
	for _, k := range list {
		w.chosen[k.ID] = k
	}
	return err
}

// ownProfile is a profile as users write it.
type ownProfile struct {
	Name        string `yaml:"name"`
	Description string `yaml:"description"`
	// Inherits is a profile of the catalogue, or several joined by "+".
	Inherits string `yaml:"inherits"`
	// Scope is container or machine; empty means that of what is inherited.
	Scope string `yaml:"scope"`
	// Objectives are added, each an id, or id/variant to begin with that variant.
	Objectives []string  `yaml:"objectives"`
	Remove     []removal `yaml:"remove"`
}

// removal is an objective that the profile does not pursue.
type removal struct {
	ID     string `yaml:"id"`
	Reason string `yaml:"reason"`
}

func (w *work) ownProfile(file string, read Read) error {
	data, err := read(file)
	if err != nil {
		return fmt.Errorf("reading profile %s: %w", file, err)
	}
	root, err := strictyaml.Parse(data, file)
	if err != nil {
		return err
	}
	p := new(ownProfile)
	d := &strictyaml.Decoder{File: file}
	d.Decode(root, p)
	if err := d.Err(); err != nil {
		return err
	}
	if !kiln.ValidName(p.Name) || p.Description == "" {
		d.FailAt("name", "a profile needs a name (a-z 0-9 . _ -) and a description", "")
	}
	if !slices.Contains([]string{"", "container", "machine"}, p.Scope) {
		d.FailAt("scope", "is container or machine", "")
	}
	if p.Inherits != "" {
		if err := w.inherit(p.Inherits); err != nil {
			d.FailAt("inherits", err.Error(), "`kiln controls profiles` lists them")
		}
	}
	w.Profile, w.Scope = p.Name, p.Scope
	if w.Scope == "" && p.Inherits != "" {
		w.Scope = w.catalogue.Scope(p.Inherits)
	}
	w.change(d, p)
	return d.Err()
}

// change adds and removes what the profile says.
func (w *work) change(d *strictyaml.Decoder, p *ownProfile) {
	for i, item := range p.Objectives {
		id, variant, _ := strings.Cut(item, "/")
		k, err := w.catalogue.Begin(id, variant)
		if err != nil {
			d.FailAt(fmt.Sprintf("objectives[%d]", i), err.Error(), "`kiln controls ls` lists them")
			continue
		}
		w.chosen[id] = k
	}
	for i, r := range p.Remove {
		field := fmt.Sprintf("remove[%d]", i)
		if _, there := w.chosen[r.ID]; !there {
			d.FailAt(field, fmt.Sprintf("%q is not in what the profile inherits", r.ID), "")
		}
		if r.Reason == "" {
			d.FailAt(field, "needs a reason", "")
		}
		w.LeftOut[r.ID] = "left out by profile " + p.Name + ": " + r.Reason
	}
}

func readTailoring(h kiln.Hardening, read Read) (*scap.Profile, error) {
	data, err := read(h.Tailoring)
	if err != nil {
		return nil, fmt.Errorf("reading tailoring %s: %w", h.Tailoring, err)
	}
	t, err := scap.ReadTailoring(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("reading tailoring %s: %w", h.Tailoring, err)
	}
	p, err := t.Profile(h.TailoringProfile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.Tailoring, err)
	}
	return p, nil
}

// extended is the catalogue's counterpart of the profile that a tailoring extends, or nothing.
func extended(p *scap.Profile) string {
	switch id := scap.Short(p.Extends); {
	case strings.HasPrefix(id, "cis_level1"):
		return "cis-l1"
	case strings.HasPrefix(id, "cis_level2"):
		return "cis-l2"
	case id == "stig":
		return "stig-cat3"
	}
	return ""
}

// errNoValue says that a value cannot be had.
var errNoValue = errors.New("no variant has that value")
