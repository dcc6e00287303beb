package resolve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kiln"
	"kiln/internal/deb"
)

// world is a small release: two essential packages and what the cases need.
const world = `
Package: base-files
Version: 12
Essential: yes
Priority: required
Pre-Depends: awk
Depends: libc (>= 2)

Package: dash
Version: 1
Essential: yes
Priority: required

Package: libc
Version: 2.36
Multi-Arch: same

Package: gawk
Version: 1
Priority: optional
Provides: awk

Package: mawk
Version: 1
Priority: required
Provides: awk

Package: tzdata
Version: 1
Priority: required

Package: apt
Version: 2
Priority: important
Depends: libc

Package: perl
Version: 5.36
Multi-Arch: allowed
Provides: perl-api (= 5.36), perl-any

Package: python
Version: 3

Package: exim
Version: 4
Provides: mta
Conflicts: mta

Package: postfix
Version: 3
Provides: mta
Conflicts: mta

Package: mailer
Version: 1
Depends: exim | mta

Package: recommending
Version: 1
Recommends: python
Suggests: perl
`

func resolveIn(t *testing.T, stanzas string, names ...string) (*kiln.Lock, error) {
	t.Helper()
	a := newTestArchive(t)
	a.suite("stable", stanzas, "")
	lock, _, err := Apt(t.Context(), recipeOn(a.base("stable"), names...), testOptions(t))
	return lock, err
}

func namesOf(lock *kiln.Lock) string {
	var all []string
	for _, p := range lock.Packages {
		all = append(all, p.Name)
	}
	return strings.Join(all, " ")
}

const minbase = "apt base-files dash libc mawk tzdata"

