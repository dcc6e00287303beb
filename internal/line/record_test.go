package line

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
	"kiln/internal/image"
	"kiln/internal/keys"
	"kiln/internal/line/attest"
	"kiln/internal/store"
)

// signers makes keys of the roles that decide, in a folder of their own; making one is slow on purpose.
func signers(t *testing.T) map[string]*keys.Key {
	t.Helper()
	made := map[string]*keys.Key{}
	for _, role := range []string{keys.RoleGate, keys.RoleRelease} {
		key, err := keys.New(t.TempDir(), role, []byte("test"))
		if err != nil {
			t.Fatal(err)
		}
		made[role] = key
	}
	return made
}

// decided is a build whose image lies in the local store with what decision signs about it.
func decided(t *testing.T, by map[string]*keys.Key, decision string) (*Line, *kiln.Build) {
	t.Helper()
	okay := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	layout, err := image.CreateLayout(t.TempDir())
	okay(err)
	records, err := store.Open(t.TempDir() + "/kiln.db")
	okay(err)
	t.Cleanup(func() { records.Close() })
	l := &Line{
		Dir: t.TempDir(), Layout: layout, Records: records, Now: time.Now,
		Key:    func(role string) (*keys.Key, error) { return by[role], nil },
		Public: func(role string) (*ecdsa.PublicKey, error) { return public(by[role]), nil },
	}
	config, err := layout.PutJSON(ocispec.MediaTypeImageConfig, ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}})
	okay(err)
	manifest, err := layout.PutJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{}})
	okay(err)
	manifest.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	index, err := layout.PutJSON(ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{manifest}})
	okay(err)
	b := &kiln.Build{
		Header: kiln.NewHeader("Build"), ID: "1", Name: "web",
		Artifact: &kiln.Artifact{Header: kiln.NewHeader("Artifact"), Name: "web", Platform: "linux/amd64", Index: kiln.Digest(index.Digest), Manifest: kiln.Digest(manifest.Digest)},
		Release:  &kiln.Release{Header: kiln.NewHeader("Release"), Name: "web", Channel: "stable", Digest: kiln.Digest(index.Digest)},
	}
	decide(t, l, b, decision)
	return l, b
}

// decide signs a decision about the build's image, and writes it into the build.
func decide(t *testing.T, l *Line, b *kiln.Build, decision string) {
	t.Helper()
	b.Verdict = &kiln.Verdict{
		Header: kiln.NewHeader("Verdict"), Subject: kiln.Subject{Name: "web", Digest: b.Artifact.Index}, Match: "image:web",
		Decision: decision, Mode: "enforce", Policy: kiln.DigestBytes(nil), Checks: []kiln.Check{},
	}
	var err error
	if b.Statements, err = attest.Decision(t.Context(), attest.Input{Build: b, Now: time.Now()}, b.Verdict, nil, l.Key, l.Layout); err != nil {
		t.Fatal(err)
	}
}

func public(k *keys.Key) *ecdsa.PublicKey { return k.Public().(*ecdsa.PublicKey) }

