package verify

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/internal/blob/dir"
	"kiln/internal/deb"
	"kiln/internal/pgp"
	"kiln/internal/pgp/pgptest"
	"kiln/internal/testarchive"
)

var now = time.Now().Truncate(time.Second)

const day = 24 * time.Hour

func request(a *testarchive.Archive, suite string) Request {
	keyring, err := os.ReadFile(a.Keyring)
	if err != nil {
		panic(err)
	}
	return Request{Archive: a.Apt(), Suite: suite, Keyring: keyring, Now: now}
}

// Each case is a good suite but for one thing.
func TestInReleaseIsRefused(t *testing.T) {
	other := pgptest.NewKey(pgptest.KeySpec{})
	expired := pgptest.NewKey(pgptest.KeySpec{Created: now.Add(-400 * day), Expires: 390 * day})
	revoked := pgptest.NewKey(pgptest.KeySpec{Revoked: true})
	short := pgptest.NewKey(pgptest.KeySpec{RSABits: 1024})
	signedBy := func(k *pgptest.Key) testarchive.Suite { return testarchive.Suite{Signers: []*pgptest.Key{k}} }
	// trust makes the request accept a key as if the archive's owner had given it.
	trust := func(k *pgptest.Key) func(*Request) {
		return func(r *Request) { r.Keyring, r.Archive.Fingerprints = k.Public(), nil }
	}
	text := func(old, with string) testarchive.Suite {
		return testarchive.Suite{Text: func(s string) string {
			if !strings.Contains(s, old) {
				t.Fatalf("no %q in %s", old, s)
			}
			return strings.Replace(s, old, with, 1)
		}}
	}
	around := func(f func([]byte) []byte) testarchive.Suite { return testarchive.Suite{InRelease: f} }
	cases := []struct {
		name  string
		suite testarchive.Suite
		with  func(*Request)
		err   error
		hint  string
	}{
		{"unsigned", testarchive.Suite{Signers: []*pgptest.Key{}}, nil, ErrUnsigned, "fetch it again"},
		{"empty", around(func([]byte) []byte { return nil }), nil, ErrUnsigned, ""},
		{"a login page", around(func([]byte) []byte { return []byte("<html>Log in</html>") }), nil, ErrUnsigned, "login page"},
		{"text before the message", around(func(b []byte) []byte { return append([]byte("Suite: ember\n"), b...) }), nil, ErrUnsigned, ""},
		{"text after the message", around(func(b []byte) []byte { return append(b, "Suite: ember\n"...) }), nil, ErrUnsigned, ""},
		{"a second message", around(func(b []byte) []byte { return append(b, b...) }), nil, ErrUnsigned, ""},
		{"changed after signing", around(func(b []byte) []byte { return bytes.Replace(b, []byte("Example"), []byte("Evil"), 1) }), nil, pgp.ErrBad, ""},
		{"cut short", around(func(b []byte) []byte { return b[:len(b)/2] }), nil, ErrUnsigned, ""},
		{"signed by a key that the keyring lacks", signedBy(other), nil, pgp.ErrUnknownKey, "keyring"},
		{"signed by a key of the keyring that is not expected", testarchive.Suite{}, func(r *Request) { r.Archive.Fingerprints = []string{other.Fingerprint()} }, pgp.ErrNotAccepted, "fingerprint"},
		{"signed by a key that has expired since", signedBy(expired), trust(expired), pgp.ErrKeyExpired, "update the keyring"},
		{"signed by a key that is revoked", signedBy(revoked), trust(revoked), pgp.ErrKeyRevoked, "another key"},
		{"signed by a short key", signedBy(short), trust(short), pgp.ErrWeak, "2048"},
		{"signed in the future", testarchive.Suite{SignedAt: now.Add(day)}, nil, pgp.ErrFuture, "clock"},
		{"for another suite", testarchive.Suite{Suite: "stable", Codename: "ash"}, nil, ErrSuite, "mirror"},
		{"without suite and codename", testarchive.Suite{Text: func(s string) string {
			return strings.NewReplacer("Suite: ember\n", "", "Codename: ember\n", "").Replace(s)
		}}, nil, ErrSuite, ""},
		{"dated in the future", testarchive.Suite{Date: now.Add(day), SignedAt: now}, nil, ErrDate, "clock"},
		{"without a date", text("Date:", "X-Date:"), nil, ErrDate, ""},
		{"older than seen before", testarchive.Suite{}, func(r *Request) { r.LastSeen = now.Unix() }, ErrRollback, "behind"},
		{"expired", testarchive.Suite{Date: now.Add(-9 * day), ValidUntil: now.Add(-2 * day)}, nil, ErrExpired, "exception"},
		{"expired, and so is the exception", testarchive.Suite{ValidUntil: now.Add(-day)}, func(r *Request) {
			r.Archive.Expired = &kiln.Exception{Owner: "me", Reason: "snapshot", Expires: now.Add(-3 * day).Format(time.DateOnly)}
		}, ErrExpired, "exception"},
		{"expired, and the exception has no owner", testarchive.Suite{ValidUntil: now.Add(-day)}, func(r *Request) {
			r.Archive.Expired = &kiln.Exception{Reason: "snapshot", Expires: now.Add(3 * day).Format(time.DateOnly)}
		}, ErrExpired, ""},
		{"without SHA256", text("SHA256:", "SHA1:"), nil, ErrNoHashes, "publish"},
		{"with a bad keyring", testarchive.Suite{}, func(r *Request) { r.Keyring = []byte("no keyring") }, nil, ""},
		{"with a short key id as fingerprint", testarchive.Suite{}, func(r *Request) { r.Archive.Fingerprints = []string{"DEADBEEF"} }, nil, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.suite.Name = "ember"
			a := testarchive.New(t, c.suite)
			r := request(a, "ember")
			r.Archive.URI = "https://user:secret@archive.example.com/x?token=secret"
			if c.with != nil {
				c.with(&r)
			}
			rel, _, err := InRelease(a.InRelease("ember"), r)
			if err == nil || rel != nil || c.err != nil && !errors.Is(err, c.err) {
				t.Fatalf("release %v, error %v, want %v", rel != nil, err, c.err)
			}
			if text := err.Error(); !strings.Contains(text, "ember from https://archive.example.com/x") || strings.Contains(text, "secret") || !strings.Contains(text, c.hint) {
				t.Errorf("error %q, want hint %q", text, c.hint)
			}
			var refusal *Refusal
			if !errors.As(err, &refusal) {
				t.Errorf("error is %T", err)
			}
		})
	}
}

