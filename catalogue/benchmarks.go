package catalogue

import (
	"slices"
	"strings"

	"kiln"
)

// Asked is what one benchmark asks of an objective.
type Asked struct {
	IDs []string `json:"ids"` // with level or category
	// Variant is the one that has the benchmark's value, Settings what it sets.
	Variant  string `json:"variant,omitempty"`
	Settings string `json:"settings,omitempty"`
}

// Contrast is one objective in the eyes of two benchmarks.
type Contrast struct {
	Objective string `json:"objective"`
	Title     string `json:"title"`
	// Differs lists what is not the same: "only in A", "only in B", ids, value. Empty means only the same.
	Differs []string `json:"differs"`
	A       *Asked   `json:"a,omitempty"`
	B       *Asked   `json:"b,omitempty"`
}

// What Contrast.Differs holds.
const (
	OnlyA       = "only in A"
	OnlyB       = "only in B"
	OtherIDs    = "ids"
	OtherValues = "value"
)

// Contrasts compares two benchmarks of the catalogue: every objective that at least
// one of them asks for and that differs in ids, or in the variant that has its value.
func (c *Catalogue) Contrasts(a, b Benchmark) []Contrast {
	out := []Contrast{}
	widest := map[string]map[string]kiln.Control{family(a): c.widest(family(a)), family(b): c.widest(family(b))}
	for _, k := range c.Objectives() {
		x := Contrast{Objective: k.ID, Title: k.Title, A: asked(k, a, widest), B: asked(k, b, widest)}
		switch {
		case x.A == nil && x.B == nil:
			continue
		case x.B == nil:
			x.Differs = []string{OnlyA}
		case x.A == nil:
			x.Differs = []string{OnlyB}
		default:
			if family(a) == family(b) && !slices.Equal(x.A.IDs, x.B.IDs) { // ids of two families always differ
				x.Differs = append(x.Differs, OtherIDs)
			}
			if x.A.Variant != x.B.Variant {
				x.Differs = append(x.Differs, OtherValues)
			}
		}
		if len(x.Differs) > 0 {
			out = append(out, x)
		}
	}
	return out
}

func asked(k kiln.Control, b Benchmark, widest map[string]map[string]kiln.Control) *Asked {
	ids := referenceIDs(k)[b.Name]
	if len(ids) == 0 {
		return nil
	}
	v := variantOf(k, b, widest[family(b)])
	return &Asked{IDs: ids, Variant: v.ID, Settings: settingsText(v)}
}

// family is the word by which a benchmark's own variants begin: cis or stig.
func family(b Benchmark) string {
	word, _, _ := strings.Cut(b.Key, "-")
	return word
}

// variantOf is the variant with the benchmark's value: the one that refers to
// it, else the one named after it (stig-24 for stig-ubuntu-24.04, cis), else the
// one that the family's widest profile begins with, else the first.
func variantOf(k kiln.Control, b Benchmark, widest map[string]kiln.Control) kiln.Variant {
	for _, v := range k.Variants {
		if slices.ContainsFunc(v.References, func(r kiln.Reference) bool { return r.Benchmark == b.Name }) {
			return v
		}
	}
	release := b.Key[strings.LastIndex(b.Key, "-")+1:]
	year, _, _ := strings.Cut(release, ".")
	for _, name := range []string{family(b) + "-" + year, family(b)} {
		if at := slices.IndexFunc(k.Variants, func(v kiln.Variant) bool { return v.ID == name }); at >= 0 {
			return k.Variants[at]
		}
	}
	if chosen, ok := widest[k.ID]; ok {
		return chosen.Variants[0]
	}
	return k.Variants[0]
}

// widest is the family's profile with the most objectives.
func (c *Catalogue) widest(family string) map[string]kiln.Control {
	best := map[string]kiln.Control{}
	for name := range c.profiles {
		if list, err := c.Profile(name); err == nil && strings.HasPrefix(name, family+"-") && len(list) > len(best) {
			best = byID(list)
		}
	}
	return best
}
