package resolve

import (
	"io"
	"os"
	"path"
	"strings"
	"testing"

	"kiln"
)

// benchBase is the machine's Debian sources with everything in caches.
func benchBase(b *testing.B) (kiln.Base, Options) {
	b.Helper()
	machine, err := Machine("/")
	if err != nil {
		b.Skip(err)
	}
	t := &testing.T{}
	base := distributionSources(t, machine, machine.Release)
	if t.Failed() || t.Skipped() {
		b.Skip("the machine has no Debian sources")
	}
	o := optionsIn(b.TempDir(), b.TempDir())
	if _, _, err := Apt(b.Context(), recipeOn(base, "nginx"), o); err != nil {
		b.Skip(err)
	}
	return base, o
}

// BenchmarkWarm resolves minbase and nginx with fetched and parsed indexes.
func BenchmarkWarm(b *testing.B) {
	base, o := benchBase(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Apt(b.Context(), recipeOn(base, "nginx"), o); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIndex parses the largest index of the machine's release from its compressed form.
func BenchmarkIndex(b *testing.B) {
	base, o := benchBase(b)
	lock, _, err := Apt(b.Context(), recipeOn(base), o)
	if err != nil {
		b.Fatal(err)
	}
	x := lock.Archives[0].Indexes[0]
	name, err := o.Blob(b.Context(), "", x.Digest, x.Size)
	if err != nil {
		b.Fatal(err)
	}
	open := func() (io.ReadCloser, error) { return os.Open(name) }
	b.ReportAllocs()
	for b.Loop() {
		built, err := loadIndex("", x.Digest, strings.TrimPrefix(path.Ext(x.Path), "."), open, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(built.pkgName)), "stanzas")
	}
}
