package attest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"kiln"
	"kiln/internal/keys"
)

// BundleMediaType is that of a sigstore bundle v0.3 in JSON, as artifact type and as layer.
const BundleMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

const (
	payloadType         = "application/vnd.in-toto+json"
	annotationContent   = "dev.sigstore.bundle.content"
	annotationPredicate = "dev.sigstore.bundle.predicateType"
)

// bundle is the part of the sigstore bundle that a key signature without a log
// or timestamp has. A certificate, log entries and timestamps go into the same
// verificationMaterial when there is an authority.
type bundle struct {
	MediaType            string               `json:"mediaType"`
	VerificationMaterial verificationMaterial `json:"verificationMaterial"`
	Envelope             envelope             `json:"dsseEnvelope"`
}

type verificationMaterial struct {
	PublicKey publicKey `json:"publicKey"`
}

// publicKey names the key: the base64 of the SHA-256 of its PKIX DER, as cosign writes it.
type publicKey struct {
	Hint string `json:"hint"`
}

type envelope struct {
	Payload     []byte      `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	Sig   []byte `json:"sig"`
	KeyID string `json:"keyid,omitempty"`
}

// sign returns the bundle over the statement about the subjects.
func (d draft) sign(subjects []kiln.Subject, signer *keys.Key) ([]byte, error) {
	s := statement{Type: statementType, PredicateType: d.predicateType, Predicate: d.predicate}
	for _, sub := range subjects {
		s.Subject = append(s.Subject, ResourceDescriptor{Name: sub.Name, Digest: digestSet(sub.Digest)})
	}
	payload, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding statement: %w", err)
	}
	sum := sha256.Sum256(preAuth(payloadType, payload))
	sig, err := signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("signing as %s: %w", signer.Role(), err)
	}
	hint, err := keyHint(signer.Public())
	if err != nil {
		return nil, err
	}
	return json.Marshal(bundle{
		MediaType: BundleMediaType, VerificationMaterial: verificationMaterial{publicKey{hint}},
		Envelope: envelope{Payload: payload, PayloadType: payloadType, Signatures: []signature{{Sig: sig}}},
	})
}

func keyHint(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("encoding public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}

// preAuth is DSSE's pre-authentication encoding.
func preAuth(payloadType string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

// ErrSignature says that a bundle is not signed by the key.
var ErrSignature = errors.New("the signature does not verify with this key")

// Verify checks a bundle made here (or by cosign with a key) offline: signed by
// public, about subject. It returns the statement's predicate type and predicate.
func Verify(text []byte, public *ecdsa.PublicKey, subject kiln.Digest) (predicateType string, predicate json.RawMessage, err error) {
	var b bundle
	if err := json.Unmarshal(text, &b); err != nil {
		return "", nil, fmt.Errorf("reading bundle: %w", err)
	}
	if b.MediaType != BundleMediaType || b.Envelope.PayloadType != payloadType || len(b.Envelope.Signatures) != 1 {
		return "", nil, fmt.Errorf("reading bundle: expected one DSSE signature over %s in a %s", payloadType, BundleMediaType)
	}
	sum := sha256.Sum256(preAuth(b.Envelope.PayloadType, b.Envelope.Payload))
	if !ecdsa.VerifyASN1(public, sum[:], b.Envelope.Signatures[0].Sig) {
		return "", nil, ErrSignature
	}
	var s statement
	if err := json.Unmarshal(b.Envelope.Payload, &s); err != nil || s.Type != statementType {
		return "", nil, fmt.Errorf("reading statement of type %q: %w", s.Type, err)
	}
	if !slices.ContainsFunc(s.Subject, func(r ResourceDescriptor) bool { return r.Digest["sha256"] == subject.Hex() }) {
		return "", nil, fmt.Errorf("the statement is not about %s", subject)
	}
	return s.PredicateType, s.Predicate, nil
}
