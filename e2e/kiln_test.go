//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln"
)

// factory is the real program over a state directory of its own. It works in
// dir, so that what it prints has the relative paths a person would see.
type factory struct {
	t                    *testing.T
	binary, dir, state   string
	examples, repository string
}

// onMachine skips where images cannot be built from the machine's own archives.
func onMachine(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/etc/apt"); err != nil {
		missing(t, "needs a machine with apt sources")
	}
	if os.Geteuid() != 0 {
		missing(t, "needs root; the rootless test makes its own user")
	}
}

// newFactory builds the program and makes its keys.
func newFactory(t *testing.T) *factory {
	t.Helper()
	onMachine(t)
	repository, err := filepath.Abs("..")
	must(t, err)
	dir, err := os.MkdirTemp("", "kiln-e2e-") // podman makes a name of the path, which must be in lower case
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	f := &factory{t: t, binary: filepath.Join(dir, "bin", "kiln"), dir: dir, state: filepath.Join(dir, "state"), repository: repository, examples: filepath.Join(repository, "examples")}
	build := exec.Command("go", "build", "-trimpath", "-o", f.binary, "./cmd/kiln")
	build.Dir = repository
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	f.must("key", "new")
	return f
}

// run runs the program as a person would in the factory's folder.
func (f *factory) run(args ...string) (stdout, stderr string, err error) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, f.binary, args...)
	cmd.Dir = f.dir
	cmd.Env = append(os.Environ(), "KILN_STATE="+f.state, "KILN_KEY_PASSPHRASE="+string(passphrase))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func (f *factory) must(args ...string) string {
	f.t.Helper()
	out, errs, err := f.run(args...)
	if err != nil {
		f.t.Fatalf("kiln %s: %v\n%s", strings.Join(args, " "), err, tail([]byte(errs)))
	}
	return out
}

// build builds a recipe and returns what the program says of it.
func (f *factory) build(args ...string) *kiln.Build {
	f.t.Helper()
	stream := strings.Split(strings.TrimSpace(f.must(append([]string{"build", "--json"}, args...)...)), "\n")
	var e kiln.Event
	if err := json.Unmarshal([]byte(stream[len(stream)-1]), &e); err != nil || e.Result == nil {
		f.t.Fatalf("the stream of kiln build %s does not end with a result: %v", strings.Join(args, " "), err)
	}
	return e.Result
}

// shell runs a command line as it is printed, in the factory's folder, with the tools given first in PATH.
func (f *factory) shell(line string, tools ...string) (string, error) {
	f.t.Helper()
	path := ""
	for _, tool := range append(tools, f.binary) {
		path += filepath.Dir(tool) + ":"
	}
	return run(f.t, "/bin/sh", "-c", "cd "+f.dir+" && PATH="+path+"$PATH && "+line)
}
