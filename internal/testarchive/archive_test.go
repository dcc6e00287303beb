package testarchive

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kiln"
	"kiln/internal/blob/dir"
	"kiln/internal/fetch"
)

func hello() Package {
	return Package{
		Name: "hello", Control: "Depends: libx\n", Scripts: map[string]string{"postinst": "#!/bin/sh\nexit 0\n"},
		Data: []Member{Dir("usr"), Dir("usr/bin"), Exec("usr/bin/hello", "#!/bin/sh\necho hello\n"), Symlink("usr/bin/hi", "hello"), Hardlink("usr/bin/ho", "usr/bin/hello")},
	}
}

// dpkg-deb is the authority on what a .deb is.
func TestDpkgReadsWhatIsBuilt(t *testing.T) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("dpkg-deb is not installed")
	}
	for _, compression := range []string{"xz", "gz", "zst", "none"} {
		p := hello()
		p.Compression = compression
		path := filepath.Join(t.TempDir(), "hello.deb")
		write(path, p.Build())
		out, err := exec.Command("dpkg-deb", "--info", path).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Depends: libx") || !strings.Contains(string(out), "postinst") {
			t.Errorf("%s: %v\n%s", compression, err, out)
		}
		out, err = exec.Command("dpkg-deb", "--contents", path).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "./usr/bin/hi -> hello") {
			t.Errorf("%s: %v\n%s", compression, err, out)
		}
	}
}

func TestBombIsSmall(t *testing.T) {
	for _, compression := range []string{"gz", "zst"} {
		if n := len(Bomb("bomb", compression, 10<<30)); n > 20<<20 {
			t.Errorf("%s bomb has %d bytes", compression, n)
		}
	}
}

func TestServerFaults(t *testing.T) {
	a := New(t, Suite{Name: "ember", Packages: map[string][]Package{"main": {hello()}}})
	s := a.Serve(t)
	store, err := dir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	client := fetch.New(fetch.Config{Store: store, Attempts: 2, Backoff: 1})
	path := "pool/main/hello/hello_1.0_amd64.deb"
	deb := a.Read(path)
	get := func() error {
		return client.Blob(t.Context(), s.URL+"/"+path, kiln.DigestBytes(deb), int64(len(deb)))
	}
	for want, f := range map[error]Fault{
		fetch.ErrTruncated: {Truncate: true}, fetch.ErrDigest: {Wrong: true}, fetch.ErrSize: {Extra: true}, fetch.ErrNotFound: {Status: 404},
	} {
		s.Break(".deb", f)
		if err := get(); !errors.Is(err, want) {
			t.Errorf("%+v gives %v, want %v", f, err, want)
		}
	}
	s.Break(".deb", Fault{Truncate: true, Times: 1})
	if err := get(); err != nil || !store.Has(kiln.DigestBytes(deb)) {
		t.Errorf("after one fault: %v", err)
	}
	if in, err := client.Get(t.Context(), s.URL+"/dists/ember/InRelease", 1<<20); err != nil || !bytes.Equal(in, a.InRelease("ember")) {
		t.Errorf("InRelease: %v", err)
	}
	if r := s.Requests(); r[len(r)-1] != "/dists/ember/InRelease" {
		t.Errorf("requests %v", r)
	}
}
