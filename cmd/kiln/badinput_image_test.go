package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln/internal/image"
	"kiln/internal/testarchive"
)

// Images of one small static program take the whole line in a second. Bad input
// that only late stations can see is tested with them.

const smallProgram = `package main

import ("net/http"; "os"; "time")

func main() {
	if len(os.Args) > 1 { time.Sleep(time.Hour) }
	http.ListenAndServe(":8080", http.NotFoundHandler())
}
`

// smallApp is that program, built once.
var smallApp = sync.OnceValues(func() ([]byte, error) {
	dir := filepath.Join(sharedCache(), "app")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(smallProgram), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", "app", "main.go")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the program: %w\n%s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "app"))
})

// small makes a folder with a recipe on an OCI layout of its own.
func small(t *testing.T, name, more string) string {
	t.Helper()
	needRoot(t)
	app, err := smallApp()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeLayout(t, filepath.Join(dir, "base"), app)
	smallRecipe(t, dir, name, more)
	return dir
}

// smallRecipe writes the recipe; the fields in more come last.
func smallRecipe(t *testing.T, dir, name, more string) {
	t.Helper()
	write(t, filepath.Join(dir, "kiln.yaml"), "name: "+name+"\nbase: {layout: base}\nuser: web\n"+more)
}

// ready are tests that the program passes.
func ready(wait string) string {
	return "tests:\n  - {http: {url: \"http://127.0.0.1:8080/\", status: 404}, wait: " + wait + "}\n"
}

// writeLayout makes an OCI layout of an image that holds the program and two accounts.
func writeLayout(t *testing.T, dir string, app []byte) {
	t.Helper()
	l, err := image.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	must := func(d ocispec.Descriptor, err error) ocispec.Descriptor {
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	layer := must(l.PutBytes(ocispec.MediaTypeImageLayer, testarchive.Tar([]testarchive.Member{
		testarchive.Dir("bin"), testarchive.Dir("etc"), testarchive.Dir("tmp"),
		testarchive.Exec("bin/app", string(app)),
		testarchive.File("etc/passwd", "root:x:0:0::/root:/usr/sbin/nologin\nweb:x:101:101::/nonexistent:/usr/sbin/nologin\n"),
		testarchive.File("etc/group", "root:x:0:\nweb:x:101:\n"),
	})))
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}, Config: ocispec.ImageConfig{Entrypoint: []string{"/bin/app"}}}
	config.RootFS.Type, config.RootFS.DiffIDs = "layers", append(config.RootFS.DiffIDs, layer.Digest)
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: must(l.PutJSON(ocispec.MediaTypeImageConfig, config)), Layers: []ocispec.Descriptor{layer},
	}
	if err := l.Tag("v1", must(l.PutJSON(ocispec.MediaTypeImageManifest, manifest))); err != nil {
		t.Fatal(err)
	}
}

// flip changes one bit in the middle of every file that the pattern finds.
func flip(t *testing.T, pattern string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("nothing to damage at %s (%v)", pattern, err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(f, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDamageInTheStateDirectoryIsFoundAndMended(t *testing.T) {
	dir := small(t, "small", ready("10s"))
	p := bare(t)
	first := result(t, p.must("build", dir, "--json"))
	for _, c := range []struct {
		damaged []string // patterns below the state directory
		recipe  string   // another test needs the trees again, for the same image
		says    string
	}{
		{[]string{"cache/trees/*"}, ready("11s"), "the kept tree is damaged"},
		{[]string{"results/*/*"}, ready("11s"), ""}, // a result that cannot be read is work to do again
		{[]string{"cache/images/blobs/sha256/*", "cache/trees/*"}, ready("12s"), "the kept tree is damaged"},
		{[]string{"store/blobs/sha256/*"}, ready("12s"), "damaged in the local store"},
	} {
		for _, pattern := range c.damaged {
			flip(t, filepath.Join(p.state, pattern))
		}
		smallRecipe(t, dir, "small", c.recipe)
		out := p.must("build", dir, "--json")
		if built := result(t, out); built.Artifact.Index != first.Artifact.Index {
			t.Errorf("%s: damaged, it gives %s, before %s", c.damaged, built.Artifact.Index, first.Artifact.Index)
		}
		if !strings.Contains(out, c.says) {
			t.Errorf("%s: the build does not say %q:\n%s", c.damaged, c.says, out)
		}
		p.noRemains()
	}
	if again := result(t, p.must("build", dir, "--json")); !again.Unchanged {
		t.Error("after all was mended something is still to do")
	}
}

func TestImagesThatAreRefused(t *testing.T) {
	p := bare(t)
	good := small(t, "good", ready("10s"))
	p.must("build", good)
	const pinned = "version: 1\nroots: {pinned: {digest: pinned}}\nrules:\n  - match: \"image:**\"\n    inputs: [{root: pinned}]\n"
	for _, c := range []struct {
		name, recipe, policy string
		says                 []string
	}{
		{
			"a service that is never ready", "entrypoint: [/bin/app, sleep]\n" + ready("200ms"), "",
			[]string{"trial: 1 of 1 tests failed", "http://127.0.0.1:8080/", "connection refused", "hint: "},
		},
		{
			"a service that is not there", "entrypoint: [/bin/nothing]\n" + ready("200ms"), "",
			[]string{"trial: starting the candidate (/bin/nothing)", "no such program in the image", "hint: check entrypoint"},
		},
		{
			"inputs that no root accepts", ready("10s"), "version: 1\nroots: {test: {fingerprints: [0123456789ABCDEF0123456789ABCDEF01234567]}}\nrules:\n  - {match: \"image:**\", inputs: [{root: test}]}\n",
			[]string{"verify: not admitted", "no root accepts oci:", "rules[0].inputs (line 4)"},
		},
		{
			"a hardening that the policy does not let pass", ready("10s"), pinned + "    attestations: [{type: hardening, severity: low, max_failed: 0}]\n",
			[]string{"admit: not admitted: the decision is deny", "image-healthcheck", "meet these objectives, or waive them"},
		},
		{
			"vulnerabilities that nobody looked for", ready("10s"), pinned + "    vulnerabilities: {max: high}\n",
			[]string{"admit: not admitted: the decision is unknown", "vulnerabilities were not looked for"},
		},
		{
			"an attestation that nobody made", ready("10s"), pinned + "    attestations: [{type: vulnerabilities, max_age: 1d}]\n",
			[]string{"admit: not admitted: the decision is unknown", "no such statement"},
		},
		{
			"a name that is never admitted", ready("10s"), "version: 1\nnever: [{match: \"image:bad\", reason: withdrawn}]\nrules:\n  - {match: \"image:**\", inputs: [{root: pinned}]}\nroots: {pinned: {digest: pinned}}\n",
			[]string{"not admitted", "withdrawn"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.policy != "" {
				write(t, filepath.Join(good, "policy.yaml"), c.policy)
				c.recipe += "policy: policy.yaml\n"
			}
			smallRecipe(t, good, "bad", c.recipe)
			p.on(t).refuses(exitRefused, c.says, "build", good)
		})
	}
	smallRecipe(t, good, "good", ready("10s"))
	if again := result(t, p.must("build", good, "--json")); !again.Unchanged {
		t.Error("what was refused changed something of the good image")
	}
}

func TestABaseImageThatIsDamagedIsRefused(t *testing.T) {
	dir := small(t, "bad", ready("10s"))
	flip(t, filepath.Join(dir, "base/blobs/sha256/*"))
	bare(t).refuses(exitRefused, []string{"base oci:base", "is damaged", "hint: copy or pull the image again"}, "build", dir)
}
