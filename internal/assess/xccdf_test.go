package assess_test

import (
	"bytes"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kiln"
	"kiln/internal/assess"
	"kiln/internal/testneeds"
)

// oscap runs the OpenSCAP program on a text and expects it to accept it.
func oscap(t *testing.T, text []byte, args ...string) {
	t.Helper()
	if out, err := runOscap(t, text, args...); err != nil {
		t.Errorf("oscap %s: %v\n%.3000s", strings.Join(args, " "), err, out)
	}
}

func runOscap(t *testing.T, text []byte, args ...string) (string, error) {
	t.Helper()
	program := testneeds.Program(t, "oscap", "openscap-scanner")
	file := filepath.Join(t.TempDir(), "document.xml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program, append(args, file)...).CombinedOutput()
	return string(out), err
}

// short keeps few outcomes, of every state: what oscap takes to check grows with their square.
func short(a *assess.Assessment) *assess.Assessment {
	a.Result.Outcomes = a.Result.Outcomes[:40]
	return a
}

func TestXCCDFIsAcceptedByOscap(t *testing.T) {
	for _, platform := range []string{ubuntu, debian} {
		text := write(t, "xccdf", short(sample(t, platform)))
		oscap(t, text, "xccdf", "validate")
		page, err := runOscap(t, text, "xccdf", "generate", "report")
		if err != nil {
			t.Fatalf("generating a report: %v\n%s", err, page)
		}
		for _, want := range []string{"web-1.example.com", "No account has an empty password", "the volume does not exist yet"} {
			if !strings.Contains(page, want) {
				t.Errorf("oscap's report does not say %q", want)
			}
		}
	}
}

func TestARFIsAcceptedByOscap(t *testing.T) {
	text := write(t, "arf", short(sample(t, debian)))
	oscap(t, text, "ds", "rds-validate")
	page, err := runOscap(t, text, "xccdf", "generate", "report")
	if err != nil || !strings.Contains(page, "web-1.example.com") {
		t.Errorf("generating a report from ARF: %v\n%.2000s", err, page)
	}
}

// The judge above must be able to refuse.
func TestOscapRefusesAWrongDocument(t *testing.T) {
	text := write(t, "xccdf", short(sample(t, debian)))
	if _, err := runOscap(t, bytes.Replace(text, []byte("<result>fail</result>"), []byte("<result>waived</result>"), 1), "xccdf", "validate"); err == nil {
		t.Error("oscap accepts a result that XCCDF does not have")
	}
	if _, err := runOscap(t, bytes.Replace(write(t, "arf", short(sample(t, debian))), []byte("<core:ref>asset"), []byte("<core:rif>asset"), 1), "ds", "rds-validate"); err == nil {
		t.Error("oscap accepts an ARF with an unknown element")
	}
}

type testResult struct {
	ID        string `xml:"id,attr"`
	Benchmark struct {
		ID   string `xml:"id,attr"`
		HRef string `xml:"href,attr"`
	} `xml:"benchmark"`
	Target  string `xml:"target"`
	Results []struct {
		IDRef    string `xml:"idref,attr"`
		Result   string `xml:"result"`
		Override *struct {
			Authority string `xml:"authority,attr"`
			New       string `xml:"new-result"`
			Remark    string `xml:"remark"`
		} `xml:"override"`
		Idents   []string `xml:"ident"`
		Messages []string `xml:"message"`
	} `xml:"rule-result"`
	Score struct {
		Maximum int `xml:"maximum,attr"`
		Value   int `xml:",chardata"`
	} `xml:"score"`
}

func TestXCCDFResults(t *testing.T) {
	a := sample(t, debian)
	var doc struct {
		Result testResult `xml:"reports>report>content>TestResult"`
	}
	if err := xml.Unmarshal(write(t, "arf", a), &doc); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{kiln.Satisfied: "pass", kiln.NotSatisfied: "fail", kiln.NotApplicable: "notapplicable", kiln.Unknown: "unknown", kiln.Waived: "fail"}
	for _, r := range doc.Result.Results {
		o := find(t, a, strings.TrimPrefix(r.IDRef, "xccdf_kiln_rule_"))
		if r.Result != want[o.State] || len(r.Messages) != 1 {
			t.Errorf("%s is %s: result %s, %d messages", o.Objective, o.State, r.Result, len(r.Messages))
		}
		if waived := o.State == kiln.Waived; waived != (r.Override != nil && r.Override.New == "fail" && r.Override.Authority == "security@example.com") {
			t.Errorf("%s is %s: override %+v", o.Objective, o.State, r.Override)
		}
	}
	total := assess.Total(a.Result.Outcomes)
	if len(doc.Result.Results) != len(a.Result.Outcomes) || doc.Result.Score.Value != total.Pass || doc.Result.Score.Maximum != total.Applicable() {
		t.Errorf("%d results, score %+v; want %d and %+v", len(doc.Result.Results), doc.Result.Score, len(a.Result.Outcomes), total)
	}
}

func TestXCCDFOfStrangersIsAccepted(t *testing.T) {
	a := short(hostile(t, debian))
	oscap(t, write(t, "xccdf", a), "xccdf", "validate")
	oscap(t, write(t, "arf", a), "ds", "rds-validate")
	a.Result.Outcomes = nil
	oscap(t, write(t, "xccdf", a), "xccdf", "validate")
}

// validateXCCDFSchema checks a text, whatever its root, against the schema that comes with OpenSCAP.
func validateXCCDFSchema(t *testing.T, text []byte) {
	t.Helper()
	const schema = "/usr/share/openscap/schemas/xccdf/1.2/xccdf_1.2.xsd"
	lint := testneeds.Program(t, "xmllint", "libxml2-utils")
	if _, err := os.Stat(schema); err != nil {
		testneeds.Missing(t, "OpenSCAP's schemas are not installed: they come with the package openscap-common")
	}
	file := filepath.Join(t.TempDir(), "document.xml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), lint, "--nonet", "--noout", "--schema", schema, file).CombinedOutput(); err != nil {
		t.Errorf("the schema of XCCDF 1.2: %v\n%.2000s", err, out)
	}
}