func TestInReleaseIsAccepted(t *testing.T) {
	second := pgptest.NewKey(pgptest.KeySpec{})
	excepted := &kiln.Exception{Owner: "me", Reason: "a snapshot", Expires: now.Add(day).Format(time.DateOnly)}
	cases := []struct {
		name  string
		suite testarchive.Suite
		ask   string
		with  func(*Request)
		check string
	}{
		{"by its codename", testarchive.Suite{Suite: "stable"}, "ember", nil, `codename "ember"`},
		{"by its suite", testarchive.Suite{Suite: "stable"}, "stable", nil, `suite "stable"`},
		{"with any key of the keyring where none is expected", testarchive.Suite{}, "ember", func(r *Request) { r.Archive.Fingerprints = nil }, "good signature"},
		{"as new as seen before", testarchive.Suite{Date: now.Add(-day)}, "ember", func(r *Request) { r.LastSeen = now.Add(-day).Unix() }, "not older than"},
		{"before Valid-Until", testarchive.Suite{ValidUntil: now.Add(day)}, "ember", nil, "valid until"},
		{"after Valid-Until with an exception", testarchive.Suite{Date: now.Add(-3 * day), ValidUntil: now.Add(-day)}, "ember", func(r *Request) { r.Archive.Expired = excepted }, "excepted until"},
		{"with a little clock skew", testarchive.Suite{Date: now.Add(2 * time.Minute)}, "ember", nil, "not in the future"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.suite.Name = "ember"
			a := testarchive.New(t, c.suite)
			r := request(a, c.ask)
			if c.with != nil {
				c.with(&r)
			}
			rel, e, err := InRelease(a.InRelease("ember"), r)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Validate(); err != nil {
				t.Error(err)
			}
			if !strings.Contains(strings.Join(e.Checks, "\n"), c.check) {
				t.Errorf("checks %q lack %q", e.Checks, c.check)
			}
			if e.Archive != "example/"+c.ask || e.Signers[0] != a.Key.Fingerprint() || e.SignedAt != rel.Date.Unix() || e.Subject.Digest != kiln.DigestBytes(a.InRelease("ember")) {
				t.Errorf("evidence %+v", e)
			}
			if (e.Exception != nil) != strings.Contains(c.name, "exception") {
				t.Errorf("exception %v", e.Exception)
			}
		})
	}
	t.Run("one unknown signature beside a good one", func(t *testing.T) {
		a := testarchive.New(t)
		a.Publish(testarchive.Suite{Name: "ember", Signers: []*pgptest.Key{second, a.Key}})
		_, e, err := InRelease(a.InRelease("ember"), request(a, "ember"))
		if err != nil || !slices.Equal(e.Signers, []string{a.Key.Fingerprint()}) {
			t.Errorf("signers %v, %v", e.Signers, err)
		}
	})
}

