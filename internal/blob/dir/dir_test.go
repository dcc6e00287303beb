package dir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"kiln"
)

func open(t *testing.T, path string, options ...Option) *Store {
	t.Helper()
	s, err := Open(path, options...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// files lists what lies in the store, temporary files included.
func files(t *testing.T, s *Store) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(s.root, func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(s.root, p)
			found = append(found, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestPutThenOpenGivesTheSameBytes(t *testing.T) {
	for _, options := range [][]Option{nil, {Durable()}} {
		s := open(t, filepath.Join(t.TempDir(), "a", "b"), options...)
		body := []byte("kiln")
		d, n, err := s.Put(bytes.NewReader(body), "", 0)
		if err != nil || n != 4 || d != kiln.DigestBytes(body) || !s.Has(d) {
			t.Fatalf("Put = %s, %d, %v", d, n, err)
		}
		f, err := s.OpenVerified(d)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(f)
		f.Close()
		if !bytes.Equal(got, body) {
			t.Errorf("read %q", got)
		}
		if want := []string{"sha256/" + d.Hex()[:2] + "/" + d.Hex()}; fmt.Sprint(files(t, s)) != fmt.Sprint(want) {
			t.Errorf("store holds %v, want %v", files(t, s), want)
		}
	}
}

func TestNothingIsStored(t *testing.T) {
	body := "some content"
	cases := []struct {
		name string
		r    io.Reader
		want kiln.Digest
		max  int64
		err  string
	}{
		{"when the digest is another", strings.NewReader(body), kiln.DigestBytes([]byte("other")), 0, "expected sha256:"},
		{"when the content is too large", strings.NewReader(body), "", int64(len(body)) - 1, "more than the 11 bytes"},
		{"when reading fails in the middle", io.MultiReader(strings.NewReader("some"), iotest.ErrReader(errors.New("cable cut"))), "", 0, "cable cut"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			if _, _, err := s.Put(c.r, c.want, c.max); err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if left := files(t, s); len(left) != 0 {
				t.Errorf("store holds %v", left)
			}
		})
	}
}

func TestDigestsThatAreNoneNeverLeaveTheStore(t *testing.T) {
	s := open(t, t.TempDir())
	for _, d := range []kiln.Digest{"", "sha256:", "sha256:../../../../etc/passwd", kiln.Digest("sha256:" + strings.Repeat("A", 64))} {
		if s.Has(d) || !strings.HasPrefix(s.Path(d), s.root) {
			t.Errorf("digest %q reaches %s", d, s.Path(d))
		}
		if _, err := s.Open(d); err == nil {
			t.Errorf("digest %q opens", d)
		}
	}
}

func TestChangedContentIsNoticed(t *testing.T) {
	s := open(t, t.TempDir())
	d, _, err := s.Put(strings.NewReader("good"), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(d); err != nil {
		t.Fatal(err)
	}
	os.Chmod(s.Path(d), 0o644)
	if err := os.WriteFile(s.Path(d), []byte("evil"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(d); !errors.Is(err, ErrDigest) {
		t.Errorf("Verify = %v, want ErrDigest", err)
	}
	if err := s.Remove(d); err != nil || s.Has(d) {
		t.Errorf("Remove = %v", err)
	}
	if err := s.Verify(d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Verify of an absent blob = %v", err)
	}
}

func TestManyWritersOfOneDigest(t *testing.T) {
	root := t.TempDir()
	body := bytes.Repeat([]byte("x"), 1<<16)
	want := kiln.DigestBytes(body)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			s, err := Open(root)
			if err != nil {
				t.Error(err)
				return
			}
			if _, _, err := s.Put(bytes.NewReader(body), want, 0); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s := open(t, root)
	if err := s.Verify(want); err != nil {
		t.Error(err)
	}
	if got := files(t, s); len(got) != 1 {
		t.Errorf("store holds %v", got)
	}
}

func TestOpenRemovesWhatDeadWritersLeft(t *testing.T) {
	s := open(t, t.TempDir())
	live, err := s.Writer()
	if err != nil {
		t.Fatal(err)
	}
	defer live.Abort()
	dead := filepath.Join(s.temps(), "4194305-1") // above the largest process id Linux gives
	fresh := filepath.Join(s.temps(), fmt.Sprintf("%d-fresh", os.Getpid()))
	old := filepath.Join(s.temps(), fmt.Sprintf("%d-old", os.Getpid()))
	for _, p := range []string{dead, fresh, old} {
		if err := os.WriteFile(p, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-2 * staleAge)
	os.Chtimes(old, past, past)
	os.Chtimes(live.file.Name(), past, past)
	open(t, s.root)
	left := strings.Join(files(t, s), " ")
	for p, want := range map[string]bool{dead: false, old: false, fresh: true, live.file.Name(): true} {
		if strings.Contains(left, filepath.Base(p)) != want {
			t.Errorf("%s kept: %v, want %v", filepath.Base(p), !want, want)
		}
	}
}

// needs skips the test, or fails it in CI, where what it needs is missing.
func needs(t *testing.T, err error, what string) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s: %v", what, err)
	}
	t.Skipf("%s: %v", what, err)
}

func TestFullDiskSaysSoAndLeavesNothing(t *testing.T) {
	// The thread keeps its mount namespace and dies with this goroutine: no mount outlives the test.
	runtime.LockOSThread()
	needs(t, syscall.Unshare(syscall.CLONE_NEWNS|syscall.CLONE_FS), "a private mount namespace needs root")
	needs(t, syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""), "making mounts private")
	small := t.TempDir()
	needs(t, syscall.Mount("tmpfs", small, "tmpfs", 0, "size=256k"), "mounting a tmpfs")
	defer syscall.Unmount(small, syscall.MNT_DETACH)

	s := open(t, small, Durable())
	kept, _, err := s.Put(strings.NewReader("kept"), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Put(bytes.NewReader(make([]byte, 1<<20)), "", 0)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("error = %v", err)
	}
	if left := files(t, s); len(left) != 1 || s.Verify(kept) != nil {
		t.Errorf("store holds %v", left)
	}
}
