package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"kiln/internal/sandbox"
)

// TestMain lets the test binary be the program: scripts run the real main.
func TestMain(m *testing.M) {
	sandbox.Init()
	testscript.Main(runner{m}, map[string]func(){"kiln": main})
}

// runner removes what the tests shared when they are done.
type runner struct{ *testing.M }

func (r runner) Run() int {
	code := r.M.Run()
	if cacheMade.Load() {
		_ = os.RemoveAll(sharedCache())
	}
	return code
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("KILN_STATE", e.WorkDir+"/state")
			e.Setenv("KILN_KEY_PASSPHRASE", "correct horse")
			return nil
		},
	})
}
