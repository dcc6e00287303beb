package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln"
	"kiln/internal/pgp/pgptest"
	"kiln/internal/testarchive"
	"kiln/internal/testneeds"
)

// bare is a program with keys and nothing else in its state directory.
func bare(t *testing.T) *program {
	t.Helper()
	p := &program{t, filepath.Join(t.TempDir(), "state")}
	keys := filepath.Join(sharedCache(), "keys")
	sharedKeys.Do(func() { (&program{t, sharedCache()}).must("key", "new") })
	if err := os.MkdirAll(filepath.Join(p.state, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(keys, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no keys in %s (%v)", keys, err)
	}
	for _, f := range files {
		if err := os.Link(f, filepath.Join(p.state, "keys", filepath.Base(f))); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// sharedKeys are made once: a pass phrase is slow to stretch on purpose.
var sharedKeys sync.Once

// on is the same state directory in a test of its own.
func (p *program) on(t *testing.T) *program { return &program{t, p.state} }

// refuses runs a command that must fail: with that status, one error that
// holds every text of says, nothing published and nothing half-written left anywhere.
func (p *program) refuses(code int, says []string, args ...string) {
	p.t.Helper()
	published := p.must("ls")
	_, errs, got := p.run(args...)
	if got != code {
		p.t.Errorf("kiln %s: status %d, want %d\n%s", strings.Join(args, " "), got, code, errs)
	}
	if !strings.HasPrefix(errs, "kiln: ") && !strings.Contains(errs, "\nkiln: ") || strings.Contains(errs, "panic") {
		p.t.Errorf("kiln %s does not end with an error of its own:\n%s", strings.Join(args, " "), errs)
	}
	for _, text := range says {
		if !strings.Contains(errs, text) {
			p.t.Errorf("kiln %s does not say %q:\n%s", strings.Join(args, " "), text, errs)
		}
	}
	if testing.Verbose() {
		p.t.Logf("status %d\n%s", got, errs)
	}
	if out := p.must("ls"); out != published {
		p.t.Errorf("the releases changed from\n%s to\n%s", published, out)
	}
	p.noRemains()
}

// noRemains fails where something half-written lies in the state directory.
func (p *program) noRemains() {
	p.t.Helper()
	err := filepath.WalkDir(p.state, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(p.state, path)
		name := e.Name()
		half := strings.HasPrefix(name, ".part-") || strings.HasPrefix(name, "tmp-") || strings.HasPrefix(name, ".index-")
		in := filepath.Base(filepath.Dir(path))
		if half || in == "tmp" && !e.IsDir() || in == "work" {
			p.t.Errorf("%s was left in the state directory", rel)
		}
		return nil
	})
	if err != nil {
		p.t.Error(err)
	}
}

// arch is this machine's in Debian's words, so that what is refused is refused for the right reason.
var arch = map[string]string{"amd64": "amd64", "arm64": "arm64", "386": "i386", "ppc64le": "ppc64el", "s390x": "s390x", "riscv64": "riscv64"}[runtime.GOARCH]

// essential is a package that a base can be resolved from.
func essential(name string) testarchive.Package {
	return testarchive.Package{Name: name, Arch: arch, Control: "Essential: yes\nPriority: required\n", Data: []testarchive.Member{testarchive.File("usr/share/"+name, name)}}
}

func ember(packages ...testarchive.Package) testarchive.Suite {
	return testarchive.Suite{Name: "ember", Packages: map[string][]testarchive.Package{"main": packages}}
}

// workshop is an archive with a recipe and a policy that trusts it.
type workshop struct {
	*testarchive.Archive
	server *testarchive.Server
	dir    string
}

func newWorkshop(t *testing.T, s testarchive.Suite) *workshop {
	t.Helper()
	w := &workshop{Archive: testarchive.New(t, s), dir: t.TempDir()}
	w.server = w.Serve(t)
	write(t, filepath.Join(w.dir, "policy.yaml"), fmt.Sprintf("version: 1\nroots:\n  test: {fingerprints: [%s]}\nrules:\n  - {match: \"image:**\", inputs: [{root: test}]}\n", w.Key.Fingerprint()))
	w.recipe(t, "")
	return w
}

// recipe writes a recipe on the archive, with more fields at its end.
func (w *workshop) recipe(t *testing.T, more string) {
	t.Helper()
	write(t, filepath.Join(w.dir, "kiln.yaml"), fmt.Sprintf(`name: bad
base:
  apt:
    release: ember
    archives:
      - {uri: %q, suites: [ember], keyring: %q, fingerprints: [%s]}
policy: policy.yaml
%s`, w.server.URL, w.Keyring, w.Key.Fingerprint(), more))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// archiveCases are archives that are good but for one thing: what the suite says, or how its index is served.
var archiveCases = []struct {
	name  string
	suite func(*testarchive.Suite)
	index testarchive.Fault
	says  []string
}{
	{"unsigned", func(s *testarchive.Suite) { s.Signers = []*pgptest.Key{} }, none, []string{"not one clearsigned message", "fetch it again"}},
	{"changed after signing", func(s *testarchive.Suite) {
		s.InRelease = func(b []byte) []byte { return bytes.Replace(b, []byte("Example"), []byte("Evil"), 1) }
	}, none, []string{"no signature counts", "the signature does not fit the text", "use another mirror"}},
	{"signed by a key that is not in the set", func(s *testarchive.Suite) {
		s.Signers = []*pgptest.Key{pgptest.NewKey(pgptest.KeySpec{})}
	}, none, []string{"no signature counts", "keyring"}},
	{"expired", func(s *testarchive.Suite) { s.ValidUntil = time.Now().Add(-time.Minute) }, none, []string{"it has expired: Valid-Until", "use a mirror that is up to date"}},
	{"rolled back", func(s *testarchive.Suite) { s.Date = time.Now().Add(-48 * time.Hour) }, none, []string{"older than one seen before", "use another mirror"}},
	{"dated in the future", func(s *testarchive.Suite) {
		s.Date, s.SignedAt = time.Now().Add(48*time.Hour), time.Now()
	}, none, []string{"is in the future", "clock"}},
	{"for another suite", func(s *testarchive.Suite) { s.Suite, s.Codename = "stable", "ash" }, none, []string{`asked for "ember"`, "check uri and suite"}},
	{"without SHA-256", func(s *testarchive.Suite) {
		s.Text = func(t string) string { return strings.Replace(t, "SHA256:", "MD5Sum:", 1) }
	}, none, []string{"SHA256"}},
	{"with a Packages file of another content", nil, testarchive.Fault{Wrong: true}, []string{"Packages.gz", "wrong content"}},
	{"with a Packages file that is too long", nil, testarchive.Fault{Extra: true}, []string{"Packages.gz", "wrong size"}},
}

var none testarchive.Fault

func TestArchivesThatAreRefused(t *testing.T) {
	w := newWorkshop(t, ember(essential("ash")))
	p := bare(t)
	lock := filepath.Join(t.TempDir(), "kiln.lock")
	p.must("lock", w.dir, "--out", lock)
	for i, c := range archiveCases {
		t.Run(c.name, func(t *testing.T) {
			s := ember(essential("ash"), testarchive.Package{Name: "log", Arch: arch, Version: fmt.Sprint(i)}) // an index that no case before had
			if c.suite != nil {
				c.suite(&s)
			}
			w.Publish(s)
			w.breakIndex(c.index)
			defer w.breakIndex(none)
			out := filepath.Join(t.TempDir(), "kiln.lock")
			p.on(t).refuses(exitRefused, append(c.says, "ember", w.server.URL), "lock", w.dir, "--out", out)
			if _, err := os.Stat(out); err == nil {
				t.Error("a lock was written")
			}
		})
	}
	// Nothing of all this is believed, and nothing stands in the way of a good archive.
	w.Publish(ember(essential("ash")))
	p.must("lock", w.dir, "--out", lock)
	p.noRemains()
}

// breakIndex spoils the index of this machine's packages, by name and by digest.
func (w *workshop) breakIndex(f testarchive.Fault) {
	const name = "Packages.gz"
	index := w.Read("dists/ember/main/binary-" + arch + "/" + name)
	w.server.Break("/"+name, f)
	w.server.Break("/by-hash/SHA256/"+kiln.DigestBytes(index).Hex(), f)
}

// A package is refused before any of its programs runs. What a suite holds is essential, so that it is unpacked at once.
func TestPackagesThatAreRefused(t *testing.T) {
	cases := []struct {
		name  string
		fault testarchive.Fault
		code  int
		says  []string
	}{
		{"of another content", testarchive.Fault{Wrong: true}, exitRefused, []string{"ash 1.0", "wrong content: expected sha256:", "hint: the mirror may be in the middle of an update"}},
		{"that is too long", testarchive.Fault{Extra: true}, exitRefused, []string{"ash 1.0", "wrong size: larger than", "hint: the mirror"}},
		{"that the archive does not have", testarchive.Fault{Status: 404}, exitBroken, []string{"the archive does not have an input of the lock: ash 1.0", "not found", "hint: ", "`kiln lock export`"}},
		{"cut short every time", testarchive.Fault{Truncate: true}, exitBroken, []string{"ash 1.0", "cut short", "hint: check the network"}},
	}
	w := newWorkshop(t, ember(essential("ash")))
	p := bare(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w.server.Break(arch+".deb", c.fault)
			defer w.server.Break(arch+".deb", none)
			p.on(t).refuses(c.code, c.says, "build", w.dir)
		})
	}
	t.Run("of an archive that the policy does not trust", func(t *testing.T) {
		p := p.on(t)
		policy := filepath.Join(t.TempDir(), "policy.yaml")
		write(t, policy, p.must("policy", "default"))
		p.refuses(exitRefused, []string{"verify: not admitted", "no root accepts InRelease of example/ember, signed by " + w.Key.Fingerprint(), "if you trust its key, add a root"}, "build", w.dir, "--policy", policy)
	})
	t.Run("the good one is taken afterwards", func(t *testing.T) {
		lock := filepath.Join(t.TempDir(), "kiln.lock")
		p := p.on(t)
		p.must("lock", w.dir, "--out", lock)
		p.must("build", w.dir, "--lock", lock, "--until", "verify")
		p.must("verify", "lock", lock)
	})
}

func TestDependenciesThatCannotBeMet(t *testing.T) {
	w := newWorkshop(t, ember(essential("ash"),
		testarchive.Package{Name: "web", Arch: arch, Control: "Depends: libssl (>= 3)\n"},
		testarchive.Package{Name: "libssl", Arch: arch, Version: "3.1", Control: "Depends: libcrypto\n"},
		testarchive.Package{Name: "sshd", Arch: arch, Control: "Conflicts: telnetd\n"},
		testarchive.Package{Name: "telnetd", Arch: arch},
	))
	p := bare(t)
	for name, c := range map[string]struct {
		recipe string
		says   []string
	}{
		"a chain that ends in nothing": {"packages: [web]", []string{"web 1.0 (requested) depends on libssl (>= 3), but libssl 3.1 depends on libcrypto", "libcrypto is in none of the archives", "hint: "}},
		"a conflict":                   {"packages: [sshd, telnetd]", []string{"sshd 1.0", "telnetd", "hint: "}},
		"a name with a typing error":   {"packages: [telnet]", []string{"package telnet is in none of the archives", "did you mean telnetd?"}},
		"a version that is not there":  {"packages: [libssl=1.1]", []string{"libssl has no version 1.1", "available: 3.1 (example/ember)"}},
	} {
		t.Run(name, func(t *testing.T) {
			w.recipe(t, c.recipe+"\n")
			p.on(t).refuses(exitMisuse, c.says, "build", w.dir)
		})
	}
}

func TestHostilePackagesAreRefused(t *testing.T) {
	needRoot(t)
	outside := t.TempDir()
	for _, h := range testarchive.HostileData(outside) {
		t.Run(h.Name, func(t *testing.T) {
			evil := essential("evil")
			evil.Data = h.Data
			if h.Name == "absolute path" { // its slash is dropped, as dpkg does, and the file lies in the tree
				refusesPackage(t, evil, outside, exitMisuse, "the essential packages of the archives are not a complete minimal system")
				return
			}
			refusesPackage(t, evil, outside, exitRefused, "evil 1.0", "hint: the archive signed this package")
		})
	}
	t.Run("10 GB of zeros", func(t *testing.T) {
		evil := essential("evil")
		evil.Deb = testarchive.Bomb("evil", "zst", 10<<30)
		refusesPackage(t, evil, outside, exitRefused, "evil 1.0", "larger than allowed", "hint: the archive signed this package")
	})
}

func refusesPackage(t *testing.T, evil testarchive.Package, outside string, code int, says ...string) {
	t.Helper()
	w := newWorkshop(t, ember(evil))
	bare(t).refuses(code, says, "build", w.dir)
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("%v was made outside (%v)", left, err)
	}
}

// needRoot skips where no tree can be made.
func needRoot(t *testing.T) {
	t.Helper()
	testneeds.Root(t, "make a tree")
}

// What its author must mend is misuse, found before any work.
func TestRecipesThatAreMisuse(t *testing.T) {
	w := newWorkshop(t, ember(essential("ash")))
	p := bare(t)
	for name, c := range map[string]struct {
		recipe string
		says   []string
	}{
		"an unknown field":            {"packges: [nginx]", []string{"kiln.yaml:8:", "packges", "packages"}},
		"a wrong type":                {"packages: {nginx: yes}", []string{"kiln.yaml:8:", "packages", "list"}},
		"a key given twice":           {"name: again", []string{"kiln.yaml:8:", "name", "twice"}},
		"an undefined variable":       {"ports: [\"${prot}/tcp\"]\nvariables: {port: 80}", []string{"kiln.yaml:8:", "prot", "port"}},
		"a variable without a value":  {"variables: {port: {description: must be given}}", []string{"port", "--var port="}},
		"a file that is not there":    {"files: [{path: /etc/motd, source: motd}]", []string{"motd"}},
		"a file outside":              {"files: [{path: /etc/motd, source: ../motd}]", []string{"kiln.yaml:8:", "files[0].source", "not above its folder"}},
		"a test of nothing":           {"tests: [{}]", []string{"kiln.yaml:8:", "tests[0]"}},
		"a waiver without an end":     {"hardening: {waivers: [{objective: no-setuid, owner: me, reason: none}]}", []string{"kiln.yaml:8:", "expires"}},
		"an objective nobody knows":   {"hardening: {include: [no-such-thing]}", []string{"resolve: ", "no-such-thing", "hint: `kiln controls ls` lists"}},
		"a platform nobody knows":     {"platform: linux/vax", []string{"linux/vax"}},
		"a profile nobody knows":      {"hardening: {profile: container-basline}", []string{"resolve: ", "container-basline", "there are ", "container-baseline"}},
		"text that is not YAML":       {"labels: {a: [}", []string{"kiln.yaml:8:"}},
		"a pin without priority":      {"pins: [{package: ash, priority: 0}]", []string{"pins[0]", "priority"}},
		"a program nobody can run":    {"entrypoint: \"sh -c 'x' | y\"", []string{"kiln.yaml:8:", "entrypoint"}},
		"an environment that is none": {"env: [A]", []string{"kiln.yaml:8:", "env"}},
	} {
		t.Run(name, func(t *testing.T) {
			w.recipe(t, c.recipe+"\n")
			p.on(t).refuses(exitMisuse, c.says, "build", w.dir)
		})
	}
}
