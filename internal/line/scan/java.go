package scan

import (
	"bytes"
	"io"
	"path"
	"regexp"
	"strings"

	"kiln"
)

// maxInnerJar bounds an archive inside another, which is held in memory.
const maxInnerJar = 64 << 20

// javaArchive reads a jar and the jars inside it: Maven's pom.properties where they are (all of them, so that
// shaded software shows), else the manifest and the file's name.
func javaArchive(f io.ReaderAt, name string, size int64) ([]kiln.Component, error) {
	z, err := openZip(f, size)
	if err != nil {
		return nil, err
	}
	return readJar(z, name, 1)
}

func readJar(z *zipFile, name string, depth int) ([]kiln.Component, error) {
	var out []kiln.Component
	var manifest map[string]string
	var failure error
	for _, file := range z.files {
		var err error
		switch base := path.Base(file.Name); {
		case base == "pom.properties" && strings.HasPrefix(file.Name, "META-INF/maven/"):
			var text []byte
			if text, err = z.read(file, 64<<10); err == nil {
				out = append(out, mavenProperties(text)...)
			}
		case strings.EqualFold(file.Name, "META-INF/MANIFEST.MF"):
			var text []byte
			if text, err = z.read(file, 1<<20); err == nil {
				manifest = manifestMain(text)
			}
		case isJar(base) && !file.FileInfo().IsDir():
			var inner []kiln.Component
			inner, err = innerJar(z, file.Name, depth, func() ([]byte, error) { return z.read(file, maxInnerJar) })
			out = append(out, at(inner, name+"!/"+file.Name)...)
		}
		if err != nil && failure == nil {
			failure = err
		}
	}
	if !mavenNamed(out) {
		if c, ok := fromManifest(path.Base(name), manifest); ok {
			out = append(out, c)
		}
	}
	return out, failure
}

func isJar(base string) bool {
	switch strings.ToLower(path.Ext(base)) {
	case ".jar", ".war", ".ear":
		return true
	}
	return false
}

func innerJar(z *zipFile, name string, depth int, read func() ([]byte, error)) ([]kiln.Component, error) {
	if depth >= maxZipDepth {
		return nil, errBudget
	}
	data, err := read()
	if err != nil {
		return nil, err
	}
	inner, err := openZipWithin(bytes.NewReader(data), int64(len(data)), z.inflated)
	if err != nil {
		return nil, err
	}
	return readJar(inner, name, depth+1)
}

// at gives components found in an inner archive their place, outermost archive first.
func at(found []kiln.Component, place string) []kiln.Component {
	for i := range found {
		if len(found[i].Locations) == 0 {
			found[i].Locations = []string{printable(place)}
			continue
		}
		_, rest, _ := strings.Cut(found[i].Locations[0], "!/")
		found[i].Locations = []string{printable(place) + "!/" + rest}
	}
	return found
}

// mavenNamed reports whether the archive itself, not one inside it, carried Maven's properties.
func mavenNamed(found []kiln.Component) bool {
	for _, c := range found {
		if len(c.Locations) == 0 {
			return true
		}
	}
	return false
}

func mavenProperties(text []byte) []kiln.Component {
	p := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			p[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	group, artifact, version := p["groupId"], p["artifactId"], p["version"]
	if !plain(group) || !plain(artifact) || !plain(version) || strings.Contains(group+artifact+version, "${") {
		return nil
	}
	return []kiln.Component{component("maven", group, artifact, group+":"+artifact, version, nil)}
}

// manifestMain reads the main section; lines are folded at 72 bytes.
func manifestMain(text []byte) map[string]string {
	s := strings.ReplaceAll(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n ", "")
	main, _, _ := strings.Cut(s, "\n\n")
	field := map[string]string{}
	for line := range strings.Lines(main) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			field[key] = strings.TrimSpace(value)
		}
	}
	return field
}

var jarName = regexp.MustCompile(`^(.+?)-(v?\d[0-9A-Za-z.+~_-]*)\.[A-Za-z]+$`)

// fromManifest names an archive without Maven's properties. The group is a guess: the vendor id or what the
// bundle is called, else the artifact's own name, as advisories have it for old artifacts.
func fromManifest(base string, m map[string]string) (kiln.Component, bool) {
	artifact, version := strings.TrimSuffix(base, path.Ext(base)), ""
	if part := jarName.FindStringSubmatch(base); part != nil {
		artifact, version = part[1], part[2]
	}
	for _, key := range []string{"Implementation-Version", "Bundle-Version", "Specification-Version"} {
		if version == "" && plain(m[key]) {
			version = m[key]
		}
	}
	bundle, _, _ := strings.Cut(m["Bundle-SymbolicName"], ";")
	group := artifact
	switch {
	case plain(m["Implementation-Vendor-Id"]):
		group = m["Implementation-Vendor-Id"]
	case plain(bundle) && strings.Contains(bundle, "."):
		// "org.example.app" of app.jar is the group with the artifact behind it; of other.jar it is the group.
		if group = bundle; strings.Contains(artifact, bundle[strings.LastIndexByte(bundle, '.')+1:]) {
			group = bundle[:strings.LastIndexByte(bundle, '.')]
		}
	}
	if !plain(artifact) || !plain(version) {
		return kiln.Component{}, false
	}
	return component("maven", group, artifact, group+":"+artifact, version, licenses(m["Bundle-License"])), true
}
