package factory

import (
	"errors"
	"fmt"
	"os"
	"time"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/assess"
)

// Assessment is a build's own hardening result, ready to be written in any form
// that package assess knows, as an audit of its image would be. The texts are of
// the catalogue that the build was made with, where the state directory still has it,
// the time is that of its verdict. A build without a hardening result or a verdict is misuse.
func (f *Factory) Assessment(b *kiln.Build) (*assess.Assessment, error) {
	if b.Hardening == nil || b.Verdict == nil {
		return nil, kiln.Misuse(kiln.WithHint(fmt.Errorf("build %s ended before it was hardened and judged, so that there is nothing to write", b.ID),
			"build it again, or `kiln audit` what there is"))
	}
	cat, err := Catalogue(f.cfg.State, b.Hardening.Catalogue)
	if errors.Is(err, os.ErrNotExist) {
		cat, err = catalogue.Load()
	}
	if err != nil {
		return nil, fmt.Errorf("the catalogue of build %s: %w", b.ID, err)
	}
	result := *b.Hardening
	if result.Target == "" {
		result.Target = b.Name
	}
	if b.Artifact != nil {
		result.Image = b.Artifact.Index
	}
	if b.Lock != nil {
		result.Platform = b.Lock.Distro
	}
	at := time.Unix(b.Verdict.Time, 0).UTC()
	return &assess.Assessment{Result: &result, Controls: cat.Objectives(), Start: at, End: at, Platform: result.Platform}, nil
}
