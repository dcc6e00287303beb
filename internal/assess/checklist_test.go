package assess_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"kiln"
	"kiln/internal/assess"
	"kiln/internal/testneeds"
)

// node is an XML element with its children in order.
type node struct {
	XMLName  xml.Name
	Text     string `xml:",chardata"`
	Children []node `xml:",any"`
}

func (n node) names() []string {
	var out []string
	for _, c := range n.Children {
		out = append(out, c.XMLName.Local)
	}
	return out
}

func (n node) child(name string) node {
	for _, c := range n.Children {
		if c.XMLName.Local == name {
			return c
		}
	}
	return node{}
}

// Words that the checklist's schema (version 2.5) allows, and the order that it demands.
var (
	cklAssetOrder = []string{"ROLE", "ASSET_TYPE", "MARKING", "HOST_NAME", "HOST_IP", "HOST_MAC", "HOST_GUID", "HOST_FQDN", "TARGET_COMMENT", "TECH_AREA", "TARGET_KEY", "STIG_GUID", "WEB_OR_DATABASE", "WEB_DB_SITE", "WEB_DB_INSTANCE"}
	cklAssetNeeds = []string{"ROLE", "ASSET_TYPE", "HOST_NAME", "HOST_IP", "HOST_MAC", "HOST_FQDN", "TECH_AREA", "TARGET_KEY", "WEB_OR_DATABASE", "WEB_DB_SITE", "WEB_DB_INSTANCE"}
	cklInfoNames  = []string{"classification", "customname", "description", "filename", "notice", "releaseinfo", "source", "stigid", "title", "uuid", "version"}
	cklVulnTail   = []string{"STATUS", "FINDING_DETAILS", "COMMENTS", "SEVERITY_OVERRIDE", "SEVERITY_JUSTIFICATION"}
	cklStatuses   = []string{"NotAFinding", "Open", "Not_Applicable", "Not_Reviewed"}
	cklAttributes = []string{
		"CCI_REF", "Check_Content", "Check_Content_Ref", "Class", "Documentable", "False_Negatives", "False_Positives", "Fix_Text", "Group_Title",
		"IA_Controls", "Mitigation_Control", "Mitigations", "Potential_Impact", "Responsibility", "Rule_ID", "Rule_Title", "Rule_Ver", "STIGRef", "Security_Override_Guidance",
		"Severity", "Third_Party_Tools", "Vuln_Discuss", "Vuln_Num", "Weight", "TargetKey", "STIG_UUID", "LEGACY_ID",
	}
)

// checkCKL checks a text against the shape of the checklist's schema and returns its vulnerabilities: attributes, with STATUS, FINDING_DETAILS and COMMENTS.
func checkCKL(t *testing.T, text []byte) []map[string]string {
	t.Helper()
	var root node
	if err := xml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	if got := root.names(); root.XMLName.Local != "CHECKLIST" || !slices.Equal(got, []string{"ASSET", "STIGS"}) {
		t.Fatalf("%s has %v", root.XMLName.Local, got)
	}
	checkCKLAsset(t, root.child("ASSET"))
	stig := root.child("STIGS").child("iSTIG")
	if n := stig.names(); len(n) < 2 || n[0] != "STIG_INFO" || slices.ContainsFunc(n[1:], func(s string) bool { return s != "VULN" }) {
		t.Fatalf("iSTIG has %v", n)
	}
	for _, d := range stig.Children[0].Children {
		if name := d.child("SID_NAME").Text; !slices.Contains(cklInfoNames, name) {
			t.Errorf("STIG_INFO has %q", name)
		}
	}
	var out []map[string]string
	for _, v := range stig.Children[1:] {
		out = append(out, checkCKLVuln(t, v))
	}
	return out
}

func checkCKLAsset(t *testing.T, asset node) {
	t.Helper()
	last := -1
	for _, name := range asset.names() {
		at := slices.Index(cklAssetOrder, name)
		if at <= last {
			t.Errorf("ASSET has %s out of its order", name)
		}
		last = at
	}
	for _, name := range cklAssetNeeds {
		if !slices.Contains(asset.names(), name) {
			t.Errorf("ASSET has no %s", name)
		}
	}
	if role, area := asset.child("ROLE").Text, asset.child("TECH_AREA").Text; role != "None" || area != "UNIX OS" || asset.child("HOST_NAME").Text == "" {
		t.Errorf("role %q, area %q, host %q", role, area, asset.child("HOST_NAME").Text)
	}
}

