package line

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln"
)

// journeyBeside is a build of a recipe in a folder with these files, locked as they are.
func journeyBeside(t *testing.T, r *kiln.Recipe, files map[string]string) *journey {
	t.Helper()
	r.Dir = t.TempDir()
	lock := &kiln.Lock{}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(r.Dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		lock.Files = append(lock.Files, kiln.LockedFile{Path: name, Digest: kiln.DigestBytes([]byte(text)), Size: int64(len(text)), Mode: "0644"})
	}
	return &journey{Line: &Line{}, req: Request{Recipe: r}, build: &kiln.Build{Lock: lock}}
}

func TestTestsAreReadAsTheyWereLocked(t *testing.T) {
	j := journeyBeside(t, &kiln.Recipe{}, map[string]string{"goss.yaml": "file: {}\n", "link.yaml": "x"})
	if data, err := j.beside("./goss.yaml"); err != nil || string(data) != "file: {}\n" {
		t.Errorf("got %q, %v", data, err)
	}
	file := filepath.Join(j.req.Recipe.Dir, "goss.yaml")
	if err := os.WriteFile(file, []byte("file: {a: {}}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if data, err := j.beside("goss.yaml"); err == nil || !strings.Contains(err.Error(), "has changed") {
		t.Errorf("changed: got %q, %v", data, err)
	}
	// A link out of the folder is not followed, even to the very bytes that were locked.
	outside := filepath.Join(t.TempDir(), "outside.yaml")
	if err := os.WriteFile(outside, []byte("file: {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(file), os.Symlink(outside, file)); err != nil {
		t.Fatal(err)
	}
	if data, err := j.beside("goss.yaml"); err == nil || !strings.Contains(err.Error(), "escapes") {
		t.Errorf("a link: got %q, %v", data, err)
	}
	if _, err := j.beside("other.yaml"); err == nil || !strings.Contains(err.Error(), "not in the lock") {
		t.Errorf("got %v", err)
	}
}

func TestTestPhasesOfStepsAreTests(t *testing.T) {
	const head = "name: c\nschemaVersion: 1.0\nphases:\n"
	const body = "    steps:\n      - {name: s, action: ExecuteBash, inputs: {commands: [true]}}\n"
	r := &kiln.Recipe{
		Tests: []kiln.Test{{TCP: &kiln.TCPTest{Address: "80"}}},
		Steps: []kiln.Step{{Component: "build.yaml"}, {Name: "both", Component: "both.yaml", Parameters: map[string]string{"P": "1"}}, {Run: "true"}},
	}
	j := journeyBeside(t, r, map[string]string{
		"build.yaml": head + "  - name: build\n" + body,
		"both.yaml":  head + "  - name: build\n" + body + "  - name: test\n" + body,
	})
	tests, err := j.testsToRun()
	if err != nil {
		t.Fatal(err)
	}
	// Parameters are among what a trial's kept result is for: with others the phase is another test.
	if len(tests) != 2 || tests[1].Name != "both" || tests[1].Parameters["P"] != "1" {
		t.Errorf("got %+v", tests)
	}
}
