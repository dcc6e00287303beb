package store

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"kiln"
)

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func release(name, channel, content string, time int64) *kiln.Release {
	return &kiln.Release{
		Header: kiln.NewHeader("Release"), Name: name, Channel: channel, Digest: kiln.DigestBytes([]byte(content)),
		Lock: kiln.DigestBytes(nil), Verdict: kiln.DigestBytes(nil), Time: time,
	}
}

func TestAChannelMeansItsNewestRelease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kiln.db")
	s := open(t, path)
	ctx := t.Context()
	if _, err := s.Current(ctx, "nginx", "stable"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("an unknown channel must be not found, got %v", err)
	}
	for i, r := range []*kiln.Release{release("nginx", "stable", "a", 1), release("nginx", "edge", "b", 2), release("nginx", "stable", "c", 3)} {
		if err := s.Put(ctx, r); err != nil {
			t.Fatal(i, err)
		}
	}
	s.Close()
	s = open(t, path)
	r, err := s.Current(ctx, "nginx", "stable")
	if err != nil || r.Digest != kiln.DigestBytes([]byte("c")) {
		t.Errorf("stable means %v, %v", r, err)
	}
	if list, err := s.Releases(ctx); err != nil || len(list) != 2 {
		t.Errorf("want two current releases, got %d, %v", len(list), err)
	}
	if list, err := s.History(ctx, "nginx"); err != nil || len(list) != 3 || list[0].Time != 3 {
		t.Errorf("history is newest first: %v, %v", list, err)
	}
}

func TestARefusedReleaseLeavesTheChannel(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "kiln.db"))
	bad := release("nginx", "stable", "a", 1)
	bad.Digest = "sha256:short"
	if err := s.Put(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "digest") {
		t.Errorf("want an error about the digest, got %v", err)
	}
	if _, err := s.Current(t.Context(), "nginx", "stable"); !errors.Is(err, ErrNotFound) {
		t.Errorf("channel exists: %v", err)
	}
}

func TestSeenNeverGoesBack(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "kiln.db"))
	for _, date := range []int64{100, 300, 200} {
		if err := s.SetSeen(t.Context(), "debian/bookworm", date); err != nil {
			t.Fatal(err)
		}
	}
	if date, err := s.Seen(t.Context(), "debian/bookworm"); err != nil || date != 300 {
		t.Errorf("seen %d, %v; want 300", date, err)
	}
}

func TestTwoProcessesMayOpenAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kiln.db")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := Open(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if err := s.Put(t.Context(), release("nginx", "stable", "a", 1)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if list, err := open(t, path).History(t.Context(), "nginx"); err != nil || len(list) != 4 {
		t.Errorf("want 4 releases, got %d, %v", len(list), err)
	}
}

func TestBuildIsFoundByIDAndDigest(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "kiln.db"))
	b := &kiln.Build{Header: kiln.NewHeader("Build"), ID: "b1", Name: "nginx", Recipe: kiln.DigestBytes(nil), Artifact: &kiln.Artifact{Index: kiln.DigestBytes([]byte("i"))}}
	if err := s.PutBuild(t.Context(), b, 5); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"b1", string(b.Artifact.Index)} {
		if got, err := s.Build(t.Context(), key); err != nil || got.Name != "nginx" {
			t.Errorf("%s: %v, %v", key, got, err)
		}
	}
	if _, err := s.Build(t.Context(), "other"); !errors.Is(err, ErrNotFound) {
		t.Errorf("want not found, got %v", err)
	}
}
