package deb

import (
	"strings"
	"testing"
)

// FuzzRelations: what parses, written again, parses to the same.
func FuzzRelations(f *testing.F) {
	f.Add("a | b:any (>= 1) [amd64 !i386] <!nocheck>, c (<< 2~)")
	f.Fuzz(func(t *testing.T, field string) {
		groups, err := ParseRelations(field)
		if err != nil {
			return
		}
		var parts []string
		for _, g := range groups {
			var alts []string
			for _, r := range g {
				alts = append(alts, r.String())
			}
			parts = append(parts, strings.Join(alts, " | "))
		}
		text := strings.Join(parts, ", ")
		again, err := ParseRelations(text)
		if err != nil || len(again) != len(groups) {
			t.Fatalf("%q written as %q: %v", field, text, err)
		}
		for i := range groups {
			for j := range groups[i] {
				if again[i][j].String() != groups[i][j].String() {
					t.Fatalf("%q became %q", groups[i][j], again[i][j])
				}
			}
		}
	})
}

// FuzzVersions: the order is antisymmetric, and adding "~" makes a version older.
func FuzzVersions(f *testing.F) {
	f.Add("1:2.3-4", "1.0~rc1")
	f.Fuzz(func(t *testing.T, a, b string) {
		if ValidateVersion(a) != nil || ValidateVersion(b) != nil {
			return
		}
		if x, y := CompareVersions(a, b), CompareVersions(b, a); (x < 0) != (y > 0) || (x == 0) != (y == 0) {
			t.Fatalf("%q and %q: %d, %d", a, b, x, y)
		}
		if CompareVersions(a+"~", a) >= 0 {
			t.Fatalf("%q~ is not older", a)
		}
	})
}

// FuzzControl: what parses keeps its fields.
func FuzzControl(f *testing.F) {
	f.Add("A: 1\n# c\nB:\n x\n .\n\nC: 2\n")
	f.Fuzz(func(t *testing.T, text string) {
		paragraphs, err := ParseControl([]byte(text))
		if err != nil {
			return
		}
		for _, p := range paragraphs {
			for _, field := range p {
				if v, ok := p.Lookup(strings.ToUpper(field.Name)); !ok || v != field.Value {
					t.Fatalf("%q lost %q", text, field.Name)
				}
			}
		}
	})
}
