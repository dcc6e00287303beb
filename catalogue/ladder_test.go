package catalogue

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// ladders are the relations in which STIG offers another way than CIS: the real alternatives.
var ladders = []string{"NARROWER", "LOOSER", "ALT_MECHANISM", "OPPOSITE"}

// oneWay are topics whose objectives have one variant, with the reason.
func oneWay(t *testing.T) map[string]string {
	t.Helper()
	var list []struct {
		Topic  string `yaml:"topic"`
		Reason string `yaml:"reason"`
	}
	if err := readFile(os.DirFS("."), "oneway.yaml", &list); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, l := range list {
		if l.Reason == "" || out[l.Topic] != "" {
			t.Errorf("oneway.yaml: %s has no reason, or two", l.Topic)
		}
		out[l.Topic] = l.Reason
	}
	return out
}

// TestEveryAlternativeIsAVariant: a topic in which STIG asks for less, or for something else, is an objective with more than one variant, or says why not.
func TestEveryAlternativeIsAVariant(t *testing.T) {
	rows := facts(t, "cis-stig-differences.csv")
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	have, why := covered(c), oneWay(t)
	topics, counts := map[string]bool{}, map[string]int{}
	for _, row := range rows {
		if !slices.Contains(ladders, row["relation"]) {
			continue
		}
		topic := row["topic"]
		topics[topic] = true
		counts["topics"]++
		ladder := false
		for rule := range strings.FieldsSeq(row["cis_rules"] + " " + row["stig_rules"]) {
			for _, id := range have[rule] {
				k, _ := c.Objective(id)
				ladder = ladder || len(k.Variants) > 1
			}
		}
		switch {
		case ladder && why[topic] != "":
			t.Errorf("%s has variants, but is in oneway.yaml", topic)
		case ladder:
			counts["with variants"]++
		case why[topic] == "":
			t.Errorf("%s (%s; CIS: %s; STIG: %s) has one way only; rules %s | %s", topic, row["relation"], row["cis_requirement"], row["stig_requirement"], row["cis_rules"], row["stig_rules"])
		}
	}
	for topic := range why {
		if !topics[topic] {
			t.Errorf("oneway.yaml names %s, which is no such topic of the facts", topic)
		}
	}
	t.Logf("%v", counts)
	if counts["topics"] < 20 || counts["with variants"] < counts["topics"]/2 {
		t.Errorf("%v", counts)
	}
}
