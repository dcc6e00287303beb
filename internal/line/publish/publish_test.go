package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
	"kiln/internal/image"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// memory keeps releases in a list.
type memory struct{ all []*kiln.Release }

func (m *memory) Put(_ context.Context, r *kiln.Release) error {
	m.all = append(m.all, r)
	return nil
}

func (m *memory) Current(_ context.Context, name, channel string) (*kiln.Release, error) {
	for _, r := range slices.Backward(m.all) {
		if r.Name == name && r.Channel == channel {
			return r, nil
		}
	}
	return nil, fs.ErrNotExist
}

// candidate stores an image whose only layer is content, with one referrer.
func candidate(t *testing.T, store *image.Layout, content string) Input {
	t.Helper()
	platform := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	layer, err := store.PutBytes(ocispec.MediaTypeImageLayer, []byte(content))
	must(t, err)
	config, err := store.PutJSON(ocispec.MediaTypeImageConfig, ocispec.Image{Platform: platform})
	must(t, err)
	manifest, err := store.PutJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{layer},
	})
	must(t, err)
	manifest.Platform = &platform
	index, err := store.PutJSON(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{manifest},
	})
	must(t, err)
	must(t, store.Add(index))
	report, err := store.PutBytes("text/plain", []byte("report on "+content))
	must(t, err)
	_, err = store.AddReferrer(index, report, "text/plain", nil)
	must(t, err)
	a := &kiln.Artifact{Name: "base/nginx", Platform: "linux/amd64", Index: kiln.Digest(index.Digest), Manifest: kiln.Digest(manifest.Digest)}
	return Input{
		Name: "base/nginx", Channel: "stable", Build: &kiln.Build{ID: "b-" + content, Artifact: a}, Now: time.Unix(1_700_000_000, 0),
		Verdict: &kiln.Verdict{
			Header: kiln.NewHeader("Verdict"), Subject: kiln.Subject{Digest: a.Index}, Decision: kiln.Allow, Mode: "enforce", Rule: "rules[0]",
		},
	}
}

func newStore(t *testing.T) *image.Layout {
	t.Helper()
	l, err := image.CreateLayout(filepath.Join(t.TempDir(), "store"))
	must(t, err)
	return l
}

func TestOnlyAnAdmittedImageIsPublished(t *testing.T) {
	allow := func(*Input) {}
	cases := []struct {
		name    string
		change  func(*Input)
		refused bool
	}{
		{"allowed", allow, false},
		{"denied, but the policy only warns", func(in *Input) { in.Verdict.Decision, in.Verdict.Mode = kiln.Deny, "warn" }, false},
		{"denied", func(in *Input) { in.Verdict.Decision = kiln.Deny }, true},
		{"unknown", func(in *Input) { in.Verdict.Decision = kiln.Unknown }, true},
		{"no verdict", func(in *Input) { in.Verdict = nil }, true},
		{"a verdict about another image", func(in *Input) { in.Verdict.Subject.Digest = kiln.DigestBytes([]byte("x")) }, true},
		{"a verdict that is none", func(in *Input) { in.Verdict.Decision = "yes" }, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			store, records := newStore(t), &memory{}
			in := candidate(t, store, "1")
			out := filepath.Join(t.TempDir(), "image.tar")
			in.Outputs = []kiln.Output{{Archive: out}}
			c.change(&in)
			_, _, err := Image(t.Context(), in, store, records)
			if (err != nil) != c.refused {
				t.Fatalf("error %v, want refused %v", err, c.refused)
			}
			_, found := store.Find("base/nginx:stable")
			_, written := os.Stat(out)
			if got := len(records.all) == 0 && found != nil && written != nil; got != c.refused {
				t.Errorf("records %d, name in store: %v, output: %v", len(records.all), found, written)
			}
		})
	}
}

func TestAChannelMovesAndRemembersWhatItMeant(t *testing.T) {
	store, records := newStore(t), &memory{}
	one, two := candidate(t, store, "1"), candidate(t, store, "2")
	for _, in := range []Input{one, one, two} {
		_, _, err := Image(t.Context(), in, store, records)
		must(t, err)
	}
	if len(records.all) != 2 {
		t.Fatalf("%d releases, want 2: publishing the same again is no news", len(records.all))
	}
	if got := records.all[1]; got.Digest != two.Build.Artifact.Index || got.Previous != one.Build.Artifact.Index || got.Build != "b-2" {
		t.Errorf("second release %+v", got)
	}
	desc, err := store.Find("base/nginx:stable")
	if err != nil || kiln.Digest(desc.Digest) != two.Build.Artifact.Index {
		t.Errorf("the store's name means %v, %v", desc.Digest, err)
	}
	_, err = store.Sweep()
	must(t, err)
	old, err := store.Find(string(one.Build.Artifact.Index))
	must(t, err)
	must(t, store.Verify(old))
}

