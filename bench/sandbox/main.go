// Command sandbox measures one sandboxed command on a fresh copy-on-write fork
// (mount, run true, unmount, remove), beside crun and runc, in turns within the
// same run, since only the ratio survives a busy machine.
//
//	go run ./bench/sandbox [-n 200]
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kiln/internal/sandbox"
)

func main() {
	sandbox.Init()
	n := flag.Int("n", 200, "runs of each engine")
	flag.Parse()
	if err := run(*n); err != nil {
		fmt.Fprintln(os.Stderr, "bench/sandbox:", err)
		os.Exit(1)
	}
}

// engine is one way to run a command on the fork in dir.
type engine struct {
	name  string
	limit time.Duration // the mean that the project promises, 0 for rivals
	one   func(bench, string) error
	times []time.Duration
}

// bench is what all engines share.
type bench struct{ layer, dir string }

func run(n int) error {
	if err := sandbox.Enter(); err != nil {
		return err
	}
	mode, limit := "root", 5*time.Millisecond
	if !strings.Contains(read("/proc/self/uid_map"), "4294967295") {
		mode, limit = "rootless", 7*time.Millisecond
	}
	dir, err := os.MkdirTemp(tmpfs(), "kiln-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := bench{layer: filepath.Join(dir, "layer"), dir: dir}
	if err := makeLayer(b.layer); err != nil {
		return fmt.Errorf("making the root: %w", err)
	}
	engines := []*engine{{name: "kiln " + mode, limit: limit, one: bench.kiln}}
	for _, rival := range []string{"crun", "runc"} {
		e, err := b.rival(rival)
		if err != nil {
			fmt.Printf("%-14s skipped: %v\n", rival, err)
			continue
		}
		engines = append(engines, e)
	}
	if err := b.measure(engines, n); err != nil {
		return err
	}
	return print(engines, n)
}

// measure runs the engines in turns.
func (b bench) measure(engines []*engine, n int) error {
	for i := range n + 5 {
		for _, e := range engines {
			fork := filepath.Join(b.dir, e.name+"-"+strconv.Itoa(i))
			begin := time.Now()
			if err := e.one(b, fork); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
			if i >= 5 { // the first ones warm caches
				e.times = append(e.times, time.Since(begin))
			}
		}
	}
	return nil
}

func print(engines []*engine, n int) error {
	fmt.Printf("one command on a fresh fork, %d runs each, in turns; load %s\n", n, strings.TrimSpace(read("/proc/loadavg")))
	fmt.Printf("%-14s %9s %9s %9s %9s\n", "engine", "mean ms", "median", "p95", "ratio")
	ours := mean(engines[0].times)
	var late error
	for _, e := range engines {
		m := mean(e.times)
		fmt.Printf("%-14s %9.2f %9.2f %9.2f %9.2f\n", e.name, ms(m), ms(at(e.times, 0.5)), ms(at(e.times, 0.95)), float64(m)/float64(ours))
		if e.limit == 0 || m <= e.limit {
			continue
		}
		if busy() {
			fmt.Printf("%s: above the promised %.0f ms, but the machine is busy: only the ratio counts\n", e.name, ms(e.limit))
			continue
		}
		late = fmt.Errorf("%s: mean %.2f ms, promised %.0f ms", e.name, ms(m), ms(e.limit))
	}
	return late
}

// busy tells whether more wants to run than there are processors, besides us.
func busy() bool {
	var load float64
	_, err := fmt.Sscan(read("/proc/loadavg"), &load)
	return err == nil && load > float64(runtime.NumCPU())+0.5
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

func mean(list []time.Duration) time.Duration {
	var sum time.Duration
	for _, d := range list {
		sum += d
	}
	return sum / time.Duration(max(len(list), 1))
}

func at(list []time.Duration, q float64) time.Duration {
	s := slices.Sorted(slices.Values(list))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

// kiln is our engine, as a build uses it for foreign code.
func (b bench) kiln(fork string) error {
	up, work := filepath.Join(fork, "upper"), filepath.Join(fork, "work")
	if err := errors.Join(os.MkdirAll(up, 0o755), os.MkdirAll(work, 0o755)); err != nil {
		return err
	}
	r, err := sandbox.Run(context.Background(), sandbox.Spec{
		Layers: []string{b.layer}, Upper: up, Work: work, Args: []string{"/bin/true"}, NoNewPrivileges: true,
	})
	if err != nil {
		return err
	}
	if r.ExitCode != 0 {
		return fmt.Errorf("exit code %d", r.ExitCode)
	}
	return os.RemoveAll(fork)
}

// rival prepares a runtime of the OCI.
func (b bench) rival(name string) (*engine, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, errors.New("not installed")
	}
	if name == "crun" {
		if err := onlyUnifiedCgroups(); err != nil {
			return nil, err
		}
	}
	e := &engine{name: name, one: func(b bench, fork string) error { return b.oci(path, fork) }}
	trial := filepath.Join(b.dir, name+"-trial")
	if err := e.one(b, trial); err != nil {
		return nil, errors.Join(fmt.Errorf("it does not run here: %w", err), os.RemoveAll(trial))
	}
	return e, nil
}

// oci mounts a fork, runs the command by a runtime, and takes everything away.
func (b bench) oci(runtime, fork string) error {
	for _, d := range []string{"upper", "work", "rootfs"} {
		if err := os.MkdirAll(filepath.Join(fork, d), 0o755); err != nil {
			return err
		}
	}
	opts := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", b.layer, fork, fork)
	if err := unix.Mount("overlay", fork+"/rootfs", "overlay", 0, opts); err != nil {
		return err
	}
	defer func() { _ = unix.Unmount(fork+"/rootfs", unix.MNT_DETACH) }()
	if err := os.WriteFile(fork+"/config.json", ociConfig(), 0o644); err != nil {
		return err
	}
	cmd := exec.Command(runtime, "--root", b.dir+"/run", "run", "--bundle", fork, filepath.Base(fork))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(out.String()))
	}
	if err := unix.Unmount(fork+"/rootfs", unix.MNT_DETACH); err != nil {
		return err
	}
	return os.RemoveAll(fork)
}

