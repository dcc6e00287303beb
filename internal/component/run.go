package component

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kiln/internal/strictyaml"
)

// Host is where a document's actions happen.
type Host interface {
	// Exec runs a command inside; its error means that the command could not be run at all.
	Exec(ctx context.Context, c Command) (Output, error)
	// Root is the folder of the tree, for file actions.
	Root() string
}

// Command is one command for a host.
type Command struct {
	Args    []string
	Dir     string
	Env     []string
	Stdin   string
	Timeout time.Duration // 0 means none
}

// Output is what a command left behind. A host bounds it.
type Output struct {
	ExitCode int
	Stdout   []byte
	Stderr   []byte
}

// Statuses of steps and results.
const (
	Success        = "Success"
	Failed         = "Failed"
	Skipped        = "Skipped"
	IgnoredFailure = "IgnoredFailure"
	// SuccessWithIgnoredFailure is a result's status only; it is a success.
	SuccessWithIgnoredFailure = "SuccessWithIgnoredFailure"
)

// Result is how a run went. A failed step is a result, not an error.
type Result struct {
	Document string
	Phase    string
	Status   string // Success, SuccessWithIgnoredFailure, Failed
	Steps    []StepResult
}

// OK reports whether the run counts as a success.
func (r Result) OK() bool { return r.Status != Failed }

// StepResult is how one step went. Its texts are bounded to their last 64 KiB.
type StepResult struct {
	Phase    string
	Name     string
	Action   string
	Status   string // Success, Failed, Skipped, IgnoredFailure
	ExitCode int    // of the last command
	Stdout   string
	Stderr   string
	Message  string // why it failed or was skipped
	Attempts int
	Duration time.Duration
	// Steps are those of a nested document.
	Steps []StepResult
}

const (
	maxKept   = 64 << 10 // of a step's output in its result
	maxText   = 1 << 20  // of an output for chaining, and of any text
	maxScript = 100 << 10
	maxNested = 3
)

// run is one run of a document's phases on a host.
type run struct {
	ctx       context.Context
	doc       *Document
	host      Host
	root      *os.Root
	values    map[string]string // parameters and constants
	records   map[string]record // by "phase.step"
	depth     int
	iteration *iteration
	step      *StepResult
	outputs   map[string][]string // of the attempt, one for each iteration
	deadline  time.Time
}

type record struct {
	inputs  *strictyaml.Node
	outputs map[string]string
}

type iteration struct {
	name  string
	index int
	value string
}

// Run runs a phase, or several that share their outputs when phase is a comma
// list ("build,validate"), in the document's order. A phase that the document
// lacks is no error: its result has no steps. The error is for what could not be run: bad
// parameters, a cancelled context, an unreadable tree.
func (d *Document) Run(ctx context.Context, phase string, params map[string]string, h Host) (Result, error) {
	values, err := d.values(params)
	if err != nil {
		return Result{}, err
	}
	root, err := os.OpenRoot(h.Root())
	if err != nil {
		return Result{}, fmt.Errorf("running component %s: opening the tree: %w", d.title(), err)
	}
	defer root.Close()
	x := &run{ctx: ctx, doc: d, host: h, root: root, values: values, records: map[string]record{}}
	return x.phases(strings.Split(phase, ","))
}

func (d *Document) title() string {
	if d.Name != "" {
		return d.Name
	}
	return d.File
}

// values checks the parameters given and adds defaults and constants.
func (d *Document) values(params map[string]string) (map[string]string, error) {
	values := map[string]string{}
	for name, v := range d.Constants {
		values[name] = v
	}
	for _, p := range d.Parameters {
		v, given := params[p.Name]
		switch {
		case !given && p.Default == nil:
			return nil, fmt.Errorf("component %s: parameter %s has no default and was not given", d.title(), p.Name)
		case !given:
			v = *p.Default
		}
		if len(p.Allowed) > 0 && !slices.Contains(p.Allowed, v) {
			return nil, fmt.Errorf("component %s: parameter %s is %q; allowed are %s", d.title(), p.Name, strictyaml.Clip(v, 60), strings.Join(p.Allowed, ", "))
		}
		values[p.Name] = v
	}
	for name := range params {
		if d.parameter(name) == nil {
			return nil, fmt.Errorf("component %s: there is no parameter %s", d.title(), strictyaml.Clip(name, 60))
		}
	}
	return values, nil
}

