//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"kiln"
)

// demo is what a person holds after building the nginx example with --out.
type demo struct {
	*factory
	build    *kiln.Build
	port     string
	layout   []string // command lines of verify.txt, in order
	registry []string
}

// TestStockToolsReadRunAndCheckTheDemo builds the image of `make demo` and does
// with it what verify.txt says, line by line as it stands there.
func TestStockToolsReadRunAndCheckTheDemo(t *testing.T) {
	cosign, host := cosignTool.build(t), startRegistry(t)
	d := newDemo(t)
	t.Run("cosign checks the layout", func(t *testing.T) { d.checks(t, cosign, d.layout) })
	push := d.pushTo(host)
	t.Run("cosign checks the registry", func(t *testing.T) { d.checks(t, cosign, d.inRegistry(host)) })
	t.Run("skopeo reads both", func(t *testing.T) { d.skopeoReads(t, host) })
	t.Run("podman runs both", func(t *testing.T) { d.podmanRuns(t, host) })
	t.Run("strangers find the bills of materials", func(t *testing.T) { d.billsAreValid(t, host) })
	t.Run("pushing again changes nothing", func(t *testing.T) {
		if again := d.pushTo(host); again != push {
			t.Errorf("pushed %s, then %s", push, again)
		}
	})
}

func newDemo(t *testing.T) *demo {
	t.Helper()
	d := &demo{factory: newFactory(t), port: freePort(t)}
	d.build = d.factory.build(filepath.Join(d.examples, "nginx"), "--var", "port="+d.port, "--out", "out/demo")
	for _, name := range []string{"oci/index.json", "kiln.lock", "report.html", "report.json", "key.pub", "keys/scanner.pub", "verify.txt"} {
		if info, err := os.Stat(filepath.Join(d.dir, "out/demo", name)); err != nil || info.Size() == 0 {
			t.Errorf("out/demo holds no %s: %v", name, err)
		}
	}
	text, err := os.ReadFile(filepath.Join(d.dir, "out/demo/verify.txt"))
	must(t, err)
	layout, registry, ok := strings.Cut(string(text), "# The same from a registry")
	if !ok {
		t.Fatalf("verify.txt has no part for registries:\n%s", text)
	}
	d.layout, d.registry = commandLines(layout), commandLines(registry)
	return d
}

// commandLines are the lines of verify.txt that are no comments.
func commandLines(text string) []string {
	var out []string
	for _, line := range strings.Split(text, "\n")[1:] {
		if line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
}

func of(lines []string, program string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(s string) bool { return !strings.HasPrefix(s, program+" ") })
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	return port
}

// inRegistry are the registry's lines with the real address in place of the example's.
func (d *demo) inRegistry(host string) []string {
	var out []string
	for _, line := range d.registry {
		out = append(out, strings.ReplaceAll(line, "registry.example.com", host))
	}
	return out
}

// pushTo runs the line that pushes, and returns what it printed.
func (d *demo) pushTo(host string) string {
	d.t.Helper()
	line := d.inRegistry(host)[0]
	args := strings.Fields(line)
	if args[0] != d.binary || args[1] != "push" {
		d.t.Fatalf("verify.txt does not begin its registry part with a push: %s", line)
	}
	out := strings.TrimSpace(d.must(args[1:]...))
	if !strings.HasSuffix(out, "@"+string(d.build.Artifact.Index)) {
		d.t.Fatalf("pushed %s, built %s", out, d.build.Artifact.Index)
	}
	return out
}

var keyFlag = regexp.MustCompile(`--key (\S+)`)

