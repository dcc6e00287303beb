package admit

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/internal/pgp"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// keyOf is the key id of a role of this factory in these tests.
func keyOf(role string) kiln.Digest { return kiln.DigestBytes([]byte("key of " + role)) }

func self() map[string][]kiln.Digest {
	keys := map[string][]kiln.Digest{}
	for _, role := range []string{"builder/workstation", "scanner", "tester", "gate", "release"} {
		keys[role] = []kiln.Digest{keyOf(role)}
	}
	return keys
}

var subject = kiln.Subject{Name: "demo", Digest: kiln.DigestBytes([]byte("image"))}

func state(r *kiln.Record, predicate, role string, about any) {
	s := kiln.Statement{
		Header: kiln.NewHeader("Statement"), PredicateType: predicate, Subject: []kiln.Subject{subject},
		Role: role, KeyID: keyOf(role), Bundle: kiln.DigestBytes([]byte(predicate)),
	}
	if about != nil {
		d, err := kiln.DigestOf(about)
		if err != nil {
			panic(err)
		}
		s.Predicate = json.RawMessage(fmt.Sprintf(`{"configuration":[{"digest":{"sha256":%q}}]}`, d.Hex()))
	}
	r.Statements = append(r.Statements, s)
}

func evidence(name string, signers ...string) kiln.Evidence {
	return kiln.Evidence{
		Header: kiln.NewHeader("Evidence"), Subject: kiln.Subject{Name: name, Digest: kiln.DigestBytes([]byte(name))},
		Type: "openpgp-apt", Signers: signers, Checks: []string{"signature"},
	}
}

const bookworm = "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8"

// image is an image that this factory built well. Changes are made before its documents are signed.
func image(changes ...func(*kiln.Record)) *kiln.Record {
	r := &kiln.Record{
		Match: "image:demo/web", Subject: subject,
		Evidence: []kiln.Evidence{evidence("InRelease of debian/bookworm", bookworm), evidence("apt:debian/nginx@1.22", bookworm)},
		Trial:    &kiln.Trial{Header: kiln.NewHeader("Trial"), Result: kiln.Pass, Tests: []kiln.TestResult{{Name: "answers", Result: kiln.Pass}}},
		Hardening: &kiln.HardeningResult{Header: kiln.NewHeader("HardeningResult"), Profile: "container-baseline", Outcomes: []kiln.Outcome{
			{Objective: "no-setuid", Severity: "high", State: kiln.Satisfied}, {Objective: "umask", Severity: "low", State: kiln.Satisfied},
		}},
		Bill: &kiln.Bill{Header: kiln.NewHeader("Bill"), Components: []kiln.Component{
			{Type: "deb", Name: "nginx", Version: "1.22", Digest: kiln.DigestBytes([]byte("apt:debian/nginx@1.22"))}, {Type: "pypi", Name: "x"},
		}},
	}
	for _, change := range changes {
		change(r)
	}
	state(r, kiln.PredicateProvenance, "builder/workstation", nil)
	state(r, kiln.PredicateCycloneDX, "scanner", nil)
	state(r, kiln.PredicateTestResult, "tester", r.Trial)
	state(r, kiln.PredicateTestResult, "tester", r.Hardening)
	return r
}

func parse(t *testing.T, text string) *Policy {
	t.Helper()
	p, err := parseAt([]byte(text), "policy.yaml", now)
	if err != nil {
		t.Fatal(err)
	}
	return p.WithSelf(self())
}

// sentences gives the three words in which a policy's test is written. Each
// names what must stand in the deciding checks.
func sentences(t *testing.T, p *Policy) (allow, deny, unknown func(what string, r *kiln.Record, found string)) {
	say := func(decision string) func(string, *kiln.Record, string) {
		return func(what string, r *kiln.Record, found string) {
			t.Helper()
			v := Decide(p, r, now)
			if err := v.Validate(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if v.Decision != decision {
				t.Errorf("%s: %s, want %s\n%s", what, v.Decision, decision, show(v))
			}
			if !strings.Contains(show(v), found) {
				t.Errorf("%s: no %q in\n%s", what, found, show(v))
			}
			for _, c := range v.Checks {
				if c.Decision != kiln.Allow && (c.Remedy == "" || c.Expected == "" || c.Found == "") || !strings.Contains(c.Rule, "(line ") {
					t.Errorf("%s: check says too little: %+v", what, c)
				}
			}
		}
	}
	return say(kiln.Allow), say(kiln.Deny), say(kiln.Unknown)
}

func show(v *kiln.Verdict) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s by %s\n", v.Decision, v.Rule)
	for _, c := range v.Checks {
		fmt.Fprintf(&b, "  %s %s: expected %s; found %s [%s] %s\n", c.Decision, c.Rule, c.Expected, c.Found, c.Exception, c.Remedy)
	}
	return b.String()
}

