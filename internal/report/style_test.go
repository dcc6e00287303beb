package report

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Every text and its ground differ by at least 4.5 to 1 (WCAG 2.2, success criterion 1.4.3, level AA), in the light
// and in the dark.
func TestContrast(t *testing.T) {
	light, rest, _ := strings.Cut(styleText, "@media (prefers-color-scheme: dark)")
	dark, _, _ := strings.Cut(rest, "* { box-sizing")
	pairs := [][2]string{
		{"ink", "ground"},
		{"soft", "ground"},
		{"ink", "card"},
		{"soft", "card"},
		{"accent", "card"},
		{"accent", "ground"},
		{"ink", "faint"},
		{"ink", "plain-bg"},
		{"good", "good-bg"},
		{"bad", "bad-bg"},
		{"warn", "warn-bg"},
		{"plain", "plain-bg"},
		{"ink", "good-bg"},
		{"ink", "bad-bg"},
		{"ink", "warn-bg"},
		{"good", "card"},
		{"bad", "card"},
		{"warn", "card"},
		{"card", "accent"},
		{"card", "good"},
		{"card", "bad"},
		{"card", "warn"},
	}
	for theme, text := range map[string]string{"light": light, "dark": dark} {
		colours := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{3,6})`).FindAllStringSubmatch(text, -1) {
			colours[m[1]] = m[2]
		}
		for _, p := range pairs {
			if got := contrast(t, colours[p[0]], colours[p[1]]); got < 4.5 {
				t.Errorf("%s: %s on %s has a contrast of %.2f", theme, p[0], p[1], got)
			}
		}
	}
}

func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	if len(hex) != 6 {
		t.Fatalf("%q is no colour", hex)
	}
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}
