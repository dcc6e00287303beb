// Package trial starts a candidate cold in the sandbox, as a container engine
// would start the image, and runs the recipe's tests against it.
//
// The entrypoint runs as process 1 with the image's user, environment, working
// directory and the usual capabilities, in a network of its own in which only
// loopback exists; tests connect from inside that network. Tests that can wait
// for the service (http, tcp, listening) run first, in their order, so that
// those which cannot (run, file, a port that must be refused) meet a service
// that is up; results are in the recipe's order.
//
// An image without an entrypoint, or whose command ends while no test needs it
// to live, is one for commands: its tests run in an empty box of the same tree.
package trial

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"kiln"
	"kiln/internal/sandbox"
)

// Input is a candidate with the tests it must pass.
type Input struct {
	// Layers are directories, top first; or Root is one directory. It is not
	// written to: changes go to memory and are dropped.
	Layers []string
	Root   string
	// Tree is the candidate's digest, for the document.
	Tree   kiln.Digest
	Config kiln.ImageConfig
	Tests  []kiln.Test
	// Dir is the recipe's folder, which goss and component files are relative to.
	Dir string
	// Read gives a goss file, a component, or a document that one names; what it refuses cannot be tested with. Nil reads below Dir.
	Read func(name string) ([]byte, error)
	// Memory in bytes and processes at most; 0 is 2 GiB and 4096.
	Memory int64
	PIDs   int
	// Start makes a box; nil is sandbox.Start.
	Start  func(context.Context, sandbox.Spec) (*sandbox.Box, error)
	Report kiln.Report
}

// Limits of a candidate, unless the caller says otherwise.
const (
	defaultMemory = 2 << 30
	defaultPIDs   = 4096
)

// Defaults of a test; kiln.Test says the same.
const (
	defaultTimeout = 10 * time.Second
	defaultWait    = 15 * time.Second
	// of a goss file or a component, which hold many
	documentTimeout = 5 * time.Minute
)

// Run runs the trial. Tests that fail are in the result; an error means that
// there was no trial: the sandbox is not permitted here, or ctx ended. Nothing
// of the candidate lives on when it returns.
func Run(ctx context.Context, in Input) (*kiln.Trial, error) {
	begin := time.Now()
	t := &trial{in: in, begin: begin, results: make([]kiln.TestResult, len(in.Tests))}
	defer t.close()
	if err := t.prepare(); err != nil {
		return nil, fmt.Errorf("preparing the trial: %w", err)
	}
	if err := t.startService(ctx); err != nil {
		return nil, err
	}
	for n, i := range order(in.Tests) {
		t.results[i] = t.test(ctx, in.Tests[i])
		if ctx.Err() != nil {
			return nil, fmt.Errorf("trial stopped: %w", context.Cause(ctx))
		}
		in.Report.Progress(kiln.StationTrial, int64(n+1), int64(len(in.Tests)), "tests")
	}
	t.close()
	return t.document(), nil
}

// trial is one run.
type trial struct {
	in      Input
	begin   time.Time
	people  *accounts
	who     identity
	etc     string // directory with generated files of /etc
	spec    sandbox.Spec
	service *sandbox.Box // nil without an entrypoint
	spare   *sandbox.Box // an empty box, made when needed
	log     *tail
	results []kiln.TestResult
	ready   time.Duration // from the start to the first test that passed
	notes   []string
}

// document is the result. A test that could not be run is worse than one that failed.
func (t *trial) document() *kiln.Trial {
	d := &kiln.Trial{
		Header: kiln.NewHeader("Trial"), Candidate: t.in.Tree, Runner: sandbox.Engine(), Result: kiln.Pass, Tests: t.results,
		StartMillis: t.ready.Milliseconds(), Millis: time.Since(t.begin).Milliseconds(), Log: t.log.String(),
		Note: strings.Join(t.notes, "; "),
	}
	for _, r := range t.results {
		switch {
		case r.Result == kiln.Error:
			d.Result = kiln.Error
		case r.Result == kiln.Fail && d.Result == kiln.Pass:
			d.Result = kiln.Fail
		}
	}
	if d.Tests == nil {
		d.Tests = []kiln.TestResult{}
	}
	return d
}

// order puts the tests that wait for the service first.
func order(tests []kiln.Test) []int {
	var first, rest []int
	for i, t := range tests {
		if awaits(t) {
			first = append(first, i)
		} else {
			rest = append(rest, i)
		}
	}
	return append(first, rest...)
}

// awaits tells whether a test waits for the service by default.
func awaits(t kiln.Test) bool {
	return t.HTTP != nil || (t.TCP != nil && !t.TCP.Refused) || (t.Listening != nil && len(t.Listening.Ports) > 0)
}

// needsService tells whether a test makes no sense without a living service.
func needsService(t kiln.Test) bool {
	return awaits(t) || (t.Process != nil && !t.Process.Absent)
}