func checkCKLVuln(t *testing.T, v node) map[string]string {
	t.Helper()
	names := v.names()
	data := names[:max(len(names)-len(cklVulnTail), 0)]
	if !slices.Equal(names[len(data):], cklVulnTail) || len(data) == 0 || slices.ContainsFunc(data, func(s string) bool { return s != "STIG_DATA" }) {
		t.Fatalf("VULN has %v", names)
	}
	out := map[string]string{}
	for _, c := range v.Children {
		if c.XMLName.Local != "STIG_DATA" {
			out[c.XMLName.Local] = c.Text
			continue
		}
		if n := c.names(); !slices.Equal(n, []string{"VULN_ATTRIBUTE", "ATTRIBUTE_DATA"}) {
			t.Fatalf("STIG_DATA has %v", n)
		}
		name := c.Children[0].Text
		if !slices.Contains(cklAttributes, name) {
			t.Errorf("VULN has attribute %q", name)
		}
		out[name] = c.Children[1].Text
	}
	if !slices.Contains(cklStatuses, out["STATUS"]) {
		t.Errorf("STATUS is %q", out["STATUS"])
	}
	return out
}

func TestCKL(t *testing.T) {
	a := sample(t, ubuntu)
	vulns := checkCKL(t, write(t, "ckl", a))
	if len(vulns) < 180 {
		t.Errorf("%d rules: the STIG has more", len(vulns))
	}
	seen := map[string]int{}
	for _, v := range vulns {
		seen[v["STATUS"]]++
		checkAnswer(t, a, v["Rule_Ver"], v["STATUS"], v["FINDING_DETAILS"], v["COMMENTS"])
		if !strings.HasPrefix(v["Vuln_Num"], "V-") || !strings.HasPrefix(v["Rule_ID"], "SV-") || !strings.HasSuffix(v["Rule_ID"], "_rule") || strings.HasSuffix(v["Rule_ID"], "_rule_rule") {
			t.Errorf("%s has the ids %q and %q", v["Rule_Ver"], v["Vuln_Num"], v["Rule_ID"])
		}
	}
	for _, s := range cklStatuses {
		if seen[s] == 0 {
			t.Errorf("no rule is %s", s)
		}
	}
}

// checkAnswer checks what auditors insist on: an exception stays open and names itself, what nobody looked at or could judge
// is not reviewed, and what does not apply says why.
func checkAnswer(t *testing.T, a *assess.Assessment, rule, status, details, comments string) {
	t.Helper()
	states := map[string]bool{}
	for _, o := range a.Result.Outcomes {
		for _, r := range o.References {
			if r.ID == rule {
				states[stateInTheEyesOf(a, rule, o)] = true
			}
		}
	}
	want := "Not_Reviewed"
	switch {
	case states[kiln.NotSatisfied]:
		want = "Open"
	case states[kiln.Unknown]:
	case states[kiln.Waived]:
		want = "Open"
		if !strings.Contains(details, "the volume does not exist yet") || !strings.Contains(comments, "security@example.com") {
			t.Errorf("%s does not name its exception: %q, %q", rule, details, comments)
		}
	case states[kiln.Satisfied]:
		want = "NotAFinding"
	case states[kiln.NotApplicable]:
		want = "Not_Applicable"
		if !strings.Contains(details, "Reason: ") {
			t.Errorf("%s does not apply and does not say why: %q", rule, details)
		}
	case len(states) == 0 && !strings.Contains(comments, "Not assessed"):
		t.Errorf("%s was not assessed and says %q", rule, comments)
	}
	if status != want {
		t.Errorf("%s is %s, want %s of %v", rule, status, want, states)
	}
}

// stateInTheEyesOf is an outcome's state for one rule: an objective that holds in a form that does not meet the rule leaves it open.
func stateInTheEyesOf(a *assess.Assessment, rule string, o kiln.Outcome) string {
	at := slices.IndexFunc(a.Controls, func(k kiln.Control) bool { return k.ID == o.Objective })
	if o.State != kiln.Satisfied || at < 0 || len(a.Controls[at].Variants) == 1 {
		return o.State
	}
	for _, v := range a.Controls[at].Variants {
		if v.ID == o.Variant && slices.ContainsFunc(v.References, func(r kiln.Reference) bool { return r.ID == rule }) {
			return o.State
		}
	}
	return kiln.NotSatisfied
}

