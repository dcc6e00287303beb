package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"kiln"
	"kiln/internal/testneeds"
)

// program runs the real main in a process of its own, with its own state.
type program struct {
	t     *testing.T
	state string
}

// onMachine skips where images cannot be built from the machine's own archives: CI must.
func onMachine(t *testing.T) {
	t.Helper()
	var why string
	if os.Geteuid() != 0 {
		why = "needs root"
	} else if _, err := os.Stat("/etc/apt"); err != nil {
		why = "needs a machine with apt sources"
	} else if testing.Short() {
		why = "builds a real image: not with -short"
	}
	if why != "" {
		testneeds.Missing(t, why)
	}
}

// sharedCache lets the builds of this package download each package once.
var sharedCache = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "kiln-test-cache-")
	if err != nil {
		panic(err)
	}
	cacheMade.Store(true)
	return dir
})

var cacheMade atomic.Bool

// ordinary is the program as users have it, built once: with the race detector
// a build of a real image takes many times as long.
var ordinary = sync.OnceValues(func() (string, error) {
	exe := filepath.Join(sharedCache(), "kiln")
	cmd := exec.Command("go", "build", "-o", exe, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program: %w\n%s", err, out)
	}
	return exe, nil
})

func newProgram(t *testing.T) *program {
	t.Helper()
	p := &program{t, t.TempDir()}
	blobs := filepath.Join(sharedCache(), "blobs")
	for _, dir := range []string{filepath.Join(p.state, "cache"), blobs} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(blobs, filepath.Join(p.state, "cache", "blobs")); err != nil {
		t.Fatal(err)
	}
	p.must("key", "new")
	return p
}

func (p *program) command(args ...string) *exec.Cmd {
	exe, err := ordinary()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.CommandContext(p.t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), "KILN_STATE="+p.state, "KILN_KEY_PASSPHRASE=test")
	return cmd
}

func (p *program) run(args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	cmd := p.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		p.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (p *program) must(args ...string) string {
	p.t.Helper()
	out, errs, code := p.run(args...)
	if code != 0 {
		p.t.Fatalf("kiln %s: status %d\n%s", strings.Join(args, " "), code, errs)
	}
	return out
}

const nginx = "../../examples/nginx"

// result reads the last event of a build's stream.
func result(t *testing.T, stream string) *kiln.Build {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(stream), "\n")
	var e kiln.Event
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &e); err != nil || e.Type != kiln.EventResult || e.Result == nil {
		t.Fatalf("the stream does not end with a result: %v\n%s", err, lines[len(lines)-1])
	}
	return e.Result
}

func TestABuildKilledAtEachStationContinuesThere(t *testing.T) {
	onMachine(t)
	p := newProgram(t)
	for _, station := range []string{
		kiln.StationResolve, kiln.StationVerify, kiln.StationAssemble, kiln.StationHarden, kiln.StationTrial, kiln.StationScan,
		kiln.StationPack, kiln.StationAttest, kiln.StationAdmit, kiln.StationPublish,
	} {
		p.killAt(station)
	}
	killed := result(t, p.must("build", nginx, "--json"))
	for _, s := range killed.Stations {
		if s.Station != kiln.StationResolve && s.Station != kiln.StationPublish && s.Result != kiln.EventCached && s.Station != kiln.StationAdmit {
			t.Errorf("%s had finished before the last kill and ran again: %s", s.Station, s.Result)
		}
	}
	again := result(t, p.must("build", nginx, "--json"))
	if !again.Unchanged {
		t.Errorf("nothing changed, but the build does not say so: %+v", again.Stations)
	}
	clean := result(t, newProgram(t).must("build", nginx, "--json"))
	if clean.Artifact.Index != killed.Artifact.Index {
		t.Errorf("killed ten times it gave %s, never killed %s", killed.Artifact.Index, clean.Artifact.Index)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), p.state) {
		t.Errorf("a mount was left behind below %s (%v)", p.state, err)
	}
}

