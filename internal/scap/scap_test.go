package scap

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/internal/testneeds"
)

const ns = `xmlns="http://checklists.nist.gov/xccdf/1.2"`

// stream is a small data stream: one benchmark of two rules that look at a file's text, and a third without a check.
const stream = `<?xml version="1.0" encoding="UTF-8"?>
<ds:data-stream-collection xmlns:ds="http://scap.nist.gov/schema/scap/source/1.2" xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:cat="urn:oasis:names:tc:entity:xmlns:xml:catalog" id="scap_com.example_collection_a" schematron-version="1.3">
  <ds:data-stream id="scap_com.example_datastream_a" scap-version="1.3" use-case="OTHER" timestamp="2026-01-01T00:00:00">
    <ds:checklists>
      <ds:component-ref id="scap_com.example_cref_xccdf" xlink:href="#scap_com.example_comp_xccdf">
        <cat:catalog><cat:uri name="oval.xml" uri="#scap_com.example_cref_oval"/></cat:catalog>
      </ds:component-ref>
    </ds:checklists>
    <ds:checks><ds:component-ref id="scap_com.example_cref_oval" xlink:href="#scap_com.example_comp_oval"/></ds:checks>
  </ds:data-stream>
  <ds:component id="scap_com.example_comp_xccdf" timestamp="2026-01-01T00:00:00">
    <Benchmark ` + ns + ` id="xccdf_com.example_benchmark_small" resolved="1" xml:lang="en">
      <status date="2026-01-01">accepted</status>
      <title>A small
        benchmark</title>
      <description>For tests.</description>
      <platform idref="cpe:/o:canonical:ubuntu_linux:22.04"/>
      <version>1.0</version>
      <Profile id="xccdf_com.example_profile_all">
        <title>All of it</title>
        <select idref="xccdf_com.example_rule_banner_text" selected="true"/>
        <select idref="xccdf_com.example_rule_no_null_passwords" selected="true"/>
        <refine-value idref="xccdf_com.example_value_var_days" selector="strict"/>
      </Profile>
      <Value id="xccdf_com.example_value_var_days" type="number"><title>Days</title><value>365</value><value selector="strict">60</value></Value>
      <Group id="xccdf_com.example_group_files">
        <title>Files</title>
        <Rule id="xccdf_com.example_rule_banner_text" selected="false" severity="medium">
          <title>A banner is there</title><description>Look at <code xmlns="http://www.w3.org/1999/xhtml">it</code>.</description>
          <ident system="https://public.cyber.mil/stigs/cci">CCI-000048</ident>
          <check system="http://oval.mitre.org/XMLSchema/oval-definitions-5">
            <check-export export-name="oval:com.example:var:1" value-id="xccdf_com.example_value_var_days"/>
            <check-content-ref href="oval.xml" name="oval:com.example:def:1"/>
          </check>
        </Rule>
        <Rule id="xccdf_com.example_rule_no_null_passwords" selected="false" severity="high">
          <version>UBTU-00-000001</version><title>No empty passwords</title>
          <check system="http://oval.mitre.org/XMLSchema/oval-definitions-5"><check-content-ref href="oval.xml" name="oval:com.example:def:2"/></check>
        </Rule>
      </Group>
    </Benchmark>
  </ds:component>
  <ds:component id="scap_com.example_comp_oval" timestamp="2026-01-01T00:00:00">
    <oval_definitions xmlns="http://oval.mitre.org/XMLSchema/oval-definitions-5" xmlns:oval="http://oval.mitre.org/XMLSchema/oval-common-5" xmlns:ind="http://oval.mitre.org/XMLSchema/oval-definitions-5#independent">
      <generator><oval:product_name>test</oval:product_name><oval:schema_version>5.11</oval:schema_version><oval:timestamp>2026-01-01T00:00:00</oval:timestamp></generator>
      <definitions>
        <definition class="compliance" id="oval:com.example:def:1" version="1"><metadata><title>banner</title><description>banner</description></metadata><criteria><criterion test_ref="oval:com.example:tst:1"/></criteria></definition>
        <definition class="compliance" id="oval:com.example:def:2" version="1"><metadata><title>nullok</title><description>nullok</description></metadata><criteria><criterion test_ref="oval:com.example:tst:2"/></criteria></definition>
      </definitions>
      <tests>
        <ind:textfilecontent54_test check="all" check_existence="at_least_one_exists" comment="banner" id="oval:com.example:tst:1" version="1"><ind:object object_ref="oval:com.example:obj:1"/></ind:textfilecontent54_test>
        <ind:textfilecontent54_test check="all" check_existence="none_exist" comment="nullok" id="oval:com.example:tst:2" version="1"><ind:object object_ref="oval:com.example:obj:2"/></ind:textfilecontent54_test>
      </tests>
      <objects>
        <ind:textfilecontent54_object id="oval:com.example:obj:1" version="1"><ind:filepath>/etc/issue</ind:filepath><ind:pattern operation="pattern match">^Authorized</ind:pattern><ind:instance datatype="int">1</ind:instance></ind:textfilecontent54_object>
        <ind:textfilecontent54_object id="oval:com.example:obj:2" version="1"><ind:filepath>/etc/pam.d/common-auth</ind:filepath><ind:pattern operation="pattern match">nullok</ind:pattern><ind:instance datatype="int">1</ind:instance></ind:textfilecontent54_object>
      </objects>
    </oval_definitions>
  </ds:component>
</ds:data-stream-collection>
`

