package kiln

// Finding is one thing that is wrong, or could not be known, about an artefact.
type Finding struct {
	ID       string `json:"id"`   // advisory id or rule id
	Type     string `json:"type"` // vulnerability, secret, malware, unowned-file, unreadable
	Severity string `json:"severity"`
	Subject  string `json:"subject"` // purl or path
	Message  string `json:"message"`
	FixedIn  string `json:"fixedIn,omitempty"`
}

// Severities of findings; SeverityUnknown is a state of its own, never a pass.
const (
	SeverityCritical   = "critical"
	SeverityHigh       = "high"
	SeverityMedium     = "medium"
	SeverityLow        = "low"
	SeverityNegligible = "negligible"
	SeverityUnknown    = "unknown"
)

// Validate reports what is missing.
func (f Finding) Validate() error {
	if f.ID == "" || f.Type == "" || f.Subject == "" {
		return invalid("finding", "needs id, type and subject")
	}
	if !oneOf(f.Severity, SeverityCritical, SeverityHigh, SeverityMedium, SeverityLow, SeverityNegligible, SeverityUnknown) {
		return invalid("severity", "is critical, high, medium, low, negligible or unknown")
	}
	return nil
}
