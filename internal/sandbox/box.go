package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Box is a running service, or an empty room for Exec, with everything it started.
type Box struct {
	spec   Spec
	caps   uint64
	pid    int     // of process 1, as seen from here
	waits  bool    // process 1 is ours and only waits
	cgroup *cgroup // nil without limits

	mu    sync.Mutex // guards pidfd against use after it is closed
	pidfd int

	done   chan struct{}
	result Result
}

// Done is closed when the first process has ended, nothing of the box is left,
// and all output is written.
func (b *Box) Done() <-chan struct{} { return b.done }

// PID is process 1 of the box, as seen from outside.
func (b *Box) PID() int { return b.pid }

// Root is a path through which the box's root can be read from outside while it
// runs. It is the box's view: resolve symbolic links in it with os.Root.
func (b *Box) Root() string { return "/proc/" + strconv.Itoa(b.pid) + "/root" }

// Stop asks the first process to end (SIGTERM), kills everything after grace,
// and returns when nothing is left. It may be called again.
func (b *Box) Stop(grace time.Duration) Result {
	if grace > 0 && !b.waits {
		b.Signal(unix.SIGTERM)
		select {
		case <-b.done:
		case <-time.After(grace):
		}
	}
	b.kill()
	<-b.done
	return b.result
}

// Result is how the first process ended; valid once Done is closed.
func (b *Box) Result() Result { <-b.done; return b.result }

// Signal sends a signal to the first process.
func (b *Box) Signal(s unix.Signal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pidfd >= 0 {
		_ = unix.PidfdSendSignal(b.pidfd, s, nil, 0)
	}
}

// kill ends process 1 and with it, by the kernel, everything in the box.
func (b *Box) kill() { b.Signal(unix.SIGKILL) }

// wait waits for process 1 on its thread, whose end would kill it.
func (b *Box) wait() {
	ws := reap(b.pid)
	b.mu.Lock()
	_ = unix.Close(b.pidfd)
	b.pidfd = -1
	b.mu.Unlock()
	b.result = resultOf(ws)
}

func (b *Box) finish(begin time.Time, notes []string) {
	b.result.Duration = time.Since(begin)
	b.result.Notes = notes
	close(b.done)
}

func resultOf(ws unix.WaitStatus) Result {
	if ws.Signaled() {
		return Result{ExitCode: 128 + int(ws.Signal()), Signal: unix.SignalName(ws.Signal())}
	}
	return Result{ExitCode: ws.ExitStatus()}
}

// ExecSpec is a further program in a box. What it may do is what the box may,
// and at most Capabilities where that is not nil.
type ExecSpec struct {
	Args, Env      []string
	Dir            string
	UID, GID       int
	Groups         []int
	Capabilities   []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// ErrEnded is returned for a box whose first process has ended.
var ErrEnded = errors.New("the service has ended")

// Exec runs a program in the box's namespaces and root and waits for it. When
// ctx ends, it is killed with an error; processes that it started stay in the
// box, as process 1's children, until the box ends.
func (b *Box) Exec(ctx context.Context, s ExecSpec) (Result, error) {
	if len(s.Args) == 0 {
		return Result{}, errors.New("sandbox: nothing to run: no arguments")
	}
	if s.Dir == "" {
		s.Dir = "/"
	}
	s.Env = withPath(s.Env)
	caps := b.caps
	if s.Capabilities != nil {
		mask, err := capabilityMask(s.Capabilities)
		if err != nil {
			return Result{}, fmt.Errorf("sandbox: %w", err)
		}
		caps &= mask
	}
	type answer struct {
		r   Result
		err error
	}
	c := make(chan answer, 1)
	onThread(func() {
		r, err := b.exec(ctx, s, caps)
		c <- answer{r, err}
	})
	a := <-c
	if a.err == nil && ctx.Err() != nil {
		return a.r, fmt.Errorf("running %s: stopped: %w", s.Args[0], context.Cause(ctx))
	}
	return a.r, a.err
}

// exec does the work of Exec on a thread of its own.
func (b *Box) exec(ctx context.Context, s ExecSpec, caps uint64) (Result, error) {
	begin := time.Now()
	std, err := openStdio(s.Stdin, s.Stdout, s.Stderr)
	if err != nil {
		return Result{}, fmt.Errorf("sandbox: %w", err)
	}
	defer std.abandon()
	if err := std.own(s.UID, s.GID); err != nil {
		return Result{}, fmt.Errorf("sandbox: %w", err)
	}
	const all = unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWPID | unix.CLONE_NEWCGROUP
	flags := all
	if b.spec.Network == NetworkNone {
		flags |= unix.CLONE_NEWNET
	}
	group, err := b.cgroup.again()
	if err != nil {
		return Result{}, fmt.Errorf("sandbox: %w", ErrEnded)
	}
	defer group.close()
	p := &plan{}
	p.diesWithUs()
	group.join(p)
	limits(p, &b.spec, group)
	if err := b.enter(flags); err != nil {
		return Result{}, err
	}
	e := execution{
		args: s.Args, env: s.Env, dir: s.Dir, uid: s.UID, gid: s.GID, groups: s.Groups,
		caps: caps, noNewPrivileges: b.spec.NoNewPrivileges, seccomp: !b.spec.WithoutSeccompUnsafe, stdio: std,
	}
	if err := e.plan(p); err != nil {
		return Result{}, err
	}
	out := &outcome{}
	pid, pidfd, err := p.start(unix.CLONE_VM|unix.CLONE_VFORK, out)
	if err != nil {
		if errors.Is(err, unix.ENOMEM) { // a pid namespace without process 1 takes no more
			err = ErrEnded
		}
		return Result{}, fmt.Errorf("sandbox: creating a process: %w", err)
	}
	defer func() { _ = unix.Close(pidfd) }()
	if err := p.failure(out); err != nil {
		reap(pid)
		return Result{}, e.explain(err)
	}
	std.closeChild()
	var mu sync.Mutex
	alive := true
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		if alive {
			_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		}
	})
	r := resultOf(reap(pid))
	stop()
	mu.Lock()
	alive = false
	mu.Unlock()
	std.finish()
	r.Duration = time.Since(begin)
	return r, nil
}

// enter moves the thread into namespaces of the box.
func (b *Box) enter(flags int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pidfd < 0 {
		return fmt.Errorf("sandbox: %w", ErrEnded)
	}
	if flags&unix.CLONE_NEWNS != 0 {
		// A thread changes its root only when it shares it with no other.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("sandbox: %w", err)
		}
	}
	err := unix.Setns(b.pidfd, flags)
	if errors.Is(err, unix.ESRCH) {
		err = ErrEnded
	}
	if err != nil {
		return fmt.Errorf("sandbox: entering the box: %w", err)
	}
	return nil
}