func TestContentSaysWhatItOffers(t *testing.T) {
	c, err := ReadContent(strings.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Benchmarks) != 1 {
		t.Fatalf("%d benchmarks", len(c.Benchmarks))
	}
	b := c.Benchmarks[0]
	got := fmt.Sprintf("%s|%s|%s|%v|%v|%v|%v", b.ID, b.Title, b.Version, b.Platforms, b.Profiles, b.Rules, b.Values)
	want := `xccdf_com.example_benchmark_small|A small benchmark|1.0|[cpe:/o:canonical:ubuntu_linux:22.04]|` +
		`[{xccdf_com.example_profile_all All of it  [{select xccdf_com.example_rule_banner_text true     } {select xccdf_com.example_rule_no_null_passwords true     } {refine-value xccdf_com.example_value_var_days false  strict   }]}]|` +
		`[{xccdf_com.example_rule_banner_text A banner is there  medium [CCI-000048] [xccdf_com.example_value_var_days]} {xccdf_com.example_rule_no_null_passwords No empty passwords UBTU-00-000001 high [] []}]|` +
		`[{xccdf_com.example_value_var_days map[:365 strict:60]}]`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, _, err := c.Profile("none"); err == nil || !strings.Contains(err.Error(), "there are all") {
		t.Errorf("a profile that there is not: %v", err)
	}
}

