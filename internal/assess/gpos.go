package assess

import (
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"

	"kiln"
)

// gposTable lists the requirements of DISA's General Purpose Operating System SRG that are known here, an id a line.
//
//go:embed gpos.txt
var gposTable string

// writeGPOS answers the General Purpose Operating System SRG, requirement by requirement, as vendors of images do: DISA has
// no STIG for containers. The identifiers of benchmark and rules are our own, because it is derived and not DISA's.
func writeGPOS(w io.Writer, v *view) error {
	r := v.xccdfResult(xccdfBenchmarkRef{HRef: "urn:kiln:benchmark:gpos-srg", ID: v.xccdfID("benchmark", "gpos-srg")})
	ids := strings.Fields(gposTable)
	r.Space, r.Title = xccdfSpace, "Answers to the General Purpose Operating System SRG, derived by Kiln"
	r.Remarks = append(r.Remarks,
		fmt.Sprintf("Derived by Kiln, not DISA's. %d requirements are answered; the SRG has more, which Kiln does not know and which are not reviewed.", len(ids)))
	answered, machineOnly := v.gposAnswers(), v.gposMachineOnly()
	var score Score
	for _, id := range ids {
		a := answered[id]
		result := v.xccdfRuleResult(v.xccdfID("rule", id), a.state, gravest(a.outcomes), a.outcomes...)
		result.Version = id
		switch {
		case len(a.outcomes) > 0:
			score.count(a.state)
		case len(machineOnly[id]) > 0:
			score.NotApplicable++
			result.Result = "notapplicable"
			result.Messages = []xccdfMessage{{"info", "What Kiln's objectives ask here is about a running machine, and this is an image, which has no kernel, boot or logins of its own: " +
				strings.Join(machineOnly[id], ", ") + "."}}
		default:
			result.Result = "notchecked"
			result.Messages = []xccdfMessage{{"info", "Not reviewed: no objective that was audited answers this requirement."}}
		}
		r.Results = append(r.Results, result)
	}
	r.Score = xccdfScoreOf(score)
	return writeXML(w, r)
}

// gposReferences are the requirements that references name.
func gposReferences(refs []kiln.Reference) []kiln.Reference {
	var out []kiln.Reference
	for _, r := range refs {
		if strings.HasPrefix(r.ID, "SRG-OS-") && !slices.ContainsFunc(out, func(x kiln.Reference) bool { return x.ID == r.ID }) {
			out = append(out, r)
		}
	}
	return out
}

// gposAnswers collects for each requirement the outcomes that refer to it.
func (v *view) gposAnswers() map[string]rule {
	out := map[string]rule{}
	for _, o := range v.outcomes {
		for _, r := range gposReferences(o.References) {
			a, there := out[r.ID]
			state := stateFor(r, o)
			if a.id = r.ID; !there {
				a.state = state
			}
			a.state, a.outcomes = worst(a.state, state), append(a.outcomes, o)
			out[r.ID] = a
		}
	}
	return out
}

// gposMachineOnly lists, where a container was judged, the requirements whose objectives are all of machines, with their ids.
func (v *view) gposMachineOnly() map[string][]string {
	if !v.container() {
		return nil
	}
	out, both := map[string][]string{}, map[string]bool{}
	for _, c := range v.Controls {
		for _, r := range gposReferences(c.References) {
			id := r.ID
			if c.Scope != "machine" {
				both[id] = true
			}
			out[id] = append(out[id], c.ID)
		}
	}
	for id := range both {
		delete(out, id)
	}
	return out
}

// container reports whether the target was judged as a container: an objective that is only for containers applied, and none
// that is only for machines did.
func (v *view) container() bool {
	seen := false
	for _, o := range v.outcomes {
		switch {
		case o.State == kiln.NotApplicable:
		case o.control.Scope == "machine":
			return false
		case o.control.Scope == "container":
			seen = true
		}
	}
	return seen
}

// gravest is the highest severity of some outcomes.
func gravest(outcomes []outcome) string {
	for _, s := range []string{"high", "medium", "low"} {
		if slices.ContainsFunc(outcomes, func(o outcome) bool { return o.Severity == s }) {
			return s
		}
	}
	return ""
}
