package scan

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"kiln"
)

// CycloneDX writes the bill as CycloneDX 1.6 JSON. Its time is epoch (Unix
// seconds) and its serial number follows from the bill's digest, so that one
// bill gives one document.
func CycloneDX(b *kiln.Bill, epoch int64) ([]byte, error) {
	id, err := documentID(b)
	if err != nil {
		return nil, err
	}
	bom := cdx.NewBOM()
	bom.SerialNumber = "urn:uuid:" + id
	subject := cdxSubject(b)
	bom.Metadata = &cdx.Metadata{
		Timestamp:  rfc3339(epoch),
		Lifecycles: &[]cdx.Lifecycle{{Phase: cdx.LifecyclePhasePostBuild}},
		Tools:      &cdx.ToolsChoice{Components: &[]cdx.Component{{Type: cdx.ComponentTypeApplication, Name: "kiln"}}},
		Component:  &subject,
		Properties: cdxProperties(b),
	}
	refs := references(b)
	components := make([]cdx.Component, 0, len(b.Components)+1)
	if os, ok := cdxSystem(b.Distro); ok {
		components = append(components, os)
	}
	depends := []cdx.Dependency{{Ref: subject.BOMRef, Dependencies: ptr(slices.Sorted(slices.Values(refs)))}}
	byURL := map[string]string{}
	for i, c := range b.Components {
		byURL[c.PURL] = refs[i]
	}
	for i, c := range b.Components {
		components = append(components, cdxComponent(c, refs[i]))
		depends = append(depends, cdx.Dependency{Ref: refs[i], Dependencies: ptr(targets(c, byURL))})
	}
	bom.Components, bom.Dependencies = &components, &depends
	var out bytes.Buffer
	if err := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return nil, fmt.Errorf("encoding CycloneDX: %w", err)
	}
	return out.Bytes(), nil
}

func ptr[T any](list []T) *[]T {
	if len(list) == 0 {
		return nil
	}
	return &list
}

// documentID derives a UUID (version 8, RFC 9562) from the bill's digest.
func documentID(b *kiln.Bill) (string, error) {
	digest, err := kiln.DigestOf(b)
	if err != nil {
		return "", err
	}
	raw, err := hex.DecodeString(digest.Hex()[:32])
	if err != nil {
		return "", err
	}
	raw[6], raw[8] = raw[6]&0x0f|0x80, raw[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:]), nil
}

func rfc3339(epoch int64) string { return time.Unix(epoch, 0).UTC().Format(time.RFC3339) }

// references gives every component a name inside the document: its package URL, and the owner where the same
// package is found twice.
func references(b *kiln.Bill) []string {
	seen := map[string]int{}
	refs := make([]string, len(b.Components))
	for i, c := range b.Components {
		refs[i] = c.PURL
		if n := seen[c.PURL]; n > 0 {
			refs[i] = fmt.Sprintf("%s#%d", c.PURL, n+1)
		}
		seen[c.PURL]++
	}
	return refs
}

func targets(c kiln.Component, byURL map[string]string) []string {
	var out []string
	for _, d := range c.DependsOn {
		if ref, ok := byURL[d]; ok {
			out = append(out, ref)
		}
	}
	return union(out, nil)
}

func cdxSubject(b *kiln.Bill) cdx.Component {
	c := cdx.Component{BOMRef: "image", Type: cdx.ComponentTypeContainer, Name: b.Subject.Name}
	if c.Name == "" {
		c.Name = "image"
	}
	if b.Subject.Digest != "" {
		c.Version = string(b.Subject.Digest)
		c.Hashes = cdxHash(b.Subject.Digest)
	}
	return c
}

func cdxSystem(distro string) (cdx.Component, bool) {
	name, version, _ := strings.Cut(distro, "-")
	if name == "" {
		return cdx.Component{}, false
	}
	return cdx.Component{BOMRef: "os:" + distro, Type: cdx.ComponentTypeOS, Name: name, Version: version}, true
}

func cdxHash(d kiln.Digest) *[]cdx.Hash {
	return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: d.Hex()}}
}

// cdxProperties carries the cross-checks, for which the format has no place of its own.
func cdxProperties(b *kiln.Bill) *[]cdx.Property {
	list := []cdx.Property{
		{Name: "kiln:files", Value: fmt.Sprint(b.Files)},
		{Name: "kiln:bytes", Value: fmt.Sprint(b.Bytes)},
	}
	for _, group := range crossChecks(b) {
		for _, path := range group.paths {
			list = append(list, cdx.Property{Name: "kiln:" + group.name, Value: path})
		}
	}
	return &list
}

type crossCheck struct {
	name  string
	paths []string
}

func crossChecks(b *kiln.Bill) []crossCheck {
	return []crossCheck{
		{"unowned", b.Unowned},
		{"missing", b.Missing},
		{"modified", b.Modified},
		{"replaced", b.Replaced},
		{"unreadable", b.Unreadable},
	}
}

func cdxComponent(c kiln.Component, ref string) cdx.Component {
	out := cdx.Component{
		BOMRef: ref, Type: cdx.ComponentTypeLibrary, Name: c.Name, Version: c.Version, PackageURL: c.PURL,
		Licenses: cdxLicenses(c.Licenses), Properties: ptr(componentProperties(c)),
	}
	if c.Type == "npm" || c.Type == "maven" {
		out.Group, out.Name = splitName(c)
	}
	if c.Digest != "" {
		out.Hashes = cdxHash(c.Digest)
	}
	if len(c.Locations) > 0 {
		var places []cdx.EvidenceOccurrence
		for _, l := range c.Locations {
			places = append(places, cdx.EvidenceOccurrence{Location: l})
		}
		out.Evidence = &cdx.Evidence{Occurrences: &places}
	}
	return out
}

// splitName divides "@scope/name" and "group:artifact".
func splitName(c kiln.Component) (group, name string) {
	separator := "/"
	if c.Type == "maven" {
		separator = ":"
	}
	if group, name, ok := strings.Cut(c.Name, separator); ok {
		return group, name
	}
	return "", c.Name
}

func componentProperties(c kiln.Component) []cdx.Property {
	var list []cdx.Property
	for _, p := range []cdx.Property{
		{Name: "kiln:type", Value: c.Type},
		{Name: "kiln:source", Value: c.Source},
		{Name: "kiln:sourceVersion", Value: c.SourceVersion},
		{Name: "kiln:architecture", Value: c.Architecture},
		{Name: "kiln:ownedBy", Value: c.OwnedBy},
	} {
		if p.Value != "" {
			list = append(list, p)
		}
	}
	return list
}

// cdxLicenses writes one expression as such; the format allows only one. Several licences are a list of ids and names.
func cdxLicenses(all []string) *cdx.Licenses {
	if len(all) == 0 {
		return nil
	}
	if len(all) == 1 && isExpression(all[0]) && strings.ContainsAny(all[0], " +") {
		return &cdx.Licenses{{Expression: all[0]}}
	}
	out := make(cdx.Licenses, 0, len(all))
	known, _ := spdxIDs()
	for _, l := range all {
		license := &cdx.License{Name: l}
		if id, ok := known[strings.ToLower(l)]; ok {
			license = &cdx.License{ID: id}
		}
		out = append(out, cdx.LicenseChoice{License: license})
	}
	return &out
}