func TestBindTakesOnlyTheBenchmarksPlatform(t *testing.T) {
	c, err := ReadContent(strings.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := c.Bind(&out, strings.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	if want := strings.Replace(stream, `<platform idref="cpe:/o:canonical:ubuntu_linux:22.04"/>`, "", 1); out.String() != want {
		t.Errorf("bound content is\n%s", out.String())
	}
}

func TestFits(t *testing.T) {
	ubuntu := []string{"cpe:/o:canonical:ubuntu_linux:22.04::~~lts~~~"}
	for _, c := range []struct {
		platforms []string
		distro    string
		want      bool
	}{
		{ubuntu, "ubuntu-22.04", true},
		{ubuntu, "ubuntu-24.04", false},
		{ubuntu, "debian-12", false},
		{[]string{"cpe:/o:debian:debian_linux:12"}, "debian-12", true},
		{[]string{"cpe:/o:debian:debian_linux:1"}, "debian-12", false},
		{[]string{"cpe:/o:debian:debian_linux"}, "debian-12", true},
		{nil, "debian-12", true},
		{ubuntu, "", true},
	} {
		if got := Fits(c.platforms, c.distro); got != c.want {
			t.Errorf("%v on %q: %v", c.platforms, c.distro, got)
		}
	}
}

func TestHostileDocumentsAreRefused(t *testing.T) {
	rule := `<rule-result idref="a"><result>pass</result></rule-result>`
	results := func(inner string) string { return `<TestResult ` + ns + `>` + inner + `</TestResult>` }
	for name, c := range map[string]struct{ text, want string }{
		"entities":      {`<!DOCTYPE a [<!ENTITY x "y">]>` + results(rule), "document type"},
		"an entity":     {results(`<target>&x;</target>` + rule), "no well-formed XML"},
		"deep":          {results(strings.Repeat("<a>", 200)), "more than 100 deep"},
		"cut":           {results(rule)[:60], "no well-formed XML"},
		"nothing":       {"", "no well-formed XML"},
		"other":         {"<a/>", "has no XCCDF TestResult"},
		"another space": {`<TestResult xmlns="urn:x">` + rule + `</TestResult>`, "has no XCCDF TestResult"},
		"many":          {results(strings.Repeat(rule, maxItems+1)), "more than 50000 results"},
		"a new word":    {results(`<rule-result idref="a"><result>passed</result></rule-result>`), "result passed is none that XCCDF knows"},
		"no result":     {results(`<rule-result idref="a"/>`), "without a result"},
		"no UTF-8":      {results(`<target>` + "\xff" + `</target>` + rule), "invalid UTF-8"},
	} {
		if _, err := ReadResults(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := ReadContent(strings.NewReader(results(rule))); err == nil {
		t.Error("results were read as content")
	}
}

// endless is an XML document that never ends.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	text := strings.Repeat(" ", len(p))
	if e.n == 0 {
		text = "<a>"
	}
	e.n++
	return copy(p, text), nil
}

func TestAnEndlessTailoringEnds(t *testing.T) {
	if _, err := ReadTailoring(&endless{}); err == nil || !strings.Contains(err.Error(), "larger than 8 MiB") {
		t.Errorf("%v", err)
	}
}

func TestTailoringsOfBothVersions(t *testing.T) {
	for _, version := range []string{"1.1", "1.2"} {
		text := `<?xml version="1.0"?><xccdf:Tailoring xmlns:xccdf="http://checklists.nist.gov/xccdf/` + version + `" id="t">
  <xccdf:benchmark href="content.xml"/><xccdf:version time="2026-01-01T00:00:00">3</xccdf:version>
  <xccdf:Profile id="xccdf_x_profile_mine" extends="xccdf_org.ssgproject.content_profile_cis_level1_server">
    <xccdf:title>Mine</xccdf:title>
    <xccdf:select idref="r1" selected="false"/><xccdf:select idref="r2" selected="1"/>
    <xccdf:set-value idref="v1"> 60 </xccdf:set-value><xccdf:refine-value idref="v2" selector="s"/>
    <xccdf:refine-rule idref="r3" severity="low" role="unchecked" weight="2"/>
  </xccdf:Profile></xccdf:Tailoring>`
		tl, err := ReadTailoring(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		p, err := tl.Profile("")
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%s %s %s %v", tl.Benchmark, tl.Version, Short(p.Extends), p.Choices)
		want := "content.xml 3 cis_level1_server [{select r1 false     } {select r2 true     } {set-value v1 false 60    } {refine-value v2 false  s   } {refine-rule r3 false   low unchecked 2}]"
		if got != want {
			t.Errorf("XCCDF %s: got %s, want %s", version, got, want)
		}
	}
	if _, err := ReadTailoring(strings.NewReader("<Tailoring " + ns + "/>")); err == nil || !strings.Contains(err.Error(), "no profile") {
		t.Errorf("a tailoring without profiles: %v", err)
	}
}

func outcome(id, state string, refs ...string) kiln.Outcome {
	o := kiln.Outcome{Objective: id, State: state}
	for _, r := range refs {
		benchmark, ref, _ := strings.Cut(r, ":")
		o.References = append(o.References, kiln.Reference{Benchmark: benchmark, ID: ref})
	}
	return o
}

func TestResultsMeetOutcomesByRule(t *testing.T) {
	r := &Results{Benchmark: "xccdf_org.cisecurity.benchmarks_benchmark_2.0.0_CIS_Ubuntu_Linux_22.04_LTS_Benchmark", Rules: []RuleResult{
		{Rule: "xccdf_x_rule_same", Result: "pass"},
		{Rule: "xccdf_x_rule_other", Result: "fail", Messages: []string{"saw 365"}},
		{Rule: "xccdf_x_rule_na", Result: "notapplicable"},
		{Rule: "xccdf_x_rule_error", Result: "error"},
		{Rule: "xccdf_x_rule_theirs", Result: "pass"},
		{Rule: "xccdf_x_rule_off", Result: "notselected"},
		{Rule: "xccdf_mil.disa.stig_rule_SV-1r2_rule", Version: "UBTU-22-000001", Result: "fail"},
		{Rule: "xccdf_org.cisecurity.benchmarks_rule_5.1.8_A_licensed_title", Result: "pass"},
	}}
	c := Compare(r, "a file", []kiln.Outcome{
		outcome("o-same", kiln.Satisfied, ruleReference+":same"),
		outcome("o-other", kiln.Satisfied, ruleReference+":other", ruleReference+":more"),
		outcome("o-na", kiln.NotApplicable, ruleReference+":na"),
		outcome("o-error", kiln.Satisfied, ruleReference+":error"),
		outcome("o-waived", kiln.Waived, "DISA STIG Canonical Ubuntu 22.04 LTS:UBTU-22-000001"),
		outcome("o-cis", kiln.Satisfied, "CIS Ubuntu Linux 22.04 LTS:5.1.8"),
		outcome("o-debian", kiln.NotSatisfied, "CIS Debian Linux 12:5.1.8"),
		outcome("o-alone", kiln.Unknown),
	})
	var got []string
	for _, x := range c.Rules {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s: %s %v they %q we %q %s", x.Relation, x.Rule, x.Objectives, x.Theirs, x.Ours, x.Reason)))
	}
	want := `disagree: other [o-other] they "fail" we "pass" they: saw 365; o-other is satisfied, and stands for 2 rules
agree: 5.1.8 [o-cis] they "pass" we "pass"
agree: UBTU-22-000001 [o-waived] they "fail" we "fail"
agree: na [o-na] they "notapplicable" we "notapplicable"
agree: same [o-same] they "pass" we "pass"
undecided: error [o-error] they "unknown" we "pass" they say error; o-error is satisfied
only them: theirs [] they "pass" we ""
only us:  [o-debian] they "" we "fail"
only us:  [o-alone] they "" we "unknown"`
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	if c.Count(kiln.Agree) != 4 {
		t.Errorf("%d agree", c.Count(kiln.Agree))
	}
}

// program skips, or fails with CI=true, where OpenSCAP is not installed.
func program(t *testing.T) {
	t.Helper()
	testneeds.Program(t, "oscap", "openscap-scanner")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTheProgramJudgesASmallTree(t *testing.T) {
	program(t)
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	write(t, tree+"/etc/issue", "Authorized users only\n")
	write(t, tree+"/etc/pam.d/common-auth", "auth required pam_unix.so nullok\n")
	write(t, dir+"/content.xml", stream)
	for _, distro := range []string{"debian-12", "ubuntu-22.04"} {
		out, err := Evaluation{Content: dir + "/content.xml", Profile: "all", Tree: tree, Distro: distro, Work: t.TempDir()}.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, r := range out.Results.Rules {
			got[Short(r.Rule)] = r.Result
		}
		if distro == "debian-12" && (got["banner_text"] != "pass" || got["no_null_passwords"] != "fail" || out.Bound == "") {
			t.Errorf("bound to another release: %v, %q", got, out.Bound)
		}
		if distro == "ubuntu-22.04" && out.Bound != "" {
			t.Errorf("content for the release was bound: %q", out.Bound)
		}
	}
}

func TestTheProgramIsStopped(t *testing.T) {
	program(t)
	dir := t.TempDir()
	write(t, dir+"/content.xml", stream)
	_, err := Evaluation{Content: dir + "/content.xml", Tree: dir, Work: t.TempDir(), Timeout: time.Nanosecond}.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "stopped after 1ns") && !strings.Contains(err.Error(), "deadline") {
		t.Errorf("%v", err)
	}
	_, err = Evaluation{Content: dir + "/content.xml", Profile: "other", Tree: dir, Work: t.TempDir()}.Run(t.Context())
	if !errors.Is(err, kiln.ErrMisuse) || !strings.Contains(err.Error(), "no profile") {
		t.Errorf("a profile that there is not: %v", err)
	}
}

func TestTextsComeFromEveryForm(t *testing.T) {
	const debian = "CIS Debian Linux 12"
	cis := `<Benchmark ` + ns + ` id="xccdf_org.cisecurity.benchmarks_benchmark_1.1.0_CIS_Debian_Linux_12_Benchmark"><Rule id="xccdf_org.cisecurity.benchmarks_rule_5.1.8_Words"><title>Words</title></Rule></Benchmark>`
	for name, c := range map[string]struct{ benchmark, text string }{
		"CSV":   {debian, "\xef\xbb\xbfLevel,Title,ID\nL1,Words,5.1.8\nshort\n"},
		"JSON":  {debian, `[{"id":"5.1.8","title":"Words","more":1}]`},
		"XCCDF": {"", cis},
	} {
		path := filepath.Join(t.TempDir(), "texts")
		write(t, path, c.text)
		var x Texts
		if err := x.ReadFile(c.benchmark, path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got := x.Of([]kiln.Reference{{Benchmark: debian, ID: "5.1.8"}, {Benchmark: "CIS Debian Linux 13", ID: "5.1.8"}, {Benchmark: debian, ID: "1.1"}})
		if len(got) != 1 || got[0] != "5.1.8 Words" {
			t.Errorf("%s: %q", name, got)
		}
	}
	for name, c := range map[string]struct{ text, want string }{
		"no columns": {"a,b\n", "no columns id and title"},
		"empty":      {"id,title\n", "no row"},
		"JSON":       {"[1]", "no list of objects"},
		"XML":        {"<a/>", "no XCCDF benchmark"},
	} {
		path := filepath.Join(t.TempDir(), "texts")
		write(t, path, c.text)
		if err := (&Texts{}).ReadFile(debian, path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestThePackagesOfATreeAreSeen(t *testing.T) {
	shell, err := exec.LookPath("apt-config")
	if err != nil {
		t.Skip("apt is not installed")
	}
	alone := filepath.Join(t.TempDir(), "apt.conf")
	write(t, alone, aptAlone)
	cmd := exec.Command(shell, "shell", "CACHE", "Dir::Cache::pkgcache", "INVOKE", "DPkg::Post-Invoke::")
	cmd.Env = append(os.Environ(), "APT_CONFIG="+alone)
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "CACHE='pkgcache.bin'\n" {
		t.Errorf("this machine's apt configuration is still read, or the cache is off: %v\n%s", err, out)
	}
}
