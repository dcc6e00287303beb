package scan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/package-url/packageurl-go"

	"kiln"
	"kiln/internal/deb"
)

// component returns a language package; namespace and name are those of its package URL, full its name for people.
func component(kind, namespace, name, full, version string, licenses []string) kiln.Component {
	p := packageurl.NewPackageURL(kind, namespace, name, version, nil, "")
	return kiln.Component{Type: kind, Name: full, Version: version, PURL: purlString(p), Licenses: licenses}
}

func purlString(p *packageurl.PackageURL) string {
	// A name that the package URL rules refuse still is what was found: it is written unnormalised.
	normal := *p
	if err := normal.Normalize(); err == nil {
		return normal.ToString()
	}
	return p.ToString()
}

// debURL is the package URL of an OS package. The upstream qualifier keeps source name and version, because
// advisories of Debian and its derivatives speak of source packages only.
func debURL(distro string, p *deb.Package) string {
	vendor, _, _ := strings.Cut(distro, "-")
	qualifiers := map[string]string{"arch": p.Architecture, "upstream": p.Source + "@" + p.SourceVersion}
	if distro != "" {
		qualifiers["distro"] = distro
	}
	return purlString(packageurl.NewPackageURL("deb", cmp.Or(vendor, "debian"), p.Name, p.Version, packageurl.QualifiersFromMap(qualifiers), ""))
}

// packages adds the OS packages, joined with the lock.
func (s *scanner) packages() error {
	urls, err := s.providers()
	if err != nil {
		return err
	}
	for _, p := range s.db.packages {
		needs, err := dependencies(p, urls)
		if err != nil {
			return err
		}
		s.bill.Components = append(s.bill.Components, kiln.Component{
			Type: "deb", Name: p.Name, Version: p.Version, Architecture: p.Architecture,
			PURL: debURL(s.bill.Distro, p), Source: p.Source, SourceVersion: p.SourceVersion,
			Digest: s.lockedDigest(p), Licenses: s.packageLicenses(p), DependsOn: needs,
		})
	}
	return nil
}

// lockedDigest is the digest of the .deb that the lock names for exactly this package, else empty.
func (s *scanner) lockedDigest(p *deb.Package) kiln.Digest {
	if s.in.Lock == nil {
		return ""
	}
	for i := range s.in.Lock.Packages {
		l := &s.in.Lock.Packages[i]
		if l.Name == p.Name && l.Version == p.Version && l.Architecture == p.Architecture {
			return l.Digest
		}
	}
	return ""
}

// providers maps a name to the package URLs of the installed packages that are or provide it, real ones first.
func (s *scanner) providers() (map[string][]string, error) {
	urls := map[string][]string{}
	for _, p := range s.db.packages {
		urls[p.Name] = append(urls[p.Name], debURL(s.bill.Distro, p))
	}
	for _, p := range s.db.packages {
		provides, err := relations(p, p.Provides)
		if err != nil {
			return nil, err
		}
		url := debURL(s.bill.Distro, p)
		for _, virtual := range provides {
			for _, r := range virtual {
				if !slices.Contains(urls[r.Name], url) {
					urls[r.Name] = append(urls[r.Name], url)
				}
			}
		}
	}
	return urls, nil
}

// dependencies names, for each dependency, the first alternative that is installed.
func dependencies(p *deb.Package, urls map[string][]string) ([]string, error) {
	needs, err := relations(p, p.PreDepends, p.Depends)
	var out []string
	for _, need := range needs {
		for _, r := range need {
			if found := urls[r.Name]; len(found) > 0 {
				out = append(out, found[0])
				break
			}
		}
	}
	return union(out, nil), err
}

// relations reads fields of an installed package.
func relations(p *deb.Package, fields ...string) ([][]deb.Relation, error) {
	var all [][]deb.Relation
	for _, field := range fields {
		groups, err := deb.ParseRelations(field)
		if err != nil {
			return nil, fmt.Errorf("package %s: %w", p.Name, err)
		}
		all = append(all, groups...)
	}
	return all, nil
}

// packageLicenses reads the package's copyright file where it is machine-readable.
func (s *scanner) packageLicenses(p *deb.Package) []string {
	name := "usr/share/doc/" + p.Name + "/copyright"
	if _, ok := s.files.entries[s.files.follow(name)]; !ok {
		return nil
	}
	text, err := s.files.read(s.root, name, maxMetadata)
	if err != nil {
		s.unreadable(name, err)
		return nil
	}
	return copyrightLicenses(text)
}