func TestBuiltInPolicy(t *testing.T) {
	p := Default()
	if len(p.Warnings) > 0 {
		t.Error(p.Warnings)
	}
	allow, deny, unknown := sentences(t, p.WithSelf(self()))

	allow("an image made well", image(), "2 inputs: 2 accepted by debian")
	allow("an image from Ubuntu's archive", image(func(r *kiln.Record) {
		for i := range r.Evidence {
			r.Evidence[i].Signers = []string{"F6ECB3762474EDA9D21B7022871920D1991BC93C"}
		}
	}), "accepted by ubuntu")
	allow("an image on a base that is only pinned", image(func(r *kiln.Record) {
		pin := evidence("oci:registry.example.com/base")
		pin.Type = digestPin
		r.Evidence = append(r.Evidence, pin)
		r.Bill.Components = append(r.Bill.Components, kiln.Component{Type: "deb", Name: "libc6", Version: "2"})
	}), "1 accepted by pinned")
	allow("one good signer beside one that nobody knows", image(func(r *kiln.Record) { r.Evidence[0].Signers = []string{"0000", bookworm} }), "")
	allow("an objective of low severity open", image(func(r *kiln.Record) { r.Hardening.Outcomes[1].State = kiln.NotSatisfied }), "0 objectives of severity high or higher open")
	allow("a high objective waived", image(waive("2026-03-01")), "waived: no-setuid until 2026-03-01 by me")

	deny("an input signed by nobody we know", image(func(r *kiln.Record) { r.Evidence[1].Signers = []string{"ABCD"} }), "apt:debian/nginx@1.22, signed by ABCD")
	deny("an input that nobody signed", image(func(r *kiln.Record) { r.Evidence[1].Signers = nil }), "signed by nobody")
	unknown("no evidence at all", image(func(r *kiln.Record) { r.Evidence = nil }), "no evidence about any input")
	unknown("a package that is no input", image(func(r *kiln.Record) {
		r.Bill.Components = append(r.Bill.Components, kiln.Component{Type: "deb", Name: "evil", Version: "6"})
	}), "no evidence about evil 6")

	deny("a test that failed", image(func(r *kiln.Record) { r.Trial.Tests[0].Result, r.Trial.Result = kiln.Fail, kiln.Fail }), "1 of 1 tests did not pass (answers: fail)")
	deny("a failed test under a trial that calls itself passed", image(func(r *kiln.Record) { r.Trial.Tests[0].Result = kiln.Error }), "answers: error")
	unknown("no test", image(func(r *kiln.Record) { r.Trial.Tests = nil }), "no test was run")
	unknown("no trial", image(func(r *kiln.Record) { r.Trial = nil }), "no such statement")
	deny("a high objective open", image(func(r *kiln.Record) { r.Hardening.Outcomes[0].State = kiln.NotSatisfied }), "1 objectives of severity high or higher open (no-setuid)")
	deny("a waiver that has expired", image(waive("2026-02-28")), "(no-setuid)")
	unknown("a high objective whose state is not known", image(func(r *kiln.Record) { r.Hardening.Outcomes[0].State = kiln.Unknown }), "1 not known (no-setuid)")
	unknown("no objective looked at", image(func(r *kiln.Record) { r.Hardening.Outcomes = nil }), "looked at no objective")
	unknown("no hardening", image(func(r *kiln.Record) { r.Hardening = nil }), "no such statement")

	for _, predicate := range []string{kiln.PredicateProvenance, kiln.PredicateCycloneDX, kiln.PredicateTestResult} {
		unknown("without "+predicate, without(image(), predicate), "no such statement")
	}
	unknown("a trial that was not the one signed", func() *kiln.Record {
		r := image()
		r.Trial.Tests = append(r.Trial.Tests, kiln.TestResult{Name: "added later", Result: kiln.Pass})
		return r
	}(), "no such statement")
	unknown("an SBOM signed by the tester", resign(image(), kiln.PredicateCycloneDX, "tester", keyOf("tester")), "who may not say this")
	unknown("an SBOM signed by somebody who calls himself scanner", resign(image(), kiln.PredicateCycloneDX, "scanner", kiln.DigestBytes(nil)), "not this factory's")
	unknown("statements about another image", func() *kiln.Record {
		r := image()
		r.Subject.Digest = kiln.DigestBytes([]byte("another"))
		return r
	}(), "no such statement")
	deny("something that is no image", func() *kiln.Record { r := image(); r.Match = "apt:debian/nginx"; return r }(), "no rule")

	_, _, unknown = sentences(t, p)
	unknown("a factory whose keys were not given", image(), "own keys were not given")
}

