package factory

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/internal/keys"
	"kiln/internal/testarchive"
)

func open(t *testing.T) *Factory {
	t.Helper()
	f, err := Open(Config{State: t.TempDir(), Passphrase: func() ([]byte, error) { return []byte("correct horse"), nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// stored puts a blob into the cache and returns its digest.
func stored(t *testing.T, f *Factory, content string) kiln.Digest {
	t.Helper()
	d, _, err := f.blobs.Put(strings.NewReader(content), "", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func locked(t *testing.T, f *Factory) *kiln.Lock {
	t.Helper()
	deb := stored(t, f, "package")
	return &kiln.Lock{
		Header: kiln.NewHeader("Lock"), Name: "web", Recipe: kiln.DigestBytes(nil), Platform: "linux/amd64", Epoch: 1,
		Archives: []kiln.LockedArchive{{
			ID: "debian/bookworm", URI: "http://127.0.0.1:9/debian", Suite: "bookworm", SignedBy: []string{"AB"}, Components: []string{"main"},
			InRelease: stored(t, f, "in release"), InReleaseSize: 10, Keyring: stored(t, f, "keyring"),
			Indexes: []kiln.LockedIndex{{Path: "main/binary-amd64/Packages.gz", Component: "main", Digest: stored(t, f, "index"), Size: 5}},
		}},
		Packages: []kiln.LockedPackage{{
			Name: "web", Version: "1", Architecture: "amd64", Archive: "debian/bookworm", Path: "pool/web.deb", Size: 7, Digest: deb, Why: "requested",
		}},
	}
}

func TestABundleCarriesALockToAnotherMachine(t *testing.T) {
	here, there := open(t), open(t)
	a := testarchive.New(t, testarchive.Suite{Name: "ember", Packages: map[string][]testarchive.Package{
		"main": {{Name: "ash", Control: "Essential: yes\n"}},
	}})
	lock, err := here.Lock(t.Context(), &kiln.Recipe{Header: kiln.NewHeader("Recipe"), Name: "web", Platform: "linux/amd64", Base: a.Base("ember")})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bundle.tar")
	if err := here.ExportLock(t.Context(), lock, path); err != nil {
		t.Fatal(err)
	}
	got, err := there.ImportLock(path)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := kiln.DigestOf(lock)
	if d, _ := kiln.DigestOf(got); d != want {
		t.Error("the lock changed on the way")
	}
	for _, d := range lockDigests(lock) {
		if !there.blobs.Has(d) {
			t.Errorf("%s did not arrive", d.Short())
		}
	}
}

func bundle(t *testing.T, members ...[2]string) string {
	t.Helper()
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	for _, m := range members {
		if err := writeMember(tw, m[0], int64(len(m[1])), strings.NewReader(m[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bundle.tar")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestABundleIsNotBelieved(t *testing.T) {
	lock := locked(t, open(t))
	text, err := kiln.Encode(lock)
	if err != nil {
		t.Fatal(err)
	}
	deb := lock.Packages[0].Digest
	for name, c := range map[string]struct {
		members [][2]string
		want    string
	}{
		"no lock":         {[][2]string{{"blobs/sha256/" + deb.Hex(), "package"}}, "not a bundle"},
		"other content":   {[][2]string{{"kiln.lock", string(text)}, {"blobs/sha256/" + deb.Hex(), "evil"}}, "content"},
		"not named":       {[][2]string{{"kiln.lock", string(text)}, {"blobs/sha256/" + kiln.DigestBytes([]byte("x")).Hex(), "x"}}, "nothing that the lock names"},
		"path":            {[][2]string{{"kiln.lock", string(text)}, {"../../etc/passwd", "x"}}, "nothing that the lock names"},
		"something lacks": {[][2]string{{"kiln.lock", string(text)}, {"blobs/sha256/" + deb.Hex(), "package"}}, "missing"},
		"broken lock":     {[][2]string{{"kiln.lock", `{"kind":"Lock"}`}}, "apiVersion"},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			_, err := f.ImportLock(bundle(t, c.members...))
			if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, kiln.ErrRefused) {
				t.Errorf("want a refusal about %q, got %v", c.want, err)
			}
		})
	}
}

func TestKeysAreCheckedBeforeTheWork(t *testing.T) {
	f := open(t)
	if err := f.checkKeys(); !errors.Is(err, kiln.ErrMisuse) {
		t.Errorf("without keys: %v", err)
	}
	if made, err := f.NewKeys(); err != nil || len(made) != len(keys.Roles()) {
		t.Fatalf("made %v, %v", made, err)
	}
	if err := f.checkKeys(); err != nil {
		t.Error(err)
	}
	f.pass, f.keys = []byte("wrong"), map[string]*keys.Key{}
	if err := f.checkKeys(); !errors.Is(err, keys.ErrPassphrase) || !errors.Is(err, kiln.ErrMisuse) {
		t.Errorf("with the wrong pass phrase: %v", err)
	}
}

func TestBuildsOfOneNameTakeTurns(t *testing.T) {
	f := open(t)
	said := make(chan string, 10)
	f.cfg.Report = func(e kiln.Event) { said <- e.Message }
	unlock, err := f.lock(t.Context(), "base/nginx")
	if err != nil {
		t.Fatal(err)
	}
	other, err := f.lock(t.Context(), "base/redis")
	if err != nil {
		t.Fatal("another name must not wait: ", err)
	}
	other()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := f.lock(short, "base/nginx"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the second of one name must wait, got %v", err)
	}
	if m := <-said; !strings.Contains(m, "waiting") {
		t.Errorf("waiting was not said: %q", m)
	}
	unlock()
	again, err := f.lock(t.Context(), "base/nginx")
	if err != nil {
		t.Fatal("after the first has ended: ", err)
	}
	again()
}

func TestFindSaysWhatToDoWhereThereIsNothing(t *testing.T) {
	_, err := open(t).Find(t.Context(), "nginx@edge")
	var hinted *kiln.Hinted
	if !errors.As(err, &hinted) || !errors.Is(err, kiln.ErrMisuse) {
		t.Errorf("got %v", err)
	}
}
