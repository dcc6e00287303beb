package harden

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kiln"
)

// script is a file that a test writes as the grammar allows, and what its program makes of it.
type script struct {
	*rand.Rand
	lines []piece
	holds bool // what the setting asks for is so, by the grammar
}

// piece is a line of a script. Free ones are none of the setting's business: Apply keeps them byte for byte.
type piece struct {
	text string
	free bool
}

func (g *script) pick(of ...string) string { return of[g.IntN(len(of))] }
func (g *script) blank() string            { return g.pick(" ", "\t", "  ", " \t ") }
func (g *script) maybe() string            { return g.pick("", "", " ", "\t", "   ") }
func (g *script) yes() bool                { return g.IntN(2) == 0 }
func (g *script) free(text string)         { g.lines = append(g.lines, piece{text, true}) }
func (g *script) mine(text string)         { g.lines = append(g.lines, piece{text, false}) }

// grammarCase is one grammar: where the file lies, the setting that is tried, and a line maker.
type grammarCase struct {
	name, file string
	setting    kiln.Setting
	crlf       bool // the program takes lines that end in CR LF
	more       []node
	begin      func(g *script)
	line       func(g *script)
	end        func(g *script)
}

func set(kind string, params map[string]any) kiln.Setting {
	return kiln.Setting{Kind: kind, Params: params}
}

func nodes(more ...node) []node { return more }

// installed makes a package known.
func installed(name string) node {
	return f("var/lib/dpkg/status", "0644", "Package: "+name+"\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n")
}

var grammarCases = []grammarCase{
	{
		name: "sshd_config", file: "etc/ssh/sshd_config", crlf: true, line: sshdScript,
		setting: set("sshd", map[string]any{"keyword": "X11Forwarding", "value": "no", "default": "yes"}),
	},
	{
		name: "ssh_config", file: "etc/ssh/ssh_config", crlf: true, line: sshScript, more: nodes(installed("openssh-client")),
		setting: set("config", map[string]any{"program": "ssh", "key": "Ciphers", "value": "aes256-ctr"}),
	},
	{
		name: "sudoers", file: "etc/sudoers", line: sudoScript, more: nodes(d("etc/sudoers.d", "0750")),
		setting: set("sudo-default", map[string]any{"name": "use_pty", "default": "off"}),
	},
	{
		name: "pam", file: "etc/pam.d/common-password", line: pamScript, end: pamEnd, more: nodes(f("usr/lib/x/security/pam_pwhistory.so", "0644", "")),
		setting: set("pam", map[string]any{
			"file": "/etc/pam.d/common-password", "type": "password", "module": "pam_pwhistory.so", "control": "requisite",
			"options": []any{"remember=24", "use_authtok"}, "place": "before-unix",
		}),
	},
	{
		name: "login.defs", file: "etc/login.defs", crlf: true, line: loginScript, more: nodes(installed("login")),
		setting: set("config", map[string]any{"program": "login.defs", "key": "PASS_MAX_DAYS", "value": "365", "accept": "one-to"}),
	},
	{
		name: "shell variables", file: "etc/default/ufw", line: variableScript, more: nodes(installed("ufw")),
		setting: set("config", map[string]any{"program": "ufw-policy", "key": "DEFAULT_INPUT_POLICY", "value": "DROP"}),
	},
	{
		name: "main.cf", file: "etc/postfix/main.cf", line: postfixScript, more: nodes(installed("postfix")),
		setting: set("config", map[string]any{"program": "postfix", "key": "inet_interfaces", "value": "loopback-only"}),
	},
	{
		name: "fstab", file: "etc/fstab", line: fstabScript,
		setting: set("mount", map[string]any{"path": "/tmp", "options": []any{"nodev", "nosuid"}, "create": "tmpfs /tmp tmpfs defaults,nosuid,nodev 0 0"}),
	},
	{
		name: "journald.conf", file: "etc/systemd/journald.conf", line: journalScript, more: nodes(installed("systemd")),
		setting: set("config", map[string]any{"program": "journald", "key": "Storage", "value": "persistent"}),
	},
	{
		name: "journald.conf.d", file: "etc/systemd/journald.conf.d/50-site.conf", line: journalScript, more: nodes(installed("systemd"), f("etc/systemd/journald.conf", "0644", "[Journal]\n#Storage=auto\n")),
		setting: set("config", map[string]any{"program": "journald", "key": "Storage", "value": "persistent"}),
	},
	{
		name: "pwquality.conf", file: "etc/security/pwquality.conf", line: qualityScript, more: nodes(installed("libpam-pwquality")),
		setting: set("config", map[string]any{"program": "pwquality", "key": "minlen", "value": "14", "accept": "at-least"}),
	},
	{
		name: "audit rules", file: "etc/audit/rules.d/site.rules", line: auditScript,
		setting: set("audit-rules", map[string]any{"rules": []any{"-w /etc/passwd -p wa -k identity"}}),
	},
	{
		name: "grub", file: "etc/default/grub", line: grubScript,
		setting: set("kernel-argument", map[string]any{"argument": "audit=1"}),
	},
	{
		name: "sysctl", file: "etc/sysctl.d/50-site.conf", line: sysctlScript,
		setting: set("sysctl", map[string]any{"key": "net.ipv4.ip_forward", "value": "0"}),
	},
	{
		name: "modprobe", file: "etc/modprobe.d/site.conf", begin: func(g *script) { g.holds = false }, line: modprobeScript, end: modprobeEnd,
		setting: set("kernel-module", map[string]any{"name": "usb_storage"}),
	},
	{
		name: "limits", file: "etc/security/limits.conf", line: limitScript,
		setting: set("limit", map[string]any{"domain": "*", "type": "hard", "item": "maxlogins", "value": "10", "accept": "one-to"}),
	},
	{
		name: "apt.conf", file: "etc/apt/apt.conf.d/50site", crlf: true, line: aptScript,
		setting: set("apt-setting", map[string]any{"key": "APT::Get::AllowUnauthenticated", "value": "false", "default": "true"}),
	},
}

