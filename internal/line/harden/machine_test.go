package harden

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/catalogue"
)

// machine is a small sound tree of a machine: init, logins, boot loader, audit, with every program that objectives ask after.
func machine() []node {
	pkgs := []node{}
	for _, name := range []string{
		"systemd", "auditd", "openssh-server", "openssh-client", "sudo", "cron", "at", "rsyslog", "chrony", "apparmor", "aide", "aide-common", "ufw", "postfix", "apport",
		"libpam-modules", "libpam-pwquality", "libpam-runtime", "login", "passwd", "systemd-coredump", "systemd-timesyncd", "systemd-journal-remote",
	} {
		pkgs = append(pkgs, node{path: "status", content: "Package: " + name + "\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n"})
	}
	return append(pkgs, f("usr/lib/systemd/systemd", "0755", ""),
		d("etc/security", "0755"), d("etc/audit/rules.d", "0750"), d("etc/profile.d", "0755"), d("etc/rsyslog.d", "0755"), d("etc/apt/apt.conf.d", "0755"),
		f("etc/default/grub", "0644", "GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX=\"\"\n"), f("etc/sudoers", "0440", "Defaults env_reset\n@includedir /etc/sudoers.d\n"), d("etc/sudoers.d", "0750"),
		f("etc/ssh/sshd_config", "0600", "Port 22\n"), f("etc/ssh/ssh_config", "0644", "Host *\n"),
		f("etc/pam.d/common-auth", "0644", "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\n"),
		f("etc/pam.d/common-account", "0644", "account [success=1 default=ignore] pam_unix.so\naccount requisite pam_deny.so\naccount required pam_permit.so\n"),
		f("etc/pam.d/common-password", "0644", "password [success=1 default=ignore] pam_unix.so obscure\npassword requisite pam_deny.so\npassword required pam_permit.so\n"),
		f("etc/pam.d/common-session", "0644", "session required pam_unix.so\n"),
		f("usr/lib/x/security/pam_faillock.so", "0644", ""), f("usr/lib/x/security/pam_pwquality.so", "0644", ""), f("usr/lib/x/security/pam_pwhistory.so", "0644", ""), f("usr/lib/x/security/pam_faildelay.so", "0644", ""),
		f("etc/fstab", "0644", "# <file system> <mount point>\n/dev/vda1 / ext4 defaults 0 1\n"),
		f("var/cache/cracklib/cracklib_dict.pwd", "0644", ""), f("etc/chrony/chrony.conf", "0644", "# chrony\n"), f("etc/rsyslog.conf", "0644", "# rsyslog\n"), f("etc/aide/aide.conf", "0644", "# aide\n"),
	)
}

// broken is what makes a tree violate a setting, from the setting's own parameters.
func broken(set kiln.Setting) []node {
	p := set.Params
	text := func(k string) string { s, _ := p[k].(string); return s }
	first := func(k string) string { l, _ := p[k].([]any); return strings.TrimPrefix(fmt.Sprint(l[0]), "/") }
	switch set.Kind {
	case "sysctl":
		return []node{f("etc/sysctl.d/10-site.conf", "0644", "# site\n"+text("key")+" = 77\n")}
	case "mount":
		if text("create") == "" && p["options"] != nil {
			return []node{f("etc/fstab", "0644", "# disks\n/dev/vdb\t"+text("path")+"  ext4 defaults,noatime 0 2 # data\n")}
		}
	case "unit-masked":
		return []node{f("usr/lib/systemd/system/"+first("names"), "0644", "[Service]\nExecStart=/bin/true\n")}
	case "unit-enabled":
		return []node{f("usr/lib/systemd/system/"+first("names"), "0644", "[Install]\nWantedBy=multi-user.target\n"), l("etc/systemd/system/"+first("names"), "/dev/null")}
	case "packages-absent":
		return pack(first("packages"), "Depends: app\n", f("usr/bin/unwanted", "0755", "tool"))
	case "config":
		return brokenConfig(text("program"), text("key"), text("value"))
	case "limit":
		return []node{f("etc/security/limits.conf", "0644", "# limits\n* hard "+text("item")+" 4711\n")}
	case "sudo-default":
		return []node{f("etc/sudoers.d/site", "0440", "Defaults "+text("name")+"=4711\n")}
	case "kernel-argument":
		if p["absent"] == true {
			return []node{f("etc/default/grub", "0644", "GRUB_CMDLINE_LINUX=\"quiet "+text("argument")+"\" # site\n")}
		}
	case "apt-setting":
		return []node{f("etc/apt/apt.conf.d/50site", "0644", "// site\n"+text("key")+" \"wrong\";\n")}
	case "file-mode":
		q := strings.ReplaceAll(first("paths"), "*", "x")
		if p["only"] == "directories" || path.Base(q) == "audit" || path.Base(q) == "crontabs" {
			return []node{d(q, "2777").of("33:33")}
		}
		return []node{f(q, "0777", "text\n").of("33:33")}
	case "files-absent":
		return []node{f(strings.ReplaceAll(first("paths"), "*", "x"), "0644", "x\n")}
	case "line-absent":
		return []node{f(strings.ReplaceAll(first("paths"), "*", "x"), "0644", violating(text("match")))}
	case "dconf":
		key := text("key")
		return []node{f("usr/bin/dconf", "0755", ""), f("etc/dconf/db/"+text("database")+".d/10-site", "0644", "# site\n["+strings.TrimPrefix(path.Dir(key), "/")+"]\n"+path.Base(key)+"=''\n")}
	case "log-owners":
		return []node{f("var/log/site.log", "0640", "x\n").of("33:33")}
	case "nftables":
		if text("need") == "table" {
			return []node{f("etc/nftables.conf", "0755", "#!/usr/sbin/nft -f\n# site\nflush ruleset\n")}
		}
		return []node{f("etc/nftables.conf", "0755", "#!/usr/sbin/nft -f\n# site\nflush ruleset\ntable inet filter {\n\tchain input {\n\t\ttype filter hook input priority 0; # all of it\n\t\ttcp dport 9 accept\n\t}\n}\n")}
	case "iptables":
		return []node{f("etc/iptables/rules.v4", "0640", "# site\n*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp --dport 9 -j ACCEPT\nCOMMIT\n")}
	case "ufw":
		return []node{f("etc/ufw/user.rules", "0640", "*filter\n:ufw-user-input - [0:0]\n### RULES ###\n\n### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in comment=6162\n-A ufw-user-input -p tcp --dport 22 -j ACCEPT\n\n### tuple ### allow tcp 9 0.0.0.0/0 any 0.0.0.0/0 in\n-A ufw-user-input -p tcp --dport 9 -j ACCEPT\n\n### END RULES ###\nCOMMIT\n")}
	case "sshd":
		return []node{f("etc/ssh/sshd_config", "0600", "# server\n"+text("keyword")+" "+wrongSSH(text("value"), p["remove"])+"\n")}
	}
	return nil
}

func brokenConfig(program, key, value string) []node {
	g := grammars[program]
	if value == "" {
		return []node{f(clean(g.main), "0644", "# none\n")}
	}
	text := "# settings\n"
	if g.section != "" {
		text += "[" + g.section + "]\n"
	}
	return []node{f(clean(g.main), "0644", text+key+g.equals+"wrong\n")}
}

func wrongSSH(value string, remove any) string {
	if l, ok := remove.([]any); ok {
		return strings.ReplaceAll(fmt.Sprint(l[0]), "*", "x")
	}
	return "other-" + value[:1]
}

// violating are lines that the expressions of the catalogue are against.
func violating(match string) string {
	for _, line := range []string{
		"password required pam_unix.so yescrypt\n", "password required pam_unix.so remember=5\n", "ALL ALL=(ALL) ALL\n", "makestep 0.1 3\n", "$FileCreateMode 0777\n", "module(load=\"imtcp\")\n",
	} {
		if regexp.MustCompile(match).MatchString(line) {
			return "# file\n" + line
		}
	}
	return ""
}

