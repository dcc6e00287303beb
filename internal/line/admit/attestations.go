package admit

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"kiln"
)

// predicateVulnerabilities is cosign's predicate for a vulnerability scan.
const predicateVulnerabilities = "https://cosign.sigstore.dev/attestation/vuln/v1"

// attested says what an attestation type is made of.
type attested struct {
	predicates []string
	role       string // this factory's role for it; a final "/" means any below
}

var attestedBy = map[string]attested{
	condProvenance:      {[]string{kiln.PredicateProvenance}, "builder/"},
	condSBOM:            {[]string{kiln.PredicateCycloneDX, kiln.PredicateSPDX}, "scanner"},
	condTests:           {[]string{kiln.PredicateTestResult}, "tester"},
	condHardening:       {[]string{kiln.PredicateTestResult}, "tester"},
	condVulnerabilities: {[]string{predicateVulnerabilities}, "scanner"},
	condRelease:         {[]string{kiln.PredicateRelease}, "release"},
}

// attestation checks that a statement of the type exists, by whom it must be, and then what it says.
func (d *decision) attestation(t *attestation, path string) {
	a := answer{decision: kiln.Allow, expected: expectation(t), remedy: "run the station that makes this statement, with this factory's keys"}
	s, why := d.statement(t)
	if s == nil {
		a.decision, a.found = kiln.Unknown, why
		d.add(t.Type, path, a)
		return
	}
	a.found = "signed by " + s.Role
	a.evidence = []string{string(s.Bundle)}
	switch t.Type {
	case condProvenance:
		d.provenance(t, s, &a)
	case condTests:
		d.tests(&a)
	case condHardening:
		d.hardening(t, &a)
	case condVulnerabilities:
		d.scan(t, s, &a)
	}
	d.add(t.Type, path, a)
}

func expectation(t *attestation) string {
	by := "this factory's role"
	if t.By != "" {
		by = "root " + t.By
	}
	text := t.Type + " signed by " + by
	switch {
	case t.Type == condTests:
		text += ", all passed"
	case t.Type == condHardening:
		text += fmt.Sprintf(", at most %d objectives%s open", maxFailed(t), ofSeverity(t.Severity))
		if t.Profile != "" {
			text += ", profile " + t.Profile
		}
	case t.Level > 0:
		text += fmt.Sprintf(", SLSA build level %d", t.Level)
	case t.MaxAge > 0:
		text += ", not older than " + t.MaxAge.String()
	}
	return text
}

func maxFailed(t *attestation) int {
	if t.MaxFailed == nil {
		return 0
	}
	return *t.MaxFailed
}

func ofSeverity(s string) string {
	if s == "" || s == "low" {
		return ""
	}
	return " of severity " + s + " or higher"
}

// statement finds the statement of a type about the artefact by the right
// signer; where there is none, why.
func (d *decision) statement(t *attestation) (*kiln.Statement, string) {
	kind := attestedBy[t.Type]
	why := "no such statement"
	for i := range d.r.Statements {
		s := &d.r.Statements[i]
		if !slices.Contains(kind.predicates, s.PredicateType) || !d.about(s) || !d.binds(t.Type, s) {
			continue
		}
		if t.By != "" {
			if d.signed(d.roots[t.By], s.PredicateType) == s {
				return s, ""
			}
			why = fmt.Sprintf("one signed by %s (key %s), not by root %s", s.Role, s.KeyID.Short(), t.By)
			continue
		}
		switch {
		case !entitled(kind.role, s.Role):
			why = fmt.Sprintf("one signed by %s, who may not say this", s.Role)
		case d.self == nil:
			why = fmt.Sprintf("one signed by %s, but this factory's own keys were not given to compare", s.Role)
		case !d.own(s):
			why = fmt.Sprintf("one signed as %s by key %s, which is not this factory's", s.Role, s.KeyID.Short())
		default:
			return s, ""
		}
	}
	return nil, why
}

func entitled(wanted, role string) bool {
	if strings.HasSuffix(wanted, "/") {
		return strings.HasPrefix(role, wanted)
	}
	return role == wanted
}

// binds reports whether a test result states the very document that the record
// holds: tests and hardening have the same predicate type.
func (d *decision) binds(kind string, s *kiln.Statement) bool {
	var doc any
	switch {
	case kind == condTests && d.r.Trial != nil:
		doc = d.r.Trial
	case kind == condHardening && d.r.Hardening != nil:
		doc = d.r.Hardening
	case kind == condTests, kind == condHardening:
		return false
	default:
		return true
	}
	want, err := kiln.DigestOf(doc)
	if err != nil {
		return false
	}
	var p struct {
		Configuration []struct {
			Digest map[string]string `json:"digest"`
		} `json:"configuration"`
	}
	if json.Unmarshal(s.Predicate, &p) != nil {
		return false
	}
	for _, c := range p.Configuration {
		if c.Digest["sha256"] == want.Hex() {
			return true
		}
	}
	return false
}

