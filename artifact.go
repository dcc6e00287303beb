package kiln

// Artifact is a packed image: an OCI manifest and what it is made of.
type Artifact struct {
	Header
	Name     string `json:"name"`
	Platform string `json:"platform"`
	// Index is the digest of the OCI index that people pull; Manifest that of the platform's image in it.
	Index    Digest  `json:"index"`
	Manifest Digest  `json:"manifest"`
	Config   Digest  `json:"config"`
	Tree     Digest  `json:"tree"` // digest of the root file system's canonical tar
	Layers   []Layer `json:"layers"`
	Size     int64   `json:"size"`     // of compressed layers
	Unpacked int64   `json:"unpacked"` // bytes of regular files
	Files    int     `json:"files"`
}

// Layer is one layer of an image.
type Layer struct {
	Role   string `json:"role"` // base, packages, application
	Digest Digest `json:"digest"`
	DiffID Digest `json:"diffID"`
	Size   int64  `json:"size"`
	Files  int    `json:"files"`
}

// Validate reports what is missing.
func (a *Artifact) Validate() error {
	if err := a.check("Artifact"); err != nil {
		return err
	}
	for _, d := range []Digest{a.Index, a.Manifest, a.Config, a.Tree} {
		if err := d.Validate(); err != nil {
			return invalid("artifact", err.Error())
		}
	}
	if len(a.Layers) == 0 {
		return invalid("layers", "an image has at least one")
	}
	return nil
}
