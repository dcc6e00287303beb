package judged

import (
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// verdict is what a program makes of one setting.
type verdict struct {
	seen  string
	holds bool
	none  bool // the program does not say
}

func (p params) verdict(seen string) verdict { return verdict{seen: seen, holds: p.accepts(seen)} }

// judge is the program that reads what a kind writes.
type judge struct {
	program string
	ask     func(r *room, p params) verdict
}

// judges by kind.
var judges = map[string]judge{
	"sysctl":          {"systemd-sysctl, sysctl --system", askSysctl},
	"kernel-module":   {"modprobe --showconfig", askModprobe},
	"mount":           {"findmnt --fstab", askFindmnt},
	"sshd":            {"sshd -T", askSSHD},
	"unit-masked":     {"systemctl list-unit-files", askMasked},
	"unit-enabled":    {"systemctl list-unit-files", askEnabled},
	"packages-absent": {"dpkg-query", askPackages},
	"apt-setting":     {"apt-config dump", askApt},
	"sudo-default":    {"cvtsudoers", askSudo},
	"kernel-argument": {"sh, as grub-mkconfig reads it", askGrub},
	"config":          {"the program's own reader", askConfig},
	"audit-rules":     {"augenrules, auditctl -R", askAudit},
	"audit-set-id":    {"augenrules, find", askAuditSetid},
	"file-mode":       {"stat", askStat},
}

// askSysctl lets both programs that set kernel parameters write into plain files, and looks at those.
func askSysctl(r *room, p params) verdict {
	file := "proc/sys/" + strings.ReplaceAll(p.text("key"), ".", "/")
	seen := []string{}
	for _, program := range [][]string{{"/usr/lib/systemd/systemd-sysctl"}, {"/usr/sbin/sysctl", "--system"}} {
		out := r.sysctls(program)
		seen = append(seen, out[file])
	}
	if seen[0] != seen[1] {
		r.t.Errorf("systemd sets %s to %q and procps to %q", p.text("key"), seen[0], seen[1])
	}
	return p.verdict(seen[0])
}

// sysctls runs the program in the tree without a kernel's /proc: there are only the files that the catalogue names.
func (r *room) sysctls(program []string) map[string]string {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	key := "sysctl\x00" + program[0]
	if a, ok := r.memo[key]; ok {
		out := map[string]string{}
		must(r.t, json.Unmarshal([]byte(a.out), &out))
		return out
	}
	keys := catalogueValues(r.t, "sysctl", "key")
	for _, k := range keys {
		yard{r.t, r.dir}.put("proc/sys/"+strings.ReplaceAll(k, ".", "/"), "", 0o644)
	}
	said, err := exec.Command("chroot", append([]string{r.dir}, program...)...).CombinedOutput()
	out := map[string]string{}
	for _, k := range keys {
		file := "proc/sys/" + strings.ReplaceAll(k, ".", "/")
		out[file] = strings.TrimSpace(yard{r.t, r.dir}.text(file))
	}
	must(r.t, os.RemoveAll(filepath.Join(r.dir, "proc/sys")))
	if err != nil {
		r.t.Logf("%s: %v: %.300s", program[0], err, said)
	}
	text, err := json.Marshal(out)
	must(r.t, err)
	r.memo[key] = answer{out: string(text)}
	return out
}

func askModprobe(r *room, p params) verdict {
	var install, blacklist string
	for line := range strings.Lines(r.ask("modprobe", "--showconfig").out) {
		f := strings.Fields(line)
		if len(f) < 2 || strings.ReplaceAll(f[1], "-", "_") != strings.ReplaceAll(p.text("name"), "-", "_") {
			continue
		}
		switch f[0] {
		case "install":
			install = strings.Join(f[2:], " ")
		case "blacklist":
			blacklist = "blacklisted"
		}
	}
	return verdict{seen: install + " " + blacklist, holds: install == "/bin/false" && blacklist != ""}
}

func askFindmnt(r *room, p params) verdict {
	a := r.ask("findmnt", "--fstab", "-n", "-o", "OPTIONS", "--mountpoint", p.text("path"))
	have := strings.Split(strings.TrimSpace(a.out), ",")
	on := map[string]bool{}
	for _, o := range have { // as mount(8): the last of two that contradict each other counts
		switch o {
		case "dev", "suid", "exec":
			on["no"+o] = false
		case "defaults":
			on["nodev"], on["nosuid"], on["noexec"] = false, false, false
		default:
			on[o] = true
		}
	}
	holds := a.code == 0 && !slices.ContainsFunc(p.list("options"), func(o string) bool { return !on[o] })
	return verdict{seen: strings.TrimSpace(a.out), holds: holds, none: p.text("create") == "" && len(p.list("options")) == 0}
}

func askSSHD(r *room, p params) verdict {
	a := r.sh("mkdir -p /run/sshd; for t in rsa ecdsa ed25519; do [ -f /etc/ssh/ssh_host_${t}_key ] || ssh-keygen -q -t $t -N '' -f /etc/ssh/ssh_host_${t}_key; done; exec /usr/sbin/sshd -T")
	if a.code != 0 {
		r.t.Errorf("sshd -T: %s", a.out)
	}
	seen := table(a.out)[strings.ToLower(p.text("keyword"))]
	return p.verdict(map[string]string{"without-password": "prohibit-password"}[seen] + map[bool]string{true: seen}[seen != "without-password"])
}

func (r *room) units() map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(r.ask("systemctl", "--root=/", "list-unit-files", "--no-legend", "--no-pager", "--plain").out) {
		if f := strings.Fields(line); len(f) > 1 {
			out[f[0]] = f[1]
		}
	}
	return out
}

