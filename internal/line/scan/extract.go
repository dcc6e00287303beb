package scan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"path"
	"strings"

	"kiln"
)

// maxMetadata bounds one file of package metadata.
const maxMetadata = 4 << 20

// metadataOf returns the extractor for a file by its name, or nil.
func metadataOf(name string) extractor {
	base := path.Base(name)
	dir := path.Base(path.Dir(name))
	switch {
	case base == "METADATA" && strings.HasSuffix(dir, ".dist-info"),
		base == "PKG-INFO" && (strings.HasSuffix(dir, ".egg-info") || dir == "EGG-INFO"),
		strings.HasSuffix(base, ".egg-info"):
		return pythonMetadata
	case strings.HasSuffix(base, ".whl"), strings.HasSuffix(base, ".egg"):
		return pythonArchive
	case base == "package.json" && ownManifest(name):
		return npmManifest
	}
	switch strings.ToLower(path.Ext(base)) {
	case ".jar", ".war", ".ear", ".jmod", ".hpi", ".jpi":
		return javaArchive
	}
	return nil
}

func section(f io.ReaderAt, size int64) ([]byte, error) {
	if size > maxMetadata {
		return nil, &tooLarge{size, maxMetadata}
	}
	return readAll(io.NewSectionReader(f, 0, size), maxMetadata)
}

// pythonMetadata reads core metadata (METADATA, PKG-INFO).
func pythonMetadata(f io.ReaderAt, _ string, size int64) ([]kiln.Component, error) {
	text, err := section(f, size)
	if err != nil {
		return nil, err
	}
	c, err := pythonPackage(text)
	if err != nil {
		return nil, err
	}
	return []kiln.Component{c}, nil
}

func pythonPackage(text []byte) (kiln.Component, error) {
	// Only the header matters; the description below it may be anything.
	header, _, _ := bytes.Cut(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n\n"))
	field := map[string][]string{}
	for line := range strings.Lines(string(header)) {
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || name[0] == ' ' || name[0] == '\t' {
			continue
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		field[name] = append(field[name], strings.TrimSpace(value))
	}
	name, version := first(field["Name"]), first(field["Version"])
	if !plain(name) || !plain(version) {
		return kiln.Component{}, fmt.Errorf("names no proper package and version (%q, %q)", clip(name), clip(version))
	}
	return component("pypi", "", pypiName(name), name, version, pythonLicenses(field)), nil
}

// pypiName normalises a project name as PEP 503 says.
func pypiName(name string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '-' || r == '_' || r == '.' }), "-")
}

func pythonLicenses(field map[string][]string) []string {
	if e := first(field["License-Expression"]); e != "" {
		return licenses(e)
	}
	var out []string
	for _, c := range field["Classifier"] {
		if id, ok := trove[strings.TrimPrefix(c, "License :: OSI Approved :: ")]; ok {
			out = append(out, id)
		}
	}
	if l := first(field["License"]); len(out) == 0 && l != "UNKNOWN" && len(l) <= 80 {
		return licenses(l)
	}
	return out
}

// trove maps the classifiers that name exactly one licence.
var trove = map[string]string{
	"MIT License":                                                     "MIT",
	"Apache Software License":                                         "Apache-2.0",
	"Python Software Foundation License":                              "PSF-2.0",
	"ISC License (ISCL)":                                              "ISC",
	"Mozilla Public License 2.0 (MPL 2.0)":                            "MPL-2.0",
	"zlib/libpng License":                                             "Zlib",
	"The Unlicense (Unlicense)":                                       "Unlicense",
	"GNU General Public License v2 (GPLv2)":                           "GPL-2.0-only",
	"GNU General Public License v2 or later (GPLv2+)":                 "GPL-2.0-or-later",
	"GNU General Public License v3 (GPLv3)":                           "GPL-3.0-only",
	"GNU General Public License v3 or later (GPLv3+)":                 "GPL-3.0-or-later",
	"GNU Lesser General Public License v2 or later (LGPLv2+)":         "LGPL-2.0-or-later",
	"GNU Lesser General Public License v3 (LGPLv3)":                   "LGPL-3.0-only",
	"GNU Lesser General Public License v3 or later (LGPLv3+)":         "LGPL-3.0-or-later",
	"GNU Affero General Public License v3":                            "AGPL-3.0-only",
	"GNU Affero General Public License v3 or later (AGPLv3+)":         "AGPL-3.0-or-later",
	"Boost Software License 1.0 (BSL-1.0)":                            "BSL-1.0",
	"Zope Public License":                                             "ZPL-2.1",
	"European Union Public Licence 1.2 (EUPL 1.2)":                    "EUPL-1.2",
	"Common Development and Distribution License 1.0 (CDDL-1.0)":      "CDDL-1.0",
	"Eclipse Public License 2.0 (EPL-2.0)":                            "EPL-2.0",
	"Universal Permissive License (UPL)":                              "UPL-1.0",
	"Blue Oak Model License (BlueOak-1.0.0)":                          "BlueOak-1.0.0",
	"CEA CNRS Inria Logiciel Libre License, version 2.1 (CeCILL-2.1)": "CECILL-2.1",
}

