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
	for _, k := range c.Objectives() {
		x := Contrast{Objective: k.ID, Title: k.Title, A: asked(k, a), B: asked(k, b)}
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

func asked(k kiln.Control, b Benchmark) *Asked {
	ids := referenceIDs(k)[b.Name]
	if len(ids) == 0 {
		return nil
	}
	v := variantOf(k, b)
	return &Asked{IDs: ids, Variant: v.ID, Settings: settingsText(v)}
}

// family is the word by which a benchmark's own variants begin: cis or stig.
func family(b Benchmark) string {
	word, _, _ := strings.Cut(b.Key, "-")
	return word
}

// variantOf is the variant with the benchmark's value: the last, so the least
// strict, of those that meet it; the first where the variants do not say.
func variantOf(k kiln.Control, b Benchmark) kiln.Variant {
	for _, v := range slices.Backward(k.Variants) {
		if slices.ContainsFunc(v.References, func(r kiln.Reference) bool { return r.Benchmark == b.Name }) {
			return v
		}
	}
	return k.Variants[0]
}
