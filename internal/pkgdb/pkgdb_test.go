package pkgdb_test

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kiln/internal/pkgdb"
	"kiln/internal/pkgdb/pkgdbtest"
	"kiln/internal/testneeds"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func line(p pkgdb.Package) string {
	return fmt.Sprintf("%s %s %s provides %q needs %q files %q", p.Name, p.Version, p.Arch, p.Provides, p.Needs, p.Files)
}

func rpm(t testing.TB, data []byte) ([]pkgdb.Package, error) {
	t.Helper()
	return pkgdb.RPM(t.Context(), bytes.NewReader(data), int64(len(data)), nil)
}

var bash = pkgdb.Package{
	Name: "bash", Version: "5.1-9.el9", Arch: "x86_64", Provides: []string{"bash", "/bin/sh"}, Needs: []string{"glibc", "libtinfo.so.6()(64bit)"},
	Files: []string{"usr/bin/bash", "usr/bin/sh", "etc/skel/.bashrc"},
}

// sqlite is a database of rpm's SQLite form.
func sqlite(t *testing.T, statements string, blobs ...[]byte) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "db")
	db, err := sql.Open("sqlite", file)
	must(t, err)
	defer db.Close()
	_, err = db.Exec(statements)
	must(t, err)
	for _, b := range blobs {
		_, err := db.Exec("INSERT INTO Packages(blob) VALUES (?)", b)
		must(t, err)
	}
	must(t, db.Close())
	data, err := os.ReadFile(file)
	must(t, err)
	return data
}

const packagesTable = "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)"