func TestChoice(t *testing.T) {
	for _, c := range []struct {
		what, extra string
		ask, want   string // want: in addition to the minimal base
	}{
		{"the minimal base alone", "", "", ""},
		{"a dependency with a version", "Package: aa\nVersion: 1\nDepends: perl (>= 5.30)", "aa", "aa perl"},
		{"the first alternative", "Package: aa\nVersion: 1\nDepends: python | perl", "aa", "aa python"},
		{"the alternative that exists", "Package: aa\nVersion: 1\nDepends: gone | perl", "aa", "aa perl"},
		{"the alternative that is asked for", "Package: aa\nVersion: 1\nDepends: python | perl", "aa perl", "aa perl"},
		{"a versioned provides", "Package: aa\nVersion: 1\nDepends: perl-api (>= 5)", "aa", "aa perl"},
		{"any architecture", "Package: aa\nVersion: 1\nDepends: perl:any", "aa", "aa perl"},
		{"the native architecture", "Package: aa\nVersion: 1\nDepends: python:native", "aa", "aa python"},
		{"a package in place of the default", "", "mailer postfix", "mailer postfix"},
		{"the default of an alternative", "", "mailer", "exim mailer"},
		{"no recommendation", "", "recommending", "recommending"},
		{"a virtual package with one provider", "", "perl-any", "perl"},
		{"a circle", "Package: aa\nVersion: 1\nDepends: bb\n\nPackage: bb\nVersion: 1\nPre-Depends: aa", "aa", "aa bb"},
		{"the newest version", "Package: aa\nVersion: 1\n\nPackage: aa\nVersion: 1.10\n\nPackage: aa\nVersion: 1.9", "aa", "aa=1.10"},
		{"a version by glob", "Package: aa\nVersion: 1\n\nPackage: aa\nVersion: 2-1", "aa=1*", "aa=1"},
		{"an alternative because the other conflicts", "Package: aa\nVersion: 1\nDepends: cc | dd\n\nPackage: bb\nVersion: 1\nConflicts: cc\n\nPackage: cc\nVersion: 1\n\nPackage: dd\nVersion: 1", "aa bb", "aa bb dd"},
		{"an alternative because the other breaks something below it", "Package: aa\nVersion: 1\nDepends: cc | dd\n\nPackage: cc\nVersion: 1\nDepends: nowhere\n\nPackage: dd\nVersion: 1", "aa", "aa dd"},
		{"a conflict with an older version only", "Package: aa\nVersion: 1\nConflicts: perl (<< 5)\nDepends: perl", "aa", "aa perl"},
		{"a provider beside the package it replaces", "Package: aa\nVersion: 1\nProvides: tool\nConflicts: tool", "aa", "aa"},
	} {
		t.Run(c.what, func(t *testing.T) {
			lock, err := resolveIn(t, world+"\n"+c.extra, strings.Fields(c.ask)...)
			if err != nil {
				t.Fatal(err)
			}
			names := strings.Fields(minbase)
			for w := range strings.FieldsSeq(c.want) {
				name, version, _ := strings.Cut(w, "=")
				names = append(names, name)
				if p := lock.Package(name); version != "" && (p == nil || p.Version != version) {
					t.Errorf("%s: %+v", w, p)
				}
			}
			slices.Sort(names)
			if got := namesOf(lock); got != strings.Join(names, " ") {
				t.Errorf("got %s, want %s", got, strings.Join(names, " "))
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		what, extra, ask string
		says             []string
	}{
		{"an unknown package", "", "pyton", []string{"pyton is in none of the archives (debian/stable)", "did you mean python?"}},
		{"a virtual package", "", "mta", []string{"virtual", "exim, postfix"}},
		{"a version that is not there", "", "perl=6*", []string{"perl has no version 6*", "5.36 (debian/stable)"}},
		{"a suite that is not there", "", "perl/backports", []string{"not in suite backports"}},
		{"a dependency that nothing has", "Package: aa\nVersion: 1\nDepends: bb (>= 2)\n\nPackage: bb\nVersion: 2\nDepends: gone", "aa", []string{"aa 1 (requested) depends on bb (>= 2), but bb 2 depends on gone, but gone is in none of the archives", "hint:"}},
		{"a version too new", "Package: aa\nVersion: 1\nDepends: perl (>= 6)", "aa", []string{"perl (>= 6)", "available: 5.36"}},
		{"requests in conflict", "", "exim postfix", []string{"exim 4 (requested)", "conflicts with mta", "postfix"}},
		{"a conflict far below", "Package: aa\nVersion: 1\nDepends: bb\n\nPackage: bb\nVersion: 1\nConflicts: cc\n\nPackage: cc\nVersion: 1", "aa cc", []string{"bb 1", "conflicts with cc"}},
		{"another architecture's package", "Package: aa\nVersion: 1\nDepends: perl:arm64", "aa", []string{"perl:arm64"}},
		{"not every package may be any", "Package: aa\nVersion: 1\nDepends: python:any", "aa", []string{"python:any"}},
		{"a conflict with an essential package", "Package: aa\nVersion: 1\nConflicts: dash", "aa", []string{"conflicts with dash"}},
		{"a malformed relation", "Package: aa\nVersion: 1\nDepends: perl (>= ", "aa", []string{"package aa 1", "not closed"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			_, err := resolveIn(t, world+"\n"+c.extra, strings.Fields(c.ask)...)
			if err == nil {
				t.Fatal("resolved")
			}
			for _, want := range c.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q: %v", want, err)
				}
			}
		})
	}
}

func TestRecommends(t *testing.T) {
	a := newTestArchive(t)
	a.suite("stable", world+"\nPackage: other\nVersion: 1\nRecommends: perl", "")
	yes := true
	for _, c := range []struct {
		what string
		edit func(*kiln.Recipe)
		want string
	}{
		{"off", func(*kiln.Recipe) {}, minbase + " other recommending"},
		{"everywhere", func(r *kiln.Recipe) { r.Recommends = true }, minbase + " other perl python recommending"},
		{"of one package", func(r *kiln.Recipe) { r.Packages[0].Recommends = &yes }, minbase + " other python recommending"},
	} {
		r := recipeOn(a.base("stable"), "recommending", "other")
		c.edit(r)
		lock, _, err := Apt(t.Context(), r, testOptions(t))
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Fields(c.want)
		slices.Sort(want)
		if got := namesOf(lock); got != strings.Join(want, " ") {
			t.Errorf("recommends %s: %s", c.what, got)
		}
	}
}

// pockets publishes the same package in three suites with different standing.
func pockets(t *testing.T) (*testArchive, kiln.Base) {
	a := newTestArchive(t)
	a.suite("stable", world+"\nPackage: aa\nVersion: 1\n\nPackage: lib\nVersion: 1", "")
	a.suite("stable-security", "Package: aa\nVersion: 1+deb1", "")
	a.suite("stable-backports", "Package: aa\nVersion: 3~bpo\nDepends: lib (>= 3)\n\nPackage: lib\nVersion: 3~bpo\n\nPackage: lib\nVersion: 3.1~bpo", "NotAutomatic: yes\nButAutomaticUpgrades: yes\n")
	return a, a.base("stable", "stable-security", "stable-backports")
}

func TestPocketsAndPins(t *testing.T) {
	_, base := pockets(t)
	for _, c := range []struct {
		what string
		ask  string
		pins []kiln.Pin
		want string
	}{
		{"the newest of equal priority", "aa", nil, "1+deb1"},
		{"a suite by request, with what it needs from there", "aa/stable-backports", nil, "3~bpo"},
		{"a version by request", "aa=1", nil, "1"},
		{"a pin on a suite", "aa", []kiln.Pin{{Package: "aa lib", Release: "stable-backports", Priority: 600}}, "3~bpo"},
		{"a pin by apt's release list", "aa", []kiln.Pin{{Package: "*", Release: "a=stable,o=Debian", Priority: 990}}, "1"},
		{"a pin on a version that is older", "aa", []kiln.Pin{{Package: "a*", Version: "1", Priority: 1001}}, "1"},
		{"a forbidden version", "aa", []kiln.Pin{{Package: "aa", Version: "1+*", Priority: -1}}, "1"},
		{"the first pin wins", "aa", []kiln.Pin{{Package: "aa", Version: "1", Priority: 700}, {Package: "aa", Version: "1*", Priority: 800}}, "1+deb1"},
		{"a pin on the source package", "aa", []kiln.Pin{{Package: "src:aa", Version: "1", Priority: 700}}, "1"},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := recipeOn(base, c.ask)
			r.Pins = c.pins
			lock, _, err := Apt(t.Context(), r, testOptions(t))
			if err != nil {
				t.Fatal(err)
			}
			if p := lock.Package("aa"); p.Version != c.want {
				t.Errorf("version %s, want %s", p.Version, c.want)
			}
		})
	}
	r := recipeOn(base, "aa")
	r.Pins = []kiln.Pin{{Package: "aa", Release: "*", Priority: -1}}
	if _, _, err := Apt(t.Context(), r, testOptions(t)); err == nil || !strings.Contains(err.Error(), "the pins forbid every version") {
		t.Errorf("all versions forbidden: %v", err)
	}
	for _, bad := range []kiln.Pin{{Package: "aa", Priority: 5}, {Package: "aa", Version: "1", Release: "x", Priority: 5}, {Package: "aa", Version: "1"}, {Package: "[", Version: "1", Priority: 1}} {
		r.Pins = []kiln.Pin{bad}
		if _, _, err := Apt(t.Context(), r, testOptions(t)); err == nil || !strings.Contains(err.Error(), "pins[0]") {
			t.Errorf("pin %+v: %v", bad, err)
		}
	}
}

