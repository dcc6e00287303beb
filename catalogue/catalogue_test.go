package catalogue

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"

	"kiln"
	"kiln/internal/testneeds"
)

func TestTheCatalogueIsWhole(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	containers := 0
	for _, k := range c.Objectives() {
		if k.Scope != "machine" {
			containers++
		}
		if len(k.References) == 0 {
			t.Errorf("%s refers to no benchmark", k.ID)
		}
		for i, v := range k.Variants {
			if i > 0 && v.Gives == "" && v.Title == "" {
				t.Errorf("%s: variant %s does not say what it gives up", k.ID, v.ID)
			}
		}
	}
	if containers < 60 {
		t.Errorf("%d objectives for containers, want 60 or more", containers)
	}
}

func TestProfilesGetStricter(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	base := profileIDs(t, c, "")
	strict := profileIDs(t, c, "container-strict")
	for id, variants := range base {
		if strict[id] < variants {
			t.Errorf("container-strict has fewer variants of %s than the baseline", id)
		}
	}
	if len(strict) <= len(base) || len(profileIDs(t, c, "none")) != 0 {
		t.Errorf("%d objectives in strict, %d in baseline", len(strict), len(base))
	}
	for id := range strict {
		if k, _ := c.Objective(id); k.Scope == "machine" {
			t.Errorf("%s is for machines only but in a container profile", id)
		}
	}
}

func profileIDs(t *testing.T, c *Catalogue, name string) map[string]int {
	t.Helper()
	list, err := c.Profile(name)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, k := range list {
		out[k.ID] = len(k.Variants)
	}
	return out
}

func TestSelectAddsWhatTheRecipeAsks(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.Select(kiln.Hardening{
		Profile: "none", Include: []string{"banner-issue", "setuid-cleared/requested"},
		Remove: kiln.Removal{PackageManager: true, Packages: []string{"hello"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, k := range list {
		ids = append(ids, k.ID+"/"+k.Variants[0].ID)
	}
	want := "banner-issue/text package-manager-absent/removed requested-removals/removed setuid-cleared/requested"
	if got := strings.Join(ids, " "); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	for _, h := range []kiln.Hardening{{Profile: "nope"}, {Include: []string{"nope"}}, {Include: []string{"banner-issue/nope"}}} {
		if _, err := c.Select(h); err == nil || !strings.Contains(err.Error(), "nope") {
			t.Errorf("Select(%+v) gave %v, want an error that names it", h, err)
		}
	}
}

func TestMistakesInTheDataAreRefused(t *testing.T) {
	good := "- {id: a, title: T, rationale: R, severity: low, scope: both, variants: [{id: v, settings: [{kind: k}]}]}\n"
	cases := map[string]struct{ objectives, profile, want string }{
		"unknown field":     {strings.Replace(good, "title", "tittle", 1), "name: p\ndescription: d\nobjectives: []\n", "tittle"},
		"twice":             {good + good, "name: p\ndescription: d\nobjectives: []\n", "twice"},
		"unknown benchmark": {strings.Replace(good, "severity", "references: {x: [1]}, severity", 1), "name: p\ndescription: d\nobjectives: []\n", "benchmarks.yaml"},
		"unknown objective": {good, "name: p\ndescription: d\nobjectives: [b]\n", `no objective "b"`},
		"circle":            {good, "name: p\ndescription: d\ninherits: p\nobjectives: [a]\n", "inherits itself"},
		"no severity":       {strings.Replace(good, "severity: low, ", "", 1), "name: p\ndescription: d\nobjectives: []\n", "severity"},
	}
	for name, c := range cases {
		_, err := load(fstest.MapFS{
			"benchmarks.yaml":   {Data: []byte("y: {name: N, version: V}\n")},
			"objectives/o.yaml": {Data: []byte(c.objectives)}, "profiles/p.yaml": {Data: []byte(c.profile)},
		})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}

// nistForm takes the spaces and brackets out of a control's name, which sources write as "CM-6 b" and "CM-6(b)".
var nistForm = strings.NewReplacer(" ", "", "(", "", ")", "")

// TestIdsAreReal looks every id up in the facts that the catalogue was made from.
func TestIdsAreReal(t *testing.T) {
	facts, all := map[string]bool{}, ""
	for _, f := range []string{"controls.csv", "container-controls.csv"} {
		raw, err := os.ReadFile(testneeds.Shared(t, "facts", f))
		if err != nil {
			t.Fatal(err)
		}
		all += nistForm.Replace(string(raw))
		for _, word := range strings.FieldsFunc(string(raw), func(r rune) bool {
			return r != '.' && r != '-' && r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
		}) {
			facts[word] = true
		}
	}
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range c.Objectives() {
		for _, r := range k.References {
			if !facts[r.ID] && (r.Benchmark != "NIST SP 800-53" || !strings.Contains(all, nistForm.Replace(r.ID))) {
				t.Errorf("%s: %s %s is not in the facts", k.ID, r.Benchmark, r.ID)
			}
		}
	}
}

func TestMembershipAgreesWithTheProfiles(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	in := c.Membership()
	names, _ := c.Profiles()
	for _, name := range names {
		list, err := c.Profile(name)
		if err != nil {
			t.Fatal(err)
		}
		have := 0
		for _, profiles := range in {
			if slices.Contains(profiles, name) {
				have++
			}
		}
		if have != len(list) {
			t.Errorf("%s has %d objectives, but %d say that they are in it", name, len(list), have)
		}
	}
}
