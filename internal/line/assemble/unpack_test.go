package assemble

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln/internal/testarchive"
	"kiln/internal/tree"
)

func scan(text, format string, into ...any) error {
	_, err := fmt.Sscanf(text, format, into...)
	return err
}

func goMode(m int) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	for bit, goBit := range map[int]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&bit != 0 {
			mode |= goBit
		}
	}
	return mode
}

// unpackInto unpacks all packages of the lock as a base is.
func unpackInto(t *testing.T, a *assembly, u *unpacker) error {
	t.Helper()
	u.claims = newClaims()
	if u.owners == nil {
		u.owners = &owners{}
	}
	if err := a.unpackAll(t.Context(), packagesOf(t, a), u); err != nil {
		return err
	}
	return u.claims.finish(a.at)
}

func TestUnpackPutsFilesInPlace(t *testing.T) {
	needRoot(t)
	setuid := testarchive.Exec("usr/bin/su", "su")
	setuid.Mode = 0o4755
	mail := testarchive.Dir("var/mail")
	mail.Mode, mail.Uname, mail.Gname = 0o2775, "root", "mail"
	shadow := testarchive.File("etc/secret", "s")
	shadow.Mode, shadow.Uname, shadow.Gname, shadow.Gid = 0o640, "root", "shadow", 7
	unknown := testarchive.File("etc/unknown", "u")
	unknown.Uname, unknown.Uid = "nobody-here", 1234
	capable := testarchive.Exec("usr/bin/ping", "p")
	capable.PAXRecords = map[string]string{"SCHILY.xattr.user.note": "x"}
	capable.Format = tar.FormatPAX
	s := store{}
	lock := s.lockOf(nil,
		testarchive.Package{Name: "one", Data: []testarchive.Member{
			testarchive.Dir("."), testarchive.Dir("bin"), testarchive.Exec("bin/tool", "tool"), testarchive.Hardlink("bin/zweit", "bin/tool"),
			testarchive.Symlink("lib/x.so", "x.so.1"), setuid, shadow, unknown, mail, capable,
		}},
		testarchive.Package{Name: "two", Compression: "gz", Data: []testarchive.Member{testarchive.File("usr/share/deep/er/file", "d"), testarchive.Dir("usr/share/deep")}},
	)
	a := newAssembly(t, lock, s)
	okay(t, seedMerged(a.at))
	okay(t, unpackInto(t, a, &unpacker{owners: &owners{groups: map[string]int{"mail": 8, "shadow": 42}}}))
	compare(t, a.dir, map[string]string{
		"bin": "l -> usr/bin", "lib": "l -> usr/lib", "sbin": "l -> usr/sbin",
		"usr/bin/tool": "f 0755 0:0 " + sumOf("tool"), "usr/bin/zweit": "h -> usr/bin/tool", "usr/lib/x.so": "l -> x.so.1",
		"usr/bin/su": "f 4755 0:0", "etc/secret": "f 0640 0:42", "etc/unknown": "f 0644 1234:0", "var/mail": "d 2775 0:8",
		"usr/bin/ping": "f 0755 0:0 " + sumOf("p") + " user.note", "usr/share/deep/er/file": "f 0644 0:0",
	})
}

func TestUnpackRefusesHostilePackages(t *testing.T) {
	needRoot(t)
	for _, tolerant := range []bool{false, true} {
		outside := t.TempDir()
		for _, h := range testarchive.HostileData(outside) {
			t.Run(fmt.Sprintf("%s, tolerant %v", h.Name, tolerant), func(t *testing.T) {
				s := store{}
				a := newAssembly(t, s.lockOf(nil, testarchive.Package{Name: "evil", Data: h.Data}), s)
				u := &unpacker{tolerant: tolerant}
				err := unpackInto(t, a, u)
				if err == nil && tolerant && len(u.claims.refused) > 0 {
					p := newPkg(a.lock.Packages[0], 0)
					err = a.inspect(t.Context(), p) // the rules before dpkg may have it
				}
				if names, _ := os.ReadDir(outside); len(names) > 0 {
					t.Fatalf("written outside the tree: %v", names)
				}
				if err != nil {
					t.Log(err)
					if !strings.Contains(err.Error(), "evil") && !tolerant {
						t.Errorf("the error does not name the package: %v", err)
					}
				} else if !strings.Contains(h.Name, "absolute path") && len(u.claims.refused) == 0 {
					t.Error("was unpacked without an error")
				}
			})
		}
	}
}

