package kiln

// Record is everything known about an artefact when it asks for admission.
type Record struct {
	// Match is the name that rules match: "image:NAME", "apt:debian/PACKAGE", "oci:REGISTRY/REPO".
	Match      string           `json:"match"`
	Version    string           `json:"version,omitempty"`
	Subject    Subject          `json:"subject"`
	Evidence   []Evidence       `json:"evidence,omitempty"`
	Statements []Statement      `json:"statements,omitempty"`
	Hardening  *HardeningResult `json:"hardening,omitempty"`
	Trial      *Trial           `json:"trial,omitempty"`
	Bill       *Bill            `json:"bill,omitempty"`
	Findings   []Finding        `json:"findings,omitempty"`
	// Scanned says that vulnerabilities were looked for; without it their absence is unknown.
	Scanned bool `json:"scanned,omitempty"`
	// PublishedAt is when the upstream published it, Unix seconds; 0 is unknown.
	PublishedAt int64 `json:"publishedAt,omitempty"`
}

// Decisions.
const (
	Allow = "allow"
	Deny  = "deny"
)

// Verdict is the decision of a policy over a record: allow, deny or unknown,
// rule by rule, with the evidence each rule used. Unknown never serves.
type Verdict struct {
	Header
	Subject  Subject `json:"subject"`
	Match    string  `json:"match"`
	Decision string  `json:"decision"`
	Mode     string  `json:"mode"`   // observe, warn, enforce
	Policy   Digest  `json:"policy"` // of the policy document
	Rule     string  `json:"rule"`   // where the deciding rule stands: "rules[2] (line 31)"
	Time     int64   `json:"time"`   // the now that was given
	Checks   []Check `json:"checks"`
	// Exceptions that were used, by id.
	Exceptions []Exception `json:"exceptions,omitempty"`
}

// Check is one rule's answer.
type Check struct {
	Rule     string `json:"rule"`
	Decision string `json:"decision"` // allow, deny, unknown
	Expected string `json:"expected,omitempty"`
	Found    string `json:"found,omitempty"`
	// Evidence names the documents used: digests or file names.
	Evidence []string `json:"evidence,omitempty"`
	// Remedy says what to do about a refusal.
	Remedy    string `json:"remedy,omitempty"`
	Exception string `json:"exception,omitempty"` // id of the exception that turned a refusal
}

// Serves reports whether the artefact may be served under this verdict.
func (v *Verdict) Serves() bool {
	return v.Decision == Allow || v.Mode == "observe" || v.Mode == "warn"
}

// Validate reports what is missing.
func (v *Verdict) Validate() error {
	if err := v.check("Verdict"); err != nil {
		return err
	}
	if !oneOf(v.Decision, Allow, Deny, Unknown) {
		return invalid("decision", "is allow, deny or unknown")
	}
	if !oneOf(v.Mode, "observe", "warn", "enforce") {
		return invalid("mode", "is observe, warn or enforce")
	}
	return nil
}