func waive(until string) func(*kiln.Record) {
	return func(r *kiln.Record) {
		r.Hardening.Outcomes[0].State = kiln.Waived
		r.Hardening.Outcomes[0].Waiver = &kiln.Waiver{Objective: "no-setuid", Exception: kiln.Exception{Owner: "me", Reason: "x", Expires: until}}
	}
}

func without(r *kiln.Record, predicate string) *kiln.Record {
	r.Statements = slices.DeleteFunc(r.Statements, func(s kiln.Statement) bool { return s.PredicateType == predicate })
	return r
}

func resign(r *kiln.Record, predicate, role string, key kiln.Digest) *kiln.Record {
	for i := range r.Statements {
		if r.Statements[i].PredicateType == predicate {
			r.Statements[i].Role, r.Statements[i].KeyID = role, key
		}
	}
	return r
}

func TestExceptions(t *testing.T) {
	const rules = `
version: 1
roots: {debian: {openpgp: builtin}}
rules:
  - match: "image:**"
    inputs: [{root: debian}]
    attestations: [{type: tests}, {type: hardening, max_failed: 0}]
never:
  - {match: "image:internal-*", reason: "never from outside"}
exceptions:
  - {id: EX-1, match: "image:demo/tested", condition: tests, reason: r, owner: o, approved_by: a, expires: 2026-06-01}
  - {id: EX-2, match: "image:demo/open@1.*", objective: umask, reason: r, owner: o, approved_by: a, expires: 2026-06-01}
  - {id: EX-3, match: "image:**", condition: tests, reason: r, owner: o, approved_by: a, expires: 2026-02-27}
  - {id: EX-4, match: "image:internal-*", condition: tests, reason: r, owner: o, approved_by: a, expires: 2026-06-01}
`
	p := parse(t, rules)
	allow, deny, _ := sentences(t, p)
	named := func(name, version string, change func(*kiln.Record)) *kiln.Record {
		r := image(change)
		r.Match, r.Version = "image:"+name, version
		return r
	}
	failing := func(r *kiln.Record) { r.Trial.Result, r.Trial.Tests[0].Result = kiln.Fail, kiln.Fail }
	open := func(r *kiln.Record) { r.Hardening.Outcomes[1].State = kiln.NotSatisfied }

	allow("a failed test that is excepted", named("demo/tested", "", failing), "[EX-1]")
	deny("a failed test of another image: the general exception has expired", named("demo/other", "", failing), "to propose an exception")
	deny("an excepted test does not excuse hardening", named("demo/tested", "", func(r *kiln.Record) { failing(r); open(r) }), "(umask)")
	allow("an objective that is excepted", named("demo/open", "1.7", open), "[EX-2]")
	deny("the same objective of another version", named("demo/open", "2.0", open), "(umask)")
	deny("what is never admitted, exception or not", named("internal-x", "", failing), "never from outside")

	if v := Decide(p, named("demo/tested", "", failing), now); len(v.Exceptions) != 1 || v.Exceptions[0].ApprovedBy != "a" || v.Exceptions[0].Expires != "2026-06-01" {
		t.Errorf("the verdict shows %+v", v.Exceptions)
	}
	if v := Decide(p, named("demo/tested", "", failing), now.AddDate(0, 3, 1)); v.Decision != kiln.Deny {
		t.Errorf("after its last day the exception still holds: %s", show(v))
	}
	if want := "exception EX-3 has expired on 2026-02-27"; len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], want) || !strings.Contains(p.Warnings[0], "(line 13)") {
		t.Errorf("warnings %q", p.Warnings)
	}
}

