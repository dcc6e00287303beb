package assess_test

import (
	"bytes"
	"testing"

	"kiln/internal/assess"
)

// BenchmarkWrite writes an audit of all objectives of machines in each form.
func BenchmarkWrite(b *testing.B) {
	a := sample(b, debian)
	a.Derived = true
	for _, f := range assess.Formats() {
		b.Run(f.Name, func(b *testing.B) {
			for b.Loop() {
				var out bytes.Buffer
				if err := assess.Write(&out, f.Name, a); err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(out.Len()))
			}
		})
	}
}