// provenance compares the build level, which is that of the builder's class.
func (d *decision) provenance(t *attestation, s *kiln.Statement, a *answer) {
	level := 1 // a workstation's builder can be changed by its user
	switch strings.TrimPrefix(s.Role, "builder/") {
	case "server":
		level = 2
	case "machine": // a fresh virtual machine a build
		level = 3
	}
	if t.By != "" {
		level = 1 // what another's builder is, nobody here knows
	}
	a.found += fmt.Sprintf(", SLSA build level %d", level)
	if level < t.Level {
		a.decision, a.remedy = kiln.Deny, "build it on a builder of that level"
	}
}

func (d *decision) tests(a *answer) {
	trial := d.r.Trial
	var failed []string
	for _, r := range trial.Tests {
		if r.Result != kiln.Pass {
			failed = append(failed, fmt.Sprintf("%s: %s", r.Name, r.Result))
		}
	}
	switch {
	case trial.Result != kiln.Pass || len(failed) > 0:
		a.decision, a.remedy = kiln.Deny, "make the tests pass"
		a.found = fmt.Sprintf("%d of %d tests did not pass (%s)", len(failed), len(trial.Tests), shorten(failed))
	case len(trial.Tests) == 0:
		a.decision, a.remedy = kiln.Unknown, "add tests to the recipe"
		a.found = "no test was run"
	default:
		a.found += fmt.Sprintf(", %d tests passed", len(trial.Tests))
	}
}

// hardening counts objectives that do not hold. One whose state is unknown, or
// whose waiver has expired, does not count as holding.
func (d *decision) hardening(t *attestation, a *answer) {
	h := d.r.Hardening
	if t.Profile != "" && h.Profile != t.Profile {
		a.decision, a.found, a.remedy = kiln.Deny, "profile "+h.Profile, "harden with profile "+t.Profile
		return
	}
	if len(h.Outcomes) == 0 {
		a.decision, a.found, a.remedy = kiln.Unknown, "profile "+h.Profile+" looked at no objective", "choose a hardening profile in the recipe"
		return
	}
	var failed, unknown, waived []string
	for _, o := range h.Outcomes {
		if !atLeast(o.Severity, t.Severity) {
			continue
		}
		open := o.State == kiln.NotSatisfied || o.State == kiln.Waived && (o.Waiver == nil || o.Waiver.Expired(d.now))
		switch {
		case !open && o.State != kiln.Unknown:
			if o.State == kiln.Waived {
				waived = append(waived, fmt.Sprintf("%s until %s by %s", o.Objective, o.Waiver.Expires, o.Waiver.Owner))
			}
		case d.objectiveExcepted(o.Objective, a):
		case open:
			failed = append(failed, o.Objective)
		default:
			unknown = append(unknown, o.Objective)
		}
	}
	a.found += fmt.Sprintf(", profile %s, %d objectives%s open", h.Profile, len(failed), ofSeverity(t.Severity))
	if len(failed) > 0 {
		a.found += " (" + shorten(failed) + ")"
	}
	if len(unknown) > 0 {
		a.found += fmt.Sprintf(", %d not known (%s)", len(unknown), shorten(unknown))
	}
	if len(waived) > 0 {
		a.found += ", waived: " + shorten(waived)
	}
	a.remedy = "meet these objectives, or waive them in the recipe with owner, reason and expiry"
	switch {
	case len(failed) > maxFailed(t):
		a.decision = kiln.Deny
	case len(failed)+len(unknown) > maxFailed(t):
		a.decision = kiln.Unknown
	}
}

func (d *decision) objectiveExcepted(objective string, a *answer) bool {
	e := d.excepted(func(e exception) bool { return e.Objective == objective })
	if e == nil {
		return false
	}
	a.used = append(a.used, *e)
	return true
}

// atLeast compares severities; one that is not known counts as the worst, and no limit counts everything.
func atLeast(severity, limit string) bool {
	if limit == "" {
		return true
	}
	i := slices.Index(severities, severity)
	return i < 0 || i >= slices.Index(severities, limit)
}

// scan compares the age of a vulnerability scan.
func (d *decision) scan(t *attestation, s *kiln.Statement, a *answer) {
	if !d.r.Scanned {
		a.decision, a.found, a.remedy = kiln.Unknown, "vulnerabilities were not looked for", "scan the artefact"
		return
	}
	if t.MaxAge == 0 {
		return
	}
	var p struct {
		Metadata struct {
			Finished time.Time `json:"scanFinishedOn"`
		} `json:"metadata"`
	}
	a.remedy = "scan the artefact again"
	if json.Unmarshal(s.Predicate, &p) != nil || p.Metadata.Finished.IsZero() {
		a.decision, a.found = kiln.Unknown, "the scan's time is not known"
		return
	}
	old := d.now.Sub(p.Metadata.Finished)
	a.found += ", scanned " + p.Metadata.Finished.UTC().Format(time.RFC3339)
	if old > time.Duration(t.MaxAge) || old < -time.Hour {
		a.decision = kiln.Deny
	}
}
