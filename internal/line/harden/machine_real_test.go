package harden

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/catalogue"
)

// judges are programs of the tree that read what the kinds wrote and say whether they can.
var judges = [][]string{
	{"usr/sbin/visudo", "-c"},
	{"usr/sbin/sshd", "-t"},
	{"usr/bin/apt-config", "dump"},
	{"usr/sbin/modprobe", "--showconfig"},
	{"usr/bin/findmnt", "--verify", "--tab-file", "/etc/fstab"},
	{"usr/sbin/chronyd", "-p", "-f", "/etc/chrony/chrony.conf"},
	{"usr/sbin/rsyslogd", "-N1"},
}

// TestRealMachine hardens a real machine's tree with every machine profile at once, and asks the programs that are configured.
// KILN_HARDEN_MACHINE names the tree, made for example by mmdebstrap --variant=minbase
// --include=systemd-sysv,openssh-server,sudo,auditd,libpam-pwquality,rsyslog,cron,nginx,chrony,apparmor.
func TestRealMachine(t *testing.T) {
	needRoot(t)
	from := os.Getenv("KILN_HARDEN_MACHINE")
	if from == "" {
		t.Skip("KILN_HARDEN_MACHINE names no tree of a machine")
	}
	cat, err := catalogue.Load()
	must(t, err)
	dir := filepath.Join(t.TempDir(), "tree")
	if out, err := exec.Command("cp", "-a", from, dir).CombinedOutput(); err != nil {
		t.Fatalf("copying the tree: %v: %s", err, out)
	}
	keep := os.Getenv("KILN_HARDEN_KEEP") // where a copy of the hardened tree goes, for other judges
	judged(t, dir, "before")
	recipe := &kiln.Recipe{Name: "nginx"}
	for name := range strings.SplitSeq(cmp.Or(os.Getenv("KILN_HARDEN_PACKAGES"), "nginx,openssh-server,sudo,cron"), ",") {
		recipe.Packages = append(recipe.Packages, kiln.PackageRequest{Name: name})
	}
	for _, name := range []string{"minimal-machine", "cis-l1", "cis-l2", "stig-cat3"} {
		list, err := cat.Profile(name)
		must(t, err)
		in := Input{Scope: cat.Scope(name), Controls: list, Profile: name, Recipe: recipe, Lock: &kiln.Lock{Epoch: 1750000000, Distro: "debian-12"}, Now: time.Now()}
		start := time.Now()
		audit, err := Audit(t.Context(), dir, in)
		must(t, err)
		looked := time.Since(start)
		start = time.Now()
		res, err := Apply(t.Context(), dir, in)
		must(t, err)
		t.Logf("%s: %d objectives, %d satisfied before (audit %v), then %d, %d not, %d not applicable, %d unknown (apply %v)", name, len(list), audit.Count(kiln.Satisfied),
			looked, res.Count(kiln.Satisfied), res.Count(kiln.NotSatisfied), res.Count(kiln.NotApplicable), res.Count(kiln.Unknown), time.Since(start))
		for _, o := range res.Outcomes {
			if o.State == kiln.NotSatisfied || o.State == kiln.Unknown {
				t.Logf("  %s %s: %s", o.Objective, o.State, o.Reason)
			}
		}
		again, err := Apply(t.Context(), dir, in)
		must(t, err)
		if again.Before != again.After {
			t.Errorf("%s: applied again, it changed the tree", name)
		}
		judged(t, dir, name)
	}
	if keep == "" {
		return
	}
	if out, err := exec.Command("cp", "-a", dir, keep).CombinedOutput(); err != nil {
		t.Errorf("keeping the tree: %v: %s", err, out)
	}
}

// judged runs every judge that the tree has and that was content before.
func judged(t *testing.T, dir, when string) {
	t.Helper()
	for _, d := range []string{"run/sshd", "dev/shm"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(dir, "dev/null"), nil, 0o666)) // programs open it; a device node could not be packed
	if keys, _ := filepath.Glob(filepath.Join(dir, "etc/ssh/ssh_host_*_key")); len(keys) == 0 {
		_ = exec.Command("chroot", dir, "ssh-keygen", "-A").Run() // without it sshd -t complains of keys, not of its configuration
	}
	for _, args := range judges {
		if _, err := os.Stat(filepath.Join(dir, args[0])); err != nil {
			continue
		}
		cmd := exec.Command("chroot", slices.Concat([]string{dir, "/" + args[0]}, args[1:])...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %s: %v\n%s", when, strings.Join(args, " "), err, out)
		}
	}
}
