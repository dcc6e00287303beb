package deb

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"kiln"
)

// Package is a stanza of a Packages index, of var/lib/dpkg/status or of a
// .deb's control file. Relation fields are kept as text; ParseRelations reads them.
type Package struct {
	Name, Version, Architecture string
	// Source and SourceVersion are always set: by default a source is called like its package and has its version.
	Source, SourceVersion string
	Priority, Section     string
	MultiArch             string // "", same, foreign, allowed
	Essential             bool
	// Protected is "Protected: yes" or apt's older "Important: yes".
	Protected bool

	PreDepends, Depends, Recommends, Suggests, Enhances string
	Conflicts, Breaks, Replaces, Provides               string

	// Filename, Size and SHA256 locate the .deb below the archive's URI (indexes only).
	Filename string
	Size     int64
	SHA256   kiln.Digest
	// InstalledSize is in KiB, an estimate of the packager.
	InstalledSize int64

	// Status is "want flag state", Conffiles the list "path md5 [obsolete]" (status files only).
	Status, Conffiles string
	// Maintainer, Homepage and Description (first line) are for people.
	Maintainer, Homepage, Description string
}

// State returns the last word of Status: installed, config-files, unpacked, half-configured, ...
func (p *Package) State() string {
	return p.Status[strings.LastIndexByte(p.Status, ' ')+1:]
}

// ParsePackages reads a Packages index or a status file as a stream and calls
// fn with each stanza; an error of fn ends the reading and is returned. The
// package is fn's to keep. A stanza without name or version is an error.
func ParsePackages(r io.Reader, fn func(*Package) error) error {
	return eachStanza(r, func(text string, line int) error {
		p, err := parsePackage(text)
		if err != nil {
			return fmt.Errorf("stanza at line %d: %w", line, err)
		}
		if p == nil {
			return nil
		}
		return fn(p)
	})
}

// ParsePackage reads a single stanza, such as the control file of a .deb.
func ParsePackage(text []byte) (*Package, error) {
	var found *Package
	err := ParsePackages(strings.NewReader(string(text)), func(p *Package) error {
		if found != nil {
			return errors.New("more than one stanza")
		}
		found = p
		return nil
	})
	if err == nil && found == nil {
		err = errors.New("no stanza")
	}
	return found, err
}

func parsePackage(text string) (*Package, error) {
	p := &Package{}
	seen, any := "", false
	for text != "" {
		if text[0] == '#' {
			_, text, _ = strings.Cut(text, "\n")
			continue
		}
		name, value, rest, err := nextField(text)
		if err != nil {
			return nil, err
		}
		text, any = rest, true
		if name == "Package" || name == "Version" || name == "SHA256" || name == "Filename" {
			if mark := name[:2] + ","; strings.Contains(seen, mark) {
				return nil, fmt.Errorf("field %s stands twice", name)
			} else {
				seen += mark
			}
		}
		if err := p.set(name, value); err != nil {
			return nil, err
		}
	}
	if !any {
		return nil, nil
	}
	return p, p.complete()
}

// nextField cuts the first field off text: its value reaches over continuation lines.
func nextField(text string) (name, value, rest string, err error) {
	colon := strings.IndexByte(text, ':')
	end := strings.IndexByte(text, '\n')
	if end < 0 {
		end = len(text)
	}
	if colon <= 0 || colon > end || text[0] == ' ' || text[0] == '\t' {
		return "", "", "", fmt.Errorf("%.60q is no field", text[:end])
	}
	for end < len(text)-1 && (text[end+1] == ' ' || text[end+1] == '\t' || text[end+1] == '#') {
		if next := strings.IndexByte(text[end+1:], '\n'); next >= 0 {
			end += 1 + next
		} else {
			end = len(text)
		}
	}
	return text[:colon], withoutComments(text[colon+1 : end]), text[min(end+1, len(text)):], nil
}

// withoutComments drops the "#" lines that stand between a field's lines.
func withoutComments(value string) string {
	if !strings.Contains(value, "\n#") {
		return strings.TrimSpace(value)
	}
	var kept strings.Builder
	for l := range strings.Lines(value) {
		if l[0] != '#' {
			kept.WriteString(l)
		}
	}
	return strings.TrimSpace(kept.String())
}

func (p *Package) set(name, value string) error {
	switch name {
	case "Package":
		p.Name = value
	case "Version":
		p.Version = value
	case "Architecture":
		p.Architecture = value
	case "Source":
		p.Source = value
	case "Priority":
		p.Priority = value
	case "Section":
		p.Section = value
	case "Multi-Arch":
		p.MultiArch = value
	case "Essential":
		p.Essential = value == "yes"
	case "Protected", "Important":
		p.Protected = p.Protected || value == "yes"
	case "Filename":
		p.Filename = value
	case "Size":
		return number(&p.Size, name, value)
	case "SHA256":
		d, err := kiln.ParseDigest(value)
		p.SHA256 = d
		return err
	case "Installed-Size":
		return number(&p.InstalledSize, name, value)
	case "Status":
		p.Status = value
	case "Conffiles":
		p.Conffiles = value
	case "Maintainer":
		p.Maintainer = value
	case "Homepage":
		p.Homepage = value
	case "Description":
		p.Description, _, _ = strings.Cut(value, "\n")
	default:
		p.setRelation(name, value)
	}
	return nil
}

func (p *Package) setRelation(name, value string) {
	switch name {
	case "Pre-Depends":
		p.PreDepends = value
	case "Depends":
		p.Depends = value
	case "Recommends":
		p.Recommends = value
	case "Suggests":
		p.Suggests = value
	case "Enhances":
		p.Enhances = value
	case "Conflicts":
		p.Conflicts = value
	case "Breaks":
		p.Breaks = value
	case "Replaces":
		p.Replaces = value
	case "Provides":
		p.Provides = value
	}
}

func number(into *int64, name, value string) error {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("field %s: %.40q is no size", name, value)
	}
	*into = n
	return nil
}

// complete checks what every stanza must have and fills in the source.
func (p *Package) complete() error {
	if err := ValidateName(p.Name); err != nil {
		return err
	}
	if p.Version == "" && strings.HasSuffix(p.Status, " not-installed") {
		return nil // dpkg remembers selections of packages it never saw
	}
	if err := ValidateVersion(p.Version); err != nil {
		return fmt.Errorf("package %s: %w", p.Name, err)
	}
	name, version, _ := strings.Cut(p.Source, "(")
	p.Source, p.SourceVersion = strings.TrimSpace(name), strings.TrimSpace(strings.TrimSuffix(version, ")"))
	if p.Source == "" {
		p.Source = p.Name
	}
	if p.SourceVersion == "" {
		p.SourceVersion = p.Version
	}
	return nil
}