// matched says that a section for some hosts or users has begun.
func (g *script) inBlock(words ...string) bool {
	for _, l := range g.lines {
		for _, w := range words {
			if strings.HasPrefix(strings.TrimSpace(l.text), w) {
				return true
			}
		}
	}
	return false
}

func (g *script) decided() bool {
	for _, l := range g.lines {
		if !l.free {
			return true
		}
	}
	return false
}

func sshdScript(g *script) {
	switch g.IntN(7) {
	case 0:
		g.free(g.maybe() + g.pick("# X11Forwarding no", "#X11Forwarding yes", "", "  ", "# \xff not UTF-8"))
	case 1:
		g.free(g.maybe() + g.pick("Port 22", "Subsystem\tsftp /usr/lib/sftp-server", "X11ForwardingNot yes", "Banner=/etc/issue.net", `Banner "/etc/a b" # X11Forwarding no`))
	case 2:
		if len(g.lines) > 4 {
			g.free(g.pick("Match User bob", "match\tGroup site # X11Forwarding no", "Match all"))
		}
	default:
		v := g.pick("yes", "no")
		text := g.maybe() + g.pick("X11Forwarding", "x11forwarding", "X11FORWARDING") + g.pick(" ", "\t", "=", " = ", "  ") + g.pick(v, v, `"`+v+`"`) + g.pick("", "", " ", " # why", "\t#why no")
		if g.inBlock("Match", "match") {
			g.free(text)
			return
		}
		g.holds = g.decided() && g.holds || !g.decided() && v == "no"
		g.mine(text)
	}
}

func sshScript(g *script) {
	switch g.IntN(6) {
	case 0:
		g.free(g.maybe() + g.pick("# Ciphers aes256-ctr", "", "  ", "SendEnv LANG LC_*"))
	case 1, 2:
		if len(g.lines) > 3 {
			g.free(g.pick("Host bastion", "Host *.example.com # all", "Match host x"))
		}
	default:
		v := g.pick("aes256-ctr", "aes128-cbc")
		text := g.maybe() + g.pick("Ciphers", "ciphers") + g.pick(" ", "\t", "=", " = ") + g.pick(v, v, `"`+v+`"`) + g.pick("", " ", " # why")
		if g.inBlock("Host", "Match") {
			g.free(text)
			return
		}
		g.holds = g.decided() && g.holds || !g.decided() && v == "aes256-ctr"
		g.mine(text)
	}
}

func sudoScript(g *script) {
	on := g.yes()
	name := map[bool]string{true: "use_pty", false: "!use_pty"}[on]
	switch g.IntN(8) {
	case 0:
		g.free(g.maybe() + g.pick("# Defaults !use_pty", "# Defaults use_pty", "", "# ends in a backslash \\"))
	case 1:
		g.free(g.pick("Defaults env_reset", "root ALL=(ALL:ALL) ALL", "Defaults:bob "+name, "Defaults@host "+name, `Defaults badpass_message="no, `+name+`"`, "User_Alias A = a, \\", "#1000 ALL=(ALL) ALL"))
		if strings.HasSuffix(g.lines[len(g.lines)-1].text, `\`) {
			g.free("\tb, c")
		}
	case 2:
		g.free(g.pick("@includedir /etc/sudoers.d", "#includedir /etc/sudoers.d"))
	case 3:
		g.mine("Defaults" + g.blank() + "env_reset, \\")
		g.mine(g.blank() + name)
		g.holds = on
	default:
		g.mine("Defaults" + g.blank() + g.pick("", "", "env_reset,"+g.maybe(), `passprompt="a, b",`) + name + g.pick("", "", " ", " # !use_pty", "#x", ", lecture = never"))
		g.holds = on
	}
}

func pamScript(g *script) {
	switch g.IntN(5) {
	case 0:
		g.free(g.maybe() + g.pick("# password requisite pam_pwhistory.so remember=24 use_authtok", "", "#", "@include common-extra"))
	case 1:
		g.free(g.pick("password\trequisite pam_pwquality.so retry=3 # remember=24", "-password optional pam_gnome_keyring.so", "password sufficient pam_ldap.so use_authtok", "auth required pam_pwhistory.so"))
	case 2:
		if g.decided() {
			return // one such line is enough
		}
		remember, token := g.pick("remember=24", "remember=5", "remember=24 remember=3", "remember=3 remember=24", ""), g.yes()
		text := g.pick("password", "PASSWORD", "-password") + g.blank() + g.pick("required", "requisite", "[default=die success=ok]") + g.blank() + g.pick("", "/usr/lib/x/security/") + "pam_pwhistory.so"
		if token {
			text += g.blank() + "use_authtok"
		}
		g.holds = token && strings.HasSuffix(remember, "=24")
		if remember != "" {
			text += g.blank() + remember
		}
		g.mine(text + g.pick("", " ", " # remember=24 use_authtok"))
	}
}

func pamEnd(g *script) {
	g.free("password" + g.blank() + "sufficient pam_unix.so obscure yescrypt")
	g.free("password required pam_permit.so")
}

func loginScript(g *script) {
	switch g.IntN(4) {
	case 0:
		g.free(g.maybe() + g.pick("# PASS_MAX_DAYS 365", "#PASS_MAX_DAYS\t1", "", "\t"))
	case 1:
		g.free(g.pick("UMASK\t\t022", "PASS_MAX_DAYSX 1", "MAIL_DIR /var/mail", "ENV_PATH PATH=/bin:PASS_MAX_DAYS"))
	default:
		v := g.pick("365", "99999", "0", "90")
		g.mine(g.maybe() + "PASS_MAX_DAYS" + g.blank() + g.pick(v, v, `"`+v+`"`) + g.maybe())
		g.holds = v == "365" || v == "90"
	}
}

func variableScript(g *script) {
	switch g.IntN(4) {
	case 0:
		g.free(g.maybe() + g.pick("# DEFAULT_INPUT_POLICY=DROP", "", "#"))
	case 1:
		g.free(g.pick("IPV6=yes", `IPT_MODULES="a b" # DEFAULT_INPUT_POLICY="DROP"`, "XDEFAULT_INPUT_POLICY=DROP"))
	default:
		v := g.pick("DROP", "ACCEPT")
		g.mine(g.pick("", "", "  ", "export ") + "DEFAULT_INPUT_POLICY=" + g.pick(v, `"`+v+`"`, "'"+v+"'") + g.pick("", " ", " # site", "\t# 'DROP'"))
		g.holds = v == "DROP"
	}
}

func postfixScript(g *script) {
	switch g.IntN(5) {
	case 0:
		g.free(g.maybe() + g.pick("# inet_interfaces = loopback-only", "", "#"))
	case 1:
		g.free(g.pick("mynetworks = 127.0.0.0/8", "xinet_interfaces = all", "relayhost ="))
	case 2:
		g.free("smtpd_banner = hello")
		g.free(g.blank() + "inet_interfaces = all") // goes on with the line before
	default:
		v := g.pick("loopback-only", "all")
		g.holds = v == "loopback-only"
		if g.IntN(3) == 0 {
			g.mine("inet_interfaces =")
			g.mine(g.blank() + v)
			return
		}
		g.mine("inet_interfaces" + g.maybe() + "=" + g.maybe() + v + g.maybe())
	}
}

func fstabScript(g *script) {
	switch g.IntN(4) {
	case 0:
		g.free(g.maybe() + g.pick("# tmpfs /tmp tmpfs nodev,nosuid 0 0", "", "\t", "#"))
	case 1:
		g.free(g.pick("/dev/vda1 / ext4 defaults 0 1", "tmpfs\t/tmp/x  tmpfs nodev 0 0", "UUID=1 none swap sw", `/dev/vdb /srv/a\040b xfs noatime,nodev 0 2 # data`))
	default:
		if g.decided() {
			return
		}
		options := []string{"defaults", "rw", "nodev", "nosuid", "size=1G", "mode=1777", "dev", "suid", "nodev", "nosuid"}
		g.Shuffle(len(options), func(i, j int) { options[i], options[j] = options[j], options[i] })
		options = options[:1+g.IntN(7)]
		nodev, nosuid := false, false
		for _, o := range options {
			switch o {
			case "nodev", "dev":
				nodev = o == "nodev"
			case "nosuid", "suid":
				nosuid = o == "nosuid"
			case "defaults":
				nodev, nosuid = false, false
			}
		}
		g.holds = nodev && nosuid
		g.mine(g.maybe() + "tmpfs" + g.blank() + g.pick("/tmp", "/tmp", "/tmp/") + g.blank() + "tmpfs" + g.blank() + strings.Join(options, ",") + g.pick("", g.blank()+"0", g.blank()+"0 0"))
	}
}

// section is the one that the last line is in.
func (g *script) section() string {
	at := ""
	for _, l := range g.lines {
		if strings.HasPrefix(strings.TrimSpace(l.text), "[") {
			at = strings.TrimSpace(l.text)
		}
	}
	return at
}

func journalScript(g *script) {
	if len(g.lines) == 0 {
		g.free("[Journal]")
	}
	v := g.pick("persistent", "volatile")
	switch g.IntN(6) {
	case 0:
		g.free(g.maybe() + g.pick("# Storage=persistent", ";Storage=volatile", "", "#"))
	case 1:
		g.free(g.pick("[Journal]", "[Other]", "[Journal]"))
	case 2:
		g.free(g.pick("SystemMaxUse=1G", "XStorage=persistent", "Seal = yes"))
	case 3:
		g.free("TTYPath=/dev/tty12 \\")
		g.free("Storage=" + v) // goes on with the line before
	default:
		text := g.maybe() + "Storage" + g.maybe() + "=" + g.maybe() + v + g.maybe()
		if g.section() != "[Journal]" {
			g.free(text)
			return
		}
		g.mine(text)
		g.holds = v == "persistent"
	}
}

func qualityScript(g *script) {
	switch g.IntN(4) {
	case 0:
		g.free(g.maybe() + g.pick("# minlen = 14", "#minlen=4", "", "\t"))
	case 1:
		g.free(g.pick("minclass = 4", "enforce_for_root", "minlength = 14", "dictpath="))
	default:
		v := g.pick("14", "8", "20")
		g.mine(g.maybe() + "minlen" + g.maybe() + "=" + g.maybe() + v + g.maybe())
		g.holds = v != "8"
	}
}

func auditScript(g *script) {
	switch g.IntN(4) {
	case 0:
		g.free(g.maybe() + g.pick("# -w /etc/passwd -p wa", "", "#", "## -D"))
	case 1:
		g.free(g.pick("-b 8192", "-w /etc/passwd- -p wa", "-w /etc/passwd -p r -k reads", "-a never,exit -F path=/etc/group -F perm=wa", "--backlog_wait_time 60000"))
	case 2:
		g.holds = true
		g.free(g.maybe() + g.pick("-w /etc/passwd -p wa", "-w  /etc/passwd\t-p rwxa -k all", "-p aw -w /etc/passwd -k x", "-a always,exit -F path=/etc/passwd -F perm=wa -F key=x", "-a exit,always -F arch=b64 -F perm=aw -F path=/etc/passwd -k x"))
	}
}

func grubScript(g *script) {
	switch g.IntN(5) {
	case 0:
		g.free(g.maybe() + g.pick(`# GRUB_CMDLINE_LINUX="audit=1"`, "", "#", "GRUB_TIMEOUT=5 # GRUB_CMDLINE_LINUX=audit=1"))
	case 1:
		g.free(g.pick("GRUB_CMDLINE_LINUX_DEFAULT=\"quiet audit=1\"", "GRUB_CMDLINE_LINUX_RECOVERY=audit=1", "GRUB_DISTRIBUTOR=`lsb_release -i`"))
	default:
		arg := g.pick("audit=1", "audit=0", "quiet", "audit=0 audit=1", "audit=1 audit=0", "note=#3 audit=1", "audit=10")
		onto := g.yes()
		// It replaces what was, or adds to it.
		last := ""
		for w := range strings.FieldsSeq(arg) {
			if strings.HasPrefix(w, "audit=") {
				last = w
			}
		}
		g.holds = last == "audit=1" || last == "" && onto && g.holds
		if onto {
			arg = g.pick("$GRUB_CMDLINE_LINUX ", "${GRUB_CMDLINE_LINUX} ") + arg
		}
		quote := `"`
		if !onto {
			quote = g.pick(`"`, "'")
		}
		g.free(g.pick("", "", "  ", "export ") + "GRUB_CMDLINE_LINUX=" + quote + arg + quote + g.pick("", " ", " # it's", "\t# audit=1"))
	}
}

func sysctlScript(g *script) {
	switch g.IntN(5) {
	case 0:
		g.free(g.maybe() + g.pick("# net.ipv4.ip_forward = 0", ";net.ipv4.ip_forward=1", "", "\t"))
	case 1:
		g.free(g.pick("net.ipv4.ip_forward_use_pmtu=1", "kernel.core_pattern=|/bin/x %e = #", "-vm.swappiness = 10", "-net.ipv4.ip_forward"))
	default:
		v := g.pick("0", "1")
		g.mine(g.maybe() + g.pick("", "", "-") + g.pick("net.ipv4.ip_forward", "net/ipv4/ip_forward") + g.maybe() + "=" + g.maybe() + v + g.maybe())
		g.holds = v == "0"
	}
}

func modprobeScript(g *script) {
	switch g.IntN(4) {
	case 0:
		g.free(g.maybe() + g.pick("# blacklist usb_storage", "#install usb_storage /bin/false", "", "\t"))
	case 1:
		g.free(g.pick("options usb_storage quirks=1", "alias blacklist usb_storage", "softdep usb_storage pre: x", "install usb_storage2 /bin/false"))
	case 2:
		g.free(g.maybe() + "blacklist" + g.blank() + g.pick("usb_storage", "usb-storage") + g.maybe())
	default:
		g.free("install" + g.blank() + g.pick("usb_storage", "usb-storage") + g.blank() + g.pick("/bin/false", "/usr/bin/true", "/bin/true") + g.maybe())
	}
}

func modprobeEnd(g *script) {
	install, blacklist := false, false
	for _, l := range g.lines {
		w := strings.Fields(l.text)
		if len(w) < 2 || strings.ReplaceAll(w[1], "-", "_") != "usb_storage" {
			continue
		}
		install, blacklist = install || w[0] == "install", blacklist || w[0] == "blacklist"
	}
	g.holds = install && blacklist
}

func limitScript(g *script) {
	switch g.IntN(4) {
	case 0:
		g.free(g.maybe() + g.pick("# * hard maxlogins 10", "#* hard maxlogins 1", "", "\t"))
	case 1:
		g.free(g.pick("*\tsoft\tmaxlogins 4", "@staff hard maxlogins 4", "* hard core 0", "root - nofile 65535 # * hard maxlogins 4"))
	default:
		v := g.pick("10", "0", "50", "3")
		g.free(g.maybe() + "*" + g.blank() + g.pick("hard", "-") + g.blank() + "maxlogins" + g.blank() + v + g.pick("", " ", " # why", "#why"))
		g.holds = v == "10" || v == "3"
	}
}

func aptScript(g *script) {
	v := g.pick("false", "true")
	switch g.IntN(6) {
	case 0:
		g.free(g.maybe() + g.pick(`// APT::Get::AllowUnauthenticated "false";`, "", `# APT::Get::AllowUnauthenticated "true";`, `/* APT::Get::AllowUnauthenticated "true"; */`))
	case 1:
		g.free(g.pick(`APT::Get::Other "true";`, `Acquire::Retries 3;`, `Dpkg::Pre-Invoke {"echo // no; } {";};`))
	case 2:
		g.free(`APT { Get { ` + g.pick("AllowUnauthenticated", "allowunauthenticated") + g.blank() + `"` + v + `"; }; };`)
		g.holds = v == "false"
	case 3:
		g.free("APT::Get {")
		g.free(g.blank() + `AllowUnauthenticated "` + v + `"; // "true";`)
		g.free("};")
		g.holds = v == "false"
	default:
		g.free(g.maybe() + g.pick("APT::Get::AllowUnauthenticated", "apt::get::allowunauthenticated") + g.blank() + g.pick(v, `"`+v+`"`) + g.maybe() + ";" + g.pick("", " // x"))
		g.holds = v == "false"
	}
}

// write makes a random file of the grammar.
func (c grammarCase) write(seed uint64) (*script, string) {
	g := &script{Rand: rand.New(rand.NewPCG(seed, 11))}
	if c.begin != nil {
		c.begin(g)
	}
	for range 1 + g.IntN(9) {
		c.line(g)
	}
	if c.end != nil {
		c.end(g)
	}
	eol := "\n"
	if c.crlf && g.IntN(4) == 0 {
		eol = "\r\n"
	}
	var b strings.Builder
	for i := range g.lines {
		b.WriteString(g.lines[i].text)
		if i < len(g.lines)-1 || g.IntN(3) > 0 {
			b.WriteString(eol)
			g.lines[i].text += strings.TrimSuffix(eol, "\n")
		}
	}
	return g, b.String()
}

// TestGrammars writes random files as each program reads them. State must say what the program makes of it; after Apply
// the setting holds, lines that say nothing about it are as they were, and a second Apply changes nothing.
func TestGrammars(t *testing.T) {
	for _, c := range grammarCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := plant(t, c.more...)
			held, failed := 0, 0
			for seed := range uint64(300) {
				g, text := c.write(seed)
				if g.holds {
					held++
				}
				if why := c.try(t, dir, g, text); why != "" {
					t.Errorf("seed %d: %s\n%s", seed, why, text)
					if failed++; failed == 3 {
						return
					}
				}
			}
			if held < 30 || held > 270 {
				t.Errorf("%d of 300 files say what is wanted: the test would find little", held)
			}
		})
	}
}

