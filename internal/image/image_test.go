package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
	"kiln/internal/atomicfile"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refuses(t *testing.T, what, want string, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v; want an error with %q", what, err, want)
	}
}

// entry is one member of a layer: "d path", "f path content", "l path target", "h path target", "c path".
func layer(t *testing.T, entries ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		kind, rest, _ := strings.Cut(e, " ")
		name, arg, _ := strings.Cut(rest, " ")
		h := &tar.Header{Name: name, Mode: 0o644, Uid: os.Geteuid(), Gid: os.Getegid(), Format: tar.FormatPAX}
		switch kind {
		case "d":
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		case "f":
			h.Typeflag, h.Size = tar.TypeReg, int64(len(arg))
		case "l":
			h.Typeflag, h.Linkname = tar.TypeSymlink, arg
		case "h":
			h.Typeflag, h.Linkname = tar.TypeLink, arg
		case "c":
			h.Typeflag, h.Devmajor = tar.TypeChar, 1
		}
		must(t, w.WriteHeader(h))
		if kind == "f" {
			_, err := w.Write([]byte(arg))
			must(t, err)
		}
	}
	must(t, w.Close())
	return b.Bytes()
}

func compressed(t *testing.T, how string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch how {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zstd":
		z, err := zstd.NewWriter(&b)
		must(t, err)
		w = z
	default:
		return data
	}
	_, err := w.Write(data)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

// madeAt is when the images of these tests say that they were made.
const madeAt = 1_700_000_000

// build stores an image of those tar layers, the i-th compressed as how[i%len(how)] says, in an index tagged "latest".
func build(t *testing.T, l *Layout, how []string, tars ...[]byte) (index, manifest ocispec.Descriptor) {
	t.Helper()
	platform := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	made := time.Unix(madeAt, 0).UTC()
	config := ocispec.Image{Created: &made, Platform: platform, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for i, data := range tars {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.Digest(kiln.DigestBytes(data)))
		d, err := l.PutBytes(ocispec.MediaTypeImageLayerGzip, compressed(t, how[i%len(how)], data))
		must(t, err)
		m.Layers = append(m.Layers, d)
	}
	var err error
	m.Config, err = l.PutJSON(ocispec.MediaTypeImageConfig, config)
	must(t, err)
	manifest, err = l.PutJSON(ocispec.MediaTypeImageManifest, m)
	must(t, err)
	manifest.Platform = &platform
	index, err = l.PutJSON(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{manifest},
	})
	must(t, err)
	must(t, l.Tag("latest", index))
	return index, manifest
}

func newLayout(t *testing.T) *Layout {
	t.Helper()
	l, err := CreateLayout(filepath.Join(t.TempDir(), "oci"))
	must(t, err)
	return l
}

func simple(t *testing.T) (*Layout, ocispec.Descriptor, ocispec.Descriptor) {
	t.Helper()
	l := newLayout(t)
	index, manifest := build(t, l, []string{"gzip"}, layer(t, "d etc", "f etc/passwd root"), layer(t, "f app x"))
	return l, index, manifest
}

func TestALayoutRefusesDamageAndHalfBlobs(t *testing.T) {
	l, index, manifest := simple(t)
	m, err := l.Manifest(manifest)
	must(t, err)
	must(t, l.Verify(index))
	path := l.BlobPath(kiln.Digest(m.Layers[0].Digest))
	data, err := os.ReadFile(path)
	must(t, err)
	data[len(data)/2] ^= 1
	must(t, os.WriteFile(path, data, 0o644))
	refuses(t, "damaged layer", "damaged", l.Verify(index))

	_, _, err = l.WriteBlob(strings.NewReader("abc"), kiln.DigestBytes([]byte("abd")), 0)
	refuses(t, "wrong digest", "expected sha256:", err)
	_, _, err = l.WriteBlob(strings.NewReader("abc"), "", 2)
	refuses(t, "too long", "more than the 2 bytes", err)
	for _, dir := range []string{"blobs", "blobs/sha256"} {
		names, err := filepath.Glob(filepath.Join(l.Dir(), dir, ".part-*"))
		if err != nil || len(names) > 0 {
			t.Errorf("left behind: %v %v", names, err)
		}
	}
}

func TestADirectoryWithOtherThingsIsNoLayout(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o644))
	_, err := CreateLayout(dir)
	refuses(t, "foreign directory", "choose another directory", err)
	_, err = OpenLayout(dir)
	refuses(t, "no layout", "oci-layout", err)
}

