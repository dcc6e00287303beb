package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	Init()
	if err := Supported(); err == nil {
		if err := Enter(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if role := os.Getenv("KILN_TEST_ROLE"); role != "" {
		play(role)
	}
	os.Exit(m.Run())
}

// play is what this program does when a test starts it again to see how a
// program that has called Enter ends.
func play(role string) {
	switch role {
	case "exit":
		os.Exit(7)
	case "term":
		c := make(chan os.Signal, 1)
		signal.Notify(c, unix.SIGTERM)
		fmt.Println("ready", os.Getuid())
		<-c
		os.Exit(9)
	case "die":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	}
}

// needBoxes skips where the machine gives no namespaces; with CI=true it fails.
func needBoxes(t testing.TB) {
	t.Helper()
	if err := Supported(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// programs of the test root: the machine's own with the libraries they name.
var programs = []string{"sh", "cat", "id", "ls", "true", "sleep", "touch", "mkdir", "chown", "env", "readlink", "mount", "unshare", "setpriv"}

// testRoot makes a small root file system from the machine's programs.
func testRoot(t testing.TB) string {
	t.Helper()
	needBoxes(t)
	root := t.TempDir()
	for _, d := range []string{"bin", "proc", "dev", "sys", "etc", "tmp", "lib", "lib64"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range programs {
		path, err := exec.LookPath(p)
		if err != nil {
			t.Skipf("the machine lacks %s for the test root", p)
		}
		install(t, root, path, "/bin/"+p)
	}
	return root
}

// install copies a program and its libraries into root.
func install(t testing.TB, root, from, to string) {
	t.Helper()
	put := func(from, to string) {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		dst := filepath.Join(root, to)
		if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dst, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(from, to)
	out, _ := exec.Command("ldd", from).Output()
	for line := range strings.Lines(string(out)) {
		for _, f := range strings.Fields(line) {
			if strings.HasPrefix(f, "/") {
				if _, err := os.Stat(filepath.Join(root, f)); err != nil {
					put(f, f)
				}
				break
			}
		}
	}
}

// sh runs a shell script in a box and returns its combined output.
func sh(t testing.TB, s Spec, script string) (string, Result) {
	t.Helper()
	var out bytes.Buffer
	s.Args, s.Stdout, s.Stderr = []string{"sh", "-c", script}, &out, &out
	r, err := Run(t.Context(), s)
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out.String())
	}
	return out.String(), r
}

func TestRun(t *testing.T) {
	root := testRoot(t)
	tests := []struct {
		name, script string
		change       func(*Spec)
		out          string
		code         int
	}{
		{name: "the exit code passes", script: "exit 7", code: 7},
		{name: "it is process 1 and alone", script: "echo $$; echo /proc/[0-9]*", out: "1\n/proc/1\n"},
		{name: "no environment is inherited", script: "env | sort 2>/dev/null || env", change: func(s *Spec) { s.Env = []string{"A=b"} }},
		{name: "standard input", script: "cat", change: func(s *Spec) { s.Stdin = strings.NewReader("hello") }, out: "hello"},
		{name: "a user with groups", script: "id -u; id -g; id -G", change: func(s *Spec) { s.UID, s.GID, s.Groups = 33, 34, []int{35} }, out: "33\n34\n34 35\n"},
		{name: "only loopback", script: "cat /proc/net/dev | while read l; do case $l in *:*) echo ${l%%:*};; esac; done", out: "lo\n"},
		{name: "the host name", script: "read h < /proc/sys/kernel/hostname; echo $h", change: func(s *Spec) { s.Hostname = "box" }, out: "box\n"},
		{name: "the working directory", script: "pwd", change: func(s *Spec) { s.Dir = "/etc" }, out: "/etc\n"},
		{name: "sysctls are read-only", script: "echo x > /proc/sys/kernel/hostname", code: 2, out: "sh: 1: cannot create /proc/sys/kernel/hostname: Read-only file system\n"},
		{name: "devices work", script: "echo x > /dev/null; cat /dev/null; ls /dev", code: -1},
		{name: "read-only root", script: "echo x > /etc/f", change: func(s *Spec) { s.ReadOnly = true }, code: 2, out: "sh: 1: cannot create /etc/f: Read-only file system\n"},
		{name: "a tmpfs", script: "echo x > /made/deep/f && cat /made/deep/f", change: func(s *Spec) {
			s.ReadOnly = true
			s.Mounts = []Mount{{Type: "tmpfs", Target: "/made/deep"}}
		}, out: "x\n"},
		{name: "mount is refused", script: "mount -t tmpfs none /tmp 2>/dev/null || echo refused", out: "refused\n"},
		{name: "a new user namespace is refused", script: "unshare -U true 2>/dev/null || echo refused", out: "refused\n"},
		{name: "capabilities", script: "while read k v; do case $k in Cap*|NoNewPrivs:|Seccomp:) echo $k $v;; esac; done < /proc/self/status", change: func(s *Spec) {
			s.Capabilities, s.NoNewPrivileges = []string{"CAP_CHOWN", "CAP_SETUID"}, true
		}, out: "CapInh: 0000000000000000\nCapPrm: 0000000000000081\nCapEff: 0000000000000081\nCapBnd: 0000000000000081\nCapAmb: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\n"},
		{name: "kernel memory is masked", script: "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null", code: -1, out: ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := Spec{Layers: []string{root}}
			if tt.change != nil {
				tt.change(&s)
			}
			out, r := sh(t, s, tt.script)
			if tt.code >= 0 && r.ExitCode != tt.code {
				t.Errorf("exit %d, want %d; %s", r.ExitCode, tt.code, out)
			}
			switch tt.name {
			case "no environment is inherited":
				if strings.Contains(out, "HOME=") || !strings.Contains(out, "A=b") {
					t.Errorf("environment:\n%s", out)
				}
			case "devices work":
				for _, d := range []string{"full", "null", "ptmx", "pts", "random", "shm", "tty", "urandom", "zero"} {
					if !strings.Contains(out, d+"\n") {
						t.Errorf("no /dev/%s in:\n%s", d, out)
					}
				}
			default:
				if out != tt.out {
					t.Errorf("output %q, want %q", out, tt.out)
				}
			}
		})
	}
}

func TestChangesGoToUpper(t *testing.T) {
	root, tmp := testRoot(t), t.TempDir()
	upper, work := tmp+"/upper", tmp+"/work"
	for _, d := range []string{upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sh(t, Spec{Layers: []string{root}, Upper: upper, Work: work, Mounts: []Mount{{Type: "tmpfs", Target: "/run/x"}}}, "echo new > /etc/f")
	if data, err := os.ReadFile(upper + "/etc/f"); err != nil || string(data) != "new\n" {
		t.Errorf("upper: %q, %v", data, err)
	}
	if _, err := os.Stat(root + "/etc/f"); err == nil {
		t.Error("the layer was changed")
	}
	if _, err := os.Stat(upper + "/run"); err == nil {
		t.Error("a mount point was left behind")
	}
}

func TestRootAsItIs(t *testing.T) {
	root := testRoot(t)
	if err := os.Remove(root + "/proc"); err != nil {
		t.Fatal(err)
	}
	if out, r := sh(t, Spec{Root: root}, "echo new > /etc/f"); r.ExitCode != 0 {
		t.Fatal(out)
	}
	if _, err := os.Stat(root + "/etc/f"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(root + "/proc"); err == nil {
		t.Error("the mount point /proc was left behind")
	}
}

func TestHostileRoot(t *testing.T) {
	for _, dir := range []string{"proc", "dev", "sys"} {
		root := testRoot(t)
		if err := os.Remove(filepath.Join(root, dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/etc", filepath.Join(root, dir)); err != nil {
			t.Fatal(err)
		}
		_, err := Run(t.Context(), Spec{Layers: []string{root}, Args: []string{"true"}})
		if err == nil || !strings.Contains(err.Error(), "/"+dir+" of the root is not a directory") {
			t.Errorf("/%s a symbolic link: %v", dir, err)
		}
	}
}

func TestCannotRun(t *testing.T) {
	root := testRoot(t)
	if err := os.WriteFile(root+"/bin/bad", []byte("#!/no/such/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		dir  string
		want string
	}{
		{args: []string{"nothing-here"}, want: "no such program in the image (looked in /usr/local/sbin"},
		{args: []string{"/no/such"}, want: "no such program in the image"},
		{args: []string{"bad"}, want: "the interpreter or dynamic loader that it names is not in the image"},
		{args: []string{"true"}, dir: "/none", want: "entering /none: no such file or directory"},
		{args: []string{"/etc"}, want: "permission denied"},
	} {
		_, err := Run(t.Context(), Spec{Layers: []string{root}, Args: tt.args, Dir: tt.dir})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.args, err, tt.want)
		}
	}
}

func TestCancelKillsEverything(t *testing.T) {
	root := testRoot(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := Run(ctx, Spec{Layers: []string{root}, Args: []string{"sh", "-c", "sleep 61 & sleep 61"}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("took %v", d)
	}
}
