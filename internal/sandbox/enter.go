package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// enteredVar tells the re-executed program which mount namespace it came from.
const enteredVar = "KILN_ENTERED_FROM"

// entered is set once this process is where Enter brings it.
var entered bool

// Init is the first statement of main, and of every TestMain whose tests use
// this package. In a program that Enter started it notes so and cleans the
// environment; otherwise it does nothing.
func Init() {
	from := os.Getenv(enteredVar)
	if from == "" {
		return
	}
	_ = os.Unsetenv(enteredVar)
	now, err := os.Readlink("/proc/self/ns/mnt")
	entered = err == nil && now != from // a variable that somebody else set proves nothing
}

// Enter makes the program run in a mount namespace of its own, and when it is
// not root in a user namespace as well, where it sees itself as root with the
// identities of its subordinate ranges. Nothing mounted after it can outlive
// the process. As root the program is replaced in place; otherwise it runs as a
// child, and this process passes signals on, and ends as the child does. Enter
// returns nil inside, at once when it is there already, and an error with a
// remedy where the machine refuses.
//
// Call it before anything that must not happen twice.
func Enter() error {
	Init()
	if entered {
		return nil
	}
	from, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return fmt.Errorf("reading our mount namespace: %w", err)
	}
	env := append(os.Environ(), enteredVar+"="+from)
	if privileged() {
		return enterInPlace(env)
	}
	return enterRootless(env)
}

// privileged tells whether this process may mount.
func privileged() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&hdr, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// enterInPlace replaces the program from a thread that has left for a new mount
// namespace: the kernel makes that thread the process.
func enterInPlace(env []string) error {
	failed := make(chan error, 1)
	onThread(func() {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			failed <- explain(fmt.Errorf("making a mount namespace: %w", limited(err)))
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			failed <- explain(fmt.Errorf("making mounts private: %w", err))
			return
		}
		failed <- fmt.Errorf("starting %s again: %w", os.Args[0], unix.Exec(ourProgram(), os.Args, env))
	})
	return <-failed
}

// ourProgram is a path to the running program, under its own name if possible.
func ourProgram() string {
	const self = "/proc/self/exe"
	name, err := os.Executable()
	if err != nil {
		return self
	}
	a, errA := os.Stat(name)
	b, errB := os.Stat(self)
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		return self
	}
	return name
}

// enterRootless starts the program again as root of a user namespace and never
// returns if that works. The child must not execute anything before its
// identities are mapped, since it would lose its capabilities: it waits at a
// pipe for us to have them written.
func enterRootless(env []string) error {
	uid, gid, err := subordinate()
	if err != nil {
		return err
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("making a pipe: %w", err)
	}
	out, err := sharedOutcome()
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 64)
	failed := make(chan error, 1)
	onThread(func() {
		p := rootlessPlan(pipe, env)
		signal.Notify(signals)
		pid, _, err := p.start(unix.CLONE_NEWUSER|unix.CLONE_NEWNS, out)
		_ = unix.Close(pipe[0])
		if err != nil {
			signal.Stop(signals)
			failed <- explain(fmt.Errorf("making a user namespace: %w", limited(err)))
			return
		}
		if err := mapIdentities(pid, uid, gid); err != nil {
			_ = unix.Kill(pid, unix.SIGKILL)
			reap(pid)
			failed <- err
			return
		}
		_, _ = unix.Write(pipe[1], []byte{1})
		_ = unix.Close(pipe[1])
		go passOn(signals, pid)
		ws := reap(pid)
		if err := p.failure(out); err != nil {
			failed <- explain(fmt.Errorf("in the user namespace: %w", err))
			return
		}
		endAs(ws)
	})
	return <-failed
}

// rootlessPlan is the child's way from its creation to our program.
func rootlessPlan(pipe [2]int, env []string) *plan {
	p := &plan{}
	p.add("leaving the pipe's other end", unix.SYS_CLOSE, uintptr(pipe[1]))
	one := ptr(p, [1]byte{})
	p.add("waiting for identities", unix.SYS_READ, uintptr(pipe[0]), one, 1)
	p.add("becoming group 0", unix.SYS_SETRESGID, 0, 0, 0)
	p.add("leaving groups", unix.SYS_SETGROUPS, 0, 0)
	p.add("becoming user 0", unix.SYS_SETRESUID, 0, 0, 0)
	p.add("making mounts private", unix.SYS_MOUNT, 0, p.str("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	p.diesWithUs()
	p.add("starting "+os.Args[0]+" again", unix.SYS_EXECVE, p.str(ourProgram()), p.strs(os.Args), p.strs(env))
	return p
}

// sharedOutcome is an outcome in memory that a child with its own copy of the
// rest shares with us.
func sharedOutcome() (*outcome, error) {
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("sharing a page: %w", err)
	}
	return (*outcome)(unsafe.Pointer(&page[0])), nil
}

// passOn hands signals to the child. Those of the terminal reach it by
// themselves; handling them here keeps us alive until it has ended.
func passOn(signals <-chan os.Signal, pid int) {
	for s := range signals {
		switch s := s.(unix.Signal); s {
		case unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE, unix.SIGTTIN, unix.SIGTTOU:
		case unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP:
			if !foreground() {
				_ = unix.Kill(pid, s)
			}
			if s == unix.SIGTSTP {
				_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
			}
		default:
			_ = unix.Kill(pid, s)
		}
	}
}

// foreground tells whether the terminal, if there is one, sends its signals to us.
func foreground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer func() { _ = tty.Close() }()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// endAs ends this process as its child ended.
func endAs(ws unix.WaitStatus) {
	if ws.Signaled() {
		signal.Reset(ws.Signal())
		_ = unix.Kill(unix.Getpid(), ws.Signal())
		os.Exit(128 + int(ws.Signal()))
	}
	os.Exit(ws.ExitStatus())
}

// idRange is a line of /etc/subuid: identities that belong to a user.
type idRange struct{ first, count int }

// subordinate finds the ranges of the calling user, and the programs that map them.
func subordinate() (uid, gid []idRange, err error) {
	for _, tool := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, nil, fmt.Errorf("running without root needs %s (%w): install the package uidmap, or run as root", tool, ErrNotPermitted)
		}
	}
	name := strconv.Itoa(os.Getuid())
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	if uid, err = readRanges("/etc/subuid", name, os.Getuid()); err != nil {
		return nil, nil, err
	}
	if gid, err = readRanges("/etc/subgid", name, os.Getuid()); err != nil {
		return nil, nil, err
	}
	return uid, gid, nil
}

