package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"kiln"
)

// Kinds of change.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// Difference is what one build has otherwise than another: what a reader of
// release notes asks for. Lists are sorted; equal builds give empty ones.
type Difference struct {
	A Side `json:"a"`
	B Side `json:"b"`
	// Packages are compared by kind, name and architecture; From and To are versions.
	Packages []Change `json:"packages,omitempty"`
	// Controls are hardening objectives; From and To are states, with the variant where one holds.
	Controls []Change `json:"controls,omitempty"`
	// Config is the run-time configuration, field by field.
	Config []Change `json:"config,omitempty"`
	// Files are compared only where both file lists were given; From and To are lines as tree.Dump writes them.
	Files []Change `json:"files,omitempty"`
	// FilesCompared says whether Files is an answer or was not asked.
	FilesCompared bool `json:"filesCompared"`
}

// Side is one of the two builds.
type Side struct {
	Name     string      `json:"name"`
	Build    string      `json:"build"`
	Index    kiln.Digest `json:"index,omitempty"`
	Size     int64       `json:"size"`     // bytes to pull
	Unpacked int64       `json:"unpacked"` // bytes of regular files
	Files    int         `json:"files"`
}

// Change is one entry that differs.
type Change struct {
	Change string `json:"change"` // added, removed, changed
	Name   string `json:"name"`
	From   string `json:"from,omitempty"`
	To     string `json:"to,omitempty"`
}

// FileLists are the files of both builds, path -> line as tree.Dump writes it.
type FileLists struct{ A, B map[string]string }

// Diff compares two builds; files are compared where their lists are given.
func Diff(a, b *kiln.Build, files ...FileLists) Difference {
	d := Difference{
		A: side(a), B: side(b),
		Packages: compare(packageVersions(a), packageVersions(b)),
		Controls: compare(controlStates(a), controlStates(b)),
		Config:   compare(configFields(a), configFields(b)),
	}
	for _, f := range files {
		d.FilesCompared = true
		d.Files = append(d.Files, compare(f.A, f.B)...)
	}
	return d
}

// Empty reports whether nothing differs that was compared. Two images of
// different digest may still be empty here: then only what no list shows differs.
func (d Difference) Empty() bool {
	return len(d.Packages)+len(d.Controls)+len(d.Config)+len(d.Files) == 0
}

func side(b *kiln.Build) Side {
	s := Side{Name: b.Name, Build: b.ID}
	if a := b.Artifact; a != nil {
		s.Index, s.Size, s.Unpacked, s.Files = a.Index, a.Size, a.Unpacked, a.Files
	}
	return s
}

func compare(a, b map[string]string) []Change {
	var out []Change
	names := maps.Clone(a)
	if names == nil {
		names = map[string]string{}
	}
	maps.Copy(names, b)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		from, before := a[name]
		to, after := b[name]
		switch {
		case !before:
			out = append(out, Change{Added, name, "", to})
		case !after:
			out = append(out, Change{Removed, name, from, ""})
		case from != to:
			out = append(out, Change{Changed, name, from, to})
		}
	}
	return out
}

// packageVersions lists what the scan found in the image; a build that was not scanned is compared by its lock.
// Several versions of one package are one entry.
func packageVersions(b *kiln.Build) map[string]string {
	all := map[string][]string{}
	switch {
	case b.Bill != nil:
		for _, c := range b.Bill.Components {
			name := c.Name
			if c.Architecture != "" {
				name += ":" + c.Architecture
			}
			all[c.Type+" "+name] = append(all[c.Type+" "+name], c.Version)
		}
	case b.Lock != nil:
		for _, p := range b.Lock.Packages {
			name := "deb " + p.Name + ":" + p.Architecture
			all[name] = append(all[name], p.Version)
		}
	}
	out := map[string]string{}
	for name, versions := range all {
		slices.Sort(versions)
		out[name] = strings.Join(slices.Compact(versions), ", ")
	}
	return out
}

func controlStates(b *kiln.Build) map[string]string {
	if b.Hardening == nil {
		return nil
	}
	out := map[string]string{}
	for _, o := range b.Hardening.Outcomes {
		state := o.State
		if o.Variant != "" && o.State == kiln.Satisfied {
			state += " (" + o.Variant + ")"
		}
		out[o.Objective] = state
	}
	return out
}

// configFields writes each field of the run-time configuration as JSON.
func configFields(b *kiln.Build) map[string]string {
	if b.Hardening == nil {
		return nil
	}
	text, err := json.Marshal(b.Hardening.Config)
	if err != nil {
		return nil
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(text, &fields) != nil {
		return nil
	}
	out := map[string]string{}
	for name, value := range fields {
		out[name] = string(value)
	}
	return out
}

// JSON writes the difference canonically.
func (d Difference) JSON(w io.Writer) error {
	text, err := kiln.Canonical(d)
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// Text writes the difference for people: "+" added, "-" removed, "~" changed.
func (d Difference) Text(w io.Writer) error {
	var b strings.Builder
	for _, s := range []struct {
		sign string
		side Side
	}{{"-", d.A}, {"+", d.B}} {
		fmt.Fprintf(&b, "%s %s  build %s  %s\n", s.sign, line(s.side.Name), line(s.side.Build), cmp.Or(s.side.Index.Short(), "not packed"))
	}
	section(&b, "packages", d.Packages)
	section(&b, "hardening", d.Controls)
	section(&b, "configuration", d.Config)
	if d.FilesCompared {
		section(&b, "files", d.Files)
	}
	fmt.Fprintf(&b, "\nsize: %s to pull (%s), %s unpacked (%s), %d files (%+d)\n",
		bytesText(d.B.Size), delta(d.B.Size-d.A.Size), bytesText(d.B.Unpacked), delta(d.B.Unpacked-d.A.Unpacked), d.B.Files, d.B.Files-d.A.Files)
	_, err := io.WriteString(w, b.String())
	return err
}

func section(b *strings.Builder, title string, changes []Change) {
	if len(changes) == 0 {
		fmt.Fprintf(b, "\n%s: no difference\n", title)
		return
	}
	count := map[string]int{}
	for _, c := range changes {
		count[c.Change]++
	}
	fmt.Fprintf(b, "\n%s: %d added, %d removed, %d changed\n", title, count[Added], count[Removed], count[Changed])
	for _, c := range changes {
		switch c.Change {
		case Added:
			fmt.Fprintf(b, "  + %s  %s\n", line(c.Name), line(c.To))
		case Removed:
			fmt.Fprintf(b, "  - %s  %s\n", line(c.Name), line(c.From))
		default:
			fmt.Fprintf(b, "  ~ %s  %s -> %s\n", line(c.Name), line(c.From), line(c.To))
		}
	}
}

// line keeps one entry on one line of a terminal, whatever a file was named.
func line(s string) string {
	return strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(VisibleText(s))
}

func delta(n int64) string {
	switch {
	case n == 0:
		return "same"
	case n < 0:
		return "-" + bytesText(-n)
	}
	return "+" + bytesText(n)
}
