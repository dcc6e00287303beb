package probe

import (
	"strings"
	"testing"
)

func TestHostAnswersWholeOrNotAtAll(t *testing.T) {
	if out, err := Host(t.Context(), "/bin/sh", "-c", "echo $LC_ALL"); err != nil || string(out) != "C.UTF-8\n" {
		t.Errorf("%q, %v", out, err)
	}
	for name, c := range map[string]struct{ script, want string }{
		"fails":       {"echo half; exit 3", "exit status 3"},
		"without end": {"exec head -c 5000000 /dev/zero", "printed more than"},
	} {
		if out, err := Host(t.Context(), "/bin/sh", "-c", c.script); out != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d bytes, %v", name, len(out), err)
		}
	}
	if _, err := Host(t.Context(), "/no/such/program"); err == nil {
		t.Error("a program that is not there answered")
	}
}
