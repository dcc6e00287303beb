package assess_test

import (
	"encoding/xml"
	"os"
	"slices"
	"strings"
	"testing"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/assess"
)

// image is an audit of an image by a profile of containers, where everything holds.
func image(t *testing.T) *assess.Assessment {
	t.Helper()
	a := sample(t, debian)
	c, err := catalogue.Load()
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.Profile("container-strict")
	if err != nil {
		t.Fatal(err)
	}
	a.Result.Outcomes = nil
	for _, k := range list {
		a.Result.Outcomes = append(a.Result.Outcomes, outcomeOf(k, kiln.Satisfied))
	}
	return a
}

func gpos(t *testing.T, a *assess.Assessment) map[string][2]string {
	t.Helper()
	text := write(t, "gpos", a)
	validateXCCDFSchema(t, text)
	var doc testResult
	if err := xml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	out := map[string][2]string{}
	for _, r := range doc.Results {
		out[strings.TrimPrefix(r.IDRef, "xccdf_kiln_rule_")] = [2]string{r.Result, strings.Join(r.Messages, "\n")}
	}
	return out
}

func TestGPOSAnswersEachRequirementWithAReason(t *testing.T) {
	answers := gpos(t, image(t))
	if len(answers) < 150 {
		t.Errorf("%d requirements", len(answers))
	}
	count := map[string]int{}
	for id, a := range answers {
		count[a[0]]++
		if a[1] == "" {
			t.Errorf("%s is %s without a word", id, a[0])
		}
	}
	for _, result := range []string{"pass", "notapplicable", "notchecked"} {
		if count[result] == 0 {
			t.Errorf("none is %s: %v", result, count)
		}
	}
	if a := answers["SRG-OS-000023-GPOS-00006"]; a[0] == "pass" {
		t.Errorf("the banner of logins passes on an image: %v", a)
	}
}

// Only of an image is it known that what concerns machines does not apply.
func TestGPOSOfAMachineLeavesOpenWhatNobodyLookedAt(t *testing.T) {
	a := sample(t, debian)
	a.Result.Outcomes = slices.DeleteFunc(a.Result.Outcomes, func(o kiln.Outcome) bool { return o.State == kiln.NotApplicable })[:100]
	for id, x := range gpos(t, a) {
		if x[0] == "notapplicable" {
			t.Errorf("%s does not apply: %s", id, x[1])
		}
	}
}

// A failing objective fails its requirement, whatever else holds, and an exception stays a failure.
func TestGPOSTakesTheGravest(t *testing.T) {
	for state, want := range map[string]string{kiln.NotSatisfied: "fail", kiln.Unknown: "unknown", kiln.Waived: "fail"} {
		a := image(t)
		at := slices.IndexFunc(a.Result.Outcomes, func(o kiln.Outcome) bool {
			return slices.ContainsFunc(o.References, func(r kiln.Reference) bool { return r.ID == "SRG-OS-000480-GPOS-00227" })
		})
		o := outcomeOf(kiln.Control{ID: "x", Variants: []kiln.Variant{{ID: "v"}}}, state)
		o.Objective, o.Title, o.References = a.Result.Outcomes[at].Objective, "x", a.Result.Outcomes[at].References
		a.Result.Outcomes[at] = o
		if got := gpos(t, a)["SRG-OS-000480-GPOS-00227"]; got[0] != want {
			t.Errorf("%s: the requirement is %s, want %s", state, got[0], want)
		}
	}
}

// Every requirement that the catalogue names is among those that are answered.
func TestGPOSKnowsWhatTheCatalogueNames(t *testing.T) {
	table, err := os.ReadFile("gpos.txt")
	if err != nil {
		t.Fatal(err)
	}
	known, seen := strings.Fields(string(table)), 0
	if !slices.IsSorted(known) || len(slices.Compact(slices.Clone(known))) != len(known) {
		t.Error("gpos.txt is not sorted, or has an id twice")
	}
	for _, c := range image(t).Controls {
		for _, r := range c.References {
			if strings.HasPrefix(r.ID, "SRG-OS-") {
				seen++
				if !slices.Contains(known, r.ID) {
					t.Errorf("%s of %s is not in gpos.txt", r.ID, c.ID)
				}
			}
		}
	}
	if seen < 100 {
		t.Errorf("the catalogue names only %d", seen)
	}
}