// TestEveryMachineVariantOnATree makes for each variant of each machine objective a tree that violates it, and looks,
// applies, looks, and applies again.
func TestEveryMachineVariantOnATree(t *testing.T) {
	needRoot(t)
	cat, err := catalogue.Load()
	must(t, err)
	tested, reported := 0, 0
	for _, k := range cat.Objectives() {
		if k.Scope != "machine" {
			continue
		}
		for i := range k.Variants {
			one := k
			one.Variants = k.Variants[i : i+1]
			one.Platforms = nil
			tested++
			if onlyReports(one.Variants[0]) {
				reported++
			}
			t.Run(k.ID+"/"+one.Variants[0].ID, func(t *testing.T) { t.Parallel(); runMachine(t, one) })
		}
	}
	if tested < 300 || reported > 45 {
		t.Errorf("%d variants tested, of which %d only report; want more of the first and fewer of the second", tested, reported)
	}
}

// onlyReports: nothing can be applied to a tree without packages or a disk layout.
func onlyReports(v kiln.Variant) bool {
	return slices.ContainsFunc(v.Settings, func(s kiln.Setting) bool {
		_, report := s.Params["report"]
		return s.Kind == "packages-present" || s.Params["need"] == "asked" || s.Kind == "file-present" && len(v.Settings) == 1 || report || s.Kind == "mount" && s.Params["create"] == nil && s.Params["options"] == nil
	})
}

func runMachine(t *testing.T, k kiln.Control) {
	nodes := machine()
	for _, set := range k.Variants[0].Settings {
		nodes = append(nodes, broken(set)...)
	}
	if k.ID == "password-store" {
		nodes = append(nodes, f("etc/pam.d/common-auth", "0644", "auth required pam_deny.so\n"))
	}
	if slices.Contains([]string{"vlock-installed"}, k.ID) || onlyReports(k.Variants[0]) {
		nodes = without(nodes, k.Variants[0])
	}
	if k.ID == "audit-privileged" {
		nodes = append(nodes, f("usr/bin/mount", "4755", ""))
	}
	if k.Applies != nil && (len(k.Applies.Without) > 0 || k.Applies.Package == "gdm3") {
		nodes = instead(nodes, k.Applies)
	}
	dir := plant(t, debianWith(nodes...)...)
	in := Input{Scope: "machine", Controls: []kiln.Control{k}, Profile: "test", Recipe: &kiln.Recipe{Name: "app"}, Lock: &kiln.Lock{Epoch: 1}, Now: time.Unix(1, 0)}
	in.Before = kiln.DigestBytes(nil) // the dumps below compare whole trees: no digest is needed
	before := dump(t, dir)
	audit, err := Audit(t.Context(), dir, in)
	must(t, err)
	if o := audit.Outcomes[0]; o.State != kiln.NotSatisfied {
		t.Fatalf("violating tree: %s (%s) %s, want not satisfied", o.State, o.Observed, o.Reason)
	}
	if diff := differences(before, dump(t, dir)); len(diff) > 0 {
		t.Fatalf("Audit changed the tree:\n%s", show(diff))
	}
	res, err := Apply(t.Context(), dir, in)
	must(t, err)
	o, after := res.Outcomes[0], dump(t, dir)
	if onlyReports(k.Variants[0]) || k.ID == "password-store" {
		if o.State != kiln.NotSatisfied || o.Reason == "" || len(differences(before, after)) > 0 {
			t.Errorf("it can only report, but: %s %q\n%s", o.State, o.Reason, show(differences(before, after)))
		}
		return
	}
	if o.State != kiln.Satisfied {
		t.Fatalf("after: %s (%s) %s", o.State, o.Observed, o.Reason)
	}
	keepsComments(t, before, after)
	again, err := Apply(t.Context(), dir, in)
	must(t, err)
	if diff := differences(after, dump(t, dir)); len(diff) > 0 || again.Outcomes[0].Before != kiln.Satisfied {
		t.Errorf("applied again: %s, and it changed:\n%s", again.Outcomes[0].Before, show(diff))
	}
}

