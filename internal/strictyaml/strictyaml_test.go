package strictyaml

import (
	"errors"
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	fields := []string{"packages", "path", "platform", "pins", "ports", "source"}
	for word, want := range map[string]string{
		"pakages": "packages", "packges": "packages", "Packages": "packages", "PORTS": "ports", "prots": "ports", "pth": "path", "src": "",
		"colour": "", "": "", "platfrom": "platform", strings.Repeat("p", 500): "",
	} {
		if got := Nearest(word, fields); got != want {
			t.Errorf("Nearest(%q) is %q, want %q", Clip(word, 20), got, want)
		}
	}
}

func TestPlaces(t *testing.T) {
	n, err := Parse([]byte("a: 1\nb:\n  - x\n  - c: &k\n      d: |\n        text\n  - *k\n"), "f")
	if err != nil {
		t.Fatal(err)
	}
	list := n.Get("b").Items
	d := list[1].Get("c").Get("d")
	if list[0].Line != 3 || list[0].Column != 5 || d.Text != "text\n" || list[1].Pairs[0].Line != 4 {
		t.Errorf("places %+v %+v", list[0], list[1])
	}
	if got := list[2].Get("d"); got == nil || got.Text != "text\n" || got == d {
		t.Errorf("the alias became %+v", got)
	}
}

// What aliases repeat counts: 30,000 values fit, twice as many by alias do not.
func TestAliasesCount(t *testing.T) {
	text := "a: &a [" + strings.Repeat("1,", 30_000) + "]\n"
	if _, err := Parse([]byte(text), "f"); err != nil {
		t.Fatal(err)
	}
	_, err := Parse([]byte(text+"b: *a\n"), "f")
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Message, "too many values") {
		t.Errorf("got %v", err)
	}
}

func TestErrorsAreBounded(t *testing.T) {
	_, err := Parse([]byte(strings.Repeat("a: 1\n", 1000)), "f")
	if err == nil || strings.Count(err.Error(), "stands twice") != maxShown || !strings.Contains(err.Error(), "and 979 more") {
		t.Errorf("got %.300v", err)
	}
}

// The parser's time grows with the square of a mapping's keys, so these are refused before it sees them.
func TestManyValuesAreRefusedEarly(t *testing.T) {
	for name, text := range map[string]string{
		"keys":   strings.Repeat("a: 1\n", 200_000),
		"list":   "a: [" + strings.Repeat("1,", 500_000) + "]",
		"colons": strings.Repeat("{a: ", 60) + strings.Repeat("b: 1, ", 150_000),
	} {
		if _, err := Parse([]byte(text), "f"); err == nil || !strings.Contains(err.Error(), "too many values") {
			t.Errorf("%s: %v", name, err)
		}
	}
	long := "a: |\n  " + strings.Repeat("x", 1_000_000)
	if n, err := Parse([]byte(long), "f"); err != nil || len(n.Get("a").Text) != 1_000_000 {
		t.Errorf("a long text: %v", err)
	}
}