// checks runs cosign's lines as they are, and again with a key that must fail:
// another role's for an attestation, a stranger's for the release.
func (d *demo) checks(t *testing.T, cosign string, lines []string) {
	lines = of(lines, "cosign")
	if len(lines) != 6 {
		t.Fatalf("six statements are signed, verify.txt has %d cosign lines", len(lines))
	}
	stranger := newFactoryKeys(t, d.factory)
	for _, line := range lines {
		if out, err := d.shell(line, cosign); err != nil {
			t.Errorf("%s: %v\n%s", line, err, tail([]byte(out)))
		}
		other := "out/demo/key.pub"
		if strings.HasPrefix(line, "cosign verify ") {
			other = stranger
		}
		wrong := keyFlag.ReplaceAllString(line, "--key "+other)
		if out, err := d.shell(wrong, cosign); err == nil {
			t.Errorf("with another key it must fail: %s\n%s", wrong, tail([]byte(out)))
		}
	}
}

// newFactoryKeys makes another factory's keys and returns its release key's file.
func newFactoryKeys(t *testing.T, f *factory) string {
	t.Helper()
	state := t.TempDir()
	f.must("--state", state, "key", "new", "release")
	return filepath.Join(state, "keys", "release.pub")
}

func (d *demo) skopeoReads(t *testing.T, host string) {
	skopeo := installed(t, "skopeo")
	lines := of(d.layout, "skopeo")
	if len(lines) != 1 {
		t.Fatalf("verify.txt has %d skopeo lines", len(lines))
	}
	inspect := lines[0]
	if out, err := d.shell(inspect); err != nil || !strings.Contains(out, string(d.build.Artifact.Layers[0].Digest)) {
		t.Errorf("%s: %v\n%s", inspect, err, tail([]byte(out)))
	}
	out := mustRun(t, skopeo, "inspect", "--tls-verify=false", "docker://"+host+"/nginx:stable")
	if !strings.Contains(out, string(d.build.Artifact.Layers[0].Digest)) || !strings.Contains(out, string(d.build.Artifact.Index)) {
		t.Errorf("in the registry skopeo sees\n%s", tail([]byte(out)))
	}
}

// podmanFlags are what a container without CAP_SYS_RESOURCE needs; a whole machine does as well with them.
var podmanFlags = []string{"--ulimit", "nofile=20000:20000", "--ulimit", "nproc=4096:4096", "--pids-limit", "0"}

func (d *demo) podmanRuns(t *testing.T, host string) {
	podman := podmanStore(t)
	lines := of(d.layout, "podman")
	if len(lines) != 1 {
		t.Fatalf("verify.txt has %d podman lines", len(lines))
	}
	words := strings.Fields(lines[0])
	publish, image := words[3:len(words)-1], words[len(words)-1]
	if !slices.Equal(publish, []string{"-p", d.port + ":" + d.port}) {
		t.Errorf("the line does not publish port %s: %s", d.port, lines[0])
	}
	image = strings.Replace(image, "oci:", "oci:"+d.dir+"/", 1)
	for name, args := range map[string][]string{
		"layout":   append(slices.Clone(publish), image),
		"registry": append(slices.Clone(publish), "--tls-verify=false", host+"/nginx:stable"),
	} {
		t.Run(name, func(t *testing.T) { d.serves(t, podman, args) })
	}
	// The image needs nothing writable but /tmp and no capability.
	t.Run("locked down", func(t *testing.T) {
		d.serves(t, podman, append([]string{"--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"}, append(slices.Clone(publish), image)...))
	})
}

// serves runs a container and fetches the page from outside.
func (d *demo) serves(t *testing.T, podman, args []string) {
	name := "kiln-e2e-" + d.port
	command := slices.Concat(podman, []string{"run", "-d", "--name", name}, podmanFlags, args)
	out, err := run(t, command...)
	t.Cleanup(func() { removeContainer(t, podman, name) })
	if err != nil && os.Getenv("CI") != "true" && cannotRun(out) {
		t.Skipf("podman cannot start containers here: %s", tail([]byte(out)))
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, tail([]byte(out)))
	}
	url := "http://127.0.0.1:" + d.port + "/"
	page, err := fetchPage(url)
	if err != nil || !strings.Contains(page, "Built by Kiln") {
		logs, _ := run(t, append(slices.Clone(podman), "logs", name)...)
		t.Errorf("%s: %v\n%s\n%s", url, err, tail([]byte(page)), tail([]byte(logs)))
	}
}