func TestLockIsComplete(t *testing.T) {
	_, base := pockets(t)
	o := testOptions(t)
	o.Catalogue = kiln.DigestBytes([]byte("catalogue"))
	r := recipeOn(base, "mailer", "dash")
	first, evidence, err := Apt(t.Context(), r, o)
	if err != nil {
		t.Fatal(err)
	}
	if first.Release != "stable" || first.Distro != "debian-12" || first.Epoch != 1783764997 || first.Platform != "linux/amd64" || first.Catalogue != o.Catalogue {
		t.Errorf("lock: %+v", first)
	}
	if len(evidence) != 3 || evidence[1].Archive != "debian/stable-security" || first.Archives[1].ID != evidence[1].Archive || len(first.Archives[1].SignedBy) != 1 {
		t.Errorf("evidence: %+v", evidence)
	}
	for name, want := range map[string]string{"dash": "essential", "libc": "base-files", "tzdata": "required", "mailer": "requested", "exim": "mailer", "apt": "required"} {
		if p := first.Package(name); p.Why != want || p.Base != (name != "mailer" && name != "exim") {
			t.Errorf("%s: why %s, base %v", name, p.Why, p.Base)
		}
	}
	second, _, err := Apt(t.Context(), r, o) // now from the cache
	if err != nil {
		t.Fatal(err)
	}
	a, errA := kiln.Encode(first)
	b, errB := kiln.Encode(second)
	if errA != nil || errB != nil || string(a) != string(b) {
		t.Errorf("the lock changes from run to run (%v, %v)", errA, errB)
	}
}

