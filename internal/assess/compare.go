package assess

import (
	"slices"
	"strings"

	"kiln"
)

// Comparison is what changed between two results, sorted by objective.
type Comparison struct {
	// Worse are objectives that were met (or did not apply) and are not known to be met any more, Better the other way round.
	Worse, Better []Change
	// Other are changes between states of which neither is met, and objectives that only one of the results has.
	Other []Change
	// Same is how many have the state they had.
	Same int
	// Profile says so when the two results are of different profiles or catalogues, so that differences may be theirs.
	Profile string
}

// Change is one objective whose state changed. A state is empty where the result does not have the objective.
type Change struct {
	Objective, Title string
	Before, After    string
	Reason           string // of the state after
}

// Compare says what changed from the earlier result to the later one.
func Compare(earlier, later *kiln.HardeningResult) Comparison {
	var c Comparison
	if earlier.Profile != later.Profile || earlier.Catalogue != later.Catalogue {
		c.Profile = "profile " + earlier.Profile + " of catalogue " + earlier.Catalogue.Short() + " then, profile " + later.Profile + " of catalogue " + later.Catalogue.Short() + " now"
	}
	before := map[string]kiln.Outcome{}
	for _, o := range earlier.Outcomes {
		before[o.Objective] = o
	}
	for _, o := range later.Outcomes {
		old := before[o.Objective]
		delete(before, o.Objective)
		c.add(Change{o.Objective, o.Title, old.State, o.State, o.Reason})
	}
	for _, o := range before {
		c.add(Change{o.Objective, o.Title, o.State, "", ""})
	}
	for _, list := range [][]Change{c.Worse, c.Better, c.Other} {
		slices.SortFunc(list, func(a, b Change) int { return strings.Compare(a.Objective, b.Objective) })
	}
	return c
}

func (c *Comparison) add(x Change) {
	good := func(state string) bool { return state == kiln.Satisfied || state == kiln.NotApplicable }
	switch {
	case x.Before == x.After:
		c.Same++
	case x.Before == "" || x.After == "" || good(x.Before) == good(x.After):
		c.Other = append(c.Other, x)
	case good(x.Before):
		c.Worse = append(c.Worse, x)
	default:
		c.Better = append(c.Better, x)
	}
}
