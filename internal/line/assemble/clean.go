package assemble

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"kiln"
	"kiln/internal/deb"
)

// volatile are files that differ from one run to the next, or must not be in
// an image at all. Each is a path with a pattern as its last part (path.Match);
// directories that match are removed whole.
var volatile = []string{
	// Backups that the account tools leave, with the password of before.
	"etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-", "etc/.pwd.lock",
	// Secrets that would be the same in every instance: made at first start, see firstStart.
	"etc/ssh/ssh_host_*", "var/lib/systemd/random-seed", "var/lib/urandom/random-seed", "var/lib/systemd/credential.secret",
	"etc/ssl/private/ssl-cert-snakeoil.key", "etc/ssl/certs/ssl-cert-snakeoil.pem",
	// Identities; etc/machine-id is emptied instead.
	"var/lib/dbus/machine-id",
	// Caches that hold times or inode numbers, and what apt fetched.
	"var/cache/ldconfig/aux-cache", "var/cache/fontconfig/*", "var/cache/man/*", "var/cache/debconf/*-old",
	"var/lib/dpkg/*-old", "var/lib/apt/lists/*", "var/cache/apt/*.bin", "var/cache/apt/archives/*.deb",
	// Logs of the installation itself; others are emptied, since services expect them with their modes.
	"var/log/dpkg.log", "var/log/alternatives.log", "var/log/bootstrap.log", "var/log/fontconfig.log", "var/log/apt/*",
	"tmp/*", "var/tmp/*",
}

// spared are directories that volatile would match and that packages ship.
var spared = map[string]bool{"var/lib/apt/lists/partial": true, "var/lib/apt/lists/auxfiles": true}

// generated are names of caches that programs make again when they need them.
// Where no package ships them they are removed.
var generated = map[string]bool{"__pycache__": true, "icon-theme.cache": true}

// cleaner takes what is volatile out of a tree.
type cleaner struct {
	at     *place
	dir    string
	epoch  int64
	keep   map[string]bool // what the recipe put there stays
	report kiln.Report
}

func (c *cleaner) all() error {
	for _, pattern := range volatile {
		if err := c.remove(pattern); err != nil {
			return fmt.Errorf("cleaning /%s: %w", pattern, err)
		}
	}
	if err := c.empty("etc/machine-id"); err != nil {
		return err
	}
	if err := c.emptyFiles("var/log", func(name string) error { return c.empty(name) }); err != nil {
		return err
	}
	if err := c.emptyFiles("run", c.at.remove); err != nil {
		return err
	}
	if err := c.danglingCertificate(); err != nil {
		return err
	}
	if err := clampJavaStore(c.at, c.epoch); err != nil {
		return err
	}
	return c.caches()
}

func (c *cleaner) remove(pattern string) error {
	dir, base := path.Split(pattern)
	dir = strings.TrimSuffix(dir, "/")
	names, err := c.at.names(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		name := dir + "/" + n
		if ok, err := path.Match(base, n); err != nil || !ok || spared[name] || c.keep[name] {
			continue
		}
		if err := c.at.removeAll(name); err != nil {
			return err
		}
	}
	return nil
}

// empty makes a regular file empty and keeps its mode and owner.
func (c *cleaner) empty(name string) error {
	if c.keep[name] {
		return nil
	}
	st, err := c.at.lstat(name)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size == 0 {
		return nil
	}
	return c.at.rewrite(name, nil, 0o644)
}

