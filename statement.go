package kiln

import "encoding/json"

// Statement is an in-toto statement (v1) about an artefact and where its
// signature lies.
type Statement struct {
	Header
	PredicateType string          `json:"predicateType"`
	Subject       []Subject       `json:"subject"`
	Predicate     json.RawMessage `json:"predicate,omitempty"`
	// Role is the identity that signed: release, builder/workstation, scanner, tester, gate.
	Role string `json:"role"`
	// KeyID is the SHA-256 of the signer's public key (PKIX DER).
	KeyID Digest `json:"keyID"`
	// Bundle and Referrer are the digests of the sigstore bundle and of the OCI manifest that carries it.
	Bundle   Digest `json:"bundle"`
	Referrer Digest `json:"referrer"`
}

// Predicate types, as the field names them.
const (
	PredicateProvenance   = "https://slsa.dev/provenance/v1"
	PredicateCycloneDX    = "https://cyclonedx.org/bom"
	PredicateSPDX         = "https://spdx.dev/Document"
	PredicateTestResult   = "https://in-toto.io/attestation/test-result/v0.1"
	PredicateVerification = "https://slsa.dev/verification_summary/v1"
	PredicateRelease      = "https://sigstore.dev/cosign/sign/v1"
)

// Validate reports what is missing.
func (s *Statement) Validate() error {
	if err := s.check("Statement"); err != nil {
		return err
	}
	if s.PredicateType == "" || s.Role == "" || len(s.Subject) == 0 {
		return invalid("statement", "needs predicateType, role and subject")
	}
	for i, sub := range s.Subject {
		if err := sub.Digest.Validate(); err != nil {
			return invalid(at("subject", i), err.Error())
		}
	}
	return nil
}
