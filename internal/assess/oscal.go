package assess

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"kiln"
)

// OSCAL assessment results (NIST), the parts that are written: they are the same in the versions 1.0 and 1.1.
type (
	oscalDocument struct {
		Results oscalResults `json:"assessment-results"`
	}
	oscalResults struct {
		UUID       string           `json:"uuid"`
		Metadata   oscalMetadata    `json:"metadata"`
		Plan       oscalHRef        `json:"import-ap"`
		Local      *oscalObjectives `json:"local-definitions,omitempty"`
		Results    []oscalResult    `json:"results"`
		BackMatter oscalBackMatter  `json:"back-matter"`
	}
	oscalMetadata struct {
		Title    string `json:"title"`
		Modified string `json:"last-modified"`
		Version  string `json:"version"`
		OSCAL    string `json:"oscal-version"`
		Remarks  string `json:"remarks"`
	}
	oscalHRef struct {
		HRef string `json:"href"`
	}
	oscalObjectives struct {
		Objectives []oscalObjective `json:"objectives-and-methods"`
	}
	oscalObjective struct {
		Control     string      `json:"control-id"`
		Description string      `json:"description"`
		Parts       []oscalPart `json:"parts"`
	}
	oscalPart struct {
		ID    string `json:"id"`
		Name  string `json:"name"`
		Title string `json:"title"`
		Prose string `json:"prose"`
	}
	oscalResult struct {
		UUID         string             `json:"uuid"`
		Title        string             `json:"title"`
		Description  string             `json:"description"`
		Start        string             `json:"start"`
		End          string             `json:"end"`
		Props        []oscalProp        `json:"props,omitempty"`
		Local        oscalComponents    `json:"local-definitions"`
		Reviewed     oscalReviewed      `json:"reviewed-controls"`
		Observations []oscalObservation `json:"observations,omitempty"`
		Risks        []oscalRisk        `json:"risks,omitempty"`
		Findings     []oscalFinding     `json:"findings,omitempty"`
		Remarks      string             `json:"remarks,omitempty"`
	}
	oscalProp struct {
		Name  string `json:"name"`
		Space string `json:"ns"`
		Value string `json:"value"`
	}
	oscalComponents struct {
		Components []oscalComponent `json:"components"`
	}
	oscalComponent struct {
		UUID        string      `json:"uuid"`
		Type        string      `json:"type"`
		Title       string      `json:"title"`
		Description string      `json:"description"`
		Props       []oscalProp `json:"props,omitempty"`
		Status      oscalState  `json:"status"`
	}
	oscalState struct {
		State  string `json:"state"`
		Reason string `json:"reason,omitempty"`
	}
	oscalReviewed struct {
		Selections []oscalSelection `json:"control-selections"`
	}
	oscalSelection struct {
		Description string         `json:"description"`
		Controls    []oscalControl `json:"include-controls,omitempty"`
	}
	oscalControl struct {
		ID string `json:"control-id"`
	}
	oscalObservation struct {
		UUID        string          `json:"uuid"`
		Title       string          `json:"title"`
		Description string          `json:"description"`
		Props       []oscalProp     `json:"props"`
		Methods     []string        `json:"methods"`
		Types       []string        `json:"types"`
		Origins     []oscalOrigin   `json:"origins"`
		Subjects    []oscalSubject  `json:"subjects"`
		Evidence    []oscalEvidence `json:"relevant-evidence"`
		Collected   string          `json:"collected"`
	}
	oscalOrigin struct {
		Actors []oscalActor `json:"actors"`
	}
	oscalActor struct {
		Type string `json:"type"`
		UUID string `json:"actor-uuid"`
	}
	oscalSubject struct {
		UUID string `json:"subject-uuid"`
		Type string `json:"type"`
	}
	oscalEvidence struct {
		Description string `json:"description"`
	}
	oscalRisk struct {
		UUID         string             `json:"uuid"`
		Title        string             `json:"title"`
		Description  string             `json:"description"`
		Statement    string             `json:"statement"`
		Props        []oscalProp        `json:"props"`
		Status       string             `json:"status"`
		Origins      []oscalOrigin      `json:"origins"`
		Deadline     string             `json:"deadline,omitempty"`
		Observations []oscalRelatedSeen `json:"related-observations"`
	}
	oscalFinding struct {
		UUID         string             `json:"uuid"`
		Title        string             `json:"title"`
		Description  string             `json:"description"`
		Props        []oscalProp        `json:"props"`
		Target       oscalTarget        `json:"target"`
		Observations []oscalRelatedSeen `json:"related-observations"`
		Risks        []oscalRelatedRisk `json:"related-risks,omitempty"`
	}
	oscalTarget struct {
		Type   string     `json:"type"`
		ID     string     `json:"target-id"`
		Title  string     `json:"title"`
		Status oscalState `json:"status"`
	}
	oscalRelatedSeen struct {
		UUID string `json:"observation-uuid"`
	}
	oscalRelatedRisk struct {
		UUID string `json:"risk-uuid"`
	}
	oscalBackMatter struct {
		Resources []oscalResource `json:"resources"`
	}
	oscalResource struct {
		UUID        string `json:"uuid"`
		Title       string `json:"title"`
		Description string `json:"description"`
	}
)