func TestStatementsOfAnotherDayReplaceTheOldOnesInALayout(t *testing.T) {
	store, out := newStore(t), filepath.Join(t.TempDir(), "oci")
	in := candidate(t, store, "1")
	a := in.Build.Artifact
	for day := range 3 {
		must(t, store.DropReferrers("text/plain", a.Index))
		report, err := store.PutBytes("text/plain", fmt.Appendf(nil, "report of day %d", day))
		must(t, err)
		desc, err := store.Find(string(a.Index))
		must(t, err)
		_, err = store.AddReferrer(desc, report, "text/plain", nil)
		must(t, err)
		_, err = To(t.Context(), store, in.Name, in.Channel, a, kiln.Output{Layout: out}, "")
		must(t, err)
	}
	l, err := image.OpenLayout(out)
	must(t, err)
	if list, err := l.Referrers(a.Index); err != nil || len(list) != 1 {
		t.Errorf("%d referrers (%v), want 1", len(list), err)
	}
}

func TestOutputsGetTheImageWithItsReferrers(t *testing.T) {
	store, dir := newStore(t), t.TempDir()
	in := candidate(t, store, "1")
	in.Dir, in.Outputs = dir, []kiln.Output{{Layout: "out/oci"}, {Layout: "other:v1"}, {Archive: "out/image.tar"}}
	must(t, os.Mkdir(filepath.Join(dir, "out"), 0o755))
	_, places, err := Image(t.Context(), in, store, &memory{})
	must(t, err)
	if len(places) != 4 {
		t.Errorf("places %v", places)
	}
	for path, ref := range map[string]string{"out/oci": "stable", "other": "v1"} {
		l, err := image.OpenLayout(filepath.Join(dir, path))
		must(t, err)
		desc, err := l.Find(ref)
		must(t, err)
		must(t, l.Verify(desc))
		if list, err := l.Referrers(in.Build.Artifact.Index); err != nil || len(list) != 1 {
			t.Errorf("%s: referrers %v, %v", path, list, err)
		}
	}
	names, err := os.ReadDir(filepath.Join(dir, "out"))
	must(t, err)
	if len(names) != 2 {
		t.Errorf("out holds %v, want the layout and the archive only", names)
	}
}

func TestAFailingOutputStopsNoOtherAndLeavesTheOldFile(t *testing.T) {
	store, dir, records := newStore(t), t.TempDir(), &memory{}
	in := candidate(t, store, "1")
	foreign := filepath.Join(dir, "foreign")
	must(t, os.MkdirAll(foreign, 0o755))
	must(t, os.WriteFile(filepath.Join(foreign, "thesis.tex"), []byte("precious"), 0o644))
	in.Outputs = []kiln.Output{{Layout: foreign}, {Registry: "nginx"}, {Archive: filepath.Join(dir, "image.tar")}, {}}
	_, places, err := Image(t.Context(), in, store, records)
	if err == nil || !strings.Contains(err.Error(), "no OCI layout") || !strings.Contains(err.Error(), "names no registry") {
		t.Errorf("error %v", err)
	}
	if len(places) != 2 || len(records.all) != 1 {
		t.Errorf("places %v, %d records", places, len(records.all))
	}
	before, err := os.ReadFile(filepath.Join(dir, "image.tar"))
	must(t, err)

	// A damaged store must not reach anybody.
	m, err := store.Manifest(ocispec.Descriptor{Digest: digest.Digest(in.Build.Artifact.Manifest)})
	must(t, err)
	must(t, os.WriteFile(store.BlobPath(kiln.Digest(m.Layers[0].Digest)), []byte("2"), 0o644))
	if _, _, err := Image(t.Context(), in, store, records); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("publishing a damaged image: %v", err)
	}
	if _, err := To(t.Context(), store, in.Name, in.Channel, in.Build.Artifact, in.Outputs[2], ""); err == nil {
		t.Error("a damaged image was written to an archive")
	}
	if after, err := os.ReadFile(filepath.Join(dir, "image.tar")); err != nil || string(after) != string(before) {
		t.Errorf("the old archive was touched: %v", err)
	}
}

func TestRecordsThatFailStopPublishing(t *testing.T) {
	store := newStore(t)
	in := candidate(t, store, "1")
	broken := errors.New("disk full")
	if _, _, err := Image(t.Context(), in, store, failing{broken}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Put(context.Context, *kiln.Release) error { return f.err }
func (f failing) Current(context.Context, string, string) (*kiln.Release, error) {
	return nil, fs.ErrNotExist
}
