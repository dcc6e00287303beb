package harden_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/image"
	"kiln/internal/line/harden"
	"kiln/internal/testneeds"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tarOf makes a layer of names and contents in the order given; a name that ends in "*" is set-id.
func tarOf(t testing.TB, pairs ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := 0; i < len(pairs); i += 2 {
		name, mode := strings.TrimSuffix(pairs[i], "*"), int64(0o755)
		if name != pairs[i] {
			mode = 0o4755
		}
		check(t, w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(pairs[i+1])), Typeflag: tar.TypeReg}))
		_, err := w.Write([]byte(pairs[i+1]))
		check(t, err)
	}
	check(t, w.Close())
	return buf.Bytes()
}

// layout stores an image whose layers are in turn plain, gzip and zstd.
func layout(t testing.TB, config ocispec.Image, layers ...[]byte) (*image.Layout, ocispec.Descriptor) {
	t.Helper()
	l, err := image.CreateLayout(filepath.Join(t.TempDir(), "layout"))
	check(t, err)
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Annotations: map[string]string{ocispec.AnnotationBaseImageName: "registry.example.com/base:latest"}}
	m.SchemaVersion = 2
	for i, plain := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.Digest(kiln.DigestBytes(plain)))
		var packed bytes.Buffer
		switch i % 3 {
		case 0:
			packed.Write(plain)
		case 1:
			z := gzip.NewWriter(&packed)
			_, err = z.Write(plain)
			check(t, err)
			check(t, z.Close())
		case 2:
			z, err := zstd.NewWriter(&packed)
			check(t, err)
			_, err = z.Write(plain)
			check(t, err)
			check(t, z.Close())
		}
		d, err := l.PutBytes(ocispec.MediaTypeImageLayer, packed.Bytes())
		check(t, err)
		m.Layers = append(m.Layers, d)
	}
	raw, err := json.Marshal(config)
	check(t, err)
	m.Config, err = l.PutBytes(ocispec.MediaTypeImageConfig, raw)
	check(t, err)
	desc, err := l.PutJSON(ocispec.MediaTypeImageManifest, m)
	check(t, err)
	return l, desc
}

// audited unpacks an image and audits it with its layers.
func audited(t testing.TB, l *image.Layout, desc ocispec.Descriptor, ids ...string) map[string]kiln.Outcome {
	t.Helper()
	dir := t.TempDir()
	out, err := image.Unpack(t.Context(), l, desc, dir, image.Limits{})
	check(t, err)
	sources, err := image.Layers(l, desc)
	check(t, err)
	in := harden.Input{Config: out.ImageConfig(), Now: time.Now()}
	for _, s := range sources {
		in.Layers = append(in.Layers, harden.Layer{Digest: s.Digest, Step: s.Step, Open: s.Open})
	}
	cat, err := catalogue.Load()
	check(t, err)
	for _, id := range ids {
		k, ok := cat.Objective(id)
		if !ok {
			t.Fatalf("no objective %s", id)
		}
		in.Controls = append(in.Controls, k)
	}
	res, err := harden.Audit(t.Context(), dir, in)
	check(t, err)
	got := map[string]kiln.Outcome{}
	for _, o := range res.Outcomes {
		got[o.Objective] = o
	}
	return got
}

// TestAnImageInALayoutIsJudgedByAllItsLayers: what the tree no longer shows is found in the layers, however they are packed.
func TestAnImageInALayoutIsJudgedByAllItsLayers(t *testing.T) {
	testneeds.Root(t, "unpack an image")
	token := "ghp_" + strings.Repeat("aB3dE5gH7j", 4)
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
	config.Config.User = "root"
	config.Config.Env = []string{"PATH=/usr/bin", "API_TOKEN=hunter22"}
	config.History = []ocispec.History{
		{CreatedBy: "/bin/sh -c #(nop) ADD file:00ff in / "}, {CreatedBy: "RUN |1 NPM_TOKEN=hunter22 /bin/sh -c npm ci"}, {CreatedBy: "RUN rm -rf /root/.config"},
	}
	ids := []string{"layers-no-secrets", "layers-no-hidden-setid", "image-no-secrets", "image-user", "history-copy-only", "image-base-tag"}
	l, desc := layout(t, config,
		tarOf(t, "usr/bin/app", "app"), tarOf(t, "root/.config/gh", "token: "+token, "usr/bin/su*", "su"), tarOf(t, "root/.wh..config", "", "usr/bin/.wh.su", ""))
	got := audited(t, l, desc, ids...)
	for id, want := range map[string][2]string{
		"layers-no-secrets":      {kiln.NotSatisfied, "/root/.config/gh in layer 2"},
		"layers-no-hidden-setid": {kiln.NotSatisfied, "/usr/bin/su in layer 2"},
		"image-no-secrets":       {kiln.NotSatisfied, "value of NPM_TOKEN"},
		"image-user":             {kiln.NotSatisfied, ""},
		"history-copy-only":      {kiln.Satisfied, ""},
		"image-base-tag":         {kiln.NotSatisfied, "base:latest"},
	} {
		if o := got[id]; o.State != want[0] || !strings.Contains(o.Observed, want[1]) || strings.Contains(o.Observed+o.Reason, token[:9]) || strings.Contains(o.Observed, "hunter") {
			t.Errorf("%s: %s %s | %s", id, o.State, o.Observed, o.Reason)
		}
	}
	config.Config.User, config.Config.Env, config.History = "65532:65532", []string{"PATH=/usr/bin"}, []ocispec.History{{CreatedBy: "COPY app /usr/bin/app"}}
	config.RootFS.DiffIDs = nil
	l, desc = layout(t, config, tarOf(t, "usr/bin/app", "app"))
	for id, o := range audited(t, l, desc, ids[:5]...) {
		if o.State != kiln.Satisfied {
			t.Errorf("sound image: %s: %s %s | %s", id, o.State, o.Observed, o.Reason)
		}
	}
}
