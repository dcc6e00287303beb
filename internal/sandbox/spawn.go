package sandbox

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A step is one system call that a new process makes between its creation and
// the start of its program. The layout is known to the assembly.
type step struct {
	nr   uintptr
	args [6]uintptr
	want uintptr
}

// What a step must return.
const (
	mustSucceed = iota
	mayFail
	mustBeZero
)

// outcome is where the child says which step stopped it.
type outcome struct {
	step  uintptr // address of the step, 0 if none failed
	value uintptr // what the system call returned
}

// cloneArgs is the kernel's struct clone_args.
type cloneArgs struct {
	flags, pidfd uint64
	_, _         uint64 // child_tid, parent_tid
	exitSignal   uint64
	_            [6]uint64 // stack, stack_size, tls, set_tid, set_tid_size, cgroup
}

// spawn creates a process which makes the system calls of steps and, should
// none of them start a program, exits with 0. It returns what clone3 did.
//
//go:noescape
func spawn(cl *cloneArgs, size uintptr, steps *step, n uintptr, out *outcome) uintptr

// A plan is the life of a new process up to its program: a list of system
// calls and nothing else, since a Go program cannot run Go code in a child that
// shares its memory. Everything that needs thought is done before.
type plan struct {
	steps []step
	names []string
	keep  []any // what the arguments point to
}

// add appends a system call which must succeed.
func (p *plan) add(name string, nr uintptr, args ...uintptr) { p.append(name, mustSucceed, nr, args) }

// try appends a system call whose failure does not matter.
func (p *plan) try(name string, nr uintptr, args ...uintptr) { p.append(name, mayFail, nr, args) }

// zero appends a system call which must return 0.
func (p *plan) zero(name string, nr uintptr, args ...uintptr) { p.append(name, mustBeZero, nr, args) }

func (p *plan) append(name string, want, nr uintptr, args []uintptr) {
	s := step{nr: nr, want: want}
	copy(s.args[:], args)
	p.steps = append(p.steps, s)
	p.names = append(p.names, name)
}

// str returns the address of a NUL-terminated copy of s that lives as long as the plan.
func (p *plan) str(s string) uintptr {
	b := make([]byte, len(s)+1)
	copy(b, s)
	p.keep = append(p.keep, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

// strs returns the address of a NULL-terminated array of strings.
func (p *plan) strs(list []string) uintptr {
	a := make([]uintptr, len(list)+1)
	for i, s := range list {
		a[i] = p.str(s)
	}
	p.keep = append(p.keep, a)
	return uintptr(unsafe.Pointer(&a[0]))
}

// ptr returns the address of a value on the heap that lives as long as the plan.
func ptr[T any](p *plan, v T) uintptr {
	h := new(T)
	*h = v
	p.keep = append(p.keep, h)
	return uintptr(unsafe.Pointer(h))
}

// Signal numbers end at 64 on Linux: one word.
const allSignals = ^uint64(0)

// start creates the process. With CLONE_VM in flags (which needs CLONE_VFORK)
// it returns when the program runs or a step failed; the memory that out is in
// must be shared with the child. It must be called on a locked thread.
func (p *plan) start(flags uint64, out *outcome) (pid, pidfd int, err error) {
	// The child runs with our signal handlers gone and all signals blocked
	// until its last step but one, so that no Go handler ever runs in it.
	p.insertUnblock()
	fd := new(int32)
	cl := &cloneArgs{flags: flags | unix.CLONE_PIDFD | unix.CLONE_CLEAR_SIGHAND, exitSignal: uint64(unix.SIGCHLD)}
	cl.pidfd = uint64(uintptr(unsafe.Pointer(fd)))
	p.keep = append(p.keep, fd, cl, out) // on the heap, where nothing moves
	var old unix.Sigset_t
	all := unix.Sigset_t{}
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return 0, -1, fmt.Errorf("blocking signals: %w", err)
	}
	r := spawn(cl, unsafe.Sizeof(*cl), &p.steps[0], uintptr(len(p.steps)), out)
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	runtime.KeepAlive(p)
	if e := -int(r); e > 0 {
		return 0, -1, unix.Errno(e)
	}
	return int(r), int(*fd), nil
}

// insertUnblock puts the step that unblocks signals before the last one.
func (p *plan) insertUnblock() {
	none := ptr(p, uint64(0))
	p.add("unblocking signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, none, 0, unsafe.Sizeof(allSignals))
	n := len(p.steps)
	if n > 1 {
		p.steps[n-1], p.steps[n-2] = p.steps[n-2], p.steps[n-1]
		p.names[n-1], p.names[n-2] = p.names[n-2], p.names[n-1]
	}
}

// failure tells which step stopped the child; nil if none did.
func (p *plan) failure(out *outcome) error {
	if out.step == 0 {
		return nil
	}
	i := int(out.step-uintptr(unsafe.Pointer(&p.steps[0]))) / int(unsafe.Sizeof(step{}))
	if i < 0 || i >= len(p.names) {
		return fmt.Errorf("internal error: the child failed in no known step")
	}
	if e := -int(out.value); e > 0 {
		return &stepError{name: p.names[i], last: i == len(p.names)-1, err: unix.Errno(e)}
	}
	return &stepError{name: p.names[i], err: unix.ECANCELED}
}

// stepError is a system call of a plan that failed.
type stepError struct {
	name string
	last bool // it was to start the program
	err  error
}

func (e *stepError) Error() string { return e.name + ": " + e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }
