package scan_test

import (
	"archive/zip"
	"bytes"
	"crypto/md5"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kiln"
	"kiln/internal/line/scan"
)

// plant writes files into a new tree: name -> content. "name@" -> target makes a symbolic link, "name!" an
// executable, a name that ends in "/" a directory.
func plant(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		mode := os.FileMode(0o644)
		link, isLink := strings.CutSuffix(name, "@")
		program, isProgram := strings.CutSuffix(name, "!")
		at := filepath.Join(dir, name)
		switch {
		case isLink:
			at = filepath.Join(dir, link)
		case isProgram:
			at, mode = filepath.Join(dir, program), 0o755
		}
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case isLink:
			err = os.Symlink(content, at)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(at, 0o755)
		default:
			err = os.WriteFile(at, []byte(content), mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func sum(content string) string { return fmt.Sprintf("%x", md5.Sum([]byte(content))) }

func archive(t *testing.T, members map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	names := []string{}
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(members[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const osRelease = "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n"

// debianTree has two packages in a merged-/usr tree, with a diversion, a configuration file, generated files and,
// of each kind of disagreement, one.
func debianTree(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{
		"bin@":                "usr/bin",
		"etc/os-release@":     "/usr/lib/os-release",
		"usr/lib/os-release":  osRelease,
		"var/lib/dpkg/status": debianStatus,
		"var/lib/dpkg/info/libfoo1:amd64.list": "/.\n/usr\n/usr/lib\n/usr/lib/libfoo.so.1\n/usr/lib/libfoo.so.1.0\n/usr/lib/os-release\n/etc/os-release\n" +
			"/usr/share/doc/libfoo1\n/usr/share/doc/libfoo1/copyright\n/usr/lib/gone.so\n/usr/share/man/foo.1\n",
		"var/lib/dpkg/info/libfoo1:amd64.md5sums":         sum("library") + "  usr/lib/libfoo.so.1.0\n" + sum("gone") + "  usr/lib/gone.so\n",
		"var/lib/dpkg/info/foo.list":                      "/.\n/bin\n/bin/foo\n/bin/sh\n/etc\n/etc/foo.conf\n/usr/share/foo\n/usr/share/foo/template\n/usr/share/foo/lib.py\n/usr/share/foo/edited\n/var/lib/foo\n",
		"var/lib/dpkg/info/foo.md5sums":                   sum("program") + "  bin/foo\n" + sum("template") + "  usr/share/foo/template\n" + sum("before") + "  usr/share/foo/edited\n",
		"var/lib/dpkg/info/foo.postinst!":                 "#!/bin/sh\n",
		"var/lib/dpkg/info/evil.postinst!":                "#!/bin/sh\n",
		"var/lib/dpkg/diversions":                         "/bin/sh\n/bin/sh.distrib\nlibfoo1\n",
		"usr/bin/sh!":                                     "another shell",
		"usr/bin/sh.distrib!":                             "the package's shell",
		"usr/bin/foo!":                                    "program, changed",
		"usr/lib/libfoo.so.1.0":                           "library",
		"usr/lib/libfoo.so.1@":                            "libfoo.so.1.0",
		"usr/share/doc/libfoo1/copyright":                 copyright,
		"usr/share/foo/template":                          "template",
		"usr/share/foo/lib.py":                            "print()",
		"usr/share/foo/edited":                            "after",
		"usr/share/foo/__pycache__/lib.cpython-311.pyc":   "bytecode",
		"usr/share/foo/__pycache__/ghost.cpython-311.pyc": "bytecode without source",
		"etc/foo.conf":                                    "changed by the administrator",
		"etc/foo.d/copy":                                  "template",
		"etc/passwd":                                      "root:x:0:0:root:/root:/bin/sh\n",
		"etc/ld.so.cache":                                 "cache",
		"var/log/foo.log":                                 "log",
		"var/log/miner!":                                  "#!/bin/sh\n",
		"usr/bin/awk@":                                    "/etc/alternatives/awk",
		"opt/app/main":                                    "made by the recipe",
		"opt/stranger":                                    "nobody knows",
		"var/lib/foo/":                                    "",
		"tmp/link-outside@":                               "../../../../../../../../etc/passwd",
	}
}

const debianStatus = `Package: libfoo1
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Source: foo (1.2-3)
Version: 1:1.2-3+b1
Provides: libfoo-abi (= 1)
Description: library
 with: a colon
 .
 and more

Package: foo
Status: install ok installed
Architecture: all
Version: 1.2-3
Depends: nothing-here | libfoo-abi, libfoo1:any (>= 1)
Conffiles:
 /etc/foo.conf ` + "00000000000000000000000000000000" + `

Package: removed
Status: deinstall ok config-files
Architecture: all
Version: 9
`

const copyright = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: somebody
License: GPL-2+ or Expat
 text

Files: odd/*
License: Homegrown

License: GPL-2+
 not about files
`

func TestTree(t *testing.T) {
	digest := kiln.DigestBytes([]byte("deb"))
	bill, err := scan.Tree(t.Context(), plant(t, debianTree(t)), scan.Input{
		Subject: kiln.Subject{Name: "demo"},
		Lock: &kiln.Lock{Packages: []kiln.LockedPackage{
			{Name: "foo", Version: "1.2-3", Architecture: "all", Digest: digest},
			{Name: "libfoo1", Version: "another", Architecture: "amd64", Digest: digest},
		}},
		Recipe:    &kiln.Recipe{Files: []kiln.FileSpec{{Path: "/opt/app", Source: "app"}}},
		Accounted: func(path string) bool { return path == "usr/share/foo/edited" },
		Removed:   func(path string) bool { return strings.HasPrefix(path, "usr/share/man/") },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what      string
		got, want []string
	}{
		{"unowned", bill.Unowned, []string{
			"opt/stranger", "tmp/link-outside", "usr/bin/awk", "usr/bin/sh",
			"usr/share/foo/__pycache__/ghost.cpython-311.pyc", "var/lib/dpkg/info/evil.postinst", "var/log/miner",
		}},
		{"missing", bill.Missing, []string{"usr/lib/gone.so"}},
		{"modified", bill.Modified, []string{"usr/bin/foo"}},
		{"replaced", bill.Replaced, []string{"usr/share/foo/edited"}},
		{"unreadable", bill.Unreadable, nil},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, c.got, c.want)
		}
	}
	for _, name := range []string{"etc/foo.d/copy", "etc/passwd", "etc/ld.so.cache", "var/log/foo.log", "var/lib/dpkg/info/foo.postinst", "usr/share/foo/__pycache__/lib.cpython-311.pyc"} {
		if !slices.Contains(bill.Generated, name) {
			t.Errorf("%s is not called generated", name)
		}
	}
	if bill.Removed != 1 || bill.Distro != "debian-12" {
		t.Errorf("removed %d, distro %q", bill.Removed, bill.Distro)
	}
	wantComponents(t, bill, []kiln.Component{
		{
			Type: "deb", Name: "foo", Version: "1.2-3", Architecture: "all", Source: "foo", SourceVersion: "1.2-3", Digest: digest,
			PURL:      "pkg:deb/debian/foo@1.2-3?arch=all&distro=debian-12&upstream=foo%401.2-3",
			DependsOn: []string{"pkg:deb/debian/libfoo1@1:1.2-3%2Bb1?arch=amd64&distro=debian-12&upstream=foo%401.2-3"},
		},
		{
			Type: "deb", Name: "libfoo1", Version: "1:1.2-3+b1", Architecture: "amd64", Source: "foo", SourceVersion: "1.2-3",
			PURL:     "pkg:deb/debian/libfoo1@1:1.2-3%2Bb1?arch=amd64&distro=debian-12&upstream=foo%401.2-3",
			Licenses: []string{"GPL-2.0-or-later OR MIT", "Homegrown"},
		},
	})
}

func wantComponents(t *testing.T, bill *kiln.Bill, want []kiln.Component) {
	t.Helper()
	line := func(c kiln.Component) string {
		return fmt.Sprintf("%s %s %s %s source=%s %s arch=%s digest=%s licences=%q at=%q owner=%s needs=%q",
			c.Type, c.Name, c.Version, c.PURL, c.Source, c.SourceVersion, c.Architecture, c.Digest.Short(), c.Licenses, c.Locations, c.OwnedBy, c.DependsOn)
	}
	var got, expected []string
	for _, c := range bill.Components {
		got = append(got, line(c))
	}
	for _, c := range want {
		expected = append(expected, line(c))
	}
	if !slices.Equal(got, expected) {
		t.Errorf("components:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(expected, "\n"))
	}
}

func TestLanguagePackages(t *testing.T) {
	inner := archive(t, map[string]string{"META-INF/MANIFEST.MF": "Manifest-Version: 1.0\nBundle-SymbolicName: org.example.in\n ner;singleton:=true\nImplementation-Version: 2.0\n"})
	dir := plant(t, map[string]string{
		"usr/lib/python3/dist-packages/My_Project-1.0.dist-info/METADATA": "Metadata-Version: 2.4\nName: My_Project\nVersion: 1.0\nLicense-Expression: MIT OR Apache-2.0\n\nName: fooled\n",
		"opt/venv/lib/x.egg-info/PKG-INFO":                                "Name: x\nVersion: 3\nClassifier: License :: OSI Approved :: MIT License\n",
		"opt/wheels/w-1-py3-none-any.whl":                                 archive(t, map[string]string{"w-1.dist-info/METADATA": "Name: w\nVersion: 1\n"}),
		"opt/app/node_modules/@scope/left/package.json":                   `{"name":"@scope/left","version":"1.2.3","license":"ISC"}`,
		"opt/app/node_modules/@scope/left/test/fixture/package.json":      `{"name":"fixture","version":"6.6.6"}`,
		"opt/app/node_modules/right/package.json":                         `{"name":"right","version":"0.1.0","license":{"type":"Custom thing"}}`,
		"opt/app/node_modules/right/esm/package.json":                     `{"type":"module"}`,
		"opt/app/app-1.5.jar": archive(t, map[string]string{
			"META-INF/maven/org.example/app/pom.properties": "#c\ngroupId=org.example\nartifactId=app\nversion=1.5\n",
			"META-INF/maven/org.shaded/dep/pom.properties":  "groupId=org.shaded\nartifactId=dep\nversion=0.9\n",
			"lib/inner.jar": inner,
		}),
		"opt/owned/o.dist-info/METADATA":   "Name: o\nVersion: 7\n",
		"var/lib/dpkg/status":              "Package: python3-o\nStatus: install ok installed\nArchitecture: all\nVersion: 7-1\n",
		"var/lib/dpkg/info/python3-o.list": "/opt/owned/o.dist-info/METADATA\n",
	})
	bill, err := scan.Tree(t.Context(), dir, scan.Input{Lock: &kiln.Lock{Distro: "debian-12"}})
	if err != nil {
		t.Fatal(err)
	}
	wantComponents(t, bill, []kiln.Component{
		{Type: "deb", Name: "python3-o", Version: "7-1", Architecture: "all", Source: "python3-o", SourceVersion: "7-1", PURL: "pkg:deb/debian/python3-o@7-1?arch=all&distro=debian-12&upstream=python3-o%407-1"},
		{Type: "maven", Name: "org.example:app", Version: "1.5", PURL: "pkg:maven/org.example/app@1.5", Locations: []string{"opt/app/app-1.5.jar"}},
		{Type: "maven", Name: "org.example:inner", Version: "2.0", PURL: "pkg:maven/org.example/inner@2.0", Locations: []string{"opt/app/app-1.5.jar!/lib/inner.jar"}},
		{Type: "maven", Name: "org.shaded:dep", Version: "0.9", PURL: "pkg:maven/org.shaded/dep@0.9", Locations: []string{"opt/app/app-1.5.jar"}},
		{Type: "npm", Name: "@scope/left", Version: "1.2.3", PURL: "pkg:npm/%40scope/left@1.2.3", Licenses: []string{"ISC"}, Locations: []string{"opt/app/node_modules/@scope/left/package.json"}},
		{Type: "npm", Name: "right", Version: "0.1.0", PURL: "pkg:npm/right@0.1.0", Licenses: []string{"Custom thing"}, Locations: []string{"opt/app/node_modules/right/package.json"}},
		{Type: "pypi", Name: "My_Project", Version: "1.0", PURL: "pkg:pypi/my-project@1.0", Licenses: []string{"MIT OR Apache-2.0"}, Locations: []string{"usr/lib/python3/dist-packages/My_Project-1.0.dist-info/METADATA"}},
		{Type: "pypi", Name: "o", Version: "7", PURL: "pkg:pypi/o@7", Locations: []string{"opt/owned/o.dist-info/METADATA"}, OwnedBy: "python3-o"},
		{Type: "pypi", Name: "w", Version: "1", PURL: "pkg:pypi/w@1", Locations: []string{"opt/wheels/w-1-py3-none-any.whl"}},
		{Type: "pypi", Name: "x", Version: "3", PURL: "pkg:pypi/x@3", Licenses: []string{"MIT"}, Locations: []string{"opt/venv/lib/x.egg-info/PKG-INFO"}},
	})
}

// The test program itself is a Go program with modules in it.
func TestGoProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "program"), text, 0o755); err != nil {
		t.Fatal(err)
	}
	bill, err := scan.Tree(t.Context(), dir, scan.Input{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, c := range bill.Components {
		name, _, _ := strings.Cut(c.PURL, "@")
		found[name] = true
	}
	for _, want := range []string{"pkg:golang/stdlib", "pkg:golang/kiln"} {
		if !found[want] {
			t.Errorf("%s is not found in a Go program that has it; found %v", want, found)
		}
	}
}

// A package whose configuration failed is there all the same; one of which only configuration is left is not.
func TestPackageStates(t *testing.T) {
	for status, listed := range map[string]bool{
		"install ok installed": true, "hold ok installed": true, "install ok unpacked": true, "install reinstreq half-installed": true,
		"install ok triggers-pending": true, "deinstall ok config-files": false, "purge ok not-installed": false,
	} {
		dir := plant(t, map[string]string{"var/lib/dpkg/status": "Package: pp\nStatus: " + status + "\nArchitecture: all\nVersion: 1\n"})
		bill, err := scan.Tree(t.Context(), dir, scan.Input{})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(bill.Components) == 1; got != listed {
			t.Errorf("%q: listed %v, want %v", status, got, listed)
		}
	}
}

// A distroless image keeps one status file a package and has checksums only.
func TestDistroless(t *testing.T) {
	dir := plant(t, map[string]string{
		"var/lib/dpkg/status.d/base":           "Package: base-files\nVersion: 12.4\nArchitecture: amd64\n",
		"var/lib/dpkg/status.d/base.md5sums":   "",
		"var/lib/dpkg/status.d/tz":             "Package: tzdata\nVersion: 2026a\nArchitecture: all\n",
		"var/lib/dpkg/status.d/tzdata.md5sums": sum("zone") + "  usr/share/zoneinfo/UTC\n",
		"usr/share/zoneinfo/UTC":               "zone",
	})
	bill, err := scan.Tree(t.Context(), dir, scan.Input{})
	if err != nil {
		t.Fatal(err)
	}
	if len(bill.Components) != 2 || len(bill.Unowned)+len(bill.Modified)+len(bill.Missing) != 0 {
		t.Errorf("%d components, unowned %q, modified %q, missing %q", len(bill.Components), bill.Unowned, bill.Modified, bill.Missing)
	}
}

// Paths that dpkg was configured not to unpack are not missing; the last rule that matches decides.
func TestPathExclude(t *testing.T) {
	dir := plant(t, map[string]string{
		"etc/dpkg/dpkg.cfg.d/docker": "path-exclude /usr/share/ignored\npath-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\n",
		"var/lib/dpkg/status":        "Package: aa\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n",
		"var/lib/dpkg/info/aa.list":  "/etc/dpkg/dpkg.cfg.d/docker\n/usr/share/doc/a/README\n/usr/share/doc/a/copyright\n",
	})
	bill, err := scan.Tree(t.Context(), dir, scan.Input{})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"usr/share/doc/a/copyright"}; !slices.Equal(bill.Missing, want) {
		t.Errorf("missing %q, want %q", bill.Missing, want)
	}
}

func TestSameTreeSameBill(t *testing.T) {
	first, err := scan.Tree(t.Context(), plant(t, debianTree(t)), scan.Input{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := kiln.Encode(first)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		again, err := scan.Tree(t.Context(), plant(t, debianTree(t)), scan.Input{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := kiln.Encode(again)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("two scans of equal trees differ:\n%s\n%s", got, want)
		}
	}
}
