package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
)

// DropReferrers removes the referrers with that artifact type of any of the
// subjects, so that new statements replace old ones instead of piling up.
func (l *Layout) DropReferrers(artifactType string, subjects ...kiln.Digest) error {
	return l.DropReferrersIf(func(d ocispec.Descriptor) bool { return d.ArtifactType == artifactType }, subjects...)
}

// DropReferrersIf removes the referrers of any of the subjects that match, by
// their descriptors in index.json. Their manifests go too, because some
// verifiers look at every blob; what they carried stays until Sweep.
func (l *Layout) DropReferrersIf(match func(ocispec.Descriptor) bool, subjects ...kiln.Digest) error {
	var dropped []kiln.Digest
	err := l.Update(func(index *ocispec.Index) error {
		var failed error
		index.Manifests = slices.DeleteFunc(index.Manifests, func(d ocispec.Descriptor) bool {
			if d.ArtifactType == "" || failed != nil || !match(d) {
				return false
			}
			m, err := l.Manifest(d)
			if err != nil {
				failed = fmt.Errorf("looking for referrers: %w", err)
				return false
			}
			ours := m.Subject != nil && slices.Contains(subjects, kiln.Digest(m.Subject.Digest))
			if ours {
				dropped = append(dropped, kiln.Digest(d.Digest))
			}
			return ours
		})
		return failed
	})
	if err != nil {
		return err
	}
	for _, d := range dropped {
		if err := os.Remove(l.BlobPath(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing referrer %s: %w", d.Short(), err)
		}
	}
	return nil
}
