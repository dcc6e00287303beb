package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln"
	"kiln/internal/testarchive"
)

// locked is a workshop with a lock of its recipe, whose inputs are in the state of p.
func locked(t *testing.T, p *program) (w *workshop, lock string) {
	t.Helper()
	needRoot(t) // a build begins with a private mount namespace
	w = newWorkshop(t, ember(essential("ash")))
	lock = filepath.Join(t.TempDir(), "kiln.lock")
	p.must("lock", w.dir, "--out", lock)
	p.must("build", w.dir, "--lock", lock, "--until", "verify")
	return w, lock
}

func TestLockFilesThatAreRefused(t *testing.T) {
	p := bare(t)
	w, lock := locked(t, p)
	text, err := os.ReadFile(lock)
	if err != nil {
		t.Fatal(err)
	}
	read := readLock(t, lock)
	deb := read.Packages[0]
	for _, c := range []struct {
		name, old, with string
		code            int
		says            []string
	}{
		{"cut short", string(text[len(text)/2:]), "", exitMisuse, []string{"reading lock ", "it ends too early", "hint: make it again with `kiln lock`"}},
		{"with an unknown field", `"name":`, `"nam":`, exitMisuse, []string{`unknown field "nam"`, "hint: "}},
		{"with a field twice", `"name":"bad"`, `"name":"bad","name":"bad"`, exitMisuse, []string{`key "name" stands twice`}},
		{"of another version", `"kiln/v1"`, `"kiln/v9"`, exitMisuse, []string{`apiVersion is "kiln/v9"`}},
		{"with a path that leaves the archive", deb.Path, "../../etc/passwd", exitMisuse, []string{"packages[0].path", "leaves the archive"}},
		{"without an address", `"uri":"` + w.server.URL + `"`, `"uri":""`, exitMisuse, []string{"the lock does not fit the recipe", "hint: "}},
		{"for another recipe", read.Recipe.Hex(), kiln.DigestBytes(nil).Hex(), exitMisuse, []string{"the lock was made for recipe", "run `kiln lock` again"}},
		{"with another package than signed", deb.Digest.Hex(), read.Archives[0].Keyring.Hex(), exitRefused, []string{"ash 1.0", "wrong size: the content of sha256:"}},
		{"with another size than signed", fmt.Sprintf(`"size":%d,"source"`, deb.Size), `"size":7,"source"`, exitRefused, []string{"ash 1.0", "wrong size: the content of sha256:"}},
		{"with another version than signed", `"version":"1.0"`, `"version":"2.0"`, exitRefused, []string{"fails: ash 2.0: no signed index of its archive lists it"}},
		{"with another signed date", fmt.Sprintf(`"date":%d`, read.Archives[0].Date), `"date":1`, exitRefused, []string{"InRelease of example/ember", "the lock says date 1, signed is"}},
		{"with another signer", read.Archives[0].SignedBy[0], strings.Repeat("A", 40), exitRefused, []string{"InRelease of example/ember", "the lock says that AAAA"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(string(text), c.old) {
				t.Fatalf("the lock has no %s:\n%s", c.old, text)
			}
			bad := filepath.Join(t.TempDir(), "bad.lock")
			write(t, bad, strings.ReplaceAll(string(text), c.old, c.with))
			p.on(t).refuses(c.code, c.says, "build", w.dir, "--lock", bad)
		})
	}
	t.Run("exported without an address", func(t *testing.T) {
		bad := filepath.Join(t.TempDir(), "bad.lock")
		write(t, bad, strings.ReplaceAll(string(text), w.server.URL, ""))
		bare(t).refuses(exitBroken, []string{"only http, https and file URLs"}, "lock", "export", bad, "--out", bad+".tar")
	})
	p.must("verify", "lock", lock)
}

func readLock(t *testing.T, path string) *kiln.Lock {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lock := new(kiln.Lock)
	if err := kiln.Decode(data, lock); err != nil {
		t.Fatal(err)
	}
	return lock
}

func TestAnArchiveThatHasMovedOn(t *testing.T) {
	p := bare(t)
	w, lock := locked(t, p)
	bundle := filepath.Join(t.TempDir(), "bundle.tar")
	p.must("lock", "export", lock, "--out", bundle)
	w.server.Break(".deb", testarchive.Fault{Status: 404})
	other := bare(t)
	for _, args := range [][]string{{"build", w.dir, "--lock", lock}, {"lock", "export", lock, "--out", filepath.Join(t.TempDir(), "x.tar")}} {
		other.refuses(exitBroken, []string{"the archive does not have an input of the lock: ash 1.0", "not found", "import the bundle that `kiln lock export` wrote"}, args...)
	}
	other.must("lock", "import", bundle, "--out", lock)
	other.must("build", w.dir, "--lock", lock, "--until", "verify")

	w.server.Break(".deb", none)
	bare(t).must("build", w.dir, "--lock", lock, "--until", "verify")

	w.Publish(ember(essential("ash")))
	bare(t).refuses(exitRefused, []string{"missing: InRelease of example/ember", "import the bundle that `kiln lock export` wrote, or make a new lock"}, "build", w.dir, "--lock", lock)
}

func TestDamagedInputsAreFetchedAgain(t *testing.T) {
	p := bare(t)
	w, lock := locked(t, p)
	flip(t, filepath.Join(p.state, "cache/blobs/sha256/*/*"))
	p.refuses(exitRefused, []string{"fails: InRelease of example/ember", "fails: ash 1.0", "fetched again when a build"}, "verify", "lock", lock)
	// Everything comes back but the keyring, which only the recipe knows.
	bundle := filepath.Join(t.TempDir(), "bundle.tar")
	p.refuses(exitRefused, []string{"missing: keyring of example/ember", "from the recipe"}, "lock", "export", lock, "--out", bundle)
	p.must("build", w.dir, "--lock", lock, "--until", "verify")
	p.must("lock", "export", lock, "--out", bundle)
	p.must("verify", "lock", lock)

	// A build proves anew what it makes a tree of, whatever was proven before.
	flip(t, filepath.Join(p.state, "cache/blobs/sha256/*/*"))
	if err := os.RemoveAll(filepath.Join(p.state, "cache", "indexes")); err != nil {
		t.Fatal(err)
	}
	p.refuses(exitMisuse, []string{"1 indexes were damaged in the cache", "1 inputs were damaged in the cache", "not a complete minimal system"}, "build", w.dir)
	p.must("verify", "lock", lock)

	// Without the archive a damaged input is not used either, and is named.
	flip(t, filepath.Join(p.state, "cache/blobs/sha256/*/*"))
	w.server.Break("", testarchive.Fault{Status: 404})
	p.refuses(exitBroken, []string{"not found"}, "build", w.dir, "--lock", lock)
}

// bundleOf reads the members of a bundle in their order.
func bundleOf(t *testing.T, path string) (names []string, members map[string][]byte) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	members = map[string][]byte{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return names, members
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if members[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func packBundle(t *testing.T, names []string, members map[string][]byte) string {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, n := range names {
		if err := w.WriteHeader(&tar.Header{Name: n, Size: int64(len(members[n])), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(members[n]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bundle.tar")
	write(t, path, out.String())
	return path
}

func TestBundlesThatAreRefused(t *testing.T) {
	p := bare(t)
	_, lock := locked(t, p)
	path := filepath.Join(t.TempDir(), "bundle.tar")
	p.must("lock", "export", lock, "--out", path)
	names, _ := bundleOf(t, path)
	changed := func(change func(names []string, members map[string][]byte) []string) string {
		_, copied := bundleOf(t, path)
		return packBundle(t, change(append([]string{}, names...), copied), copied)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(t.TempDir(), "short.tar")
	write(t, short, string(whole[:len(whole)/2]))
	for name, c := range map[string]struct {
		path string
		says []string
	}{
		"cut short": {short, []string{"unexpected EOF"}},
		"with another input": {changed(func(n []string, m map[string][]byte) []string {
			m[n[1]] = bytes.ToUpper(m[n[1]])
			return n
		}), []string{"expected sha256:"}},
		"without an input": {changed(func(n []string, _ map[string][]byte) []string { return n[:len(n)-1] }), []string{"is named by the lock and missing"}},
		"with something more": {changed(func(n []string, m map[string][]byte) []string {
			m["../../evil"] = []byte("evil")
			return append(n, "../../evil")
		}), []string{`member "../../evil" is nothing that the lock names`}},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "kiln.lock")
			bare(t).refuses(exitRefused, append(c.says, "importing bundle "+c.path, "hint: take another copy"), "lock", "import", c.path, "--out", out)
			if _, err := os.Stat(out); err == nil {
				t.Error("a lock was written")
			}
		})
	}
}

// A bundle is believed no more than an archive: who made it must not matter.
func TestABundleOfSomebodyElsesKeyIsRefused(t *testing.T) {
	p := bare(t)
	ours, lock := locked(t, p)
	theirs := bare(t)
	_, evil := locked(t, theirs)
	path := filepath.Join(t.TempDir(), "bundle.tar")
	theirs.must("lock", "export", evil, "--out", path)
	mine := readLock(t, lock)
	keyring, err := os.ReadFile(ours.Keyring)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		forge  func(lock *kiln.Lock)
		verify int
		says   []string
	}{
		"which names its own key": {func(*kiln.Lock) {}, 0, []string{"fails: InRelease of example/ember", "the key is not one of the expected fingerprints"}},
		"which says it is ours": {func(l *kiln.Lock) {
			l.Archives[0].SignedBy, l.Archives[0].Keyring = mine.Archives[0].SignedBy, mine.Archives[0].Keyring
		}, exitRefused, []string{"fails: InRelease of example/ember", "the keyring has no such key"}},
	} {
		t.Run(name, func(t *testing.T) {
			names, members := bundleOf(t, path)
			forged := readLock(t, evil)
			forged.Recipe, forged.Archives[0].URI = mine.Recipe, mine.Archives[0].URI
			c.forge(forged)
			if members[names[0]], err = kiln.Encode(forged); err != nil {
				t.Fatal(err)
			}
			d := forged.Archives[0].Keyring
			if n := "blobs/sha256/" + d.Hex(); members[n] == nil {
				names, members[n] = append(names, n), keyring
				names = remove(names, "blobs/sha256/"+readLock(t, evil).Archives[0].Keyring.Hex())
			}
			victim, out := bare(t), filepath.Join(t.TempDir(), "kiln.lock")
			victim.must("lock", "import", packBundle(t, names, members), "--out", out)
			if _, errs, code := victim.run("verify", "lock", out); code != c.verify {
				t.Errorf("verify lock: status %d, want %d\n%s", code, c.verify, errs)
			}
			victim.refuses(exitRefused, c.says, "build", ours.dir, "--lock", out)
		})
	}
}

func remove(list []string, s string) []string {
	var out []string
	for _, e := range list {
		if e != s {
			out = append(out, e)
		}
	}
	return out
}

func TestADamagedDatabaseIsNamed(t *testing.T) {
	p := bare(t)
	p.must("ls")
	write(t, filepath.Join(p.state, "kiln.db"), strings.Repeat("not a database\n", 1000))
	_, errs, code := p.run("ls")
	if code != exitBroken || !strings.Contains(errs, "kiln.db") || !strings.Contains(errs, "hint: ") {
		t.Errorf("status %d\n%s", code, errs)
	}
}