// try returns what is wrong with the way the file is treated.
func (c grammarCase) try(t *testing.T, dir string, g *script, text string) string {
	k := kinds[c.setting.Kind]
	at := filepath.Join(dir, c.file)
	must(t, os.MkdirAll(filepath.Dir(at), 0o755))
	must(t, os.WriteFile(at, []byte(text), 0o644))
	defer c.clear(t, dir)
	s, err := newSubject(dir, Input{})
	must(t, err)
	defer s.close()
	obs, err := k.state(s, c.setting.Params)
	must(t, err)
	want := map[bool]string{true: kiln.Satisfied, false: kiln.NotSatisfied}[g.holds]
	if obs.State != want {
		return fmt.Sprintf("the state is %s (%s %s), the grammar says %s", obs.State, obs.Observed, obs.Reason, want)
	}
	if g.holds {
		return ""
	}
	if err := k.apply(s, c.setting.Params); err != nil {
		return fmt.Sprintf("applying: %v", err)
	}
	after := read(t, at)
	if obs := c.state(t, dir); obs.State != kiln.Satisfied {
		return fmt.Sprintf("applied, the state is %s (%s %s), of\n%s", obs.State, obs.Observed, obs.Reason, after)
	}
	if lost := missingLine(g.lines, after); lost != "" {
		return fmt.Sprintf("the line %q is lost or moved:\n%s", lost, after)
	}
	if slices.Contains(appending, c.setting.Kind) {
		return ""
	}
	before := dump(t, dir)
	if err := k.apply(s, c.setting.Params); err != nil {
		return fmt.Sprintf("applying again: %v", err)
	}
	if diff := differences(before, dump(t, dir)); len(diff) > 0 {
		return "a second Apply changes\n" + show(diff)
	}
	return ""
}