// The viewer writes its keys in this order, and other tools count on their being there.
var cklbKeys = map[string][]string{
	"document": {"title", "id", "stigs", "active", "mode", "has_path", "target_data", "cklb_version"},
	"target": {
		"target_type", "host_name", "ip_address", "mac_address", "fqdn", "comments", "role", "is_web_database", "technology_area",
		"web_db_site", "web_db_instance", "classification",
	},
	"stig": {"stig_name", "display_name", "stig_id", "release_info", "version", "uuid", "reference_identifier", "size", "rules"},
	"rule": {
		"group_id_src", "group_tree", "group_id", "severity", "group_title", "rule_id_src", "rule_id", "rule_version", "rule_title", "fix_text", "weight",
		"check_content", "check_content_ref", "classification", "discussion", "false_positives", "false_negatives", "documentable",
		"security_override_guidance", "potential_impacts", "third_party_tools", "ia_controls", "responsibility", "mitigations", "mitigation_control",
		"legacy_ids", "ccis", "reference_identifier", "uuid", "stig_uuid", "status", "overrides", "comments", "finding_details", "srg_id",
	},
}

// keysOf lists an object's keys in their order.
func keysOf(t *testing.T, text json.RawMessage) []string {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		t.Fatalf("no object: %v", err)
	}
	var out []string
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, key.(string))
		var skipped json.RawMessage
		if err := dec.Decode(&skipped); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestCKLB(t *testing.T) {
	a := sample(t, ubuntu)
	checkCKLB(t, a, write(t, "cklb", a))
}