func TestDamagedCacheIsRebuilt(t *testing.T) {
	_, base := pockets(t)
	o := testOptions(t)
	if _, _, err := Apt(t.Context(), recipeOn(base, "aa"), o); err != nil {
		t.Fatal(err)
	}
	cached, err := filepath.Glob(filepath.Join(o.CacheDir, "index", "*"))
	if err != nil || len(cached) != 3 {
		t.Fatalf("cached: %v, %v", cached, err)
	}
	for _, name := range cached {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if lock, _, err := Apt(t.Context(), recipeOn(base, "aa"), o); err != nil || lock.Package("aa").Version != "1+deb1" {
		t.Errorf("%v", err)
	}
}

func TestHostileArchive(t *testing.T) {
	for what, c := range map[string]struct {
		stanzas, extra string
		edit           func(*testArchive, *kiln.Recipe, *Options)
		says           string
	}{
		"a package file outside the archive": {stanzas: world + "\nPackage: aa\nVersion: 1\nFilename: ../../etc/passwd", says: "stands twice"},
		"a stanza without name":              {stanzas: world + "\nVersion: 1", says: "package name"},
		"no essential package":               {stanzas: "Package: aa\nVersion: 1", says: "no essential package"},
		"another architecture": {stanzas: world, says: "no packages for arm64", edit: func(_ *testArchive, r *kiln.Recipe, _ *Options) {
			r.Platform = "linux/arm64"
		}},
		"a platform without Debian": {stanzas: world, says: "no Debian architecture", edit: func(_ *testArchive, r *kiln.Recipe, _ *Options) {
			r.Platform = "windows/amd64"
		}},
		"an unknown component": {stanzas: world, says: "no component contrib", edit: func(_ *testArchive, r *kiln.Recipe, _ *Options) {
			r.Base.Apt.Archives[0].Components = []string{"contrib"}
		}},
		"a suite that is a path": {stanzas: world, says: "odd paths", edit: func(_ *testArchive, r *kiln.Recipe, _ *Options) {
			r.Base.Apt.Archives[0].Suites = []string{"../stable"}
		}},
		"no keyring": {stanzas: world, says: "names no keyring", edit: func(_ *testArchive, r *kiln.Recipe, _ *Options) {
			r.Base.Apt.Archives[0].Keyring = ""
		}},
		"a keyring that is not there": {stanzas: world, says: "does not exist", edit: func(_ *testArchive, r *kiln.Recipe, _ *Options) {
			r.Base.Apt.Archives[0].Keyring = "missing.gpg"
		}},
		"another key": {stanzas: world, says: "verifying InRelease of stable", edit: func(a *testArchive, r *kiln.Recipe, _ *Options) {
			r.Base.Apt.Archives[0].Keyring = newTestArchive(a.t).keyring
		}},
		"an index of other content": {stanzas: world, says: "digest", edit: func(a *testArchive, _ *kiln.Recipe, _ *Options) {
			a.write(filepath.Join(a.dir, "dists/stable/main/binary-amd64/Packages"), []byte("Package: aa\nVersion: 1\n"))
		}},
		"a verifier that refuses": {stanzas: world, says: "not today", edit: func(_ *testArchive, _ *kiln.Recipe, o *Options) {
			o.Verify = func([]byte, kiln.AptArchive, string, []byte) (*deb.Release, kiln.Evidence, error) {
				return nil, kiln.Evidence{}, errors.New("not today")
			}
		}},
	} {
		t.Run(what, func(t *testing.T) {
			a := newTestArchive(t)
			a.suite("stable", c.stanzas, c.extra)
			r, o := recipeOn(a.base("stable")), testOptions(t)
			if c.edit != nil {
				c.edit(a, r, &o)
			}
			if _, _, err := Apt(t.Context(), r, o); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("want %q, got %v", c.says, err)
			}
		})
	}
}

func TestByHashFallsBackToName(t *testing.T) {
	a := newTestArchive(t)
	a.suite("stable", world, "Acquire-By-Hash: yes\n")
	o := testOptions(t)
	var asked []string
	blob := o.Blob
	o.Blob = func(ctx context.Context, url string, want kiln.Digest, size int64) (string, error) {
		asked = append(asked, url)
		return blob(ctx, url, want, size)
	}
	if _, _, err := Apt(t.Context(), recipeOn(a.base("stable")), o); err != nil {
		t.Fatal(err)
	}
	if len(asked) != 2 || !strings.Contains(asked[0], "/by-hash/SHA256/") || !strings.HasSuffix(asked[1], "/Packages") {
		t.Errorf("asked for %v", asked)
	}
}

