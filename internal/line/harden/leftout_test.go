package harden

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"kiln"
	"kiln/catalogue"
)

func TestWhatIsLeftOutIsNotPursuedAndSaysWhy(t *testing.T) {
	cat, err := catalogue.Load()
	must(t, err)
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "etc"), 0o755))
	for _, name := range []string{"passwd", "group"} {
		must(t, os.WriteFile(filepath.Join(dir, "etc", name), []byte("root:x:0:\n"), 0o644))
		must(t, os.Chmod(filepath.Join(dir, "etc", name), 0o666))
	}
	var in Input
	for _, id := range []string{"mode-passwd", "mode-group"} {
		k, _ := cat.Objective(id)
		in.Controls = append(in.Controls, k)
	}
	in.Now = time.Unix(1, 0)
	in.LeftOut = map[string]string{"mode-passwd": "left out by tailoring t.xml"}
	h, err := Apply(t.Context(), dir, in)
	must(t, err)
	for _, o := range h.Outcomes {
		if o.Objective != "mode-passwd" {
			continue
		}
		if o.State != kiln.NotApplicable || o.Reason != "left out by tailoring t.xml" || len(o.Changed) > 0 {
			t.Errorf("what is left out: %+v", o)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "etc/passwd")); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("what is left out was changed: %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Join(dir, "etc/group")); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("what is pursued was not changed: %v, %v", info.Mode(), err)
	}
}
