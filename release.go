package kiln

// Release is an artefact published under a name and a channel.
type Release struct {
	Header
	Name    string `json:"name"`
	Channel string `json:"channel"`
	// Digest is that of the OCI index.
	Digest   Digest `json:"digest"`
	Build    string `json:"build"` // Build.ID
	Lock     Digest `json:"lock"`
	Verdict  Digest `json:"verdict"`
	Time     int64  `json:"time"` // Unix seconds
	Previous Digest `json:"previous,omitempty"`
}

// Validate reports what is missing.
func (r *Release) Validate() error {
	if err := r.check("Release"); err != nil {
		return err
	}
	if !validName(r.Name) || !validName(r.Channel) {
		return invalid("name", "name and channel: "+nameRule)
	}
	if err := r.Digest.Validate(); err != nil {
		return invalid("digest", err.Error())
	}
	return nil
}
