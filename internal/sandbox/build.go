package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// builder makes one box on a thread of its own. Its methods run in the order of
// build and leave the thread inside the box's namespaces.
type builder struct {
	spec    Spec
	caps    uint64
	stdio   *stdio
	cgroup  *cgroup
	host    int            // the mount namespace to return to
	old     int            // the root outside
	devices map[string]int // detached bind mounts of devices
	binds   []int          // detached bind mounts of spec.Mounts; -1 for tmpfs
	made    []string       // mount points made in a tree that stays, in order
	notes   []string
}

// start checks the spec, builds the box on a new thread and returns when its
// first process runs.
func start(ctx context.Context, s Spec) (*Box, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	caps, err := capabilityMask(s.Capabilities)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("sandbox: %w", context.Cause(ctx))
	}
	if len(s.Args) == 0 {
		if _, err := pauseFile(); err != nil { // while /proc is in sight
			return nil, fmt.Errorf("sandbox: making the first process: %w", err)
		}
	}
	b := &Box{done: make(chan struct{}), pidfd: -1, spec: s, caps: caps}
	ready := make(chan error, 1)
	onThread(func() { b.life(ctx, ready) })
	if err := <-ready; err != nil {
		return nil, err
	}
	return b, nil
}

// check refuses what cannot work, and fills in defaults.
func (s *Spec) check() error {
	if (s.Root == "") == (len(s.Layers) == 0) {
		return errors.New("exactly one of Root and Layers must be given")
	}
	if (s.Upper == "") != (s.Work == "") || (s.Upper != "" && s.Root != "") {
		return errors.New("the fields Upper and Work go together, and with Layers")
	}
	if s.Network != NetworkNone && s.Network != NetworkHost {
		return fmt.Errorf("unknown network %q", s.Network)
	}
	if s.Hostname == "" {
		s.Hostname = "kiln"
	}
	if s.Dir == "" {
		s.Dir = "/"
	}
	s.Env = withPath(s.Env)
	for _, m := range s.Mounts {
		if err := m.check(); err != nil {
			return err
		}
	}
	return s.absolute()
}

// absolute makes the paths outside independent of the working directory.
func (s *Spec) absolute() (err error) {
	paths := []*string{&s.Root, &s.Upper, &s.Work}
	s.Layers = append([]string(nil), s.Layers...)
	for i := range s.Layers {
		paths = append(paths, &s.Layers[i])
	}
	for _, p := range paths {
		if *p == "" {
			continue
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
		if st, err := os.Stat(*p); err != nil {
			return err
		} else if !st.IsDir() {
			return fmt.Errorf("%s is not a directory", *p)
		}
	}
	return nil
}

func (m Mount) check() error {
	if m.Type != "bind" && m.Type != "tmpfs" {
		return fmt.Errorf("mount on %s: unknown type %q; it is bind or tmpfs", m.Target, m.Type)
	}
	if m.Type == "bind" && m.Source == "" {
		return fmt.Errorf("mount on %s: a bind mount needs a source", m.Target)
	}
	if !filepath.IsAbs(m.Target) || filepath.Clean(m.Target) == "/" {
		return fmt.Errorf("mount target %q must be an absolute path below the root", m.Target)
	}
	return nil
}

// defaultPath is what programs expect when nobody says otherwise.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func withPath(env []string) []string {
	for _, e := range env {
		if strings.HasPrefix(e, "PATH=") {
			return env
		}
	}
	return append([]string{defaultPath}, env...)
}

// life is the thread's whole work: build, run, wait, tidy. It reports on ready once.
func (b *Box) life(ctx context.Context, ready chan<- error) {
	w := &builder{spec: b.spec, caps: b.caps, host: -1, old: -1}
	begin := time.Now()
	err := w.build(b)
	if err != nil {
		w.tidy()
		ready <- err
		return
	}
	stop := context.AfterFunc(ctx, b.kill)
	ready <- nil
	b.wait()
	stop()
	w.tidy()
	w.stdio.finish()
	b.finish(begin, w.notes)
}

// build makes the namespaces, the root and the first process.
func (w *builder) build(b *Box) error {
	steps := []struct {
		doing string
		do    func() error
	}{
		{"opening standard streams", w.openStdio},
		{"making a cgroup", w.makeCgroup},
		{"making namespaces", w.unshare},
		{"taking mounts", w.takeMounts},
		{"making the root", w.makeRoot},
		{"entering the root", w.pivot},
		{"furnishing the root", w.furnish},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return explain(fmt.Errorf("sandbox: %s: %w", s.doing, err))
		}
	}
	return w.firstProcess(b)
}

// limited tells a machine's limit of namespaces from a full disk: the kernel
// has one number for both. It is for errors of calls that make namespaces.
func limited(err error) error {
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("the limit of namespaces is reached (%w): raise it, as root: sysctl user.max_user_namespaces=10000, or what else it has under user.max_*_namespaces", ErrNotPermitted)
	}
	return err
}

// explain marks errors of missing permission with what to do.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("%w (%w: %s)", err, ErrNotPermitted, remedy())
	}
	return err
}

// unshare moves the thread into new namespaces; pid comes with the first
// process, cgroup with its first steps.
func (w *builder) unshare() error {
	var err error
	if w.host, err = unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("opening the mount namespace: %w", err)
	}
	flags := unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	if w.spec.Network == NetworkNone {
		flags |= unix.CLONE_NEWNET
	}
	if err := unix.Unshare(flags); err != nil {
		return limited(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if w.spec.Network == NetworkNone {
		w.openLowPorts()
	}
	return nil
}

// openLowPorts lets every user of the new network listen below 1024, as
// container engines do.
func (w *builder) openLowPorts() {
	const file = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
	if err := os.WriteFile(file, []byte("0"), 0); err != nil {
		w.notes = append(w.notes, "ports below 1024 need CAP_NET_BIND_SERVICE here: "+err.Error())
	}
}

// tidy removes what the box left in a tree that stays, and the thread's hold on
// the box's mounts, so that they are gone when the caller goes on.
func (w *builder) tidy() {
	for i := len(w.made) - 1; i >= 0; i-- {
		_ = unix.Unmount(w.made[i], unix.MNT_DETACH)
		_ = os.Remove(w.made[i]) // not empty: something else lives there now
	}
	if w.host >= 0 {
		_ = unix.Setns(w.host, unix.CLONE_NEWNS)
		_ = unix.Close(w.host)
	}
	if w.old >= 0 {
		_ = unix.Close(w.old)
	}
	for _, fd := range w.devices {
		_ = unix.Close(fd)
	}
	for _, fd := range w.binds {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	if w.cgroup != nil {
		w.cgroup.remove()
	}
	if w.stdio != nil {
		w.stdio.closeChild()
	}
}