func TestReleaseAgeSignersAndVulnerabilities(t *testing.T) {
	p := parse(t, `
version: 1
roots:
  debian: {openpgp: builtin}
  mine: {fingerprints: ["0x0123 4567 89AB CDEF 0123 4567 89AB CDEF 0123 4567"]}
  factory: {self: release}
defaults: {min_release_age: 7d, vulnerabilities: {max: medium, ignore_unfixed: true}}
rules:
  - {match: "apt:debian/**", signed_by: [{root: debian}], min_release_age: 0d, vulnerabilities: {max: critical}}
  - {match: "apt:mine/*", signed_by: [{root: mine}]}
  - {match: "image:prod/**", signed_by: [{root: factory}], attestations: [{type: provenance, level: 2}]}
  - {match: "image:lab/**", attestations: [{type: provenance, level: 1}, {type: hardening, profile: cis-l1}]}
exceptions:
  - {id: EX-9, match: "apt:mine/tool", vulnerability: CVE-2026-1, reason: unused, owner: o, approved_by: a, expires: 2026-05-01}
`)
	allow, deny, unknown := sentences(t, p)
	pkg := func(match, signer string, changes ...func(*kiln.Record)) *kiln.Record {
		r := &kiln.Record{Match: match, Subject: subject, Scanned: true, PublishedAt: now.AddDate(0, 0, -8).Unix()}
		e := evidence(match, signer)
		e.Subject = subject
		r.Evidence = []kiln.Evidence{e}
		for _, c := range changes {
			c(r)
		}
		return r
	}
	const mine = "0123456789ABCDEF0123456789ABCDEF01234567"
	finding := func(id, severity, fixed string) func(*kiln.Record) {
		return func(r *kiln.Record) {
			r.Findings = append(r.Findings, kiln.Finding{ID: id, Type: "vulnerability", Severity: severity, Subject: "pkg:deb/x", FixedIn: fixed})
		}
	}
	allow("Debian's package", pkg("apt:debian/main/nginx", bookworm), "accepted by root debian")
	deny("a package signed by another", pkg("apt:debian/nginx", mine), "signed by "+mine)
	unknown("a package without evidence", pkg("apt:debian/nginx", bookworm, func(r *kiln.Record) { r.Evidence = nil }), "no evidence of a signature")
	unknown("evidence about other bytes", pkg("apt:debian/nginx", bookworm, func(r *kiln.Record) { r.Evidence[0].Subject.Digest = kiln.DigestBytes(nil) }), "no evidence of a signature")
	unknown("a package that nobody scanned", pkg("apt:debian/nginx", bookworm, func(r *kiln.Record) { r.Scanned = false }), "not looked for")
	deny("* stops at /", pkg("apt:mine/sub/tool", mine), "no rule allows")
	allow("a week old", pkg("apt:mine/tool", mine), "")
	deny("a day old", pkg("apt:mine/tool", mine, func(r *kiln.Record) { r.PublishedAt = now.AddDate(0, 0, -1).Unix() }), "wait until 2026-03-07")
	unknown("of unknown age", pkg("apt:mine/tool", mine, func(r *kiln.Record) { r.PublishedAt = 0 }), "not known")
	deny("a high vulnerability", pkg("apt:mine/tool", mine, finding("CVE-2026-2", "high", "2.0")), "CVE-2026-2 (high)")
	deny("one of unknown severity", pkg("apt:mine/tool", mine, finding("CVE-2026-3", "unknown", "2.0")), "CVE-2026-3")
	allow("a high one without a fix", pkg("apt:mine/tool", mine, finding("CVE-2026-4", "high", "")), "")
	allow("a high one that is excepted", pkg("apt:mine/tool", mine, finding("CVE-2026-1", "high", "2.0")), "[EX-9]")
	deny("the excepted one and another", pkg("apt:mine/tool", mine, finding("CVE-2026-1", "high", "2"), finding("CVE-2026-5", "critical", "2")), "1 above: CVE-2026-5")

	prod := image(func(r *kiln.Record) { r.Scanned = true })
	prod.Match = "image:prod/web"
	deny("a workstation's image in production", prod, "SLSA build level 1")
	state(prod, kiln.PredicateRelease, "release", nil)
	released := Decide(p, prod, now)
	if released.Checks[0].Decision != kiln.Allow {
		t.Errorf("a release statement does not count:\n%s", show(released))
	}
	lab := image(func(r *kiln.Record) { r.Scanned = true })
	lab.Match = "image:lab/web"
	deny("another profile", lab, "profile container-baseline")
}

