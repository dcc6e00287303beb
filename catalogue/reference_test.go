package catalogue

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"kiln"
)

var update = flag.Bool("update", false, "write the generated reference of objectives")

const referenceFile = "../docs/reference/objectives.md"

// TestTheReferenceOfObjectivesIsCurrent keeps docs/reference/objectives.md equal to the data: go test ./catalogue -update
func TestTheReferenceOfObjectivesIsCurrent(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	want := reference(c)
	if *update {
		if err := os.WriteFile(referenceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(referenceFile)
	if err != nil || string(have) != want {
		t.Errorf("%s is not what the catalogue says (%v); run: go test ./catalogue -update", referenceFile, err)
	}
	for _, k := range c.Objectives() {
		if !strings.Contains(want, "\n### "+k.ID+"\n") {
			t.Errorf("the reference has no entry for %s", k.ID)
		}
	}
}

func reference(c *Catalogue) string {
	w := &strings.Builder{}
	all := c.Objectives()
	fmt.Fprintf(w, "# Objectives\n\nGenerated from `catalogue/` by `go test ./catalogue -update`. Benchmark ids are cross references; titles are Kiln's own.\n"+
		"Settings are written `kind parameters`; [kinds](kinds/) have a page each. `kiln controls show ID` adds the rationale.\n\n"+
		"%d objectives.\n", len(all))
	in := c.Membership()
	for _, scope := range []string{"both", "container", "machine"} {
		fmt.Fprintf(w, "\n## Scope: %s\n", scope)
		for _, k := range all {
			if k.Scope == scope {
				entry(w, k, in[k.ID])
			}
		}
	}
	return w.String()
}

func entry(w *strings.Builder, k kiln.Control, profiles []string) {
	fmt.Fprintf(w, "\n### %s\n\n%s. Severity %s", k.ID, k.Title, k.Severity)
	if k.Acknowledge {
		w.WriteString("; **can lock people out or stop the boot**")
	}
	if k.Applies != nil {
		fmt.Fprintf(w, "; applies where `%s`", encoded(k.Applies))
	}
	if len(k.Platforms) > 0 {
		fmt.Fprintf(w, "; on %s", strings.Join(k.Platforms, ", "))
	}
	w.WriteString(".\n\n")
	for i, v := range k.Variants {
		fmt.Fprintf(w, "%d. `%s`%s: `%s`", i+1, v.ID, prefixed(" ", v.Title), strings.ReplaceAll(settingsText(v), "`", "'"))
		if v.Gives != "" {
			fmt.Fprintf(w, "; gives up %s", v.Gives)
		}
		w.WriteString("\n")
	}
	w.WriteString("\n")
	if len(profiles) > 0 {
		fmt.Fprintf(w, "- profiles: %s\n", strings.Join(profiles, ", "))
	}
	for _, x := range k.Conflicts {
		fmt.Fprintf(w, "- known to break %s in %d %% of cases%s\n", x.Package, x.Percent, prefixed(": ", x.Note))
	}
	ids := referenceIDs(k)
	for _, name := range sortedNames(ids) {
		fmt.Fprintf(w, "- %s: %s\n", name, strings.Join(ids[name], ", "))
	}
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

func sortedNames(m map[string][]string) []string {
	var out []string
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