func TestManyWritersLoseNoEntry(t *testing.T) {
	l := newLayout(t)
	index, _ := build(t, l, []string{""}, layer(t, "f a x"))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			other, err := OpenLayout(l.Dir())
			if err != nil {
				t.Error(err)
				return
			}
			blob, err := other.PutBytes("text/plain", fmt.Appendf(nil, "report %d", i))
			if err == nil {
				_, err = other.AddReferrer(index, blob, "text/plain", nil)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, err := l.Referrers(kiln.Digest(index.Digest))
	if err != nil || len(got) != 20 {
		t.Errorf("%d referrers (%v), want 20", len(got), err)
	}
}

func TestTagMovesAndFindNamesWhatThereIs(t *testing.T) {
	l := newLayout(t)
	one, _ := build(t, l, []string{""}, layer(t, "f a 1"))
	two, _ := build(t, l, []string{""}, layer(t, "f a 2"))
	must(t, l.Tag("old", one))
	got, err := l.Find("latest")
	must(t, err)
	if got.Digest != two.Digest {
		t.Errorf("latest is %s, want %s", got.Digest, two.Digest)
	}
	_, err = l.Find("other")
	refuses(t, "unknown name", `"latest"`, err)
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("%v is not ErrNotFound", err)
	}
	_, err = l.Find("")
	refuses(t, "ambiguous", "name one of", err)
}

func TestSweepKeepsWhatIsNamed(t *testing.T) {
	l := newLayout(t)
	build(t, l, []string{""}, layer(t, "f a 1"))
	index, _ := build(t, l, []string{""}, layer(t, "f a 2"))
	blob, err := l.PutBytes("text/plain", []byte("report"))
	must(t, err)
	_, err = l.AddReferrer(index, blob, "text/plain", nil)
	must(t, err)
	freed, err := l.Sweep()
	must(t, err)
	if freed == 0 {
		t.Error("the image without a name was kept")
	}
	must(t, l.Verify(index))
}

func TestPushAndFetchThroughARegistry(t *testing.T) {
	for _, api := range []bool{true, false} {
		t.Run(fmt.Sprintf("referrersAPI=%v", api), func(t *testing.T) {
			server := httptest.NewServer(registry.New(registry.WithReferrersSupport(api), registry.Logger(discard())))
			defer server.Close()
			ref := strings.TrimPrefix(server.URL, "http://") + "/base/app:1"
			l, index, manifest := simple(t)
			for _, subject := range []ocispec.Descriptor{index, manifest} {
				blob, err := l.PutBytes("text/plain", []byte("report on "+subject.Digest))
				must(t, err)
				_, err = l.AddReferrer(subject, blob, "text/plain", map[string]string{"a": "b"})
				must(t, err)
			}
			got, err := Push(t.Context(), l, index, ref, false)
			must(t, err)
			if string(got) != string(index.Digest) {
				t.Errorf("pushed %s, want %s", got, index.Digest)
			}
			_, err = Push(t.Context(), l, index, ref, false) // again changes nothing
			must(t, err)
			for _, subject := range []ocispec.Descriptor{index, manifest} {
				if n := remoteReferrers(t, ref, string(subject.Digest)); n != 1 {
					t.Errorf("%d referrers of %s in the registry, want 1", n, subject.MediaType)
				}
			}
			fetched(t, kiln.Base{OCI: ref}, manifest)
		})
	}
}

// fetched resolves and fetches a base into a new layout and unpacks it.
func fetched(t *testing.T, base kiln.Base, manifest ocispec.Descriptor) {
	t.Helper()
	locked, err := Resolve(t.Context(), base, "linux/amd64")
	must(t, err)
	if manifest.Digest != "" && string(locked.Digest) != string(manifest.Digest) {
		t.Errorf("locked to %s, want %s", locked.Digest, manifest.Digest)
	}
	if locked.Created != madeAt {
		t.Errorf("the lock dates the image to %d, want %d", locked.Created, madeAt)
	}
	into := newLayout(t)
	desc, err := Fetch(t.Context(), base, locked, into)
	must(t, err)
	_, err = Fetch(t.Context(), base, locked, into)
	must(t, err)
	dir := t.TempDir()
	out, err := Unpack(t.Context(), into, desc, dir, Limits{})
	must(t, err)
	if out.Created != madeAt {
		t.Errorf("unpacked, the image dates itself to %d, want %d", out.Created, madeAt)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "etc/passwd")); err != nil || string(data) != "root" {
		t.Errorf("unpacked etc/passwd %q, %v", data, err)
	}
	_, err = Resolve(t.Context(), base, "linux/s390x")
	refuses(t, "other platform", "linux", err)
}

func TestLayoutAndArchiveBasesLockToADigest(t *testing.T) {
	l, _, manifest := simple(t)
	fetched(t, kiln.Base{Layout: l.Dir() + ":latest"}, manifest)
	fetched(t, kiln.Base{Layout: l.Dir() + "@" + string(manifest.Digest)}, manifest)
	file := filepath.Join(t.TempDir(), "image.tar")
	must(t, atomicfile.Fill(file, 0o644, func(w io.Writer) error { return l.WriteArchive(w, manifest, "localhost/base/app:1") }))
	fetched(t, kiln.Base{Archive: file}, ocispec.Descriptor{})
}

