package tree

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestASurveyNamesWhatItCannotSeeAndGoesOn(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"a", "b/deep", "c"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var seen, unread []string
	o := Survey{
		Skip:   func(p string) bool { return p == "b" },
		Unread: func(p string, err error) error { unread = append(unread, p); return nil },
	}
	err := WalkSurvey(t.Context(), dir, o, func(e Entry) error {
		seen = append(seen, e.Path)
		if e.Path == "a" { // as when a live system removes it meanwhile
			return os.Remove(filepath.Join(dir, "c"))
		}
		return nil
	})
	if err != nil || !slices.Equal(seen, []string{".", "a", "b"}) || !slices.Equal(unread, []string{"c"}) {
		t.Errorf("saw %q, could not see %q, %v", seen, unread, err)
	}
}

func TestASurveyEnds(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"1", "2", "3"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all := func(Entry) error { return nil }
	err := WalkSurvey(t.Context(), dir, Survey{Entries: 2}, all)
	if !errors.Is(err, ErrTooMany) || !strings.HasPrefix(err.Error(), ".: ") {
		t.Errorf("too many entries: %v", err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := WalkSurvey(done, dir, Survey{}, all); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "0fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Walk(dir, all); err != nil { // a FIFO is looked at, never opened
		t.Error(err)
	}
}

// TestALargeDirectoryIsNotReadWhole: names are read until they are more than the bound allows, not to the end.
func TestALargeDirectoryIsNotReadWhole(t *testing.T) {
	dir := t.TempDir()
	const files, bound = 30_000, 1000
	for i := range files {
		fd, err := syscall.Open(filepath.Join(dir, strconv.Itoa(i)), syscall.O_CREAT|syscall.O_EXCL, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		syscall.Close(fd)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	w := &walker{ctx: t.Context(), o: Survey{Entries: bound}, root: dir}
	if _, err := w.names(root, "spool"); !errors.Is(err, ErrTooMany) || !strings.HasPrefix(err.Error(), "spool: ") {
		t.Errorf("%v", err)
	}
	rest, err := root.Readdirnames(-1)
	if err != nil || len(rest) < files-2*namesAtOnce {
		t.Errorf("of %d names %d were left to read, %v", files, len(rest), err)
	}
	n := 0
	if err := WalkSurvey(t.Context(), dir, Survey{Entries: files + 1}, func(Entry) error { n++; return nil }); err != nil || n != files+1 {
		t.Errorf("within the bound: %d entries, %v", n, err)
	}
}

func TestADirectoryReplacedByALinkIsNotFollowed(t *testing.T) {
	outside := t.TempDir()
	if err := os.MkdirAll(filepath.Join(outside, "b", "planted"), 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	at := filepath.Join(dir, "a")
	if err := os.MkdirAll(filepath.Join(at, "b", "c"), 0o755); err != nil {
		t.Fatal(err)
	}
	var seen []string
	err := Walk(dir, func(e Entry) error {
		seen = append(seen, e.Path)
		if e.Path != "a/b" {
			return nil
		}
		if err := os.Rename(at, filepath.Join(dir, "z")); err != nil {
			return err
		}
		return os.Symlink(outside, at)
	})
	if !slices.Contains(seen, "a/b") || slices.Contains(seen, "a/b/planted") { // that the walk stops there is fine
		t.Errorf("saw %q, %v", seen, err)
	}
}

func BenchmarkWalk(b *testing.B) {
	for b.Loop() {
		n := 0
		if err := Walk("/usr/share", func(Entry) error { n++; return nil }); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n), "entries")
	}
}