// appending are kinds whose Apply adds a line, and is asked only where State says that it is missing.
var appending = []string{"kernel-argument", "sudo-default", "apt-setting"}

func (c grammarCase) state(t *testing.T, dir string) Observation {
	t.Helper()
	s, err := newSubject(dir, Input{})
	must(t, err)
	defer s.close()
	obs, err := kinds[c.setting.Kind].state(s, c.setting.Params)
	must(t, err)
	return obs
}

// clear takes away what Apply has made beside the file, and puts back what it has changed there.
func (c grammarCase) clear(t *testing.T, dir string) {
	for _, p := range []string{sudoDropIn, grubDropIn, sysctlDropIn, limitsDropIn, aptDropIn, auditFile, "/etc/modprobe.d/kiln-usb_storage.conf", "/etc/systemd/journald.conf.d/99-zz-kiln.conf"} {
		must(t, os.RemoveAll(filepath.Join(dir, p)))
	}
	for _, n := range c.more {
		if strings.HasPrefix(n.path, "etc/") && n.content != "" {
			must(t, os.WriteFile(filepath.Join(dir, n.path), []byte(n.content), 0o644))
		}
	}
}

func read(t *testing.T, p string) string {
	t.Helper()
	data, err := os.ReadFile(p)
	must(t, err)
	return string(data)
}

