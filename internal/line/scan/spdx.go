package scan

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"

	"kiln"
)

const noAssertion = "NOASSERTION"

// SPDX writes the bill as SPDX 2.3 JSON. Its time is epoch (Unix seconds) and
// its namespace follows from the bill's digest, so that one bill gives one
// document.
func SPDX(b *kiln.Bill, epoch int64) ([]byte, error) {
	id, err := documentID(b)
	if err != nil {
		return nil, err
	}
	subject := spdxSubject(b)
	doc := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName: subject.PackageName, DocumentNamespace: "urn:uuid:" + id, DocumentComment: crossCheckText(b),
		CreationInfo: &spdx.CreationInfo{
			Created: rfc3339(epoch), LicenseListVersion: "3.28",
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "kiln"}},
		},
		Packages:      []*spdx.Package{subject},
		Relationships: []*spdx.Relationship{relation("DOCUMENT", "DESCRIBES", "image")},
	}
	byURL := map[string]common.ElementID{}
	for i, c := range b.Components {
		byURL[c.PURL] = elementID(i)
	}
	refs := &licenseRefs{seen: map[string]string{}, taken: map[string]bool{}}
	for i, c := range b.Components {
		doc.Packages = append(doc.Packages, spdxPackage(c, elementID(i), refs))
		doc.Relationships = append(doc.Relationships, relation("image", "CONTAINS", elementID(i)))
		for _, d := range c.DependsOn {
			if to, ok := byURL[d]; ok {
				doc.Relationships = append(doc.Relationships, relation(elementID(i), "DEPENDS_ON", to))
			}
		}
	}
	doc.OtherLicenses = refs.list
	out, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding SPDX: %w", err)
	}
	return append(out, '\n'), nil
}

func elementID(i int) common.ElementID { return common.ElementID(fmt.Sprintf("Package-%d", i+1)) }

func relation(from common.ElementID, kind string, to common.ElementID) *spdx.Relationship {
	return &spdx.Relationship{
		RefA: common.DocElementID{ElementRefID: from}, RefB: common.DocElementID{ElementRefID: to}, Relationship: kind,
	}
}

func spdxSubject(b *kiln.Bill) *spdx.Package {
	p := &spdx.Package{
		PackageName: b.Subject.Name, PackageSPDXIdentifier: "image", PackageDownloadLocation: noAssertion,
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion, PackageCopyrightText: noAssertion,
		PrimaryPackagePurpose: "CONTAINER",
	}
	if p.PackageName == "" {
		p.PackageName = "image"
	}
	if b.Subject.Digest != "" {
		p.PackageVersion = string(b.Subject.Digest)
		p.PackageChecksums = spdxChecksum(b.Subject.Digest)
	}
	return p
}

func spdxChecksum(d kiln.Digest) []common.Checksum {
	return []common.Checksum{{Algorithm: common.SHA256, Value: d.Hex()}}
}

func spdxPackage(c kiln.Component, id common.ElementID, refs *licenseRefs) *spdx.Package {
	p := &spdx.Package{
		PackageName: c.Name, PackageVersion: c.Version, PackageSPDXIdentifier: id, PackageDownloadLocation: noAssertion,
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: refs.expression(c.Licenses), PackageCopyrightText: noAssertion,
		PackageSourceInfo: sourceInfo(c), PrimaryPackagePurpose: "LIBRARY",
		PackageExternalReferences: []*spdx.PackageExternalReference{
			{Category: "PACKAGE-MANAGER", RefType: "purl", Locator: c.PURL},
		},
	}
	if c.Digest != "" {
		p.PackageChecksums = spdxChecksum(c.Digest)
	}
	return p
}

// sourceInfo says where the component was found and what it was built from.
func sourceInfo(c kiln.Component) string {
	var parts []string
	if c.Source != "" {
		parts = append(parts, "built from source package "+c.Source+" "+c.SourceVersion)
	}
	if c.OwnedBy != "" {
		parts = append(parts, "part of package "+c.OwnedBy)
	}
	if len(c.Locations) > 0 {
		parts = append(parts, "found at "+strings.Join(c.Locations, ", "))
	}
	return strings.Join(parts, "; ")
}

func crossCheckText(b *kiln.Bill) string {
	var lines []string
	for _, group := range crossChecks(b) {
		for _, path := range group.paths {
			lines = append(lines, group.name+": "+path)
		}
	}
	return strings.Join(lines, "\n")
}

// licenseRefs names the licences that SPDX does not list.
type licenseRefs struct {
	seen  map[string]string // text -> id
	taken map[string]bool
	list  []*spdx.OtherLicense
}

// expression joins all licences of a component: each of them holds for some of its files.
func (r *licenseRefs) expression(all []string) string {
	if len(all) == 0 {
		return noAssertion
	}
	parts := make([]string, len(all))
	for i, l := range all {
		switch {
		case !isExpression(l):
			parts[i] = r.id(l)
		case strings.Contains(l, " OR ") && len(all) > 1:
			parts[i] = "(" + l + ")"
		default:
			parts[i] = l
		}
	}
	return strings.Join(parts, " AND ")
}

func (r *licenseRefs) id(text string) string {
	if id, ok := r.seen[text]; ok {
		return id
	}
	short := strings.Trim(strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' {
			return c
		}
		return '-'
	}, text), "-")
	id := "LicenseRef-" + short
	for n := 2; r.taken[id] || short == ""; n++ {
		id = fmt.Sprintf("LicenseRef-%s%d", short, n)
		if !r.taken[id] {
			break
		}
	}
	r.seen[text], r.taken[id] = id, true
	r.list = append(r.list, &spdx.OtherLicense{
		LicenseIdentifier: id, LicenseName: text,
		ExtractedText: "The component's metadata names the licence " + text + "; its text is in the package's copyright file.",
	})
	return id
}
