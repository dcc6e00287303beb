package kiln

// Bill is the inventory of one tree: every component, the files that nothing
// accounts for, and the cross-checks between package database and files.
type Bill struct {
	Header
	Subject    Subject     `json:"subject"`
	Distro     string      `json:"distro,omitempty"` // "debian-12"
	Components []Component `json:"components"`
	// Unowned are files that belong to no package and no recipe step.
	Unowned []string `json:"unowned,omitempty"`
	// Generated are unowned files that package scripts are known to make.
	Generated []string `json:"generated,omitempty"`
	// Missing are files that the package database lists and the tree lacks; Modified those whose content differs from the database's checksum.
	Missing  []string `json:"missing,omitempty"`
	Modified []string `json:"modified,omitempty"`
	// Replaced are packaged files that the recipe or hardening changed on purpose; they are not in Modified.
	Replaced []string `json:"replaced,omitempty"`
	// Removed counts packaged files that hardening took away on purpose; they are not in Missing.
	Removed int `json:"removed,omitempty"`
	// Unreadable are files that look like a package's metadata and could not be read, each as "path: reason": what they describe is unknown.
	Unreadable []string `json:"unreadable,omitempty"`
	Files      int      `json:"files"`
	Bytes      int64    `json:"bytes"`
}

// Component is one piece of software found.
type Component struct {
	Type    string `json:"type"` // deb, pypi, npm, maven, golang, cargo, file
	Name    string `json:"name"`
	Version string `json:"version"`
	PURL    string `json:"purl"`
	// Source and SourceVersion are the source package of an OS package: advisories speak of it.
	Source        string   `json:"source,omitempty"`
	SourceVersion string   `json:"sourceVersion,omitempty"`
	Architecture  string   `json:"architecture,omitempty"`
	Licenses      []string `json:"licenses,omitempty"`
	Locations     []string `json:"locations,omitempty"`
	Digest        Digest   `json:"digest,omitempty"`  // of the .deb, from the lock
	OwnedBy       string   `json:"ownedBy,omitempty"` // OS package that owns a language package's files
	// DependsOn are the PURLs of the components of the same bill that this one needs (dpkg's Depends and Pre-Depends; what a program or archive contains).
	DependsOn []string `json:"dependsOn,omitempty"`
}

// Validate reports what is missing.
func (b *Bill) Validate() error {
	if err := b.check("Bill"); err != nil {
		return err
	}
	for i, c := range b.Components {
		if c.Name == "" || c.PURL == "" {
			return invalid(at("components", i), "needs name and purl")
		}
	}
	return nil
}