func TestBombsAndDamageAreErrors(t *testing.T) {
	needRoot(t)
	good := testarchive.Package{Name: "evil", Data: []testarchive.Member{testarchive.File("etc/x", "x")}}
	for name, c := range map[string]struct {
		deb  []byte
		want string
	}{
		"ten gigabytes of zeros": {testarchive.Bomb("evil", "zst", 10<<30), "larger than allowed"},
		"truncated":              {good.Build()[:len(good.Build())-100], "does not fit"},
		"no .deb":                {[]byte("<html>404</html>"), "not a .deb"},
		"another package":        {testarchive.Package{Name: "other"}.Build(), "the lock says evil"},
	} {
		t.Run(name, func(t *testing.T) {
			s := store{}
			p := good
			p.Deb = c.deb
			a := newAssembly(t, s.lockOf(nil, p), s)
			ps := []*pkg{newPkg(a.lock.Packages[0], 0)}
			err := a.load(t.Context(), ps)
			if err == nil {
				err = unpackInto(t, a, &unpacker{})
			}
			wants(t, err, c.want)
		})
	}
}

func TestAWrongBlobIsNoticed(t *testing.T) {
	s := store{}
	lock := s.lockOf(nil, testarchive.Package{Name: "one"})
	d := lock.Packages[0].Digest
	s[d] = append([]byte{}, s[d]...)
	s[d][len(s[d])-1] ^= 1
	a := newAssembly(t, lock, s)
	wants(t, a.load(t.Context(), []*pkg{newPkg(lock.Packages[0], 0)}), "SHA-256")
}

func TestReplacesDecidesWhoKeepsAFile(t *testing.T) {
	needRoot(t)
	shared := func(body string) []testarchive.Member {
		return []testarchive.Member{testarchive.File("usr/share/x", body), testarchive.File("usr/share/only-"+body, body)}
	}
	old := testarchive.Package{Name: "old", Data: shared("old")}
	young := testarchive.Package{Name: "young", Control: "Replaces: old (<< 2)\n", Data: shared("young")}
	for name, order := range map[string][]testarchive.Package{"old first": {old, young}, "young first": {young, old}} {
		t.Run(name, func(t *testing.T) {
			s := store{}
			a := newAssembly(t, s.lockOf(nil, order...), s)
			u := &unpacker{claims: newClaims(), owners: &owners{}}
			ps := packagesOf(t, a)
			okay(t, a.unpackAll(t.Context(), ps, u))
			if got := content(t, a.dir, "usr/share/x"); got != "young" {
				t.Errorf("the file is %s's", got)
			}
			okay(t, register(a.at, ps, u.destination))
			if list := content(t, a.dir, infoDir+"/old.list"); strings.Contains(list, "/usr/share/x\n") || !strings.Contains(list, "/usr/share/only-old\n") {
				t.Errorf("old.list is %q", list)
			}
		})
	}
	t.Run("neither", func(t *testing.T) {
		s := store{}
		young.Control = "Replaces: old (<< 1)\n"
		a := newAssembly(t, s.lockOf(nil, old, young), s)
		wants(t, unpackInto(t, a, &unpacker{}), "both hold /usr/share/x")
	})
}

func TestAClashIsTakenBackWhole(t *testing.T) {
	needRoot(t)
	s := store{}
	lock := s.lockOf(nil,
		testarchive.Package{Name: "fine", Data: []testarchive.Member{testarchive.Dir("opt/fine"), testarchive.File("opt/fine/a", "a")}},
		testarchive.Package{Name: "clash", Data: []testarchive.Member{testarchive.File("usr/lib/new/b", "b"), testarchive.File("etc/here", "mine"), testarchive.Symlink("etc/same", "here")}},
		testarchive.Package{Name: "through", Data: []testarchive.Member{testarchive.File("var/run/c", "c")}},
	)
	a := newAssembly(t, lock, s)
	plant(t, a.dir, map[string]string{"etc/here": "f 0644 0:0 base", "etc/same": "l -> here", "var/run": "l -> /run", "run": "d 0755 0:0", "usr/lib": "d 0755 0:0"})
	okay(t, seedDatabase(a.at))
	fast, moved, err := a.unpackFast(t.Context(), packagesOf(t, a))
	okay(t, err)
	if len(fast) != 1 || fast[0].Name != "fine" || len(moved) != 2 {
		t.Errorf("fast %d, moved %d", len(fast), len(moved))
	}
	okay(t, os.RemoveAll(filepath.Join(a.dir, "var/lib")))
	compare(t, a.dir, map[string]string{
		"etc/here": "f 0644 0:0 " + sumOf("base"), "etc/same": "l -> here", "var/run": "l -> /run", "opt/fine/a": "f 0644 0:0", "usr/lib/new": "",
	})
}

