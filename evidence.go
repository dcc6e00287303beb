package kiln

// Evidence is the proof that one input came from whom we trust: what was
// checked, by which key or identity, and what it says.
type Evidence struct {
	Header
	// Subject is what the evidence is about: a digest and a name.
	Subject Subject `json:"subject"`
	// Type is openpgp-apt, digest-pin, sigstore, ...
	Type string `json:"type"`
	// Root names the trust root of the policy that accepted the signer.
	Root    string `json:"root"`
	Archive string `json:"archive,omitempty"` // LockedArchive.ID
	Suite   string `json:"suite,omitempty"`
	// Signers are fingerprints or identities whose signature was good and accepted.
	Signers []string `json:"signers"`
	// SignedAt is the signed date, Unix seconds.
	SignedAt   int64      `json:"signedAt,omitempty"`
	ValidUntil int64      `json:"validUntil,omitempty"`
	Checks     []string   `json:"checks"` // the rules that were applied and held, for people
	Exception  *Exception `json:"exception,omitempty"`
}

// Subject names content.
type Subject struct {
	Name   string `json:"name"`
	Digest Digest `json:"digest"`
}

// Validate reports what is missing.
func (e *Evidence) Validate() error {
	if err := e.check("Evidence"); err != nil {
		return err
	}
	if e.Subject.Name == "" || e.Type == "" {
		return invalid("subject", "evidence needs a subject and a type")
	}
	if err := e.Subject.Digest.Validate(); err != nil {
		return invalid("subject.digest", err.Error())
	}
	if len(e.Checks) == 0 {
		return invalid("checks", "evidence without a check proves nothing")
	}
	return nil
}
