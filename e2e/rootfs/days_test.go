//go:build e2e

package rootfs

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/internal/factory"
	"kiln/internal/line/admit"
	"kiln/internal/line/assemble"
	"kiln/internal/line/recipe"
	"kiln/internal/sandbox"
	"kiln/internal/tree"
)

// later is how far the clock is moved: over the end of a year, of every Valid-Until, and of a leap day's shift.
const later = 500

// TestTheSameLockGivesTheSameTreeOnAnotherDay assembles a lock twice, the
// second time with every program of the packages believing that 500 days have passed.
func TestTheSameLockGivesTheSameTreeOnAnotherDay(t *testing.T) {
	b := newBuilder(t)
	run := onAnotherDay(t)
	for _, l := range lists[1:] {
		t.Run(l.name, func(t *testing.T) {
			lock := b.lock(t, "bookworm", l.packages)
			today, then := b.into(t), b.into(t)
			b.assemble(t, lock, today, "")
			otherClock(t, today, run)
			err := assemble.Apt(t.Context(), lock, then, assemble.Options{Open: b.line.Blobs.Open, Run: run, Report: func(e kiln.Event) { t.Log(e.Message) }})
			if err != nil {
				t.Fatal(err)
			}
			a, err := tree.Digest(today, lock.Epoch)
			if err != nil {
				t.Fatal(err)
			}
			z, err := tree.Digest(then, lock.Epoch)
			if err != nil {
				t.Fatal(err)
			}
			if a != z {
				t.Errorf("today %s, in %d days %s", a.Short(), later, z.Short())
				for _, d := range plainDifferences(t, today, then) {
					t.Error(d)
				}
			}
		})
	}
}

type runner func(context.Context, sandbox.Spec) (sandbox.Result, error)

// onAnotherDay runs programs with a clock that is days ahead, by a library that answers in place of the C library's.
func onAnotherDay(t *testing.T) runner {
	t.Helper()
	const library = "/usr/lib/*/faketime/libfaketime.so.1"
	found, err := filepath.Glob(library)
	if err != nil || len(found) == 0 {
		missing(t, "faketime is not installed: there is no "+library)
	}
	return func(ctx context.Context, s sandbox.Spec) (sandbox.Result, error) {
		s.Mounts = append(s.Mounts, sandbox.Mount{Type: "bind", Source: found[0], Target: "/faketime.so", ReadOnly: true})
		s.Env = append(s.Env, "LD_PRELOAD=/faketime.so", fmt.Sprintf("FAKETIME=+%dd", later), "NO_FAKE_STAT=1")
		return sandbox.Run(ctx, s)
	}
}

// otherClock checks that the clock of programs in the tree really is another.
func otherClock(t *testing.T, dir string, run runner) {
	t.Helper()
	var out bytes.Buffer
	_, err := run(t.Context(), sandbox.Spec{Root: dir, Args: []string{"/bin/sh", "-c", "exec date +%F"}, Env: []string{"PATH=/usr/bin:/bin"}, Stdout: &out, Stderr: &out})
	want := time.Now().UTC().AddDate(0, 0, later).Format(time.DateOnly)
	if err != nil || strings.TrimSpace(out.String()) != want {
		t.Fatalf("the clock inside says %q, want %s: %v", out.String(), want, err)
	}
}

// TestTheSameLockGivesTheSameImageOnAnotherDay takes the nginx example along
// the line today, and in 500 days from the bundle, in a state directory that knows nothing:
// signatures are judged, hardening and packing run anew, and the digest is the same.
func TestTheSameLockGivesTheSameImageOnAnotherDay(t *testing.T) {
	newBuilder(t) // or why not
	r, err := recipe.Load("../../examples/nginx", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Outputs = nil
	today := openFactory(t, 0)
	first := buildOn(t, today, r, nil)
	bundle := filepath.Join(folder(t), "bundle.tar")
	if err := today.ExportLock(t.Context(), first.Lock, bundle); err != nil {
		t.Fatal(err)
	}
	then := openFactory(t, later)
	lock, err := then.ImportLock(bundle)
	if err != nil {
		t.Fatal(err)
	}
	second := buildOn(t, then, r, lock)
	if first.Artifact.Index != second.Artifact.Index {
		t.Errorf("today %s, in %d days %s", first.Artifact.Index, later, second.Artifact.Index)
	}
	if first.Tree != second.Tree {
		t.Errorf("the assembled trees differ: %s, %s", first.Tree, second.Tree)
	}
	if again := buildOn(t, today, r, first.Lock); !again.Unchanged {
		t.Error("from its own lock the first build is not unchanged")
	}
}

// folder is a folder for one test.
func folder(t *testing.T) string { return (&builder{}).into(t) }

func openFactory(t *testing.T, days int) *factory.Factory {
	t.Helper()
	f, err := factory.Open(factory.Config{
		State: folder(t), Passphrase: func() ([]byte, error) { return []byte("pass"), nil },
		Now: func() time.Time { return time.Now().AddDate(0, 0, days) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := f.NewKeys(); err != nil {
		t.Fatal(err)
	}
	return f
}

func buildOn(t *testing.T, f *factory.Factory, r *kiln.Recipe, lock *kiln.Lock) *kiln.Build {
	t.Helper()
	b, err := f.Build(t.Context(), factory.BuildRequest{Recipe: r, Lock: lock, Policy: admit.Default(), Channel: factory.DefaultChannel})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