func (x *run) phases(names []string) (Result, error) {
	result := Result{Document: x.doc.title(), Phase: strings.Join(names, ","), Status: Success}
	for i := range x.doc.Phases {
		p := &x.doc.Phases[i]
		if !slices.ContainsFunc(names, func(n string) bool { return strings.TrimSpace(n) == p.Name }) {
			continue
		}
		for j := range p.Steps {
			s := &p.Steps[j]
			sr := x.runStep(p.Name, s)
			result.Steps = append(result.Steps, sr)
			if err := x.ctx.Err(); err != nil {
				result.Status = Failed
				return result, fmt.Errorf("running component %s: %w", x.doc.title(), err)
			}
			switch sr.Status {
			case Failed:
				result.Status = Failed
				if s.OnFailure == Abort {
					return result, nil
				}
			case IgnoredFailure:
				if result.Status == Success {
					result.Status = SuccessWithIgnoredFailure
				}
			}
		}
	}
	return result, nil
}

func (x *run) runStep(phase string, s *Step) StepResult {
	start := time.Now()
	result := StepResult{Phase: phase, Name: s.Name, Action: s.Action, Status: Success}
	x.step = &result
	finish := func(status, message string) StepResult {
		result.Status, result.Message, result.Duration = status, message, time.Since(start)
		return result
	}
	failure := Failed
	if s.OnFailure == Ignore {
		failure = IgnoredFailure
	}
	switch do, err := x.decide(s); {
	case err != nil:
		return finish(failure, "if: "+err.Error())
	case do == "Skip":
		return finish(Skipped, "its condition says so")
	case do == "Abort":
		return finish(failure, "its condition aborts it")
	}
	var err error
	for result.Attempts = 1; ; result.Attempts++ {
		if err = x.attempt(phase, s); err == nil {
			return finish(Success, "")
		}
		if result.Attempts >= s.MaxAttempts || x.ctx.Err() != nil {
			return finish(failure, err.Error())
		}
	}
}

func (x *run) decide(s *Step) (string, error) {
	if s.condition == nil {
		return "Execute", nil
	}
	x.iteration = nil
	ok, err := x.holds(s.condition.test)
	if ok {
		return s.condition.then, err
	}
	return s.condition.otherwise, err
}

// attempt runs all iterations once, within the step's time.
func (x *run) attempt(phase string, s *Step) error {
	iterations, err := x.iterations(s.loop)
	if err != nil {
		return err
	}
	outer := x.ctx
	defer func() { x.ctx, x.iteration = outer, nil }()
	x.deadline = time.Time{}
	if s.Timeout > 0 {
		ctx, cancel := context.WithTimeout(outer, s.Timeout)
		defer cancel()
		x.ctx = ctx
		x.deadline = time.Now().Add(s.Timeout)
	}
	x.outputs = map[string][]string{}
	var inputs *strictyaml.Node
	for i := range iterations {
		x.iteration = iterations[i]
		if inputs, err = x.once(s); err == nil {
			err = x.ctx.Err()
		}
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("ran longer than %s", s.Timeout)
		case err != nil && s.loop != nil:
			return fmt.Errorf("iteration %d: %w", i, err)
		case err != nil:
			return err
		}
	}
	rec := record{inputs: inputs, outputs: map[string]string{}}
	for name, list := range x.outputs {
		rec.outputs[name] = strings.Join(list, "\n")
	}
	x.records[phase+"."+s.Name] = rec
	return nil
}

