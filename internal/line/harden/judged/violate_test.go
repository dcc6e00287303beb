package judged

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// yard is a tree in which violations are planted.
type yard struct {
	t   testing.TB
	dir string
}

func (y yard) path(p string) string { return filepath.Join(y.dir, p) }

// put writes a file.
func (y yard) put(p, text string, mode os.FileMode) {
	y.t.Helper()
	must(y.t, os.MkdirAll(filepath.Dir(y.path(p)), 0o755))
	must(y.t, os.WriteFile(y.path(p), []byte(text), 0o644))
	must(y.t, os.Chmod(y.path(p), mode))
}

func (y yard) text(p string) string {
	data, _ := os.ReadFile(y.path(p))
	return string(data)
}

// add appends lines to a file, top puts them in front; a line is never there twice.
func (y yard) add(p, line string) {
	y.t.Helper()
	if text := y.text(p); !strings.Contains(text, line+"\n") {
		y.put(p, text+line+"\n", 0o644)
	}
}

func (y yard) top(p, line string) {
	y.t.Helper()
	if text := y.text(p); !strings.Contains(text, line+"\n") {
		y.put(p, line+"\n"+text, 0o644)
	}
}

// violations plant, for a kind, what its program must find wrong. A kind without an entry is violated by an untouched Debian.
var violations = map[string]func(y yard, p params){
	"sysctl": func(y yard, p params) {
		wrong := "0"
		if p.text("value") == "0" {
			wrong = "1"
		}
		y.add("etc/sysctl.d/99-site.conf", p.text("key")+" = "+wrong)
	},
	"mount": func(y yard, p params) {
		if p.text("create") == "" && len(p.list("options")) > 0 {
			y.add("etc/fstab", "/dev/disk/by-label/"+strings.ReplaceAll(p.text("path"), "/", "_")+"\t"+p.text("path")+"  ext4 defaults,noatime 0 2 # data")
		}
	},
	"sshd": func(y yard, p params) { y.top("etc/ssh/sshd_config", p.text("keyword")+" "+wrongSSH(p)) },
	"unit-masked": func(y yard, p params) {
		for _, name := range p.list("names") {
			if _, err := os.Lstat(y.path("usr/lib/systemd/system/" + name)); err != nil {
				y.put("usr/lib/systemd/system/"+name, "[Unit]\nDescription=made for a test\n[Install]\nWantedBy=multi-user.target\n", 0o644)
			}
		}
	},
	"unit-enabled": func(y yard, p params) {
		for _, name := range p.list("names") {
			if _, err := os.Lstat(y.path("usr/lib/systemd/system/" + name)); err != nil {
				y.put("usr/lib/systemd/system/"+name, "[Unit]\nDescription=made for a test\n[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n", 0o644)
			}
			must(y.t, os.RemoveAll(y.path("etc/systemd/system/"+name)))
			must(y.t, os.Symlink("/dev/null", y.path("etc/systemd/system/"+name)))
		}
	},
	"packages-absent": func(y yard, p params) {
		for _, name := range p.list("packages") {
			if strings.Contains(y.text("var/lib/dpkg/status"), "Package: "+name+"\n") {
				return
			}
		}
		name := p.list("packages")[0]
		y.put("usr/share/made/"+name, "of a package\n", 0o644)
		y.put("var/lib/dpkg/info/"+name+".list", "/.\n/usr\n/usr/share\n/usr/share/made\n/usr/share/made/"+name+"\n", 0o644)
		y.put("var/lib/dpkg/info/"+name+".md5sums", "", 0o644)
		y.put("var/lib/dpkg/status", y.text("var/lib/dpkg/status")+fmt.Sprintf("\nPackage: %s\nStatus: install ok installed\nPriority: optional\nSection: misc\nMaintainer: Nobody <nobody@example.com>\nArchitecture: all\nVersion: 1\nDescription: made for a test\n", name), 0o644)
	},
	"apt-setting": func(y yard, p params) {
		wrong := "true"
		if p.text("value") == "true" {
			wrong = "false"
		}
		y.add("etc/apt/apt.conf.d/50site", p.text("key")+` "`+wrong+`";`)
	},
	"sudo-default": func(y yard, p params) { y.sudo("Defaults " + p.text("name") + "=4711") },
	"kernel-argument": func(y yard, p params) {
		if _, err := os.Stat(y.path("etc/default/grub")); err != nil {
			y.put("etc/default/grub", "# boot\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX=\"net.ifnames=0\"\n", 0o644)
		}
		if p["absent"] == true {
			y.put("etc/default/grub", strings.Replace(y.text("etc/default/grub"), "net.ifnames=0", "net.ifnames=0 "+p.text("argument"), 1), 0o644)
		}
	},
	"config": func(y yard, p params) { violateConfig(y, p) },
	"file-mode": func(y yard, p params) {
		for _, q := range p.list("paths") {
			info, err := os.Lstat(y.path(q))
			switch {
			case strings.ContainsAny(q, "*?["):
			case err != nil:
				y.put(q, "text\n", 0o777)
				must(y.t, os.Lchown(y.path(q), 33, 33))
			case info.IsDir():
				must(y.t, os.Chmod(y.path(q), 0o777))
				must(y.t, os.Lchown(y.path(q), 33, 33))
			case info.Mode().IsRegular():
				must(y.t, os.Lchown(y.path(q), 33, 33))
				must(y.t, os.Chmod(y.path(q), 0o777))
			}
		}
	},
}

