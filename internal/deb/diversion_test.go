package deb

import (
	"slices"
	"testing"
)

func TestParseDiversions(t *testing.T) {
	sh := Diversion{From: "/bin/sh", To: "/bin/sh.distrib", By: "dash"}
	local := Diversion{From: "/usr/bin/a b", To: "/usr/bin/a b.real", By: ":"}
	const both = "/bin/sh\n/bin/sh.distrib\ndash\n/usr/bin/a b\n/usr/bin/a b.real\n:\n"
	for text, want := range map[string][]Diversion{
		"":                      nil,
		"\n":                    nil,
		both:                    {sh, local},
		both[:len(both)-1]:      {sh, local},
		both + "/half\n/done\n": {sh, local},
		"/only\n/two":           nil,
	} {
		if got := ParseDiversions([]byte(text)); !slices.Equal(got, want) {
			t.Errorf("%q gives %v, want %v", text, got, want)
		}
	}
}
