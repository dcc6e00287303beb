package attest

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
	"kiln/internal/image"
	"kiln/internal/keys"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ring remembers which roles' keys were asked for.
type ring struct{ made map[string]*keys.Key }

func newRing(*testing.T) *ring { return &ring{map[string]*keys.Key{}} }

func (r *ring) key(role string) (*keys.Key, error) {
	k, ok := sharedKeys()[role]
	if !ok {
		return nil, errors.New("no key for " + role)
	}
	r.made[role] = k
	return k, nil
}

// sharedKeys are made once: encrypting one takes a good part of a second.
var sharedKeys = sync.OnceValue(func() map[string]*keys.Key {
	dir, err := os.MkdirTemp("", "attest-keys-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	out := map[string]*keys.Key{}
	for _, role := range keys.Roles() {
		if out[role], err = keys.New(dir, role, []byte("pass")); err != nil {
			panic(err)
		}
	}
	return out
})

// candidate stores a manifest and an index that stand for an image.
func candidate(t *testing.T) (*image.Layout, Input) {
	t.Helper()
	l, err := image.CreateLayout(filepath.Join(t.TempDir(), "oci"))
	must(t, err)
	config, err := l.PutBytes(ocispec.MediaTypeImageConfig, []byte("{}"))
	must(t, err)
	manifest, err := l.PutJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{},
	})
	must(t, err)
	index, err := l.PutJSON(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{manifest},
	})
	must(t, err)
	must(t, l.Add(index))
	d := func(s string) kiln.Digest { return kiln.DigestBytes([]byte(s)) }
	lock := &kiln.Lock{
		Header: kiln.NewHeader("Lock"), Name: "base/nginx", Recipe: d("recipe"), Platform: "linux/amd64", Epoch: 1_700_000_000, Distro: "debian-12",
		Archives: []kiln.LockedArchive{{
			ID: "Debian/bookworm", URI: "https://archive.example.com/debian/", Suite: "bookworm", InRelease: d("InRelease"), Date: 1_700_000_000,
			SignedBy: []string{"ABCD"}, Indexes: []kiln.LockedIndex{{Path: "main/binary-amd64/Packages.xz", Digest: d("Packages")}},
		}},
		Packages: []kiln.LockedPackage{{Name: "libstdc++6", Version: "1:12.2.0-14+deb12u1", Architecture: "amd64", Archive: "Debian/bookworm", Path: "pool/l.deb", Digest: d("deb"), Size: 1}},
		Files:    []kiln.LockedFile{{Path: "nginx.conf", Digest: d("file")}},
		Image:    &kiln.LockedImage{Reference: "registry.example.com/base:1", Digest: d("image")},
	}
	return l, Input{
		Build: &kiln.Build{
			ID: "b1", Lock: lock,
			Artifact: &kiln.Artifact{Name: "base/nginx", Platform: "linux/amd64", Index: kiln.Digest(index.Digest), Manifest: kiln.Digest(manifest.Digest), Tree: d("tree")},
			Trial:    &kiln.Trial{Result: kiln.Pass, Candidate: d("tree"), Tests: []kiln.TestResult{{Name: "serves", Result: kiln.Pass}}},
			Hardening: &kiln.HardeningResult{Profile: "container-baseline", Outcomes: []kiln.Outcome{
				{Objective: "a", State: kiln.Satisfied}, {Objective: "b", State: kiln.Unknown}, {Objective: "c", State: kiln.NotApplicable}, {Objective: "d", State: kiln.Waived},
			}},
		},
		Recipe:    &kiln.Recipe{Name: "base/nginx"},
		CycloneDX: []byte(`{"bomFormat":"CycloneDX"}`), SPDX: []byte(`{"spdxVersion":"SPDX-2.3"}`),
	}
}

func verdict(in Input, decision, mode string) *kiln.Verdict {
	return &kiln.Verdict{
		Header: kiln.NewHeader("Verdict"), Subject: kiln.Subject{Name: "base/nginx", Digest: in.Build.Artifact.Index}, Match: "image:base/nginx",
		Decision: decision, Mode: mode, Policy: kiln.DigestBytes([]byte("policy")), Rule: "rules[0] (line 3)", Time: 1_700_000_100,
	}
}