// without takes away what makes a report good: the packages asked for.
func without(nodes []node, v kiln.Variant) []node {
	drop := []string{}
	for _, s := range v.Settings {
		if l, ok := s.Params["packages"].([]any); ok {
			for _, p := range l {
				drop = append(drop, fmt.Sprint(p))
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(nodes), func(n node) bool {
		return n.path == "status" && slices.ContainsFunc(drop, func(p string) bool { return strings.HasPrefix(n.content, "Package: "+p+"\n") })
	})
}

// instead takes packages away that exclude an objective, and adds the one that it is about.
func instead(nodes []node, a *kiln.Applicability) []node {
	nodes = slices.DeleteFunc(slices.Clone(nodes), func(n node) bool {
		return n.path == "status" && slices.ContainsFunc(a.Without, func(p string) bool { return strings.HasPrefix(n.content, "Package: "+p+"\n") })
	})
	return append(nodes, node{path: "status", content: "Package: " + a.Package + "\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n"})
}

func keepsComments(t *testing.T, before, after map[string]string) {
	t.Helper()
	for p, text := range before {
		now, there := after[p]
		for line := range strings.Lines(text) {
			at := strings.Index(line, "# ")
			if at < 0 || !there || strings.HasPrefix(line, ufwTupled) || strings.HasPrefix(text, "0644 0:0 #!") {
				continue
			}
			if !strings.Contains(now, strings.TrimSpace(line[at:])) {
				t.Errorf("%s lost the comment %q:\n%s", p, line, now)
			}
		}
	}
}

// TestMachineFilesThatAreRefused: what a kind cannot read whole is reported with its line, and stays as it is.
func TestMachineFilesThatAreRefused(t *testing.T) {
	needRoot(t)
	for name, c := range map[string]struct {
		set    string
		params map[string]any
		node   node
		want   string
	}{
		"sysctl without =":       {"sysctl", map[string]any{"key": "a.b", "value": "1"}, f("etc/sysctl.d/x.conf", "0644", "# x\na.b 1\n"), "/etc/sysctl.d/x.conf:2"},
		"sysctl drop-in is link": {"sysctl", map[string]any{"key": "a.b", "value": "1"}, l("etc/sysctl.d/99-zz-kiln.conf", "../passwd"), "no setting"},
		"sysctl is binary":       {"sysctl", map[string]any{"key": "a.b", "value": "1"}, f("etc/sysctl.d/x.conf", "0644", "\n\x00"), "/etc/sysctl.d/x.conf:2"},
		"sysctl is huge":         {"sysctl", map[string]any{"key": "a.b", "value": "1"}, f("etc/sysctl.d/x.conf", "0644", strings.Repeat("#", maxConfig+1)), "larger than"},
		"fstab with 3 fields":    {"mount", map[string]any{"path": "/tmp", "options": []any{"nodev"}}, f("etc/fstab", "0644", "a /tmp tmpfs\n"), "/etc/fstab:1"},
		"fstab is a link":        {"mount", map[string]any{"path": "/tmp", "options": []any{"nodev"}}, l("etc/fstab", "passwd"), "symbolic link"},
		"audit option":           {"audit-rules", map[string]any{"rules": []any{"-e 2"}}, f("etc/audit/rules.d/x.rules", "0640", "-e 1\n-Q x\n"), "/etc/audit/rules.d/x.rules:2"},
		"audit rule is link":     {"audit-rules", map[string]any{"rules": []any{"-e 2"}}, l("etc/audit/rules.d/50-kiln.rules", "/nowhere"), "symbolic link"},
		"sudoers in a circle":    {"sudo-default", map[string]any{"name": "use_pty"}, f("etc/sudoers.d/loop", "0440", "@include /etc/sudoers\n"), "circle"},
		"sudoers unfinished":     {"sudo-default", map[string]any{"name": "use_pty"}, f("etc/sudoers.d/x", "0440", "Defaults a,\\\n"), "/etc/sudoers.d/x:1"},
		"pam without module":     {"pam", map[string]any{"file": "/etc/pam.d/common-auth", "type": "auth", "module": "pam_faildelay.so", "control": "required", "place": "first"}, f("etc/pam.d/common-auth", "0644", "# c\nauth required\n"), "/etc/pam.d/common-auth:2"},
		"pam is a link":          {"pam", map[string]any{"file": "/etc/pam.d/common-auth", "type": "auth", "module": "pam_faildelay.so", "control": "required", "place": "first"}, l("etc/pam.d/common-auth", "common-account"), "symbolic link"},
		"pam module missing":     {"pam", map[string]any{"file": "/etc/pam.d/common-auth", "type": "auth", "module": "pam_none.so", "control": "required", "place": "first"}, f("etc/x", "0644", ""), "locks everybody out"},
		"apt quotation":          {"apt-setting", map[string]any{"key": "A::B", "value": "x"}, f("etc/apt/apt.conf.d/x", "0644", "// x\nA \"b\n"), "/etc/apt/apt.conf.d/x:2"},
		"apt brace":              {"apt-setting", map[string]any{"key": "A::B", "value": "x"}, f("etc/apt/apt.conf.d/x", "0644", "A {\n"), "close a brace"},
		"apt depth":              {"apt-setting", map[string]any{"key": "A::B", "value": "x"}, f("etc/apt/apt.conf.d/x", "0644", strings.Repeat("A { ", 1000)), "deeper"},
		"grub quotation":         {"kernel-argument", map[string]any{"argument": "audit=1"}, f("etc/default/grub", "0644", "X=1\nGRUB_CMDLINE_LINUX=\"a\n"), "/etc/default/grub:2"},
		"section unclosed":       {"config", map[string]any{"program": "journald", "key": "Compress", "value": "yes"}, f("etc/systemd/journald.conf", "0644", "[Journal\n"), "/etc/systemd/journald.conf:1"},
		"drop-in is link":        {"config", map[string]any{"program": "journald", "key": "Compress", "value": "yes"}, l("etc/systemd/journald.conf.d/99-zz-kiln.conf", "/etc/hostname"), "symbolic link"},
		"install line":           {"kernel-module", map[string]any{"name": "udf"}, f("etc/modprobe.d/x.conf", "0644", "install udf /bin/sh -c x\n"), "/etc/modprobe.d/x.conf:1"},
		"site's own unit":        {"unit-masked", map[string]any{"names": []any{"x.service"}}, f("etc/systemd/system/x.service", "0644", "[Service]\n"), "site's own unit"},
		"nft brace":              {"nftables", map[string]any{"need": "table"}, f("etc/nftables.conf", "0644", "# x\ntable inet x {\n chain y {\n }\n"), "/etc/nftables.conf:2"},
		"nft statement":          {"nftables", map[string]any{"need": "table"}, f("etc/nftables.conf", "0644", "# x\nreplace rule a b c\n"), "/etc/nftables.conf:2"},
		"nft quotation":          {"nftables", map[string]any{"need": "table"}, f("etc/nftables.conf", "0644", "# x\n\ninclude \"/etc/x\n"), "/etc/nftables.conf:3"},
		"nft in a circle":        {"nftables", map[string]any{"need": "table"}, f("etc/nftables.conf", "0644", "include \"/etc/nft*.conf\"\ninclude \"/etc/nft*.conf\"\n"), "circle"},
		"nft policy":             {"nftables", map[string]any{"need": "table"}, f("etc/nftables.conf", "0644", "table x {\nchain y {\npolicy $p;\n}\n}\n"), "/etc/nftables.conf:3"},
		"nft rule without chain": {"nftables", map[string]any{"need": "table"}, f("etc/nftables.conf", "0644", "table x\nadd rule x y accept\n"), "/etc/nftables.conf:2"},
		"nft missing include":    {"nftables", map[string]any{"need": "table"}, f("etc/nftables.conf", "0644", "include \"./site.nft\"\n"), "/etc/nftables.conf:1"},
		"iptables outside":       {"iptables", map[string]any{"need": "loopback"}, f("etc/iptables/rules.v4", "0644", "# x\n-A INPUT -j DROP\n"), "/etc/iptables/rules.v4:2"},
		"iptables without end":   {"iptables", map[string]any{"need": "loopback"}, f("etc/iptables/rules.v6", "0644", "*filter\n:INPUT DROP\n"), "/etc/iptables/rules.v6:2"},
		"iptables quotation":     {"iptables", map[string]any{"need": "loopback"}, f("etc/iptables/rules.v4", "0644", "*filter\n-A INPUT -m comment --comment \"x\nCOMMIT\n"), "/etc/iptables/rules.v4:2"},
		"ufw tuple":              {"ufw", map[string]any{"need": "loopback"}, f("etc/ufw/user.rules", "0640", "*filter\n### RULES ###\n### tuple ### allow tcp\nCOMMIT\n"), "/etc/ufw/user.rules:3"},
		"ufw of somebody else":   {"ufw", map[string]any{"need": "loopback"}, f("etc/ufw/user.rules", "0640", "*filter\nCOMMIT\n"), "it is not ufw's"},
		"ssh port":               {"ufw", map[string]any{"need": "served"}, f("etc/ssh/sshd_config", "0600", "# x\nPort ssh\n"), "/etc/ssh/sshd_config:2"},
		"unit with a path":       {"unit-enabled", map[string]any{"names": []any{"x.service"}}, f("usr/lib/systemd/system/x.service", "0644", "[Install]\nWantedBy=../../../../evil\n"), "no unit"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := plant(t, debianWith(append(machine(), f("etc/hostname", "0644", "host\n"), c.node)...)...)
			before := dump(t, dir)
			k := kiln.Control{ID: "x", Title: "x", Rationale: "x", Severity: "low", Scope: "machine", Variants: []kiln.Variant{{ID: "v", Settings: []kiln.Setting{{Kind: c.set, Params: c.params}}}}}
			res, err := Apply(t.Context(), dir, Input{Scope: "machine", Controls: []kiln.Control{k}, Recipe: &kiln.Recipe{}, Lock: &kiln.Lock{}})
			must(t, err)
			o := res.Outcomes[0]
			if o.State == kiln.Satisfied || !strings.Contains(o.Reason, c.want) {
				t.Errorf("%s: %q, want a reason with %q", o.State, o.Reason, c.want)
			}
			if diff := differences(before, dump(t, dir)); len(diff) > 0 {
				t.Errorf("it changed:\n%s", show(diff))
			}
		})
	}
}

// TestMachineSettingsByLine shows what the kinds write, and whose line wins.
func TestMachineSettingsByLine(t *testing.T) {
	needRoot(t)
	for name, c := range map[string]struct {
		set    string
		params map[string]any
		nodes  []node
		want   map[string]string // nil: it holds already
	}{
		"last sysctl wins": {"sysctl", map[string]any{"key": "a.b", "value": "1"}, []node{
			f("usr/lib/sysctl.d/50-x.conf", "0644", "a.b=0\n"), f("etc/sysctl.d/60-x.conf", "0644", "a/b = 1\n"),
		}, nil},
		"a file hides its namesake": {"sysctl", map[string]any{"key": "a.b", "value": "1"}, []node{
			f("usr/lib/sysctl.d/99-x.conf", "0644", "a.b=0\n"), l("etc/sysctl.d/99-x.conf", "/dev/null"), f("etc/sysctl.d/10-y.conf", "0644", "a.b=1\n"),
		}, nil},
		"exact name beats pattern": {"sysctl", map[string]any{"key": "a.b.c", "value": "1"}, []node{f("etc/sysctl.d/x.conf", "0644", "a.b.c = 1\na.*.c = 0\n")}, nil},
		"sysctl.conf is set aside": {
			"sysctl",
			map[string]any{"key": "a.b", "value": "1"},
			[]node{f("etc/sysctl.conf", "0644", "# k\na.b = 0\nc.d = 2\n"), l("etc/sysctl.d/99-sysctl.conf", "../sysctl.conf")},
			map[string]string{"etc/sysctl.conf": "0644 0:0 # k\n# a.b = 0\nc.d = 2\n", "etc/sysctl.d/99-zz-kiln.conf": "0644 0:0 # Hardening; made by kiln.\na.b = 1\n"},
		},
		"mount options keep the rest": {
			"mount",
			map[string]any{"path": "/home", "options": []any{"nodev", "nosuid"}},
			[]node{f("etc/fstab", "0644", "# d\nUUID=1\t/home  ext4   defaults,suid,noatime 0 2\n")},
			map[string]string{"etc/fstab": "0644 0:0 # d\nUUID=1\t/home  ext4   defaults,noatime,nodev,nosuid 0 2\n"},
		},
		"jumps grow": {
			"pam",
			map[string]any{"file": "/etc/pam.d/common-auth", "type": "auth", "module": "pam_faillock.so", "control": "[default=die]", "options": []any{"authfail"}, "place": "after-unix"},
			nil,
			map[string]string{"etc/pam.d/common-auth": "0644 0:0 auth [success=2 default=ignore] pam_unix.so nullok\nauth [default=die] pam_faillock.so authfail\nauth requisite pam_deny.so\nauth required pam_permit.so\n"},
		},
		"an option is replaced": {
			"pam",
			map[string]any{"file": "/etc/pam.d/common-password", "type": "password", "module": "pam_unix.so", "options": []any{"rounds=100000"}, "change": true, "remedy": "x"},
			[]node{f("etc/pam.d/common-password", "0644", "password required pam_unix.so rounds=5 obscure # why\n")},
			map[string]string{"etc/pam.d/common-password": "0644 0:0 password required pam_unix.so obscure rounds=100000 # why\n"},
		},
		"pwquality's main file wins": {
			"config",
			map[string]any{"program": "pwquality", "key": "minlen", "value": "14", "accept": "at-least"},
			[]node{f("etc/security/pwquality.conf", "0644", "# q\nminlen = 8\n")},
			map[string]string{
				"etc/security/pwquality.conf": "0644 0:0 # q\nminlen = 14\n",
			},
		},
		"success is told after what ends failures only": {
			"pam",
			map[string]any{"file": "/etc/pam.d/common-auth", "type": "auth", "module": "pam_faillock.so", "control": "sufficient", "options": []any{"authsucc"}, "place": "after-authfail"},
			[]node{f("etc/pam.d/common-auth", "0644", "auth [success=2 default=ignore] pam_unix.so nullok\nauth [default=die] pam_faillock.so authfail\nauth requisite pam_deny.so\nauth required pam_permit.so\n")},
			map[string]string{"etc/pam.d/common-auth": "0644 0:0 auth [success=3 default=ignore] pam_unix.so nullok\nauth [default=die] pam_faillock.so authfail\nauth sufficient pam_faillock.so authsucc\nauth requisite pam_deny.so\nauth required pam_permit.so\n"},
		},
		"journald takes a drop-in, and its own file": {
			"config",
			map[string]any{"program": "journald", "key": "Storage", "value": "persistent"},
			[]node{f("etc/systemd/journald.conf", "0644", "[Journal]\nStorage=auto\n")},
			map[string]string{"etc/systemd/journald.conf.d": "0755 0:0", "etc/systemd/journald.conf.d/99-zz-kiln.conf": "0644 0:0 # Hardening; made by kiln.\n[Journal]\nStorage=persistent\n", "etc/systemd/journald.conf": "0644 0:0 [Journal]\nStorage=persistent\n"},
		},
		"a wider audit rule counts": {"audit-rules", map[string]any{"rules": []any{"-w /etc/passwd -p wa", "-a always,exit -F arch=b64 -S chmod -F auid>=1000 -F auid!=unset -k y"}}, []node{
			f("etc/audit/rules.d/x.rules", "0640", "-a always,exit -F path=/etc/passwd -F perm=rwa -k id\n-a exit,always -F arch=b64 -S fchmod,chmod -F auid>=1000 -F auid!=4294967295 -k x\n"),
		}, nil},
		"apt blocks": {"apt-setting", map[string]any{"key": "A::B::C", "value": "false"}, []node{f("etc/apt/apt.conf.d/x", "0644", "/* c */ a { B { C \"no\"; }; };\n")}, nil},
		"units are enabled": {
			"unit-enabled",
			map[string]any{"names": []any{"x.timer"}},
			[]node{f("usr/lib/systemd/system/x.timer", "0644", "[Install]\nWantedBy=timers.target\n")},
			map[string]string{
				"etc/systemd": "0755 0:0", "etc/systemd/system": "0755 0:0", "etc/systemd/system/timers.target.wants": "0755 0:0",
				"etc/systemd/system/timers.target.wants/x.timer": "-> /usr/lib/systemd/system/x.timer",
			},
		},
		"kernel arguments": {
			"kernel-argument",
			map[string]any{"argument": "audit=1"},
			[]node{f("etc/default/grub", "0644", "GRUB_CMDLINE_LINUX=\"audit=0\"\n")},
			map[string]string{"etc/default/grub.d": "0755 0:0", "etc/default/grub.d/zz-kiln.cfg": "0644 0:0 # Hardening; made by kiln.\nGRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX audit=1\"\n"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := plant(t, debianWith(append(machine(), c.nodes...)...)...)
			before := dump(t, dir)
			k := kiln.Control{ID: "x", Title: "x", Rationale: "x", Severity: "low", Scope: "machine", Variants: []kiln.Variant{{ID: "v", Settings: []kiln.Setting{{Kind: c.set, Params: c.params}}}}}
			res, err := Apply(t.Context(), dir, Input{Scope: "machine", Controls: []kiln.Control{k}, Recipe: &kiln.Recipe{}, Lock: &kiln.Lock{}})
			must(t, err)
			o := res.Outcomes[0]
			if o.State != kiln.Satisfied || (c.want == nil) != (o.Before == kiln.Satisfied) {
				t.Errorf("%s -> %s: %s %s", o.Before, o.State, o.Observed, o.Reason)
			}
			if got := differences(before, dump(t, dir)); show(got) != show(c.want) {
				t.Errorf("changes:\n%swant:\n%s", show(got), show(c.want))
			}
		})
	}
}

// TestMachineProfilesApplyWhole applies whole profiles to one tree: nothing undoes another, a second time changes nothing.
func TestMachineProfilesApplyWhole(t *testing.T) {
	needRoot(t)
	cat, err := catalogue.Load()
	must(t, err)
	for _, name := range []string{"cis-l1", "cis-l2", "stig-cat1", "stig-cat2", "stig-cat3", "minimal-machine"} {
		t.Run(name, func(t *testing.T) {
			list, err := cat.Profile(name)
			must(t, err)
			dir := plant(t, debianWith(machine()...)...)
			in := Input{Scope: cat.Scope(name), Controls: list, Profile: name, Recipe: &kiln.Recipe{}, Lock: &kiln.Lock{Epoch: 1}, Now: time.Unix(1750000000, 0)}
			start := time.Now()
			res, err := Apply(t.Context(), dir, in)
			must(t, err)
			t.Logf("%d objectives: %d satisfied, %d not, %d not applicable, %d unknown, in %v", len(list), res.Count(kiln.Satisfied), res.Count(kiln.NotSatisfied), res.Count(kiln.NotApplicable), res.Count(kiln.Unknown), time.Since(start))
			if res.Count(kiln.Unknown) > 0 {
				t.Error("some could not be judged")
			}
			slices.Reverse(in.Controls)
			again, err := Apply(t.Context(), dir, in)
			must(t, err)
			if again.Before != again.After || again.Before != res.After {
				t.Error("applied again, in the other order, it changed the tree")
			}
			if _, err := os.Stat(filepath.Join(dir, ".kiln-new")); err == nil {
				t.Error("a temporary file is left")
			}
		})
	}
}
