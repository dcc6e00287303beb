package harden

import (
	"kiln"
)

const (
	passwd = "root:x:0:0:root:/root:/usr/sbin/nologin\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
	group  = "root:x:0:\nshadow:x:42:\nwww-data:x:33:\nnogroup:x:65534:\n"
	shadow = "root:*:19000:0:99999:7:::\nwww-data:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n"
	ann    = "ann:x:1000:1000:Ann:/home/ann:/bin/bash\n"
	annGrp = "ann:x:1000:\n"
)

func users(content string) node  { return f("etc/passwd", "0644", content) }
func groups(content string) node { return f("etc/group", "0644", content) }
func hashes(content string) node { return f("etc/shadow", "0640", content).of("0:42") }

// home is Ann's account with her home.
func home(more ...node) []node {
	return append([]node{users(passwd + ann), groups(group + annGrp), hashes(shadow + "ann:!:19000:0:99999:7:::\n"), d("home/ann", "0700").of("1000:1000")}, more...)
}

const (
	inPasswd = "0644 0:0 " + passwd
	inGroup  = "0644 0:0 " + group
	inShadow = "0640 0:42 " + shadow
	loginTop = "# Configuration of logins\nMAIL_DIR /var/mail\n"
	// oneAuthority is a certificate by its form.
	oneAuthority = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

	key = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"
)

func login(line string) node { return f("etc/login.defs", "0644", loginTop+line) }

func loginCase(objective, before, after string) domain {
	return domain{objective: objective, before: []node{login(before)}, want: map[string]string{"etc/login.defs": "0644 0:0 " + loginTop + after}}
}

func sshd(text string) node { return f("etc/ssh/sshd_config", "0600", text) }

func sshCase(objective, before, after string) domain {
	return domain{objective: objective, before: []node{sshd(before)}, want: map[string]string{"etc/ssh/sshd_config": "0600 0:0 " + after}}
}

// fileCase: one file whose text changes.
func fileCase(objective, p, before, after string) domain {
	return domain{objective: objective, before: []node{f(p, "0644", before)}, want: map[string]string{p: "0644 0:0 " + after}}
}

// goneCase: paths that disappear beside some that stay.
func goneCase(objective string, gone string, before ...node) domain {
	return domain{objective: objective, before: before, want: map[string]string{gone: "gone"}}
}

func recipeCase(objective, reason string, worse, cure func(*kiln.Recipe)) domain {
	return domain{objective: objective, unfixable: reason, recipe: worse, cure: cure}
}

func removes(change func(*kiln.Removal)) func(*kiln.Recipe) {
	return func(r *kiln.Recipe) { change(&r.Hardening.Remove) }
}

