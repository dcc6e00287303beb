package image

import (
	"fmt"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
)

// DropReferrers takes the referrers with that artifact type, of any of the
// subjects, out of index.json, so that new statements replace old ones instead of
// piling up. Their blobs stay until Sweep.
func (l *Layout) DropReferrers(artifactType string, subjects ...kiln.Digest) error {
	return l.Update(func(index *ocispec.Index) error {
		var failed error
		index.Manifests = slices.DeleteFunc(index.Manifests, func(d ocispec.Descriptor) bool {
			if d.ArtifactType != artifactType || failed != nil {
				return false
			}
			m, err := l.Manifest(d)
			if err != nil {
				failed = fmt.Errorf("looking for referrers: %w", err)
				return false
			}
			return m.Subject != nil && slices.Contains(subjects, kiln.Digest(m.Subject.Digest))
		})
		return failed
	})
}
