package admit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"kiln"
	"kiln/internal/strictyaml"
)

// maxException is how far ahead an exception may end.
const maxException = 180 * 24 * time.Hour

// severities from harmless to worst.
var severities = []string{kiln.SeverityNegligible, kiln.SeverityLow, kiln.SeverityMedium, kiln.SeverityHigh, kiln.SeverityCritical}

// Conditions of a rule, as exceptions name them.
const (
	condSignedBy        = "signed_by"
	condInputs          = "inputs"
	condReleaseAge      = "min_release_age"
	condProvenance      = "provenance"
	condSBOM            = "sbom"
	condTests           = "tests"
	condHardening       = "hardening"
	condVulnerabilities = "vulnerabilities"
	condRelease         = "release"
)

var (
	attestationTypes = []string{condProvenance, condSBOM, condTests, condHardening, condVulnerabilities, condRelease}
	conditions       = append([]string{condSignedBy, condInputs, condReleaseAge}, attestationTypes...)
)

// linter checks what the types alone cannot say.
type linter struct {
	*Policy
	d    *strictyaml.Decoder
	now  time.Time
	file string
}

func (c *linter) fail(path, message, hint string) { c.d.FailAt(path, message, hint) }

func (c *linter) oneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		c.fail(path, fmt.Sprintf("%q is none of %s", strictyaml.Clip(value, 40), strings.Join(allowed, ", ")), "")
	}
}

func (c *linter) lint() {
	if c.doc.Version != 1 {
		c.fail("version", "this program reads version 1", "begin the file with: version: 1")
	}
	for _, name := range slices.Sorted(maps.Keys(c.doc.Roots)) {
		c.root(name)
	}
	c.defaults()
	for i, n := range c.doc.Never {
		path := fmt.Sprintf("never[%d]", i)
		c.pattern(path+".match", n.Match)
		if n.Reason == "" {
			c.fail(path, "needs a reason", "say why, for whoever is refused")
		}
	}
	if len(c.doc.Rules) == 0 {
		c.fail("rules", "there is no rule, so everything would be denied", "")
	}
	for i := range c.doc.Rules {
		c.rule(fmt.Sprintf("rules[%d]", i), &c.doc.Rules[i])
	}
	c.shadowed()
	seen := map[string]bool{}
	for i, e := range c.doc.Exceptions {
		path := fmt.Sprintf("exceptions[%d]", i)
		if seen[e.ID] {
			c.fail(path+".id", "another exception has the same id", "")
		}
		seen[e.ID] = true
		c.exception(path, e)
	}
}

func (c *linter) defaults() {
	d := &c.doc.Defaults
	if d.Mode == "" {
		d.Mode = "enforce"
	}
	if d.UnknownSeverity == "" {
		d.UnknownSeverity = kiln.Deny
	}
	c.oneOf("defaults.mode", d.Mode, "enforce", "warn", "observe")
	c.oneOf("defaults.unknown_severity", d.UnknownSeverity, kiln.Deny, kiln.Allow)
	c.vulnerabilities("defaults.vulnerabilities", d.Vulnerabilities)
}

func (c *linter) vulnerabilities(path string, v *vulnerabilities) {
	if v != nil {
		c.oneOf(path+".max", v.Max, append([]string{"none"}, severities...)...)
	}
}

func (c *linter) pattern(path, match string) {
	switch {
	case match == "":
		c.fail(path, "needs a pattern", `for example "image:**" or "apt:debian/*"`)
	case len(match) > 512:
		c.fail(path, "the pattern is longer than 512 characters", "")
	case !strings.Contains(match, ":") && !strings.HasPrefix(match, "**"):
		c.fail(path, fmt.Sprintf("pattern %q names no kind of artefact", match), fmt.Sprintf("write image:%s, apt:%s or oci:%s", match, match, match))
	case strings.Contains(match, "***"):
		c.fail(path, "*** is no pattern", "write * (within one part of a name) or ** (across parts)")
	}
}

func (c *linter) rule(path string, r *rule) {
	c.pattern(path+".match", r.Match)
	if _, _, versioned := cutVersion(r.Match); versioned {
		c.fail(path+".match", "rules match names without a version", "remove the @ and what follows; exceptions may have a version")
	}
	if len(r.SignedBy)+len(r.Inputs)+len(r.Attestations) == 0 && r.Vulnerabilities == nil {
		c.fail(path, "demands nothing: it would admit without evidence", "add signed_by, inputs, attestations or vulnerabilities")
	}
	for i, ref := range r.SignedBy {
		c.ref(fmt.Sprintf("%s.signed_by[%d].root", path, i), ref.Root)
	}
	for i, ref := range r.Inputs {
		c.ref(fmt.Sprintf("%s.inputs[%d].root", path, i), ref.Root)
	}
	for i := range r.Attestations {
		c.attestation(fmt.Sprintf("%s.attestations[%d]", path, i), &r.Attestations[i])
	}
	c.vulnerabilities(path+".vulnerabilities", r.Vulnerabilities)
}

