package kiln

// Stations of the line, in order.
const (
	StationRecipe   = "recipe"
	StationResolve  = "resolve"
	StationVerify   = "verify"
	StationAssemble = "assemble"
	StationHarden   = "harden"
	StationTrial    = "trial"
	StationScan     = "scan"
	StationPack     = "pack"
	StationAttest   = "attest"
	StationAdmit    = "admit"
	StationPublish  = "publish"
)

// Build is the one noun that carries the story: its fields appear in the order
// of the line, and each is filled by exactly one station.
type Build struct {
	Header
	ID   string `json:"id"`
	Name string `json:"name"`

	Recipe     Digest           `json:"recipe"`
	Lock       *Lock            `json:"lock,omitempty"`       // resolve
	Evidence   []Evidence       `json:"evidence,omitempty"`   // verify
	Tree       Digest           `json:"tree,omitempty"`       // assemble
	Hardening  *HardeningResult `json:"hardening,omitempty"`  // harden
	Trial      *Trial           `json:"trial,omitempty"`      // trial
	Bill       *Bill            `json:"bill,omitempty"`       // scan
	Artifact   *Artifact        `json:"artifact,omitempty"`   // pack
	Statements []Statement      `json:"statements,omitempty"` // attest
	Verdict    *Verdict         `json:"verdict,omitempty"`    // admit
	Release    *Release         `json:"release,omitempty"`    // publish

	Stations []StationRun `json:"stations"`
	// Unchanged says that every station's result was already known.
	Unchanged bool `json:"unchanged,omitempty"`
}

// StationRun is how one station went in this build.
type StationRun struct {
	Station string `json:"station"`
	Result  string `json:"result"` // done, cached, failed
	Key     Digest `json:"key"`    // of its inputs
	Millis  int64  `json:"millis"`
	Note    string `json:"note,omitempty"`
}

// Validate reports what is missing.
func (b *Build) Validate() error {
	if err := b.check("Build"); err != nil {
		return err
	}
	if b.ID == "" || !validName(b.Name) {
		return invalid("id", "a build needs an id and a name")
	}
	return nil
}
