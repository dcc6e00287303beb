package harden

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln"
)

// many is how many users the account files of the test have: as KILN_HOSTILE_USERS says. `make e2e` says a million,
// which with the race detector would take longer than all other tests.
func many() int {
	if n, err := strconv.Atoi(os.Getenv("KILN_HOSTILE_USERS")); err == nil {
		return n
	}
	return 30_000
}

// TestHostileSizes: a million users (fewer in unit tests), a directory of a hundred thousand files, and includes that go round in circles do
// not keep an audit from ending, within bounds of time and memory; what is refused is refused by path.
func TestHostileSizes(t *testing.T) {
	needRoot(t)
	if testing.Short() {
		t.Skip("a tree of many users")
	}
	dir := plant(t, debianWith(append(machine(),
		d("etc/ssh/sshd_config.d", "0755"), d("var/spool/many", "0755"),
		f("etc/sudoers", "0440", "Defaults env_reset\n@include /etc/sudoers.other\n"), f("etc/sudoers.other", "0440", "@include sudoers\n"),
		f("etc/ssh/sshd_config", "0600", "Include /etc/ssh/sshd_config.d/*.conf\n"), f("etc/ssh/sshd_config.d/a.conf", "0600", "Include ../ssh/sshd_config /etc/ssh/sshd_config\n"),
	)...)...)
	users := many()
	manyUsers(t, dir, users)
	for i := range 100_000 {
		must(t, os.WriteFile(filepath.Join(dir, "var/spool/many", fmt.Sprint(i)), nil, 0o644))
	}
	in := Input{Scope: "machine", Controls: everybody(t), Profile: "sizes", Now: time.Unix(1_750_000_000, 0), NoDigest: true}
	peak := watchMemory(t)
	start, used := time.Now(), processor(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // on a busy machine; an idle one takes seconds
	defer cancel()
	res, err := Audit(ctx, dir, in)
	must(t, err)
	most := peak()
	used = processor(t) - used
	t.Logf("%d users: %d objectives in %v, %v of processors, %d MiB", users, len(res.Outcomes), time.Since(start).Round(time.Millisecond), used.Round(time.Millisecond), most>>20)
	if limit := time.Duration(users) * 200 * time.Microsecond; used > limit { // by the clock it depends on what else runs
		t.Errorf("it took %v of processors, more than %v", used, limit)
	}
	if most > 3<<30 {
		t.Errorf("it took %d MiB", most>>20)
	}
	by := map[string]kiln.Outcome{}
	for _, o := range res.Outcomes {
		by[o.Objective] = o
	}
	expect(t, by, "sudo-timeout", kiln.Unknown, "/etc/sudoers")
	expect(t, by, "ssh-auth-tries", kiln.Unknown, "/etc/ssh/sshd_config")
	expect(t, by, "account-zero-uid", kiln.NotSatisfied, "")
	if o := by["account-zero-uid"]; !strings.Contains(o.Observed, fmt.Sprintf("u%07d", users-1)) {
		t.Errorf("the last of the users has the id 0, but: %s", o.Observed)
	}
}

// manyUsers writes account files of n users, of whom the last is another root.
func manyUsers(t *testing.T, dir string, n int) {
	var passwd, shadow, group strings.Builder
	passwd.WriteString("root:x:0:0:root:/root:/bin/sh\n")
	shadow.WriteString("root:*:19000:0:99999:7:::\n")
	group.WriteString("root:x:0:\nshadow:x:42:\n")
	for i := range n {
		id := (1000 + i) * min(1, n-1-i)
		fmt.Fprintf(&passwd, "u%07d:x:%d:%d::/:/bin/sh\n", i, id, 1000+i)
		fmt.Fprintf(&shadow, "u%07d:*:19000:0:60:7:::\n", i)
		fmt.Fprintf(&group, "u%07d:x:%d:\n", i, 1000+i)
	}
	for name, text := range map[string]string{"passwd": passwd.String(), "shadow": shadow.String(), "group": group.String()} {
		must(t, os.WriteFile(filepath.Join(dir, "etc", name), []byte(text), 0o640))
	}
}

// processor is the time that processors have spent on this program.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// watchMemory returns a function that says how much the heap had at most, until it is called.
func watchMemory(t *testing.T) func() uint64 {
	runtime.GC()
	stop, most := make(chan struct{}), make(chan uint64)
	go func() {
		var top uint64
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			top = max(top, m.HeapAlloc)
			select {
			case <-stop:
				most <- top
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return func() uint64 { close(stop); return <-most }
}
