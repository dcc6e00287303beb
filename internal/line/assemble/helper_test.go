package assemble

import (
	"context"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kiln"
	"kiln/internal/deb"
	"kiln/internal/sandbox"
	"kiln/internal/testarchive"
	"kiln/internal/tree"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	os.Exit(m.Run())
}

// needRoot skips where owners cannot be set; with CI=true that is a failure.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("in CI this must run as root: it sets owners of files")
	}
	t.Skip("needs root: it sets owners of files")
}

func okay(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wants fails unless err mentions what.
func wants(t *testing.T, err error, what string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), what) {
		t.Errorf("want an error about %q, got %v", what, err)
	}
}

// store is a blob store in memory.
type store map[kiln.Digest][]byte

func (s store) open(t *testing.T) func(kiln.Digest) (*os.File, error) {
	dir := t.TempDir()
	return func(d kiln.Digest) (*os.File, error) {
		name := filepath.Join(dir, d.Hex())
		if err := os.WriteFile(name, s[d], 0o600); err != nil {
			return nil, err
		}
		return os.Open(name)
	}
}

// lockOf makes a lock of packages; the names in base are the base.
func (s store) lockOf(base []string, ps ...testarchive.Package) *kiln.Lock {
	l := &kiln.Lock{Header: kiln.NewHeader("Lock"), Name: "sample", Platform: "linux/amd64", Epoch: 1_800_000_000}
	for _, p := range ps {
		data := p.Build()
		d := kiln.DigestBytes(data)
		s[d] = data
		version, arch := p.Version, p.Arch
		if version == "" {
			version = "1.0"
		}
		if arch == "" {
			arch = "amd64"
		}
		l.Packages = append(l.Packages, kiln.LockedPackage{
			Name: p.Name, Version: version, Architecture: arch, Size: int64(len(data)), Digest: d, Base: slices.Contains(base, p.Name),
		})
	}
	return l
}

// newAssembly is an assembly on an empty tree, for tests that need no dpkg.
func newAssembly(t *testing.T, lock *kiln.Lock, s store) *assembly {
	t.Helper()
	dir := t.TempDir()
	a, err := begin(lock, dir, Options{Open: s.open(t), Run: func(context.Context, sandbox.Spec) (sandbox.Result, error) {
		t.Error("nothing must run in this test")
		return sandbox.Result{}, nil
	}})
	okay(t, err)
	t.Cleanup(a.at.close)
	a.debs, err = openDebCache("", a.o.Open)
	okay(t, err)
	return a
}

func packagesOf(t *testing.T, a *assembly) []*pkg {
	t.Helper()
	var ps []*pkg
	for i, l := range a.lock.Packages {
		ps = append(ps, newPkg(l, i))
	}
	okay(t, a.load(t.Context(), ps))
	return ps
}

// plant makes a tree from lines: "path": "d 0755 0:0", "f 0644 0:0 content", "l -> target".
func plant(t *testing.T, dir string, lines map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		full := filepath.Join(dir, name)
		okay(t, os.MkdirAll(filepath.Dir(full), 0o755))
		kind, rest, _ := strings.Cut(lines[name], " ")
		if kind == "l" {
			okay(t, os.Symlink(strings.TrimPrefix(rest, "-> "), full))
			continue
		}
		f := strings.SplitN(rest+"  ", " ", 3)
		var mode, uid, gid int
		okay(t, scan(f[0], "%o", &mode))
		okay(t, scan(f[1], "%d:%d", &uid, &gid))
		if kind == "d" {
			okay(t, os.MkdirAll(full, 0o755))
		} else {
			okay(t, os.WriteFile(full, []byte(strings.TrimRight(f[2], " ")), 0o600))
		}
		okay(t, os.Chown(full, uid, gid))
		okay(t, os.Chmod(full, goMode(mode)))
	}
}

// compare reports every path that differs from what was wanted. Directories are only compared when they are wanted.
func compare(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	got, err := tree.Dump(dir)
	okay(t, err)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !strings.HasPrefix(got[name], want[name]) || (want[name] == "" && got[name] != "") {
			t.Errorf("%s is %q, want %q", name, got[name], want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok && !strings.HasPrefix(got[name], "d ") {
			t.Errorf("%s is %q, and was not expected", name, got[name])
		}
	}
}

func content(t *testing.T, dir, name string) string {
	t.Helper()
	f, err := os.OpenInRoot(dir, name)
	okay(t, err)
	defer f.Close()
	data, err := io.ReadAll(f)
	okay(t, err)
	return string(data)
}

func sumOf(text string) string { return kiln.DigestBytes([]byte(text)).Hex()[:8] }

func kilnPackage(name string) kiln.LockedPackage {
	return kiln.LockedPackage{Name: name, Version: "1", Architecture: "amd64"}
}

func metaOf(name, pre, dep, provides string) *deb.Package {
	return &deb.Package{Name: name, Version: "1", Architecture: "amd64", PreDepends: pre, Depends: dep, Provides: provides}
}

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

func noRun(context.Context, sandbox.Spec) (sandbox.Result, error) {
	return sandbox.Result{}, errNoRun
}
