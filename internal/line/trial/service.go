package trial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"kiln"
	"kiln/internal/sandbox"
)

// prepare finds the image's user and makes the files that an engine puts into /etc.
func (t *trial) prepare() error {
	t.log = &tail{max: 256 << 10}
	layers := t.in.Layers
	if t.in.Root != "" {
		layers = []string{t.in.Root}
	}
	if len(layers) == 0 {
		return errors.New("no tree was given")
	}
	var err error
	if t.people, err = readAccounts(layers); err != nil {
		return err
	}
	if t.who, err = t.people.resolve(t.in.Config.User); err != nil {
		return fmt.Errorf("the image's user: %w", err)
	}
	mounts, err := t.generated()
	if err != nil {
		return err
	}
	t.spec = sandbox.Spec{
		Layers: layers, Env: t.environment(t.in.Config.Env, t.who), Dir: t.in.Config.WorkDir, UID: t.who.uid, GID: t.who.gid, Groups: t.who.groups,
		Capabilities: sandbox.ServiceCapabilities, Hostname: "candidate", Mounts: mounts,
		Memory: orElse(t.in.Memory, defaultMemory), PIDs: orElse(t.in.PIDs, defaultPIDs),
	}
	return nil
}

func orElse[T int | int64](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// generated makes hosts, hostname and resolv.conf as container engines do.
func (t *trial) generated() ([]sandbox.Mount, error) {
	var err error
	if t.etc, err = os.MkdirTemp("", "kiln-trial-"); err != nil {
		return nil, err
	}
	var mounts []sandbox.Mount
	for name, text := range map[string]string{
		"hosts":       "127.0.0.1 localhost candidate\n::1 localhost\n",
		"hostname":    "candidate\n",
		"resolv.conf": "# no network\n",
	} {
		file := filepath.Join(t.etc, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return nil, err
		}
		mounts = append(mounts, sandbox.Mount{Type: "bind", Source: file, Target: "/etc/" + name, ReadOnly: true})
	}
	return mounts, nil
}

// environment adds what an engine adds if the image does not.
func (t *trial) environment(env []string, who identity) []string {
	env = slices.Clone(env)
	for _, e := range []string{"HOSTNAME=candidate", "HOME=" + who.home} {
		name, _, _ := strings.Cut(e, "=")
		if !slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, name+"=") }) {
			env = append(env, e)
		}
	}
	return env
}

// startService starts the entrypoint, if the image has one, and gives a service
// that no test waits for a moment to come up.
func (t *trial) startService(ctx context.Context) error {
	args := append(slices.Clone(t.in.Config.Entrypoint), t.in.Config.Command...)
	if len(args) == 0 {
		t.notes = append(t.notes, "the image has no entrypoint: tests only")
		return nil
	}
	s := t.spec
	s.Args, s.Stdout, s.Stderr = args, t.log, t.log
	b, err := t.start(ctx, s)
	if err != nil {
		return fmt.Errorf("starting the candidate (%s): %w", strings.Join(args, " "), err)
	}
	t.service = b
	if !slices.ContainsFunc(t.in.Tests, awaits) {
		t.settle(ctx)
	}
	return nil
}

func (t *trial) start(ctx context.Context, s sandbox.Spec) (*sandbox.Box, error) {
	if t.in.Start != nil {
		return t.in.Start(ctx, s)
	}
	return sandbox.Start(ctx, s)
}

// settleTime is what a service gets that says nothing about its ports.
const settleTime = 500 * time.Millisecond

// settle waits until the ports that the image declares listen, or for a moment.
func (t *trial) settle(ctx context.Context) {
	limit := settleTime
	if len(t.in.Config.Ports) > 0 {
		limit = defaultWait
	}
	for end := time.Now().Add(limit); time.Now().Before(end) && ctx.Err() == nil && !isDone(t.service); {
		if len(t.in.Config.Ports) > 0 && t.declaredListen() {
			return
		}
		sleep(ctx, t.service, 20*time.Millisecond)
	}
}

func (t *trial) declaredListen() bool {
	ports, err := t.service.Listening()
	if err != nil {
		return false
	}
	for _, want := range t.in.Config.Ports {
		w, err := parsePort(want)
		if err != nil || !slices.ContainsFunc(ports, func(p sandbox.Port) bool { return w == portOf(p) }) {
			return false
		}
	}
	return true
}

func isDone(b *sandbox.Box) bool {
	select {
	case <-b.Done():
		return true
	default:
		return false
	}
}

// box is where tests run: the service's, or for a command image an empty one.
func (t *trial) box(ctx context.Context) (*sandbox.Box, error) {
	if t.service != nil && !isDone(t.service) {
		return t.service, nil
	}
	if t.service != nil && slices.ContainsFunc(t.in.Tests, needsService) {
		return nil, errors.New(t.death())
	}
	if t.spare != nil {
		return t.spare, nil
	}
	if t.service != nil {
		t.notes = append(t.notes, "the entrypoint ended by itself ("+ending(t.service.Result())+") and no test needs it: commands ran beside it")
	}
	// The box outlives the attempt that makes it.
	b, err := t.start(context.WithoutCancel(ctx), t.spec)
	if err != nil {
		return nil, fmt.Errorf("making a box for tests: %w", err)
	}
	t.spare = b
	return b, nil
}

// ended says how the service died, if it did and the test needs it.
func (t *trial) ended(test kiln.Test) string {
	if t.service == nil || !isDone(t.service) || !needsService(test) {
		return ""
	}
	return t.death()
}

// death tells of the service's end.
func (t *trial) death() string {
	r := t.service.Result()
	return fmt.Sprintf("the service ended %.1fs after its start, %s%s", r.Duration.Seconds(), ending(r), t.lastWords())
}

func ending(r sandbox.Result) string {
	if r.Signal != "" {
		return "by " + r.Signal
	}
	return fmt.Sprintf("with exit code %d", r.ExitCode)
}

// lastWords are the last lines of the service's log.
func (t *trial) lastWords() string {
	if t.service == nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(t.log.String()), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return "; it wrote nothing"
	}
	return "; its last lines:\n" + strings.Join(lines[max(0, len(lines)-8):], "\n")
}

// close ends everything and removes what was made.
func (t *trial) close() {
	for _, b := range []*sandbox.Box{t.service, t.spare} {
		if b != nil {
			t.noted(b.Stop(0))
		}
	}
	if t.etc != "" {
		_ = os.RemoveAll(t.etc)
	}
}

// noted keeps a box's remarks once.
func (t *trial) noted(r sandbox.Result) {
	for _, n := range r.Notes {
		if !slices.Contains(t.notes, n) {
			t.notes = append(t.notes, n)
		}
	}
}

// tail keeps the last max bytes written to it.
type tail struct {
	mu   sync.Mutex
	max  int
	data []byte
	lost bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if over := len(t.data) - t.max; over > 0 {
		t.data, t.lost = append(t.data[:0], t.data[over:]...), true
	}
	return len(p), nil
}

// String is the text, marked if its beginning is lost.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := strings.ToValidUTF8(string(t.data), "\uFFFD")
	if t.lost {
		return "[...]" + s
	}
	return s
}