// sudo adds a line to a file that sudoers includes.
func (y yard) sudo(line string) {
	y.add("etc/sudoers.d/site", line)
	must(y.t, os.Chmod(y.path("etc/sudoers.d/site"), 0o440))
}

// wrongSSH is a value that the server takes and the objective does not.
func wrongSSH(p params) string {
	wrong, ok := map[string]string{
		"ciphers": "aes128-cbc,aes128-ctr", "macs": "hmac-md5,hmac-sha1,hmac-sha2-256", "kexalgorithms": "diffie-hellman-group14-sha1,diffie-hellman-group1-sha1",
		"banner": "none", "maxstartups": "10:30:100", "maxauthtries": "20", "maxsessions": "100", "logingracetime": "600", "clientaliveinterval": "0",
		"clientalivecountmax": "9", "loglevel": "QUIET", "permitrootlogin": "yes", "x11uselocalhost": "no", "allowgroups": "root",
	}[strings.ToLower(p.text("keyword"))]
	switch {
	case ok:
		return wrong
	case p.text("value") == "yes":
		return "no"
	case p.text("value") == "no":
		return "yes"
	}
	return "no-wrong-value-known"
}

// sections of the files of systemd's programs.
var sections = map[string][2]string{
	"journald": {"systemd/journald.conf", "Journal"}, "coredump": {"systemd/coredump.conf", "Coredump"}, "systemd": {"systemd/system.conf", "Manager"},
	"timesyncd": {"systemd/timesyncd.conf", "Time"}, "journal-upload": {"systemd/journal-upload.conf", "Upload"},
}

// variables are files that their programs read as shell variables.
var variables = map[string]string{"aide": "etc/default/aide", "apport": "etc/default/apport", "ufw": "etc/ufw/ufw.conf", "ufw-policy": "etc/default/ufw"}

func violateConfig(y yard, p params) {
	program, key := p.text("program"), p.text("key")
	if s, ok := sections[program]; ok {
		y.put("etc/"+s[0], "# site\n["+s[1]+"]\n", 0o644) // each key's own file is read later
		wrong := map[string]string{"yes": "no", "no": "yes"}[p.text("value")]
		if wrong == "" {
			wrong = "volatile"
		}
		y.put("etc/"+s[0]+".d/50-"+strings.ToLower(key)+".conf", "["+s[1]+"]\n; site\n"+key+" = "+wrong+"\n", 0o644)
		return
	}
	if file, ok := variables[program]; ok {
		y.add(file, key+`="wrong"`)
		return
	}
	switch program {
	case "auditd":
		y.put("etc/audit/auditd.conf", withLine(y.text("etc/audit/auditd.conf"), key, key+" = "+wrongAudit(key)), 0o640)
	case "ssh":
		y.top("etc/ssh/ssh_config", key+" "+map[string]string{"Ciphers": "aes128-cbc", "MACs": "hmac-md5"}[key])
	case "pwquality":
		if wrong, ok := map[string]string{"minlen": "6", "difok": "0", "dcredit": "0", "ucredit": "0", "lcredit": "0", "ocredit": "0", "minclass": "0", "maxrepeat": "0", "maxsequence": "0", "dictcheck": "0", "enforcing": "0", "retry": "9"}[key]; ok {
			y.add("etc/security/pwquality.conf", key+" = "+wrong)
		}
	case "faillock":
		if wrong, ok := map[string]string{"deny": "50", "fail_interval": "1", "unlock_time": "1", "root_unlock_time": "1"}[key]; ok {
			y.add("etc/security/faillock.conf", key+" = "+wrong)
		}
	}
}

func wrongAudit(key string) string {
	return map[string]string{
		"max_log_file": "1", "max_log_file_action": "ignore", "space_left": "75", "space_left_action": "ignore", "admin_space_left_action": "ignore",
		"disk_full_action": "ignore", "disk_error_action": "ignore", "action_mail_acct": "nobody",
	}[key]
}

// withLine replaces the line that begins with key.
func withLine(text, key, line string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if k, _, _ := strings.Cut(l, " "); k == key {
			lines[i] = line
			return strings.Join(lines, "\n")
		}
	}
	return text + line + "\n"
}