func askMasked(r *room, p params) verdict {
	units := r.units()
	v := verdict{holds: true}
	for _, name := range p.list("names") {
		v.seen += name + " " + units[name] + " "
		v.holds = v.holds && (units[name] == "" || units[name] == "masked")
	}
	return v
}

func askEnabled(r *room, p params) verdict {
	units := r.units()
	v := verdict{holds: true}
	for _, name := range p.list("names") {
		v.seen += name + " " + units[name] + " "
		v.holds = v.holds && (units[name] == "enabled" || units[name] == "static" || units[name] == "alias")
	}
	return v
}

func askPackages(r *room, p params) verdict {
	there := map[string]string{}
	for line := range strings.Lines(r.ask("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n").out) {
		if f := strings.Fields(line); len(f) == 2 {
			there[f[0]] = f[1]
		}
	}
	v := verdict{holds: true}
	for _, name := range p.list("packages") {
		if there[name] == "installed" {
			v.holds = false
			v.seen += name + " installed "
		}
	}
	if a := r.ask("dpkg", "--audit"); a.code != 0 || strings.TrimSpace(a.out) != "" {
		r.t.Errorf("dpkg --audit: %s", a.out)
	}
	return v
}

func askApt(r *room, p params) verdict {
	a := r.ask("apt-config", "dump")
	seen := ""
	for line := range strings.Lines(a.out) {
		if v, ok := strings.CutPrefix(line, p.text("key")+" "); ok {
			seen = strings.Trim(strings.TrimSpace(v), `";`)
		}
	}
	return p.verdict(seen)
}

// sudoers is the policy as sudo's own parser gives it.
type sudoers struct {
	Defaults []struct {
		Binding []any
		Options []map[string]any
	}
	UserSpecs []struct {
		CmndSpecs []struct{ Options []map[string]any } `json:"Cmnd_Specs"`
	} `json:"User_Specs"`
}

