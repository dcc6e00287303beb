package assess_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/assess"
	"kiln/internal/testneeds"
)

// states in turn, so that every form meets each of them.
var states = []string{kiln.Satisfied, kiln.NotSatisfied, kiln.NotApplicable, kiln.Unknown, kiln.Waived}

// sample is an audit with the real catalogue's objectives of machines, and every state.
func sample(t testing.TB, platform string) *assess.Assessment {
	t.Helper()
	c, err := catalogue.Load()
	if err != nil {
		t.Fatal(err)
	}
	chosen := map[string]bool{}
	r := &kiln.HardeningResult{
		Header: kiln.NewHeader("HardeningResult"), Profile: "cis-l2+stig", Catalogue: c.Digest(), Target: "registry.example.com/base/machine:1",
		Image: kiln.DigestBytes([]byte("image")), LeftOut: []string{"proc: of another kind"}, Outcomes: []kiln.Outcome{},
	}
	for _, profile := range []string{"cis-l2", "stig-cat1", "stig-cat2", "stig-cat3", "container-strict"} {
		list, err := c.Profile(profile)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range list {
			if !chosen[k.ID] {
				chosen[k.ID] = true
				r.Outcomes = append(r.Outcomes, outcomeOf(k, states[len(r.Outcomes)%len(states)]))
			}
		}
	}
	start := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	return &assess.Assessment{
		Result: r, Controls: c.Objectives(), Version: "1.2.3", Start: start, End: start.Add(400 * time.Millisecond),
		Platform: platform, Host: "web-1.example.com",
	}
}

// derived is an audit that every form can be written of.
func derived(t *testing.T) *assess.Assessment {
	t.Helper()
	a := sample(t, debian)
	a.Derived = true
	return a
}

func outcomeOf(k kiln.Control, state string) kiln.Outcome {
	o := kiln.Outcome{
		Objective: k.ID, Title: k.Title, Severity: k.Severity, Before: state, State: state, References: slices.Clone(k.References),
		Wanted: "the wanted value of " + k.ID, Observed: "what was seen of " + k.ID, Effective: "sshd -T",
	}
	switch state {
	case kiln.Satisfied:
		o.Variant = k.Variants[len(k.Variants)-1].ID
	case kiln.NotApplicable:
		o.Reason, o.Effective = "for machines only", ""
	case kiln.Unknown:
		o.Reason = "etc/ssh/sshd_config: permission denied"
	case kiln.Waived:
		o.Waiver = &kiln.Waiver{Objective: k.ID, Exception: kiln.Exception{
			ID: "EX-7", Owner: "web-team@example.com", Reason: "the volume does not exist yet", Expires: "2027-01-31", ApprovedBy: "security@example.com",
		}}
	}
	return o
}

