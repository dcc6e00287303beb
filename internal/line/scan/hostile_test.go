package scan_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"kiln"
	"kiln/internal/line/scan"
)

// What a hostile tree holds must neither stop the scan nor go unsaid, and never be read from outside.
func TestHostileTree(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("Name: stolen\nVersion: 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := plant(t, map[string]string{
		"a.dist-info/METADATA@":                  secret,
		"b.dist-info@":                           filepath.Dir(secret),
		"c.dist-info/METADATA":                   "no metadata at all",
		"d.dist-info/METADATA":                   "Name: <script>alert(1)</script>\nVersion: 1\n",
		"opt/broken.jar":                         "PK\x03\x04 not really",
		"opt/bomb.jar":                           bomb(t),
		"opt/many.jar":                           manyEntries(),
		"opt/deep.jar":                           nested(t, 12),
		"opt/x/package.json":                     `{"name": "x", "version": `,
		"opt/name\nwith\x1b[31mcontrol\xffbytes": "x",
		"opt/elf!":                               "\x7fELF" + strings.Repeat("\xff", 8192),
		"var/lib/dpkg/info/../../../escape/x":    "x",
		"var/lib/dpkg/status":                    "Package: pp\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n",
		"var/lib/dpkg/info/pp.list":              "/../../../../etc/shadow\n/loop/loop/x\n\n/a\x00b\n",
		"var/lib/dpkg/info/pp.md5sums":           "zz  x\nd41d8cd98f00b204e9800998ecf8427e  ../../../etc/hostname\nshort\n",
		"loop@":                                  "loop",
		"usr/share/doc/pp/copyright@":            "/../../../../../../../etc/hostname",
	})
	if err := syscall.Mkfifo(filepath.Join(dir, "e.egg-info"), 0o644); err != nil {
		t.Fatal(err)
	}
	bill, err := scan.Tree(t.Context(), dir, scan.Input{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := kiln.Encode(bill)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("stolen")) || bytes.ContainsAny(text, "\x1b\xff") {
		t.Errorf("the bill holds what lies outside the tree, or raw control characters:\n%s", text)
	}
	listed := strings.Join(bill.Unreadable, "\n")
	for _, name := range []string{"c.dist-info/METADATA", "d.dist-info/METADATA", "opt/broken.jar", "opt/bomb.jar", "opt/many.jar", "opt/deep.jar", "opt/x/package.json"} {
		if !strings.Contains(listed, name+": ") {
			t.Errorf("%s could not be read and is not listed as such:\n%s", name, listed)
		}
	}
	if !strings.Contains(strings.Join(bill.Unowned, "\n"), `opt/name\nwith\x1b[31mcontrol\xffbytes`) {
		t.Errorf("the file with control characters is not listed: %q", bill.Unowned)
	}
	checkDocuments(t, bill)
}

// bomb is a small archive whose properties inflate to more than is read.
func bomb(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create("META-INF/maven/g/a/pom.properties")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeros{}, 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// manyEntries is an archive whose directory is larger than what is read of one.
func manyEntries() string {
	var b bytes.Buffer
	entry := make([]byte, 46)
	copy(entry, "PK\x01\x02")
	for b.Len() < 17<<20 {
		b.Write(entry)
	}
	end := make([]byte, 22)
	copy(end, "PK\x05\x06")
	binary.LittleEndian.PutUint16(end[8:], 0xfffe)
	binary.LittleEndian.PutUint16(end[10:], 0xfffe)
	binary.LittleEndian.PutUint32(end[12:], uint32(b.Len()))
	b.Write(end)
	return b.String()
}

func nested(t *testing.T, depth int) string {
	t.Helper()
	inside := archive(t, map[string]string{"META-INF/MANIFEST.MF": "Implementation-Version: 1\n"})
	for i := range depth {
		inside = archive(t, map[string]string{fmt.Sprintf("level-%d.jar", i): inside})
	}
	return inside
}

// A package database that cannot be trusted to be complete stops the scan.
func TestBrokenDatabase(t *testing.T) {
	const status = "var/lib/dpkg/status"
	const sound = "Package: pp\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n"
	if _, err := scan.Tree(t.Context(), plant(t, map[string]string{status: sound}), scan.Input{}); err != nil {
		t.Fatalf("the sound database: %v", err)
	}
	for what, c := range map[string]struct {
		files map[string]string
		says  string
	}{
		"package without a version": {map[string]string{status: strings.Replace(sound, "Version: 1\n", "", 1)}, "package pp: version"},
		"no architecture":           {map[string]string{status: strings.Replace(sound, "Architecture: all\n", "", 1)}, "no proper architecture"},
		"name that is a path":       {map[string]string{status: strings.Replace(sound, "pp", "../../p", 1)}, "package name \"../../p\""},
		"source that is a path":     {map[string]string{status: sound + "Source: ../x\n"}, "no proper source package"},
		"no status":                 {map[string]string{status: strings.Replace(sound, "install ok ", "", 1)}, "no proper status"},
		"two names":                 {map[string]string{status: sound + "Package: qq\n"}, "stands twice"},
		"dependency without end":    {map[string]string{status: sound + "Depends: libc6 (>= 2\n"}, "parenthesis is not closed"},
		"provides that is a path":   {map[string]string{status: sound + "Provides: a/b\n"}, "no package name"},
		"endless line":              {map[string]string{status: sound + "Description: " + strings.Repeat("x", 2<<20)}, "longer than"},
		"directory instead":         {map[string]string{status + "/x": ""}, "not a regular file"},
		"link that loops":           {map[string]string{status + "@": "status"}, "not a regular file"},
	} {
		bill, err := scan.Tree(t.Context(), plant(t, c.files), scan.Input{})
		switch {
		case err == nil:
			t.Errorf("%s: the scan says nothing and finds %d components", what, len(bill.Components))
		case !strings.Contains(err.Error(), c.says):
			t.Errorf("%s: the error is %v; want one with %q", what, err, c.says)
		}
	}
}

func TestDeepTree(t *testing.T) {
	dir := plant(t, map[string]string{strings.Repeat("d/", 200): ""})
	if _, err := scan.Tree(t.Context(), dir, scan.Input{}); err == nil || !strings.Contains(err.Error(), "nested deeper") {
		t.Errorf("a tree 200 directories deep gives %v", err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := scan.Tree(ctx, plant(t, debianTree(t)), scan.Input{}); err == nil {
		t.Error("a cancelled scan gives a bill")
	}
}

func TestNoTree(t *testing.T) {
	if _, err := scan.Tree(t.Context(), filepath.Join(t.TempDir(), "absent"), scan.Input{}); err == nil {
		t.Error("a tree that does not exist gives a bill")
	}
}
