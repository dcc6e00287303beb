// Package attest says in signed in-toto statements what was done to an image,
// and attaches them to it as OCI referrers in the form that stock cosign reads.
//
// Each role signs with its own key what it alone knows: the builder the
// provenance, the scanner the SBOMs, the tester tests and hardening, the gate
// the verdict. Verifiers take any signed statement for "signed", so only the
// release key, and only after an admitting verdict, may say that an image is good.
package attest

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
	"kiln/internal/image"
	"kiln/internal/keys"
)

// DefaultIdentity begins the identity of every role where the factory has no address of its own.
const DefaultIdentity = "urn:kiln:id:"

// BuildType names the meaning of the provenance's parameters: docs/reference/provenance.md.
const BuildType = "urn:kiln:buildtype:image:v1"

// Input is what the statements are made from; a part that is nil or empty makes no statement.
type Input struct {
	Build    *kiln.Build // Lock, Artifact, Hardening and Trial are used
	Recipe   *kiln.Recipe
	Artifact *kiln.Artifact // nil means Build.Artifact
	// CycloneDX and SPDX are the SBOM documents, JSON.
	CycloneDX, SPDX []byte
	// Builder is the role that signs the provenance; "" is builder/workstation.
	Builder string
	// Identity begins the URI of every role; "" is DefaultIdentity.
	Identity string
	// Version of this program, for the provenance.
	Version string
	// Now is written where a statement needs a time of its own; the lock's epoch is used if it is zero.
	Now time.Time
}

// Attest makes, signs and attaches the evidence: provenance, SBOMs, tests and
// hardening. Every statement names the index and the platform's manifest and
// is attached to both. sign is asked once for each role that is needed.
func Attest(ctx context.Context, in Input, sign func(role string) (*keys.Key, error), l *image.Layout) ([]kiln.Statement, error) {
	in = in.defaults()
	var drafts []draft
	add := func(role, predicateType string, predicate any) error {
		d, err := newDraft(role, predicateType, predicate)
		drafts = append(drafts, d)
		return err
	}
	if in.Build.Lock != nil {
		if err := add(in.Builder, kiln.PredicateProvenance, in.provenance()); err != nil {
			return nil, err
		}
	}
	for _, doc := range []struct {
		predicateType string
		text          []byte
	}{{kiln.PredicateCycloneDX, in.CycloneDX}, {kiln.PredicateSPDX, in.SPDX}} {
		if len(doc.text) == 0 {
			continue
		}
		if err := add(keys.RoleScanner, doc.predicateType, json.RawMessage(doc.text)); err != nil {
			return nil, err
		}
	}
	if in.Build.Trial != nil {
		if err := add(keys.RoleTester, kiln.PredicateTestResult, testResult(in.Build.Trial)); err != nil {
			return nil, err
		}
	}
	if in.Build.Hardening != nil {
		if err := add(keys.RoleTester, kiln.PredicateTestResult, hardeningResult(in.Build.Hardening)); err != nil {
			return nil, err
		}
	}
	return attach(ctx, in, drafts, sign, l)
}

// Decision signs the verdict with the gate's key and, only when the verdict
// admits the image, the release with the release key, and attaches both. An
// earlier decision about the same image gives way: a denial takes the release
// signature back.
func Decision(ctx context.Context, in Input, v *kiln.Verdict, statements []kiln.Statement, sign func(role string) (*keys.Key, error), l *image.Layout) ([]kiln.Statement, error) {
	in = in.defaults()
	if err := v.Validate(); err != nil {
		return nil, fmt.Errorf("attesting the verdict: %w", err)
	}
	if v.Subject.Digest != in.Artifact.Index && v.Subject.Digest != in.Artifact.Manifest {
		return nil, fmt.Errorf("attesting the verdict: it is about %s, the image is %s", v.Subject.Digest, in.Artifact.Index)
	}
	if err := l.DropReferrersIf(isDecision, in.Artifact.Index, in.Artifact.Manifest); err != nil {
		return nil, fmt.Errorf("withdrawing the earlier decision: %w", err)
	}
	summary, err := newDraft(keys.RoleGate, kiln.PredicateVerification, in.verification(v, statements))
	if err != nil {
		return nil, err
	}
	drafts := []draft{summary}
	if v.Decision == kiln.Allow {
		release, err := newDraft(keys.RoleRelease, kiln.PredicateRelease, struct{}{})
		if err != nil {
			return nil, err
		}
		drafts = append(drafts, release)
	}
	return attach(ctx, in, drafts, sign, l)
}

// isDecision tells referrers that Decision makes from all others.
func isDecision(d ocispec.Descriptor) bool {
	t := d.Annotations[annotationPredicate]
	return d.ArtifactType == BundleMediaType && (t == kiln.PredicateVerification || t == kiln.PredicateRelease)
}

