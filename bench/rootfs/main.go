// Command rootfs compares making Debian's minimal root file system with
// mmdebstrap: both on a tmpfs, from the machine's own archives, in turn, in one
// run. It prints medians and ratios and judges nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kiln"
	"kiln/internal/blob/dir"
	"kiln/internal/fetch"
	"kiln/internal/line"
	"kiln/internal/line/assemble"
	"kiln/internal/line/resolve"
	"kiln/internal/sandbox"
)

const rounds = 5

func main() {
	sandbox.Init()
	if err := bench(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "bench: "+err.Error())
		os.Exit(1)
	}
}

// way is one of the things that are timed.
type way struct {
	name   string
	target float64 // of mmdebstrap's time; 0 where there is none
	run    func(ctx context.Context, into string) (time.Duration, error)
	times  []time.Duration
}

func bench(ctx context.Context) error {
	if err := sandbox.Enter(); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "kiln-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := unix.Mount("tmpfs", work, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting a tmpfs: %w", err)
	}
	defer unix.Unmount(work, unix.MNT_DETACH)
	machine, err := resolve.Machine("/")
	if err != nil {
		return err
	}
	recipe := &kiln.Recipe{Header: kiln.NewHeader("Recipe"), Name: "minbase", Base: kiln.Base{Apt: machine}}
	b := &rootfs{work: work, recipe: recipe}
	ways := []*way{
		{name: "mmdebstrap", run: b.mmdebstrap},
		{name: "cold: resolve, download, verify, assemble", target: 0.40, run: b.cold},
		{name: "warm: the same with all .debs in the cache", target: 0.20, run: b.warm},
		{name: "warm, from the lock: assemble only", run: b.warmLock},
		{name: "base cached: with resolve and verify", run: b.cached},
		{name: "base cached, from the lock: assemble only", target: 0.05, run: b.cachedLock},
	}
	for round := range rounds {
		for i, w := range ways {
			into := filepath.Join(work, fmt.Sprintf("tree-%d-%d", round, i))
			if err := os.Mkdir(into, 0o755); err != nil {
				return err
			}
			d, err := w.run(ctx, into)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			w.times = append(w.times, d)
			if err := os.RemoveAll(into); err != nil {
				return err
			}
		}
	}
	report(ways)
	return nil
}

func report(ways []*way) {
	rival := median(ways[0].times)
	for _, w := range ways {
		m := median(w.times)
		line := fmt.Sprintf("%-45s %6.2f s  ratio %.3f", w.name, m.Seconds(), m.Seconds()/rival.Seconds())
		if w.target > 0 {
			line += fmt.Sprintf("  (target %.2f)", w.target)
		}
		fmt.Println(line)
	}
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err == nil {
		fmt.Printf("peak memory of this process %d MiB\n", ru.Maxrss>>10)
	}
}

func median(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}

type rootfs struct {
	work   string
	recipe *kiln.Recipe
	lock   *kiln.Lock
}

func (b *rootfs) state() string { return filepath.Join(b.work, "state") }

// line opens the part of the line that gets a lock and its inputs.
func (b *rootfs) line() (*line.Line, error) {
	blobs, err := dir.Open(filepath.Join(b.state(), "blobs"))
	if err != nil {
		return nil, err
	}
	return &line.Line{Dir: b.state(), Blobs: blobs, Records: forgetful{}, Fetch: fetch.New(fetch.Config{Store: blobs}), Now: time.Now}, nil
}

// forgetful has seen no archive before.
type forgetful struct{}

func (forgetful) Seen(context.Context, string) (int64, error)  { return 0, nil }
func (forgetful) SetSeen(context.Context, string, int64) error { return nil }
func (forgetful) Put(context.Context, *kiln.Release) error     { return errors.ErrUnsupported }

func (forgetful) PutBuild(context.Context, *kiln.Build, int64) error { return errors.ErrUnsupported }

func (forgetful) Build(context.Context, string) (*kiln.Build, error) {
	return nil, errors.ErrUnsupported
}

func (forgetful) Current(context.Context, string, string) (*kiln.Release, error) {
	return nil, errors.ErrUnsupported
}

func (b *rootfs) all(ctx context.Context, into string) (time.Duration, error) {
	start := time.Now()
	l, err := b.line()
	if err != nil {
		return 0, err
	}
	if b.lock, _, err = l.Lock(ctx, b.recipe); err != nil {
		return 0, err
	}
	if err := l.FetchInputs(ctx, b.lock); err != nil {
		return 0, err
	}
	if _, err := l.VerifyLock(ctx, b.lock); err != nil {
		return 0, err
	}
	_, err = b.assemble(ctx, into)
	return time.Since(start), err
}

func (b *rootfs) assemble(ctx context.Context, into string) (time.Duration, error) {
	start := time.Now()
	l, err := b.line()
	if err != nil {
		return 0, err
	}
	err = assemble.Apt(ctx, b.lock, into, assemble.Options{Open: l.Blobs.Open, CacheDir: filepath.Join(b.state(), "cache"), Run: sandbox.Run})
	return time.Since(start), err
}

func (b *rootfs) cold(ctx context.Context, into string) (time.Duration, error) {
	if err := os.RemoveAll(b.state()); err != nil {
		return 0, err
	}
	return b.all(ctx, into)
}

func (b *rootfs) forgetBase() error { return os.RemoveAll(filepath.Join(b.state(), "cache", "bases")) }

func (b *rootfs) warm(ctx context.Context, into string) (time.Duration, error) {
	if err := b.forgetBase(); err != nil {
		return 0, err
	}
	return b.all(ctx, into)
}

func (b *rootfs) warmLock(ctx context.Context, into string) (time.Duration, error) {
	if err := b.forgetBase(); err != nil {
		return 0, err
	}
	return b.assemble(ctx, into)
}

func (b *rootfs) cached(ctx context.Context, into string) (time.Duration, error) {
	return b.all(ctx, into)
}

func (b *rootfs) cachedLock(ctx context.Context, into string) (time.Duration, error) {
	return b.assemble(ctx, into)
}

// mmdebstrap makes the same package set from the same archives.
func (b *rootfs) mmdebstrap(ctx context.Context, into string) (time.Duration, error) {
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		return 0, fmt.Errorf("%w: install the package mmdebstrap to compare with it", err)
	}
	args := []string{"--quiet", "--variant=minbase", "--format=directory", b.recipe.Base.Apt.Release, into}
	for _, a := range b.recipe.Base.Apt.Archives {
		for _, s := range a.Suites {
			args = append(args, fmt.Sprintf("deb [signed-by=%s] %s %s %s", a.Keyring, a.URI, s, strings.Join(a.Components, " ")))
		}
	}
	runtime.GC()
	start := time.Now()
	cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+b.work)
	cmd.Stdout = io.Discard
	var out strings.Builder
	cmd.Stderr = &out
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%w\n%s", err, out.String())
	}
	return time.Since(start), nil
}
