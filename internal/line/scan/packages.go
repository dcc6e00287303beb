package scan

import (
	"cmp"
	"slices"
	"strings"

	"github.com/package-url/packageurl-go"

	"kiln"
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
func debURL(distro string, p *installed) string {
	vendor, _, _ := strings.Cut(distro, "-")
	qualifiers := map[string]string{"arch": p.architecture, "upstream": p.source + "@" + p.sourceVersion}
	if distro != "" {
		qualifiers["distro"] = distro
	}
	return purlString(packageurl.NewPackageURL("deb", cmp.Or(vendor, "debian"), p.name, p.version, packageurl.QualifiersFromMap(qualifiers), ""))
}

// packages adds the OS packages, joined with the lock.
func (s *scanner) packages() {
	urls := s.providers()
	for _, p := range s.db.packages {
		s.bill.Components = append(s.bill.Components, kiln.Component{
			Type: "deb", Name: p.name, Version: p.version, Architecture: p.architecture,
			PURL: debURL(s.bill.Distro, p), Source: p.source, SourceVersion: p.sourceVersion,
			Digest: s.lockedDigest(p), Licenses: s.packageLicenses(p), DependsOn: dependencies(p, urls),
		})
	}
}

// lockedDigest is the digest of the .deb that the lock names for exactly this package, else empty.
func (s *scanner) lockedDigest(p *installed) kiln.Digest {
	if s.in.Lock == nil {
		return ""
	}
	for i := range s.in.Lock.Packages {
		l := &s.in.Lock.Packages[i]
		if l.Name == p.name && l.Version == p.version && l.Architecture == p.architecture {
			return l.Digest
		}
	}
	return ""
}

// providers maps a name to the package URLs of the installed packages that are or provide it, real ones first.
func (s *scanner) providers() map[string][]string {
	urls := map[string][]string{}
	for _, p := range s.db.packages {
		urls[p.name] = append(urls[p.name], debURL(s.bill.Distro, p))
	}
	for _, p := range s.db.packages {
		for _, virtual := range p.provides {
			name := relationName(virtual)
			if len(urls[name]) == 0 || !slices.Contains(urls[name], debURL(s.bill.Distro, p)) {
				urls[name] = append(urls[name], debURL(s.bill.Distro, p))
			}
		}
	}
	return urls
}

// dependencies names, for each dependency, the first alternative that is installed.
func dependencies(p *installed, urls map[string][]string) []string {
	var out []string
	for _, d := range p.depends {
		for alternative := range strings.SplitSeq(d, "|") {
			if found := urls[relationName(alternative)]; len(found) > 0 {
				out = append(out, found[0])
				break
			}
		}
	}
	return union(out, nil)
}

// relationName is the package of one relation: "libc6:any (>= 2.36) [amd64]" is libc6.
func relationName(relation string) string {
	name, _, _ := strings.Cut(strings.TrimSpace(relation), " ")
	name, _, _ = strings.Cut(name, "(")
	name, _, _ = strings.Cut(name, ":")
	return name
}

// packageLicenses reads the package's copyright file where it is machine-readable.
func (s *scanner) packageLicenses(p *installed) []string {
	name := "usr/share/doc/" + p.name + "/copyright"
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
