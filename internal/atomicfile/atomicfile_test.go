package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// holds fails unless path has that text and mode and stands alone in its folder.
func holds(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil || string(data) != text {
		t.Errorf("%s holds %q, %v; want %q", path, data, err, text)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
		t.Errorf("%s: %v, %v; want mode %o", path, info, err, mode)
	}
	alone(t, path)
}

// alone fails when anything is left beside path.
func alone(t *testing.T, path string) {
	t.Helper()
	names, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if n.Name() != filepath.Base(path) {
			t.Errorf("%s was left behind", n.Name())
		}
	}
}

func TestWriteMakesFoldersAndReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "file")
	for _, text := range []string{"first, and longer than the second", "second"} {
		if err := Write(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		holds(t, path, text, 0o666)
	}
}

func TestAReaderKeepsWhatItOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := Write(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = Fill(path, 0o644, func(w io.Writer) error {
		if _, err := io.WriteString(w, "ne"); err != nil {
			return err
		}
		if seen, err := os.ReadFile(path); err != nil || string(seen) != "old" {
			t.Errorf("while writing, a reader sees %q, %v", seen, err)
		}
		_, err := io.WriteString(w, "w")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen, err := io.ReadAll(f); err != nil || string(seen) != "old" {
		t.Errorf("who opened the old file reads %q, %v", seen, err)
	}
	holds(t, path, "new", 0o644)
}

func TestWhatFailsChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := Write(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("no more data")
	fail := func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return broken
	}
	for _, err := range []error{Fill(path, 0o644, fail), Cache(path, fail)} {
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "writing "+path) {
			t.Errorf("the error is %v", err)
		}
	}
	holds(t, path, "old", 0o600)
}

func TestCreateLeavesWhatExists(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := Create(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Create(path, []byte("yours"), 0o644); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second creation gives %v", err)
	}
	holds(t, path, "mine", 0o600)
}

func TestCacheWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cache", "file")
	if err := Cache(path, content([]byte("kept"))); err != nil {
		t.Fatal(err)
	}
	holds(t, path, "kept", 0o600)
}

func TestErrorsNameTheFileAskedFor(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "taken")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	err := Write(path, nil, 0o644)
	if err == nil || strings.Contains(err.Error(), prefix) || !strings.HasPrefix(err.Error(), "writing "+path+": ") {
		t.Errorf("writing over a folder gives %v", err)
	}
	alone(t, path)
	elsewhere := filepath.Join(dir, "missing")
	err = Fill(filepath.Join(dir, "new", "file"), 0o644, func(io.Writer) error { _, err := os.Open(elsewhere); return err })
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), elsewhere) {
		t.Errorf("what the content lacked gives %v", err)
	}
}