func checkCKLB(t *testing.T, a *assess.Assessment, text []byte) {
	t.Helper()
	var doc struct {
		ID      string            `json:"id"`
		STIGs   []json.RawMessage `json:"stigs"`
		Mode    int               `json:"mode"`
		Active  bool              `json:"active"`
		Target  json.RawMessage   `json:"target_data"`
		Version string            `json:"cklb_version"`
	}
	var target struct {
		HostName string `json:"host_name"`
		Comments string `json:"comments"`
	}
	var stig struct {
		UUID  string            `json:"uuid"`
		Size  int               `json:"size"`
		Rules []json.RawMessage `json:"rules"`
	}
	for _, err := range []error{json.Unmarshal(text, &doc), json.Unmarshal(doc.Target, &target), json.Unmarshal(doc.STIGs[0], &stig)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for what, part := range map[string]json.RawMessage{"document": text, "target": doc.Target, "stig": doc.STIGs[0]} {
		if got := keysOf(t, part); !slices.Equal(got, cklbKeys[what]) {
			t.Errorf("the %s has the keys %v", what, got)
		}
	}
	if doc.Version != "1.0" || doc.Mode != 2 || !doc.Active || target.HostName == "" || stig.Size != len(stig.Rules) || stig.Size == 0 {
		t.Errorf("version %s, mode %d, host %q, size %d of %d", doc.Version, doc.Mode, target.HostName, stig.Size, len(stig.Rules))
	}
	if !strings.Contains(target.Comments, string(a.Result.Image)) {
		t.Errorf("the comments do not name the image: %q", target.Comments)
	}
	uuids := map[string]bool{}
	for _, raw := range stig.Rules {
		uuids[checkCKLBRule(t, a, raw, stig.UUID)] = true
	}
	if len(uuids) != len(stig.Rules) {
		t.Errorf("%d uuids for %d rules", len(uuids), len(stig.Rules))
	}
}

func checkCKLBRule(t *testing.T, a *assess.Assessment, raw json.RawMessage, stig string) string {
	t.Helper()
	if got := keysOf(t, raw); !slices.Equal(got, cklbKeys["rule"]) {
		t.Fatalf("a rule has the keys %v", got)
	}
	var r struct {
		GroupTree []any  `json:"group_tree"`
		GroupID   string `json:"group_id"`
		RuleID    string `json:"rule_id"`
		Version   string `json:"rule_version"`
		Doc       string `json:"documentable"`
		UUID      string `json:"uuid"`
		STIG      string `json:"stig_uuid"`
		Status    string `json:"status"`
		Comments  string `json:"comments"`
		Details   string `json:"finding_details"`
		CCIs      []string
		Legacy    []string `json:"legacy_ids"`
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^V-\d+$`).MatchString(r.GroupID) || !regexp.MustCompile(`^SV-\d+(r\d+)?$`).MatchString(r.RuleID) || len(r.GroupTree) == 0 || r.STIG != stig ||
		r.CCIs == nil || r.Legacy == nil || r.Doc != "false" {
		t.Errorf("rule %s: %+v", r.Version, r)
	}
	words := map[string]string{"not_a_finding": "NotAFinding", "open": "Open", "not_applicable": "Not_Applicable", "not_reviewed": "Not_Reviewed"}
	checkAnswer(t, a, r.Version, words[r.Status], r.Details, r.Comments)
	return r.UUID
}

// There is no STIG for Debian: nothing goes out as DISA's, and a derived checklist only when it is asked for.
func TestChecklistForDebian(t *testing.T) {
	for _, format := range []string{"ckl", "cklb", "xccdf-stig"} {
		a := sample(t, debian)
		var out bytes.Buffer
		err := assess.Write(&out, format, a)
		if !errors.Is(err, assess.ErrUnfit) || !strings.Contains(err.Error(), "there is no STIG for debian-12") || out.Len() > 0 {
			t.Errorf("%s for Debian: %v", format, err)
		}
		a.Derived = true
		text := string(write(t, format, a))
		for _, want := range []string{"Kiln_derived_debian-12_from_CAN_Ubuntu_22-04_LTS_STIG", "Not DISA's"} {
			if !strings.Contains(strings.ReplaceAll(text, "&#39;", "'"), want) {
				t.Errorf("the derived %s does not say %q", format, want)
			}
		}
		if strings.Contains(text, "xccdf_mil.disa") {
			t.Errorf("the derived %s has identifiers of DISA's name space", format)
		}
	}
}

func TestChecklistNeedsAPlatform(t *testing.T) {
	for platform, want := range map[string]string{"": "is not known", "ubuntu-20.04": "no STIG for ubuntu-20.04 is known", "alpine-3.22": "there is no STIG for alpine-3.22"} {
		var out bytes.Buffer
		if err := assess.Write(&out, "cklb", sample(t, platform)); !errors.Is(err, assess.ErrUnfit) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", platform, err)
		}
	}
}

// manual is a document of the shape that DISA publishes, with made texts.
func manual(id string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<?xml version="1.0" encoding="utf-8"?><?xml-stylesheet type='text/xsl' href='STIG_unclass.xsl'?>
<Benchmark xmlns="http://checklists.nist.gov/xccdf/1.1" xmlns:dc="http://purl.org/dc/elements/1.1/" id="%s" xml:lang="en"><status date="2026-01-01">accepted</status>
<title>Canonical Ubuntu 24.04 LTS Security Technical Implementation Guide</title><description>A description.</description>
<plain-text id="release-info">Release: 5 Benchmark Date: 01 Apr 2026</plain-text><plain-text id="generator">3.5</plain-text><version>1</version>`, id)
	for i, rule := range []string{"UBTU-24-100500", "UBTU-24-300022", "UBTU-24-999999"} {
		fmt.Fprintf(&b, `<Group id="V-%d"><title>SRG-OS-000480-GPOS-00227</title><description>&lt;GroupDescription&gt;&lt;/GroupDescription&gt;</description>
<Rule id="SV-%dr%d_rule" weight="10.0" severity="medium"><version>%s</version><title>Title of %s.</title><description>&lt;VulnDiscussion&gt;Because of %s.&lt;/VulnDiscussion&gt;&lt;FalsePositives&gt;&lt;/FalsePositives&gt;</description>
<reference><dc:title>DPMS Target</dc:title><dc:identifier>5645</dc:identifier></reference><ident system="http://cyber.mil/legacy">V-1</ident><ident system="http://cyber.mil/cci">CCI-000366</ident>
<fixtext fixref="F-1">Fix it.</fixtext><fix id="F-1"/><check system="C-1"><check-content-ref href="Ubuntu.xml" name="M"/><check-content>Check it.</check-content></check></Rule></Group>`, 270000+i, 270000+i, 1066613+i, rule, rule, rule)
	}
	return b.String() + "</Benchmark>"
}

func TestDISAsOwnDocumentGivesItsIdentifiers(t *testing.T) {
	a := sample(t, ubuntu)
	var out bytes.Buffer
	if err := assess.Write(&out, "xccdf-stig", a); !errors.Is(err, assess.ErrUnfit) || !strings.Contains(err.Error(), "give it") {
		t.Errorf("without the document: %v", err)
	}
	var err error
	if a.STIG, err = assess.ReadSTIG(strings.NewReader(manual("CAN_Ubuntu_24-04_LTS_STIG"))); err != nil {
		t.Fatal(err)
	}
	var doc testResult
	if err := xml.Unmarshal(write(t, "xccdf-stig", a), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Benchmark.ID != "xccdf_mil.disa.stig_benchmark_CAN_Ubuntu_24-04_LTS_STIG" || len(doc.Results) != 3 || len(doc.Target) > 255 {
		t.Errorf("benchmark %q, %d results", doc.Benchmark.ID, len(doc.Results))
	}
	if r := doc.Results[2]; r.IDRef != "xccdf_mil.disa.stig_rule_SV-270002r1066615_rule" || r.Result != "notchecked" || !slices.Equal(r.Idents, []string{"CCI-000366"}) {
		t.Errorf("the rule that nobody looked at: %+v", r)
	}
	vulns := checkCKL(t, write(t, "ckl", a))
	if v := vulns[1]; v["Rule_ID"] != "SV-270001r1066614_rule" || v["Vuln_Discuss"] != "Because of UBTU-24-300022." || v["Check_Content"] != "Check it." || v["LEGACY_ID"] != "V-1" || v["TargetKey"] != "5645" {
		t.Errorf("%v", v)
	}
	checkCKLB(t, a, write(t, "cklb", a))
}

// The result under DISA's ids follows the schema: oscap's schema of XCCDF takes a TestResult as root.
func TestSTIGResultFollowsTheSchema(t *testing.T) {
	a := sample(t, ubuntu)
	a.STIG, _ = assess.ReadSTIG(strings.NewReader(manual("CAN_Ubuntu_24-04_LTS_STIG")))
	validateXCCDFSchema(t, write(t, "xccdf-stig", a))
}

func TestWrongSTIGIsRefused(t *testing.T) {
	a := sample(t, ubuntu)
	var err error
	if a.STIG, err = assess.ReadSTIG(strings.NewReader(manual("CAN_Ubuntu_22-04_LTS_STIG"))); err != nil {
		t.Fatal(err)
	}
	if err := assess.Write(io.Discard, "ckl", a); err == nil || !strings.Contains(err.Error(), "for ubuntu-24.04 it is CAN_Ubuntu_24-04_LTS_STIG") {
		t.Errorf("got %v", err)
	}
}

func TestReadSTIGRefuses(t *testing.T) {
	good := manual("CAN_Ubuntu_24-04_LTS_STIG")
	for name, c := range map[string]struct{ text, want string }{
		"entity":        {strings.Replace(good, "<Benchmark", `<!DOCTYPE x [<!ENTITY a "b">]><Benchmark`, 1), "document type declaration"},
		"other XML":     {"<html/>", "not a STIG"},
		"no XML":        {"STIG", "reading the STIG"},
		"no rules":      {`<Benchmark id="CAN_x"/>`, "has no rules"},
		"cut":           {good[:len(good)/2], "reading the STIG"},
		"rule, no id":   {strings.Replace(good, `id="SV-`, `id="XX-`, 1), "has no rule with ids"},
		"endless":       {"<Benchmark id=\"CAN_x\">" + strings.Repeat(" ", 33<<20), "more than 32 MiB"},
		"unknown words": {strings.Replace(good, "Fix it.", "&evil;", 1), "reading the STIG"},
	} {
		if _, err := assess.ReadSTIG(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := assess.ReadSTIG(io.MultiReader(strings.NewReader("<Benchmark"), failing{})); !errors.Is(err, errBroken) {
		t.Errorf("a reader's own error is lost: %v", err)
	}
}

var errBroken = errors.New("broken")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errBroken }

// The identifiers that are built in are those of the data folder.
func TestKnownRulesAreThoseOfTheData(t *testing.T) {
	file, err := os.Open(testneeds.Shared(t, "facts", "controls.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("stig.csv")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, row := range rows[1:] {
		for _, cell := range row {
			for _, m := range regexp.MustCompile(`(UBTU-\d\d-\d+)\((V-\d+),(\w+)\)`).FindAllStringSubmatch(cell, -1) {
				n++
				if want := fmt.Sprintf("%s,%s.04,%s,%s,", m[1], m[1][5:7], m[2], m[3]); !bytes.Contains(table, []byte("\n"+want)) {
					t.Errorf("stig.csv has no %q", want)
				}
			}
		}
	}
	if n < 300 {
		t.Errorf("only %d rules in the data", n)
	}
}