// emptyFiles calls fn for everything below dir that is no directory and no link.
func (c *cleaner) emptyFiles(dir string, fn func(name string) error) error {
	names, err := c.at.names(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		name := dir + "/" + n
		st, err := c.at.lstat(name)
		if err != nil {
			return fmt.Errorf("looking at /%s: %w", name, err)
		}
		switch {
		case c.keep[name]:
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			err = c.emptyFiles(name, fn)
		case st.Mode&unix.S_IFMT != unix.S_IFLNK:
			err = fn(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// danglingCertificate removes the hash links to the certificate that was taken away.
func (c *cleaner) danglingCertificate() error {
	names, err := c.at.names("etc/ssl/certs")
	if err != nil {
		return err
	}
	for _, n := range names {
		if target, err := c.at.readlink("etc/ssl/certs/" + n); err == nil && target == "ssl-cert-snakeoil.pem" {
			if err := c.at.remove("etc/ssl/certs/" + n); err != nil {
				return err
			}
		}
	}
	return nil
}

// caches removes generated files below usr that no package owns.
func (c *cleaner) caches() error {
	var found []string
	err := filepath.WalkDir(filepath.Join(c.dir, "usr"), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if !generated[d.Name()] {
			return nil
		}
		rel, err := filepath.Rel(c.dir, p)
		if err != nil {
			return err
		}
		found = append(found, rel)
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("looking for caches: %w", err)
	}
	if len(found) == 0 {
		return nil
	}
	owners, err := deb.Owners(c.dir)
	if err != nil {
		return err
	}
	for _, name := range found {
		if _, owned := owners[name]; owned || c.keep[name] {
			continue
		}
		if err := c.at.removeAll(name); err != nil {
			return fmt.Errorf("removing cache /%s: %w", name, err)
		}
	}
	return nil
}

const (
	sshUnit    = "usr/lib/systemd/system/ssh-host-keys.service"
	sshService = "usr/lib/systemd/system/ssh.service"
	sshOwnUnit = "usr/lib/systemd/system/sshd-keygen.service" // Debian 13 has it
)

const sshUnitText = `[Unit]
Description=Make the ssh host keys of this instance
Before=ssh.service
ConditionPathIsReadWrite=/etc/ssh

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=ssh.service
`

// firstStart arranges that an instance makes the ssh host keys that its image
// must not hold: by the distribution's unit if it has one, else by one of ours.
// Where there is no init system the user is told.
func firstStart(at *place, report kiln.Report) error {
	if _, err := at.lstat("usr/sbin/sshd"); err != nil {
		return nil
	}
	report.Note(kiln.StationAssemble, "ssh host keys are left out of the image: each instance makes its own, with systemd at first start, otherwise run ssh-keygen -A in your entrypoint")
	if _, err := at.lstat(sshService); err != nil {
		return nil
	}
	for _, there := range []string{sshOwnUnit, sshUnit} {
		if _, err := at.lstat(there); err == nil {
			return nil
		}
	}
	if err := at.write(sshUnit, []byte(sshUnitText), 0o644); err != nil {
		return fmt.Errorf("adding the unit for ssh host keys: %w", err)
	}
	const wants = "etc/systemd/system/ssh.service.wants/ssh-host-keys.service"
	if err := at.remove(wants); err != nil {
		return err
	}
	return at.symlink("/"+sshUnit, wants)
}

// keptPaths are the paths of the recipe's own files, and all above them.
func keptPaths(at *place, files []kiln.FileSpec) map[string]bool {
	keep := map[string]bool{}
	for _, f := range files {
		name, err := at.resolveParent(f.Path)
		if err != nil {
			continue
		}
		for ; name != "." && name != "/"; name = path.Dir(name) {
			keep[name] = true
		}
	}
	return keep
}

// names lists a directory, sorted; a missing one, or one behind a link, has none.
func (p *place) names(name string) ([]string, error) {
	dir, err := p.dir(name, false)
	if notExist(err) || errors.Is(err, errThroughLink) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var names []string
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			slices.Sort(names)
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// removeAll removes a path with all that is below it; links are not followed.
func (p *place) removeAll(name string) error {
	st, err := p.lstat(name)
	if notExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return p.remove(name)
	}
	names, err := p.names(name)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := p.removeAll(name + "/" + n); err != nil {
			return err
		}
	}
	if fd, ok := p.dirs[name]; ok {
		unix.Close(fd)
		delete(p.dirs, name)
	}
	return p.in(name, func(dir int, base string) error { return unix.Unlinkat(dir, base, unix.AT_REMOVEDIR) })
}
