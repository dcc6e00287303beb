package resolve

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"kiln"
	"kiln/internal/deb"
)

// testOptions fetches by http and file, keeps blobs in a directory, and
// verifies the signature of InRelease; the full rules of apt have their own station and tests.
func testOptions(t *testing.T) Options {
	t.Helper()
	o := optionsIn(t.TempDir(), t.TempDir())
	o.Report = func(e kiln.Event) { t.Log(e.Message) }
	return o
}

func optionsIn(blobs, cache string) Options {
	put := func(data []byte) (kiln.Digest, error) {
		d := kiln.DigestBytes(data)
		return d, os.WriteFile(filepath.Join(blobs, d.Hex()), data, 0o644)
	}
	return Options{
		Get: fetchURL,
		Blob: func(ctx context.Context, url string, want kiln.Digest, size int64) (string, error) {
			name := filepath.Join(blobs, want.Hex())
			if _, err := os.Stat(name); err == nil {
				return name, nil
			}
			data, err := fetchURL(ctx, url, size)
			if err != nil {
				return "", err
			}
			if d := kiln.DigestBytes(data); d != want {
				return "", fmt.Errorf("%s has digest %s, not %s", url, d, want)
			}
			_, err = put(data)
			return name, err
		},
		Put:      put,
		Verify:   verifySignature,
		Platform: "linux/amd64",
		CacheDir: cache,
	}
}

func fetchURL(ctx context.Context, from string, max int64) ([]byte, error) {
	u, err := url.Parse(from)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "file" {
		return os.ReadFile(u.Path)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, max+1))
}

func verifySignature(raw []byte, a kiln.AptArchive, suite string, keyring []byte) (*deb.Release, kiln.Evidence, error) {
	var keys openpgp.EntityList
	var err error
	if isArmor(string(keyring)) {
		keys, err = openpgp.ReadArmoredKeyRing(bytes.NewReader(keyring))
	} else {
		keys, err = openpgp.ReadKeyRing(bytes.NewReader(keyring))
	}
	if err != nil {
		return nil, kiln.Evidence{}, fmt.Errorf("reading the keyring: %w", err)
	}
	block, _ := clearsign.Decode(raw)
	if block == nil {
		return nil, kiln.Evidence{}, errors.New("is not clearsigned")
	}
	signer, err := block.VerifySignature(keys, nil)
	if err != nil {
		return nil, kiln.Evidence{}, err
	}
	release, err := deb.ParseRelease(block.Plaintext)
	if err != nil {
		return nil, kiln.Evidence{}, err
	}
	return release, kiln.Evidence{
		Header: kiln.NewHeader("Evidence"), Type: "openpgp-apt", Checks: []string{"signature"},
		Subject: kiln.Subject{Name: suite, Digest: kiln.DigestBytes(raw)},
		Signers: []string{fmt.Sprintf("%X", signer.PrimaryKey.Fingerprint)},
	}, nil
}

// testArchive writes a signed archive below a directory and returns it as a source.
type testArchive struct {
	t       *testing.T
	dir     string
	key     *openpgp.Entity
	keyring string
}

func newTestArchive(t *testing.T) *testArchive {
	t.Helper()
	key, err := openpgp.NewEntity("Test Archive", "", "archive@example.com", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	a := &testArchive{t: t, dir: t.TempDir(), key: key}
	a.keyring = filepath.Join(a.dir, "archive.gpg")
	f, err := os.Create(a.keyring)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := key.Serialize(f); err != nil {
		t.Fatal(err)
	}
	return a
}

// suite publishes stanzas ("Package: x\nVersion: 1\n..." separated by empty
// lines; what every stanza needs is added) with extra lines in its Release.
func (a *testArchive) suite(name, stanzas, extra string) {
	a.t.Helper()
	var packages strings.Builder
	for s := range strings.SplitSeq(strings.TrimSpace(stanzas), "\n\n") {
		if s == "" {
			continue
		}
		field := func(key string) string {
			_, rest, _ := strings.Cut("\n"+s, "\n"+key+": ")
			v, _, _ := strings.Cut(rest, "\n")
			return v
		}
		if field("Architecture") == "" {
			s += "\nArchitecture: amd64"
		}
		sum := sha256.Sum256([]byte(s))
		fmt.Fprintf(&packages, "%s\nFilename: pool/%s_%s.deb\nSize: 7\nSHA256: %x\n\n", s, field("Package"), strings.ReplaceAll(field("Version"), ":", "%3a"), sum)
	}
	dists := filepath.Join(a.dir, "dists", name)
	a.write(filepath.Join(dists, "main/binary-amd64/Packages"), []byte(packages.String()))
	release := fmt.Sprintf("Origin: Debian\nLabel: Test\nSuite: %s\nCodename: %s\nVersion: 12.1\nDate: Sat, 11 Jul 2026 10:16:37 UTC\nArchitectures: amd64\nComponents: main\n%sSHA256:\n %s %d main/binary-amd64/Packages\n",
		name, name, extra, kiln.DigestBytes([]byte(packages.String())).Hex(), packages.Len())
	var signed bytes.Buffer
	w, err := clearsign.Encode(&signed, a.key.PrivateKey, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	if _, err := io.WriteString(w, release); err != nil {
		a.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		a.t.Fatal(err)
	}
	a.write(filepath.Join(dists, "InRelease"), signed.Bytes())
}

func (a *testArchive) write(name string, data []byte) {
	a.t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		a.t.Fatal(err)
	}
}

func (a *testArchive) base(suites ...string) kiln.Base {
	return kiln.Base{Apt: &kiln.AptBase{Release: suites[0], Archives: []kiln.AptArchive{
		{URI: "file://" + a.dir, Suites: suites, Components: []string{"main"}, Keyring: a.keyring},
	}}}
}

func recipeOn(base kiln.Base, names ...string) *kiln.Recipe {
	r := &kiln.Recipe{Header: kiln.NewHeader("Recipe"), Name: "test", Base: base}
	for _, n := range names {
		name, version, _ := strings.Cut(n, "=")
		name, suite, _ := strings.Cut(name, "/")
		r.Packages = append(r.Packages, kiln.PackageRequest{Name: name, Version: version, Suite: suite})
	}
	return r
}
