package pack

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
	"kiln/internal/image"
	"kiln/internal/tree"
)

func lock() *kiln.Lock {
	return &kiln.Lock{Name: "base/nginx", Platform: "linux/amd64", Epoch: 1_700_000_000}
}

// testTree makes a small tree whose content is the same every time and whose times are not.
func testTree(t *testing.T, extra map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "usr/bin/tool": "tool", "usr/lib/libc.so": strings.Repeat("c", 100_000),
		"usr/sbin/nginx": "nginx", "srv/app/main": "main", "root/.profile": "profile",
	}
	maps.Copy(files, extra)
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	must(t, os.Symlink("usr/bin", filepath.Join(dir, "bin")))
	must(t, os.Mkdir(filepath.Join(dir, "proc"), 0o555))
	must(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o777))
	must(t, os.Chmod(filepath.Join(dir, "tmp"), 0o777|os.ModeSticky))
	must(t, os.Chmod(filepath.Join(dir, "root"), 0o700))
	must(t, os.Link(filepath.Join(dir, "usr/bin/tool"), filepath.Join(dir, "srv/app/tool")))
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func role(path string) string {
	switch {
	case strings.HasPrefix(path, "srv"), path == "root/.profile":
		return RoleApplication
	case path == "usr/sbin/nginx":
		return RolePackages
	}
	return RoleBase
}

func input(dir string) Input {
	return Input{Dir: dir, Lock: lock(), Role: role, Recipe: &kiln.Recipe{Version: "1.2", Description: "A web server"}, Config: kiln.ImageConfig{
		Entrypoint: []string{"/usr/sbin/nginx"}, User: "65532:65532", Env: []string{"A=b"}, Ports: []string{"8080", "53/udp"},
		Labels: map[string]string{"team": "web"}, Healthcheck: &kiln.Healthcheck{Command: []string{"/usr/bin/tool"}, Interval: kiln.Duration(30 * time.Second), Retries: 3},
	}}
}

func packed(t *testing.T, in Input) (*kiln.Artifact, *image.Layout) {
	t.Helper()
	l, err := image.CreateLayout(filepath.Join(t.TempDir(), "oci"))
	must(t, err)
	a, err := Image(t.Context(), in, l)
	must(t, err)
	return a, l
}

func TestTheSameInputGivesTheSameDigest(t *testing.T) {
	first, _ := packed(t, input(testTree(t, nil)))
	time.Sleep(10 * time.Millisecond)
	second, _ := packed(t, input(testTree(t, nil)))
	a, err := kiln.Encode(first)
	must(t, err)
	b, err := kiln.Encode(second)
	must(t, err)
	if string(a) != string(b) {
		t.Errorf("two runs differ:\n%s\n%s", a, b)
	}
}

func TestAnApplicationChangeMovesTheApplicationLayerOnly(t *testing.T) {
	before, _ := packed(t, input(testTree(t, nil)))
	dir := testTree(t, map[string]string{"srv/app/main": "main 2", "srv/app/more/x": "x"})
	// The change came long after the epoch, or before it, and touched directories of other layers.
	for i, name := range []string{"usr", "usr/bin", "root", "etc"} {
		when := time.Unix(lock().Epoch-int64(i+1)*1000, 0)
		must(t, os.Chtimes(filepath.Join(dir, name), when, when))
	}
	after, _ := packed(t, input(dir))
	if len(before.Layers) != 3 || len(after.Layers) != 3 {
		t.Fatalf("layers: %d and %d, want 3", len(before.Layers), len(after.Layers))
	}
	for i, same := range []bool{true, true, false} {
		if got := before.Layers[i].Digest == after.Layers[i].Digest; got != same {
			t.Errorf("%s layer unchanged: %v, want %v", before.Layers[i].Role, got, same)
		}
	}
	if before.Index == after.Index {
		t.Error("another image has the same index digest")
	}
}

func TestUnpackingTheImageGivesTheTree(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root: unpacking sets owners")
	}
	dir := testTree(t, nil)
	a, l := packed(t, input(dir))
	into := t.TempDir()
	desc, err := l.Find(string(a.Index))
	must(t, err)
	desc, err = l.ForPlatform(desc, a.Platform)
	must(t, err)
	if _, err := image.Unpack(t.Context(), l, desc, into, image.Limits{}); err != nil {
		t.Fatal(err)
	}
	must(t, os.Chmod(into, 0o755))
	must(t, os.Chmod(dir, 0o755))
	want, err := tree.Dump(dir)
	must(t, err)
	got, err := tree.Dump(into)
	must(t, err)
	if !maps.Equal(got, want) {
		t.Errorf("unpacked:\n%v\nwant:\n%v", got, want)
	}
}

func TestConfigurationCarriesWhatTheRecipeAsksFor(t *testing.T) {
	a, l := packed(t, input(testTree(t, nil)))
	raw, err := l.Read(a.Config, 1<<20)
	must(t, err)
	var c struct {
		Created, Architecture, OS string
		Config                    struct {
			User         string
			ExposedPorts map[string]any
			Labels       map[string]string
			Healthcheck  struct {
				Test              []string
				Interval, Retries int64
			}
		}
		History []ocispec.History
		RootFS  ocispec.RootFS
	}
	must(t, json.Unmarshal(raw, &c))
	if c.Created != "2023-11-14T22:13:20Z" || c.Architecture != "amd64" || c.OS != "linux" {
		t.Errorf("created %s for %s/%s", c.Created, c.OS, c.Architecture)
	}
	if h := c.Config.Healthcheck; len(h.Test) != 2 || h.Test[0] != "CMD" || h.Interval != 30e9 || h.Retries != 3 {
		t.Errorf("health check %+v", h)
	}
	if c.Config.User != "65532:65532" || c.Config.ExposedPorts["8080/tcp"] == nil || c.Config.ExposedPorts["53/udp"] == nil {
		t.Errorf("user %s, ports %v", c.Config.User, c.Config.ExposedPorts)
	}
	if c.Config.Labels["team"] != "web" || c.Config.Labels[ocispec.AnnotationVersion] != "1.2" {
		t.Errorf("labels %v", c.Config.Labels)
	}
	if len(c.History) != 3 || len(c.RootFS.DiffIDs) != 3 || string(c.RootFS.DiffIDs[0]) != string(a.Layers[0].DiffID) {
		t.Errorf("history %v, diff ids %v", c.History, c.RootFS.DiffIDs)
	}
}

func TestAnUnknownRoleIsOurOwnError(t *testing.T) {
	in := input(testTree(t, nil))
	in.Role = func(string) string { return "other" }
	l, err := image.CreateLayout(t.TempDir())
	must(t, err)
	if _, err := Image(t.Context(), in, l); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("got %v", err)
	}
}