// neededIDs is what a Debian tree uses: up to 65534, nobody.
const neededIDs = 65536

// readRanges reads the ranges of a user, who is named or numbered.
func readRanges(file, name string, id int) ([]idRange, error) {
	var list []idRange
	total := 0
	for line := range strings.Lines(readSmall(file)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || (f[0] != name && f[0] != strconv.Itoa(id)) {
			continue
		}
		first, err1 := strconv.Atoi(f[1])
		count, err2 := strconv.Atoi(f[2])
		if err1 != nil || err2 != nil || first <= 0 || count <= 0 {
			return nil, fmt.Errorf("%s: cannot read the line %q", file, strings.TrimSpace(line))
		}
		list = append(list, idRange{first, count})
		total += count
	}
	if total < neededIDs-1 {
		return nil, fmt.Errorf("running without root needs %d subordinate ids for %s in %s, found %d (%w): as root, add the line %s:100000:65536, or run as root",
			neededIDs, name, file, total, ErrNotPermitted, name)
	}
	return list, nil
}

// mapIdentities writes the child's maps: root inside is us, the rest our ranges.
func mapIdentities(pid int, uid, gid []idRange) error {
	for _, m := range []struct {
		tool   string
		self   int
		ranges []idRange
	}{{"newuidmap", os.Getuid(), uid}, {"newgidmap", os.Getgid(), gid}} {
		args := []string{strconv.Itoa(pid), "0", strconv.Itoa(m.self), "1"}
		inside := 1
		for _, r := range m.ranges {
			args = append(args, strconv.Itoa(inside), strconv.Itoa(r.first), strconv.Itoa(r.count))
			inside += r.count
		}
		if text, err := exec.Command(m.tool, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("mapping identities (%s %s): %s (%w): check /etc/subuid, /etc/subgid and that %s is setuid; no_new_privs must not be set",
				m.tool, strings.Join(args, " "), strings.TrimSpace(string(text)), ErrNotPermitted, m.tool)
		}
	}
	return nil
}

// Supported returns nil if boxes can be made here (after Enter when not root),
// else one line with the remedy.
func Supported() error {
	if privileged() {
		return probeNamespaces()
	}
	if _, _, err := subordinate(); err != nil {
		return err
	}
	return probeUserNamespace()
}

// probeNamespaces tries what a box needs on a thread that is thrown away.
func probeNamespaces() error {
	c := make(chan error, 1)
	onThread(func() {
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET); err != nil {
			c <- explain(fmt.Errorf("making namespaces: %w", limited(err)))
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			c <- explain(fmt.Errorf("making mounts private: %w", err))
			return
		}
		c <- nil
	})
	return <-c
}

// probeUserNamespace makes a process in a user namespace which ends at once.
func probeUserNamespace() error {
	c := make(chan error, 1)
	onThread(func() {
		p := &plan{}
		p.add("ending", unix.SYS_EXIT_GROUP, 0)
		out, err := sharedOutcome()
		if err != nil {
			c <- err
			return
		}
		pid, pidfd, err := p.start(unix.CLONE_NEWUSER|unix.CLONE_NEWNS, out)
		if err != nil {
			c <- explain(fmt.Errorf("making a user namespace: %w", limited(err)))
			return
		}
		_ = unix.Close(pidfd)
		reap(pid)
		c <- nil
	})
	return <-c
}

// remedy is what a person can do where namespaces are refused.
func remedy() string {
	if inContainer() {
		return "in a container run it with --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined, and --privileged for root"
	}
	if readSmall("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1\n" {
		return "run as root, or allow user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
	}
	return "run as root, or allow user namespaces: sysctl user.max_user_namespaces=10000, and kernel.unprivileged_userns_clone=1 where it exists"
}

// inContainer guesses whether we run in one.
func inContainer() bool {
	for _, f := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(f); !errors.Is(err, os.ErrNotExist) {
			return true
		}
	}
	return os.Getenv("container") != ""
}

// inUserNamespace tells whether our user namespace is not the machine's first.
var inUserNamespace = sync.OnceValue(func() bool {
	f := strings.Fields(readSmall("/proc/self/uid_map"))
	return len(f) < 3 || f[0] != "0" || f[1] != "0" || f[2] != "4294967295"
})

// Engine names the engine and its mode, for documents: who ran something
// decides how much isolation it had.
func Engine() string {
	if inUserNamespace() {
		return "kiln sandbox, user namespace"
	}
	return "kiln sandbox, root"
}
