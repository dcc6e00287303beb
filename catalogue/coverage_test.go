package catalogue

import (
	"encoding/csv"
	"os"
	"slices"
	"strings"
	"testing"

	"kiln/internal/testneeds"
)

// facts returns the rows of a table of the data folder by the names of its columns.
func facts(t *testing.T, name string) []map[string]string {
	t.Helper()
	f, err := os.Open(testneeds.Shared(t, "facts", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(rows) < 2 {
		t.Fatalf("reading %s: %d rows, %v", name, len(rows), err)
	}
	var out []map[string]string
	for _, row := range rows[1:] {
		m := map[string]string{}
		for i, column := range rows[0] {
			m[column] = row[i]
		}
		out = append(out, m)
	}
	return out
}

// forDebianOrUbuntu: a benchmark of one of the four distributions asks for the rule.
func forDebianOrUbuntu(row map[string]string) bool {
	for _, c := range []string{"cis_debian12", "cis_debian13", "cis_ubuntu2204", "cis_ubuntu2404", "stig_ubuntu2204", "stig_ubuntu2404"} {
		if row[c] != "" {
			return true
		}
	}
	return false
}

const scapRule = "SCAP Security Guide rule"

// covered maps rules to the objectives that refer to them.
func covered(c *Catalogue) map[string][]string {
	out := map[string][]string{}
	for _, k := range c.Objectives() {
		for _, r := range k.References {
			if r.Benchmark == scapRule {
				out[r.ID] = append(out[r.ID], k.ID)
			}
		}
	}
	return out
}

func uncovered(t *testing.T) map[string]string {
	t.Helper()
	return reasons(t, "uncovered.yaml")
}

// TestEveryRuleIsCoveredOrSaysWhyNot counts the rules of the facts against objectives and uncovered.yaml.
func TestEveryRuleIsCoveredOrSaysWhyNot(t *testing.T) {
	rows := facts(t, "controls.csv")
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	have, why := covered(c), uncovered(t)
	known := map[string]bool{}
	counts := map[string]int{}
	for _, row := range rows {
		rule := row["rule"]
		known[rule] = true
		if !forDebianOrUbuntu(row) {
			continue
		}
		counts["rules"]++
		switch {
		case len(have[rule]) > 0 && why[rule] != "":
			t.Errorf("%s is covered by %v but also in uncovered.yaml", rule, have[rule])
		case len(have[rule]) > 0:
			counts["covered"]++
		case strings.HasPrefix(why[rule], "not built yet"):
			counts["not built yet"]++
		case why[rule] != "":
			counts["not for a tree, or for the site"]++
		default:
			t.Errorf("%s (%s) has neither an objective nor a reason in uncovered.yaml", rule, row["title"])
		}
	}
	for rule := range why {
		if !known[rule] {
			t.Errorf("uncovered.yaml names %s, which is no rule of the facts", rule)
		}
	}
	t.Logf("%v", counts)
	if counts["covered"] < 635 || counts["not built yet"] > 1 {
		t.Errorf("%v: want at least 635 covered and at most 1 not built yet", counts)
	}
}

// TestBenchmarkIdsAgreeWithTheRules: an objective that covers a rule has the rule's ids, with their level or category.
func TestBenchmarkIdsAgreeWithTheRules(t *testing.T) {
	rows := facts(t, "controls.csv")
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	have := covered(c)
	graded := "" // what the facts say a category of; a few ids have none there
	for _, row := range rows {
		graded += " " + row["stig_ubuntu2204"] + " " + row["stig_ubuntu2404"]
	}
	for _, row := range rows {
		for _, id := range have[row["rule"]] {
			k, _ := c.Objective(id)
			var ids []string
			for _, r := range k.References {
				ids = append(ids, r.Benchmark+" "+r.ID)
				if strings.HasPrefix(r.ID, "UBTU-") && strings.Contains(graded, r.ID+"(V-") && !slices.Contains([]string{"CAT I", "CAT II", "CAT III"}, r.Level) {
					t.Errorf("%s: %s has category %q", id, r.ID, r.Level)
				}
			}
			for column, mark := range map[string]string{"cis_debian12": "CIS Debian Linux 12 ", "cis_debian13": "CIS Debian Linux 13 ", "cis_ubuntu2404": "CIS Ubuntu Linux 24.04 LTS ", "cis_ubuntu2204": "CIS Ubuntu Linux 22.04 LTS "} {
				for want := range strings.FieldsSeq(row[column]) {
					if !slices.Contains(ids, mark+want) {
						t.Errorf("%s covers %s but lacks %s%s", id, row["rule"], mark, want)
					}
				}
			}
		}
	}
}

func TestMachineProfilesAreForMachines(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int{}
	for _, name := range []string{"cis-l1", "cis-l2", "stig-cat1", "stig-cat2", "stig-cat3", "minimal-machine"} {
		list, err := c.Profile(name)
		if err != nil {
			t.Fatal(err)
		}
		sizes[name] = len(list)
		if c.Scope(name) != "machine" {
			t.Errorf("%s is for %s", name, c.Scope(name))
		}
		for _, k := range list {
			if k.Scope == "container" {
				t.Errorf("%s has %s, which is for containers only", name, k.ID)
			}
		}
	}
	if sizes["cis-l2"] <= sizes["cis-l1"] || sizes["stig-cat3"] <= sizes["stig-cat2"] || sizes["stig-cat2"] <= sizes["stig-cat1"] || sizes["stig-cat1"] == 0 {
		t.Errorf("profiles do not grow: %v", sizes)
	}
	if c.Scope("") != "container" || c.Scope("container-strict") != "container" {
		t.Error("container profiles are not for containers")
	}
}
