package assemble

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"kiln/internal/sandbox"
)

// ScriptError says that a maintainer script of a package failed, or that dpkg
// did for another reason.
type ScriptError struct {
	Package string // empty when no single package is to blame
	Script  string // "postinst", "preinst", ...; empty when dpkg itself failed
	Exit    int
	Output  string // the last lines
}

func (e *ScriptError) Error() string {
	what := "dpkg"
	if e.Package != "" && e.Script != "" {
		what = e.Script + " of package " + e.Package
	} else if e.Package != "" {
		what = "dpkg, with package " + e.Package + ","
	}
	return fmt.Sprintf("%s failed with exit code %d; its last output:\n%s", what, e.Exit, indent(e.Output))
}

func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n    ")
}

// tailLines are the lines of output that an error shows.
const tailLines = 30

// tail keeps the last bytes written to it. It is safe for concurrent use.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailBytes = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*tailBytes {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-tailBytes:]...)
	}
	return len(p), nil
}

// text returns everything kept, lines the last n lines of it without control characters.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

func (t *tail) lines(n int) string {
	lines := strings.Split(strings.TrimRight(t.text(), "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, strings.Join(lines, "\n"))
}

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// scriptEnv is the whole environment of dpkg and what it starts: nothing of the caller's.
func scriptEnv(epoch int64) []string {
	return []string{
		"PATH=" + searchPath, "HOME=/root", "LC_ALL=C.UTF-8", "TERM=dumb", "SHELL=/bin/sh", "USER=root", "LOGNAME=root",
		"DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true", "DEBCONF_NOWARNINGS=yes",
		"DPKG_COLORS=never", "PYTHONDONTWRITEBYTECODE=1", "UCF_FORCE_CONFFOLD=YES",
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch),
	}
}

const (
	// scriptsTimeout bounds one run of dpkg with all scripts that it starts: a
	// thousand packages take some minutes, and one that waits for an answer would wait forever.
	scriptsTimeout = time.Hour
	// maxProcesses bounds what scripts and steps can start at once.
	maxProcesses = 16384
)

// inTree runs a command of the tree in the sandbox, without network.
func (a *assembly) inTree(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, scriptsTimeout, fmt.Errorf("the packages' scripts were not done after %v", scriptsTimeout))
	defer cancel()
	var out tail
	res, err := a.o.Run(ctx, sandbox.Spec{
		Root: a.dir, Args: args, Env: scriptEnv(a.epoch), Stdout: &out, Stderr: &out, PIDs: maxProcesses, Mounts: a.inChroot(),
	})
	a.at.forget() // scripts may have replaced directories
	if err != nil {
		return fmt.Errorf("running %s: %w", strings.Join(args[:min(2, len(args))], " "), err)
	}
	if res.ExitCode == 0 {
		return nil
	}
	return blame(res.ExitCode, &out)
}

// inChroot tells package scripts that ask ischroot what is true: this is no
// running system. The sandbox has a process 1 and a root of its own, so the
// program would not notice, and libc6's script would ask that process to restart and wait a second.
func (a *assembly) inChroot() []sandbox.Mount {
	const yes, asked = "usr/bin/true", "usr/bin/ischroot"
	root, err := os.OpenRoot(a.dir) // links that lead out of the tree are not followed
	if err != nil {
		return nil
	}
	defer root.Close()
	for _, p := range []string{yes, asked} {
		if info, err := root.Lstat(p); err != nil || !info.Mode().IsRegular() {
			return nil
		}
	}
	return []sandbox.Mount{{Type: "bind", Source: filepath.Join(a.dir, yes), Target: "/" + asked, ReadOnly: true, Options: "exec"}}
}

var (
	scriptFailed  = regexp.MustCompile(`(?m)^ ?(?:installed|new|old) (\S+) package (\S+) script subprocess (?:returned error exit status|failed with exit code) (\d+)`)
	processFailed = regexp.MustCompile(`(?m)^dpkg: error processing (?:package|archive) (\S+) `)
	preinstFailed = regexp.MustCompile(`(?m)^kiln: preinst of (\S+) failed with (\d+)$`)
)

// blame finds the package and script in dpkg's output.
func blame(exit int, out *tail) error {
	e := &ScriptError{Exit: exit, Output: out.lines(tailLines)}
	text := out.text()
	if m := preinstFailed.FindStringSubmatch(text); m != nil {
		e.Package, e.Script = m[1], "preinst"
		_, _ = fmt.Sscan(m[2], &e.Exit)
		return e
	}
	if m := processFailed.FindStringSubmatch(text); m != nil {
		e.Package = m[1]
	}
	if m := scriptFailed.FindStringSubmatch(text); m != nil {
		e.Script, e.Package = scriptName(m[1], m[2])
		_, _ = fmt.Sscan(m[3], &e.Exit)
	}
	return e
}

// scriptName takes dpkg's two ways to say it: "NAME package post-installation script" and "post-installation script of NAME".
func scriptName(a, b string) (script, pkg string) {
	names := map[string]string{"pre-installation": "preinst", "post-installation": "postinst", "pre-removal": "prerm", "post-removal": "postrm"}
	if s, ok := names[b]; ok {
		return s, a
	}
	return b, a
}

var errNoRun = errors.New("internal error: assemble.Options.Run is not set")