func (c *linter) ref(path, name string) {
	if _, ok := c.doc.Roots[name]; ok {
		return
	}
	hint := "known: " + strings.Join(slices.Sorted(maps.Keys(c.doc.Roots)), ", ")
	if near := strictyaml.Nearest(name, slices.Collect(maps.Keys(c.doc.Roots))); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	c.fail(path, fmt.Sprintf("there is no root %q", strictyaml.Clip(name, 60)), hint)
}

// attestation checks that every parameter belongs to the type: a misplaced one would silently demand nothing.
func (c *linter) attestation(path string, a *attestation) {
	c.oneOf(path+".type", a.Type, attestationTypes...)
	if a.By != "" {
		c.ref(path+".by", a.By)
	}
	for _, p := range []struct {
		field, only string
		set         bool
	}{
		{"level", condProvenance, a.Level != 0},
		{"result", condTests, a.Result != ""},
		{"profile", condHardening, a.Profile != ""},
		{"max_failed", condHardening, a.MaxFailed != nil},
		{"severity", condHardening, a.Severity != ""},
		{"max_age", condVulnerabilities, a.MaxAge != 0},
	} {
		if p.set && a.Type != p.only {
			c.fail(path+"."+p.field, "belongs to type "+p.only+" only", "")
		}
	}
	if a.Result != "" {
		c.oneOf(path+".result", a.Result, "passed")
	}
	if a.Severity != "" {
		c.oneOf(path+".severity", a.Severity, "low", "medium", "high")
	}
	if a.Level < 0 || a.Level > 3 {
		c.fail(path+".level", "SLSA build levels are 1 to 3", "")
	}
	if a.MaxFailed != nil && *a.MaxFailed < 0 {
		c.fail(path+".max_failed", "is a number of objectives, 0 or more", "")
	}
}

// shadowed warns of rules that can never decide.
func (c *linter) shadowed() {
	for j, later := range c.doc.Rules {
		at := c.at(fmt.Sprintf("rules[%d]", j))
		for i, n := range c.doc.Never {
			if shadows(n.Match, later.Match) {
				c.warn("%s never decides: %s refuses everything that it matches", at, c.at(fmt.Sprintf("never[%d]", i)))
			}
		}
		for i, first := range c.doc.Rules[:j] {
			if shadows(first.Match, later.Match) {
				c.warn("%s never decides: %s matches everything that it matches, and comes first", at, c.at(fmt.Sprintf("rules[%d]", i)))
				break
			}
		}
	}
}

func (c *linter) warn(format string, a ...any) {
	c.Warnings = append(c.Warnings, c.file+": "+fmt.Sprintf(format, a...))
}

func (c *linter) exception(path string, e exception) {
	for _, f := range []struct{ name, value string }{
		{"id", e.ID}, {"match", e.Match}, {"reason", e.Reason}, {"owner", e.Owner}, {"approved_by", e.ApprovedBy}, {"expires", e.Expires},
	} {
		if f.value == "" {
			c.fail(path, "an exception needs "+f.name, "id, match, reason, owner, approved_by and expires are mandatory")
			return
		}
	}
	name, _, _ := cutVersion(e.Match)
	c.pattern(path+".match", name)
	c.excepted(path, e)
	last, err := time.Parse(time.DateOnly, e.Expires)
	switch {
	case err != nil:
		c.fail(path+".expires", fmt.Sprintf("%q is no date", strictyaml.Clip(e.Expires, 40)), "write YYYY-MM-DD, the last day on which it holds")
	case last.After(c.now.Add(maxException)):
		c.fail(path+".expires", "is more than 180 days ahead", "write "+c.now.Add(maxException).UTC().Format(time.DateOnly)+" or earlier, and renew it then")
	case e.kiln().Expired(c.now):
		c.warn("%s: exception %s has expired on %s and has no effect; remove or renew it", c.at(path), e.ID, e.Expires)
	}
}

func (c *linter) excepted(path string, e exception) {
	n := 0
	for _, s := range []string{e.Vulnerability, e.Objective, e.Condition} {
		if s != "" {
			n++
		}
	}
	if n != 1 {
		c.fail(path, "an exception excepts exactly one thing", "give one of vulnerability, objective or condition")
	}
	if e.Condition != "" {
		c.oneOf(path+".condition", e.Condition, conditions...)
	}
}
