package kiln

// What two judges of one rule say of each other.
const (
	Agree     = "agree"
	Disagree  = "disagree"
	Undecided = "undecided" // one of both could not say
	OnlyThem  = "only them" // no objective that was looked at refers to the rule
	OnlyUs    = "only us"   // the objective refers to no rule that they judged
)

// Comparison sets another program's results beside Kiln's own, by the ids of rules.
type Comparison struct {
	// By names the program, or the file its results came from.
	By        string `json:"by"`
	Benchmark string `json:"benchmark,omitempty"`
	Profile   string `json:"profile,omitempty"`
	// Bound says that content for another release was evaluated nevertheless; empty where it was made for the target's.
	Bound string `json:"bound,omitempty"`
	// Rules are sorted by relation, in the order of the constants but with Disagree first, then by id.
	Rules []ComparedRule `json:"rules"`
}

// ComparedRule is one rule, or an objective alone.
type ComparedRule struct {
	Rule       string   `json:"rule,omitempty"`
	Objectives []string `json:"objectives,omitempty"`
	// Theirs is pass, fail, notapplicable or unknown; Ours likewise. Empty where that side has no say.
	Theirs   string `json:"theirs,omitempty"`
	Ours     string `json:"ours,omitempty"`
	Relation string `json:"relation"`
	// Reason says of what is not Agree what each side saw, as far as it is known.
	Reason string `json:"reason,omitempty"`
}

// Count returns how many rules stand in that relation.
func (c *Comparison) Count(relation string) int {
	n := 0
	for _, r := range c.Rules {
		if r.Relation == relation {
			n++
		}
	}
	return n
}
