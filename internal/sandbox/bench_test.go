package sandbox

import (
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkTrue is one command on a fresh copy-on-write fork on a tmpfs: mount,
// run, unmount, remove.
func BenchmarkTrue(b *testing.B) {
	root, dir := testRoot(b), b.TempDir()
	b.ResetTimer()
	for range b.N {
		up, work := filepath.Join(dir, "u"), filepath.Join(dir, "w")
		for _, d := range []string{up, work} {
			if err := os.Mkdir(d, 0o755); err != nil {
				b.Fatal(err)
			}
		}
		r, err := Run(b.Context(), Spec{Layers: []string{root}, Upper: up, Work: work, Args: []string{"/bin/true"}})
		if err != nil || r.ExitCode != 0 {
			b.Fatal(r, err)
		}
		for _, d := range []string{up, work} {
			if err := os.RemoveAll(d); err != nil {
				b.Fatal(err)
			}
		}
	}
}