func fetchPage(url string) (page string, err error) {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for range 100 {
		var resp *http.Response
		if resp, err = client.Get(url); err == nil {
			body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
			resp.Body.Close()
			return string(body), err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return "", err
}

// billsAreValid reads the image's referrers from the registry as any program
// can (this registry has no referrers API, so by the tag that takes its place), takes the bills of materials out of them, and checks them against the published schemas.
func (d *demo) billsAreValid(t *testing.T, host string) {
	schemas := sharedSchemas(t)
	base := "http://" + host + "/v2/nginx/"
	var index struct {
		Manifests []struct {
			Digest string
		}
	}
	getJSON(t, base+"manifests/"+strings.Replace(string(d.build.Artifact.Index), ":", "-", 1), &index)
	found := map[string]bool{}
	for _, m := range index.Manifests {
		var manifest struct {
			Layers []struct{ Digest string }
		}
		getJSON(t, base+"manifests/"+m.Digest, &manifest)
		for _, layer := range manifest.Layers {
			kind, predicate := statement(t, base+"blobs/"+layer.Digest)
			found[kind] = true
			if schema := schemas[kind]; schema != nil {
				if err := schema.Validate(predicate); err != nil {
					t.Errorf("%s is not valid: %v", kind, err)
				}
			}
		}
	}
	for _, kind := range []string{kiln.PredicateCycloneDX, kiln.PredicateSPDX, kiln.PredicateProvenance, kiln.PredicateTestResult, kiln.PredicateVerification} {
		if !found[kind] {
			t.Errorf("the registry has no %s of the image", kind)
		}
	}
}

// statement reads a signed bundle and returns its predicate.
func statement(t *testing.T, url string) (kind string, predicate any) {
	t.Helper()
	var bundle struct {
		DSSEEnvelope struct{ Payload string }
	}
	getJSON(t, url, &bundle)
	payload, err := base64.StdEncoding.DecodeString(bundle.DSSEEnvelope.Payload)
	must(t, err)
	var s struct {
		PredicateType string
		Predicate     any
	}
	must(t, json.Unmarshal(payload, &s))
	return s.PredicateType, s.Predicate
}

func getJSON(t *testing.T, url string, out any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	req.Header.Set("Accept", "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, */*")
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", url, resp.Status)
	}
	must(t, json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(out))
}

// sharedSchemas are the published schemas of bills of materials, by predicate type.
func sharedSchemas(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	base := os.Getenv("KILN_SHARED")
	if base == "" {
		base = filepath.Join("..", "..", "shared")
	}
	compiler := jsonschema.NewCompiler()
	for url, file := range map[string]string{
		"http://cyclonedx.org/schema/bom-1.6.schema.json":  "cyclonedx-bom-1.6.schema.json",
		"http://cyclonedx.org/schema/spdx.schema.json":     "cyclonedx-spdx.schema.json",
		"http://cyclonedx.org/schema/jsf-0.82.schema.json": "cyclonedx-jsf-0.82.schema.json",
		"urn:spdx": "spdx-2.3.schema.json",
	} {
		f, err := os.Open(filepath.Join(base, "schemas", file))
		if err != nil {
			missing(t, fmt.Sprintf("no schemas to check against: %v; set KILN_SHARED", err))
		}
		doc, err := jsonschema.UnmarshalJSON(f)
		f.Close()
		must(t, err)
		must(t, compiler.AddResource(url, doc))
	}
	out := map[string]*jsonschema.Schema{}
	for kind, url := range map[string]string{kiln.PredicateCycloneDX: "http://cyclonedx.org/schema/bom-1.6.schema.json", kiln.PredicateSPDX: "urn:spdx"} {
		schema, err := compiler.Compile(url)
		must(t, err)
		out[kind] = schema
	}
	return out
}