func TestEveryFormOfRPMsDatabase(t *testing.T) {
	big := pkgdb.Package{Name: "big", Version: "1-1", Arch: "noarch"}
	for i := range 300 {
		big.Files = append(big.Files, fmt.Sprintf("usr/share/big/%03d/file", i))
	}
	key := pkgdb.Package{Name: "gpg-pubkey", Version: "1-1"}
	for name, data := range map[string][]byte{
		"ndb": pkgdbtest.NDB(bash, key, big), "bdb": pkgdbtest.BDB(binary.LittleEndian, bash, key, big), "bdb, big endian": pkgdbtest.BDB(binary.BigEndian, bash, key, big),
		"sqlite": sqlite(t, packagesTable, pkgdbtest.Header(bash), pkgdbtest.Header(key), pkgdbtest.Header(big)),
	} {
		got, err := rpm(t, data)
		if err != nil || len(got) != 2 || line(got[0]) != line(bash) || line(got[1]) != line(big) {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
}

func TestAPK(t *testing.T) {
	const text = "C:Q1abc=\nP:busybox\nV:1.36.1-r29\nA:x86_64\nD:so:libc.musl-x86_64.so.1 !old\np:cmd:sh=1.36 /bin/sh\nF:bin\nR:busybox\na:0:0:755\nZ:Q1x=\nF:etc\nF:\nR:.hidden\n\nP:musl\nV:1.2\nF:lib\nR:ld-musl.so\n"
	got, err := pkgdb.APK(strings.NewReader(text))
	must(t, err)
	want := []string{
		`busybox 1.36.1-r29 x86_64 provides ["cmd:sh" "/bin/sh"] needs ["so:libc.musl-x86_64.so.1"] files ["bin/busybox" ".hidden"]`,
		`musl 1.2  provides [] needs [] files ["lib/ld-musl.so"]`,
	}
	var lines []string
	for _, p := range got {
		lines = append(lines, line(p))
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got %q", lines)
	}
	for bad, reason := range map[string]string{
		"P:x\nnonsense\n": "line 2", "V:1\n\n": "no name", "P:" + strings.Repeat("x", 17<<20): "too long", "PP:x\n": "line 1",
	} {
		if _, err := pkgdb.APK(strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%.20q: %v, want %q", bad, err, reason)
		}
	}
}

func TestDamagedDatabasesAreErrors(t *testing.T) {
	change := func(data []byte, f func([]byte)) []byte { data = slices.Clone(data); f(data); return data }
	le := binary.LittleEndian
	ndb, bdb := pkgdbtest.NDB(bash), pkgdbtest.BDB(le, bash)
	for _, c := range []struct {
		name, reason string
		data         []byte
	}{
		{"empty", "beginning", nil},
		{"text", "none of the known forms", []byte(strings.Repeat("text", 100))},
		{"ndb cut", "cut", ndb[:len(ndb)-40]},
		{"ndb with pages without end", "pages", change(ndb, func(b []byte) { le.PutUint32(b[12:], 1<<31) })},
		{"ndb with a huge blob", "lead to its blob", change(ndb, func(b []byte) { le.PutUint32(b[4096+12:], 1<<31) })},
		{"ndb with a wrong slot", "mark", change(ndb, func(b []byte) { b[32] = 'x' })},
		{"header with entries without end", "says that it has", change(ndb, func(b []byte) { le.PutUint32(b[4096+16:], 0xffffffff) })},
		{"header with texts without end", "more texts", change(ndb, func(b []byte) { binary.BigEndian.PutUint32(b[4096+16+8+12:], 1<<31) })},
		{"header with an offset outside", "outside", change(ndb, func(b []byte) { binary.BigEndian.PutUint32(b[4096+16+8+8:], 1<<31) })},
		{"bdb cut", "cut", bdb[:len(bdb)-10]},
		{"bdb whose pages lead to each other", "each other", change(bdb, func(b []byte) { le.PutUint32(b[2*512+16:], 2) })},
		{"bdb with an odd number of items", "items", change(bdb, func(b []byte) { le.PutUint16(b[512+20:], 3) })},
		{"bdb with an item outside", "outside", change(bdb, func(b []byte) { le.PutUint16(b[512+28:], 0xffff) })},
		{"bdb with an overflow page that is none", "no overflow", change(bdb, func(b []byte) { b[2*512+25] = 9 })},
		{"bdb with pages without end", "pages are of", change(bdb, func(b []byte) { le.PutUint32(b[32:], 0xffffffff) })},
		{"sqlite without the table", "table of packages", sqlite(t, "CREATE TABLE x (y)")},
		{"sqlite with a view that does not end", "not a table", sqlite(t, "CREATE VIEW Packages AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT x AS blob FROM n")},
		{"sqlite with rubbish", "header", sqlite(t, packagesTable, []byte("rubbish, no header"))},
		{"sqlite cut", "reading its packages", change(sqlite(t, packagesTable, bytes.Repeat(pkgdbtest.Header(bash), 100)), func(b []byte) { clear(b[8192:]) })},
	} {
		if got, err := rpm(t, c.data); err == nil || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v %v, want %q", c.name, got, err, c.reason)
		}
	}
}

// TestWhatRPMItselfWrote: a database made by the program, in the form that Debian's version of it writes.
func TestWhatRPMItselfWrote(t *testing.T) {
	for _, program := range []string{"rpm", "rpmbuild"} {
		testneeds.Program(t, program, "rpm")
	}
	dir := t.TempDir()
	spec := filepath.Join(dir, "made.spec")
	must(t, os.WriteFile(spec, []byte("Name: made\nVersion: 1.2\nRelease: 3\nEpoch: 4\nSummary: x\nLicense: MIT\nBuildArch: noarch\nProvides: virtual\nRequires: other\n%description\nx\n"+
		"%install\nmkdir -p %{buildroot}/usr/bin %{buildroot}/etc\necho x > %{buildroot}/usr/bin/made\necho y > %{buildroot}/etc/made.conf\n%files\n/usr/bin/made\n/etc/made.conf\n"), 0o644))
	run := func(name string, args ...string) {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Env = append(os.Environ(), "HOME="+dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	run("rpmbuild", "-bb", "--define", "_topdir "+dir, spec)
	made := filepath.Join(dir, "RPMS/noarch/made-1.2-3.noarch.rpm")
	where := filepath.Join(dir, "db")
	define := []string{"--define", "_db_backend sqlite", "--dbpath", where}
	run("rpm", append([]string{"--initdb"}, define...)...)
	run("rpm", append([]string{"-i", "--justdb", "--nodeps", "--ignoreos", "--ignorearch", made}, define...)...)
	data, err := os.ReadFile(filepath.Join(where, "rpmdb.sqlite"))
	must(t, err)
	got, err := rpm(t, data)
	if err != nil || len(got) != 1 || got[0].Name != "made" || got[0].Version != "4:1.2-3" || !slices.Equal(got[0].Files, []string{"etc/made.conf", "usr/bin/made"}) ||
		!slices.Contains(got[0].Provides, "virtual") || !slices.Contains(got[0].Needs, "other") {
		t.Errorf("%v %v", got, err)
	}
}

// FuzzRPM: no database makes more than an error.
func FuzzRPM(f *testing.F) {
	f.Add(pkgdbtest.NDB(bash))
	f.Add(pkgdbtest.BDB(binary.LittleEndian, bash))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 16 && string(data[:6]) == "SQLite" {
			return // SQLite has fuzzers of its own
		}
		_, _ = rpm(t, data)
	})
}
