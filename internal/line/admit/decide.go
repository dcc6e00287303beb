package admit

import (
	"fmt"
	"strings"
	"time"

	"kiln"
)

// Decide returns the policy's verdict over an artefact at the time now. It is
// pure: it reads nothing but its arguments.
//
// A pattern of "never" that matches denies, and no exception helps. Otherwise
// the first rule that matches decides; no match is denied. Every condition of
// the rule gives one check: allow, deny, or unknown where a document is
// missing. One denial denies; without one, one unknown makes the verdict
// unknown. An exception that holds turns a check into allow and shows.
//
// The record's evidence and statements must have been verified: Decide looks at
// who signed, not at signatures.
func Decide(p *Policy, r *kiln.Record, now time.Time) *kiln.Verdict {
	d := newDecision(p, r, now)
	if rule, path := d.choose(); rule != nil {
		d.decide(rule, path)
	}
	return d.finish()
}

// DecideInputs is Decide over what is known before a build: the patterns of
// "never" and the matching rule's demands on inputs alone. A verdict that does
// not allow means that building would be in vain, and that the inputs'
// programs must not run.
func DecideInputs(p *Policy, r *kiln.Record, now time.Time) *kiln.Verdict {
	d := newDecision(p, r, now)
	if rule, path := d.choose(); rule != nil && len(rule.Inputs) > 0 {
		d.inputs(rule, path+".inputs")
	}
	return d.finish()
}

// decision is a verdict in the making.
type decision struct {
	*Policy
	r   *kiln.Record
	now time.Time
	v   *kiln.Verdict
}

func newDecision(p *Policy, r *kiln.Record, now time.Time) *decision {
	return &decision{p, r, now, &kiln.Verdict{
		Header: kiln.NewHeader("Verdict"), Subject: r.Subject, Match: r.Match,
		Mode: p.Mode(), Policy: p.digest, Time: now.Unix(), Checks: []kiln.Check{},
	}}
}

// choose finds the deciding rule; nil when the answer is already there.
func (d *decision) choose() (*rule, string) {
	for i, n := range d.doc.Never {
		if matches(n.Match, d.r.Match) {
			d.v.Rule = d.at(fmt.Sprintf("never[%d]", i))
			d.v.Checks = append(d.v.Checks, kiln.Check{
				Rule: d.v.Rule, Decision: kiln.Deny,
				Expected: fmt.Sprintf("a name that %q does not match", n.Match), Found: d.r.Match + ": " + n.Reason,
				Remedy: "nothing excepts from never; change the policy with whoever owns it, or use another artefact",
			})
			return nil, ""
		}
	}
	for i := range d.doc.Rules {
		if matches(d.doc.Rules[i].Match, d.r.Match) {
			path := fmt.Sprintf("rules[%d]", i)
			d.v.Rule = d.at(path)
			return &d.doc.Rules[i], path
		}
	}
	d.v.Rule = d.at("rules")
	d.v.Checks = append(d.v.Checks, kiln.Check{
		Rule: d.v.Rule, Decision: kiln.Deny, Expected: "a rule that matches " + d.r.Match, Found: "none; what no rule allows is denied",
		Remedy: fmt.Sprintf("add a rule such as {match: %q, signed_by: [...]}", d.r.Match),
	})
	return nil, ""
}

// decide makes one check for each condition of the rule.
func (d *decision) decide(r *rule, path string) {
	if len(r.SignedBy) > 0 {
		d.signedBy(r, path+".signed_by")
	}
	if len(r.Inputs) > 0 {
		d.inputs(r, path+".inputs")
	}
	for i := range r.Attestations {
		d.attestation(&r.Attestations[i], fmt.Sprintf("%s.attestations[%d]", path, i))
	}
	d.releaseAge(r, path)
	switch {
	case r.Vulnerabilities != nil:
		d.findings(r.Vulnerabilities, path+".vulnerabilities")
	case d.doc.Defaults.Vulnerabilities != nil:
		d.findings(d.doc.Defaults.Vulnerabilities, "defaults.vulnerabilities")
	}
}

// answer is what a condition found.
type answer struct {
	decision, expected, found, remedy string
	evidence                          []string
	used                              []exception // already, for single findings or objectives
}

// add files a condition's answer, after looking for an exception from the whole condition.
func (d *decision) add(condition, path string, a answer) {
	c := kiln.Check{Rule: d.at(path), Decision: a.decision, Expected: a.expected, Found: a.found, Evidence: a.evidence}
	var ids []string
	for _, e := range a.used {
		d.use(e)
		ids = append(ids, e.ID)
	}
	c.Exception = strings.Join(ids, ", ")
	if a.decision != kiln.Allow {
		if e := d.excepted(func(e exception) bool { return e.Condition == condition }); e != nil {
			d.use(*e)
			c.Decision, c.Exception = kiln.Allow, e.ID
		} else {
			c.Remedy = a.remedy + "; " + d.proposal("condition: "+condition)
		}
	}
	d.v.Checks = append(d.v.Checks, c)
}

// excepted returns the first exception for this artefact that holds and fits.
func (d *decision) excepted(fits func(exception) bool) *exception {
	for i := range d.doc.Exceptions {
		if e := &d.doc.Exceptions[i]; fits(*e) && e.appliesTo(d.r.Match, d.r.Version, d.now) {
			return e
		}
	}
	return nil
}

func (d *decision) use(e exception) {
	for _, old := range d.v.Exceptions {
		if old.ID == e.ID {
			return
		}
	}
	d.v.Exceptions = append(d.v.Exceptions, e.kiln())
}

// proposal says how to ask for an exception.
func (d *decision) proposal(what string) string {
	until := d.now.AddDate(0, 0, 30).UTC().Format(time.DateOnly)
	return fmt.Sprintf("to propose an exception, add to the policy's exceptions: {id: EX-1, match: %q, %s, reason: \"...\", owner: you@example.com, approved_by: security@example.com, expires: %s}",
		d.r.Match, what, until)
}

// finish adds up the checks. A verdict without a check allows nothing, but for
// inputs, where the rule may demand nothing of them.
func (d *decision) finish() *kiln.Verdict {
	d.v.Decision = kiln.Allow
	for _, c := range d.v.Checks {
		switch c.Decision {
		case kiln.Deny:
			d.v.Decision = kiln.Deny
			return d.v
		case kiln.Unknown:
			d.v.Decision = kiln.Unknown
		}
	}
	return d.v
}