func TestDiversionsAreObeyed(t *testing.T) {
	needRoot(t)
	s := store{}
	lock := s.lockOf(nil,
		testarchive.Package{Name: "dash", Data: []testarchive.Member{testarchive.File("bin/sh", "dash")}},
		testarchive.Package{Name: "other", Data: []testarchive.Member{testarchive.File("usr/bin/x", "other")}},
	)
	a := newAssembly(t, lock, s)
	plant(t, a.dir, map[string]string{"var/lib/dpkg/diversions": "f 0644 0:0 /bin/sh\n/bin/sh.distrib\ndash\n/usr/bin/x\n/usr/bin/x.real\n:\n"})
	var err error
	u := &unpacker{}
	u.diverted, err = readDiversions(a.at)
	okay(t, err)
	okay(t, unpackInto(t, a, u))
	compare(t, a.dir, map[string]string{"usr/bin/sh": "f 0644 0:0", "usr/bin/x.real": "f 0644 0:0", "var/lib/dpkg/diversions": "f"})
}

func TestRegisterWritesWhatDpkgReads(t *testing.T) {
	needRoot(t)
	s := store{}
	lock := s.lockOf(nil,
		testarchive.Package{Name: "conf", Control: "Multi-Arch: same\n", Scripts: map[string]string{
			"conffiles": "/etc/conf\nremove-on-upgrade /etc/gone\n", "postinst": "#!/bin/sh\n",
			"triggers": "# comment\ninterest-noawait /usr/share/watched\ninterest ring\nactivate-noawait ldconfig\n",
		}, Data: []testarchive.Member{testarchive.Dir("."), testarchive.Dir("etc"), testarchive.File("etc/conf", "c"), testarchive.File("usr/share/x", "x")}},
	)
	a := newAssembly(t, lock, s)
	okay(t, seedDatabase(a.at))
	plant(t, a.dir, map[string]string{"var/lib/dpkg/triggers/File": "f 0644 0:0 /usr/share/man man-db/noawait\n/usr/share libc-bin\n"})
	_, _, err := a.unpackFast(t.Context(), packagesOf(t, a))
	okay(t, err)
	for name, want := range map[string]string{
		dpkgDir + "/status":               "Package: conf\nStatus: install ok unpacked\nVersion: 1.0\nArchitecture: amd64\nMaintainer: Test <test@example.com>\nMulti-Arch: same\nDescription: package of a test\nConffiles:\n /etc/conf 4a8a08f09d37b73795649038408b5f33\n /etc/gone newconffile remove-on-upgrade\n\n",
		infoDir + "/conf:amd64.list":      "/.\n/etc\n/etc/conf\n/usr/share/x\n",
		infoDir + "/conf:amd64.md5sums":   "9dd4e461268c8034f5c8564e155c67a6  usr/share/x\n",
		dpkgDir + "/triggers/File":        "/usr/share libc-bin\n/usr/share/man man-db/noawait\n/usr/share/watched conf:amd64/noawait\n",
		dpkgDir + "/triggers/ring":        "conf:amd64\n",
		dpkgDir + "/triggers/Unincorp":    "/usr/share -\n",
		infoDir + "/conf:amd64.conffiles": "/etc/conf\nremove-on-upgrade /etc/gone\n",
	} {
		if got := content(t, a.dir, name); got != want {
			t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
		}
	}
	compareMode(t, a.dir, infoDir+"/conf:amd64.postinst", "f 0755 0:0")
}

func compareMode(t *testing.T, dir, name, want string) {
	t.Helper()
	got, err := tree.Dump(dir)
	okay(t, err)
	if !strings.HasPrefix(got[name], want) {
		t.Errorf("%s is %q, want %q", name, got[name], want)
	}
}

func TestResolveStaysInTheTree(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, map[string]string{
		"run": "d 0755 0:0", "var/run": "l -> /run", "var/up": "l -> ../../../../..", "etc/loop": "l -> loop", "a/b": "l -> ../etc/deep/../x", "lib": "l -> usr/lib",
	})
	at, err := openPlace(dir)
	okay(t, err)
	defer at.close()
	for name, want := range map[string]string{
		"var/run/x/y": "run/x/y", "var/up/etc": "etc", "a/b/c": "etc/x/c", "/lib/z": "usr/lib/z", "": ".", "../../etc": "etc", "new/dir": "new/dir",
	} {
		if got, err := at.resolve(name); err != nil || got != want {
			t.Errorf("%q leads to %q (%v), want %q", name, got, err, want)
		}
	}
	_, err = at.resolve("etc/loop/x")
	wants(t, err, "symbolic links on the way")
}
