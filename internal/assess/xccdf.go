package assess

import (
	"encoding/xml"
	"io"
	"slices"
	"strings"

	"kiln"
)

// XCCDF 1.2 (NIST IR 7275 revision 4), the parts that are written, in the order of its schema.
const xccdfSpace = "http://checklists.nist.gov/xccdf/1.2"

// xccdfOwner is the name space of our own identifiers: xccdf_kiln_rule_...
const xccdfOwner = "kiln"

type (
	xccdfBenchmark struct {
		XMLName     xml.Name        `xml:"Benchmark"`
		Space       string          `xml:"xmlns,attr"`
		ID          string          `xml:"id,attr"`
		Lang        string          `xml:"xml:lang,attr"`
		Resolved    bool            `xml:"resolved,attr"`
		Status      xccdfStatus     `xml:"status"`
		Title       string          `xml:"title"`
		Description string          `xml:"description"`
		Notice      xccdfNotice     `xml:"notice"`
		Version     string          `xml:"version"`
		Metadata    xccdfMetadata   `xml:"metadata"`
		Models      []xccdfModel    `xml:"model"`
		Profile     xccdfProfile    `xml:"Profile"`
		Groups      []xccdfGroup    `xml:"Group"`
		Result      xccdfTestResult `xml:"TestResult"`
	}
	xccdfStatus struct {
		Date string `xml:"date,attr"`
		Text string `xml:",chardata"`
	}
	xccdfNotice struct {
		ID   string `xml:"id,attr"`
		Text string `xml:",chardata"`
	}
	xccdfModel struct {
		System string `xml:"system,attr"`
	}
	xccdfProfile struct {
		ID          string        `xml:"id,attr"`
		Title       string        `xml:"title"`
		Description string        `xml:"description"`
		Select      []xccdfSelect `xml:"select"`
	}
	xccdfSelect struct {
		IDRef    string `xml:"idref,attr"`
		Selected bool   `xml:"selected,attr"`
	}
	xccdfGroup struct {
		ID          string      `xml:"id,attr"`
		Title       string      `xml:"title"`
		Description string      `xml:"description"`
		Rules       []xccdfRule `xml:"Rule"`
	}
	xccdfRule struct {
		ID          string           `xml:"id,attr"`
		Selected    bool             `xml:"selected,attr"`
		Severity    string           `xml:"severity,attr"`
		Weight      string           `xml:"weight,attr"`
		Title       string           `xml:"title"`
		Description string           `xml:"description"`
		References  []xccdfReference `xml:"reference"`
		Rationale   string           `xml:"rationale,omitempty"`
		Idents      []xccdfIdent     `xml:"ident"`
		Fix         *xccdfFix        `xml:"fixtext"`
		Check       xccdfCheck       `xml:"check"`
	}
	xccdfCheck struct {
		System string        `xml:"system,attr"`
		Ref    xccdfCheckRef `xml:"check-content-ref"`
	}
	xccdfCheckRef struct {
		HRef string `xml:"href,attr"`
		Name string `xml:"name,attr"`
	}
	xccdfMetadata struct {
		DC        string `xml:"xmlns:dc,attr"`
		Creator   string `xml:"dc:creator"`
		Publisher string `xml:"dc:publisher"`
		Source    string `xml:"dc:source"`
	}
	xccdfReference struct {
		HRef string `xml:"href,attr"`
		Text string `xml:",chardata"`
	}
	xccdfIdent struct {
		System string `xml:"system,attr"`
		Text   string `xml:",chardata"`
	}
	xccdfFix struct {
		Text string `xml:",chardata"`
	}
	xccdfTestResult struct {
		XMLName    xml.Name          `xml:"TestResult"`
		Space      string            `xml:"xmlns,attr,omitempty"` // where it is the root
		ID         string            `xml:"id,attr"`
		Start      string            `xml:"start-time,attr"`
		End        string            `xml:"end-time,attr"`
		TestSystem string            `xml:"test-system,attr"`
		Version    string            `xml:"version,attr"`
		Benchmark  xccdfBenchmarkRef `xml:"benchmark"`
		Title      string            `xml:"title"`
		Remarks    []string          `xml:"remark"`
		Identity   xccdfIdentity     `xml:"identity"`
		Profile    *xccdfIDRef       `xml:"profile"`
		Target     string            `xml:"target"`
		Facts      []xccdfFact       `xml:"target-facts>fact"`
		Results    []xccdfRuleResult `xml:"rule-result"`
		Score      xccdfScore        `xml:"score"`
	}
	xccdfBenchmarkRef struct {
		HRef string `xml:"href,attr"`
		ID   string `xml:"id,attr"`
	}
	xccdfIdentity struct {
		Authenticated bool   `xml:"authenticated,attr"`
		Privileged    bool   `xml:"privileged,attr"`
		Text          string `xml:",chardata"`
	}
	xccdfIDRef struct {
		IDRef string `xml:"idref,attr"`
	}
	xccdfFact struct {
		Name string `xml:"name,attr"`
		Type string `xml:"type,attr"`
		Text string `xml:",chardata"`
	}
	xccdfRuleResult struct {
		IDRef    string         `xml:"idref,attr"`
		Time     string         `xml:"time,attr"`
		Severity string         `xml:"severity,attr"`
		Weight   string         `xml:"weight,attr"`
		Version  string         `xml:"version,attr,omitempty"`
		Result   string         `xml:"result"`
		Override *xccdfOverride `xml:"override"`
		Idents   []xccdfIdent   `xml:"ident"`
		Messages []xccdfMessage `xml:"message"`
		Check    *xccdfCheck    `xml:"check"`
	}
	xccdfOverride struct {
		Time      string `xml:"time,attr"`
		Authority string `xml:"authority,attr"`
		Old       string `xml:"old-result"`
		New       string `xml:"new-result"`
		Remark    string `xml:"remark"`
	}
	xccdfMessage struct {
		Severity string `xml:"severity,attr"`
		Text     string `xml:",chardata"`
	}
	xccdfScore struct {
		System  string `xml:"system,attr"`
		Maximum int    `xml:"maximum,attr"`
		Value   int    `xml:",chardata"`
	}
)

