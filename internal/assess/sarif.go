package assess

import (
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"kiln"
)

// SARIF 2.1.0 (OASIS Standard, 27 March 2020), the parts that are written.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool              sarifTool         `json:"tool"`
		AutomationDetails sarifAutomation   `json:"automationDetails"`
		Invocations       []sarifInvocation `json:"invocations"`
		Results           []sarifResult     `json:"results"`
		ColumnKind        string            `json:"columnKind"`
		Properties        map[string]any    `json:"properties,omitempty"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID                   string         `json:"id"`
		ShortDescription     sarifText      `json:"shortDescription"`
		FullDescription      sarifText      `json:"fullDescription"`
		DefaultConfiguration sarifConfig    `json:"defaultConfiguration"`
		Help                 sarifText      `json:"help"`
		Properties           map[string]any `json:"properties"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifConfig struct {
		Level string `json:"level"`
	}
	sarifAutomation struct {
		ID   string `json:"id"`
		GUID string `json:"guid"`
	}
	sarifInvocation struct {
		ExecutionSuccessful        bool                `json:"executionSuccessful"`
		StartTimeUTC               string              `json:"startTimeUtc"`
		EndTimeUTC                 string              `json:"endTimeUtc"`
		ToolExecutionNotifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level   string    `json:"level"`
		Message sarifText `json:"message"`
	}
	sarifResult struct {
		RuleID              string             `json:"ruleId"`
		RuleIndex           int                `json:"ruleIndex"`
		Kind                string             `json:"kind"`
		Level               string             `json:"level"`
		Message             sarifText          `json:"message"`
		Locations           []sarifLocation    `json:"locations"`
		PartialFingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions        []sarifSuppression `json:"suppressions,omitempty"`
		Properties          map[string]any     `json:"properties,omitempty"`
	}
	sarifLocation struct {
		PhysicalLocation sarifPhysical  `json:"physicalLocation"`
		LogicalLocations []sarifLogical `json:"logicalLocations"`
	}
	sarifPhysical struct {
		ArtifactLocation sarifArtifact `json:"artifactLocation"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifLogical struct {
		FullyQualifiedName string `json:"fullyQualifiedName"`
		Kind               string `json:"kind"`
	}
	sarifSuppression struct {
		Kind          string         `json:"kind"`
		Status        string         `json:"status"`
		Justification string         `json:"justification"`
		Properties    map[string]any `json:"properties,omitempty"`
	}
)

func writeSARIF(w io.Writer, v *view) error {
	run := sarifRun{
		Tool:              sarifTool{sarifDriver{Name: "kiln", Version: v.Version, Rules: []sarifRule{}}},
		AutomationDetails: sarifAutomation{ID: "kiln/" + v.target + "/" + v.result.Profile, GUID: v.id("sarif")},
		Invocations:       []sarifInvocation{v.sarifInvocation()},
		Results:           []sarifResult{}, ColumnKind: "unicodeCodePoints",
		Properties: map[string]any{"profile": v.result.Profile, "catalogue": v.result.Catalogue, "image": v.result.Image},
	}
	for i, o := range v.outcomes {
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRuleOf(o))
		run.Results = append(run.Results, v.sarifResult(i, o))
	}
	return writeIndented(w, sarifLog{
		Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run},
	})
}

func writeIndented(w io.Writer, doc any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

func (v *view) sarifInvocation() sarifInvocation {
	in := sarifInvocation{ExecutionSuccessful: true, StartTimeUTC: stamp(v.Start), EndTimeUTC: stamp(v.End)}
	for _, left := range v.result.LeftOut {
		in.ToolExecutionNotifications = append(in.ToolExecutionNotifications,
			sarifNotification{Level: "warning", Message: sarifText{"not looked into: " + clip(left)}})
	}
	return in
}

// stamp is a time of XML Schema and RFC 3339, in UTC, to the second.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func sarifRuleOf(o outcome) sarifRule {
	return sarifRule{
		ID:                   o.Objective,
		ShortDescription:     sarifText{o.Title},
		FullDescription:      sarifText{orElse(o.control.Rationale, o.Title)},
		DefaultConfiguration: sarifConfig{sarifLevel(o.Severity)},
		Help:                 sarifText{help(o)},
		Properties:           map[string]any{"tags": tags(o), "problem.severity": sarifLevel(o.Severity), "security-severity": securitySeverity(o.Severity)},
	}
}

// help tells the reader of a rule what would meet it.
func help(o outcome) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nWays to meet it, the strictest first:\n", orElse(o.control.Rationale, o.Title))
	for _, x := range o.control.Variants {
		fmt.Fprintf(&b, "- %s: %s", x.ID, orElse(x.Title, settingsText(x)))
		if x.Gives != "" {
			fmt.Fprintf(&b, " (gives up: %s)", x.Gives)
		}
		b.WriteString("\n")
	}
	if len(o.control.Variants) == 0 {
		fmt.Fprintf(&b, "- %s\n", o.wanted())
	}
	b.WriteString("\nMaps to:\n")
	for _, r := range o.References {
		fmt.Fprintf(&b, "- %s\n", referenceText(r))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// settingsText names the kinds of a variant that has no title.
func settingsText(x kiln.Variant) string {
	kinds := make([]string, len(x.Settings))
	for i, s := range x.Settings {
		kinds[i] = s.Kind
	}
	return strings.Join(slices.Compact(kinds), ", ")
}

func referenceText(r kiln.Reference) string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s %s", r.Benchmark, r.Version, r.ID, r.Level))
}

func tags(o outcome) []string {
	out := []string{"security", "hardening"}
	for _, r := range o.References {
		if !crossReference(r.Benchmark) {
			out = append(out, referenceText(r))
		}
	}
	return out
}

func sarifLevel(severity string) string {
	switch severity {
	case "high":
		return "error"
	case "low":
		return "note"
	}
	return "warning"
}

// securitySeverity is the number by which code scanning sorts: the middles of CVSS' ranges.
func securitySeverity(severity string) string {
	switch severity {
	case "high":
		return "8.0"
	case "low":
		return "2.0"
	}
	return "5.5"
}

func (v *view) sarifResult(index int, o outcome) sarifResult {
	r := sarifResult{
		RuleID: o.Objective, RuleIndex: index, Kind: "fail", Level: sarifLevel(o.Severity), Message: sarifText{o.Title + ": " + o.reason()},
		Locations: []sarifLocation{{
			PhysicalLocation: sarifPhysical{sarifArtifact{sarifURI(o)}},
			LogicalLocations: []sarifLogical{{FullyQualifiedName: v.target, Kind: "resource"}},
		}},
		PartialFingerprints: map[string]string{"kilnObjective/v1": kiln.DigestBytes([]byte(o.Objective)).Hex()[:32]},
		Properties:          map[string]any{"state": o.State, "wanted": o.wanted(), "observed": o.Observed, "effective": o.Effective, "variant": o.Variant},
	}
	switch o.State { // section 3.27.10: a kind other than fail has the level none
	case kiln.Satisfied:
		r.Kind, r.Level = "pass", "none"
	case kiln.NotApplicable:
		r.Kind, r.Level = "notApplicable", "none"
	case kiln.Unknown:
		r.Kind, r.Level = "open", "none"
	case kiln.Waived:
		r.Suppressions = []sarifSuppression{{
			Kind: "external", Status: "accepted", Justification: o.Waiver.Reason,
			Properties: map[string]any{"owner": o.Waiver.Owner, "expires": o.Waiver.Expires, "id": o.Waiver.ID, "approvedBy": o.Waiver.ApprovedBy},
		}}
	}
	return r
}

// sarifURI is the file that the objective is about, relative to the target's root, or the root where it is about more.
func sarifURI(o outcome) string {
	paths := o.Changed
	for _, x := range o.control.Variants {
		for _, s := range x.Settings {
			if p, ok := s.Params["path"].(string); ok {
				paths = append(paths[:len(paths):len(paths)], p)
			}
		}
	}
	for _, p := range paths {
		p = path.Clean("/" + p)[1:]
		if p != "" && strings.Trim(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" {
			return p
		}
	}
	return "."
}