func TestVulnerabilityScanMustBeFresh(t *testing.T) {
	p := parse(t, `
version: 1
rules:
  - {match: "image:**", attestations: [{type: vulnerabilities, max_age: 24h}]}
`)
	allow, deny, unknown := sentences(t, p)
	scanned := func(at string) *kiln.Record {
		r := image(func(r *kiln.Record) { r.Scanned = true })
		state(r, predicateVulnerabilities, "scanner", nil)
		r.Statements[len(r.Statements)-1].Predicate = json.RawMessage(at)
		return r
	}
	unknown("an image that was not scanned", image(), "no such statement")
	unknown("a scan without a time", scanned(`{}`), "time is not known")
	allow("a scan of this morning", scanned(`{"metadata":{"scanFinishedOn":"2026-03-01T06:00:00Z"}}`), "scanned 2026-03-01")
	deny("a scan of last week", scanned(`{"metadata":{"scanFinishedOn":"2026-02-20T06:00:00Z"}}`), "")
	deny("a scan of next week", scanned(`{"metadata":{"scanFinishedOn":"2026-03-20T06:00:00Z"}}`), "")
}

func TestInputsAreDecidedBeforeTheBuild(t *testing.T) {
	p := Default()
	before := &kiln.Record{Match: "image:x", Subject: kiln.Subject{Name: "x"}, Evidence: image().Evidence}
	if v := DecideInputs(p, before, now); v.Decision != kiln.Allow {
		t.Error(show(v))
	}
	before.Evidence[0].Signers = []string{"ABCD"}
	if v := DecideInputs(p, before, now); v.Decision != kiln.Deny {
		t.Error(show(v))
	}
}

func TestModesServe(t *testing.T) {
	for mode, serves := range map[string]bool{"enforce": false, "warn": true, "observe": true} {
		p := parse(t, "version: 1\ndefaults: {mode: "+mode+"}\nroots: {debian: {openpgp: builtin}}\nrules: [{match: 'apt:**', signed_by: [{root: debian}]}]\n")
		v := Decide(p, image(), now)
		if v.Decision != kiln.Deny || v.Mode != mode || v.Serves() != serves {
			t.Errorf("mode %s: %s, serves %v", mode, v.Decision, v.Serves())
		}
	}
}

func TestDecideIsPure(t *testing.T) {
	p, r := Default().WithSelf(self()), image()
	before, _ := kiln.DigestOf(r)
	first, _ := kiln.Encode(Decide(p, r, now))
	second, _ := kiln.Encode(Decide(p, r, now))
	if after, _ := kiln.DigestOf(r); string(first) != string(second) || before != after || len(first) == 0 {
		t.Error("the same arguments gave another verdict, or the record was changed")
	}
}