func TestEachRoleSignsWhatItAloneKnows(t *testing.T) {
	l, in := candidate(t)
	ring := newRing(t)
	evidence, err := Attest(t.Context(), in, ring.key, l)
	must(t, err)
	decision, err := Decision(t.Context(), in, verdict(in, kiln.Allow, "enforce"), evidence, ring.key, l)
	must(t, err)
	var got []string
	for _, s := range append(evidence, decision...) {
		got = append(got, s.Role+" "+s.PredicateType)
		for _, subject := range []kiln.Digest{in.Build.Artifact.Index, in.Build.Artifact.Manifest} {
			text, err := l.Read(s.Bundle, 1<<20)
			must(t, err)
			public := ring.made[s.Role].Public()
			checked(t, text, public, subject, true)
			checked(t, text, public, kiln.DigestBytes([]byte("other")), false)
			for role, k := range ring.made {
				checked(t, text, k.Public(), subject, role == s.Role)
			}
		}
	}
	want := []string{
		"builder/workstation " + kiln.PredicateProvenance, "scanner " + kiln.PredicateCycloneDX, "scanner " + kiln.PredicateSPDX,
		"tester " + kiln.PredicateTestResult, "tester " + kiln.PredicateTestResult,
		"gate " + kiln.PredicateVerification, "release " + kiln.PredicateRelease,
	}
	if !slices.Equal(got, want) {
		t.Errorf("signed\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, subject := range []kiln.Digest{in.Build.Artifact.Index, in.Build.Artifact.Manifest} {
		list, err := l.Referrers(subject)
		if err != nil || len(list) != len(want) {
			t.Errorf("%d referrers (%v), want %d", len(list), err, len(want))
		}
	}
}

// checked verifies a bundle; e2e does the same with stock cosign.
func checked(t *testing.T, text []byte, public crypto.PublicKey, subject kiln.Digest, good bool) {
	t.Helper()
	if _, _, err := Verify(text, public.(*ecdsa.PublicKey), subject); (err == nil) != good {
		t.Errorf("verified: %v, want %v (%v)", err == nil, good, err)
	}
}

func TestOnlyAnAllowedImageGetsTheReleaseSignature(t *testing.T) {
	for _, c := range []struct{ decision, mode, result string }{
		{kiln.Allow, "enforce", "PASSED"}, {kiln.Deny, "enforce", "FAILED"}, {kiln.Unknown, "enforce", "FAILED"}, {kiln.Deny, "warn", "FAILED"}, {kiln.Deny, "observe", "FAILED"},
	} {
		l, in := candidate(t)
		ring := newRing(t)
		got, err := Decision(t.Context(), in, verdict(in, c.decision, c.mode), nil, ring.key, l)
		must(t, err)
		var v verification
		must(t, json.Unmarshal(got[0].Predicate, &v))
		if v.Result != c.result || v.TimeVerified != "2023-11-14T22:15:00Z" {
			t.Errorf("%s in mode %s: summary says %s at %s", c.decision, c.mode, v.Result, v.TimeVerified)
		}
		if released := len(got) == 2; released != (c.decision == kiln.Allow) {
			t.Errorf("%s in mode %s: released %v", c.decision, c.mode, released)
		}
		if ring.made[keys.RoleRelease] != nil && c.decision != kiln.Allow {
			t.Errorf("%s: the release key was asked for", c.decision)
		}
	}
	l, in := candidate(t)
	other := verdict(in, kiln.Allow, "enforce")
	other.Subject.Digest = kiln.DigestBytes([]byte("another image"))
	if _, err := Decision(t.Context(), in, other, nil, newRing(t).key, l); err == nil {
		t.Error("a verdict about another image is signed")
	}
}

func TestADenialTakesTheReleaseBack(t *testing.T) {
	l, in := candidate(t)
	ring := newRing(t)
	_, err := Attest(t.Context(), in, ring.key, l)
	must(t, err)
	allowed, err := Decision(t.Context(), in, verdict(in, kiln.Allow, "enforce"), nil, ring.key, l)
	must(t, err)
	_, err = Decision(t.Context(), in, verdict(in, kiln.Deny, "enforce"), nil, ring.key, l)
	must(t, err)
	for _, subject := range []kiln.Digest{in.Build.Artifact.Index, in.Build.Artifact.Manifest} {
		list, err := l.Referrers(subject)
		must(t, err)
		count := map[string]int{}
		for _, d := range list {
			count[d.Annotations[annotationPredicate]]++
		}
		if count[kiln.PredicateRelease] != 0 || count[kiln.PredicateVerification] != 1 || count[kiln.PredicateProvenance] != 1 {
			t.Errorf("referrers of %s after the denial: %v", subject.Short(), count)
		}
	}
	if l.Has(allowed[1].Referrer, -1) {
		t.Error("the release's manifest still lies in the layout")
	}
}

func TestProvenanceNamesEveryInput(t *testing.T) {
	l, in := candidate(t)
	got, err := Attest(t.Context(), in, newRing(t).key, l)
	must(t, err)
	var p provenance
	must(t, json.Unmarshal(got[0].Predicate, &p))
	have := map[string]string{}
	for _, d := range p.BuildDefinition.ResolvedDependencies {
		have[d.Name+" <"+d.URI+">"] = "sha256:" + d.Digest["sha256"]
	}
	lock := in.Build.Lock
	for name, want := range map[string]kiln.Digest{
		"base image <oci://registry.example.com/base:1>":                                                                                  lock.Image.Digest,
		"Debian/bookworm InRelease <https://archive.example.com/debian/dists/bookworm/InRelease>":                                         lock.Archives[0].InRelease,
		"Debian/bookworm main/binary-amd64/Packages.xz <https://archive.example.com/debian/dists/bookworm/main/binary-amd64/Packages.xz>": lock.Archives[0].Indexes[0].Digest,
		"pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12 <https://archive.example.com/debian/pool/l.deb>": lock.Packages[0].Digest,
		"nginx.conf <>": lock.Files[0].Digest,
	} {
		if have[name] != string(want) {
			t.Errorf("%s has digest %q, want %s", name, have[name], want)
		}
	}
	if p.RunDetails.Builder.ID != "urn:kiln:id:builder/workstation" || p.BuildDefinition.BuildType != BuildType {
		t.Errorf("builder %q, build type %q", p.RunDetails.Builder.ID, p.BuildDefinition.BuildType)
	}
}

func TestTestResultsNeverTurnDoubtIntoAPass(t *testing.T) {
	_, in := candidate(t)
	h := hardeningResult(in.Build.Hardening)
	if h.Result != "WARNED" || !slices.Equal(h.PassedTests, []string{"a"}) || !slices.Equal(h.WarnedTests, []string{"b", "d"}) || len(h.FailedTests) != 0 {
		t.Errorf("hardening: %+v", h)
	}
	in.Build.Hardening.Outcomes[0].State = kiln.NotSatisfied
	if h := hardeningResult(in.Build.Hardening); h.Result != "FAILED" || !slices.Equal(h.FailedTests, []string{"a"}) {
		t.Errorf("hardening with a failure: %+v", h)
	}
	for _, result := range []string{kiln.Fail, kiln.Error} {
		in.Build.Trial.Result, in.Build.Trial.Tests[0].Result = result, result
		if got := testResult(in.Build.Trial); got.Result != "FAILED" || !slices.Equal(got.FailedTests, []string{"serves"}) {
			t.Errorf("trial with %s: %+v", result, got)
		}
	}
}

func TestPayloadsAreTheSameEveryTimeAndSignaturesDoNotMoveTheImage(t *testing.T) {
	var payloads []string
	for range 2 {
		l, in := candidate(t)
		got, err := Attest(t.Context(), in, newRing(t).key, l)
		must(t, err)
		all := ""
		for _, s := range got {
			text, err := l.Read(s.Bundle, 1<<20)
			must(t, err)
			var b struct {
				DSSEEnvelope struct{ Payload []byte }
			}
			must(t, json.Unmarshal(text, &b))
			all += string(b.DSSEEnvelope.Payload) + "\n"
		}
		payloads = append(payloads, all+string(in.Build.Artifact.Index))
	}
	if payloads[0] != payloads[1] {
		t.Errorf("payloads differ:\n%s\n%s", payloads[0], payloads[1])
	}
}

func TestReferrersHaveTheFormOfTheBundleSpecification(t *testing.T) {
	l, in := candidate(t)
	got, err := Attest(t.Context(), in, newRing(t).key, l)
	must(t, err)
	m, err := l.Manifest(ocispec.Descriptor{Digest: digest.Digest(got[0].Referrer)})
	must(t, err)
	if m.ArtifactType != BundleMediaType || m.Config.MediaType != ocispec.MediaTypeEmptyJSON || len(m.Layers) != 1 || m.Layers[0].MediaType != BundleMediaType {
		t.Errorf("manifest %+v", m)
	}
	if string(m.Subject.Digest) != string(in.Build.Artifact.Index) || m.Subject.MediaType != ocispec.MediaTypeImageIndex {
		t.Errorf("subject %+v", m.Subject)
	}
	want := map[string]string{
		"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": kiln.PredicateProvenance,
		"org.opencontainers.image.created": "2023-11-14T22:13:20Z",
	}
	for k, v := range want {
		if m.Annotations[k] != v {
			t.Errorf("annotation %s is %q, want %q", k, m.Annotations[k], v)
		}
	}
}

func TestAMissingKeyStopsEverything(t *testing.T) {
	l, in := candidate(t)
	none := errors.New("no key")
	if _, err := Attest(t.Context(), in, func(string) (*keys.Key, error) { return nil, none }, l); !errors.Is(err, none) {
		t.Errorf("got %v", err)
	}
	if list, _ := l.Referrers(in.Build.Artifact.Index); len(list) != 0 {
		t.Errorf("%d referrers were attached", len(list))
	}
}

func TestCommandsAreQuotedForAShell(t *testing.T) {
	c := Command{Args: []string{"cosign", "verify", "--key", "/home/a b/it's.pub", "registry.example.com/x@sha256:00"}}
	if got, want := c.String(), `cosign verify --key '/home/a b/it'\''s.pub' registry.example.com/x@sha256:00`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
