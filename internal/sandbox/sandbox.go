// Package sandbox runs programs of a root file system that is not ours in
// Linux namespaces of their own: mount, pid, ipc, uts, network and cgroup. The
// user namespace, where the caller is not root, is entered once by the whole
// program (Enter).
//
// How: a locked operating system thread moves into new namespaces, builds the
// root there with the ordinary Go library (overlay, pivot_root, /dev, /sys,
// mounts) and creates the process with clone3, sharing memory with it like
// vfork. The child makes a prepared list of system calls (mount /proc, mask
// paths, limits, seccomp, capabilities, user, execve) and nothing else, so no
// second start of the calling program is needed, however large it is.
//
// Needs: Linux 5.12 or later (mount_setattr; overlay in a user namespace).
// Without a user namespace of its own (calls by root), uid 0 in a box is uid 0
// outside as well: what holds it are the namespaces, the dropped capabilities,
// the seccomp filter, nodev and the masked paths. Rootless is stronger.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Mount is something else to see inside a box.
type Mount struct {
	// Type is "bind" or "tmpfs".
	Type string
	// Source is the bound file or directory outside; unused with tmpfs.
	Source string
	// Target is the absolute path inside. It is made if missing, and a target
	// made in Spec.Root or Spec.Upper is removed afterwards.
	Target   string
	ReadOnly bool
	// Options are tmpfs options ("size=64m,mode=1777"). For a bind mount
	// "exec" is the only one: devices and setuid never work on a bind mount,
	// and programs only with it or on a read-only one.
	Options string
}

// Networks of a box.
const (
	NetworkNone = ""     // an own network namespace with the loopback device up
	NetworkHost = "host" // the caller's network
)

// Spec says what to run, on what, and what it may do. Nothing is inherited: not
// the environment, not open files, not the session.
type Spec struct {
	// Root is a directory to run on as it is. Exactly one of Root and Layers is set.
	Root string
	// Layers are directories for an overlay, top first. Writes go to Upper (with
	// Work, an empty directory on the same file system), or to a tmpfs that is
	// dropped when Upper is empty.
	Layers      []string
	Upper, Work string
	// ReadOnly makes the root read-only; Mounts are not affected.
	ReadOnly bool
	Mounts   []Mount

	// Args is the program with its arguments; a name without a slash is looked
	// up in the PATH of Env inside the box. It becomes process 1, as container
	// engines do it. Start with no Args makes a box that waits for Exec.
	Args []string
	// Env is the whole environment; PATH is added if it is missing.
	Env []string
	// Dir is the working directory inside; default "/".
	Dir      string
	UID, GID int
	Groups   []int
	// Capabilities are kept ("CAP_CHOWN"), in a program that runs as another
	// user only as a bound for programs with file capabilities. Nil means
	// MaintainerCapabilities for Run, ServiceCapabilities for Start; an empty
	// non-nil list means none.
	Capabilities    []string
	NoNewPrivileges bool
	// WithoutSeccompUnsafe lifts the filter that refuses the system calls a
	// container has no business with (mounts, namespaces, modules, keys...).
	WithoutSeccompUnsafe bool
	Network              string
	// Hostname defaults to "kiln".
	Hostname string

	// Stdin nil reads nothing; Stdout and Stderr nil are dropped.
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	// Memory in bytes and the number of processes at most; 0 is no limit. They
	// are kept by a cgroup where one can be written, else by resource limits,
	// which count otherwise; Result.Notes says so.
	Memory int64
	PIDs   int
}

// Result is how a program ended.
type Result struct {
	// ExitCode is the program's, or 128 + the signal's number.
	ExitCode int
	// Signal is the name of the signal that ended it ("SIGKILL"), or empty.
	Signal   string
	Duration time.Duration
	// Notes say what of the Spec could only be approximated on this machine.
	Notes []string
}

// ErrNotPermitted is wrapped by errors of calls that need namespaces where the
// machine does not give them.
var ErrNotPermitted = errors.New("namespaces are not permitted here")

// Run runs one program in a box of its own and waits for it. An error means
// that the program could not be run, or that ctx ended first, in which case
// everything in the box has been killed; an exit code is a Result.
func Run(ctx context.Context, s Spec) (Result, error) {
	if len(s.Args) == 0 {
		return Result{}, errors.New("sandbox: nothing to run: no arguments")
	}
	if s.Capabilities == nil {
		s.Capabilities = MaintainerCapabilities
	}
	b, err := start(ctx, s)
	if err != nil {
		return Result{}, err
	}
	<-b.Done()
	if err := ctx.Err(); err != nil {
		return b.result, fmt.Errorf("running %s: stopped: %w", s.Args[0], context.Cause(ctx))
	}
	return b.result, nil
}

// Start starts a service, or with no Args an empty box for Exec. The box ends,
// with everything in it, when its first process does, when ctx does, when Stop
// is called, or when the calling program dies, however it dies.
func Start(ctx context.Context, s Spec) (*Box, error) {
	if s.Capabilities == nil {
		s.Capabilities = ServiceCapabilities
	}
	return start(ctx, s)
}
