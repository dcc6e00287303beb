package assemble

import (
	"os"
	"path/filepath"
	"testing"

	"kiln"
	"kiln/internal/testarchive"
	"kiln/internal/tree"
)

func TestDebCacheRepacksOnceAndRepairsDamage(t *testing.T) {
	needRoot(t)
	s := store{}
	lock := s.lockOf(nil, testarchive.Package{Name: "one", Scripts: map[string]string{"postinst": "#!/bin/sh\n"}, Data: []testarchive.Member{testarchive.File("etc/x", "hello")}})
	d := lock.Packages[0].Digest
	dir, source := t.TempDir(), s.open(t)
	calls := 0
	open := func(d kiln.Digest) (*os.File, error) { calls++; return source(d) }
	use := func() {
		t.Helper()
		c, err := openDebCache(dir, open)
		okay(t, err)
		o, err := c.open(t.Context(), d)
		okay(t, err)
		defer o.Close()
		files, err := o.Control()
		okay(t, err)
		if files["postinst"] == nil || o.Date == 0 && calls == 0 {
			t.Error("the repacked package lacks something")
		}
	}
	use()
	use()
	if calls != 1 {
		t.Errorf("the .deb was opened %d times", calls)
	}
	found, _ := filepath.Glob(filepath.Join(dir, "unpacked", "*", "*.deb"))
	if len(found) != 1 {
		t.Fatalf("cached: %v", found)
	}
	data, err := os.ReadFile(found[0])
	okay(t, err)
	data[len(data)-3] ^= 1
	okay(t, os.WriteFile(found[0], data, 0o644))
	use()
	if calls != 2 {
		t.Error("a damaged cache file was used")
	}
	delete(s, d)
	use() // from the cache, made anew
}

func TestBaseCacheGivesTheSameTree(t *testing.T) {
	needRoot(t)
	src := t.TempDir()
	plant(t, src, map[string]string{
		"usr/bin/su": "f 4755 0:0 x", "bin": "l -> usr/bin", "var/mail": "d 2775 0:8", "etc/shadow": "f 0640 0:42 x", "tmp": "d 1777 0:0", "usr/lib32/x": "f 0644 0:0 x", "lib32": "l -> usr/lib32",
	})
	okay(t, os.Link(filepath.Join(src, "usr/bin/su"), filepath.Join(src, "usr/bin/zu")))
	const epoch = 1_700_000_000
	okay(t, clampTimes(src, epoch))
	cache := baseCache{dir: t.TempDir()}
	ps := []*pkg{newPkg(kiln.LockedPackage{Digest: kiln.DigestBytes([]byte("a"))}, 0)}
	key := baseKey("", ps)
	if baseKey(kiln.DigestBytes([]byte("newer program")), ps) == key {
		t.Error("another program believes this one's base")
	}
	okay(t, cache.store(key, src, epoch))
	if baseKey("", nil) == key || cache.open(baseKey("", nil)) != nil {
		t.Error("another base has the same key")
	}
	f := cache.open(key)
	if f == nil {
		t.Fatal("the base is not found")
	}
	defer f.Close()
	dst := t.TempDir()
	a, err := begin(sampleLock(), dst, Options{Run: noRun})
	okay(t, err)
	defer a.at.close()
	okay(t, a.restore(t.Context(), f))
	want, err := tree.Digest(src, 2*epoch)
	okay(t, err)
	got, err := tree.Digest(dst, 2*epoch)
	okay(t, err)
	if got != want {
		before, _ := tree.Dump(src)
		compare(t, dst, before)
		t.Errorf("the restored tree differs, perhaps in times only")
	}
	name, _ := cache.find(key)
	data, err := os.ReadFile(name)
	okay(t, err)
	okay(t, os.WriteFile(name, data[:len(data)-1], 0o644))
	if cache.open(key) != nil {
		t.Error("a damaged base was used")
	}
	if name, _ := cache.find(key); name != "" {
		t.Error("a damaged base was kept")
	}
}

func TestAptRefuses(t *testing.T) {
	needRoot(t)
	s := store{}
	good := testarchive.Package{Name: "one", Data: []testarchive.Member{testarchive.File("etc/x", "x")}}
	for name, c := range map[string]struct {
		lock *kiln.Lock
		want string
	}{
		"no base":        {s.lockOf(nil, good), "no base packages"},
		"no dpkg":        {s.lockOf([]string{"one"}, good), "has no /usr/bin/dpkg"},
		"twice":          {s.lockOf([]string{"one"}, good, good), "names package one twice"},
		"other platform": {func() *kiln.Lock { l := s.lockOf([]string{"one"}, good); l.Platform = "linux/riscv64"; return l }(), "only run programs of"},
	} {
		t.Run(name, func(t *testing.T) {
			wants(t, Apt(t.Context(), c.lock, t.TempDir(), Options{Open: s.open(t), Run: noRun}), c.want)
		})
	}
	full := t.TempDir()
	plant(t, full, map[string]string{"x": "f 0644 0:0 x"})
	wants(t, Apt(t.Context(), s.lockOf([]string{"one"}, good), full, Options{Open: s.open(t), Run: noRun}), "not empty")
}