// pythonArchive reads a wheel or zipped egg.
func pythonArchive(f io.ReaderAt, _ string, size int64) ([]kiln.Component, error) {
	z, err := openZip(f, size)
	if err != nil {
		return nil, err
	}
	var out []kiln.Component
	for _, file := range z.files {
		dir, base := path.Split(file.Name)
		dir = path.Clean(dir)
		if !(base == "METADATA" && strings.HasSuffix(dir, ".dist-info") || base == "PKG-INFO" && dir == "EGG-INFO") {
			continue
		}
		text, err := z.read(file, maxMetadata)
		if err != nil {
			return out, err
		}
		c, err := pythonPackage(text)
		if err != nil {
			return out, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("has no package metadata")
	}
	return out, nil
}

// ownManifest leaves out the manifests that lie inside a package (fixtures, sub-paths): below node_modules or
// Debian's usr/share/nodejs only the package's own top directory counts.
func ownManifest(name string) bool {
	dir := path.Dir(name)
	for _, base := range []string{"node_modules/", "usr/share/nodejs/"} {
		i := strings.LastIndex("/"+dir, "/"+base)
		if i < 0 {
			continue
		}
		rest := dir[i+len(base):]
		depth := strings.Count(rest, "/")
		return depth == 0 || depth == 1 && rest[0] == '@'
	}
	return true
}

// npmManifest reads package.json; one without name and version is configuration, not a package.
func npmManifest(f io.ReaderAt, _ string, size int64) ([]kiln.Component, error) {
	text, err := section(f, size)
	if err != nil {
		return nil, err
	}
	var m struct {
		Name     string          `json:"name"`
		Version  string          `json:"version"`
		License  json.RawMessage `json:"license"`
		Licenses []struct {
			Type string `json:"type"`
		} `json:"licenses"`
	}
	if err := json.Unmarshal(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), &m); err != nil {
		var typ *json.UnmarshalTypeError
		if errors.As(err, &typ) {
			return nil, errNotMine
		}
		return nil, fmt.Errorf("is no JSON: %w", err)
	}
	if m.Name == "" || m.Version == "" {
		return nil, errNotMine
	}
	if !plain(m.Name) || !plain(m.Version) {
		return nil, fmt.Errorf("names no proper package and version (%q, %q)", clip(m.Name), clip(m.Version))
	}
	var license string
	var object struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(m.License, &license) != nil && json.Unmarshal(m.License, &object) == nil {
		license = object.Type
	}
	found := licenses(license)
	for _, l := range m.Licenses {
		found = union(found, licenses(l.Type))
	}
	scope, short := "", m.Name
	if s, rest, ok := strings.Cut(m.Name, "/"); ok && strings.HasPrefix(s, "@") {
		scope, short = s, rest
	}
	return []kiln.Component{component("npm", scope, short, m.Name, m.Version, found)}, nil
}

// plain reports whether s can name a package or version: one short word.
func plain(s string) bool {
	return s != "" && len(s) <= 250 && printable(s) == s && !strings.ContainsAny(s, " \"'<>\\")
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
