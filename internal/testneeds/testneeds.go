// Package testneeds says of tests what they need of the machine. What is absent
// skips a test with the reason, and fails it where CI is true: a check that never
// runs is none.
package testneeds

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Missing ends the test: why says what is not there, and what to install or set.
func Missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("in CI this must run: " + why)
	}
	t.Skip(why)
}

// Root ends the test where the user is not root; what says what for.
func Root(t testing.TB, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "needs root, to "+what)
	}
}

// Program returns the path of a program and ends the test where it is not
// installed; from names the package that brings it.
func Program(t testing.TB, name, from string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, name+" is not installed: it comes with the package "+from)
	}
	return path
}

// Shared returns the path of a file or folder of the data folder, which is
// KILN_SHARED or stands beside the repository; the test ends where there is none.
func Shared(t testing.TB, name ...string) string {
	t.Helper()
	dir := os.Getenv("KILN_SHARED")
	if dir == "" {
		dir = filepath.Join(repository(t), "..", "shared")
	}
	path := filepath.Join(append([]string{dir}, name...)...)
	if _, err := os.Stat(path); err != nil {
		Missing(t, "the data folder is not here: "+err.Error()+"; set KILN_SHARED")
	}
	return path
}

// repository is the folder of go.mod, above the one in which tests run.
func repository(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("the test runs outside of a repository")
		}
		dir = filepath.Dir(dir)
	}
}
