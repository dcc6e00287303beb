package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maskedFiles and maskedDirs show things of the host under /proc; readOnlyPaths
// would let uid 0 change the host. The lists are those of container engines.
var (
	maskedFiles = []string{
		"/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
		"/proc/interrupts", "/proc/kallsyms", "/proc/kmsg",
	}
	maskedDirs    = []string{"/proc/acpi", "/proc/asound", "/proc/scsi", "/proc/bus"}
	readOnlyPaths = []string{"/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// Descriptors of open files that a program may have; the hard limit stays the caller's.
const openFiles = 65536

// firstProcess starts process 1 of the box, in the namespaces of this thread.
func (w *builder) firstProcess(b *Box) error {
	p := &plan{}
	p.diesWithUs()
	w.cgroup.join(p)
	b.cgroup = w.cgroup
	p.try("entering a cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	p.proc()
	p.leave(w.old)
	e := execution{
		args: w.spec.Args, env: w.spec.Env, dir: w.spec.Dir, uid: w.spec.UID, gid: w.spec.GID, groups: w.spec.Groups,
		caps: w.caps, noNewPrivileges: w.spec.NoNewPrivileges, seccomp: !w.spec.WithoutSeccompUnsafe, stdio: w.stdio,
	}
	w.notes = append(w.notes, limits(p, &w.spec, w.cgroup)...)
	if err := e.plan(p); err != nil {
		return err
	}
	out := &outcome{}
	pid, pidfd, err := p.start(unix.CLONE_VM|unix.CLONE_VFORK|unix.CLONE_NEWPID, out)
	if err != nil {
		return explain(fmt.Errorf("sandbox: creating a process: %w", limited(err)))
	}
	if err := p.failure(out); err != nil {
		reap(pid)
		_ = unix.Close(pidfd)
		return e.explain(err)
	}
	w.stdio.closeChild()
	b.pid, b.pidfd = pid, pidfd
	b.waits = len(w.spec.Args) == 0
	return nil
}

// limits sets resource limits: no core dumps, a sane number of open files, and
// what stands in for a cgroup, which it reports.
func limits(p *plan, s *Spec, c *cgroup) (notes []string) {
	p.try("setting the core limit", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, ptr(p, unix.Rlimit{}), 0)
	var now unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &now) == nil {
		now.Cur = min(now.Max, openFiles)
		p.try("setting the limit of open files", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, ptr(p, now), 0)
	}
	if s.Memory > 0 && (c == nil || !c.memory) {
		notes = append(notes, "memory is limited per process (no memory cgroup can be written here)")
		l := unix.Rlimit{Cur: uint64(s.Memory), Max: uint64(s.Memory)}
		p.add("limiting memory", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_DATA, ptr(p, l), 0)
	}
	if s.PIDs > 0 && (c == nil || !c.pids) {
		notes = append(notes, "processes are limited per user (no pids cgroup can be written here)")
		l := unix.Rlimit{Cur: uint64(s.PIDs), Max: uint64(s.PIDs)}
		p.add("limiting processes", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NPROC, ptr(p, l), 0)
	}
	return notes
}

// diesWithUs has the kernel kill the process when the thread that made it ends.
func (p *plan) diesWithUs() {
	p.add("tying its life to ours", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
}

// callerLives ends the process if the caller died before the kernel knew that
// it should tell.
func (p *plan) callerLives() error {
	fd, err := ourselves()
	if err != nil {
		return fmt.Errorf("sandbox: opening our own process: %w", err)
	}
	p.zero("finding the caller alive", unix.SYS_PPOLL, ptr(p, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}), 1, ptr(p, unix.Timespec{}), 0, 8)
	return nil
}

// ourselves is a descriptor of this process, kept open.
var ourselves = sync.OnceValues(func() (int, error) { return unix.PidfdOpen(unix.Getpid(), 0) })

// proc mounts /proc, which only a process of the new pid namespace can.
func (p *plan) proc() {
	p.add("mounting /proc", unix.SYS_MOUNT, p.str("proc"), p.str("/proc"), p.str("proc"), noFiles, 0)
	null, tmpfs := p.str("/dev/null"), p.str("tmpfs")
	for _, f := range maskedFiles {
		p.try("masking "+f, unix.SYS_MOUNT, null, p.str(f), 0, unix.MS_BIND, 0)
	}
	for _, d := range maskedDirs {
		p.try("masking "+d, unix.SYS_MOUNT, tmpfs, p.str(d), tmpfs, noFiles|unix.MS_RDONLY, p.str("size=4k"))
	}
	for _, d := range readOnlyPaths {
		a := p.str(d)
		p.try("binding "+d, unix.SYS_MOUNT, a, a, 0, unix.MS_BIND|unix.MS_REC, 0)
		p.try("protecting "+d, unix.SYS_MOUNT, 0, a, 0, unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|noFiles, 0)
	}
}

// leave unmounts the old root, which lies above the new one.
func (p *plan) leave(old int) {
	p.add("going to the old root", unix.SYS_FCHDIR, uintptr(old))
	p.add("leaving the old root", unix.SYS_UMOUNT2, p.str("."), unix.MNT_DETACH)
	p.add("going to the new root", unix.SYS_CHDIR, p.str("/"))
}

// execution is the part of a process's life that is the same for the first
// one of a box and for later ones: who it is, what it may do, what it runs.
type execution struct {
	args, env       []string
	dir             string
	uid, gid        int
	groups          []int
	caps            uint64
	noNewPrivileges bool
	seccomp         bool
	stdio           *stdio
	path            string
}

// plan appends the steps. The thread's root is already the box's.
func (e *execution) plan(p *plan) error {
	if err := e.lookup(); err != nil {
		return err
	}
	for i, fd := range e.stdio.child {
		p.add("connecting standard streams", unix.SYS_DUP3, uintptr(fd), uintptr(i), 0)
	}
	p.add("hiding open files", unix.SYS_CLOSE_RANGE, 3, 0xffffffff, unix.CLOSE_RANGE_CLOEXEC)
	p.try("leaving the session's keyring", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0)
	p.add("starting a session", unix.SYS_SETSID)
	p.try("setting the umask", unix.SYS_UMASK, 0o022)
	p.add("entering "+e.dir, unix.SYS_CHDIR, p.str(e.dir))
	if e.seccomp {
		// While we still may without no-new-privileges; nothing below needs what it refuses.
		if err := p.filter(); err != nil {
			return err
		}
	}
	e.identity(p)
	p.diesWithUs() // a change of user makes the kernel forget it
	if e.noNewPrivileges {
		p.add("forbidding new privileges", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	}
	if err := p.callerLives(); err != nil {
		return err
	}
	return e.program(p)
}

// filter installs the seccomp program.
func (p *plan) filter() error {
	prog, err := filter()
	if err != nil {
		return err
	}
	p.keep = append(p.keep, prog)
	fprog := ptr(p, unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
	p.add("installing the seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, fprog)
	return nil
}

// identity drops capabilities and becomes the user.
func (e *execution) identity(p *plan) {
	for c := range uintptr(lastCapability) {
		if e.caps&(1<<c) == 0 {
			p.try("dropping a capability", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c)
		}
	}
	p.try("clearing ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	groups := make([]uint32, len(e.groups), len(e.groups)+1)
	for i, g := range e.groups {
		groups[i] = uint32(g)
	}
	p.keep = append(p.keep, groups)
	p.add("setting groups", unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))))
	p.add(fmt.Sprintf("becoming group %d", e.gid), unix.SYS_SETRESGID, uintptr(e.gid), uintptr(e.gid), uintptr(e.gid))
	p.add(fmt.Sprintf("becoming user %d", e.uid), unix.SYS_SETRESUID, uintptr(e.uid), uintptr(e.uid), uintptr(e.uid))
	caps := e.caps
	if e.uid != 0 {
		caps = 0
	}
	data := [2]unix.CapUserData{{Effective: uint32(caps), Permitted: uint32(caps)}, {Effective: uint32(caps >> 32), Permitted: uint32(caps >> 32)}}
	p.add("setting capabilities", unix.SYS_CAPSET, ptr(p, unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}), ptr(p, data))
}

// program appends the step that starts the program.
func (e *execution) program(p *plan) error {
	if len(e.args) == 0 {
		return p.pause()
	}
	for _, s := range slices.Concat(e.args, e.env) {
		if strings.IndexByte(s, 0) >= 0 {
			return fmt.Errorf("running %s: an argument or environment variable holds a NUL byte", e.args[0])
		}
	}
	p.add("running "+e.args[0], unix.SYS_EXECVE, p.str(e.path), p.strs(e.args), p.strs(e.env))
	return nil
}

// lookup finds the program in the box.
func (e *execution) lookup() error {
	if len(e.args) == 0 {
		return nil
	}
	name := e.args[0]
	if strings.Contains(name, "/") {
		e.path = name
		return nil
	}
	var path string
	for _, v := range e.env {
		if p, ok := strings.CutPrefix(v, "PATH="); ok {
			path = p
		}
	}
	for _, d := range filepath.SplitList(path) {
		if !filepath.IsAbs(d) {
			continue
		}
		f := filepath.Join(d, name)
		if st, err := os.Stat(f); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			e.path = f
			return nil
		}
	}
	return &NotFoundError{Program: name, Path: path}
}

// NotFoundError is a program that the box does not have.
type NotFoundError struct{ Program, Path string }

func (e *NotFoundError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("running %s: no such program in the image", e.Program)
	}
	return fmt.Sprintf("running %s: no such program in the image (looked in %s)", e.Program, e.Path)
}

func (e *NotFoundError) Unwrap() error { return fs.ErrNotExist }

// explain says more about a step that failed than the kernel does.
func (e *execution) explain(err error) error {
	var s *stepError
	if !errors.As(err, &s) {
		return err
	}
	if s.last && errors.Is(err, unix.ENOENT) {
		if _, statErr := os.Stat(e.path); statErr != nil {
			return &NotFoundError{Program: e.args[0]}
		}
		return fmt.Errorf("running %s: the interpreter or dynamic loader that it names is not in the image: %w", e.args[0], s.err)
	}
	if s.last {
		return err
	}
	return explain(fmt.Errorf("sandbox: %w", err))
}

func reap(pid int) unix.WaitStatus {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			return ws
		}
	}
}