const (
	oscalVersion = "1.1.2"
	oscalSpace   = "urn:kiln:oscal"
	// oscalDefault is the control of objectives for which no benchmark names one: secure configuration settings, chosen by us.
	oscalDefault = "cm-6"
)

func writeOSCAL(w io.Writer, v *view) error {
	plan := v.id("oscal", "plan")
	doc := oscalResults{
		UUID: v.id("oscal"),
		Metadata: oscalMetadata{
			Title: "Kiln audit of " + v.target, Modified: stamp(v.End), Version: v.catalogueVersion(), OSCAL: oscalVersion,
			Remarks: "Objectives are Kiln's, in its own words; the controls are those that the benchmarks name for them.",
		},
		Plan: oscalHRef{"#" + plan}, Results: []oscalResult{v.oscalResult()},
		BackMatter: oscalBackMatter{[]oscalResource{{
			UUID: plan, Title: "Plan: profile " + v.result.Profile,
			Description: "Every objective of profile " + v.result.Profile + " of catalogue " + v.catalogueVersion() + " was tested by program, once.",
		}}},
	}
	if objectives := v.oscalObjectives(); len(objectives) > 0 {
		doc.Local = &oscalObjectives{objectives}
	}
	return writeIndented(w, oscalDocument{doc})
}

// oscalObjectives defines each objective for the first of its controls: a definition has one.
func (v *view) oscalObjectives() []oscalObjective {
	var out []oscalObjective
	for _, o := range v.outcomes {
		out = append(out, oscalObjective{
			Control: oscalControls(o)[0], Description: o.Title,
			Parts: []oscalPart{{ID: oscalToken(o.Objective), Name: "objective", Title: o.Title, Prose: o.wanted()}},
		})
	}
	return out
}

func (v *view) oscalResult() oscalResult {
	target, tool := v.id("oscal", "target"), v.id("oscal", "tool")
	r := oscalResult{
		UUID: v.id("oscal", "result"), Title: "Audit by profile " + v.result.Profile, Description: rest(Total(v.result.Outcomes)),
		Start: stamp(v.Start), End: stamp(v.End),
		Props: oscalProps("profile", v.result.Profile, "catalogue", string(v.result.Catalogue)),
		Local: oscalComponents{[]oscalComponent{
			{
				target, "software", v.host, "What was audited: " + v.target,
				oscalProps("image-digest", string(v.result.Image), "tree-digest", string(v.result.After), "platform", v.Platform),
				oscalState{State: "operational"},
			},
			{tool, "validation", "Kiln", "The program that looked.", oscalProps("version", v.Version), oscalState{State: "operational"}},
		}},
		Reviewed: v.oscalReviewed(),
	}
	if len(v.result.LeftOut) > 0 {
		r.Remarks = clip("Not looked into: " + strings.Join(v.result.LeftOut, "; "))
	}
	origin := []oscalOrigin{{[]oscalActor{{"tool", tool}}}}
	for _, o := range v.outcomes {
		seen := v.oscalObservation(o, target, origin)
		r.Observations = append(r.Observations, seen)
		if o.State == kiln.NotApplicable {
			continue // neither satisfied nor not: the observation says why
		}
		f := v.oscalFinding(o, seen.UUID)
		if o.State == kiln.Waived {
			risk := v.oscalRisk(o, seen.UUID, origin)
			r.Risks = append(r.Risks, risk)
			f.Risks = []oscalRelatedRisk{{risk.UUID}}
		}
		r.Findings = append(r.Findings, f)
	}
	return r
}

func (v *view) oscalReviewed() oscalReviewed {
	s := oscalSelection{Description: "The controls of NIST SP 800-53 that the audited objectives map to. A control is covered in part only."}
	var ids []string
	for _, o := range v.outcomes {
		ids = append(ids, oscalControls(o)...)
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		s.Controls = append(s.Controls, oscalControl{id})
	}
	return oscalReviewed{[]oscalSelection{s}}
}