func (r *room) sudoers() sudoers {
	r.t.Helper()
	a := r.ask("cvtsudoers", "-f", "json", "/etc/sudoers")
	if a.code != 0 {
		r.t.Errorf("cvtsudoers: %s", a.out)
	}
	if a := r.ask("visudo", "-c"); a.code != 0 {
		r.t.Errorf("visudo: %s", a.out)
	}
	var s sudoers
	if err := json.Unmarshal([]byte(a.out), &s); err != nil {
		r.t.Errorf("cvtsudoers: %v", err)
	}
	return s
}

func (s sudoers) option(name string) string {
	seen := ""
	for _, d := range s.Defaults {
		for _, o := range d.Options {
			if v, ok := o[name]; ok && len(d.Binding) == 0 {
				switch v := v.(type) {
				case float64:
					seen = strconv.FormatFloat(v, 'f', -1, 64)
				case bool:
					seen = map[bool]string{true: "on", false: "off"}[v]
				case string:
					seen = v
				}
			}
		}
	}
	return seen
}

func askSudo(r *room, p params) verdict { return p.verdict(r.sudoers().option(p.text("name"))) }

func askGrub(r *room, p params) verdict {
	a := r.sh(`. /etc/default/grub; for f in /etc/default/grub.d/*.cfg; do [ -e "$f" ] && . "$f"; done; echo "$GRUB_CMDLINE_LINUX|$GRUB_CMDLINE_LINUX_DEFAULT"`)
	always, usual, _ := strings.Cut(strings.TrimSpace(a.out), "|")
	if p["absent"] == true {
		return verdict{seen: a.out, holds: !slices.Contains(strings.Fields(always+" "+usual), p.text("argument"))}
	}
	name, _, _ := strings.Cut(p.text("argument"), "=")
	last := ""
	for _, w := range strings.Fields(always) {
		if n, _, _ := strings.Cut(w, "="); n == name {
			last = w
		}
	}
	return verdict{seen: a.out, holds: last == p.text("argument")}
}

func askConfig(r *room, p params) verdict {
	program, key := p.text("program"), p.text("key")
	if s, ok := sections[program]; ok {
		return p.verdict(r.section(s[0], s[1], key))
	}
	if file, ok := variables[program]; ok {
		return p.verdict(strings.TrimSpace(r.sh(". /" + file + `; echo "$` + key + `"`).out))
	}
	switch program {
	case "auditd":
		// Values are read by augeas; auditd itself says whether it takes them all, before it fails to reach a kernel.
		if a := r.ask("auditd", "-n", "-s", "nochange"); strings.Contains(a.out, "/etc/audit/auditd.conf") || strings.Contains(a.out, "Option") {
			r.t.Errorf("auditd: %s", a.out)
		}
		return p.verdict(r.augeas("/etc/audit/auditd.conf", key))
	case "ssh":
		return p.verdict(table(r.ask("ssh", "-G", "host.example.com").out)[strings.ToLower(key)])
	}
	return verdict{none: true}
}

// section asks systemd for all the files that it joins; the last assignment in the section counts.
func (r *room) section(file, section, key string) string {
	in, seen := "", ""
	for line := range strings.Lines(r.ask("systemd-analyze", "cat-config", file).out) {
		t := strings.TrimSpace(line)
		if strings.HasPrefix(t, "[") {
			in = strings.Trim(t, "[]")
		} else if k, v, ok := strings.Cut(t, "="); ok && in == section && strings.TrimSpace(k) == key {
			seen = strings.TrimSpace(v)
		}
	}
	return seen
}

// augeas reads one key of a file with its lens.
func (r *room) augeas(file, key string) string {
	a := r.sh(`printf 'set /augeas/load/S/lens Simplevars.lns\nset /augeas/load/S/incl ` + file + `\nload\nprint /files` + file + `\nprint /augeas//error\n' | augtool --noautoload`)
	seen := ""
	for line := range strings.Lines(a.out) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), " = ")
		if strings.HasPrefix(k, "/augeas/files") && strings.Contains(k, "error") {
			r.t.Errorf("augeas: %s", line)
		}
		if path.Base(strings.TrimRight(k, "[0123456789]")) == key {
			seen = strings.TrimSpace(strings.Trim(v, `"`))
		}
	}
	return seen
}