func TestDatesThatCannotBeCountAsNone(t *testing.T) {
	for config, want := range map[string]int64{
		`{"created":"2023-11-14T22:13:20Z"}`:      madeAt,
		`{"created":"2023-11-14T23:13:20+01:00"}`: madeAt,
		`{}`:                                 0,
		`{"created":null}`:                   0,
		`{"created":"0001-01-01T00:00:00Z"}`: 0,
		`{"created":"9999-01-01T00:00:00Z"}`: 0,
		`{"created":"yesterday"}`:            0,
		`{"created":5}`:                      0,
	} {
		if got := created([]byte(config)); got != want {
			t.Errorf("%s: %d, want %d", config, got, want)
		}
	}
}

func TestHealthchecksOfDockerAreRead(t *testing.T) {
	for config, want := range map[string]*kiln.Healthcheck{
		`{"config":{"Healthcheck":{"Test":["CMD","/bin/check","-q"],"Interval":30000000000,"Timeout":1000000000,"Retries":2}}}`: {
			Command: []string{"/bin/check", "-q"}, Interval: kiln.Duration(30 * time.Second), Timeout: kiln.Duration(time.Second), Retries: 2,
		},
		`{"config":{"Healthcheck":{"Test":["CMD-SHELL","curl -f localhost || exit 1"],"Interval":-1,"Retries":-1}}}`: {
			Command: []string{"/bin/sh", "-c", "curl -f localhost || exit 1"},
		},
		`{"config":{"Healthcheck":{"Test":["NONE"]}}}`: nil,
		`{"config":{"Healthcheck":{"Test":["CMD"]}}}`:  nil,
		`{"config":{"Healthcheck":"yes"}}`:             nil,
		`{"config":{}}`:                                nil,
	} {
		if got := healthcheck([]byte(config)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", config, got, want)
		}
	}
}

func TestAnArchiveThatChangedAfterLockingIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "image.tar")
	write := func(content string) {
		l := newLayout(t)
		_, manifest := build(t, l, []string{"gzip"}, layer(t, "f a "+content))
		must(t, atomicfile.Fill(file, 0o644, func(w io.Writer) error { return l.WriteArchive(w, manifest, "localhost/a:1") }))
	}
	write("1")
	base := kiln.Base{Archive: file}
	locked, err := Resolve(t.Context(), base, "linux/amd64")
	must(t, err)
	write("2")
	_, err = Fetch(t.Context(), base, locked, newLayout(t))
	refuses(t, "changed archive", "changed since it was locked", err)
	must(t, os.WriteFile(file, compressed(t, "gzip", []byte("x")), 0o644))
	_, err = Resolve(t.Context(), base, "linux/amd64")
	refuses(t, "no archive", "no tar archive", err)
}

func TestReferencesMustNameTheirRegistryAndUseTLS(t *testing.T) {
	refuses(t, "short name", "names no registry", CheckReference("nginx"))
	refuses(t, "hub name", "names no registry", CheckReference("library/nginx:1"))
	_, err := Resolve(t.Context(), kiln.Base{OCI: "10.0.0.1:1/x:1"}, "linux/amd64")
	refuses(t, "plain http", "", err)
	g := guard{next: nil}
	for _, url := range []string{"http://10.0.0.1/v2/", "http://registry.local/v2/", "http://registry.example.com/v2/"} {
		_, err := g.RoundTrip(httptest.NewRequest("GET", url, nil))
		refuses(t, url, "refusing plain http", err)
	}
}

func TestManifestsAreReadStrictly(t *testing.T) {
	d := `{"mediaType":"x","digest":"sha256:` + strings.Repeat("a", 64) + `","size":1}`
	for name, text := range map[string]string{
		"schema 1":      `{"schemaVersion":1,"fsLayers":[]}`,
		"both":          `{"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[` + d + `],"layers":[` + d + `]}`,
		"bad digest":    `{"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"digest":"sha256:../../x","size":1},"layers":[]}`,
		"negative size": `{"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":` + strings.Replace(d, `"size":1`, `"size":-1`, 1) + `}`,
		"other type":    `{"mediaType":"text/html"}`,
		"no JSON":       `<html>`,
	} {
		if _, err := parseManifest([]byte(text)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	var many struct {
		MediaType string               `json:"mediaType"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	many.MediaType, many.Manifests = ocispec.MediaTypeImageIndex, make([]ocispec.Descriptor, maxManifests+1)
	data, err := json.Marshal(many)
	must(t, err)
	_, err = parseManifest(data)
	refuses(t, "too many manifests", "too many", err)
}