func (v *view) oscalObservation(o outcome, target string, origin []oscalOrigin) oscalObservation {
	return oscalObservation{
		UUID: v.id("oscal", "observation", o.Objective), Title: o.Title, Description: o.reason(), Props: v.oscalOutcomeProps(o),
		Methods: []string{"TEST"}, Types: []string{"control-objective"}, Origins: origin, Subjects: []oscalSubject{{target, "component"}},
		Evidence: []oscalEvidence{{o.detail()}}, Collected: stamp(v.End),
	}
}

func (v *view) oscalOutcomeProps(o outcome) []oscalProp {
	out := oscalProps("state", o.State, "severity", xccdfSeverity(o.Severity), "variant", o.Variant, "effective", o.Effective)
	for _, r := range o.References {
		if !crossReference(r.Benchmark) {
			out = append(out, oscalProps("maps-to", referenceText(r))...)
		}
	}
	return out
}

// oscalFinding of an objective that could not be judged is not satisfied, for a reason that is not a failure.
func (v *view) oscalFinding(o outcome, observation string) oscalFinding {
	status := map[string]oscalState{
		kiln.Satisfied: {"satisfied", "pass"}, kiln.NotSatisfied: {"not-satisfied", "fail"}, kiln.Waived: {"not-satisfied", "fail"}, kiln.Unknown: {"not-satisfied", "other"},
	}[o.State]
	return oscalFinding{
		UUID: v.id("oscal", "finding", o.Objective), Title: o.Title, Description: o.reason(), Props: v.oscalOutcomeProps(o),
		Target:       oscalTarget{"objective-id", oscalToken(o.Objective), o.Title, status},
		Observations: []oscalRelatedSeen{{observation}},
	}
}

// oscalRisk is an exception. It is approved where somebody besides its owner agreed.
func (v *view) oscalRisk(o outcome, observation string, origin []oscalOrigin) oscalRisk {
	r := oscalRisk{
		UUID: v.id("oscal", "risk", o.Objective), Title: "Exception: " + o.Title, Description: exception(o.Waiver),
		Statement: orElse(o.control.Rationale, o.Title), Status: "deviation-requested", Origins: origin,
		Props:        oscalProps("owner", o.Waiver.Owner, "approved-by", o.Waiver.ApprovedBy, "exception-id", o.Waiver.ID, "expires", o.Waiver.Expires),
		Observations: []oscalRelatedSeen{{observation}},
	}
	if o.Waiver.ApprovedBy != "" {
		r.Status = "deviation-approved"
	}
	if last, err := time.Parse(time.DateOnly, o.Waiver.Expires); err == nil {
		r.Deadline = stamp(last.Add(24*time.Hour - time.Second))
	}
	return r
}

// oscalProps makes properties of pairs, without those that are empty.
func oscalProps(pairs ...string) []oscalProp {
	var out []oscalProp
	for i := 0; i+1 < len(pairs); i += 2 {
		if value := strings.Join(strings.Fields(pairs[i+1]), " "); value != "" {
			out = append(out, oscalProp{pairs[i], oscalSpace, value})
		}
	}
	return out
}

// oscalToken makes a name as OSCAL's tokens are.
func oscalToken(name string) string {
	kept := strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || r == '.' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z') {
			return r
		}
		return '-'
	}, name)
	if kept != name || len(kept) > 200 {
		kept = fmt.Sprintf("%s-%s", kept[:min(len(kept), 200)], kiln.DigestBytes([]byte(name)).Short())
	}
	if kept == "" || !('a' <= kept[0]|0x20 && kept[0]|0x20 <= 'z') {
		kept = "_" + kept
	}
	return kept
}

// nistControl reads the control, and the enhancement, out of what benchmarks write: "AC-8 c(1)", "IA-2(1)", "CM-6(b)".
var nistControl = regexp.MustCompile(`^([A-Z]{2})-([0-9]{1,2})(?: ?\(([0-9]{1,2})\))?`)

// oscalControls are the ids of an objective's controls in OSCAL's catalogue of NIST SP 800-53, sorted.
func oscalControls(o outcome) []string {
	var out []string
	for _, r := range o.References {
		if !strings.HasPrefix(r.Benchmark, "NIST ") {
			continue
		}
		if m := nistControl.FindStringSubmatch(r.ID); m != nil {
			id := strings.ToLower(m[1]) + "-" + m[2]
			if m[3] != "" {
				id += "." + m[3]
			}
			out = append(out, id)
		}
	}
	if len(out) == 0 {
		return []string{oscalDefault}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
