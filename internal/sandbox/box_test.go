package sandbox

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// server builds a static program that listens on a port and answers with its
// standard input's first line; it is the service of the tests.
func server(t *testing.T, root string) {
	t.Helper()
	src := t.TempDir()
	const program = `package main

import ("fmt"; "net"; "os")

func main() {
	l, err := net.Listen("tcp", os.Args[1])
	if err != nil { fmt.Println(err); os.Exit(3) }
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil { return }
		fmt.Fprint(c, "hello from the box")
		c.Close()
	}
}
`
	if err := os.WriteFile(src+"/main.go", []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(root, "bin/server"), src+"/main.go")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("building the test service: %v\n%s", err, out)
	}
}

func TestBoxOfAService(t *testing.T) {
	root := testRoot(t)
	server(t, root)
	var log bytes.Buffer
	b, err := Start(t.Context(), Spec{Layers: []string{root}, Args: []string{"server", "0.0.0.0:80"}, UID: 33, GID: 33, Stdout: &log, Capabilities: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Stop(0)
	if got := answer(t, b, "localhost:80"); got != "hello from the box" {
		t.Errorf("answer %q", got)
	}
	ports, err := b.Listening()
	if err != nil || len(ports) != 1 || ports[0] != (Port{"tcp", "0.0.0.0", 80}) {
		// the address depends on whether the kernel has IPv6
		if len(ports) != 1 || ports[0].Port != 80 {
			t.Errorf("listening: %v, %v", ports, err)
		}
	}
	procs, err := b.Processes()
	if err != nil || len(procs) != 1 || procs[0].PID != 1 || procs[0].Name != "server" || procs[0].Exe != "/bin/server" || len(procs[0].Args) != 2 {
		t.Errorf("processes: %+v, %v", procs, err)
	}
	if _, err := os.Stat(b.Root() + "/bin/server"); err != nil {
		t.Error(err)
	}
	r := b.Stop(5 * time.Second)
	if r.Signal != "SIGTERM" && r.ExitCode != 0 && r.ExitCode != 2 {
		t.Errorf("stopped with %+v", r)
	}
	if log.String() != "ready\n" {
		t.Errorf("log %q", log.String())
	}
	if _, err := b.Exec(t.Context(), ExecSpec{Args: []string{"true"}}); !errors.Is(err, ErrEnded) {
		t.Errorf("Exec after the end: %v", err)
	}
}

// answer dials until the service listens.
func answer(t *testing.T, b *Box, address string) string {
	t.Helper()
	for range 100 {
		c, err := b.Dial(t.Context(), "tcp", address)
		if err == nil {
			data, _ := io.ReadAll(c)
			_ = c.Close()
			return string(data)
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the service never listened")
	return ""
}

func TestEmptyBox(t *testing.T) {
	root := testRoot(t)
	b, err := Start(t.Context(), Spec{Layers: []string{root}})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	run := func(uid int, script string) Result {
		out.Reset()
		r, err := b.Exec(t.Context(), ExecSpec{Args: []string{"sh", "-c", script}, UID: uid, GID: uid, Stdout: &out, Stderr: &out})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := run(0, "echo x > /etc/f; (sleep 60 &) ; exit 3"); r.ExitCode != 3 {
		t.Errorf("exit %d: %s", r.ExitCode, out.String())
	}
	if r := run(33, "cat /etc/f; id -u; kill -9 $$"); r.Signal != "SIGKILL" || out.String() != "x\n33\n" {
		t.Errorf("%+v %q", r, out.String())
	}
	procs, err := b.Processes()
	if err != nil || len(procs) != 1 || procs[0].Name != "sleep" || procs[0].PPID != 1 {
		t.Errorf("processes %+v, %v", procs, err)
	}
	if ports, err := b.Listening(); err != nil || len(ports) != 0 {
		t.Errorf("listening %v, %v", ports, err)
	}
	b.Stop(time.Second)
}

// TestNothingOutlivesTheCaller kills the program that made a box, and looks for
// what is left. The program is this test, run again with a request to sleep.
func TestNothingOutlivesTheCaller(t *testing.T) {
	if dir := os.Getenv("KILN_TEST_SLEEP_ON"); dir != "" {
		f, err := NewFork(dir+"/fork", dir+"/root")
		if err != nil {
			t.Fatal(err)
		}
		_, err = Run(t.Context(), Spec{Layers: []string{f.Merged}, Args: []string{"sh", "-c", "sleep 67 & echo up > /tmp/x; sleep 67"}, Mounts: []Mount{{Type: "bind", Source: dir + "/flag", Target: "/tmp", Options: "exec"}}})
		t.Fatal(err)
	}
	root, dir := testRoot(t), t.TempDir()
	if err := os.Rename(root, dir+"/root"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/flag", 0o777); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNothingOutlivesTheCaller$")
	cmd.Env = append(os.Environ(), "KILN_TEST_SLEEP_ON="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 250 {
		if _, err := os.Stat(dir + "/flag/x"); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if sleepers(t) == 0 {
		t.Error("the box never ran")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for range 100 {
		if sleepers(t) == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if n := sleepers(t); n != 0 {
		t.Errorf("%d processes of the box live on", n)
	}
	if mounts, _ := os.ReadFile("/proc/1/mountinfo"); strings.Contains(string(mounts), dir) {
		t.Errorf("mounts are left:\n%s", mounts)
	}
}

// sleepers counts the processes "sleep 67".
func sleepers(t *testing.T) (n int) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil && string(data) == "sleep\x0067\x00" {
			n++
		}
	}
	return n
}

func TestFork(t *testing.T) {
	needBoxes(t)
	layer, work := t.TempDir(), t.TempDir()
	if err := os.WriteFile(layer+"/a", []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := NewFork(work+"/fork", layer)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.Merged+"/a", []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(layer + "/a"); string(data) != "old" {
		t.Errorf("the layer says %q", data)
	}
	if f.Copied == "" {
		if data, _ := os.ReadFile(f.Upper + "/a"); string(data) != "new" {
			t.Errorf("the upper directory says %q", data)
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(work + "/fork"); err == nil {
		t.Error("the fork was left behind")
	}
}

func TestCopyOfLayers(t *testing.T) {
	needBoxes(t)
	lower, upper, out := t.TempDir(), t.TempDir(), t.TempDir()
	steps := []error{
		os.WriteFile(lower+"/gone", nil, 0o644), os.WriteFile(lower+"/kept", []byte("k"), 0o4755), os.Chmod(lower+"/kept", 0o755|os.ModeSetuid),
		os.Link(lower+"/kept", lower+"/twin"), os.Mkdir(lower+"/d", 0o750), os.WriteFile(lower+"/d/hidden", nil, 0o644),
		unix.Mknod(upper+"/gone", unix.S_IFCHR, 0), os.Mkdir(upper+"/d", 0o700), unix.Setxattr(upper+"/d", "user.overlay.opaque", []byte("y"), 0),
		os.Symlink("kept", upper+"/link"),
	}
	if err := errors.Join(steps...); err != nil {
		t.Skip("preparing layers:", err)
	}
	if err := copyLayers(out, []string{upper, lower}); err != nil {
		t.Fatal(err)
	}
	for _, absent := range []string{"/gone", "/d/hidden"} {
		if _, err := os.Lstat(out + absent); err == nil {
			t.Error(absent, "shows")
		}
	}
	var a, b unix.Stat_t
	if err := errors.Join(unix.Stat(out+"/kept", &a), unix.Stat(out+"/twin", &b)); err != nil || a.Ino != b.Ino || a.Mode&0o7777 != 0o4755 {
		t.Errorf("%v, inodes %d %d, mode %o", err, a.Ino, b.Ino, a.Mode)
	}
	if to, _ := os.Readlink(out + "/link"); to != "kept" {
		t.Errorf("link to %q", to)
	}
}

func TestLimits(t *testing.T) {
	root := testRoot(t)
	const bomb = "i=0; while [ $i -lt 20 ]; do sleep 9 >/dev/null 2>&1 & i=$((i+1)); done; echo all"
	s := Spec{Layers: []string{root}, PIDs: 8, Memory: 64 << 20}
	out, r := sh(t, s, bomb)
	if len(r.Notes) == 0 && strings.Contains(out, "all") {
		t.Errorf("20 processes where 8 may be: %q", out)
	}
	b, err := Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Stop(0)
	var more bytes.Buffer
	if _, err := b.Exec(t.Context(), ExecSpec{Args: []string{"sh", "-c", bomb}, Stdout: &more, Stderr: &more}); err != nil {
		t.Fatal(err)
	}
	if len(r.Notes) == 0 && strings.Contains(more.String(), "all") {
		t.Errorf("a later program is not limited: %q", more.String())
	}
	_, r = sh(t, s, "a=0123456789012345678901234567890123456789; while :; do a=$a$a; done")
	if r.ExitCode == 0 {
		t.Errorf("more memory than may be: %+v", r)
	}
	t.Log("notes:", r.Notes)
}

func TestParseSockets(t *testing.T) {
	const table = "  sl  local_address rem_address   st\n" +
		"   0: 0100007F:1F90 00000000:0000 0A 0 0\n" +
		"   1: 0100007F:1F91 0200007F:0050 01 0 0\n"
	ports, err := parseSockets(table, "tcp", "0A")
	if err != nil || len(ports) != 1 || ports[0] != (Port{"tcp", "127.0.0.1", 8080}) {
		t.Errorf("%v, %v", ports, err)
	}
	ports, err = parseSockets("h\n 0: 00000000000000000000000001000000:0035 0:0 0A\n", "tcp", "0A")
	if err != nil || len(ports) != 1 || ports[0] != (Port{"tcp", "::1", 53}) {
		t.Errorf("%v, %v", ports, err)
	}
	for _, bad := range []string{"zz:1", "0100007F", "01:0050", "0100007F:" + strconv.Itoa(1<<20)} {
		if _, _, err := parseEndpoint(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}