func write(t testing.TB, format string, a *assess.Assessment) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := assess.Write(&out, format, a); err != nil {
		t.Fatalf("%s: %v", format, err)
	}
	if dir := os.Getenv("KILN_ASSESS_OUT"); dir != "" { // for looking at
		if err := os.WriteFile(filepath.Join(dir, a.Platform+"-"+format), out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// compiled are the schemas that were read already; the tests here do not run side by side.
var compiled = map[string]*jsonschema.Schema{}

// checkSchema validates a JSON text against a schema of the data folder.
func checkSchema(t *testing.T, schema string, text []byte) {
	t.Helper()
	s := compiled[schema]
	if s == nil {
		s = compile(t, schema)
		compiled[schema] = s
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(doc); err != nil {
		t.Errorf("%s: %v", schema, err)
	}
}

func compile(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	file, err := os.Open(testneeds.Shared(t, "schemas", name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	doc, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	anchored(doc)
	c := jsonschema.NewCompiler()
	if err := c.AddResource(name, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// anchored makes names count that a schema gives beside a reference, as NIST's do: draft 7 ignores what stands beside one.
func anchored(v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			anchored(e)
		}
	case map[string]any:
		if ref, id := v["$ref"], v["$id"]; ref != nil && id != nil {
			delete(v, "$ref")
			v["allOf"] = []any{map[string]any{"$ref": ref}}
		}
		for _, e := range v {
			anchored(e)
		}
	}
}

// checkWellFormed reads a whole XML text.
func checkWellFormed(t *testing.T, text []byte) {
	t.Helper()
	if !utf8.Valid(text) {
		t.Error("the text is not UTF-8")
	}
	dec := xml.NewDecoder(bytes.NewReader(text))
	for {
		_, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

const ubuntu, debian = "ubuntu-24.04", "debian-12"

func TestUnknownFormatNamesTheOthers(t *testing.T) {
	var out bytes.Buffer
	err := assess.Write(&out, "word", sample(t, debian))
	if err == nil || !strings.Contains(err.Error(), `no format "word"; there are html, json, sarif`) || out.Len() > 0 {
		t.Errorf("got %v and %d bytes", err, out.Len())
	}
}

func TestIncompleteAssessmentIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*assess.Assessment){
		"no result":    func(a *assess.Assessment) { a.Result = nil },
		"no start":     func(a *assess.Assessment) { a.Start = time.Time{} },
		"end first":    func(a *assess.Assessment) { a.End = a.Start.Add(-time.Second) },
		"unknown word": func(a *assess.Assessment) { a.Result.Outcomes[0].State = "fine" },
		"no waiver":    func(a *assess.Assessment) { a.Result.Outcomes[4].Waiver = nil },
		"bad earlier":  func(a *assess.Assessment) { a.Earlier = &kiln.HardeningResult{} },
	} {
		for _, f := range assess.Formats() {
			a := derived(t)
			spoil(a)
			var out bytes.Buffer
			if err := assess.Write(&out, f.Name, a); err == nil || out.Len() > 0 {
				t.Errorf("%s: %s was written (%d bytes, %v)", name, f.Name, out.Len(), err)
			}
		}
	}
}

// uuids are the identifiers that are derived from the content, the order of the outcomes included.
var uuids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)

func TestSameAssessmentSameBytes(t *testing.T) {
	for _, f := range assess.Formats() {
		first := write(t, f.Name, derived(t))
		if !bytes.Equal(first, write(t, f.Name, derived(t))) {
			t.Errorf("two %s of one assessment differ", f.Name)
		}
		if f.Name == "json" || f.Name == "html" { // the document, and it on a page
			continue
		}
		other := derived(t)
		slices.Reverse(other.Result.Outcomes)
		if !bytes.Equal(uuids.ReplaceAll(first, []byte("id")), uuids.ReplaceAll(write(t, f.Name, other), []byte("id"))) {
			t.Errorf("%s depends on the order of the outcomes", f.Name)
		}
	}
}

func TestJSONIsTheDocument(t *testing.T) {
	a := sample(t, debian)
	var back kiln.HardeningResult
	if err := kiln.Decode(write(t, "json", a), &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&back, a.Result) {
		t.Error("the document is not what was given")
	}
}

func TestSARIF(t *testing.T) {
	a := sample(t, debian)
	text := write(t, "sarif", a)
	checkSchema(t, "sarif-schema-2.1.0.json", text)
	var log struct {
		Runs []struct {
			Tool struct {
				Driver struct{ Rules []struct{ ID string } }
			}
			Results []struct {
				RuleID              string
				RuleIndex           int
				Kind, Level         string
				PartialFingerprints map[string]string
				Suppressions        []struct{ Status, Justification string }
			}
		}
	}
	if err := json.Unmarshal(text, &log); err != nil {
		t.Fatal(err)
	}
	run := log.Runs[0]
	want := map[string]string{kiln.Satisfied: "pass", kiln.NotSatisfied: "fail", kiln.NotApplicable: "notApplicable", kiln.Unknown: "open", kiln.Waived: "fail"}
	prints := map[string]bool{}
	for _, r := range run.Results {
		o := find(t, a, r.RuleID)
		if r.Kind != want[o.State] || (r.Level == "none") != (r.Kind != "fail") || run.Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID {
			t.Errorf("%s is %s: kind %s, level %s, rule %d", r.RuleID, o.State, r.Kind, r.Level, r.RuleIndex)
		}
		if waived := o.State == kiln.Waived; waived != (len(r.Suppressions) == 1 && r.Suppressions[0].Justification == "the volume does not exist yet") {
			t.Errorf("%s is %s and has suppressions %v", r.RuleID, o.State, r.Suppressions)
		}
		prints[r.PartialFingerprints["kilnObjective/v1"]] = true
	}
	if len(run.Results) != len(a.Result.Outcomes) || len(prints) != len(run.Results) {
		t.Errorf("%d results with %d fingerprints for %d outcomes", len(run.Results), len(prints), len(a.Result.Outcomes))
	}
}

func find(t *testing.T, a *assess.Assessment, id string) kiln.Outcome {
	t.Helper()
	at := slices.IndexFunc(a.Result.Outcomes, func(o kiln.Outcome) bool { return o.Objective == id })
	if at < 0 {
		t.Fatalf("no objective %q was audited", id)
	}
	return a.Result.Outcomes[at]
}

func TestJUnit(t *testing.T) {
	a := sample(t, debian)
	text := write(t, "junit", a)
	checkWellFormed(t, text)
	var doc struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Skipped  int `xml:"skipped,attr"`
		Suite    struct {
			Cases []struct {
				Name    string    `xml:"name,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
				Skipped *struct {
					Message string `xml:"message,attr"`
				} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	count := [4]int{}
	for _, c := range doc.Suite.Cases {
		id, _, _ := strings.Cut(c.Name, ":")
		state := find(t, a, id).State
		got := map[bool]string{true: "passed"}[c.Failure == nil && c.Error == nil && c.Skipped == nil]
		want := map[string]bool{
			kiln.Satisfied: got == "passed", kiln.NotSatisfied: c.Failure != nil, kiln.Unknown: c.Error != nil,
			kiln.NotApplicable: c.Skipped != nil, kiln.Waived: c.Skipped != nil && strings.Contains(c.Skipped.Message, "web-team@example.com"),
		}
		if !want[state] {
			t.Errorf("%s is %s and its case says otherwise", id, state)
		}
		count[slices.Index([]bool{got == "passed", c.Failure != nil, c.Error != nil, c.Skipped != nil}, true)]++
	}
	if doc.Tests != len(a.Result.Outcomes) || doc.Failures != count[1] || doc.Errors != count[2] || doc.Skipped != count[3] || count[1] == 0 {
		t.Errorf("the counts %d %d %d %d are not those of the cases, %v", doc.Tests, doc.Failures, doc.Errors, doc.Skipped, count)
	}
}

func TestPage(t *testing.T) {
	a := sample(t, debian)
	a.Earlier = sample(t, debian).Result
	a.Earlier.Outcomes[0].State, a.Earlier.Outcomes[1].State = kiln.NotSatisfied, kiln.Satisfied
	a.Result.Comparisons = []kiln.Comparison{{By: "OpenSCAP", Benchmark: "CIS", Profile: "level2", Rules: []kiln.ComparedRule{
		{Rule: "sshd_limit", Objectives: []string{"ssh-limit"}, Theirs: "fail", Ours: "pass", Relation: kiln.Disagree, Reason: "they read another file"},
		{Rule: "agreed", Theirs: "pass", Ours: "pass", Relation: kiln.Agree},
	}}}
	text := string(write(t, "html", a))
	if strings.Contains(text, "<code>agreed</code>") {
		t.Error("the page lists a rule on which both agree among those that differ")
	}
	for _, want := range []string{
		"registry.example.com/base/machine:1", "CIS Debian Linux 12", "derived for this platform", "web-team@example.com", "2027-01-31",
		"the wanted value of " + a.Result.Outcomes[0].Objective, "what was seen of " + a.Result.Outcomes[1].Objective,
		"the effective value, asked of sshd -T", "permission denied", "proc: of another kind", "1 objective got worse, 1 better",
		"Beside OpenSCAP", "1 disagree", "sshd_limit", "they read another file",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(text, "CIS Ubuntu Linux 24.04 LTS</") {
		t.Error("the page scores a benchmark of another platform")
	}
	if first, met := strings.Index(text, `data-state="not-satisfied"><td`), strings.Index(text, `data-state="satisfied"><td`); first < 0 || met < first {
		t.Error("failures do not stand first")
	}
	for _, form := range []string{`(?i)<(link|img|iframe|object|embed|base|form)\b`, `(?i)\bsrc\s*=`, `(?i)href="[^#]`, `(?i)\son[a-z]+\s*=`, `(?i)\sstyle\s*=`} {
		if found := regexp.MustCompile(form).FindString(text); found != "" {
			t.Errorf("the page has %q", found)
		}
	}
}

const attack = `"><script>alert(1)</script>]]>&` + "\u202e\x1b[31m\x00\ufffe\xff\xc3"

// hostile is an audit of a stranger's tree.
func hostile(t *testing.T, platform string) *assess.Assessment {
	t.Helper()
	a := sample(t, platform)
	poison(reflect.ValueOf(a.Result).Elem())
	a.Result.APIVersion, a.Result.Kind = kiln.APIVersion, "HardeningResult"
	a.Host, a.Version = "host"+attack, "1"+attack
	a.Result.Outcomes[3].Reason = strings.Repeat("long \u20ac", 1<<20/8)
	a.Derived = true
	return a
}

// Every string of a result, wherever it stands, may come from a stranger.
func TestHostileStrings(t *testing.T) {
	for _, f := range assess.Formats() {
		for _, platform := range []string{ubuntu, debian} {
			if f.Name == "xccdf-stig" && platform == ubuntu {
				continue // needs DISA's document
			}
			a := hostile(t, platform)
			text := write(t, f.Name, a)
			if f.Name != "json" && bytes.Contains(text, []byte("<script>alert")) {
				t.Errorf("%s: the script reaches the text", f.Name)
			}
			for _, bad := range []string{"\x1b", "\x00", "\ufffe", "\u202e", "\xff"} {
				if strings.Contains(string(text), bad) && (f.Name != "json" || !strings.Contains("\ufffe\u202e", bad)) {
					t.Errorf("%s: %q reaches the text", f.Name, bad)
				}
			}
			checkForm(t, f, text)
		}
	}
}

// checkForm checks what a text of that form must be at least.
func checkForm(t *testing.T, f assess.Format, text []byte) {
	t.Helper()
	switch {
	case f.Name == "html":
		if n := bytes.Count(text, []byte("<script")); n != 1 || !utf8.Valid(text) {
			t.Errorf("html: %d scripts, valid UTF-8 %v", n, utf8.Valid(text))
		}
	case schemas[f.Name] != "":
		checkSchema(t, schemas[f.Name], text)
	case strings.HasSuffix(f.Extension, "xml") || f.Extension == ".ckl":
		checkWellFormed(t, text)
	default:
		if !json.Valid(text) {
			t.Errorf("%s is no JSON", f.Name)
		}
	}
}

var schemas = map[string]string{"sarif": "sarif-schema-2.1.0.json", "oscal": "oscal-assessment-results.schema.json"}

// poison puts the attack into every string of a document, keeping the words that choose a form.
func poison(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if s := v.String(); !slices.Contains(states, s) && !strings.HasPrefix(s, "2027-") {
			v.SetString(s + attack)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			poison(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "Level" && v.Type().Field(i).Name != "Benchmark" {
				poison(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			poison(v.Index(i))
		}
	}
}

// An empty result is written, too: a profile may be empty.
func TestEmptyResult(t *testing.T) {
	for _, f := range assess.Formats() {
		a := derived(t)
		a.Result.Outcomes = nil
		checkForm(t, f, write(t, f.Name, a))
	}
}

// The catalogue may have grown or shrunk since the result was written.
func TestObjectiveThatTheCatalogueDoesNotHave(t *testing.T) {
	for _, f := range assess.Formats() {
		a := derived(t)
		a.Controls = nil
		checkForm(t, f, write(t, f.Name, a))
	}
}

func ExampleFormats() {
	for _, f := range assess.Formats() {
		fmt.Printf("%-10s %-16s %s\n", f.Name, f.Extension, f.Purpose)
	}
	// Output:
	// html       .html            a page for people, in one file
	// json       .json            the document itself
	// sarif      .sarif           SARIF 2.1.0, for code scanning
	// junit      .junit.xml       JUnit XML, for continuous integration
	// xccdf      .xccdf.xml       XCCDF 1.2, our objectives as a benchmark with its result
	// arf        .arf.xml         ARF 1.1, the XCCDF result with the asset it is about
	// xccdf-stig .stig.xccdf.xml  XCCDF 1.2 result under the STIG's own rule ids, for STIG tools
	// ckl        .ckl             checklist of STIG Viewer 2
	// cklb       .cklb            checklist of STIG Viewer 3
	// oscal      .oscal.json      OSCAL assessment results
	// gpos       .gpos.xccdf.xml  XCCDF 1.2 answers to DISA's operating system SRG, for images
}
