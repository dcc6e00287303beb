package trial

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/internal/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	if err := sandbox.Supported(); err == nil {
		if err := sandbox.Enter(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	dir, err := os.MkdirTemp("", "kiln-trial-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "app")
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// program is the candidate's only program, built once.
var program string

const source = `package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

func main() {
	switch os.Args[1] {
	case "serve":
		time.Sleep(150 * time.Millisecond)
		fmt.Println("about to listen on", os.Args[2])
		http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Kind", "test")
			fmt.Fprintf(w, "hello %s\nuid %d home %s\n", r.Host, os.Getuid(), os.Getenv("HOME"))
		})
		http.HandleFunc("/none", http.NotFound)
		if len(os.Args) > 3 {
			go echo(os.Args[3])
		}
		fmt.Println(http.ListenAndServe(os.Args[2], nil))
		os.Exit(4)
	case "exit":
		fmt.Println("cannot find my configuration")
		n, _ := strconv.Atoi(os.Args[2])
		os.Exit(n)
	case "sleep":
		time.Sleep(time.Hour)
	case "say":
		io.Copy(os.Stderr, os.Stdin)
		fmt.Println(os.Args[2], os.Getenv("SET"))
	case "write":
		if err := os.WriteFile(os.Args[2], []byte("x"), 0o640); err != nil { fmt.Println(err); os.Exit(1) }
	case "flood":
		for { fmt.Println("0123456789012345678901234567890123456789") }
	}
}

func echo(address string) {
	l, err := net.Listen("tcp", address)
	if err != nil { panic(err) }
	for {
		c, err := l.Accept()
		if err != nil { return }
		go func() { b := make([]byte, 100); n, _ := c.Read(b); c.Write(append([]byte("got "), b[:n]...)) }()
	}
}
`

// candidate makes a tree with the program and an account.
func candidate(t *testing.T) string {
	t.Helper()
	if err := sandbox.Supported(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	root := t.TempDir()
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/none\nweb:x:101:102::/srv/web:/bin/none\n",
		"etc/group":  "root:x:0:\nweb:x:102:\nextra:x:103:web\n",
		"etc/conf":   "port 80\nmode safe\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"etc/link": "/etc/conf", "etc/escape": "/../../../../etc/shadow"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	build(t)
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/app"), data, 0o755); err != nil {
		t.Fatal(err)
	}
	return root
}

func build(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(program); err == nil {
		return
	}
	main := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(main, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", program, main)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the candidate's program: %v\n%s", err, out)
	}
}

// digest stands for the tree's.
const digest = kiln.Digest("sha256:0000000000000000000000000000000000000000000000000000000000000000")

// try runs tests on a candidate with an entrypoint.
func try(t *testing.T, root string, entrypoint []string, tests ...kiln.Test) *kiln.Trial {
	t.Helper()
	d, err := Run(t.Context(), Input{
		Layers: []string{root}, Tree: digest, Tests: tests,
		Config: kiln.ImageConfig{Entrypoint: entrypoint, User: "web", WorkDir: "/tmp", Env: []string{"PATH=/bin"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	return d
}

func run(args ...string) *kiln.RunTest {
	return &kiln.RunTest{Command: append([]string{"app"}, args...)}
}

func TestService(t *testing.T) {
	root := candidate(t)
	short := kiln.Duration(300 * time.Millisecond)
	cases := []struct {
		name     string
		test     kiln.Test
		result   string
		observed string
	}{
		{"a run whose user comes from the image", kiln.Test{Run: &kiln.RunTest{Command: []string{"app", "say", "hi"}, Stdout: []string{"^hi 1$"}, Stderr: []string{"in"}, Stdin: "in", Env: map[string]string{"SET": "1"}}}, kiln.Pass, "exit code 0"},
		{"a run that writes where its user may not", kiln.Test{Run: run("write", "/etc/new")}, kiln.Fail, "with exit code 1; output: open /etc/new: permission denied"},
		{"a run as another user", kiln.Test{Run: &kiln.RunTest{Command: []string{"app", "write", "/etc/new"}, User: "root"}}, kiln.Pass, ""},
		{"a run of what is not there", kiln.Test{Run: &kiln.RunTest{Command: []string{"curl"}}}, kiln.Fail, "no such program in the image"},
		{"a run that hangs", kiln.Test{Run: run("sleep"), Timeout: short}, kiln.Fail, "no answer within 300ms"},
		{"a run whose output does not match", kiln.Test{Run: &kiln.RunTest{Command: []string{"app", "say", "a"}, Stdout: []string{"b"}}}, kiln.Fail, "nothing in standard output matches b; output: a"},
		{"a bad expression", kiln.Test{Run: &kiln.RunTest{Command: []string{"app", "say", "a"}, Stdout: []string{"("}}}, kiln.Error, "missing closing )"},
		{"http", kiln.Test{HTTP: &kiln.HTTPTest{URL: "http://127.0.0.1:80/", Match: []string{"^uid 101 home /srv/web$"}, Response: map[string]string{"X-Kind": "^test$"}}}, kiln.Pass, "status 200"},
		{"http with a host", kiln.Test{HTTP: &kiln.HTTPTest{URL: "http://localhost/", Headers: map[string]string{"Host": "example.com"}, Match: []string{"hello example.com"}}}, kiln.Pass, ""},
		{"http status", kiln.Test{HTTP: &kiln.HTTPTest{URL: "http://localhost/none"}, Wait: short}, kiln.Fail, "status 404"},
		{"http without a header", kiln.Test{HTTP: &kiln.HTTPTest{URL: "http://localhost/", Response: map[string]string{"X-None": "a"}}, Wait: short}, kiln.Fail, "no header X-None"},
		{"http where nothing listens", kiln.Test{HTTP: &kiln.HTTPTest{URL: "http://localhost:81/"}, Wait: short}, kiln.Fail, "connection refused"},
		{"http of the world", kiln.Test{HTTP: &kiln.HTTPTest{URL: "http://example.com/"}, Wait: short}, kiln.Fail, "no name service"},
		{"tcp", kiln.Test{TCP: &kiln.TCPTest{Address: "7000", Send: "ping", Match: []string{"got ping"}}}, kiln.Pass, ""},
		{"tcp that waits for nothing", kiln.Test{TCP: &kiln.TCPTest{Address: "7000", Send: "ping", Match: []string{"pong"}}, Timeout: short, Wait: short}, kiln.Fail, "received \"got ping\""},
		{"tcp refused", kiln.Test{TCP: &kiln.TCPTest{Address: "127.0.0.1:22", Refused: true}}, kiln.Pass, "connection refused"},
		{"tcp not refused", kiln.Test{TCP: &kiln.TCPTest{Address: "80", Refused: true}}, kiln.Fail, "connected"},
		{"listening", kiln.Test{Listening: &kiln.PortsTest{Ports: []string{"7000/tcp", "80"}}}, kiln.Pass, "80/tcp"},
		{"listening on too much", kiln.Test{Listening: &kiln.PortsTest{Ports: []string{"80"}}, Wait: short}, kiln.Fail, "7000/tcp"},
		{"listening on too little", kiln.Test{Listening: &kiln.PortsTest{Ports: []string{"80", "7000", "53/udp"}}, Wait: short}, kiln.Fail, ""},
		{"a process", kiln.Test{Process: &kiln.ProcessTest{Name: "app", User: "web", Count: 1}}, kiln.Pass, "app (1, user web)"},
		{"a process of another", kiln.Test{Process: &kiln.ProcessTest{Name: "app", User: "root"}}, kiln.Fail, "user web"},
		{"no process", kiln.Test{Process: &kiln.ProcessTest{Name: "sshd", Absent: true}}, kiln.Pass, ""},
		{"a file", kiln.Test{File: &kiln.FileTest{Path: "/etc/conf", Type: "file", Mode: "0644", Owner: "root", Group: "root", Match: []string{"^mode safe$"}}}, kiln.Pass, "file 0644 root:root"},
		{"a file by an absolute link", kiln.Test{File: &kiln.FileTest{Path: "/etc/link", Match: []string{"port 80"}}}, kiln.Pass, ""},
		{"a link", kiln.Test{File: &kiln.FileTest{Path: "/etc/link", Type: "symlink"}}, kiln.Pass, ""},
		{"a link out of the tree", kiln.Test{File: &kiln.FileTest{Path: "/etc/escape"}}, kiln.Fail, "no such file"},
		{"a file's mode", kiln.Test{File: &kiln.FileTest{Path: "/etc/conf", Mode: "0600"}}, kiln.Fail, "file 0644"},
		{"a file's digest", kiln.Test{File: &kiln.FileTest{Path: "/etc/conf", SHA256: "00"}}, kiln.Fail, "sha256"},
		{"an absent file", kiln.Test{File: &kiln.FileTest{Path: "/bin/sh", Absent: true}}, kiln.Pass, "absent"},
		{"a file that should be absent", kiln.Test{File: &kiln.FileTest{Path: "/etc/conf", Absent: true}}, kiln.Fail, "there: file"},
		{"a user nobody knows", kiln.Test{File: &kiln.FileTest{Path: "/etc/conf", Owner: "nobody"}}, kiln.Error, `no user "nobody"`},
	}
	var tests []kiln.Test
	for _, c := range cases {
		c.test.Name = c.name
		tests = append(tests, c.test)
	}
	d := try(t, root, []string{"app", "serve", ":80", ":7000"}, tests...)
	for i, c := range cases {
		r := d.Tests[i]
		if r.Name != c.name || r.Result != c.result || !strings.Contains(r.Observed, c.observed) {
			t.Errorf("%s: %s, want %s; expected %q, observed %q", r.Name, r.Result, c.result, r.Expected, r.Observed)
		}
	}
	if d.Result != kiln.Error || d.StartMillis < 100 || !strings.Contains(d.Log, "about to listen") {
		t.Errorf("result %s, start %d ms, log %q, note %q", d.Result, d.StartMillis, d.Log, d.Note)
	}
	if _, err := os.Stat(root + "/etc/new"); err == nil {
		t.Error("the tree was changed")
	}
}

func TestServiceThatDies(t *testing.T) {
	root := candidate(t)
	begin := time.Now()
	d := try(t, root, []string{"app", "exit", "3"},
		kiln.Test{HTTP: &kiln.HTTPTest{URL: "http://localhost/"}}, kiln.Test{Run: run("say", "a")})
	if d.Result != kiln.Fail || time.Since(begin) > 10*time.Second {
		t.Errorf("%s after %v", d.Result, time.Since(begin))
	}
	for _, r := range d.Tests {
		if r.Result != kiln.Fail || !strings.Contains(r.Observed, "with exit code 3; its last lines:\ncannot find my configuration") {
			t.Errorf("%+v", r)
		}
	}
}

func TestServiceThatIsNeverReady(t *testing.T) {
	root := candidate(t)
	d := try(t, root, []string{"app", "sleep"}, kiln.Test{HTTP: &kiln.HTTPTest{URL: "http://localhost/"}, Wait: kiln.Duration(400 * time.Millisecond)})
	r := d.Tests[0]
	if r.Result != kiln.Fail || r.Attempts < 3 || !strings.Contains(r.Observed, "connection refused (after") || !strings.Contains(r.Observed, "it wrote nothing") {
		t.Errorf("%+v", r)
	}
}

func TestImageForCommands(t *testing.T) {
	root := candidate(t)
	d := try(t, root, []string{"app", "exit", "2"}, kiln.Test{Run: run("say", "a")}, kiln.Test{Process: &kiln.ProcessTest{Name: "app", Absent: true}})
	if d.Result != kiln.Pass || !strings.Contains(d.Note, "with exit code 2") {
		t.Errorf("%+v", d)
	}
	d = try(t, root, nil, kiln.Test{Run: run("say", "a")}, kiln.Test{Listening: &kiln.PortsTest{}})
	if d.Result != kiln.Pass || !strings.Contains(d.Note, "no entrypoint") {
		t.Errorf("%+v", d)
	}
}

func TestLogIsBounded(t *testing.T) {
	root := candidate(t)
	d := try(t, root, []string{"app", "flood"}, kiln.Test{Run: run("say", "a")})
	if len(d.Log) > 260<<10 || len(d.Log) < 200<<10 || !strings.HasPrefix(d.Log, "[...]") {
		t.Errorf("log of %d bytes", len(d.Log))
	}
}

func TestCandidateThatCannotStart(t *testing.T) {
	root := candidate(t)
	for user, want := range map[string]string{"ghost": `no user "ghost"`, "web:ghost": `no group "ghost"`} {
		_, err := Run(t.Context(), Input{Layers: []string{root}, Tree: digest, Config: kiln.ImageConfig{User: user}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", user, err)
		}
	}
	_, err := Run(t.Context(), Input{Layers: []string{root}, Tree: digest, Config: kiln.ImageConfig{Entrypoint: []string{"/bin/none"}}})
	if err == nil || !strings.Contains(err.Error(), "no such program in the image") {
		t.Error(err)
	}
}

func TestComponent(t *testing.T) {
	root := candidate(t)
	dir := t.TempDir()
	const text = `name: check
schemaVersion: 1.0
phases:
  - name: test
    steps:
      - name: Say
        action: ExecuteBinary
        inputs:
          path: /bin/app
          arguments: [say, hello]
      - name: Fail
        action: ExecuteBinary
        onFailure: Abort
        inputs:
          path: /bin/app
          arguments: [exit, "5"]
`
	if err := os.WriteFile(dir+"/c.yaml", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := Run(t.Context(), Input{Layers: []string{root}, Tree: digest, Dir: dir, Tests: []kiln.Test{{Component: "c.yaml"}, {Component: "missing.yaml"}}})
	if err != nil {
		t.Fatal(err)
	}
	if r := d.Tests[0]; r.Result != kiln.Fail || !strings.Contains(r.Observed, "Say: Success") || !strings.Contains(r.Observed, "exit code 5") {
		t.Errorf("%+v", r)
	}
	if r := d.Tests[1]; r.Result != kiln.Error || !strings.Contains(r.Observed, "missing.yaml") {
		t.Errorf("%+v", r)
	}
}

// What tests nothing must not count as a test that passed: the policy asks for tests.
func TestNothingTestedIsNoPass(t *testing.T) {
	root := candidate(t)
	const head = "name: c\nschemaVersion: 1.0\nphases:\n"
	const step = "    steps:\n      - {name: s, action: ExecuteBinary, inputs: {path: /bin/app, arguments: [say, hello]}}\n"
	const ignored = "    steps:\n      - {name: s, action: ExecuteBinary, onFailure: Ignore, inputs: {path: /bin/app, arguments: [exit, '5']}}\n"
	files := map[string]string{
		"build-only.yaml": head + "  - name: build\n" + step,
		"ignored.yaml":    head + "  - name: test\n" + ignored,
		"skipped.yaml":    "file: {/etc/none: {exists: true, skip: true}}\n",
		"empty.yaml":      "file: {}\n",
	}
	d, err := Run(t.Context(), Input{
		Layers: []string{root}, Tree: digest,
		Read:  func(name string) ([]byte, error) { return []byte(files[name]), nil },
		Tests: []kiln.Test{{Component: "build-only.yaml"}, {Component: "ignored.yaml"}, {Goss: "skipped.yaml"}, {Goss: "empty.yaml"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"no test phase", "nothing was tested", "checks nothing", "checks nothing"} {
		if r := d.Tests[i]; r.Result == kiln.Pass || !strings.Contains(r.Observed, want) {
			t.Errorf("want %q in %+v", want, r)
		}
	}
}

func TestGoss(t *testing.T) {
	root := candidate(t)
	dir := t.TempDir()
	file := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file("good.yaml", `
file:
  /etc/conf: {exists: true, mode: "0644", owner: root, filetype: file, contents: ["/^port \\d+$/", "!password"]}
  /etc/none: {exists: false}
  /etc/link: {exists: true, linked-to: /etc/conf}
user:
  web: {exists: true, uid: 101, groups: [web, extra], home: /srv/web}
group:
  web: {exists: true, gid: 102}
port:
  tcp:80: {listening: true}
  tcp:22: {listening: false}
process:
  app: {running: true}
http:
  http://localhost/: {status: 200, body: [hello], headers: ["X-Kind: test"]}
addr:
  tcp://localhost:80: {reachable: true}
package:
  openssh-server: {installed: false}
kernel-param:
  kernel.ostype: {value: Linux}
command:
  id: {exit-status: 0, skip: true}
`)
	file("bad.yaml", "file: {/etc/conf: {exists: true, mode: '0600'}}\nport:\n  tcp:22: {listening: true}\n")
	file("foreign.yaml", "mount: {/: {exists: true}}\n")
	d, err := Run(t.Context(), Input{
		Layers: []string{root}, Tree: digest, Dir: dir,
		Config: kiln.ImageConfig{Entrypoint: []string{"app", "serve", ":80"}, User: "web", Env: []string{"PATH=/bin"}, Ports: []string{"80/tcp"}},
		Tests:  []kiln.Test{{Goss: "good.yaml"}, {Goss: "bad.yaml"}, {Goss: "foreign.yaml"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := d.Tests[0]; r.Result != kiln.Pass || !strings.HasSuffix(r.Observed, "checks hold, 1 skipped by the file") {
		t.Errorf("%+v", r)
	}
	if r := d.Tests[1]; r.Result != kiln.Fail || !strings.Contains(r.Observed, "file /etc/conf: mode should be 0600, is 0644") || !strings.Contains(r.Observed, "port tcp:22") {
		t.Errorf("%+v", r)
	}
	if r := d.Tests[2]; r.Result != kiln.Error || !strings.Contains(r.Observed, "not supported") {
		t.Errorf("%+v", r)
	}
}
