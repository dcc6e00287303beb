package catalogue

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"kiln"
	"kiln/internal/testneeds"
)

// answer is what the catalogue has for one case of the facts: the objective that asks for the control, and what holds
// where that breaks the software.
type answer struct {
	objective string
	// by is the case's alternative: "variant" of the same objective, or "objective/variant" of another one.
	by string
	// instead says why there is no variant to give way to: the objective is left out, with a waiver.
	instead string
	// outside says why no objective asks for the control at all.
	outside string
}

const (
	refused  = "both baselines refuse it: a recorded exception"
	leaveOut = "the alternative is to leave it out"
	bySetup  = "the alternative is another setting of the software, which the recipe makes"
	perl     = "perl goes only where nothing in the image needs it"
	starting = "how a container is started, not what is in its image"
)

// answers by the cases' ids.
var answers = map[string]answer{
	"01-ssh-forward":         {objective: "ssh-forwarding", by: "x11"},
	"03-postgres-nologin":    {objective: "account-no-shell", by: "locked"},
	"05-cron-allow":          {objective: "cron-users", by: "modes"},
	"06-noexec-tmp-makeself": {objective: "mount-tmp", by: "no-devices"},
	"07-nodev-debootstrap":   {objective: "mount-var-tmp", by: "no-set-id"},
	"08-umask-nginx":         {objective: "shell-umask", by: "login-umask/stig"},
	"09-chpasswd-root":       {objective: "password-root", by: "password-length/stig"},
	"10-sudo-nopasswd":       {objective: "sudo-asks", instead: refused},
	"11-su-wheel":            {objective: "su-restricted", instead: leaveOut},
	"12-faillock":            {objective: "lockout-attempts", instead: refused},
	"13-setuid-sudo":         {objective: "setuid-cleared", by: "requested"},
	"14-setgid-crontab":      {objective: "setgid-cleared", by: "requested"},
	"15-setuid-exim":         {objective: "setuid-cleared", by: "requested"},
	"16-caps-fping":          {objective: "capabilities-cleared", by: "requested"},
	"18-no-perl-adduser":     {outside: perl},
	"19-tzdata":              {outside: "time zones are wanted, not removed"},
	"20-nonroot-nginx":       {objective: "image-user", instead: bySetup},
	"21-readonly-nginx":      {outside: starting},
	"22-nnp-sudo":            {outside: starting},
	"23-dropcaps-nginx":      {outside: starting},
	"24-hidepid":             {outside: "no benchmark of these distributions asks for it"},
	"26-ipforward":           {objective: "network-forwarding", by: "new-interfaces"},
	"28-acceptra":            {objective: "network-router-advertisements", instead: leaveOut},
	"29-ipv6-off":            {outside: "no benchmark asks for it any more"},
	"30-rsync-rsnapshot":     {objective: "server-rsync", by: "masked"},
	"31-xserver-xvfb":        {objective: "display-server", instead: leaveOut},
	"33-maxauthtries":        {objective: "ssh-auth-tries", instead: leaveOut},
	"34-kex-stig":            {objective: "ssh-key-exchange-approved", by: "ssh-key-exchange/strong"},
	"35-mac-sha1":            {objective: "ssh-macs", instead: refused},
	"36-core":                {objective: "core-dumps-off", instead: leaveOut},
	"37-home-0750":           {objective: "account-homes", instead: leaveOut},
	"38-journalctl-stig":     {objective: "journalctl-mode", instead: leaveOut},
	"41-ww-file":             {objective: "world-writable-files", by: "world-writable-directories/sticky"},
	"42-pwhistory":           {objective: "password-history", by: "users"},
	"43-tmout":               {objective: "shell-timeout", instead: "a timeout that scripts may set meets no benchmark"},
	"44-varlog-perm":         {objective: "log-files-private", by: "log-mode-syslog/mode"},
	"45-nosuid-home":         {objective: "mount-home", instead: leaveOut},
	"46-nginx-purge":         {objective: "server-web", instead: "what the recipe asks for is never removed"},
	"48-unix-chkpwd":         {objective: "setgid-cleared", by: "requested"},
	"49-shadow-group":        {objective: "mode-shadow", by: "mode"},
	"50-overlay-mod":         {objective: "module-overlay", instead: leaveOut},
	"51-squashfs-mod":        {objective: "module-squashfs", instead: leaveOut},
	"52-userns-bwrap":        {outside: "only the STIG of another distribution asks for it"},
	"53-ptrace1-strace":      {objective: "kernel-trace-scope", instead: leaveOut},
	"54-sctp-mod":            {objective: "module-sctp", instead: leaveOut},
	"55-audit-immutable":     {objective: "audit-immutable", instead: bySetup},
	"56-nft-drop":            {objective: "nftables-default-deny", instead: "which ports are open is for the recipe to say"},
	"57-udf-mod":             {objective: "module-udf", instead: leaveOut},
	"58-suiddump-core":       {objective: "kernel-core-dumps", instead: leaveOut},
	"59-dmesg-restrict":      {objective: "kernel-messages", instead: refused},
	"61-numeric-uid-initdb":  {objective: "image-user", by: "image-user-known/account"},
	"62-perl-debconf":        {outside: perl},
	"63-exim-loopback":       {objective: "mail-local-only", instead: leaveOut},
	"64-newuidmap":           {objective: "setuid-cleared", by: "requested"},
}