func (in Input) defaults() Input {
	if in.Artifact == nil {
		in.Artifact = in.Build.Artifact
	}
	if in.Builder == "" {
		in.Builder = keys.RoleWorkstation
	}
	if in.Identity == "" {
		in.Identity = DefaultIdentity
	}
	return in
}

// epoch is the time that statements carry.
func (in Input) epoch() time.Time {
	if in.Now.IsZero() && in.Build.Lock != nil {
		return time.Unix(in.Build.Lock.Epoch, 0).UTC()
	}
	return in.Now.UTC().Truncate(time.Second)
}

// draft is a statement that is not signed yet.
type draft struct {
	role, predicateType string
	predicate           json.RawMessage // canonical
}

func newDraft(role, predicateType string, predicate any) (draft, error) {
	text, err := json.Marshal(predicate)
	if err != nil {
		return draft{}, fmt.Errorf("making the %s statement: %w", predicateType, err)
	}
	return draft{role, predicateType, text}, nil
}

// statement is in-toto Statement v1.
type statement struct {
	Type          string               `json:"_type"`
	Subject       []ResourceDescriptor `json:"subject"`
	PredicateType string               `json:"predicateType"`
	Predicate     json.RawMessage      `json:"predicate"`
}

const statementType = "https://in-toto.io/Statement/v1"

// attach signs drafts and attaches each to the index and to the manifest. What
// was attached before with the same predicate by the same role stays.
func attach(ctx context.Context, in Input, drafts []draft, sign func(string) (*keys.Key, error), l *image.Layout) ([]kiln.Statement, error) {
	targets, err := in.targets(l)
	if err != nil {
		return nil, err
	}
	signers := map[string]*keys.Key{}
	var out []kiln.Statement
	var referrers []ocispec.Descriptor
	for _, d := range drafts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if signers[d.role] == nil {
			if signers[d.role], err = sign(d.role); err != nil {
				return nil, fmt.Errorf("signing as %s: %w", d.role, err)
			}
		}
		s, descs, err := in.attachOne(d, signers[d.role], targets, l)
		if err != nil {
			return nil, fmt.Errorf("attaching the %s statement: %w", d.predicateType, err)
		}
		out, referrers = append(out, s), append(referrers, descs...)
	}
	if err := l.Add(referrers...); err != nil {
		return nil, err
	}
	return out, nil
}

// targets are the descriptors that get referrers: the index first.
func (in Input) targets(l *image.Layout) ([]ocispec.Descriptor, error) {
	var out []ocispec.Descriptor
	for _, d := range []kiln.Digest{in.Artifact.Index, in.Artifact.Manifest} {
		desc, err := l.Find(string(d))
		if err != nil {
			return nil, fmt.Errorf("attesting %s: %w", in.Artifact.Name, err)
		}
		out = append(out, desc)
	}
	return out, nil
}

func (in Input) attachOne(d draft, signer *keys.Key, targets []ocispec.Descriptor, l *image.Layout) (kiln.Statement, []ocispec.Descriptor, error) {
	out := kiln.Statement{
		Header: kiln.NewHeader("Statement"), PredicateType: d.predicateType, Predicate: d.predicate, Role: d.role, KeyID: signer.ID(),
		Subject: in.subjects(),
	}
	bundle, err := d.sign(out.Subject, signer)
	if err != nil {
		return out, nil, err
	}
	layer, err := l.PutBytes(BundleMediaType, bundle)
	if err != nil {
		return out, nil, err
	}
	out.Bundle = kiln.Digest(layer.Digest)
	layer.Annotations = map[string]string{ocispec.AnnotationTitle: "sha256-" + digest.Digest(out.Bundle).Encoded() + ".sigstore.json"}
	notes := map[string]string{
		annotationContent: "dsse-envelope", annotationPredicate: d.predicateType,
		ocispec.AnnotationCreated: in.epoch().Format(time.RFC3339),
	}
	var descs []ocispec.Descriptor
	for _, target := range targets {
		desc, err := l.PutReferrer(target, layer, BundleMediaType, notes)
		if err != nil {
			return out, nil, err
		}
		descs = append(descs, desc)
	}
	out.Referrer = kiln.Digest(descs[0].Digest)
	return out, descs, out.Validate()
}

// subjects are the index and the platform's manifest, in that order.
func (in Input) subjects() []kiln.Subject {
	return []kiln.Subject{
		{Name: in.Artifact.Name, Digest: in.Artifact.Index},
		{Name: in.Artifact.Name + " (" + in.Artifact.Platform + ")", Digest: in.Artifact.Manifest},
	}
}