// killAt kills a build with SIGKILL when the station begins.
func (p *program) killAt(station string) {
	p.t.Helper()
	cmd := p.command("build", nginx, "--json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	// A group of its own: the program runs itself again in a namespace, and both must die at once.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	reached := false
	for lines.Scan() {
		var e kiln.Event
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Type == kiln.EventStart && e.Station == station {
			reached = true
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			break
		}
	}
	_ = cmd.Wait()
	if !reached {
		p.t.Fatalf("the build never came to %s\n%s", station, errs.String())
	}
}

func TestTwoBuildsOfOneRecipeAtOnce(t *testing.T) {
	onMachine(t)
	p := newProgram(t)
	var wg sync.WaitGroup
	streams := make([]string, 2)
	for i := range streams {
		wg.Go(func() {
			out, errs, code := p.run("build", nginx, "--json")
			if code != 0 {
				t.Errorf("status %d\n%s", code, errs)
			}
			streams[i] = out
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	a, b := result(t, streams[0]), result(t, streams[1])
	if a.Artifact.Index != b.Artifact.Index || a.Unchanged == b.Unchanged {
		t.Errorf("one builds and the other finds it: %s unchanged=%v, %s unchanged=%v", a.Artifact.Index, a.Unchanged, b.Artifact.Index, b.Unchanged)
	}
}

func TestAFullDiskIsSaidAndLosesNothing(t *testing.T) {
	onMachine(t)
	p := newProgram(t)
	before := result(t, p.must("build", nginx, "--json"))

	small := t.TempDir()
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=24m"); err != nil {
		t.Skipf("cannot mount a small tmpfs: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(small, 0); err != nil {
			t.Error(err)
		}
	}()
	full := &program{t, filepath.Join(small, "state")}
	full.must("key", "new")
	_, errs, code := full.run("build", nginx)
	if code != exitBroken || !strings.Contains(errs, "no space left") || !strings.Contains(errs, "hint: free space") {
		t.Errorf("status %d, want %d and a hint:\n%s", code, exitBroken, errs)
	}
	if out := full.must("ls"); out != "" {
		t.Errorf("a failed build published something: %s", out)
	}
	if after := result(t, p.must("build", nginx, "--json")); after.Artifact.Index != before.Artifact.Index || !after.Unchanged {
		t.Error("another state directory was affected")
	}
}

func TestAnImageIsBuiltAgainFromItsBundleWithoutTheArchive(t *testing.T) {
	onMachine(t)
	p := newProgram(t)
	out := t.TempDir()
	first := result(t, p.must("build", nginx, "--json", "--out", out))
	showsForAuditors(p, first)
	p.must("lock", "export", filepath.Join(out, "kiln.lock"), "--out", filepath.Join(out, "bundle.tar"))

	// Another machine: an empty cache, and no way to any archive.
	other := &program{t, t.TempDir()}
	other.must("key", "new")
	other.must("lock", "import", filepath.Join(out, "bundle.tar"), "--out", filepath.Join(out, "imported.lock"))
	other.must("verify", "lock", filepath.Join(out, "imported.lock"))
	cmd := other.command("build", nginx, "--json", "--lock", filepath.Join(out, "imported.lock"))
	cmd.Env = append(cmd.Env, "http_proxy=http://127.0.0.1:9", "https_proxy=http://127.0.0.1:9", "HTTP_PROXY=http://127.0.0.1:9", "HTTPS_PROXY=http://127.0.0.1:9")
	var stream, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stream, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	if again := result(t, stream.String()); again.Artifact.Index != first.Artifact.Index {
		t.Errorf("from the bundle %s, at first %s", again.Artifact.Index, first.Artifact.Index)
	}
}

// showsForAuditors: what a build hardened is written in every form that fits, by what kiln show is asked for.
func showsForAuditors(p *program, build *kiln.Build) {
	p.t.Helper()
	dir := p.t.TempDir()
	p.must("show", build.ID, "--out", dir)
	var got kiln.HardeningResult
	data, err := os.ReadFile(filepath.Join(dir, "audit.json"))
	if err != nil {
		p.t.Fatal(err)
	}
	if err := kiln.Decode(data, &got); err != nil {
		p.t.Fatal(err)
	}
	if len(got.Outcomes) == 0 || len(got.Outcomes) != len(build.Hardening.Outcomes) {
		p.t.Errorf("kiln show writes %d outcomes, the build has %d", len(got.Outcomes), len(build.Hardening.Outcomes))
	}
	for _, name := range []string{"audit.html", "audit.sarif", "audit.xccdf.xml", "audit.arf.xml", "audit.oscal.json", "audit.junit.xml"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Contains(data, []byte(got.Outcomes[0].Objective)) {
			p.t.Errorf("%s does not name %s: %v", name, got.Outcomes[0].Objective, err)
		}
	}
	if _, errs, code := p.run("show", build.ID, "--out", "nosuch="+filepath.Join(dir, "x")); code != exitMisuse || !strings.Contains(errs, `no format "nosuch"`) {
		p.t.Errorf("a format that nobody knows: status %d\n%s", code, errs)
	}
}
