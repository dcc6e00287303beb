package assemble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"kiln"
	"kiln/internal/capture"
	"kiln/internal/component"
	"kiln/internal/sandbox"
)

const (
	stepTimeout = 10 * time.Minute
	maxScript   = 120 << 10 // Linux refuses arguments over 128 KiB
	maxCapture  = 1 << 20   // of a component command's output
)

// Customise puts what the recipe adds into a tree: groups, users, files, then
// its steps, in that order; afterwards nothing volatile is left. It touches
// nothing outside dir, wherever links in the tree point. Files beside the
// recipe must be as the lock lists them.
func Customise(ctx context.Context, r *kiln.Recipe, lock *kiln.Lock, dir string, o Options) error {
	if o.Run == nil {
		return errNoRun
	}
	at, err := openPlace(dir)
	if err != nil {
		return err
	}
	defer at.close()
	beside, err := os.OpenRoot(or(r.Dir, "."))
	if err != nil {
		return fmt.Errorf("opening the recipe's folder: %w", err)
	}
	defer beside.Close()
	c := &customiser{o: o, at: at, dir: dir, lock: lock, beside: beside}
	if err := c.all(ctx, r); err != nil {
		return fmt.Errorf("customising %s: %w", r.Name, err)
	}
	clean := cleaner{at: at, dir: dir, epoch: lock.Epoch, keep: keptPaths(at, r.Files), report: o.Report}
	if err := clean.all(); err != nil {
		return fmt.Errorf("customising %s: %w", r.Name, err)
	}
	return nil
}

type customiser struct {
	o      Options
	at     *place
	dir    string
	lock   *kiln.Lock
	beside *os.Root
}

func (c *customiser) all(ctx context.Context, r *kiln.Recipe) error {
	accounts, err := readAccounts(c.at, c.lock.Epoch)
	if err != nil {
		return err
	}
	if err := accounts.create(r); err != nil {
		return err
	}
	w := &filer{at: c.at, accounts: accounts, dir: c.beside, locked: c.lock.Files}
	if err := w.all(r.Files); err != nil {
		return err
	}
	if len(r.Steps) == 0 {
		return nil
	}
	restore := func() error { return nil }
	if _, err := c.at.lstat("usr/bin/dpkg"); err == nil {
		if restore, err = allowNoServices(c.at); err != nil {
			return err
		}
	}
	for i, s := range r.Steps {
		if err := c.step(ctx, s); err != nil {
			return fmt.Errorf("steps[%d]%s: %w", i, quoted(s.Name), err)
		}
	}
	return restore()
}

func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" %q", name)
}

func (c *customiser) step(ctx context.Context, s kiln.Step) error {
	limit := s.Timeout.Or(stepTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done after %v; give the step a longer timeout", limit))
	defer cancel()
	if s.Network {
		c.o.Report.Warn(kiln.StationAssemble, "a step uses the network: what it fetches is not in the lock, and the image may not be reproducible")
	}
	switch {
	case s.Run != "":
		return c.script(ctx, s)
	case s.Component != "":
		return c.component(ctx, s)
	}
	return errors.New("one of run and component must be given")
}

// stepEnv is what a step sees: fixed values, then its own.
func (c *customiser) stepEnv(s kiln.Step) []string {
	env := scriptEnv(c.lock.Epoch)
	for _, k := range slices.Sorted(maps.Keys(s.Env)) {
		env = slices.DeleteFunc(env, func(kv string) bool { return len(kv) > len(k) && kv[:len(k)+1] == k+"=" })
		env = append(env, k+"="+s.Env[k])
	}
	return env
}

// spec is a box for a step. With a network it also has the machine's name servers.
func (c *customiser) spec(s kiln.Step, args ...string) sandbox.Spec {
	spec := sandbox.Spec{Root: c.dir, Args: args, Env: c.stepEnv(s), PIDs: maxProcesses}
	if s.Network {
		spec.Network = sandbox.NetworkHost
		if resolver, err := filepath.EvalSymlinks("/etc/resolv.conf"); err == nil {
			spec.Mounts = append(spec.Mounts, sandbox.Mount{Type: "bind", Source: resolver, Target: "/etc/resolv.conf", ReadOnly: true})
		}
	}
	return spec
}

func (c *customiser) script(ctx context.Context, s kiln.Step) error {
	if len(s.Run) > maxScript {
		return fmt.Errorf("the script has %d bytes, more than %d: put it into a file and run that", len(s.Run), maxScript)
	}
	if shell, err := c.at.resolve("bin/sh"); err != nil {
		return err
	} else if _, err := c.at.lstat(shell); err != nil {
		return errors.New("the image has no /bin/sh to run the script with; use files or a base with a shell")
	}
	var out tail
	spec := c.spec(s, "/bin/sh", "-eu", "-c", s.Run)
	spec.Stdout, spec.Stderr = &out, &out
	res, err := c.o.Run(ctx, spec)
	c.at.forget() // the step may have replaced directories
	if err != nil {
		return withOutput(fmt.Errorf("running the script: %w", err), &out)
	}
	if res.ExitCode != 0 {
		return withOutput(fmt.Errorf("the script failed with exit code %d", res.ExitCode), &out)
	}
	return nil
}

func withOutput(err error, out *tail) error {
	if text := out.lines(tailLines); text != "" {
		return fmt.Errorf("%w; its last output:\n%s", err, indent(text))
	}
	return err
}

// component runs the build and validate phases of a component document.
func (c *customiser) component(ctx context.Context, s kiln.Step) error {
	data, err := c.readLocked(s.Component)
	if err != nil {
		return err
	}
	doc, err := component.Parse(data, s.Component)
	if err != nil {
		return err
	}
	doc.Open = c.readLocked // the documents that it names are inputs too
	res, err := doc.Run(ctx, "build,validate", s.Parameters, &stepHost{c: c, step: s})
	c.at.forget()
	if err != nil {
		return err
	}
	if res.OK() {
		return nil
	}
	for _, st := range res.Steps {
		if st.Status == component.Failed {
			var out tail
			_, _ = io.WriteString(&out, st.Stdout+st.Stderr)
			return withOutput(fmt.Errorf("component %s: step %s (%s) of phase %s failed: %s", s.Component, st.Name, st.Action, st.Phase, st.Message), &out)
		}
	}
	return fmt.Errorf("component %s failed", s.Component)
}

func (c *customiser) readLocked(name string) ([]byte, error) {
	name = path.Clean(filepath.ToSlash(name))
	for _, lf := range c.lock.Files {
		if lf.Path != name {
			continue
		}
		f, err := openLocked(c.beside, lf)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, 16<<20))
	}
	return nil, fmt.Errorf("component %s is not in the lock; lock the recipe again", name)
}

// stepHost is where a component's actions happen: the tree.
type stepHost struct {
	c    *customiser
	step kiln.Step
}

func (h *stepHost) Root() string { return h.c.dir }

func (h *stepHost) Exec(ctx context.Context, cmd component.Command) (component.Output, error) {
	if cmd.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cmd.Timeout)
		defer cancel()
	}
	stdout, stderr := capture.Head{Max: maxCapture}, capture.Head{Max: maxCapture}
	spec := h.c.spec(h.step, cmd.Args...)
	spec.Env = append(spec.Env, cmd.Env...)
	spec.Dir, spec.Stdout, spec.Stderr = cmd.Dir, &stdout, &stderr
	spec.Stdin = bytes.NewReader([]byte(cmd.Stdin))
	res, err := h.c.o.Run(ctx, spec)
	return component.Output{ExitCode: res.ExitCode, Stdout: stdout.Bytes(), Stderr: stderr.Bytes()}, err
}