// flatUnweighted is the scoring model that counts: how many of the rules that apply pass.
const flatUnweighted = "urn:xccdf:scoring:flat-unweighted"

// writeXCCDF leaves out the override elements of exceptions: oscap's rules (the schematron of XCCDF 1.2 that comes with it)
// refuse every result without one as soon as one result has one. The exception stands in the result's message.
func writeXCCDF(w io.Writer, v *view) error {
	b := v.xccdfBenchmark()
	for i := range b.Result.Results {
		b.Result.Results[i].Override = nil
	}
	return writeXML(w, b)
}

// xccdfBenchmark is our catalogue's part of the assessment as a benchmark with its result.
func (v *view) xccdfBenchmark() xccdfBenchmark {
	b := xccdfBenchmark{
		Space: xccdfSpace, ID: v.xccdfID("benchmark", "hardening"), Lang: "en", Resolved: true,
		Status: xccdfStatus{Date: v.Start.UTC().Format("2006-01-02"), Text: "draft"},
		Title:  "Kiln hardening objectives, profile " + v.result.Profile,
		Description: "Objectives in Kiln's own words. Each names the rules of published benchmarks that it maps to; " +
			"this document is derived, and is not a benchmark of CIS or DISA.",
		Notice:   xccdfNotice{ID: "derived", Text: "Derived by Kiln; neither written nor endorsed by CIS, DISA or NIST."},
		Version:  v.catalogueVersion(),
		Metadata: xccdfMetadata{"http://purl.org/dc/elements/1.1/", "Kiln " + v.Version, "Kiln", "urn:kiln:catalogue:" + v.catalogueVersion()},
		Models:   []xccdfModel{{flatUnweighted}},
		Profile:  xccdfProfile{ID: v.xccdfID("profile", v.result.Profile), Title: v.result.Profile, Description: "The objectives that were asked for."},
	}
	for _, severity := range []string{"high", "medium", "low", "unknown"} {
		g := xccdfGroup{
			ID: v.xccdfID("group", severity), Title: "Objectives of " + severity + " severity",
			Description: "What stands open here is to be dealt with in the order of the groups.",
		}
		for _, o := range v.outcomes {
			if xccdfSeverity(o.Severity) == severity {
				g.Rules = append(g.Rules, v.xccdfRule(o))
				b.Profile.Select = append(b.Profile.Select, xccdfSelect{v.xccdfID("rule", o.Objective), true})
			}
		}
		if len(g.Rules) > 0 {
			b.Groups = append(b.Groups, g)
		}
	}
	b.Result = v.xccdfResult(xccdfBenchmarkRef{HRef: "#" + b.ID, ID: b.ID})
	b.Result.Profile = &xccdfIDRef{b.Profile.ID}
	for _, o := range v.outcomes {
		result := v.xccdfRuleResult(v.xccdfID("rule", o.Objective), o.State, o.Severity, o)
		check := xccdfCheckOf(o)
		result.Check = &check
		b.Result.Results = append(b.Result.Results, result)
	}
	b.Result.Score = xccdfScoreOf(Total(v.result.Outcomes))
	return b
}

// catalogueVersion names the catalogue by its content.
func (v *view) catalogueVersion() string { return orElse(v.result.Catalogue.Short(), "unknown") }

// xccdfID makes an identifier of the kind (benchmark, profile, group, rule, testresult). Names that had to be changed for
// it get a digest, so that two of them never become one.
func (v *view) xccdfID(kind, name string) string {
	kept := strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || r == '.' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z') {
			return r
		}
		return '-'
	}, name)
	if kept != name || len(kept) > 200 || kept == "" {
		kept = kept[:min(len(kept), 200)] + "-" + kiln.DigestBytes([]byte(name)).Short()
	}
	return "xccdf_" + xccdfOwner + "_" + kind + "_" + kept
}

