//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kiln"
	"kiln/internal/image"
	"kiln/internal/line/publish"
)

// exported is a signed image in a layout and in a docker archive.
func exported(t *testing.T) (s *signed, layout, archive string) {
	t.Helper()
	s = signedImage(t, kiln.Allow)
	dir, err := os.MkdirTemp("", "kiln-e2e-") // podman makes a name of the path, which must be in lower case
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	layout, archive = filepath.Join(dir, "oci"), filepath.Join(dir, "image.tar")
	for _, o := range []kiln.Output{{Layout: layout}, {Archive: archive}} {
		_, err := publish.To(t.Context(), s.layout, "demo/hello", "stable", s.artifact, o, "")
		must(t, err)
	}
	return s, layout, archive
}

// skopeoInspect returns the layers that skopeo sees.
func skopeoInspect(t *testing.T, skopeo, ref string) (digest string, layers []string) {
	t.Helper()
	out := mustRun(t, skopeo, "inspect", ref)
	var got struct {
		Digest string
		Layers []string
		Os     string
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Os != "linux" {
		t.Fatalf("skopeo inspect %s: %v\n%s", ref, err, out)
	}
	return got.Digest, got.Layers
}

func TestSkopeoReadsAndCopiesWhatWasPublished(t *testing.T) {
	skopeo := installed(t, "skopeo")
	s, layout, archive := exported(t)
	digest, layers := skopeoInspect(t, skopeo, "oci:"+layout+":stable")
	if digest != string(s.artifact.Index) && digest != string(s.artifact.Manifest) {
		t.Errorf("skopeo sees %s, want %s or its manifest %s", digest, s.artifact.Index, s.artifact.Manifest)
	}
	if len(layers) != len(s.artifact.Layers) || layers[0] != string(s.artifact.Layers[0].Digest) {
		t.Errorf("skopeo sees the layers %v, want %v", layers, s.artifact.Layers)
	}
	if _, layers := skopeoInspect(t, skopeo, "docker-archive:"+archive); len(layers) != len(s.artifact.Layers) {
		t.Errorf("in the archive skopeo sees the layers %v", layers)
	}

	to := filepath.Join(t.TempDir(), "copy")
	mustRun(t, skopeo, "--insecure-policy", "copy", "--all", "oci:"+layout+":stable", "oci:"+to+":x")
	l, err := image.OpenLayout(to)
	must(t, err)
	desc, err := l.Find("x")
	must(t, err)
	if kiln.Digest(desc.Digest) != s.artifact.Index {
		t.Errorf("the copy is %s, want the same index %s", desc.Digest, s.artifact.Index)
	}
	mustRun(t, skopeo, "--insecure-policy", "copy", "docker-archive:"+archive, "oci:"+to+":y")
}

// podmanStore keeps images and containers of one test away from the machine's.
func podmanStore(t *testing.T) []string {
	t.Helper()
	podman := installed(t, "podman")
	dir, err := os.MkdirTemp("", "kp") // podman wants a path of at most 50 characters
	must(t, err)
	args := []string{podman, "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file"}
	if runc, err := exec.LookPath("runc"); err == nil { // crun refuses machines with both cgroup versions
		args = append(args, "--runtime", runc)
	}
	t.Cleanup(func() {
		// The test's context is over by now.
		if out, err := exec.Command(args[0], append(args[1:], "rmi", "--all", "--force")...).CombinedOutput(); err != nil {
			t.Logf("podman rmi: %v %s", err, tail(out))
		}
		must(t, os.RemoveAll(dir))
	})
	return args
}

func TestPodmanLoadsAndRunsWhatWasPublished(t *testing.T) {
	podman := podmanStore(t)
	_, layout, archive := exported(t)
	with := func(args ...string) []string { return append(append([]string{}, podman...), args...) }

	mustRun(t, with("load", "-i", archive)...)
	id := strings.TrimSpace(lastLine(mustRun(t, with("pull", "--quiet", "oci:"+layout+":stable")...)))
	for _, ref := range []string{"localhost/demo/hello:stable", id} {
		if out := mustRun(t, with("image", "inspect", "--format", "{{.Config.User}} {{.Os}}/{{.Architecture}}", ref)...); !strings.Contains(out, "65532:65532 linux/amd64") {
			t.Errorf("podman sees %s as %q", ref, out)
		}
		out, err := run(t, with("run", "--rm", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--pids-limit", "0", ref)...)
		if err != nil && os.Getenv("CI") != "true" && cannotRun(out) {
			t.Skipf("podman cannot start containers here: %s", tail([]byte(out)))
		}
		if err != nil || !strings.Contains(out, "hello from the image") {
			t.Errorf("podman run %s: %v\n%s", ref, err, tail([]byte(out)))
		}
	}
}

// removeContainer ends and removes a container; the test's context is over by then.
func removeContainer(t *testing.T, podman []string, name string) {
	t.Helper()
	if out, err := exec.Command(podman[0], slices.Concat(podman[1:], []string{"rm", "--force", "--time", "2", name})...).CombinedOutput(); err != nil {
		t.Logf("podman rm %s: %v %s", name, err, tail(out))
	}
}

// cannotRun reports whether podman's complaint is about the machine and not about the image.
func cannotRun(out string) bool {
	for _, s := range []string{"setrlimit", "cgroup", "clone: ", "unshare", "mount proc"} {
		if strings.Contains(out, s) {
			return true
		}
	}
	return false
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