// toolsOnly are cases whose packages are only how it is shown: what breaks is another one's, with the reason.
var toolsOnly = map[string]string{
	"63-exim-loopback": "exim asks debconf where it listens; the objective reads postfix",
}

var (
	caseHead        = regexp.MustCompile(`^\d+\. (.+)`)
	caseID          = regexp.MustCompile("(?m)^- id: `(.+?)`.*packages: (.*)$")
	caseControl     = regexp.MustCompile(`(?m)^- control: (.*)$`)
	caseAlternative = regexp.MustCompile(`(?m)^- alternative \((.*?)\): (.*)$`)
	ruleWord        = regexp.MustCompile(`[a-z][a-z0-9-]*(?:_[a-z0-9-]+)+`)
)

func conflictCases(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(testneeds.Shared(t, "facts", "conflicts.md"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Split(string(data), "\n## ")[1:], func(text string) bool {
		return !caseHead.MatchString(text) // the lists at the end
	})
}

// TestEveryConflictIsKnown: what was seen to break is a conflict of the objective that asks for it, with a package of the
// case and its probability; and what worked in its place is a variant, or it is said why not.
func TestEveryConflictIsKnown(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	have, counts, seen := covered(c), map[string]int{}, map[string]bool{}
	for _, text := range conflictCases(t) {
		id, control, other := caseID.FindStringSubmatch(text), caseControl.FindStringSubmatch(text), caseAlternative.FindStringSubmatch(text)
		if id == nil || control == nil || other == nil {
			t.Errorf("a case has no id, control or alternative: %.60s", text)
			continue
		}
		seen[id[1]] = true
		a, ok := answers[id[1]]
		switch {
		case !ok:
			t.Errorf("case %s (%s) has no entry in answers", id[1], control[1])
		case a.outside != "":
			counts["outside"]++
			if rules := ruleWord.FindAllString(control[1], -1); slices.ContainsFunc(rules, func(r string) bool { return len(have[r]) > 0 }) {
				t.Errorf("%s: said to be outside, but its control %s is one of the catalogue", id[1], control[1])
			}
		default:
			counts[a.check(t, c, have, id[1], strings.Fields(id[2]), control[1], other[2])]++
		}
	}
	for id := range answers {
		if !seen[id] {
			t.Errorf("answers names case %s, which the facts do not have", id)
		}
	}
	t.Logf("%v", counts)
	if len(seen) != 54 || counts["a variant"] < 21 {
		t.Errorf("%d cases, %v: want all of 54, and the alternatives of at least 21", len(seen), counts)
	}
}

// check returns what kind of answer it is.
func (a answer) check(t *testing.T, c *Catalogue, have map[string][]string, id string, packages []string, control, other string) string {
	k, ok := c.Objective(a.objective)
	if !ok {
		t.Errorf("%s: no objective %q", id, a.objective)
		return "wrong"
	}
	asked := ruleWord.FindAllString(control, -1)
	known := slices.DeleteFunc(asked, func(r string) bool { return len(have[r]) == 0 })
	if len(known) > 0 && !slices.ContainsFunc(known, func(r string) bool { return slices.Contains(have[r], k.ID) }) {
		t.Errorf("%s: objective %s does not ask for %s", id, k.ID, control)
	}
	breaks := slices.ContainsFunc(k.Conflicts, func(f kiln.Conflict) bool {
		return slices.Contains(packages, f.Package) && f.Percent > 0 && f.Percent <= 100 && f.Note != ""
	})
	if breaks == (toolsOnly[id] != "") {
		t.Errorf("%s: objective %s must know the conflict with one of %v; it knows %v (%s)", id, k.ID, packages, k.Conflicts, toolsOnly[id])
	}
	if (a.by == "") == (a.instead == "") {
		t.Errorf("%s: either a variant or a reason", id)
	}
	if a.by == "" {
		return "a reason"
	}
	a.checkVariant(t, c, have, id, other)
	return "a variant"
}

// checkVariant: the variant is there, and weaker than what broke: not the first of the same objective, which asks for it
// all. Where the case names the rules of its alternative, the variant's objective refers to one.
func (a answer) checkVariant(t *testing.T, c *Catalogue, have map[string][]string, id, other string) {
	name, variant, elsewhere := strings.Cut(a.by, "/")
	if !elsewhere {
		name, variant = a.objective, a.by
	}
	k, _ := c.Objective(name)
	at := slices.IndexFunc(k.Variants, func(v kiln.Variant) bool { return v.ID == variant })
	switch {
	case at < 0:
		t.Errorf("%s: objective %q has no variant %s", id, name, variant)
	case !elsewhere && at == 0 && len(k.Variants) > 1:
		t.Errorf("%s: %s is the variant that breaks it", id, a.by)
	case !elsewhere && at > 0 && k.Variants[at].Gives == "":
		t.Errorf("%s: %s does not say what it gives up", id, a.by)
	}
	rules := slices.DeleteFunc(ruleWord.FindAllString(other, -1), func(r string) bool { return len(have[r]) == 0 })
	if len(rules) > 0 && !slices.ContainsFunc(rules, func(r string) bool { return slices.Contains(have[r], name) }) {
		t.Errorf("%s: the alternative is %v, which %s does not ask for", id, rules, name)
	}
}
