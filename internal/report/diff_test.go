package report_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"kiln"
	"kiln/internal/report"
)

// later is the sample a month on: one package upgraded, one gone, one new, one objective met.
func later() *kiln.Build {
	b := sample()
	b.ID = "20261225-000000-0001"
	c := b.Bill.Components
	c[0].Version = "2"
	b.Bill.Components = append(append([]kiln.Component{}, c[0]), c[2:]...)
	b.Bill.Components = append(b.Bill.Components, kiln.Component{Type: "npm", Name: "left", Version: "1.0.0", PURL: "pkg:npm/left@1.0.0"})
	for i := range b.Hardening.Outcomes {
		if o := &b.Hardening.Outcomes[i]; o.Objective == "accounts/password-aging" {
			o.State, o.Variant = kiln.Satisfied, "one-year"
		}
	}
	b.Hardening.Config.User = "999:999"
	b.Artifact.Size -= 1 << 20
	b.Artifact.Files += 3
	return b
}

func TestDiff(t *testing.T) {
	files := report.FileLists{
		A: map[string]string{"etc/a": "f 0644 0:0 1111", "etc/b": "f 0644 0:0 2222", "usr/bin/su": "f 4755 0:0 3333"},
		B: map[string]string{"etc/a": "f 0644 0:0 1111", "etc/new\n\x1b[31m": "f 0644 0:0 4444", "usr/bin/su": "f 0755 0:0 3333"},
	}
	d := report.Diff(sample(), later(), files)
	var text bytes.Buffer
	if err := d.Text(&text); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"packages: 1 added, 1 removed, 1 changed",
		"  ~ deb p0  1 -> 2", "  - deb p1  1", "  + npm left  1.0.0",
		"hardening: 0 added, 0 removed, 1 changed", "  ~ accounts/password-aging  not-satisfied -> satisfied (one-year)",
		`  ~ user  "101:101" -> "999:999"`,
		"files: 1 added, 1 removed, 1 changed", "  ~ usr/bin/su  f 4755 0:0 3333 -> f 0755 0:0 3333", `  + etc/new\n\x1b[31m  f 0644`,
		"30.4 MiB to pull (-1.0 MiB)", "3123 files (+3)",
	}
	for _, w := range want {
		if !strings.Contains(text.String(), w) {
			t.Errorf("the text does not say %q:\n%s", w, text.String())
		}
	}
	if strings.Contains(text.String(), "\x1b") {
		t.Error("a control character of a file name reaches the terminal")
	}
	var out bytes.Buffer
	if err := d.JSON(&out); err != nil {
		t.Fatal(err)
	}
	var back report.Difference
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || len(back.Packages) != 3 || !back.FilesCompared {
		t.Errorf("the JSON form gives %+v, %v", back, err)
	}
}

func TestDiffOfEquals(t *testing.T) {
	d := report.Diff(sample(), sample())
	if !d.Empty() {
		t.Errorf("equal builds differ: %+v", d)
	}
	if report.Diff(sample(), later()).Empty() {
		t.Error("different builds do not differ")
	}
}

// A build that stopped early can be compared: what it lacks shows as removed or added, nothing fails.
func TestDiffOfIncompleteBuilds(t *testing.T) {
	stopped := &kiln.Build{Header: kiln.NewHeader("Build"), ID: "1", Name: "x", Recipe: digest("r")}
	locked := &kiln.Build{Header: kiln.NewHeader("Build"), ID: "2", Name: "x", Recipe: digest("r"), Lock: sampleLock()}
	d := report.Diff(stopped, locked)
	if len(d.Packages) != len(sampleLock().Packages) || d.Packages[0].Change != report.Added {
		t.Errorf("a locked build against one without a lock gives %+v", d.Packages)
	}
	var text bytes.Buffer
	if err := d.Text(&text); err != nil || !strings.Contains(text.String(), "not packed") {
		t.Errorf("text %q, %v", text.String(), err)
	}
}