// iterations returns nil as the only iteration of a step without a loop.
func (x *run) iterations(l *loop) ([]*iteration, error) {
	if l == nil {
		return []*iteration{nil}, nil
	}
	var values []string
	switch {
	case l.integers:
		for i := l.start; l.by > 0 && i <= l.end || l.by < 0 && i >= l.end; i += l.by {
			values = append(values, fmt.Sprint(i))
		}
	case l.list != nil:
		for _, n := range l.list {
			v, err := x.resolve(n.Text)
			if err != nil {
				return nil, err
			}
			values = append(values, v)
		}
	default:
		joined, err := x.resolve(l.joined)
		if err != nil {
			return nil, err
		}
		values = strings.Split(joined, l.delimiter)
	}
	if len(values) > maxIterations {
		return nil, fmt.Errorf("the loop has more than %d iterations", maxIterations)
	}
	list := make([]*iteration, len(values))
	for i, v := range values {
		list[i] = &iteration{name: l.name, index: i, value: v}
	}
	return list, nil
}

// once runs the action for the current iteration and returns its resolved inputs.
func (x *run) once(s *Step) (*strictyaml.Node, error) {
	if s.Action == "Assert" {
		return nil, x.assert(s.inputs)
	}
	inputs, err := x.resolved(s.inputs)
	if err != nil {
		return nil, err
	}
	a := actions()[s.Action]
	if !a.list {
		return inputs, a.run(x, input{inputs})
	}
	for i, item := range inputs.Items {
		if err := x.ctx.Err(); err != nil {
			return nil, err
		}
		if err := a.run(x, input{item}); err != nil {
			if len(inputs.Items) > 1 {
				err = fmt.Errorf("inputs[%d]: %w", i, err)
			}
			return nil, err
		}
	}
	return inputs, nil
}

func (x *run) assert(inputs *strictyaml.Node) error {
	list := []*strictyaml.Node{inputs}
	if inputs.Kind == strictyaml.Sequence {
		list = inputs.Items
	}
	for _, n := range list {
		ok, err := x.holds(n)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("the assertion %s in line %d is false", operatorOf(n), n.Line)
		}
	}
	return nil
}

// input reads resolved inputs.
type input struct{ n *strictyaml.Node }

func (i input) text(key string) string {
	if n := i.n.Get(key); n != nil {
		return n.Text
	}
	return ""
}

func (i input) flag(key string, def bool) bool {
	if n := i.n.Get(key); n != nil {
		return n.Text == "true"
	}
	return def
}

func (i input) texts(key string) []string {
	n := i.n.Get(key)
	if n == nil {
		return nil
	}
	if n.Scalar() {
		return []string{n.Text}
	}
	list := make([]string, len(n.Items))
	for j, item := range n.Items {
		list[j] = item.Text
	}
	return list
}

// sudo lets documents written for an instance's ordinary user run in an image without sudo: actions run as root here too.
const sudo = `command -v sudo >/dev/null 2>&1 || sudo() { while :; do case "$1" in -E|-H|-n|-i|--) shift;; -u) shift; local u="$1"; shift; runuser -u "$u" -- "$@"; return;; *) break;; esac; done; "$@"; }; `

func (x *run) executeBash(in input) error {
	script := strings.Join(in.texts("commands"), "\n")
	if len(script) > maxScript {
		return fmt.Errorf("the commands are longer than %d KiB; split the step", maxScript>>10)
	}
	if strings.Contains(script, "sudo") {
		script = sudo + script
	}
	return x.execute([]string{"/bin/bash", "-c", script}, "the image has no /bin/bash")
}

func (x *run) executeBinary(in input) error {
	return x.execute(append([]string{in.text("path")}, in.texts("arguments")...), in.text("path")+" was not found in the image")
}

// reboot is the exit status by which a script asks an instance to reboot.
const reboot = 194