// ociConfig asks for the same isolation as ours.
func ociConfig() []byte {
	type m = map[string]any
	mount := func(to, kind string, opts ...string) m {
		return m{"destination": to, "type": kind, "source": kind, "options": opts}
	}
	var namespaces []m
	for _, n := range []string{"pid", "mount", "ipc", "uts", "network", "cgroup"} {
		namespaces = append(namespaces, m{"type": n})
	}
	caps := []string{"CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"}
	data, err := json.Marshal(m{
		"ociVersion": "1.0.2", "root": m{"path": "rootfs"}, "hostname": "bench",
		"process": m{
			"args": []string{"/bin/true"}, "cwd": "/", "env": []string{"PATH=/bin"}, "user": m{"uid": 0, "gid": 0}, "noNewPrivileges": true,
			"capabilities": m{"bounding": caps, "effective": caps, "permitted": caps},
		},
		"mounts": []m{
			mount("/proc", "proc"), mount("/dev", "tmpfs", "nosuid", "mode=755", "size=64k"),
			mount("/dev/pts", "devpts", "newinstance", "ptmxmode=0666"), mount("/dev/shm", "tmpfs", "mode=1777"), mount("/sys", "sysfs", "ro"),
		},
		"linux": m{"namespaces": namespaces, "maskedPaths": []string{"/proc/kcore", "/proc/keys"}, "readonlyPaths": []string{"/proc/sys"}},
	})
	if err != nil {
		panic("internal error: " + err.Error()) // a constant
	}
	return data
}

// onlyUnifiedCgroups hides a hybrid hierarchy, which crun refuses, in our own mount namespace.
func onlyUnifiedCgroups() error {
	const dir = "/sys/fs/cgroup"
	if _, err := os.Stat(dir + "/cgroup.controllers"); err == nil {
		return nil
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("hybrid cgroups cannot be hidden: %w", err)
	}
	if err := unix.Mount("none", dir, "cgroup2", 0, ""); err != nil {
		return fmt.Errorf("mounting cgroup2: %w", err)
	}
	return nil
}

// makeLayer makes a root with true and the libraries that it names.
func makeLayer(dir string) error {
	for _, d := range []string{"bin", "proc", "dev", "sys", "tmp", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	program, err := exec.LookPath("true")
	if err != nil {
		return err
	}
	files := map[string]string{program: "/bin/true"}
	out, _ := exec.Command("ldd", program).Output() // none for a static program
	for f := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(f, "/") {
			files[f] = f
		}
	}
	for from, to := range files {
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		to = filepath.Join(dir, to)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o755)); err != nil {
			return err
		}
	}
	return nil
}

// tmpfs is a directory in memory, as builds use.
func tmpfs() string {
	var st syscall.Statfs_t
	for _, d := range []string{"/dev/shm", os.TempDir()} {
		if syscall.Statfs(d, &st) == nil && st.Type == unix.TMPFS_MAGIC && unix.Access(d, unix.W_OK) == nil {
			return d
		}
	}
	return os.TempDir()
}

func read(path string) string { b, _ := os.ReadFile(path); return string(b) }
