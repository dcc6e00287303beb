package scan

import (
	"io/fs"
	"path"
	"strings"
)

// account sorts every file into owned, generated, accounted for by the recipe,
// or suspect; and lists what the database has and the tree lacks.
func (s *scanner) account() {
	s.suspects = map[string]bool{}
	for _, name := range s.files.paths {
		e := s.files.entries[name]
		if e.mode.IsDir() || s.db.owner[name] != "" || s.accounted(name) {
			continue
		}
		switch {
		case s.generated(name, e):
			s.bill.Generated = append(s.bill.Generated, name)
		case e.mode.IsRegular() && e.size > 0:
			s.suspects[name] = true
		default:
			s.bill.Unowned = append(s.bill.Unowned, name)
		}
	}
	for name := range s.db.leaves {
		if _, ok := s.files.entries[name]; ok {
			continue
		}
		switch {
		case s.removed(name):
			s.bill.Removed++
		case !s.db.excluded(name) && !temporary(name):
			s.bill.Missing = append(s.bill.Missing, name)
		}
	}
}

// temporary reports whether a packaged path lives on what is a temporary file system at run time.
func temporary(name string) bool {
	return strings.HasPrefix(name, "run/") || strings.HasPrefix(name, "var/run/") || strings.HasPrefix(name, "tmp/")
}

// A rule names files that package scripts are known to make. A pattern ending in
// "/**" covers everything below; otherwise it is a [path.Match] pattern.
type rule struct {
	pattern string
	why     string
}

// generatedRules never excuse an executable or a setuid file: those have their own conditions in generated.
var generatedRules = []rule{
	{"etc/passwd", "accounts"},
	{"etc/passwd-", "accounts"},
	{"etc/group", "accounts"},
	{"etc/group-", "accounts"},
	{"etc/shadow", "accounts"},
	{"etc/shadow-", "accounts"},
	{"etc/gshadow", "accounts"},
	{"etc/gshadow-", "accounts"},
	{"etc/subuid", "subordinate ids of accounts"},
	{"etc/subuid-", "subordinate ids of accounts"},
	{"etc/subgid", "subordinate ids of accounts"},
	{"etc/subgid-", "subordinate ids of accounts"},
	{"etc/.pwd.lock", "lock file of the account tools"},
	{"etc/security/opasswd", "old passwords, made empty by PAM"},
	{"etc/shells", "list of shells, kept by update-shells"},
	{"var/lib/shells.state", "list of shells, kept by update-shells"},
	{"etc/ld.so.cache", "cache of the dynamic linker"},
	{"etc/localtime", "time zone"},
	{"etc/timezone", "time zone"},
	{"etc/hostname", "host name, replaced at run time"},
	{"etc/hosts", "host names, replaced at run time"},
	{"etc/resolv.conf", "name servers, replaced at run time"},
	{"etc/fstab", "made empty by base installation"},
	{"etc/environment", "made empty by PAM"},
	{"etc/machine-id", "machine identity, empty in an image"},
	{"var/lib/dbus/machine-id", "machine identity, empty in an image"},
	{"etc/motd", "message of the day"},
	{"etc/nsswitch.conf", "name services, copied from a template of the C library"},
	{"etc/ca-certificates.conf", "list of authorities, kept by ca-certificates"},
	{"etc/ssl/certs/ca-certificates.crt", "bundle of authorities, made by update-ca-certificates"},
	{"etc/ssl/certs/java/cacerts", "bundle of authorities, made by ca-certificates-java"},
	{"etc/apt/sources.list", "archives the image was made from"},
	{"etc/apt/sources.list.d/*", "archives the image was made from"},
	{"etc/pam.d/common-*", "PAM configuration, made by pam-auth-update"},
	{"var/lib/pam/*", "PAM configuration, kept by pam-auth-update"},
	{"etc/python3/debian_config", "Python configuration"},
	{"var/lib/python/*_installed", "marker of Python's packages"},
	{"etc/networks", "names of networks, made by netbase"},
	{"etc/fonts/conf.d/*", "font configuration, links to packaged files"},
	{"etc/dpkg/origins/default", "link to the distribution's name"},
	{"var/lib/dpkg/**", "package database"},
	{"var/lib/apt/**", "state of the package manager"},
	{"var/lib/systemd/deb-systemd-helper-*/**", "services enabled by packages"},
	{"var/lib/systemd/catalog/database", "message catalogue, made by systemd"},
	{"var/lib/ucf/**", "configuration file history, kept by ucf"},
	{"var/lib/ca-certificates-java/*", "markers of ca-certificates-java"},
	{"var/lib/xml-core/*", "XML catalogue"},
	{"etc/xml/*", "XML catalogue"},
	{"var/cache/**", "caches"},
	{"var/log/**", "logs"},
	{"usr/lib/locale/locale-archive", "locales, made by localedef"},
	{"usr/lib/locale/C.utf8/*", "locales, made by localedef"},
	{"usr/share/info/dir", "directory of info pages"},
	{"usr/share/mime/**", "MIME database, made by update-mime-database"},
	{"usr/share/icons/*/icon-theme.cache", "icon cache"},
	{"usr/share/glib-2.0/schemas/gschemas.compiled", "settings schemas, compiled"},
	{"usr/share/applications/mimeinfo.cache", "desktop database"},
	{"usr/lib/*/gdk-pixbuf-2.0/2.10.0/loaders.cache", "list of image loaders"},
	{"usr/lib/*/gio/modules/giomodule.cache", "list of GIO modules"},
	{"usr/lib/*/gtk-*/*/immodules.cache", "list of input methods"},
	{"lib/udev/hwdb.bin", "hardware database, compiled"},
	{"usr/lib/udev/hwdb.bin", "hardware database, compiled"},
	{"usr/lib/modules/*/modules.*", "module dependencies, made by depmod"},
	{"boot/initrd.img-*", "initial file system, made from packaged files"},
	{".dockerenv", "marker of a container engine"},
}

