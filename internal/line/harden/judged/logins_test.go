package judged

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/internal/line/harden"
)

// aboutLogins are the objectives whose effect is tried by logging in, and by starting shells and daemons.
var aboutLogins = []string{
	"lockout-stack", "lockout-attempts", "lockout-time", "password-judged", "password-length", "password-classes", "password-history", "password-one-prompt",
	"login-max-days", "login-min-days", "login-warn-days", "login-inactive", "login-umask", "shell-timeout", "shell-umask", "rsyslog-file-mode",
}

// service is what every service of Debian does with passwords, without the delays of login.
const service = "@include common-auth\n@include common-account\n@include common-password\n"

// trial logs in, changes passwords, makes an account and starts shells. Each line of what it says is "what: result".
const trial = `
say() { what=$1; shift; if "$@" >/run/said 2>&1; then echo "$what: yes"; else echo "$what: no"; fi; }
login() { echo "$1" | pamtester judged ann authenticate acct_mgmt; }
change() { chage -d $(( $(date +%s) / 86400 - 3 )) ann; printf '%s\n%s\n%s\n' "$1" "$2" "$2" | runuser -u ann -- passwd; }
useradd -m ann && echo 'ann:First-horse7!Stapled' | chpasswd || exit 1
say right login 'First-horse7!Stapled'
say short change 'First-horse7!Stapled' 'kQ7!vz-pW2'
now='First-horse7!Stapled'; grep -q . /run/said && login 'kQ7!vz-pW2' >/dev/null 2>&1 && now='kQ7!vz-pW2'
say simple change "$now" 'qwpfgjluyarstdhneio'
login 'qwpfgjluyarstdhneio' >/dev/null 2>&1 && now='qwpfgjluyarstdhneio'
say good change "$now" 'Second-mule8?Bridled'
say old change 'Second-mule8?Bridled' "$now"
login 'Second-mule8?Bridled' >/dev/null 2>&1 && now='Second-mule8?Bridled'
faillock --user ann --reset
for i in 1 2 3; do login wrong >/dev/null 2>&1; done
say locked-login login "$now"
faillock --user ann --reset
say unlocked-login login "$now"
useradd -m bob
echo "home: $(stat -c %a /home/bob)"
echo "ages: $(passwd -S bob | cut -d' ' -f4-7)"
echo "chage: $(chage -l bob | sed -n 's/^Maximum.*: //p')"
echo "timeout: $(bash -lc 'echo $TMOUT')"
echo "umask: $(bash -lc umask)"
echo "capable: $(getcap -r /usr/bin /usr/sbin)"
say rsyslogd rsyslogd -N1
say chronyd chronyd -p
say logrotate logrotate -d /etc/logrotate.conf
`

// TestLogins: the programs that keep the rules of logins do so after the objectives are applied, and did not before.
func TestLogins(t *testing.T) {
	t.Parallel() // it waits for the delays of failed logins
	lower := base(t)
	wrong := fork(t, "logins-before", lower)
	yard := yard{t, wrong.dir}
	yard.put("etc/pam.d/judged", service, 0o644)
	must(t, os.RemoveAll(filepath.Join(wrong.dir, "dev")))
	must(t, os.Mkdir(filepath.Join(wrong.dir, "dev"), 0o755))
	if out, err := exec.Command("chroot", wrong.dir, "setcap", "cap_net_raw+ep", "/usr/bin/factor").CombinedOutput(); err != nil {
		t.Fatalf("setcap: %v: %s", err, out)
	}
	right := fork(t, "logins-after", wrong.layers...)
	applyTo(t, right, "machine", aboutLogins)
	applyTo(t, right, "container", []string{"capabilities-cleared"})
	rulesLoad(t, right)
	type answers struct {
		before bool
		out    string
	}
	done := make(chan answers, 2)
	for _, before := range []bool{true, false} {
		go func() {
			r := right
			if before {
				r = wrong
			}
			done <- answers{before, r.run(nil, "", "/bin/bash", "-c", trial).out}
		}()
	}
	var was, is map[string]string
	for range 2 {
		a := <-done
		t.Logf("before %t:\n%s", a.before, a.out)
		if a.before {
			was = said(a.out)
		} else {
			is = said(a.out)
		}
	}
	for what, want := range expected {
		if was[what] != want[0] {
			t.Errorf("untouched, %s: %q, want %q", what, was[what], want[0])
		}
		if is[what] != want[1] {
			t.Errorf("applied, %s: %q, want %q", what, is[what], want[1])
		}
	}
}

// expected are the answers of an untouched Debian, and of one to which the objectives are applied.
var expected = map[string][2]string{
	"right": {"yes", "yes"}, "short": {"yes", "no"}, "simple": {"yes", "no"}, "good": {"yes", "yes"}, "old": {"yes", "no"},
	"locked-login": {"yes", "no"}, "unlocked-login": {"yes", "yes"},
	"rsyslogd": {"yes", "yes"}, "chronyd": {"yes", "yes"}, "logrotate": {"yes", "yes"},
	"home": {"755", "700"}, "ages": {"0 99999 7 -1", "1 60 7 35"}, "chage": {"99999", "60"}, "timeout": {"", "600"}, "umask": {"0022", "0027"},
	"capable": {"/usr/bin/factor cap_net_raw=ep", ""},
}

// rulesLoad lets nft read the tree's rules, in a network of their own, and checks that it would refuse wrong ones.
func rulesLoad(t *testing.T, r *room) {
	t.Helper()
	for file, wrong := range map[string]bool{"/etc/nftables.conf": false, "/etc/wrong.nft": true} {
		if wrong {
			yard{t, r.dir}.put(file, "table inet filter { chain input { policy perhaps; } }\n", 0o644)
		}
		out, err := exec.Command("unshare", "--user", "--map-root-user", "--net", "chroot", r.dir, "nft", "-c", "-f", file).CombinedOutput()
		if (err != nil) != wrong {
			t.Errorf("nft -c -f %s: %v: %s", file, err, out)
		}
	}
}

// said reads "what: result" lines.
func said(out string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(out) {
		if what, result, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			m[what] = strings.TrimSpace(result)
		}
	}
	return m
}

// applyTo applies the first variants of objectives; each must hold afterwards.
func applyTo(t *testing.T, r *room, scope string, ids []string) {
	t.Helper()
	var list []kiln.Control
	for _, k := range load(t).Objectives() {
		if slices.Contains(ids, k.ID) {
			k.Variants = k.Variants[:1]
			list = append(list, k)
		}
	}
	if len(list) != len(ids) {
		t.Fatalf("of %d objectives the catalogue has %d", len(ids), len(list))
	}
	in := harden.Input{
		Scope: scope, Controls: list, Profile: "judged", Recipe: &kiln.Recipe{Name: "judged"}, Lock: &kiln.Lock{Epoch: 1750000000, Distro: "debian-12"}, Now: time.Now(), Before: kiln.DigestBytes(nil),
	}
	res, err := harden.Apply(t.Context(), r.dir, in)
	must(t, err)
	for _, o := range res.Outcomes {
		if o.State != kiln.Satisfied {
			t.Errorf("%s is %s: %s %s", o.Objective, o.State, o.Observed, o.Reason)
		}
	}
}
