package kiln

import "slices"

// Lock names every input of a build by digest: the same lock gives the same
// bytes. It is stored as kiln.lock.
type Lock struct {
	Header
	Name     string `json:"name"`
	Recipe   Digest `json:"recipe"`   // of the recipe with its variables expanded
	Platform string `json:"platform"` // os/arch, OCI names
	// Epoch is the time that every output carries (Unix seconds): the newest signed date among the
	// archives, or the date that the base image gives itself.
	Epoch    int64           `json:"epoch"`
	Release  string          `json:"release,omitempty"` // codename, for apt bases
	Distro   string          `json:"distro,omitempty"`  // os-release ID and VERSION_ID as in "debian-12"
	Image    *LockedImage    `json:"image,omitempty"`   // for image bases
	Archives []LockedArchive `json:"archives,omitempty"`
	Packages []LockedPackage `json:"packages,omitempty"`
	Files    []LockedFile    `json:"files,omitempty"`
	// Variants are accepted hardening variants; empty means the profile as it stands in Catalogue.
	Variants  []LockedVariant `json:"variants,omitempty"`
	Catalogue Digest          `json:"catalogue,omitempty"`
}

// LockedImage is a base image by digest.
type LockedImage struct {
	Reference string `json:"reference"`
	Digest    Digest `json:"digest"` // of the platform's manifest
	Size      int64  `json:"size"`
	// Created is when the image's configuration, which Digest covers, says that it was made (Unix seconds); 0 where it does not.
	Created int64 `json:"created,omitempty"`
}

// LockedArchive is one suite of an archive as its signed InRelease described it.
type LockedArchive struct {
	ID            string        `json:"id"` // "origin/suite", unique in the lock, no host name
	URI           string        `json:"uri"`
	Suite         string        `json:"suite"`    // as asked for
	Codename      string        `json:"codename"` // as signed
	Components    []string      `json:"components"`
	InRelease     Digest        `json:"inRelease"`
	InReleaseSize int64         `json:"inReleaseSize"`
	Date          int64         `json:"date"`                 // Unix seconds, signed
	ValidUntil    int64         `json:"validUntil,omitempty"` // Unix seconds, signed; 0 means none
	SignedBy      []string      `json:"signedBy"`             // fingerprints of keys whose signature was good
	Keyring       Digest        `json:"keyring"`              // the keyring file used
	Indexes       []LockedIndex `json:"indexes"`
	Exception     *Exception    `json:"exception,omitempty"`
}

// LockedIndex is one Packages file.
type LockedIndex struct {
	Path      string `json:"path"` // below dists/SUITE/, as named in InRelease
	Component string `json:"component"`
	Digest    Digest `json:"digest"`
	Size      int64  `json:"size"`
}

// LockedPackage is one .deb.
type LockedPackage struct {
	Name          string `json:"name"`
	Version       string `json:"version"`
	Architecture  string `json:"architecture"`
	Archive       string `json:"archive"` // LockedArchive.ID
	Component     string `json:"component"`
	Path          string `json:"path"` // below the archive's URI
	Size          int64  `json:"size"`
	Digest        Digest `json:"digest"`
	Source        string `json:"source"`
	SourceVersion string `json:"sourceVersion"`
	Essential     bool   `json:"essential,omitempty"`
	// Base says that the package is part of the minimal base rather than of what the recipe asked for.
	Base bool `json:"base,omitempty"`
	// Why is "essential", "required", "requested", or the name of the package that first needed it.
	Why string `json:"why"`
}

// LockedFile is a file beside the recipe that the build reads.
type LockedFile struct {
	Path   string `json:"path"` // relative to the recipe
	Digest Digest `json:"digest"`
	Size   int64  `json:"size"`
	Mode   string `json:"mode"`
}

// LockedVariant is one accepted way to meet an objective.
type LockedVariant struct {
	Objective string `json:"objective"`
	Variant   string `json:"variant"`
}

// Package returns the locked package of that name, or nil.
func (l *Lock) Package(name string) *LockedPackage {
	i := slices.IndexFunc(l.Packages, func(p LockedPackage) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &l.Packages[i]
}

// Archive returns the locked archive with that ID, or nil.
func (l *Lock) Archive(id string) *LockedArchive {
	i := slices.IndexFunc(l.Archives, func(a LockedArchive) bool { return a.ID == id })
	if i < 0 {
		return nil
	}
	return &l.Archives[i]
}

// Validate reports what is missing or does not fit together.
func (l *Lock) Validate() error {
	if err := l.check("Lock"); err != nil {
		return err
	}
	if !validName(l.Name) {
		return invalid("name", nameRule)
	}
	if err := l.Recipe.Validate(); err != nil {
		return invalid("recipe", err.Error())
	}
	if l.Platform == "" {
		return invalid("platform", "is empty")
	}
	if l.Image == nil && len(l.Archives) == 0 {
		return invalid("archives", "a lock needs a base image or an archive")
	}
	if l.Image != nil {
		if err := l.Image.Digest.Validate(); err != nil {
			return invalid("image.digest", err.Error())
		}
	}
	return l.validateInputs()
}

func (l *Lock) validateInputs() error {
	for i, a := range l.Archives {
		if a.ID == "" || a.Suite == "" || len(a.SignedBy) == 0 {
			return invalid(at("archives", i), "needs id, suite and signedBy")
		}
		if err := a.InRelease.Validate(); err != nil {
			return invalid(at("archives", i)+".inRelease", err.Error())
		}
	}
	for i, p := range l.Packages {
		if !validPackage(p.Name) || p.Version == "" || p.Architecture == "" || p.Size <= 0 {
			return invalid(at("packages", i), "needs name, version, architecture and size")
		}
		if err := p.Digest.Validate(); err != nil {
			return invalid(at("packages", i)+".digest", err.Error())
		}
		if l.Archive(p.Archive) == nil {
			return invalid(at("packages", i)+".archive", "names no archive of this lock")
		}
		if !localPath(p.Path) {
			return invalid(at("packages", i)+".path", "leaves the archive")
		}
	}
	for i, f := range l.Files {
		if !localPath(f.Path) {
			return invalid(at("files", i)+".path", "leaves the recipe's folder")
		}
		if err := f.Digest.Validate(); err != nil {
			return invalid(at("files", i)+".digest", err.Error())
		}
	}
	return nil
}
