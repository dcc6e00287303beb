package catalogue

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"kiln"
)

const containerRule = "Kiln container rule"

var idOfGuide = regexp.MustCompile(`CCI-\d{6}`)

// idsOfRow are the ids that a row of the rules for containers has in the benchmarks, by the benchmark's name.
func idsOfRow(row map[string]string) map[string][]string {
	out := map[string][]string{
		"CIS Docker": strings.Fields(row["cis_docker"]), "Dockle": strings.Fields(row["dockle"]), "hadolint": strings.Fields(row["hadolint"]),
		"DISA Container Image Creation and Deployment Guide": idOfGuide.FindAllString(row["disa_ctr_guide_cci"], -1),
	}
	for id := range strings.FieldsSeq(row["srg"]) {
		switch {
		case strings.HasPrefix(id, "SRG-APP-"):
			out["DISA Container Platform SRG"] = append(out["DISA Container Platform SRG"], id)
		case strings.HasPrefix(id, "SRG-OS-"):
			out["DISA General Purpose Operating System SRG"] = append(out["DISA General Purpose Operating System SRG"], id)
		}
	}
	return out
}

// TestEveryContainerRuleIsCoveredOrSaysWhyNot counts the rules for containers
// against the objectives that refer to them; those have the rule's ids among them.
func TestEveryContainerRuleIsCoveredOrSaysWhyNot(t *testing.T) {
	rows := facts(t, "container-controls.csv")
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	objectives, references := map[string][]string{}, map[string][]string{}
	for _, k := range c.Objectives() {
		for _, r := range k.References {
			if r.Benchmark == containerRule {
				objectives[r.ID] = append(objectives[r.ID], k.ID)
				for _, o := range k.References {
					references[r.ID] = append(references[r.ID], o.Benchmark+" "+o.ID)
				}
				if k.Scope == "machine" {
					t.Errorf("%s refers to %s, but is for machines", k.ID, r.ID)
				}
			}
		}
	}
	why := reasons(t, "uncovered-containers.yaml")
	known := map[string]bool{}
	covered := 0
	for _, row := range rows {
		id := row["id"]
		known[id] = true
		if have := len(objectives[id]) > 0; have == (why[id] != "") {
			t.Errorf("%s (%s): objectives %v, reason %q: want one of both", id, row["title"], objectives[id], why[id])
		}
		if len(objectives[id]) == 0 {
			continue
		}
		covered++
		for benchmark, ids := range idsOfRow(row) {
			for _, want := range ids {
				if !slices.Contains(references[id], benchmark+" "+want) {
					t.Errorf("%s is covered by %v, none of which refers to %s %s", id, objectives[id], benchmark, want)
				}
			}
		}
	}
	for id := range objectives {
		if !known[id] {
			t.Errorf("%v refer to %s, which is no rule of the facts", objectives[id], id)
		}
	}
	for id := range why {
		if !known[id] {
			t.Errorf("uncovered-containers.yaml names %s, which is no rule of the facts", id)
		}
	}
	t.Logf("%d rules, %d covered, %d with a reason", len(rows), covered, len(why))
	if len(rows) != 73 || covered < 38 {
		t.Errorf("%d rules, %d covered: want 73 and at least 38", len(rows), covered)
	}
}

// reasons reads a list of rules with the reason why nothing covers them.
func reasons(t *testing.T, file string) map[string]string {
	t.Helper()
	var list []struct {
		Reason string   `yaml:"reason"`
		Rules  []string `yaml:"rules"`
	}
	if err := readFile(os.DirFS("."), file, &list); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, u := range list {
		for _, r := range u.Rules {
			if u.Reason == "" || out[r] != "" {
				t.Errorf("%s has no reason, or two", r)
			}
			out[r] = u.Reason
		}
	}
	return out
}

// TestTheReferenceOfImagesNamesEveryObjective that covers a rule for containers.
func TestTheReferenceOfImagesNamesEveryObjective(t *testing.T) {
	page, err := os.ReadFile("../docs/reference/images.md")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, k := range c.Objectives() {
		if !slices.ContainsFunc(k.References, func(r kiln.Reference) bool { return r.Benchmark == containerRule }) {
			continue
		}
		if named++; !strings.Contains(string(page), "`"+k.ID+"`") {
			t.Errorf("docs/reference/images.md does not say how to fix %s", k.ID)
		}
	}
	if named < 60 {
		t.Errorf("only %d objectives cover a rule for containers", named)
	}
}