// missingLine returns the first free line that does not come, in its place, in the text.
func missingLine(lines []piece, text string) string {
	rest := strings.Split(text, "\n")
	for _, l := range lines {
		if !l.free {
			continue
		}
		at := 0
		for at < len(rest) && rest[at] != l.text {
			at++
		}
		if at == len(rest) {
			return l.text
		}
		rest = rest[at+1:]
	}
	return ""
}

// FuzzGrammars gives the readers any text. None may panic or change what it does not understand; where Apply changes the
// file, the setting holds afterwards, and every comment is still there.
func FuzzGrammars(f *testing.F) {
	for i, c := range grammarCases {
		for seed := range uint64(10) {
			_, text := c.write(seed)
			f.Add(byte(i), text)
		}
	}
	for i := range grammarCases {
		for _, text := range []string{"", "\\", "\"", "[", "{", "}", "=", "/*", "a=\"\n", "Match", "Defaults", "x\\\n\\", "\r", "-", "password [", "@include", "#\\\n", " \n =\n"} {
			f.Add(byte(i), text)
		}
	}
	dirs := map[string]string{}
	for _, c := range grammarCases {
		dirs[c.name] = plant(f, c.more...)
	}
	f.Fuzz(func(t *testing.T, which byte, text string) {
		c := grammarCases[int(which)%len(grammarCases)]
		if len(text) > 1<<12 || strings.Contains(text, "nclude") && c.name == "sudoers" { // an include that is not last may set anything again
			return
		}
		c.fuzz(t, dirs[c.name], text)
	})
}

