//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"kiln"
)

// ordinary is a user that exists in private mount namespaces only.
type ordinary struct {
	*factory
	home string // also where state and results lie
}

const (
	ordinaryID = "54321"
	ranges     = "kilntest:100000:65536\n"
)

// become takes the user's files into a private mount namespace and changes to the user.
const become = `cd "$1" && mount --bind passwd /etc/passwd && mount --bind ranges /etc/subuid && mount --bind ranges /etc/subgid &&
shift && cd home && exec setpriv --reuid ` + ordinaryID + ` --regid ` + ordinaryID + ` --clear-groups "$@"`

func newOrdinary(t *testing.T, f *factory) *ordinary {
	t.Helper()
	for _, tool := range []string{"newuidmap", "newgidmap", "unshare", "setpriv"} {
		installed(t, tool)
	}
	u := &ordinary{factory: f, home: filepath.Join(f.dir, "home")}
	must(t, os.Chmod(f.dir, 0o755))
	must(t, os.Mkdir(u.home, 0o700))
	must(t, os.Chown(u.home, 54321, 54321))
	users, err := os.ReadFile("/etc/passwd")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(f.dir, "passwd"), append(users, "kilntest:x:"+ordinaryID+":"+ordinaryID+"::"+u.home+":/bin/sh\n"...), 0o644))
	must(t, os.CopyFS(filepath.Join(f.dir, "examples"), os.DirFS(f.examples)))
	u.grant(t, ranges)
	return u
}

// grant replaces the user's subordinate ids.
func (u *ordinary) grant(t *testing.T, ranges string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(u.dir, "ranges"), []byte(ranges), 0o644))
}

// command runs the program as the user, in the user's home.
func (u *ordinary) command(args ...string) *exec.Cmd {
	list := append([]string{"-m", "/bin/sh", "-c", become, "sh", u.dir, u.binary}, args...)
	cmd := exec.CommandContext(u.t.Context(), "unshare", list...)
	cmd.Env = append(os.Environ(), "HOME="+u.home, "XDG_DATA_HOME=", "KILN_KEY_PASSPHRASE="+string(passphrase))
	return cmd
}

func (u *ordinary) as(t *testing.T, args ...string) string {
	t.Helper()
	cmd := u.command(args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("as an ordinary user: kiln %s: %v\n%s", strings.Join(args, " "), err, tail(errs.Bytes()))
	}
	return string(out)
}

// TestAnOrdinaryUserBuildsTheSameImage locks and builds the nginx example as
// root, and builds it from that lock as an ordinary user: the same digest.
func TestAnOrdinaryUserBuildsTheSameImage(t *testing.T) {
	f := newFactory(t)
	u := newOrdinary(t, f)
	recipe := filepath.Join(f.dir, "examples", "nginx")
	asRoot := f.build(recipe, "--out", "out/demo")
	lock := filepath.Join(f.dir, "out/demo/kiln.lock")

	u.as(t, "key", "new")
	stream := strings.Split(strings.TrimSpace(u.as(t, "build", recipe, "--lock", lock, "--out", "out", "--json")), "\n")
	var e kiln.Event
	if err := json.Unmarshal([]byte(stream[len(stream)-1]), &e); err != nil || e.Result == nil {
		t.Fatalf("no result: %v", err)
	}
	if e.Result.Artifact.Index != asRoot.Artifact.Index {
		t.Errorf("an ordinary user builds %s, root %s", e.Result.Artifact.Index, asRoot.Artifact.Index)
	}
	if again := u.as(t, "build", recipe, "--lock", lock); !strings.Contains(again, "Nothing changed") {
		t.Errorf("the second build says %q", again)
	}
	u.ownsEverything(t)
}

// ownsEverything checks that the user can remove what the builds left, without root.
func (u *ordinary) ownsEverything(t *testing.T) {
	t.Helper()
	for _, want := range []string{".local/share/kiln/kiln.db", "out/verify.txt"} {
		if _, err := os.Stat(filepath.Join(u.home, want)); err != nil {
			t.Error(err)
		}
	}
	must(t, filepath.WalkDir(u.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != 54321 {
			t.Errorf("%s belongs to %d", path, info.Sys().(*syscall.Stat_t).Uid)
		}
		return err
	}))
}

// TestWhereRootlessCannotWorkOneLineSaysWhatToDo looks at the message and the
// status where a user has no subordinate ids, no newuidmap, or may make no user namespace.
func TestWhereRootlessCannotWorkOneLineSaysWhatToDo(t *testing.T) {
	u := newOrdinary(t, newFactory(t))
	u.as(t, "key", "new")
	recipe := filepath.Join(u.dir, "examples", "nginx")
	for name, c := range map[string]struct {
		prepare func(*exec.Cmd)
		ranges  string
		want    string
	}{
		"no range":           {ranges: "", want: "as root, add the line kilntest:100000:65536"},
		"no newuidmap":       {ranges: ranges, prepare: withoutPath, want: "install the package uidmap"},
		"no user namespaces": {ranges: ranges, prepare: withoutUserNamespaces, want: "raise it, as root: sysctl user.max_user_namespaces="},
	} {
		t.Run(name, func(t *testing.T) {
			u.grant(t, c.ranges)
			cmd := u.command("build", recipe)
			if c.prepare != nil {
				c.prepare(cmd)
			}
			out, err := cmd.CombinedOutput()
			if err == nil || cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("status %d, want 1", cmd.ProcessState.ExitCode())
			}
			if text := string(out); !strings.Contains(text, c.want) || strings.Count(text, "\n") != 1 {
				t.Errorf("want one line with %q, got\n%s", c.want, text)
			}
		})
	}
}

// withoutPath leaves the program no place to find other programs in.
func withoutPath(cmd *exec.Cmd) {
	last := len(cmd.Args) - 3 // the program itself, before `build` and the recipe
	cmd.Args = append(cmd.Args[:last], append([]string{"/usr/bin/env", "PATH=/nonexistent"}, cmd.Args[last:]...)...)
}

// withoutUserNamespaces runs the command in a user namespace of the same ids
// in which no further one may be made.
func withoutUserNamespaces(cmd *exec.Cmd) {
	all := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: all, GidMappings: all, GidMappingsEnableSetgroups: true}
	for i, arg := range cmd.Args {
		if arg == become {
			cmd.Args[i] = "echo 0 >/proc/sys/user/max_user_namespaces && " + become
		}
	}
}