func TestWhatMayLeaveIsCheckedAgainAtTheDoor(t *testing.T) {
	ours, theirs := signers(t), signers(t)
	for _, c := range []struct {
		name string
		do   func(t *testing.T, l *Line, b *kiln.Build)
		want string
	}{
		{"admitted", func(*testing.T, *Line, *kiln.Build) {}, ""},
		{"a denial came later, the record is old", func(t *testing.T, l *Line, b *kiln.Build) {
			later := *b
			decide(t, l, &later, kiln.Deny)
		}, "was withdrawn"},
		{"the record was made to allow", func(t *testing.T, l *Line, b *kiln.Build) {
			decide(t, l, b, kiln.Deny)
			b.Verdict.Decision = kiln.Allow
		}, "no release signature"},
		{"the verdict is about another image", func(_ *testing.T, _ *Line, b *kiln.Build) { b.Verdict.Subject.Digest = kiln.DigestBytes([]byte("x")) }, "the decision is about"},
		{"never published", func(_ *testing.T, _ *Line, b *kiln.Build) { b.Release = nil }, "does not let it be served"},
		{"signed by another key", func(_ *testing.T, l *Line, _ *kiln.Build) {
			l.Public = func(role string) (*ecdsa.PublicKey, error) { return public(theirs[role]), nil }
		}, "checking the"},
		{"the statements are another image's", func(_ *testing.T, _ *Line, b *kiln.Build) {
			for i := range b.Statements {
				b.Statements[i].Bundle = kiln.Digest(digest.FromString("x"))
			}
		}, "reading the"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, b := decided(t, ours, kiln.Allow)
			c.do(t, l, b)
			err := l.CheckServable(b)
			if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrDenied)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// An image of ours that was denied later is no base, although its channel still means it.
func TestADeniedImageIsNoBase(t *testing.T) {
	l, b := decided(t, signers(t), kiln.Allow)
	b.Release.Lock, b.Release.Verdict, b.Release.Time = kiln.DigestBytes(nil), kiln.DigestBytes(nil), 1
	if err := l.Records.Put(t.Context(), b.Release); err != nil {
		t.Fatal(err)
	}
	if err := l.Records.PutBuild(t.Context(), b, 1); err != nil {
		t.Fatal(err)
	}
	resolve := l.resolveImage(&kiln.Recipe{})
	if locked, err := resolve(t.Context(), kiln.Base{Kiln: "web@stable"}, "linux/amd64"); err != nil || locked.Digest != b.Artifact.Manifest {
		t.Fatalf("an admitted image: %v, %v", locked, err)
	}
	b.ID = "2"
	decide(t, l, b, kiln.Deny)
	if err := l.Records.PutBuild(t.Context(), b, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := resolve(t.Context(), kiln.Base{Kiln: "web@stable"}, "linux/amd64"); !errors.Is(err, ErrDenied) || !errors.Is(err, kiln.ErrRefused) {
		t.Errorf("a denied image: %v", err)
	}
}

func TestTheNewestDecisionAboutAnImageIsKept(t *testing.T) {
	l, b := decided(t, signers(t), kiln.Allow)
	j := &journey{Line: l, build: b}
	if j.recorded(t.Context()) {
		t.Error("nothing was recorded yet")
	}
	published := *b.Release
	failedOutput := errors.New("a registry is down")
	for _, c := range []struct {
		name   string
		failed error
		do     func(*kiln.Build)
		want   bool
	}{
		{"published", nil, func(*kiln.Build) {}, true},
		{"stopped before publishing", nil, func(b *kiln.Build) { b.Release = nil }, false},
		{"nothing changed", nil, func(b *kiln.Build) { b.Unchanged = true }, false},
		{"an output failed", failedOutput, func(*kiln.Build) {}, true},
		{"tests failed", errors.New("tests"), func(b *kiln.Build) { b.Release, b.Verdict = nil, nil }, false},
		{"denied", fmt.Errorf("%w: by a rule", ErrDenied), func(b *kiln.Build) { b.Release = nil }, true},
	} {
		made := *b
		release := published
		made.ID, made.Release = c.name, &release
		c.do(&made)
		if err := (&journey{Line: l, build: &made}).keep(context.Background(), c.failed); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		_, err := l.Records.Build(t.Context(), c.name)
		if (err == nil) != c.want || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: kept is %v", c.name, err)
		}
	}
	// The denial came last, in the same second: it is the answer.
	if newest, err := l.Records.Build(t.Context(), string(b.Artifact.Index)); err != nil || newest.ID != "denied" {
		t.Errorf("newest is %+v, %v", newest, err)
	}
	if j.recorded(t.Context()) {
		t.Error("a denial counts as a published build")
	}
}

func TestAStationOrChannelThatCannotBeStopsEverything(t *testing.T) {
	_, err := (&Line{}).Run(t.Context(), Request{Recipe: &kiln.Recipe{}, Until: "tests"})
	if !errors.Is(err, kiln.ErrMisuse) || !strings.Contains(err.Error(), `no station "tests"`) {
		t.Errorf("got %v", err)
	}
	_, err = (&Line{}).Run(t.Context(), Request{Recipe: &kiln.Recipe{}, Channel: "not stable"})
	if !errors.Is(err, kiln.ErrMisuse) || !strings.Contains(err.Error(), `"not stable" cannot name a channel`) {
		t.Errorf("got %v", err)
	}
	if err := checkUntil(kiln.StationPublish); err != nil {
		t.Error(err)
	}
}