// outcome is what one attempt saw.
type outcome struct {
	result             string // kiln.Pass, Fail, Error
	expected, observed string
	// final says that another attempt would see the same.
	final bool
}

func passed(expected, observed string) outcome { return outcome{kiln.Pass, expected, observed, true} }

func failed(expected, observed string) outcome { return outcome{kiln.Fail, expected, observed, false} }

// broken is a test that cannot be run, however often.
func broken(expected string, err error) outcome {
	return outcome{kiln.Error, expected, err.Error(), true}
}

// test runs one test with its attempts.
func (t *trial) test(ctx context.Context, test kiln.Test) kiln.TestResult {
	begin := time.Now()
	kind, attempt := t.pick(test)
	r := kiln.TestResult{Name: title(test, kind), Type: kind}
	var wait time.Duration
	if awaits(test) {
		wait = defaultWait
	}
	wait = test.Wait.Or(wait)
	retries := test.Retries
	pause := 10 * time.Millisecond
	var o outcome
	for {
		r.Attempts++
		o = t.once(ctx, test, attempt)
		if o.result == kiln.Pass || o.final || ctx.Err() != nil {
			break
		}
		if dead := t.ended(test); dead != "" {
			o.observed += "; " + dead
			break
		}
		if time.Since(begin) >= wait {
			if retries == 0 {
				break
			}
			retries--
		}
		sleep(ctx, t.service, pause)
		pause = min(pause*3/2, 500*time.Millisecond)
	}
	r.Result, r.Expected, r.Observed, r.Millis = o.result, o.expected, o.observed, time.Since(begin).Milliseconds()
	if o.result == kiln.Pass && t.ready == 0 {
		t.ready = time.Since(t.begin)
	}
	if o.result == kiln.Fail && awaits(test) && r.Attempts > 1 {
		r.Observed += fmt.Sprintf(" (after %d attempts in %.1fs)%s", r.Attempts, time.Since(begin).Seconds(), t.lastWords())
	}
	r.Expected, r.Observed = clip(r.Expected), clip(r.Observed)
	return r
}

// once makes one attempt within the test's timeout.
func (t *trial) once(ctx context.Context, test kiln.Test, attempt func(context.Context) outcome) outcome {
	limit := defaultTimeout
	if test.Goss != "" || test.Component != "" {
		limit = documentTimeout // they hold many tests, with limits of their own
	}
	limit = test.Timeout.Or(limit)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	return attempt(ctx)
}

// pick finds a test's type and what one attempt of it is.
func (t *trial) pick(test kiln.Test) (string, func(context.Context) outcome) {
	switch {
	case test.Run != nil:
		return "run", func(ctx context.Context) outcome { return t.run(ctx, *test.Run) }
	case test.HTTP != nil:
		return "http", func(ctx context.Context) outcome { return t.http(ctx, *test.HTTP) }
	case test.TCP != nil:
		return "tcp", func(ctx context.Context) outcome { return t.tcp(ctx, *test.TCP) }
	case test.File != nil:
		return "file", func(context.Context) outcome { return t.file(*test.File) }
	case test.Process != nil:
		return "process", func(context.Context) outcome { return t.process(*test.Process) }
	case test.Listening != nil:
		return "listening", func(context.Context) outcome { return t.listening(*test.Listening) }
	case test.Goss != "":
		return "goss", func(ctx context.Context) outcome { return t.goss(ctx, test) }
	case test.Component != "":
		return "component", func(ctx context.Context) outcome { return t.component(ctx, test) }
	}
	return "none", func(context.Context) outcome { return broken("a test", errors.New("the test says nothing to do")) }
}

// title names a test that has no name.
func title(t kiln.Test, kind string) string {
	if t.Name != "" {
		return t.Name
	}
	switch kind {
	case "run":
		return "run " + strings.Join(t.Run.Command, " ")
	case "http":
		return "http " + t.HTTP.URL
	case "tcp":
		return "tcp " + t.TCP.Address
	case "file":
		return "file " + t.File.Path
	case "process":
		return "process " + t.Process.Name
	case "listening":
		return "listening " + strings.Join(t.Listening.Ports, ", ")
	}
	return strings.TrimSpace(kind + " " + t.Goss + t.Component)
}

// sleep waits, but not longer than ctx and the service live.
func sleep(ctx context.Context, b *sandbox.Box, d time.Duration) {
	var done <-chan struct{}
	if b != nil {
		select {
		case <-b.Done(): // known to be dead: its end is no reason to hurry
		default:
			done = b.Done()
		}
	}
	select {
	case <-ctx.Done():
	case <-done:
	case <-time.After(d):
	}
}

// shown bounds what a result keeps of a text.
const shown = 4 << 10

func clip(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= shown {
		return s
	}
	return strings.ToValidUTF8(s[:shown], "") + "..."
}
