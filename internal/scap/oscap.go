package scap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kiln"
	"kiln/internal/capture"
)

// Evaluation is one run of the OpenSCAP program.
type Evaluation struct {
	// Content is the path of a data stream.
	Content string
	// Profile is the id of a profile of the content, in full or its last part; empty means the rules the benchmark selects.
	Profile string
	// Tree is the root of the files to look at. The program writes into it: give a fork. Empty means the running system.
	Tree string
	// Distro is the tree's distribution, such as "debian-12"; content for another one is bound to it. Empty binds nothing.
	Distro string
	// Work is an empty directory for the program's files.
	Work string
	// Timeout ends the program; zero means ten minutes.
	Timeout time.Duration
}

// ErrNoProgram says that OpenSCAP is not installed.
var ErrNoProgram = errors.New("the program oscap is not installed")

// Evaluated is what a run gave.
type Evaluated struct {
	Results *Results
	Content *Content
	Bound   string // as in kiln.Comparison
}

// Run evaluates the content. A rule that fails is a result, not an error.
func (e Evaluation) Run(ctx context.Context) (*Evaluated, error) {
	program, err := exec.LookPath("oscap")
	if err != nil {
		return nil, kiln.Misuse(kiln.WithHint(ErrNoProgram, "install openscap-scanner, or give the results of another run with --scap-results"))
	}
	content, err := ReadContentFile(e.Content)
	if err != nil {
		return nil, kiln.Misuse(err)
	}
	out := &Evaluated{Content: content}
	file, profile, err := e.prepare(content, out)
	if err != nil {
		return nil, err
	}
	results := filepath.Join(e.Work, "results.xml")
	args := []string{"xccdf", "eval", "--results", results}
	if profile != "" {
		args = append(args, "--profile", profile)
	}
	if err := e.execute(ctx, program, append(args, file)); err != nil {
		return nil, err
	}
	out.Results, err = ReadResultsFile(results)
	return out, err
}

// prepare resolves the profile and writes content that fits the tree.
func (e Evaluation) prepare(c *Content, out *Evaluated) (file, profile string, err error) {
	b := &c.Benchmarks[0]
	if e.Profile != "" {
		p, owner, err := c.Profile(e.Profile)
		if err != nil {
			return "", "", kiln.Misuse(err)
		}
		b, profile = owner, p.ID
	}
	if file, err = filepath.Abs(e.Content); err != nil {
		return "", "", err
	}
	if Fits(b.Platforms, e.Distro) {
		return file, profile, nil
	}
	out.Bound = fmt.Sprintf("the content is for %s, and was evaluated on %s", strings.Join(b.Platforms, ", "), e.Distro)
	bound := filepath.Join(e.Work, "content.xml")
	return bound, profile, c.bindFile(file, bound)
}

func (c *Content) bindFile(from, to string) error {
	in, err := openFile(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(c.Bind(out, in), out.Close())
}

// vendors are the CPE names of distributions.
var vendors = map[string]string{"debian": "debian:debian_linux", "ubuntu": "canonical:ubuntu_linux"}

// Fits reports whether content for these platforms is made for the distribution
// ("debian-12"). No platforms fit everything; an unknown distribution fits everything.
func Fits(platforms []string, distro string) bool {
	id, release, ok := strings.Cut(distro, "-")
	if len(platforms) == 0 || !ok {
		return true
	}
	vendor := vendors[id]
	if vendor == "" {
		vendor = id + ":" + id
	}
	for _, p := range platforms {
		name, found := strings.CutPrefix(p, "cpe:/o:"+vendor)
		version, _ := strings.CutPrefix(name, ":")
		version, _, _ = strings.Cut(version, ":")
		if found && (version == "" || version == release) {
			return true
		}
	}
	return false
}

const (
	maxMemory = 4 << 30 // address space of the program, bytes
	maxWrite  = 1 << 30 // of one file that it writes
	maxErrors = 16 << 10
)

// aptAlone is an apt configuration that keeps this machine's own from being read after it: a docker-clean there takes
// the cache away without which the program finds no package at all, and does not say so.
const aptAlone = "Dir::Etc::parts \"/dev/null\";\nDir::Etc::main \"/dev/null\";\n"

// execute runs the program beside this machine's apt configuration. It keeps this
// network name space, since a probe fails without one.
func (e Evaluation) execute(ctx context.Context, program string, args []string) error {
	timeout := e.Timeout
	if timeout == 0 {
		timeout = 10 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	apt := filepath.Join(e.Work, "apt.conf")
	if err := os.WriteFile(apt, []byte(aptAlone), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = e.Work
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
		"HOME=" + e.Work, "TMPDIR=" + e.Work, "APT_CONFIG=" + apt,
	}
	if e.Tree != "" {
		cmd.Env = append(cmd.Env, "OSCAP_PROBE_ROOT="+e.Tree)
	}
	complaints := &capture.Head{Max: maxErrors}
	cmd.Stderr = complaints
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting oscap: %w", err)
	}
	confine(cmd.Process.Pid)
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("running oscap: stopped after %s: %w", timeout, context.Cause(ctx))
	case err == nil, errors.As(err, &exit) && exit.ExitCode() == 2: // 2: a rule failed
		return nil
	}
	return fmt.Errorf("running oscap: %w: %s", err, strings.TrimSpace(complaints.String()))
}

// confine bounds what hostile content or files can make the program take. It is set right after the start, which is
// soon enough: reading the content takes longer.
func confine(pid int) {
	for resource, most := range map[int]uint64{unix.RLIMIT_AS: maxMemory, unix.RLIMIT_FSIZE: maxWrite, unix.RLIMIT_CORE: 0} {
		_ = unix.Prlimit(pid, resource, &unix.Rlimit{Cur: most, Max: most}, nil) // a program that has ended needs no bounds
	}
}
