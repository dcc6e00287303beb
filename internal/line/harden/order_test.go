package harden

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/catalogue"
)

// site is a machine that was lived on: most objectives find something to do.
func site() []node {
	nodes := append(machine(), everything()...)
	return append(nodes,
		f("etc/sysctl.d/10-site.conf", "0644", "# site\nnet.ipv4.ip_forward = 1\nkernel.dmesg_restrict=0\n"),
		f("etc/fstab", "0644", "# disks\n/dev/vda1 / ext4 defaults 0 1\n/dev/vdb\t/home ext4 defaults,noatime 0 2 # homes\n/dev/vdc /var/log ext4 rw 0 2\n"),
		f("etc/ssh/sshd_config", "0644", "# server\nInclude /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin yes\nMatch User ann\n  X11Forwarding yes\n"), f("etc/ssh/sshd_config.d/10-site.conf", "0644", "MaxAuthTries 9\n"),
		f("etc/systemd/journald.conf", "0644", "[Journal]\n#Storage=auto\nCompress=no\n"), f("etc/security/pwquality.conf", "0644", "# minlen = 8\nminlen = 8\n"),
		f("etc/login.defs", "0644", "# logins\nUMASK 022\nPASS_MAX_DAYS 99999\n"), f("etc/audit/rules.d/audit.rules", "0644", "-D\n-b 8192\n"), f("etc/audit/auditd.conf", "0644", "max_log_file = 1\n"),
		f("usr/bin/bash", "0755", "x"), f("usr/lib/systemd/system/rpcbind.service", "0644", "[Service]\n"), f("usr/lib/systemd/system/cron.service", "0644", "[Install]\nWantedBy=multi-user.target\n"),
	)
}

// TestAnyOrderOfAMachinesProfiles applies CIS and STIG profiles, alone and together, to a machine with their objectives
// shuffled: every order leaves the same tree, and a second time changes nothing.
func TestAnyOrderOfAMachinesProfiles(t *testing.T) {
	needRoot(t)
	cat, err := catalogue.Load()
	must(t, err)
	for _, name := range []string{"cis-l2", "stig-cat3", "minimal-machine", "cis-l2,stig-cat3"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 4))
			list, err := cat.Union(strings.Split(name, ",")...)
			must(t, err)
			var first map[string]string
			for round := range 3 {
				if round > 0 {
					random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
				}
				dir := plant(t, debianWith(site()...)...)
				in := Input{Scope: "machine", Controls: list, Profile: name, Recipe: &kiln.Recipe{Name: "app"}, Lock: &kiln.Lock{Epoch: 1750000000}, Now: time.Unix(1750000000, 0)}
				res, err := Apply(t.Context(), dir, in)
				must(t, err)
				after := facts(t, dir)
				if first == nil {
					first = after
				} else if diff := differences(first, after); len(diff) > 0 {
					t.Errorf("seed %d, order %d gives another tree:\n%s", seed, round, show(diff))
				}
				again, err := Apply(t.Context(), dir, in)
				must(t, err)
				if again.Before != res.After || again.After != res.After {
					t.Errorf("seed %d: applied again, it changes:\n%s", seed, show(differences(after, facts(t, dir))))
				}
			}
		})
	}
}

// TestLargeTrees: very many accounts, entries of one directory, levels, lines and includes are read in bounded time.
func TestLargeTrees(t *testing.T) {
	needRoot(t)
	cat, err := catalogue.Load()
	must(t, err)
	list := cat.Objectives()
	for name, grow := range map[string]func(dir string){
		"a hundred thousand users": func(dir string) {
			var users, groups, hashes strings.Builder
			for i := range 100_000 {
				fmt.Fprintf(&users, "u%d:x:%d:%d::/home/u%d:/bin/bash\n", i, 2000+i, 2000+i, i)
				fmt.Fprintf(&groups, "u%d:x:%d:\n", i, 2000+i)
				fmt.Fprintf(&hashes, "u%d:$y$a$b:19000:0:99999:7:::\n", i)
			}
			for file, text := range map[string]string{"passwd": passwd + users.String(), "group": group + groups.String(), "shadow": shadow + hashes.String()} {
				must(t, os.WriteFile(filepath.Join(dir, "etc", file), []byte(text), 0o640))
			}
		},
		"twenty thousand entries": func(dir string) {
			for i := range 20_000 {
				must(t, os.WriteFile(filepath.Join(dir, "etc/sysctl.d", fmt.Sprintf("%d.conf", i)), []byte("a.b = 1\n"), 0o644))
			}
		},
		"a thousand levels": func(dir string) {
			must(t, os.MkdirAll(filepath.Join(dir, "srv", strings.Repeat("d/", 1000)), 0o777))
		},
		"a file of many lines": func(dir string) {
			for _, file := range []string{"etc/login.defs", "etc/ssh/sshd_config", "etc/fstab", "etc/sudoers", "etc/pam.d/common-auth"} {
				must(t, os.WriteFile(filepath.Join(dir, file), []byte(strings.Repeat("# x\n", 250_000)), 0o644))
			}
		},
		"includes in a circle": func(dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "etc/ssh/sshd_config"), []byte("Include /etc/ssh/sshd_config\nInclude /etc/ssh/*\n"), 0o644))
			must(t, os.WriteFile(filepath.Join(dir, "etc/sudoers"), []byte("@include /etc/sudoers\n@includedir /etc/sudoers.d\n"), 0o440))
			must(t, os.WriteFile(filepath.Join(dir, "etc/pam.d/common-auth"), []byte("@include common-auth\nauth include common-auth\n"), 0o644))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := plant(t, debianWith(append(machine(), d("etc/sysctl.d", "0755"), d("etc/ssh", "0755"))...)...)
			grow(dir)
			in := Input{Scope: "machine", Controls: list, Profile: "all", Recipe: &kiln.Recipe{Name: "app"}, Lock: &kiln.Lock{Epoch: 1}, Now: time.Unix(1, 0), Before: kiln.DigestBytes(nil)}
			start := time.Now()
			res, err := ends(t, func(ctx context.Context) (*kiln.HardeningResult, error) { return Audit(ctx, dir, in) })
			must(t, err)
			t.Logf("audited in %v: %d unknown", time.Since(start), res.Count(kiln.Unknown))
			for _, o := range res.Outcomes {
				if o.State == kiln.Unknown && o.Reason == "" {
					t.Errorf("%s is unknown without a reason", o.Objective)
				}
			}
		})
	}
}