// locked is an archive, the lock of everything in it, and a cache that holds all of it.
type locked struct {
	archive *testarchive.Archive
	lock    *kiln.Lock
	cache   *dir.Store
}

func newLocked(t *testing.T, s testarchive.Suite) *locked {
	t.Helper()
	s.Name = "ember"
	s.Packages = map[string][]testarchive.Package{"main": {{Name: "alpha"}, {Name: "beta", Arch: "all", Version: "1:2.0-1"}}}
	a := testarchive.New(t, s)
	cache, err := dir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l := &locked{a, &kiln.Lock{Header: kiln.NewHeader("Lock"), Name: "x", Recipe: kiln.DigestBytes(nil), Platform: "linux/amd64"}, cache}
	raw := a.InRelease("ember")
	m, err := pgp.Split(raw)
	if err != nil {
		t.Fatal(err)
	}
	rel, err := deb.ParseRelease(m.Text)
	if err != nil {
		t.Fatal(err)
	}
	keyring, _ := os.ReadFile(a.Keyring)
	const index = "main/binary-amd64/Packages.xz"
	locked := kiln.LockedArchive{
		ID: "example/ember", URI: a.URI, Suite: "ember", Codename: rel.Codename, Components: []string{"main"},
		InRelease: l.put(t, raw), InReleaseSize: int64(len(raw)), Date: rel.Date.Unix(), SignedBy: []string{a.Key.Fingerprint()}, Keyring: l.put(t, keyring),
	}
	if !rel.ValidUntil.IsZero() {
		locked.ValidUntil = rel.ValidUntil.Unix()
	}
	l.lock.Epoch = locked.Date
	sum := rel.SHA256[index]
	locked.Indexes = []kiln.LockedIndex{{Path: index, Component: "main", Digest: l.put(t, a.Read("dists/ember/"+index)), Size: sum.Size}}
	l.lock.Archives = []kiln.LockedArchive{locked}
	err = deb.ParsePackages(bytes.NewReader(a.Read("dists/ember/main/binary-amd64/Packages")), func(p *deb.Package) error {
		l.put(t, a.Read(p.Filename))
		l.lock.Packages = append(l.lock.Packages, kiln.LockedPackage{
			Name: p.Name, Version: p.Version, Architecture: p.Architecture, Archive: locked.ID, Component: "main",
			Path: p.Filename, Size: p.Size, Digest: p.SHA256, Source: p.Source, SourceVersion: p.SourceVersion, Why: "requested",
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *locked) put(t *testing.T, b []byte) kiln.Digest {
	t.Helper()
	d, _, err := l.cache.Put(bytes.NewReader(b), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (l *locked) verify(t *testing.T, now time.Time) ([]kiln.Evidence, error) {
	t.Helper()
	return Lock(t.Context(), l.lock, func(d kiln.Digest) (io.ReadCloser, error) { return l.cache.Open(d) }, now)
}

func TestALockIsProvenFromTheCache(t *testing.T) {
	l := newLocked(t, testarchive.Suite{ValidUntil: now.Add(7 * day)})
	// A month later the suite's Valid-Until has passed; the lock still pins the same content.
	for _, at := range []time.Time{now, now.Add(30 * day)} {
		evidence, err := l.verify(t, at)
		if err != nil {
			t.Fatal(err)
		}
		if len(evidence) != 3 {
			t.Fatalf("%d pieces of evidence", len(evidence))
		}
		for _, e := range evidence {
			if err := e.Validate(); err != nil || e.Archive != "example/ember" || len(e.Signers) != 1 || e.SignedAt == 0 {
				t.Errorf("%+v: %v", e, err)
			}
		}
		if p := evidence[1]; p.Subject.Name != "apt:example/alpha@1.0" || p.Subject.Digest != l.lock.Packages[0].Digest {
			t.Errorf("subject %+v", p.Subject)
		}
	}
	l.lock.Image = &kiln.LockedImage{Reference: "registry.example.com/base", Digest: kiln.DigestBytes([]byte("base")), Size: 4}
	if evidence, err := l.verify(t, now); err != nil || evidence[3].Type != PinType || len(evidence[3].Signers) != 0 {
		t.Errorf("base image: %v", err)
	}
	l.lock.Image.Created = 1_700_000_000
	l.lock.Archives, l.lock.Packages, l.lock.Epoch = nil, nil, l.lock.Image.Created
	if _, err := l.verify(t, now); err != nil {
		t.Errorf("a base image alone: %v", err)
	}
	l.lock.Epoch++
	if _, err := l.verify(t, now); err == nil || !strings.Contains(err.Error(), "the date of its base image is") {
		t.Errorf("a date that is not the base image's: %v", err)
	}
}

func TestALockThatCannotBeProven(t *testing.T) {
	spoil := func(l *locked, d kiln.Digest) {
		os.Chmod(l.cache.Path(d), 0o644)
		b, _ := os.ReadFile(l.cache.Path(d))
		b[len(b)/2] ^= 1
		os.WriteFile(l.cache.Path(d), b, 0o644)
	}
	cases := []struct {
		name string
		do   func(t *testing.T, l *locked)
		want string
	}{
		{"a package is missing", func(_ *testing.T, l *locked) { l.cache.Remove(l.lock.Packages[1].Digest) }, "missing: beta 1:2.0-1 (pool/main/beta/"},
		{"a package's bytes changed", func(_ *testing.T, l *locked) { spoil(l, l.lock.Packages[0].Digest) }, "fails: alpha 1.0"},
		{"an index is missing", func(_ *testing.T, l *locked) { l.cache.Remove(l.lock.Archives[0].Indexes[0].Digest) }, "missing: main/binary-amd64/Packages.xz of example/ember"},
		{"an index's bytes changed", func(_ *testing.T, l *locked) { spoil(l, l.lock.Archives[0].Indexes[0].Digest) }, "fails: main/binary-amd64/Packages.xz"},
		{"the InRelease is missing", func(_ *testing.T, l *locked) { l.cache.Remove(l.lock.Archives[0].InRelease) }, "missing: InRelease of example/ember"},
		{"the InRelease's bytes changed", func(_ *testing.T, l *locked) { spoil(l, l.lock.Archives[0].InRelease) }, "fails: InRelease of example/ember"},
		{"the keyring is missing", func(_ *testing.T, l *locked) { l.cache.Remove(l.lock.Archives[0].Keyring) }, "missing: keyring of example/ember"},
		{"the keyring is another", func(t *testing.T, l *locked) {
			l.lock.Archives[0].Keyring = l.put(t, pgptest.NewKey(pgptest.KeySpec{}).Public())
		}, "no such key"},
		{"a package was put into the lock", func(t *testing.T, l *locked) {
			p := l.lock.Packages[0]
			p.Name = "evil"
			l.lock.Packages = append(l.lock.Packages, p)
		}, "fails: evil 1.0: no signed index"},
		{"a package's digest was changed in the lock", func(t *testing.T, l *locked) { l.lock.Packages[0].Digest = l.put(t, []byte("evil")) }, "the signed index lists it with sha256:"},
		{"a package's path was changed in the lock", func(_ *testing.T, l *locked) { l.lock.Packages[0].Path = "pool/evil.deb" }, `the lock at "pool/evil.deb"`},
		{"an index was changed in the lock", func(t *testing.T, l *locked) {
			l.lock.Archives[0].Indexes[0].Digest = l.put(t, []byte("Package: evil\n"))
		}, "the lock says sha256:"},
		{"the date was changed in the lock", func(_ *testing.T, l *locked) { l.lock.Archives[0].Date++ }, "the lock says date"},
		{"the suite was changed in the lock", func(_ *testing.T, l *locked) { l.lock.Archives[0].Suite = "ash" }, "another suite"},
		{"its date was changed to a later one", func(_ *testing.T, l *locked) { l.lock.Epoch += 3600 }, "the newest signed date of its archives is"},
		{"its date was changed to an earlier one", func(_ *testing.T, l *locked) { l.lock.Epoch-- }, "the newest signed date of its archives is"},
		{"it had expired when it was made", func(_ *testing.T, l *locked) { l.lock.Epoch = now.Add(8 * day).Unix() }, "it has expired"},
		{"a signer was put into the lock", func(_ *testing.T, l *locked) {
			l.lock.Archives[0].SignedBy = append(l.lock.Archives[0].SignedBy, strings.Repeat("A", 40))
		}, "the lock says that AAAA"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := newLocked(t, testarchive.Suite{ValidUntil: now.Add(7 * day)})
			c.do(t, l)
			evidence, err := l.verify(t, now)
			var failed *LockError
			if evidence != nil || !errors.As(err, &failed) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// The recipe's fingerprints hold for a lock that names another signer, whose keyring it brings along.
func TestARecipesFingerprintsHoldForALock(t *testing.T) {
	l := newLocked(t, testarchive.Suite{})
	for pin, want := range map[string]string{"": "", l.archive.Key.Fingerprint(): "", strings.Repeat("B", 40): "not one of the expected fingerprints"} {
		var pins []string
		if pin != "" {
			pins = []string{pin}
		}
		_, err := LockWith(t.Context(), l.lock, Options{
			Open: func(d kiln.Digest) (io.ReadCloser, error) { return l.cache.Open(d) }, Now: now,
			Pinned: func(*kiln.LockedArchive) []string { return pins },
		})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("pinned to %q: %v", pin, err)
		}
	}
}

// A lock with several faults names each.
func TestEveryFaultOfALockIsListed(t *testing.T) {
	l := newLocked(t, testarchive.Suite{})
	l.cache.Remove(l.lock.Packages[0].Digest)
	l.cache.Remove(l.lock.Packages[1].Digest)
	_, err := l.verify(t, now)
	var failed *LockError
	if !errors.As(err, &failed) || len(failed.Problems) != 2 || !strings.Contains(err.Error(), "kiln lock export") {
		t.Errorf("error %v", err)
	}
}

// The unpacked index is kept under its signed digest, used the next time, and made anew where it is spoiled.
func TestUnpackedIndexesAreKept(t *testing.T) {
	l := newLocked(t, testarchive.Suite{})
	plain := kiln.DigestBytes(l.archive.Read("dists/ember/main/binary-amd64/Packages"))
	kept := 0
	o := Options{
		Open: func(d kiln.Digest) (io.ReadCloser, error) { return l.cache.Open(d) }, Now: now,
		Keep: func(r io.Reader, want kiln.Digest, max int64) error {
			kept++
			l.cache.Remove(want)
			_, _, err := l.cache.Put(r, want, max)
			return err
		},
	}
	for i, want := range []int{1, 1, 2} {
		if i == 2 {
			os.Chmod(l.cache.Path(plain), 0o644)
			os.WriteFile(l.cache.Path(plain), []byte("Package: evil\n"), 0o644)
		}
		evidence, err := LockWith(t.Context(), l.lock, o)
		if err != nil || len(evidence) != 3 || kept != want {
			t.Errorf("run %d: %d pieces of evidence, kept %d times, want %d: %v", i, len(evidence), kept, want, err)
		}
	}
	if err := l.cache.Verify(plain); err != nil {
		t.Error(err)
	}
}

func TestEachNamedSeesWhatAParserSees(t *testing.T) {
	names := map[string]bool{"aa": true, "bb": true}
	for text, want := range map[string]bool{
		"Package: aa\nVersion: 1\n\nPackage: bb\nVersion: 1\n":  true,
		"\n\nPackage: aa\nVersion: 1\n\n\n\nPackage: cc\n":      true,
		"Version: 1\nPackage: aa\n":                             false,
		"Package: cc\nVersion: 1\n\nVersion: 1\nPackage: aa\n":  false,
		"Package: aa\nVersion: 1\n \nPackage: bb\nVersion: 1\n": false,
	} {
		usual, err := eachNamed([]byte(text), names, func(*deb.Package) error { return nil })
		if usual != want || err != nil {
			t.Errorf("%q: usual %v, want %v (%v)", text, usual, want, err)
		}
	}
}
