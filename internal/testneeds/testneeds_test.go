package testneeds

import (
	"os"
	"path/filepath"
	"testing"
)

// ended remembers how a test was ended.
type ended struct {
	testing.TB
	how string
}

func (e *ended) Helper()      {}
func (e *ended) Fatal(...any) { e.end("failed") }
func (e *ended) Skip(...any)  { e.end("skipped") }

func (e *ended) end(how string) {
	e.how = how
	panic(e)
}

func outcome(t *testing.T, f func(testing.TB)) string {
	t.Helper()
	e := &ended{TB: t, how: "ran"}
	func() {
		defer func() {
			if p := recover(); p != nil && p != any(e) {
				panic(p)
			}
		}()
		f(e)
	}()
	return e.how
}

func TestWhatIsMissingSkipsAndInCIFails(t *testing.T) {
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "there"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KILN_SHARED", data)
	for ci, absent := range map[string]string{"": "skipped", "true": "failed"} {
		t.Setenv("CI", ci)
		for name, c := range map[string]struct {
			need func(testing.TB)
			want string
		}{
			"no program":  {func(t testing.TB) { Program(t, "no-such-program", "none") }, absent},
			"a program":   {func(t testing.TB) { Program(t, "sh", "dash") }, "ran"},
			"no data":     {func(t testing.TB) { Shared(t, "not", "there") }, absent},
			"data":        {func(t testing.TB) { Shared(t, "there") }, "ran"},
			"what it may": {func(t testing.TB) { Missing(t, "it") }, absent},
		} {
			if got := outcome(t, c.need); got != c.want {
				t.Errorf("CI=%q, %s: the test %s, want %s", ci, name, got, c.want)
			}
		}
	}
}
