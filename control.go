package kiln

// Control is one objective of the catalogue: a security outcome in our own
// words with an ordered list of ways to reach it.
type Control struct {
	ID        string   `json:"id" yaml:"id"`
	Title     string   `json:"title" yaml:"title"`
	Rationale string   `json:"rationale" yaml:"rationale"`
	Severity  string   `json:"severity" yaml:"severity"` // high, medium, low
	Scope     string   `json:"scope" yaml:"scope"`       // container, machine, both
	Platforms []string `json:"platforms,omitempty" yaml:"platforms,omitempty"`
	// Applies is when the objective makes sense at all; nil means always.
	Applies *Applicability `json:"applies,omitempty" yaml:"applies,omitempty"`
	// Variants are ordered: the strictest accepted outcome first.
	Variants   []Variant   `json:"variants" yaml:"variants"`
	References []Reference `json:"references,omitempty" yaml:"references,omitempty"`
	// Conflicts are packages with which a variant is known to break software, with the prior probability in percent.
	Conflicts []Conflict `json:"conflicts,omitempty" yaml:"conflicts,omitempty"`
	// Acknowledge marks objectives that can lock people out or stop the boot.
	Acknowledge bool `json:"acknowledge,omitempty" yaml:"acknowledge,omitempty"`
}

// Applicability: every set field must hold.
type Applicability struct {
	// Init is the init system that must be present: "systemd", or "any".
	Init    string `json:"init,omitempty" yaml:"init,omitempty"`
	Package string `json:"package,omitempty" yaml:"package,omitempty"`
	File    string `json:"file,omitempty" yaml:"file,omitempty"`
	// Without are packages none of which may be present: of several programs for one purpose, another one is chosen.
	Without []string `json:"without,omitempty" yaml:"without,omitempty"`
}

// Variant is one way to reach an objective: a kind with its parameters, or several that belong together.
type Variant struct {
	ID    string `json:"id" yaml:"id"`
	Title string `json:"title,omitempty" yaml:"title,omitempty"`
	// Settings are applied together; the variant is satisfied when all are.
	Settings []Setting `json:"settings" yaml:"settings"`
	// Gives says what this variant gives up against the one before it.
	Gives      string      `json:"gives,omitempty" yaml:"gives,omitempty"`
	References []Reference `json:"references,omitempty" yaml:"references,omitempty"`
}

// Setting is a kind and its parameters; the kind defines which it takes.
type Setting struct {
	Kind   string         `json:"kind" yaml:"kind"`
	Params map[string]any `json:"params,omitempty" yaml:"params,omitempty"`
}

// Reference is a benchmark's id for the objective.
type Reference struct {
	Benchmark string `json:"benchmark" yaml:"benchmark"` // "CIS Debian Linux 12"
	Version   string `json:"version" yaml:"version"`     // "1.1.0"
	ID        string `json:"id" yaml:"id"`
	Level     string `json:"level,omitempty" yaml:"level,omitempty"`
}

// Conflict is a known break.
type Conflict struct {
	Package string `json:"package" yaml:"package"`
	Percent int    `json:"percent" yaml:"percent"`
	Note    string `json:"note,omitempty" yaml:"note,omitempty"`
}

// States of an objective on a tree.
const (
	Satisfied     = "satisfied"
	NotSatisfied  = "not-satisfied"
	NotApplicable = "not-applicable"
	Unknown       = "unknown"
	Waived        = "waived"
)

// Outcome is what became of one objective on one tree.
type Outcome struct {
	Objective string `json:"objective"`
	Title     string `json:"title"`
	Severity  string `json:"severity"`
	// Before and State are the states before and after Apply.
	Before  string `json:"before"`
	State   string `json:"state"`
	Variant string `json:"variant,omitempty"` // the variant that holds
	// Observed is the value seen before the change, Changed the paths that Apply touched.
	Observed string   `json:"observed,omitempty"`
	Changed  []string `json:"changed,omitempty"`
	// Wanted is what the strictest variant that was asked for wants, in words; empty where it was not recorded.
	Wanted string `json:"wanted,omitempty"`
	// Effective says which source State used: "file", or the program asked.
	Effective  string      `json:"effective,omitempty"`
	Reason     string      `json:"reason,omitempty"` // for not applicable, unknown, waived
	Waiver     *Waiver     `json:"waiver,omitempty"`
	References []Reference `json:"references,omitempty"`
}

// HardeningResult is the outcome of every objective of a profile on one tree.
type HardeningResult struct {
	Header
	Profile   string    `json:"profile"`
	Catalogue Digest    `json:"catalogue"`
	Before    Digest    `json:"before"` // tree digest; empty where an audit computed none
	After     Digest    `json:"after"`
	Outcomes  []Outcome `json:"outcomes"`
	Removed   []string  `json:"removed,omitempty"` // packages removed
	Added     []string  `json:"added,omitempty"`   // packages added, as name=version
	// Config is the image configuration after hardening.
	Config ImageConfig `json:"config"`
	// Target is what an audit looked at, as the user named it, Image the digest of its manifest where it is an image.
	Target string `json:"target,omitempty"`
	Image  Digest `json:"image,omitempty"`
	// Platform is the distribution of what an audit looked at, as its os-release has it ("debian-12"); empty where it has none.
	Platform string `json:"platform,omitempty"`
	// LeftOut are places that an audit did not look into, each with the reason.
	LeftOut []string `json:"leftOut,omitempty"`
	// Comparisons are other programs' results beside these.
	Comparisons []Comparison `json:"comparisons,omitempty"`
}

// Count returns how many outcomes are in that state.
func (h *HardeningResult) Count(state string) int {
	n := 0
	for _, o := range h.Outcomes {
		if o.State == state {
			n++
		}
	}
	return n
}

// Validate reports what is missing.
func (h *HardeningResult) Validate() error {
	if err := h.check("HardeningResult"); err != nil {
		return err
	}
	if h.Profile == "" {
		return invalid("profile", "is empty")
	}
	for i, o := range h.Outcomes {
		if !oneOf(o.State, Satisfied, NotSatisfied, NotApplicable, Unknown, Waived) {
			return invalid(at("outcomes", i), "unknown state "+o.State)
		}
		if o.State == Waived && o.Waiver == nil {
			return invalid(at("outcomes", i), "waived without a waiver")
		}
	}
	return nil
}

// Validate reports what the catalogue's lint would refuse in one objective.
func (c *Control) Validate() error {
	switch {
	case !validName(c.ID):
		return invalid("id", nameRule)
	case c.Title == "" || c.Rationale == "":
		return invalid(c.ID, "needs title and rationale")
	case !oneOf(c.Severity, "high", "medium", "low"):
		return invalid(c.ID+".severity", "is high, medium or low")
	case !oneOf(c.Scope, "container", "machine", "both"):
		return invalid(c.ID+".scope", "is container, machine or both")
	case c.Applies != nil && !oneOf(c.Applies.Init, "", "any", "systemd"):
		return invalid(c.ID+".applies.init", "is any or systemd")
	case len(c.Variants) == 0:
		return invalid(c.ID+".variants", "needs at least one")
	}
	seen := map[string]bool{}
	for i, v := range c.Variants {
		if v.ID == "" || seen[v.ID] || len(v.Settings) == 0 {
			return invalid(c.ID+"."+at("variants", i), "needs its own id and a setting")
		}
		seen[v.ID] = true
	}
	return nil
}
