package line

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln"
)

func TestAProfileFileIsReadAsItWasLocked(t *testing.T) {
	const text = "name: ours\ndescription: d\nobjectives: [mode-passwd, mode-group]\nremove: [{id: mode-group, reason: elsewhere}]\n"
	j := journeyBeside(t, &kiln.Recipe{Hardening: kiln.Hardening{ProfileFile: "ours.yaml"}}, map[string]string{"ours.yaml": text})
	c, err := j.profile()
	if err != nil || c.profile != "ours" || len(c.list) != 2 || c.leftOut["mode-group"] != "left out by profile ours: elsewhere" {
		t.Fatalf("%+v, %v", c, err)
	}
	file := filepath.Join(j.req.Recipe.Dir, "ours.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(text, "mode-group, reason", "mode-passwd, reason", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := j.profile(); !errors.Is(err, kiln.ErrMisuse) || !strings.Contains(err.Error(), "has changed since the recipe was locked") {
		t.Errorf("a profile that changed after the lock: %v", err)
	}
	j.build.Lock = nil // before there is a lock it is read as it is
	if c, err := j.profile(); err != nil || c.leftOut["mode-passwd"] == "" {
		t.Errorf("without a lock: %+v, %v", c, err)
	}
}