func xccdfSeverity(s string) string {
	if slices.Contains([]string{"high", "medium", "low"}, s) {
		return s
	}
	return "unknown"
}

func (v *view) xccdfRule(o outcome) xccdfRule {
	return xccdfRule{
		ID: v.xccdfID("rule", o.Objective), Selected: true, Severity: xccdfSeverity(o.Severity), Weight: "1.0", Title: o.Title,
		Description: o.wanted(), References: xccdfReferences(o.References), Rationale: o.control.Rationale, Idents: cciIdents(o.References),
		Fix: &xccdfFix{help(o)}, Check: xccdfCheckOf(o),
	}
}

// xccdfCheckOf names what judged an objective: the catalogue's entry, by the objective's id.
func xccdfCheckOf(o outcome) xccdfCheck {
	return xccdfCheck{System: "urn:kiln:objective", Ref: xccdfCheckRef{"catalogue", o.Objective}}
}

func xccdfReferences(refs []kiln.Reference) []xccdfReference {
	var out []xccdfReference
	for _, r := range refs {
		out = append(out, xccdfReference{HRef: "urn:kiln:benchmark:" + urnPart(r.Benchmark) + ":" + urnPart(r.Version), Text: referenceText(r)})
	}
	return out
}

// urnPart keeps what needs no escape in a URN.
func urnPart(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789.-", r) {
			return r
		}
		return '-'
	}, strings.ToLower(s))
}

const cciSystem = "http://cyber.mil/cci"

// cciIdents are the Control Correlation Identifiers of an objective.
func cciIdents(refs []kiln.Reference) []xccdfIdent {
	var out []xccdfIdent
	for _, id := range ccis(refs) {
		out = append(out, xccdfIdent{cciSystem, id})
	}
	return out
}

func ccis(refs []kiln.Reference) []string {
	var out []string
	for _, r := range refs {
		if strings.HasPrefix(r.Benchmark, "DISA ") && strings.HasPrefix(r.ID, "CCI-") {
			out = append(out, r.ID)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// maxTarget is what STIG tools take as a target's name.
const maxTarget = 255

// xccdfResult is the result's head; rules and score are the caller's.
func (v *view) xccdfResult(of xccdfBenchmarkRef) xccdfTestResult {
	r := xccdfTestResult{
		ID: v.xccdfID("testresult", v.id("xccdf", of.ID)), Start: stamp(v.Start), End: stamp(v.End),
		TestSystem: "kiln " + v.Version, Version: v.catalogueVersion(), Benchmark: of,
		Title:    "Kiln audit of " + clipAt(v.target, maxTarget),
		Identity: xccdfIdentity{Text: "kiln"}, Target: clipAt(v.host, maxTarget),
	}
	for _, left := range v.result.LeftOut {
		r.Remarks = append(r.Remarks, "Not looked into: "+left)
	}
	fact := func(name, text string) {
		if text != "" {
			r.Facts = append(r.Facts, xccdfFact{"urn:xccdf:fact:" + name, "string", text})
		}
	}
	fact("asset:identifier:host_name", clipAt(v.host, maxTarget))
	fact("asset:identifier", string(v.result.Image))
	fact("asset:identifier:tree", string(v.result.After))
	fact("asset:reference", v.target)
	fact("asset:platform", v.Platform)
	return r
}

// xccdfState maps a state to a result: an exception stays a failure, and what could not be judged is unknown.
func xccdfState(state string) string {
	switch state {
	case kiln.Satisfied:
		return "pass"
	case kiln.NotSatisfied, kiln.Waived:
		return "fail"
	case kiln.NotApplicable:
		return "notapplicable"
	}
	return "unknown"
}

func (v *view) xccdfRuleResult(id, state, severity string, outcomes ...outcome) xccdfRuleResult {
	r := xccdfRuleResult{
		IDRef: id, Time: stamp(v.End), Severity: xccdfSeverity(severity), Weight: "1.0", Result: xccdfState(state),
	}
	var refs []kiln.Reference
	for _, o := range outcomes {
		refs = append(refs, o.References...)
		r.Messages = append(r.Messages, xccdfMessage{messageSeverity(o.State), o.detail()})
		if o.Waiver != nil && state == kiln.Waived && r.Override == nil {
			r.Override = &xccdfOverride{
				Time: stamp(v.End), Authority: orElse(o.Waiver.ApprovedBy, o.Waiver.Owner), Old: "fail", New: "fail",
				Remark: "Stays a failure, by an exception: " + exception(o.Waiver),
			}
		}
	}
	r.Idents = cciIdents(refs)
	return r
}

func messageSeverity(state string) string {
	switch state {
	case kiln.NotSatisfied, kiln.Unknown:
		return "error"
	case kiln.Waived:
		return "warning"
	}
	return "info"
}

func xccdfScoreOf(s Score) xccdfScore {
	return xccdfScore{System: flatUnweighted, Maximum: s.Applicable(), Value: s.Pass}
}