func TestImage(t *testing.T) {
	r := &kiln.Recipe{Header: kiln.NewHeader("Recipe"), Name: "test", Base: kiln.Base{OCI: "registry.example.com/base:1"}}
	want := kiln.LockedImage{Reference: r.Base.OCI, Digest: kiln.DigestBytes([]byte("manifest")), Size: 8, Created: 1_700_000_000}
	find := func(_ context.Context, b kiln.Base, platform string) (kiln.LockedImage, error) {
		if b.OCI != r.Base.OCI || platform != "linux/arm64" {
			return kiln.LockedImage{}, fmt.Errorf("asked for %v on %s", b, platform)
		}
		return want, nil
	}
	lock, err := Image(t.Context(), r, Options{Platform: "linux/arm64"}, find)
	if err != nil || *lock.Image != want || lock.Epoch != want.Created {
		t.Errorf("%+v, %v", lock, err)
	}
	r.Packages = []kiln.PackageRequest{{Name: "nginx"}}
	if _, err := Image(t.Context(), r, Options{}, find); err == nil || !strings.Contains(err.Error(), "apt base") {
		t.Errorf("packages on an image base: %v", err)
	}
}

// A component is what it names, too: a changed document must make a new lock.
func TestDocumentsThatAComponentNamesAreLocked(t *testing.T) {
	dir := t.TempDir()
	step := func(document string) string {
		return "name: c\nschemaVersion: 1.0\nphases:\n  - name: build\n    steps:\n      - {name: s, action: ExecuteDocument, inputs: {document: " + document + "}}\n"
	}
	for name, text := range map[string]string{"parts/top.yaml": step("one.yaml"), "parts/one.yaml": step("more/two.yaml"), "parts/more/two.yaml": step("two.yaml")} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := &kiln.Recipe{Dir: dir, Steps: []kiln.Step{{Component: "parts/top.yaml"}}}
	files, err := lockFiles(r)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.Path)
	}
	if want := "parts/more/two.yaml parts/one.yaml parts/top.yaml"; strings.Join(got, " ") != want {
		t.Errorf("got %v", got)
	}
	if err := os.Remove(filepath.Join(dir, "parts/one.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := lockFiles(r); err == nil || !strings.Contains(err.Error(), "parts/top.yaml names parts/one.yaml") {
		t.Errorf("a missing document: %v", err)
	}
}

func TestFilesAreLocked(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"site/index.html": 0o644, "site/run.sh": 0o755, "goss.yaml": 0o600, "build.yaml": 0o644, "ours.yaml": 0o644, "t.xml": 0o644} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("index.html", filepath.Join(dir, "site/home")); err != nil {
		t.Fatal(err)
	}
	r := &kiln.Recipe{
		Dir: dir, Policy: "policy.yaml",
		Files: []kiln.FileSpec{{Path: "/srv", Source: "site"}, {Path: "/srv/x", Source: "./site/index.html"}},
		Steps: []kiln.Step{{Component: "build.yaml"}}, Tests: []kiln.Test{{Goss: "goss.yaml"}},
		Hardening: kiln.Hardening{ProfileFile: "ours.yaml", Tailoring: "t.xml"},
	}
	files, err := lockFiles(r)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.Mode+" "+f.Path)
	}
	if want := "0644 build.yaml, 0600 goss.yaml, 0644 ours.yaml, d0755 site, l0777 site/home, 0644 site/index.html, 0755 site/run.sh, 0644 t.xml"; strings.Join(got, ", ") != want {
		t.Errorf("got %v", got)
	}
	if files[5].Digest != kiln.DigestBytes([]byte("site/index.html")) || files[5].Size != 15 {
		t.Errorf("%+v", files[5])
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"../secret", "/etc/passwd", "missing", "out"} {
		r.Files = []kiln.FileSpec{{Source: bad}}
		if f, err := lockFiles(r); err == nil {
			t.Errorf("%s: locked %v", bad, f)
		} else if !strings.Contains(err.Error(), "files[0].source") {
			t.Errorf("%s: the error does not name the field: %v", bad, err)
		}
	}
}
