package assess_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"kiln"
)

func TestOSCAL(t *testing.T) {
	a := sample(t, debian)
	text := write(t, "oscal", a)
	checkSchema(t, "oscal-assessment-results.schema.json", text)
	var doc struct {
		AR struct {
			Plan struct {
				HRef string `json:"href"`
			} `json:"import-ap"`
			Results []struct {
				Reviewed struct {
					Selections []struct {
						Controls []struct {
							ID string `json:"control-id"`
						} `json:"include-controls"`
					} `json:"control-selections"`
				} `json:"reviewed-controls"`
				Observations []struct{ UUID string }
				Risks        []struct{ UUID, Status, Deadline, Description string }
				Findings     []struct {
					Target struct {
						ID     string `json:"target-id"`
						Status struct{ State, Reason string }
					}
					Seen []struct {
						UUID string `json:"observation-uuid"`
					} `json:"related-observations"`
					Risks []struct {
						UUID string `json:"risk-uuid"`
					} `json:"related-risks"`
				}
			}
			BackMatter struct{ Resources []struct{ UUID string } } `json:"back-matter"`
		} `json:"assessment-results"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.AR.Plan.HRef != "#"+doc.AR.BackMatter.Resources[0].UUID {
		t.Errorf("the plan %s is not in the document", doc.AR.Plan.HRef)
	}
	r := doc.AR.Results[0]
	seen, risks := map[string]bool{}, map[string]bool{}
	for _, o := range r.Observations {
		seen[o.UUID] = true
	}
	for _, x := range r.Risks {
		risks[x.UUID] = true
		if x.Status != "deviation-approved" || x.Deadline != "2027-01-31T23:59:59Z" {
			t.Errorf("a risk is %s until %s", x.Status, x.Deadline)
		}
	}
	want := map[string][2]string{kiln.Satisfied: {"satisfied", "pass"}, kiln.NotSatisfied: {"not-satisfied", "fail"}, kiln.Unknown: {"not-satisfied", "other"}, kiln.Waived: {"not-satisfied", "fail"}}
	count := map[string]int{}
	for _, f := range r.Findings {
		o := find(t, a, f.Target.ID)
		count[o.State]++
		if got := [2]string{f.Target.Status.State, f.Target.Status.Reason}; got != want[o.State] {
			t.Errorf("%s is %s: status %v", o.Objective, o.State, got)
		}
		if waived := o.State == kiln.Waived; waived != (len(f.Risks) == 1 && risks[f.Risks[0].UUID]) || len(f.Seen) != 1 || !seen[f.Seen[0].UUID] {
			t.Errorf("%s is %s: risks %v, observations %v", o.Objective, o.State, f.Risks, f.Seen)
		}
	}
	if len(seen) != len(a.Result.Outcomes) || count[kiln.Waived] != len(risks) || count[kiln.NotApplicable] != 0 || len(r.Findings) == 0 {
		t.Errorf("%d observations, %d risks, findings %v", len(seen), len(risks), count)
	}
	var ids []string
	for _, c := range r.Reviewed.Selections[0].Controls {
		ids = append(ids, c.ID)
	}
	for _, id := range []string{"ac-8", "cm-6", "ia-2.1"} {
		if !slices.Contains(ids, id) {
			t.Errorf("control %s is not among %v", id, ids)
		}
	}
}

// The schemas must be able to refuse.
func TestSchemasRefuseWrongDocuments(t *testing.T) {
	for format, c := range map[string][2]string{
		"oscal": {`"state": "not-satisfied"`, `"state": "waived"`},
		"sarif": {`"kind": "open"`, `"kind": "unknown"`},
	} {
		text := write(t, format, sample(t, debian))
		spoiled := bytes.Replace(text, []byte(c[0]), []byte(c[1]), 1)
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(spoiled))
		if err != nil || bytes.Equal(text, spoiled) {
			t.Fatalf("%s: nothing was spoiled (%v)", format, err)
		}
		if compile(t, schemas[format]).Validate(doc) == nil {
			t.Errorf("the schema of %s accepts %s", format, c[1])
		}
	}
}
