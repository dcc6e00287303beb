package catalogue

import (
	"regexp"
	"testing"
)

// TestEveryKnownRequirementIsAssessedOrSaysWhyNot: of each requirement of the operating system SRG that the facts
// cite, an objective of the container profiles judges it, or a reason says why none does; never both.
func TestEveryKnownRequirementIsAssessedOrSaysWhyNot(t *testing.T) {
	known := map[string]bool{}
	id := regexp.MustCompile(`SRG-OS-\d{6}-GPOS-\d{5}`)
	for _, table := range []string{"controls.csv", "container-controls.csv"} {
		for _, row := range facts(t, table) {
			for _, r := range id.FindAllString(row["srg"], -1) {
				known[r] = true
			}
		}
	}
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.Profile("container-strict")
	if err != nil {
		t.Fatal(err)
	}
	assessed, inProfile := map[string]bool{}, map[string]bool{}
	for _, k := range list {
		inProfile[k.ID] = true
		for _, r := range k.References {
			if id.MatchString(r.ID) {
				assessed[r.ID] = true
			}
		}
	}
	reasons, err := GPOSReasons()
	if err != nil {
		t.Fatal(err)
	}
	why := map[string]string{}
	for _, r := range reasons {
		for _, o := range r.When {
			if !inProfile[o] {
				t.Errorf("%q holds when %s does, which is no objective of container-strict", r.Reason, o)
			}
		}
		for _, i := range r.IDs {
			why[i] = r.State
			if !known[i] {
				t.Errorf("%s is not in the facts", i)
			}
		}
	}
	counts := map[string]int{}
	for i := range known {
		switch {
		case assessed[i] == (why[i] != ""):
			t.Errorf("%s: assessed %v, reason %q: want one of both", i, assessed[i], why[i])
		case assessed[i]:
			counts["assessed"]++
		default:
			counts[why[i]]++
		}
	}
	t.Logf("%d requirements: %v", len(known), counts)
	if len(known) < 135 || counts["assessed"] < 26 || counts["not-assessed"] > 3 {
		t.Errorf("%d requirements, %v", len(known), counts)
	}
}