func (r rule) match(name string) bool {
	dir, ok := strings.CutSuffix(r.pattern, "/**")
	if !ok {
		ok, err := path.Match(r.pattern, name)
		return err == nil && ok
	}
	// A pattern in the directory part covers as many components as it has.
	parts := strings.Split(name, "/")
	n := strings.Count(dir, "/") + 1
	if len(parts) <= n {
		return false
	}
	ok, err := path.Match(dir, strings.Join(parts[:n], "/"))
	return err == nil && ok
}

// generated reports whether an unowned file is one that package scripts are known to make.
func (s *scanner) generated(name string, e entry) bool {
	switch {
	case strings.HasPrefix(name, "dev/"):
		return !e.mode.IsRegular()
	case e.mode.Type() == fs.ModeSymlink && s.packagedLink(name):
		return true
	case strings.HasSuffix(name, ".pyc"):
		return s.compiled(name)
	case e.mode&0o111 != 0 && e.mode.IsRegular() || e.mode&(fs.ModeSetuid|fs.ModeSetgid) != 0:
		return s.maintainerScript(name)
	}
	for _, r := range generatedRules {
		if r.match(name) {
			return true
		}
	}
	return false
}

// linkDirs are where scripts of packages put links to packaged files: alternatives, run levels, enabled
// services and sites, certificates by hash.
var linkDirs = []string{
	"etc/alternatives/*", "etc/rc?.d/*", "etc/systemd/system/*", "etc/systemd/system/*/*", "etc/systemd/user/*/*",
	"etc/ssl/certs/*", "etc/*/*-enabled/*", "etc/*/*/*-enabled/*",
}

// baseLinks are links that the base system's scripts make to directories of the file system hierarchy.
var baseLinks = map[string]string{
	"var/spool/mail": "../mail", "usr/local/man": "share/man", "var/lock": "/run/lock", "var/run": "/run",
	"etc/mtab": "../proc/self/mounts",
}

// packagedLink reports whether a link brings nothing of its own: it ends at a packaged file or
// directory and either stands where package scripts make such links, or goes through the alternatives.
func (s *scanner) packagedLink(name string) bool {
	if to, ok := baseLinks[name]; ok && to == s.files.entries[name].link {
		return true
	}
	end := s.files.follow(name)
	e, ok := s.files.entries[end]
	if !ok || s.db.owner[end] == "" && !(e.mode.IsRegular() && s.accountedCertificate(name, end)) {
		return false
	}
	if strings.HasPrefix(s.files.entries[name].link, "/etc/alternatives/") {
		return true
	}
	for _, pattern := range linkDirs {
		if ok, err := path.Match(pattern, name); err == nil && ok {
			return true
		}
	}
	return false
}

// accountedCertificate lets hash links lead to a certificate that the recipe installed.
func (s *scanner) accountedCertificate(name, end string) bool {
	return strings.HasPrefix(name, "etc/ssl/certs/") && s.accounted(end)
}

// compiled reports whether a Python byte-code file lies beside its packaged source.
func (s *scanner) compiled(name string) bool {
	dir, base := path.Split(name)
	module, _, _ := strings.Cut(base, ".")
	dir = path.Clean(dir)
	if path.Base(dir) == "__pycache__" {
		dir = path.Dir(dir)
	}
	source := s.files.place(path.Join(dir, module+".py"))
	return s.db.owner[source] != "" || s.db.owner[s.files.follow(source)] != ""
}

// maintainerScript reports whether name is a script of an installed package in dpkg's database.
func (s *scanner) maintainerScript(name string) bool {
	rest, ok := strings.CutPrefix(name, infoDir)
	if !ok {
		return false
	}
	dot := strings.LastIndexByte(rest, '.')
	if dot < 0 {
		return false
	}
	switch rest[dot+1:] {
	case "preinst", "postinst", "prerm", "postrm", "config":
	default:
		return false
	}
	pkg, _, _ := strings.Cut(rest[:dot], ":")
	for _, p := range s.db.packages {
		if p.Name == pkg {
			return true
		}
	}
	return false
}
