// Package admit decides whether an artefact may be served: a pure function of a
// policy, what is known about the artefact, and the time.
package admit

import (
	_ "embed"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"kiln"
	"kiln/internal/strictyaml"
)

// Policy is a policy file that was read and found to make sense. It is immutable.
type Policy struct {
	// Warnings are what a reader of the file should know: rules that never decide, exceptions that have expired.
	Warnings []string

	doc    document
	digest kiln.Digest
	where  func(path string) strictyaml.Position
	roots  map[string]root
	self   map[string][]kiln.Digest
}

// Digest returns the digest of the policy file's bytes.
func (p *Policy) Digest() kiln.Digest { return p.digest }

// Mode returns observe, warn or enforce.
func (p *Policy) Mode() string { return p.doc.Defaults.Mode }

// WithSelf returns the policy of a factory whose roles sign with these keys
// (role to key ids). Without it, conditions on the factory's own statements are
// unknown: anybody can write a role's name into a statement.
func (p *Policy) WithSelf(keys map[string][]kiln.Digest) *Policy {
	bound := *p
	bound.self = maps.Clone(keys)
	return &bound
}

// document is the file as it is written.
type document struct {
	Version    int                 `yaml:"version"`
	Roots      map[string]rootSpec `yaml:"roots"`
	Defaults   defaults            `yaml:"defaults"`
	Never      []never             `yaml:"never"`
	Rules      []rule              `yaml:"rules"`
	Exceptions []exception         `yaml:"exceptions"`
}

type defaults struct {
	Mode string `yaml:"mode"`
	// MinReleaseAge is for artefacts that somebody else published.
	MinReleaseAge age `yaml:"min_release_age"`
	// UnknownSeverity is deny or allow.
	UnknownSeverity string           `yaml:"unknown_severity"`
	Vulnerabilities *vulnerabilities `yaml:"vulnerabilities"`
}

type vulnerabilities struct {
	Max           string `yaml:"max"` // the highest severity that is let pass
	IgnoreUnfixed bool   `yaml:"ignore_unfixed"`
}

type never struct {
	Match  string `yaml:"match"`
	Reason string `yaml:"reason"`
}

type rule struct {
	Match string `yaml:"match"`
	// SignedBy: somebody of these signed the artefact itself.
	SignedBy []rootRef `yaml:"signed_by"`
	// Inputs: somebody of these signed each of the artefact's inputs.
	Inputs          []rootRef        `yaml:"inputs"`
	Attestations    []attestation    `yaml:"attestations"`
	MinReleaseAge   *age             `yaml:"min_release_age"`
	Vulnerabilities *vulnerabilities `yaml:"vulnerabilities"`
}

type rootRef struct {
	Root string `yaml:"root"`
}

type attestation struct {
	Type string `yaml:"type"` // provenance, sbom, tests, hardening, vulnerabilities, release
	// By is a root; empty means this factory's own role for the type.
	By string `yaml:"by"`
	// Level is the least SLSA build level of a provenance.
	Level int `yaml:"level"`
	// Result of tests: passed.
	Result string `yaml:"result"`
	// Profile, MaxFailed and Severity are for hardening: at most MaxFailed objectives of that severity or a higher one do not hold.
	Profile   string `yaml:"profile"`
	MaxFailed *int   `yaml:"max_failed"`
	Severity  string `yaml:"severity"`
	// MaxAge is for vulnerabilities: how old the scan may be.
	MaxAge age `yaml:"max_age"`
}

type exception struct {
	ID    string `yaml:"id"`
	Match string `yaml:"match"` // name, or name@version
	// Exactly one says what is excepted: one vulnerability, one hardening objective, or one condition of the rule.
	Vulnerability string `yaml:"vulnerability"`
	Objective     string `yaml:"objective"`
	Condition     string `yaml:"condition"`

	Reason     string `yaml:"reason"`
	Owner      string `yaml:"owner"`
	ApprovedBy string `yaml:"approved_by"`
	Expires    string `yaml:"expires"` // YYYY-MM-DD, the last day it holds
}

func (e exception) kiln() kiln.Exception {
	return kiln.Exception{ID: e.ID, Owner: e.Owner, Reason: e.Reason, Expires: e.Expires, ApprovedBy: e.ApprovedBy}
}

// appliesTo reports whether the exception is for that artefact and still holds.
func (e exception) appliesTo(match, version string, now time.Time) bool {
	if e.kiln().Expired(now) {
		return false
	}
	name, wanted, versioned := cutVersion(e.Match)
	return matches(name, match) && (!versioned || matches(wanted, version))
}

// cutVersion splits NAME@VERSION at the last "@" that is not the first character after a "/" or ":" (npm scopes).
func cutVersion(match string) (name, version string, ok bool) {
	i := strings.LastIndexByte(match, '@')
	if i <= 0 || match[i-1] == '/' || match[i-1] == ':' || strings.Contains(match[i:], "/") {
		return match, "", false
	}
	return match[:i], match[i+1:], true
}

// age is a time span written as 12h, 7d or 90m.
type age time.Duration

// UnmarshalText reads a span: a whole number of days, or a Go duration.
func (a *age) UnmarshalText(b []byte) error {
	text := string(b)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36500 {
			return fmt.Errorf("%.40q is no span; write 12h or 7d", text)
		}
		*a = age(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return fmt.Errorf("%.40q is no span; write 12h or 7d", text)
	}
	*a = age(d)
	return nil
}

func (a age) String() string {
	d := time.Duration(a)
	if d >= 48*time.Hour && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	return d.String()
}

//go:embed default.yaml
var defaultPolicy []byte

// DefaultFile returns the text of the built-in policy, for users who want to start from it.
func DefaultFile() []byte { return append([]byte(nil), defaultPolicy...) }

//go:embed policy.schema.json
var schemaFile []byte

// Schema returns the JSON Schema of policy files, for editors.
func Schema() []byte { return append([]byte(nil), schemaFile...) }

// Default returns the built-in policy.
func Default() *Policy {
	p, err := ParsePolicy(defaultPolicy, "built-in policy")
	if err != nil {
		panic("internal error: " + err.Error()) // a test reads it
	}
	return p
}

// ParsePolicy reads a policy file strictly. file is its path: it names the file
// in errors, and paths of keys are relative to its folder. Unknown fields, unknown
// roots and exceptions without an end are errors with their line.
func ParsePolicy(data []byte, file string) (*Policy, error) { return parseAt(data, file, time.Now()) }

func parseAt(data []byte, file string, now time.Time) (*Policy, error) {
	node, err := strictyaml.Parse(data, file)
	if err != nil {
		return nil, err
	}
	d := &strictyaml.Decoder{File: file}
	p := &Policy{digest: kiln.DigestBytes(data), where: d.Where, roots: map[string]root{}}
	d.Decode(node, &p.doc)
	if err := d.Err(); err != nil {
		return nil, err
	}
	c := &linter{Policy: p, d: d, now: now, file: file}
	c.lint()
	return p, d.Err()
}

// at names a place of the policy as verdicts and warnings do.
func (p *Policy) at(path string) string {
	return fmt.Sprintf("%s (line %d)", path, p.where(path).Line)
}