// auditRules are the lines that augenrules joins. Each is given to auditctl, in a user name space from which no kernel's
// rules can be reached: what it cannot parse it says.
func (r *room) auditRules() []string {
	r.t.Helper()
	a := r.sh("augenrules >/dev/null 2>&1; cat /etc/audit/audit.rules")
	rules := strings.Split(strings.TrimSpace(a.out), "\n")
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.memo["auditctl"]; ok {
		return rules
	}
	cmd := exec.Command("unshare", "--user", "--map-root-user", "--net", "chroot", r.dir, "sh", "-c",
		`exec 3<&0 <&-; while read -r line <&3; do case $line in ""|"#"*) ;; *) auditctl $line 2>&1 | sed "s|^|$line => |" ;; esac; done`)
	cmd.Stdin = strings.NewReader(a.out)
	said, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Errorf("auditctl: %v: %s", err, said)
	}
	for line := range strings.Lines(string(said)) {
		if !strings.Contains(line, "The audit system is disabled") && !strings.Contains(line, "fchmodat2") { // newer than some auditctl, as the objective says
			r.t.Errorf("auditctl: %s", line)
		}
	}
	r.memo["auditctl"] = answer{out: string(said)}
	return rules
}

// canonical gives words of a rule one order; the key is left out.
func canonical(rule string) string {
	f := strings.Fields(rule)
	if len(f) == 1 {
		return rule
	}
	var pairs []string
	for i := 0; i+1 < len(f); i += 2 {
		if f[i] != "-k" {
			v := strings.ReplaceAll(f[i+1], "auid!=4294967295", "auid!=unset")
			pairs = append(pairs, f[i]+" "+v)
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, " ")
}

func askAudit(r *room, p params) verdict {
	have := map[string]bool{}
	for _, line := range r.auditRules() {
		have[canonical(line)] = true
	}
	v := verdict{holds: true}
	for _, rule := range p.list("rules") {
		if p["existing"] == true && r.sh("[ -e "+watched(rule)+" ]").code != 0 {
			continue
		}
		if !have[canonical(rule)] {
			v.holds = false
			v.seen = "no " + rule
		}
	}
	return v
}

func watched(rule string) string {
	_, after, _ := strings.Cut(rule, "path=")
	f := strings.Fields(after + " -")
	return f[0]
}

func askAuditSetid(r *room, _ params) verdict {
	rules := strings.Join(r.auditRules(), "\n")
	v := verdict{holds: true}
	for program := range strings.FieldsSeq(r.ask("find", "/", "-xdev", "-type", "f", "-perm", "/6000").out) {
		if !strings.Contains(rules, "-F path="+program+" ") {
			v.holds = false
			v.seen += program + " "
		}
	}
	return v
}

func askStat(r *room, p params) verdict {
	v := verdict{holds: true, none: true}
	limit, err := strconv.ParseUint(p.text("mode"), 8, 32)
	for _, q := range p.list("paths") {
		if strings.ContainsAny(q, "*?[") {
			continue
		}
		a := r.ask("stat", "-L", "-c", "%a %U %G", q)
		f := strings.Fields(a.out)
		if a.code != 0 || len(f) != 3 {
			continue
		}
		v.none = false
		v.seen += q + " " + strings.TrimSpace(a.out) + " "
		mode, _ := strconv.ParseUint(f[0], 8, 32)
		v.holds = v.holds && (err != nil || mode&^limit == 0) &&
			(len(p.list("owners")) == 0 || slices.Contains(p.list("owners"), f[1])) && (len(p.list("groups")) == 0 || slices.Contains(p.list("groups"), f[2]))
	}
	return v
}