func (c grammarCase) fuzz(t *testing.T, dir, text string) {
	at := filepath.Join(dir, c.file)
	must(t, os.MkdirAll(filepath.Dir(at), 0o755))
	must(t, os.WriteFile(at, []byte(text), 0o644))
	defer c.clear(t, dir)
	s, err := newSubject(dir, Input{})
	must(t, err)
	defer s.close()
	obs, err := kinds[c.setting.Kind].state(s, c.setting.Params)
	must(t, err)
	if obs.State != kiln.NotSatisfied || obs.Blocked != "" {
		return
	}
	err = kinds[c.setting.Kind].apply(s, c.setting.Params)
	after := read(t, at)
	if err != nil {
		if after != text {
			t.Errorf("%s: refused (%v), but changed", c.name, err)
		}
		return
	}
	if obs := c.state(t, dir); obs.State != kiln.Satisfied {
		t.Errorf("%s: applied, the state is %s (%s %s), of\n%s", c.name, obs.State, obs.Observed, obs.Reason, after)
	}
	for line := range strings.Lines(text) {
		if t2 := strings.TrimSpace(line); strings.HasPrefix(t2, "#") && !strings.Contains(after, t2) {
			t.Errorf("%s: the comment %q is lost, of\n%s", c.name, t2, text)
		}
	}
}