func (x *run) execute(args []string, missing string) error {
	c := Command{Args: args, Dir: "/", Env: []string{"PATH=" + searchPath, "HOME=/root"}}
	if !x.deadline.IsZero() {
		c.Timeout = max(time.Until(x.deadline), time.Millisecond)
	}
	out, err := x.host.Exec(x.ctx, c)
	x.step.Stdout = tail(x.step.Stdout + string(out.Stdout))
	x.step.Stderr = tail(x.step.Stderr + string(out.Stderr))
	x.step.ExitCode = out.ExitCode
	switch {
	case errors.Is(err, os.ErrNotExist):
		return errors.New(missing)
	case err != nil:
		return err
	case x.ctx.Err() != nil:
		return x.ctx.Err()
	case out.ExitCode == 127 && len(out.Stdout) == 0 && len(out.Stderr) == 0:
		return errors.New(missing)
	case out.ExitCode == reboot:
		return errors.New("asked for a reboot (exit status 194), and an image is never booted")
	case out.ExitCode != 0:
		return fmt.Errorf("exit status %d%s", out.ExitCode, lastLine(out.Stderr))
	case len(out.Stdout) > maxText:
		return fmt.Errorf("wrote more than %d KiB to its standard output", maxText>>10)
	}
	x.output("stdout", strings.TrimRight(string(out.Stdout), "\n"))
	return nil
}

func (x *run) output(name, value string) { x.outputs[name] = append(x.outputs[name], value) }

func tail(s string) string {
	if len(s) > maxKept {
		s = s[len(s)-maxKept:]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func lastLine(stderr []byte) string {
	lines := strings.Split(strings.TrimSpace(string(stderr)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return ": " + strings.ToValidUTF8(strictyaml.Clip(last, 200), "\uFFFD")
	}
	return ""
}

// executeDocument runs another document beside this one.
func (x *run) executeDocument(in input) error {
	if x.depth >= maxNested {
		return fmt.Errorf("documents are nested deeper than %d", maxNested)
	}
	name := in.text("document")
	if err := checkDocument(name); err != nil {
		return err
	}
	d, err := x.loadNested(localDocument(name))
	if err != nil {
		return err
	}
	params := map[string]string{}
	if list := in.n.Get("parameters"); list != nil {
		for _, p := range list.Items {
			params[input{p}.text("name")] = input{p}.text("value")
		}
	}
	values, err := d.values(params)
	if err != nil {
		return err
	}
	var phases []string
	for _, p := range d.Phases {
		phases = append(phases, p.Name)
	}
	if only := in.text("phases"); only != "" {
		phases = strings.Split(only, ",")
	}
	nested := &run{ctx: x.ctx, doc: d, host: x.host, root: x.root, values: values, records: map[string]record{}, depth: x.depth + 1}
	result, err := nested.phases(phases)
	x.step.Steps = append(x.step.Steps, result.Steps...)
	switch {
	case err != nil:
		return err
	case !result.OK():
		return fmt.Errorf("document %s failed", name)
	}
	return nil
}

// loadNested reads a document beside this one. Its own nested documents are read the same way.
func (x *run) loadNested(name string) (*Document, error) {
	open := x.doc.Open
	if open == nil {
		open = openBeside(filepath.Dir(x.doc.File))
	}
	file := filepath.Join(filepath.Dir(x.doc.File), name)
	data, err := open(file)
	if err != nil {
		return nil, fmt.Errorf("reading document %s: %w", name, err)
	}
	d, err := Parse(data, file)
	if err != nil {
		return nil, err
	}
	d.Open = open
	return d, nil
}

// openBeside reads regular files of a folder, and nothing that a link or .. would reach outside it.
func openBeside(folder string) func(string) ([]byte, error) {
	return func(file string) ([]byte, error) {
		dir, err := os.OpenRoot(folder)
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		name, err := filepath.Rel(folder, file)
		if err != nil {
			return nil, err
		}
		info, err := dir.Stat(name)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() || info.Size() > strictyaml.MaxSize {
			return nil, fmt.Errorf("it is no regular file of at most %d KiB", strictyaml.MaxSize>>10)
		}
		return dir.ReadFile(name)
	}
}
