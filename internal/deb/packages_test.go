package deb

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const stanzas = `Package: nginx
Source: nginx (1.22.1-9)
Version: 1.22.1-9+deb12u1
Architecture: amd64
Depends: libc6 (>= 2.28),
 nginx-common (<< 1.22.1-9+deb12u1.1~)
# a comment between fields
Priority: optional
Essential: no
Size: 527
SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
Filename: pool/main/n/nginx/nginx_1.22.1-9_amd64.deb
Description: small web server
 long text

Package: base-files
Version: 12.4
Architecture: all
Essential: yes
`

func TestParsePackages(t *testing.T) {
	var got []*Package
	if err := ParsePackages(strings.NewReader(stanzas), func(p *Package) error { got = append(got, p); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 {
		t.Fatalf("%d packages", len(got))
	}
	n := got[0]
	if n.Name != "nginx" || n.Source != "nginx" || n.SourceVersion != "1.22.1-9" || n.Size != 527 || n.Description != "small web server" || n.Essential {
		t.Errorf("nginx: %+v", n)
	}
	groups, err := ParseRelations(n.Depends)
	if err != nil || len(groups) != 2 || groups[1][0].String() != "nginx-common (<< 1.22.1-9+deb12u1.1~)" {
		t.Errorf("Depends %v, %v", groups, err)
	}
	if b := got[1]; b.Source != "base-files" || b.SourceVersion != "12.4" || !b.Essential {
		t.Errorf("base-files: %+v", b)
	}
}

func TestParsePackagesRefuses(t *testing.T) {
	for what, text := range map[string]string{
		"no version":           "Package: aa\n",
		"bad name":             "Package: ../aa\nVersion: 1\n",
		"no field":             "Package: aa\nVersion: 1\nnonsense\n",
		"size no number":       "Package: aa\nVersion: 1\nSize: many\n",
		"negative size":        "Package: aa\nVersion: 1\nSize: -4\n",
		"digest of other form": "Package: aa\nVersion: 1\nSHA256: 00\n",
		"two versions":         "Package: aa\nVersion: 1\nVersion: 2\n",
		"endless stanza":       "Package: aa\nVersion: 1\nDescription: " + strings.Repeat("x", maxStanza) + "\n",
	} {
		if err := ParsePackages(strings.NewReader(text), func(*Package) error { return nil }); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

func TestParseRelations(t *testing.T) {
	ok := map[string]string{
		"a":                               "a",
		"a | b (>= 1), c":                 "a | b (>= 1); c",
		"a:any (>> 2) [amd64 arm64], b,":  "a:any (>> 2) [amd64 arm64]; b",
		"a (= 1.0-1) <!nocheck> <stage1>": "a (= 1.0-1)",
		"a (<1)":                          "a (<= 1)",
		"python3:native":                  "python3:native",
		"":                                "",
	}
	for in, want := range ok {
		groups, err := ParseRelations(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
		}
		var out []string
		for _, g := range groups {
			var alternatives []string
			for _, r := range g {
				alternatives = append(alternatives, r.String())
			}
			out = append(out, strings.Join(alternatives, " | "))
		}
		if got := strings.Join(out, "; "); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
	for _, in := range []string{"a (", "a (>= )", "a (1)", "| a", "a [amd64", "a b", "a (>= 1) b"} {
		if _, err := ParseRelations(in); err == nil {
			t.Errorf("%q: accepted", in)
		}
	}
}

func TestRelationAppliesTo(t *testing.T) {
	for _, c := range []struct {
		field string
		want  bool
	}{{"a", true}, {"a [amd64]", true}, {"a [arm64 armhf]", false}, {"a [!amd64]", false}, {"a [!arm64]", true}, {"a [linux-any]", true}} {
		groups, err := ParseRelations(c.field)
		if err != nil || groups[0][0].AppliesTo("amd64") != c.want {
			t.Errorf("%s for amd64: want %v (%v)", c.field, c.want, err)
		}
	}
}

func TestParseControl(t *testing.T) {
	got, err := ParseControl([]byte("# head\nTypes: deb\n# inside\nSigned-By:\n line1\n .\n\n\nTypes: deb-src\n"))
	if err != nil || len(got) != 2 || got[0].Get("types") != "deb" || got[0].Get("Signed-By") != "\nline1\n." {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{" continued\n", "no field\n", "A: 1\na: 2\n"} {
		if _, err := ParseControl([]byte(bad)); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}

func TestStatusAndOwners(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("var/lib/dpkg/status", `Package: dash
Status: install ok installed
Version: 1
Architecture: amd64

Package: gone
Status: deinstall ok config-files
Version: 1
Architecture: amd64
`)
	write("var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 2\nArchitecture: all\n")
	write("var/lib/dpkg/info/dash.list", "/.\n/bin\n/bin/dash\n/usr/share/man\n/bin/sh\n")
	write("var/lib/dpkg/info/libc6:amd64.list", "/.\n/lib\n/lib/libc.so.6\n/usr/share/man\n")
	write("var/lib/dpkg/diversions", "/bin/sh\n/bin/sh.distrib\nbash\n")
	for link, target := range map[string]string{"bin": "usr/bin", "lib": "/usr/lib"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	pkgs, err := ReadStatus(dir)
	if err != nil || len(pkgs) != 2 || pkgs[0].Name != "base-files" || pkgs[1].Name != "dash" || pkgs[1].State() != "installed" {
		t.Fatalf("%+v, %v", pkgs, err)
	}
	owners, err := Owners(dir)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{
		"usr/bin/dash": "dash", "usr/bin/sh.distrib": "dash", "usr/lib/libc.so.6": "libc6", "usr/share/man": "dash", "bin": "dash",
	} {
		if owners[p] != want {
			t.Errorf("%s belongs to %q, want %q", p, owners[p], want)
		}
	}
	if _, ok := owners["usr/bin/sh"]; ok {
		t.Error("the diverted path is still owned")
	}
}

func TestStatusStaysInside(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "status"), []byte("Package: evil\nVersion: 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "var/lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "var/lib/dpkg")); err != nil {
		t.Fatal(err)
	}
	if pkgs, err := ReadStatus(dir); err == nil {
		t.Errorf("followed a link out of the tree: %v", pkgs)
	}
}