func concat(parts ...[]node) []node {
	var out []node
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

var domains = concatCases(accountCases, systemCases, traceCases, removalCases, settingCases, sshCases, imageCases)

func concatCases(parts ...[]domain) []domain {
	var out []domain
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

var accountCases = []domain{
	{
		objective: "account-empty-password", before: []node{hashes("root::19000:0:99999:7:::\n" + shadow[27-1:])},
		want: map[string]string{"etc/shadow": "0640 0:42 root:!:19000:0:99999:7:::\n" + shadow[27-1:]},
	},
	{
		objective: "account-shadowed", before: []node{users("root:x:0:0:root:/root:/usr/sbin/nologin\nold:$6$salt$hash:700:33::/:/bin/sh\nopen::701:33::/:/bin/sh\n"), hashes(shadow)},
		want: map[string]string{
			"etc/passwd": "0644 0:0 root:x:0:0:root:/root:/usr/sbin/nologin\nold:x:700:33::/:/bin/sh\nopen:x:701:33::/:/bin/sh\n",
			"etc/shadow": inShadow + "old:$6$salt$hash:20254:0:99999:7:::\nopen:!:20254:0:99999:7:::\n",
		},
		recipe: func(r *kiln.Recipe) { r.User = "" },
	},
	{
		objective: "account-zero-uid", before: []node{users(passwd + "toor:x:0:33::/root:/bin/sh\n"), hashes(shadow + "toor:*:1::::::\n")},
		want: map[string]string{"etc/passwd": inPasswd, "etc/shadow": inShadow},
	},
	{
		objective: "account-root-group", before: []node{users(passwd + "svc:x:700:0::/:/bin/false\nsync:x:4:0:sync:/bin:/bin/sync\n")},
		want: map[string]string{"etc/passwd": inPasswd + "svc:x:700:65534::/:/bin/false\nsync:x:4:0:sync:/bin:/bin/sync\n"},
	},
	{
		objective: "group-zero-gid", before: []node{groups(group + "wheel:x:0:ann\n")},
		want: map[string]string{"etc/group": inGroup},
	},
	{
		objective: "account-root-locked", before: []node{hashes("root:$6$a$b:19000:0:99999:7:::\n")},
		want: map[string]string{"etc/shadow": "0640 0:42 root:!$6$a$b:19000:0:99999:7:::\n"},
	},
	{
		objective: "account-locked", before: []node{hashes(shadow + "ann:$y$a$b:19000:0:99999:7:::\nlocked:!$y$a$b:1::::::\n"), users(passwd + ann)},
		want: map[string]string{"etc/shadow": inShadow + "ann:!$y$a$b:19000:0:99999:7:::\nlocked:!$y$a$b:1::::::\n"},
	},
	{
		objective: "account-no-shell", before: []node{users("root:x:0:0:root:/root:/bin/bash\nsvc:x:700:33::/:\nok:x:701:33::/:/bin/false\n")},
		want:   map[string]string{"etc/passwd": "0644 0:0 root:x:0:0:root:/root:/usr/sbin/nologin\nsvc:x:700:33::/:/usr/sbin/nologin\nok:x:701:33::/:/bin/false\n"},
		recipe: func(r *kiln.Recipe) { r.User = "" },
	},
	{
		objective: "account-unused-defaults",
		before: []node{
			users(passwd + "games:x:5:60::/usr/games:/usr/sbin/nologin\nlp:x:7:7::/var/spool/lpd:/usr/sbin/nologin\n"), hashes(shadow + "games:*:1::::::\nlp:*:1::::::\n"),
			d("var/spool/lpd", "0755").of("7:0"),
		},
		want: map[string]string{"etc/passwd": inPasswd + "lp:x:7:7::/var/spool/lpd:/usr/sbin/nologin\n", "etc/shadow": inShadow + "lp:*:1::::::\n"},
	},
	{
		objective: "account-unique-name", before: []node{users(passwd + "www-data:x:700:33::/:/bin/sh\n")},
		want: map[string]string{"etc/passwd": inPasswd},
	},
	{
		objective: "account-unique-uid", before: []node{users(passwd + "second:x:33:33::/:/bin/false\n")}, unfixable: "give one another id",
		cureTree: []node{users(passwd)},
	},
	{
		objective: "group-unique-name", before: []node{groups(group + "shadow:x:70:ann\n")},
		want: map[string]string{"etc/group": inGroup},
	},
	{
		objective: "group-unique-gid", before: []node{groups(group + "second:x:42:\n")}, unfixable: "give one another id",
		cureTree: []node{groups(group)},
	},
	{
		objective: "account-group-exists", before: []node{users(passwd + "svc:x:700:700::/:/bin/false\nshadow:x:701:701::/:/bin/false\n")},
		want: map[string]string{
			"etc/group":   inGroup + "svc:x:700:\nshadow-group:x:701:\n",
			"etc/gshadow": "0640 0:42 root:*::\nshadow:*::\nwww-data:*::\nnogroup:*::\nsvc:!::\nshadow-group:!::\n",
		},
	},
	{
		objective: "group-shadow-empty", before: []node{groups("root:x:0:\nshadow:x:42:www-data,ann\nwww-data:x:33:\nnogroup:x:65534:\n")},
		want: map[string]string{"etc/group": inGroup},
	},
	{
		objective: "account-password-max-age", before: []node{hashes(shadow + "ann:$y$a$b:19000:0:99999:7:::\n")},
		want: map[string]string{"etc/shadow": inShadow + "ann:$y$a$b:19000:0:60:7:::\n"},
	},
	{
		objective: "account-inactive-existing", before: []node{hashes(shadow + "ann:$y$a$b:19000:0:99999:7:::\n")},
		want: map[string]string{"etc/shadow": inShadow + "ann:$y$a$b:19000:0:99999:7:35::\n"},
	},
	{
		objective: "account-password-min-age", before: []node{hashes(shadow + "ann:$y$a$b:19000:0:99999:7:::\n")},
		want: map[string]string{"etc/shadow": inShadow + "ann:$y$a$b:19000:1:99999:7:::\n"},
	},
	{
		objective: "account-changed-in-past", before: []node{hashes("root:*:30000:0:99999:7:::\n")},
		want: map[string]string{"etc/shadow": "0640 0:42 root:*:20254:0:99999:7:::\n"},
	},
	{
		objective: "account-homes", before: append(home(), users(passwd+ann+"bob:x:1001:1000::/home/bob:/bin/bash\n"), d("home/ann", "0755").of("0:0")),
		want: map[string]string{"home/ann": "0750 1000:1000", "home/bob": "0750 1001:1000"},
	},
	{
		objective: "account-home-files", before: home(f("home/ann/.profile", "0666", "x").of("0:0"), f("home/ann/notes", "0666", "x")),
		want: map[string]string{"home/ann/.profile": "0640 1000:1000 x"},
	},
}

var systemCases = []domain{
	goneCase("account-backups-absent", "etc/shadow-", f("etc/shadow-", "0600", "root:*:1::::::\n")),
	{objective: "setuid-cleared", before: []node{f("usr/bin/su", "4755", "su")}, want: map[string]string{"usr/bin/su": "0755 0:0 su"}},
	{objective: "setgid-cleared", before: []node{f("usr/bin/wall", "2755", "wall").of("0:33")}, want: map[string]string{"usr/bin/wall": "0755 0:33 wall"}},
	{
		objective: "setid-unpackaged", before: append(pack("sudo", "", f("usr/bin/sudo", "4755", "sudo")), f("usr/local/bin/own", "6755", "own")),
		want: map[string]string{"usr/local/bin/own": "0755 0:0 own"},
	},
	{objective: "capabilities-cleared", before: []node{{path: "usr/bin/ping", mode: "0755", content: "ping", capable: true}}, want: map[string]string{"usr/bin/ping": "0755 0:0 ping"}},
	{objective: "setgid-directories", before: []node{d("var/mail", "2775").of("0:33"), d("var/ok", "2755")}, want: map[string]string{"var/mail": "0755 0:33"}},
	{objective: "world-writable-files", before: []node{f("srv/data", "0666", "x"), l("srv/link", "data")}, want: map[string]string{"srv/data": "0664 0:0 x"}},
	{objective: "world-writable-directories", before: []node{d("srv/drop", "0777")}, want: map[string]string{"srv/drop": "1777 0:0"}},
	{
		objective: "owned-files", before: []node{f("srv/a", "0644", "a").of("4711:0"), f("srv/b", "6755", "b").of("0:4711")},
		want: map[string]string{"srv/a": "0644 0:0 a", "srv/b": "0755 0:0 b"},
	},
	{
		objective: "programs-protected", before: []node{f("usr/bin/app", "0777", "program").of("33:1000"), l("usr/bin/alias", "app")},
		want: map[string]string{"usr/bin/app": "0755 0:0 program"},
	},
	{objective: "libraries-protected", before: []node{f("usr/lib/x.so", "0666", "x").of("33:33")}, want: map[string]string{"usr/lib/x.so": "0644 0:33 x"}},
	{objective: "configuration-protected", before: []node{f("etc/app/app.conf", "0646", "x")}, want: map[string]string{"etc/app/app.conf": "0644 0:0 x"}},
	{objective: "root-home-private", before: []node{d("root", "0755")}, want: map[string]string{"root": "0700 0:0"}},
	{objective: "log-files-private", before: []node{f("var/log/app/app.log", "0644", "")}, want: map[string]string{"var/log/app/app.log": "0640 0:0 "}},
	{objective: "log-directory-protected", before: []node{d("var/log", "0777").of("33:33")}, want: map[string]string{"var/log": "0775 0:0"}},
}

var traceCases = []domain{
	goneCase("ssh-host-keys-absent", "etc/ssh/ssh_host_rsa_key", f("etc/ssh/ssh_host_rsa_key", "0600", key), f("etc/ssh/moduli", "0644", "")),
	goneCase("histories-absent", "root/.bash_history", f("root/.bash_history", "0600", "login ann secret\n"), f("root/.bashrc", "0644", "")),
	goneCase("credential-files-absent", "home/ann/.netrc", home(f("home/ann/.netrc", "0600", "machine x password y\n"), f("home/ann/.profile", "0644", ""))...),
	goneCase("home-private-keys-absent", "home/ann/.ssh/id_ed25519", home(f("home/ann/.ssh/id_ed25519", "0600", key), f("home/ann/.ssh/id_ed25519.pub", "0644", "ssh-ed25519 AAAA\n"))...),
	goneCase("private-keys-absent", "etc/ssl/private/made.key", append(pack("data", "", f("etc/ssl/sample.key", "0644", key)), f("etc/ssl/private/made.key", "0600", key))...),
	goneCase("trust-files-absent", "etc/hosts.equiv", f("etc/hosts.equiv", "0644", "+\n"), f("etc/hosts", "0644", "")),
	{objective: "machine-id-empty", before: []node{f("etc/machine-id", "0444", "abcd\n")}, want: map[string]string{"etc/machine-id": "0444 0:0 "}},
	goneCase("seeds-absent", "var/lib/systemd/random-seed", f("var/lib/systemd/random-seed", "0600", "xyz")),
	{
		objective: "logs-empty", before: []node{f("var/log/dpkg.log", "0644", "x"), f("var/log/app/app.log", "0640", "x").of("33:0"), l("var/log/out", "/dev/stdout")},
		want: map[string]string{"var/log/dpkg.log": "gone", "var/log/app/app.log": "0640 33:0 "},
	},
	goneCase("temporary-files-absent", "tmp/build.sh", f("tmp/build.sh", "0755", "x")),
	goneCase("root-home-empty", "root/notes", f("root/notes", "0644", "x"), f("root/.profile", "0644", "")),
	goneCase("package-caches-empty", "var/cache/apt/pkgcache.bin", f("var/cache/apt/pkgcache.bin", "0644", "x")),
	goneCase("leftovers-absent", "etc/app.conf.dpkg-old", f("etc/app.conf.dpkg-old", "0644", "x"), f("etc/app.conf", "0644", "x")),
	goneCase("schedules-absent", "var/spool/cron/crontabs/root", f("var/spool/cron/crontabs/root", "0600", "* * * * * x\n")),
}

var removalCases = []domain{
	{
		objective: "unused-packages-absent", recipe: removes(func(r *kiln.Removal) { r.Unused = true }),
		before: concat(
			pack("libapp", "Multi-Arch: same\n", f("usr/lib/libapp.so", "0644", "lib")),
			pack("debconf", "", f("usr/bin/debconf", "0755", "tool")),
			pack("less", "", f("usr/bin/less", "0755", "less")),
			pack("coreutils", "Essential: yes\n", f("usr/bin/ls", "0755", "ls"), f("etc/ls.conf", "0644", "x")),
			[]node{
				l("etc/alternatives/pager", "/usr/bin/less"), l("usr/bin/pager", "/etc/alternatives/pager"), l("usr/bin/dangling", "nowhere"),
				{path: "var/lib/dpkg/status", mode: "0644", content: "Package: app\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nDepends: libapp (>= 1) | libold, debconf\nDescription: the software\n\n"},
			}),
		want: map[string]string{
			"usr/bin/debconf": "gone", "usr/bin/less": "gone", "usr/bin/ls": "gone", "etc/ls.conf": "gone", "etc/alternatives/pager": "gone", "usr/bin/pager": "gone",
			"var/lib/dpkg/info/debconf.list":   "gone",
			"var/lib/dpkg/info/less.list":      "gone",
			"var/lib/dpkg/info/coreutils.list": "gone", "var/lib/dpkg/info/debconf.md5sums": "gone", "var/lib/dpkg/info/less.md5sums": "gone", "var/lib/dpkg/info/coreutils.md5sums": "gone",
			"var/lib/dpkg/status": "0644 0:0 Package: app\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nDepends: libapp (>= 1) | libold, debconf\nDescription: the software\n\n" +
				"Package: libapp\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nMulti-Arch: same\n\n",
		},
	},
	{
		objective: "requested-removals", recipe: removes(func(r *kiln.Removal) { r.Packages = []string{"less"} }),
		before: pack("less", "", f("usr/bin/less", "0755", "less")),
		want:   map[string]string{"usr/bin/less": "gone", "var/lib/dpkg/info/less.list": "gone", "var/lib/dpkg/info/less.md5sums": "gone", "var/lib/dpkg/status": statusOfApp},
	},
	{
		objective: "package-manager-absent", recipe: removes(func(r *kiln.Removal) { r.PackageManager = true }),
		before: concat(pack("apt", "", f("usr/bin/apt", "0755", "apt"), f("etc/apt/apt.conf.d/01x", "0644", "x")),
			[]node{f("var/lib/apt/lists/x", "0644", "x"), f("var/lib/dpkg/info/app.postinst", "0755", "x"), f("var/lib/dpkg/available", "0644", "")}),
		want: map[string]string{
			"usr/bin/apt": "gone", "etc/apt": "gone", "etc/apt/apt.conf.d": "gone", "etc/apt/apt.conf.d/01x": "gone", "var/lib/apt": "gone", "var/lib/apt/lists": "gone", "var/lib/apt/lists/x": "gone",
			"var/lib/dpkg/info/app.postinst": "gone", "var/lib/dpkg/available": "gone", "var/lib/dpkg/info/apt.list": "gone", "var/lib/dpkg/info/apt.md5sums": "gone", "var/lib/dpkg/status": statusOfApp,
		},
	},
	{
		objective: "shells-absent", recipe: removes(func(r *kiln.Removal) { r.Shell = true }),
		before: append(pack("dash", "Essential: yes\n", f("usr/bin/dash", "0755", "dash")), l("usr/bin/sh", "dash"), f("etc/profile", "0644", "x")),
		want: map[string]string{
			"usr/bin/dash": "gone", "usr/bin/sh": "gone", "etc/profile": "gone", "var/lib/dpkg/info/dash.list": "gone", "var/lib/dpkg/info/dash.md5sums": "gone", "var/lib/dpkg/status": statusOfApp,
		},
	},
	{
		objective: "documentation-absent", recipe: removes(func(r *kiln.Removal) { r.Docs = true }),
		before: []node{
			f("usr/share/doc/app/copyright", "0644", "licence"), f("usr/share/doc/app/NEWS", "0644", "x"), l("usr/share/doc/libapp", "app"),
			f("usr/share/man/man1/app.1", "0644", "x"), f("usr/share/locale/de/LC_MESSAGES/app.mo", "0644", "x"), l("etc/manual", "/usr/share/man/man1/app.1"),
		},
		want: map[string]string{
			"usr/share/doc/app/NEWS": "gone", "usr/share/man/man1/app.1": "gone", "usr/share/man/man1": "gone", "usr/share/locale/de": "gone",
			"usr/share/locale/de/LC_MESSAGES": "gone", "usr/share/locale/de/LC_MESSAGES/app.mo": "gone", "etc/manual": "gone",
		},
	},
}

var settingCases = []domain{
	loginCase("login-max-days", "PASS_MAX_DAYS\t99999\n#PASS_MAX_DAYS 1\nUMASK 022\n", "PASS_MAX_DAYS 60\n#PASS_MAX_DAYS 1\nUMASK 022\n"),
	loginCase("login-min-days", "PASS_MIN_DAYS 0\nPASS_MIN_DAYS 0\n", "PASS_MIN_DAYS 1\n"),
	loginCase("login-warn-days", "# end", "# end\nPASS_WARN_AGE 7\n"),
	loginCase("login-hash", "ENCRYPT_METHOD MD5\n", "ENCRYPT_METHOD SHA512\n"),
	loginCase("login-umask", "UMASK 022\n", "UMASK 077\n"),
	fileCase("login-inactive", "etc/default/useradd", "# defaults\nSHELL=/bin/sh\nINACTIVE=-1\n", "# defaults\nSHELL=/bin/sh\nINACTIVE=35\n"),
	{
		objective: "shell-umask", before: []node{f("etc/profile", "0644", "if true; then\n  umask 022\nfi\n"), d("etc/profile.d", "0755")},
		want: map[string]string{"etc/profile": "0644 0:0 if true; then\n  umask 027\nfi\n"},
	},
	fileCase("root-umask", "root/.bashrc", "# ~/.bashrc\numask 022\nalias x=y\n", "# ~/.bashrc\nalias x=y\n"),
	{
		objective: "core-dumps-off", before: []node{d("etc/security", "0755")},
		want: map[string]string{"etc/security/limits.d": "0755 0:0", "etc/security/limits.d/zz-kiln.conf": "0644 0:0 # Hardening; made by kiln.\n* hard core 0\n"},
	},
	fileCase("shells-list", "etc/shells", "# shells\n/bin/sh\n/usr/sbin/nologin\n", "# shells\n/bin/sh\n"),
	fileCase("pam-no-empty-password", "etc/pam.d/common-auth", "# nullok\nauth [success=1 default=ignore] pam_unix.so nullok try_first_pass\n", "# nullok\nauth [success=1 default=ignore] pam_unix.so try_first_pass\n"),
	fileCase("pam-hash", "etc/pam.d/common-password", "password [success=1] pam_unix.so obscure md5\n", "password [success=1] pam_unix.so obscure yescrypt\n"),
	{
		objective: "su-restricted", before: []node{f("etc/pam.d/su", "0644", "auth sufficient pam_rootok.so\n# more\n@include common-auth\n")},
		want: map[string]string{
			"etc/group":    "0644 0:0 root:x:0:\nshadow:x:42:\nwww-data:x:33:\nnogroup:x:65534:\nsugroup:x:999:\n",
			"etc/gshadow":  "0640 0:42 root:*::\nshadow:*::\nwww-data:*::\nnogroup:*::\nsugroup:!::\n",
			"etc/pam.d/su": "0644 0:0 auth sufficient pam_rootok.so\n# more\nauth required pam_wheel.so use_uid group=sugroup\n@include common-auth\n",
		},
	},
	{
		objective: "su-restricted", from: "wheel", before: []node{f("etc/pam.d/su", "0644", "auth sufficient pam_rootok.so\n# more\n@include common-auth\n")},
		want: map[string]string{"etc/pam.d/su": "0644 0:0 auth sufficient pam_rootok.so\n# more\nauth required pam_wheel.so use_uid group=nogroup\n@include common-auth\n"},
	},
	fileCase("sudo-asks", "etc/sudoers.d/deploy", "# NOPASSWD: here\ndeploy ALL=(root) NOPASSWD: ALL\n", "# NOPASSWD: here\ndeploy ALL=(root) ALL\n"),
	fileCase("sudo-pty", "etc/sudoers", "Defaults env_reset\n", "Defaults env_reset\nDefaults use_pty\n"),
	fileCase("sudo-log", "etc/sudoers", "Defaults env_reset\n", "Defaults env_reset\nDefaults logfile=/var/log/sudo.log\n"),
	fileCase("banner-motd", "etc/motd", "Welcome to Debian\n", "Authorised use only. Activity may be recorded.\n"),
	fileCase("banner-issue", "etc/issue", "Debian GNU/Linux \\n \\l\n", "Authorised use only. Activity may be recorded.\n"),
	{
		objective: "banner-issue-net", from: "text", before: []node{f("etc/issue.net", "0644", "Debian\n")},
		want: map[string]string{"etc/issue.net": "0644 0:0 Authorised use only. Activity may be recorded.\n"},
	},
	fileCase("apt-authenticated", "etc/apt/sources.list.d/x.list", "deb [trusted=yes] https://archive.example.com x main\n", "deb [] https://archive.example.com x main\n"),
	{
		objective: "apt-no-weak-dependencies", before: []node{d("etc/apt/apt.conf.d", "0755")},
		want: map[string]string{"etc/apt/apt.conf.d/90-kiln-recommends": "0644 0:0 APT::Install-Recommends \"false\";\nAPT::Install-Suggests \"false\";\n"},
	},
	{
		objective: "names-resolve", before: []node{l("etc/nsswitch.conf", "/nowhere")}, unfixable: "add /etc/nsswitch.conf",
		cureTree: []node{f("etc/nsswitch.conf", "0644", "passwd: files\n")},
	},
	{
		objective: "certificates-present", unfixable: "add the package ca-certificates",
		recipe:   func(r *kiln.Recipe) { r.Packages = append(r.Packages, kiln.PackageRequest{Name: "openssl"}) },
		cureTree: []node{f("etc/ssl/certs/ca-certificates.crt", "0644", string(make([]byte, 2000)))},
	},
	{
		objective: "certificates-known", unfixable: "no package and no file of the recipe brings it",
		before: append(pack("ca-certificates", "", f("usr/share/ca-certificates/mozilla/One.crt", "0644", oneAuthority)),
			f("etc/ssl/certs/ca-certificates.crt", "0644", oneAuthority+"-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n")),
		cureTree: []node{f("etc/ssl/certs/ca-certificates.crt", "0644", oneAuthority)},
	},
	{
		objective: "time-zones-present", unfixable: "add the package tzdata", recipe: func(r *kiln.Recipe) { r.Env = map[string]string{"TZ": "UTC"} },
		cureTree: []node{f("usr/share/zoneinfo/UTC", "0644", "TZif2")},
	},
}

var sshCases = []domain{
	sshCase("ssh-root-login", "# server\nPort 22\nPermitRootLogin yes\nMatch User ann\n  PermitRootLogin yes\n", "# server\nPort 22\nPermitRootLogin no\nMatch User ann\n  PermitRootLogin yes\n"),
	sshCase("ssh-forwarding", "#DisableForwarding yes\nMatch all\n  X11Forwarding yes\n", "DisableForwarding yes\n#DisableForwarding yes\nMatch all\n  X11Forwarding yes\n"),
	{
		objective: "ssh-empty-passwords", // the included file comes first, so its line wins
		before:    []node{sshd("Include /etc/ssh/sshd_config.d/*.conf\nPermitEmptyPasswords no\n"), f("etc/ssh/sshd_config.d/a.conf", "0600", "permitemptypasswords=yes\n")},
		want:      map[string]string{"etc/ssh/sshd_config.d/a.conf": "0600 0:0 PermitEmptyPasswords no\n"},
	},
	sshCase("ssh-user-environment", "PermitUserEnvironment yes\n", "PermitUserEnvironment no\n"),
	sshCase("ssh-rhosts", "IgnoreRhosts no\n", "IgnoreRhosts yes\n"),
	sshCase("ssh-gssapi", "GSSAPIAuthentication yes\n", "GSSAPIAuthentication no\n"),
	sshCase("ssh-auth-tries", "# none\n", "MaxAuthTries 4\n# none\n"),
	sshCase("ssh-sessions", "MaxSessions 100\n", "MaxSessions 10\n"),
	sshCase("ssh-grace", "", "LoginGraceTime 60\n"),
	sshCase("ssh-idle", "Port 22\n", "ClientAliveCountMax 1\nClientAliveInterval 300\nPort 22\n"),
	sshCase("ssh-log-level", "LogLevel QUIET\n", "LogLevel INFO\n"),
	sshCase("ssh-pam", "UsePAM no\n", "UsePAM yes\n"),
	sshCase("ssh-ciphers", "Ciphers aes128-ctr,3des-cbc\n", "Ciphers chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr\n"),
	{objective: "ssh-config-mode", before: []node{f("etc/ssh/sshd_config", "0644", "")}, want: map[string]string{"etc/ssh/sshd_config": "0600 0:0 "}},
}

var imageCases = []domain{
	recipeCase("image-user", "set user in the recipe", func(r *kiln.Recipe) { r.User = "" }, func(r *kiln.Recipe) { r.User = "www-data" }),
	recipeCase("image-user-known", "no entry in /etc/passwd", func(r *kiln.Recipe) { r.User = "4711:4711" }, func(r *kiln.Recipe) { r.User = "33" }),
	recipeCase("image-healthcheck", "HEALTHCHECK", nil, func(r *kiln.Recipe) { r.Healthcheck = &kiln.Healthcheck{Command: []string{"app", "check"}} }),
	{objective: "image-ports", recipe: func(r *kiln.Recipe) { r.Ports = []string{"80"} }, variant: "asked"},
	recipeCase("image-no-secrets", "secret", func(r *kiln.Recipe) { r.Env = map[string]string{"DB_PASSWORD": "x"} }, func(r *kiln.Recipe) { r.Env = map[string]string{"DB_PASSWORD_FILE": "/run/secrets/db"} }),
	recipeCase("image-path-absolute", "not absolute", func(r *kiln.Recipe) { r.Env = map[string]string{"PATH": "/usr/bin:.:"} }, func(r *kiln.Recipe) { r.Env = nil }),
	{objective: "image-path-protected", before: []node{d("usr/local/bin", "0777").of("33:33")}, want: map[string]string{"usr/local/bin": "0755 0:33"}},
	recipeCase("image-exec-form", "shell is started", func(r *kiln.Recipe) { r.Entrypoint = []string{"/bin/sh", "-c", "app"} }, func(r *kiln.Recipe) { r.Entrypoint = []string{"app"} }),
	recipeCase("image-program-exists", "not a program", func(r *kiln.Recipe) { r.Entrypoint = []string{"/usr/bin/none"} }, func(r *kiln.Recipe) { r.Entrypoint = []string{"app"} }),
	recipeCase("image-workdir", "not absolute", func(r *kiln.Recipe) { r.WorkDir = "srv" }, func(r *kiln.Recipe) { r.WorkDir = "/srv" }),
	recipeCase("image-volumes", "volume is declared over", func(r *kiln.Recipe) { r.Volumes = []string{"/etc/"} }, func(r *kiln.Recipe) { r.Volumes = []string{"/var/lib/app"} }),
	recipeCase("image-labels", "image.version", func(r *kiln.Recipe) { r.Version = "" }, func(r *kiln.Recipe) { r.Version = "2" }),
	{
		objective: "inputs-by-digest", unfixable: "not locked", lock: func(l *kiln.Lock) { l.Image = &kiln.LockedImage{Reference: "registry.example.com/base:latest"} },
	},
	{
		objective: "inputs-signed", unfixable: "no good signature", lock: func(l *kiln.Lock) { l.Archives = []kiln.LockedArchive{{ID: "example/stable"}} },
	},
}
