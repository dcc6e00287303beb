package workspace

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWhatAKilledProcessLeftIsRemovedAndWhatLivesStays(t *testing.T) {
	dir := t.TempDir()
	alive := filepath.Join(dir, "1") // process 1 is never gone
	dead := filepath.Join(dir, "4194999")
	for _, d := range []string{alive, dead} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w, err := Open(dir, 1<<62) // more than there is: a folder, no mount
	if err != nil {
		t.Fatal(err)
	}
	tree, err := w.Fresh("tree")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := w.Fresh("tree"); err != nil || again != tree {
		t.Fatalf("%s, %v", again, err)
	}
	if left, _ := os.ReadDir(tree); len(left) != 0 {
		t.Errorf("a fresh folder holds %v", left)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "1" {
		t.Errorf("left behind: %v %v", left, err)
	}
}