// Debian's own keyring on this machine must hold the keys that are built in.
func TestBuiltInDebianKeys(t *testing.T) {
	data, err := os.ReadFile("/usr/share/keyrings/debian-archive-keyring.gpg")
	if err != nil {
		t.Skip("no Debian keyring on this machine: ", err)
	}
	ring, err := pgp.ReadKeyring(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range builtin["debian"] {
		if !slices.Contains(ring.Fingerprints(), f) {
			t.Errorf("Debian's keyring does not have %s", f)
		}
	}
}

func TestShadowedRulesAreNamed(t *testing.T) {
	p := parse(t, `version: 1
roots: {debian: {openpgp: builtin}}
never: [{match: "image:old/**", reason: "gone"}]
rules:
  - {match: "image:**", inputs: [{root: debian}]}
  - {match: "image:prod/*", inputs: [{root: debian}]}
  - {match: "apt:*", inputs: [{root: debian}]}
  - {match: "apt:**", inputs: [{root: debian}]}
  - {match: "image:old/x", inputs: [{root: debian}]}
`)
	got := strings.Join(p.Warnings, "\n")
	for _, want := range []string{"rules[1] (line 6) never decides: rules[0] (line 5)", "rules[4] (line 9) never decides: never[0] (line 3)"} {
		if !strings.Contains(got, want) {
			t.Errorf("no warning %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "rules[3]") {
		t.Errorf("rules[3] is not shadowed:\n%s", got)
	}
}

func TestPoliciesThatAreRefused(t *testing.T) {
	const head = "version: 1\nroots: {debian: {openpgp: builtin}}\n"
	const good = "rules: [{match: \"image:**\", inputs: [{root: debian}]}]\n"
	ex := func(s string) string {
		return head + good + "exceptions:\n  - {" + s + "}\n"
	}
	cases := map[string]struct{ text, want string }{
		"empty":                       {"", "is empty"},
		"no version":                  {good, "version 1"},
		"another version":             {"version: 2\n" + good, "version 1"},
		"unknown field":               {head + good + "rule: []\n", ":4:1: rule: unknown field"},
		"unknown field in a rule":     {head + "rules:\n  - match: \"image:**\"\n    signedby: []\n", "did you mean \"signed_by\"?"},
		"duplicate key":               {head + good + good, "stands twice"},
		"no rules":                    {head, "there is no rule"},
		"rule that demands nothing":   {head + "rules: [{match: \"image:**\"}]\n", "demands nothing"},
		"rule without kind":           {head + "rules: [{match: \"demo/*\", inputs: [{root: debian}]}]\n", "names no kind"},
		"rule with version":           {head + "rules: [{match: \"image:x@1\", inputs: [{root: debian}]}]\n", "without a version"},
		"unknown root":                {head + "rules: [{match: \"image:**\", inputs: [{root: debain}]}]\n", "did you mean \"debian\"?"},
		"root of two kinds":           {"version: 1\nroots: {debian: {openpgp: builtin, self: release}}\n" + good, "exactly one kind"},
		"root without kind":           {"version: 1\nroots: {debian: {}}\n" + good, "exactly one kind"},
		"root not built in":           {"version: 1\nroots: {debian: {openpgp: builtin}, acme: {openpgp: builtin}}\n" + good, "built in are debian and ubuntu"},
		"short fingerprint":           {"version: 1\nroots: {debian: {fingerprints: [DEADBEEF]}}\n" + good, "is no fingerprint"},
		"absent keyring":              {"version: 1\nroots: {debian: {openpgp: nowhere.gpg}}\n" + good, "nowhere.gpg"},
		"absent public key":           {"version: 1\nroots: {debian: {public_key: nowhere.pub}}\n" + good, "nowhere.pub"},
		"unknown mode":                {head + good + "defaults: {mode: off}\n", "enforce, warn, observe"},
		"never without reason":        {head + good + "never: [{match: \"image:x\"}]\n", "needs a reason"},
		"unknown attestation":         {head + "rules: [{match: \"image:**\", attestations: [{type: sbon}]}]\n", "is none of provenance"},
		"misplaced parameter":         {head + "rules: [{match: \"image:**\", attestations: [{type: sbom, max_failed: 0}]}]\n", "belongs to type hardening only"},
		"bad span":                    {head + good + "defaults: {min_release_age: soon}\n", "is no span"},
		"exception without owner":     {ex(`id: E, match: "image:x", condition: tests, reason: r, approved_by: a, expires: 2026-04-01`), "needs owner"},
		"exception without approval":  {ex(`id: E, match: "image:x", condition: tests, reason: r, owner: o, expires: 2026-04-01`), "needs approved_by"},
		"exception without end":       {ex(`id: E, match: "image:x", condition: tests, reason: r, owner: o, approved_by: a`), "needs expires"},
		"exception for too long":      {ex(`id: E, match: "image:x", condition: tests, reason: r, owner: o, approved_by: a, expires: 2026-12-01`), "more than 180 days"},
		"exception from everything":   {ex(`id: E, match: "image:x", reason: r, owner: o, approved_by: a, expires: 2026-04-01`), "exactly one thing"},
		"exception from two things":   {ex(`id: E, match: "image:x", condition: tests, objective: o, reason: r, owner: o, approved_by: a, expires: 2026-04-01`), "exactly one thing"},
		"exception from nothing real": {ex(`id: E, match: "image:x", condition: test, reason: r, owner: o, approved_by: a, expires: 2026-04-01`), "is none of"},
		"exception until no date":     {ex(`id: E, match: "image:x", condition: tests, reason: r, owner: o, approved_by: a, expires: soon`), "is no date"},
	}
	for name, c := range cases {
		p, err := parseAt([]byte(c.text), "policy.yaml", now)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "policy.yaml") {
			t.Errorf("%s: policy %v, error %v, want %q", name, p != nil, err, c.want)
		}
	}
}

func TestKeyRootsAreReadBesideThePolicy(t *testing.T) {
	dir := t.TempDir()
	const pub = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"
	if err := os.WriteFile(filepath.Join(dir, "vendor.pub"), []byte(pub), 0o644); err != nil {
		t.Fatal(err)
	}
	text := func(valid string) []byte {
		return []byte("version: 1\nroots: {vendor: {public_key: vendor.pub, valid: " + valid + "}}\nrules: [{match: 'oci:**', signed_by: [{root: vendor}]}]\n")
	}
	p, err := parseAt(text("2026-01-01..2026-03-01"), filepath.Join(dir, "policy.yaml"), now)
	if err != nil {
		t.Fatal(err)
	}
	r := &kiln.Record{Match: "oci:registry.example.com/vendor/x", Subject: subject}
	state(r, kiln.PredicateProvenance, "vendor", nil)
	r.Statements[0].KeyID = p.roots["vendor"].key
	if v := Decide(p, r, now); v.Decision != kiln.Allow {
		t.Error(show(v))
	}
	if v := Decide(p, r, now.AddDate(0, 0, 1)); v.Decision != kiln.Unknown {
		t.Errorf("a key counts after its last day:\n%s", show(v))
	}
	if _, err := parseAt(text("2026-03-01..2026-01-01"), filepath.Join(dir, "policy.yaml"), now); err == nil {
		t.Error("a span that ends before it begins is accepted")
	}
}

func TestPatterns(t *testing.T) {
	for pattern, names := range map[string][2][]string{
		"image:*":                           {{"image:", "image:a", "image:a*"}, {"image:a/b", "imag:a"}},
		"image:**":                          {{"image:", "image:a/b/c"}, {"apt:x"}},
		"apt:debian/*":                      {{"apt:debian/x"}, {"apt:debian/x/y", "apt:debian"}},
		"image:**/web":                      {{"image:a/b/web", "image:/web"}, {"image:web", "image:a/web/x"}},
		"image:a*c*e":                       {{"image:ace", "image:abcde"}, {"image:abde", "image:a/c/e"}},
		"image:[a].b+":                      {{"image:[a].b+"}, {"image:axb+"}},
		"image:" + strings.Repeat("*a", 30): {{}, {"image:" + strings.Repeat("a", 29), "image:" + strings.Repeat("a", 500) + "b"}},
	} {
		for _, n := range names[0] {
			if !matches(pattern, n) {
				t.Errorf("%q does not match %q", pattern, n)
			}
		}
		for _, n := range names[1] {
			if matches(pattern, n) {
				t.Errorf("%q matches %q", pattern, n)
			}
		}
	}
	for _, c := range []struct {
		match, name, version string
	}{{"npm:lodash@4.17.*", "npm:lodash", "4.17.*"}, {"npm:@scope/x@1", "npm:@scope/x", "1"}, {"npm:@scope/x", "npm:@scope/x", ""}, {"image:a/b", "image:a/b", ""}} {
		if n, v, _ := cutVersion(c.match); n != c.name || v != c.version {
			t.Errorf("cutVersion(%q) = %q, %q", c.match, n, v)
		}
	}
}

// A policy file is read or refused with its name and never makes the program stop; what is read decides.
func FuzzParsePolicy(f *testing.F) {
	f.Add(defaultPolicy)
	f.Add([]byte("version: 1\nroots: {debian: {openpgp: builtin}}\nnever: [{match: 'npm:@a/*', reason: x}]\nrules: [{match: '**', inputs: [{root: debian}]}]\nexceptions:\n  - {id: E, match: 'image:x@1*', objective: o, reason: r, owner: o, approved_by: a, expires: 2026-04-01}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parseAt(data, "policy.yaml", now)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "policy.yaml") {
				t.Errorf("error without the file's name: %v", err)
			}
			return
		}
		if err := Decide(p, image(), now).Validate(); err != nil {
			t.Error(err)
		}
	})
}
