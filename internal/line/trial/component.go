package trial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kiln"
	"kiln/internal/component"
	"kiln/internal/sandbox"
)

// maxDocument bounds a component or goss file.
const maxDocument = 1 << 20

// readDocument reads a file of the recipe's folder.
func (t *trial) readDocument(name string) ([]byte, error) {
	if t.in.Read != nil {
		return t.in.Read(name)
	}
	file := name
	if !filepath.IsAbs(file) {
		file = filepath.Join(t.in.Dir, name)
	}
	st, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxDocument {
		return nil, fmt.Errorf("%s is not a regular file of at most 1 MiB", name)
	}
	return os.ReadFile(file)
}

// component runs the test phase of an EC2 Image Builder component, as root, as that service does.
func (t *trial) component(ctx context.Context, test kiln.Test) outcome {
	expected := "the test phase of " + test.Component + " succeeds"
	data, err := t.readDocument(test.Component)
	if err != nil {
		return broken(expected, err)
	}
	doc, err := component.Parse(data, test.Component)
	if err != nil {
		return broken(expected, err)
	}
	doc.Open = t.readDocument
	if doc.Phase("test") == nil {
		return broken(expected, errors.New("it has no test phase, so it would test nothing"))
	}
	b, err := t.box(ctx)
	if err != nil {
		return outcome{kiln.Fail, expected, err.Error(), true}
	}
	r, err := doc.Run(ctx, "test", test.Parameters, host{box: b, env: t.environment(t.in.Config.Env, identity{home: "/root"})})
	if err != nil {
		return broken(expected, errors.New(causeOf(ctx, err)))
	}
	observed := describeSteps(r.Steps)
	if !r.OK() {
		return failed(expected, observed)
	}
	if !slices.ContainsFunc(r.Steps, func(s component.StepResult) bool { return s.Status == component.Success }) {
		return failed(expected, "no step of it succeeded, so nothing was tested; "+observed)
	}
	return passed(expected, observed)
}

func describeSteps(steps []component.StepResult) string {
	var s []string
	for _, p := range steps {
		line := p.Name + ": " + p.Status
		if p.Status == component.Failed || p.Status == component.IgnoredFailure {
			line += fmt.Sprintf(" (exit code %d) %s %s", p.ExitCode, p.Message, strings.TrimSpace(p.Stderr))
		}
		s = append(s, strings.TrimSpace(line))
	}
	return strings.Join(s, "; ")
}

// host runs a component's commands in a box.
type host struct {
	box *sandbox.Box
	env []string
}

// Root is the candidate's tree.
func (h host) Root() string { return h.box.Root() }

// Exec runs one command, as root.
func (h host) Exec(ctx context.Context, c component.Command) (component.Output, error) {
	if c.Timeout > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("%s took longer than %v", c.Args[0], c.Timeout.Round(time.Millisecond)))
		defer cancel()
	}
	out, errs := &tail{max: maxOutput}, &tail{max: maxOutput}
	s := sandbox.ExecSpec{Args: c.Args, Env: append(append([]string{}, h.env...), c.Env...), Dir: c.Dir, Stdout: out, Stderr: errs}
	if c.Stdin != "" {
		s.Stdin = strings.NewReader(c.Stdin)
	}
	r, err := h.box.Exec(ctx, s)
	return component.Output{ExitCode: r.ExitCode, Stdout: []byte(out.String()), Stderr: []byte(errs.String())}, err
}
