package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// asUser returns a command that runs this test program as an ordinary user with
// subordinate ranges, which exist in a private mount namespace only.
func asUser(t *testing.T, ranges string, args ...string) *exec.Cmd {
	t.Helper()
	needBoxes(t)
	if inUserNamespace() {
		t.Skip("needs the machine's root")
	}
	for _, tool := range []string{"newuidmap", "unshare", "setpriv"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	dir := t.TempDir()
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	users, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	const id = "54321"
	for name, data := range map[string][]byte{
		"program": program, "ranges": []byte(ranges),
		"passwd": append(users, "kilntest:x:"+id+":"+id+"::/:/bin/sh\n"...),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(dir+"/tmp", 0o777), os.Chmod(dir+"/tmp", 0o777), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	const script = `cd "$1" && mount --bind passwd /etc/passwd && mount --bind ranges /etc/subuid && mount --bind ranges /etc/subgid &&
shift && exec setpriv --reuid ` + id + ` --regid ` + id + ` --clear-groups ./program "$@"`
	cmd := exec.Command("unshare", append([]string{"-m", "sh", "-c", script, "sh", dir}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir+"/tmp", "HOME=/")
	return cmd
}

const enough = "kilntest:100000:65536\n"

// TestRootless repeats the tests of boxes as an ordinary user.
func TestRootless(t *testing.T) {
	cmd := asUser(t, enough, "-test.run=^(TestRun|TestChangesGoToUpper|TestRootAsItIs|TestHostileRoot|TestCannotRun|TestCancelKillsEverything|TestEmptyBox|TestFork|TestCopyOfLayers|TestNothingOutlivesTheCaller)$", "-test.v")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP") || !strings.Contains(string(out), "--- PASS: TestEmptyBox") {
		t.Errorf("tests were skipped:\n%s", out)
	}
}

// TestEndOfAnEnteredProgram looks at exit codes and signals through Enter.
func TestEndOfAnEnteredProgram(t *testing.T) {
	needBoxes(t)
	for mode, command := range map[string]func(*testing.T) *exec.Cmd{
		"root":     func(*testing.T) *exec.Cmd { return exec.Command("/proc/self/exe") },
		"rootless": func(t *testing.T) *exec.Cmd { return asUser(t, enough) },
	} {
		t.Run(mode, func(t *testing.T) {
			start := func(role string) *exec.Cmd {
				cmd := command(t)
				if cmd.Env == nil {
					cmd.Env = os.Environ()
				}
				cmd.Env = append(cmd.Env, "KILN_TEST_ROLE="+role)
				cmd.Stderr = os.Stderr
				return cmd
			}
			var exit *exec.ExitError
			if err := start("exit").Run(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
				t.Errorf("exit code 7 arrives as %v", err)
			}
			if err := start("die").Run(); !errors.As(err, &exit) || exit.String() != "signal: killed" {
				t.Errorf("SIGKILL arrives as %v", err)
			}
			cmd := start("term")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready 0\n" {
				t.Errorf("inside: %q, %v", line, err)
			}
			if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 9 {
				t.Errorf("the end by SIGTERM arrives as %v", err)
			}
		})
	}
}

// TestRemedies looks at the one line a user gets where rootless cannot work.
func TestRemedies(t *testing.T) {
	for ranges, want := range map[string]string{
		"":                    "as root, add the line kilntest:100000:65536",
		"kilntest:1000:10\n":  "found 10",
		"kilntest:many:1\n":   "cannot read the line",
		"somebody:1:900000\n": "found 0",
	} {
		cmd := asUser(t, ranges, "-test.run=^TestSupported$", "-test.v")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("ranges %q: %v, want %q in:\n%s", ranges, err, want, out)
		}
	}
}

// TestSupported prints what Supported says.
func TestSupported(t *testing.T) {
	if err := Supported(); err != nil {
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("more than one line: %v", err)
		}
		fmt.Println(err)
	}
}

func TestReadRanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "subuid")
	if err := os.WriteFile(file, []byte("other:1:2\n\nme:100000:65536\n1000:300000:10\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := readRanges(file, "me", 1000)
	if err != nil || fmt.Sprint(got) != "[{100000 65536} {300000 10}]" {
		t.Errorf("%v, %v", got, err)
	}
}
