// Package judged asks the programs that the objectives configure, in a real
// Debian tree, what they make of it: before an objective is applied, and after.
package judged

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/internal/sandbox"
	"kiln/internal/testneeds"
)

// packages are what the judges need beyond the smallest tree.
var packages = []string{
	"systemd-sysv", "openssh-server", "sudo", "auditd", "libpam-pwquality", "libpwquality-tools", "rsyslog", "cron", "chrony", "nftables",
	"pamtester", "cracklib-runtime", "kmod", "procps", "libcap2-bin", "logrotate", "augeas-tools",
}

// work is a tmpfs in a mount namespace of this program's own: it is gone with it, however it ends.
var work string

func TestMain(m *testing.M) {
	sandbox.Init()
	os.Exit(inNamespace(m))
}

func inNamespace(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // every test says why it cannot run
	}
	if err := sandbox.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var err error
	if work, err = os.MkdirTemp("", "kiln-judged-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(work)
	if err := unix.Mount("tmpfs", work, "tmpfs", 0, "mode=755"); err != nil {
		fmt.Fprintln(os.Stderr, "mounting a tmpfs: "+err.Error())
		return 1
	}
	defer unix.Unmount(work, unix.MNT_DETACH)
	return m.Run()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The tree is made once, by the test that asks first.
var (
	making sync.Mutex
	made   bool
)

// base is a Debian tree from the machine's own archives. KILN_JUDGED_TREE may name one that was made before by
// mmdebstrap --variant=minbase with the packages above; it is only read.
func base(t testing.TB) string {
	t.Helper()
	making.Lock()
	defer making.Unlock()
	if os.Geteuid() != 0 {
		testneeds.Missing(t, "needs root, to run programs of another tree")
	}
	if err := sandbox.Supported(); err != nil {
		testneeds.Missing(t, err.Error())
	}
	if dir := os.Getenv("KILN_JUDGED_TREE"); dir != "" {
		return dir
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		testneeds.Missing(t, "mmdebstrap is not installed")
	}
	release, err := codename()
	if err != nil {
		testneeds.Missing(t, err.Error())
	}
	dir := filepath.Join(work, "base")
	if made {
		return dir
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "mmdebstrap", "--quiet", "--variant=minbase", "--format=directory", "--include="+strings.Join(packages, ","),
		"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*", release, dir)
	cmd.Env = append(os.Environ(), "TMPDIR="+work)
	if out, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "apt-get update") || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			testneeds.Missing(t, fmt.Sprintf("the machine's archives give no tree: %v\n%s", err, out))
		}
		t.Fatalf("mmdebstrap: %v\n%s", err, out)
	}
	made = true
	return dir
}

// codename of the machine, whose archives apt knows.
func codename() (string, error) {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", err
	}
	debian := strings.Contains(string(text), "\nID=debian\n")
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok && debian {
			return strings.Trim(name, `"`), nil
		}
	}
	return "", errors.New("needs a Debian machine: the tree is made from its archives")
}

// room is a tree in which programs can be asked. What they write is dropped.
type room struct {
	t      testing.TB
	dir    string   // the tree, to write in and to harden
	layers []string // the same, top first
	mu     sync.Mutex
	memo   map[string]answer
}

type answer struct {
	out  string // of both streams
	code int
}

// fork makes a room of its own on the layers.
func fork(t testing.TB, name string, layers ...string) *room {
	t.Helper()
	f, err := sandbox.NewFork(filepath.Join(work, name), layers...)
	must(t, err)
	if f.Copied != "" {
		testneeds.Missing(t, "no overlay can be mounted here: "+f.Copied)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return &room{t: t, dir: f.Merged, layers: append([]string{f.Upper}, layers...), memo: map[string]answer{}}
}

// ask runs a program of the tree as root and returns what it says; the same question is asked once.
func (r *room) ask(args ...string) answer {
	r.t.Helper()
	key := strings.Join(args, "\x00")
	r.mu.Lock()
	defer r.mu.Unlock()
	if a, ok := r.memo[key]; ok {
		return a
	}
	a := r.run(nil, "", args...)
	r.memo[key] = a
	return a
}

// sh runs a script of dash.
func (r *room) sh(script string) answer { r.t.Helper(); return r.ask("/bin/sh", "-c", script) }

func (r *room) run(mounts []sandbox.Mount, stdin string, args ...string) answer {
	r.t.Helper()
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	res, err := sandbox.Run(ctx, sandbox.Spec{
		Layers: r.layers, Args: args, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &out, Mounts: mounts,
		Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root"},
	})
	if err != nil {
		r.t.Errorf("asking %s: %v", strings.Join(args, " "), err)
	}
	return answer{out.String(), res.ExitCode}
}
