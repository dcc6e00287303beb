package image

import (
	"io"
	"path/filepath"
	"testing"

	"kiln"
	"kiln/internal/atomicfile"
)

func TestALockCallsABaseWhatItsReferenceIs(t *testing.T) {
	l, _, manifest := simple(t)
	file := filepath.Join(t.TempDir(), "image.tar")
	must(t, atomicfile.Fill(file, 0o644, func(w io.Writer) error { return l.WriteArchive(w, manifest, "localhost/base/app:1") }))
	store := Store(func(string, string) (string, kiln.Digest, error) { return l.Dir(), kiln.Digest(manifest.Digest), nil })
	for _, base := range []kiln.Base{{Layout: l.Dir() + ":latest"}, {Archive: file}, {Kiln: "base@stable"}} {
		locked, err := Resolve(t.Context(), base, "linux/amd64", store)
		must(t, err)
		if got, err := LockedReference(base); err != nil || got != locked.Reference {
			t.Errorf("got %q, %v; locked as %q", got, err, locked.Reference)
		}
	}
	if got, err := LockedReference(kiln.Base{OCI: "registry.example.com/base"}); err != nil || got != "registry.example.com/base:latest" {
		t.Errorf("got %q, %v", got, err)
	}
	_, err := LockedReference(kiln.Base{})
	refuses(t, "no image", "the base is no image", err)
}
