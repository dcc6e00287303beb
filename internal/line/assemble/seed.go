package assemble

import (
	"errors"
	"fmt"
	"io"
	"os"

	"kiln"
)

// policyRC keeps maintainer scripts from starting services: invoke-rc.d obeys
// it, 101 means "action forbidden".
const policyRC = "#!/bin/sh\nexit 101\n"

const policyRCPath = "usr/sbin/policy-rc.d"

// seedMerged makes the links of a merged /usr that exist before any package:
// Debian 12 and later, and Ubuntu 22.04 and later, require them.
func seedMerged(at *place) error {
	for _, name := range []string{"bin", "lib", "sbin"} {
		if _, err := at.dir("usr/"+name, true); err != nil {
			return err
		}
		if err := at.symlink("usr/"+name, name); err != nil {
			return fmt.Errorf("making link %s: %w", name, err)
		}
	}
	return nil
}

// linkMerged makes the links for the other merged directories that packages
// have used; the dynamic loader is found through lib64.
func linkMerged(at *place) error {
	for _, name := range []string{"lib32", "lib64", "libo32", "libx32"} {
		if _, err := at.lstat("usr/" + name); err != nil {
			continue
		}
		if _, err := at.lstat(name); notExist(err) {
			if err := at.symlink("usr/"+name, name); err != nil {
				return fmt.Errorf("making link %s: %w", name, err)
			}
		}
	}
	return nil
}

// seedAccounts copies base-passwd's masters to /etc, so that owners have names
// from the start. Its own script would do the same later.
func seedAccounts(at *place) error {
	for _, name := range []string{"passwd", "group"} {
		data, err := at.read("usr/share/base-passwd/"+name+".master", maxAccounts)
		if notExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		if err := at.write("etc/"+name, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// seedAwk makes awk exist before the package that provides it is configured:
// scripts of other packages use it. The alternative is then registered by mawk itself.
func seedAwk(at *place) error {
	for _, program := range []string{"mawk", "gawk", "original-awk", "busybox"} {
		if _, err := at.lstat("usr/bin/" + program); err != nil {
			continue
		}
		if _, err := at.lstat("usr/bin/awk"); !notExist(err) {
			return nil
		}
		if err := at.symlink("/usr/bin/"+program, "etc/alternatives/awk"); err != nil {
			return fmt.Errorf("making the awk alternative: %w", err)
		}
		return at.symlink("/etc/alternatives/awk", "usr/bin/awk")
	}
	return nil
}

// seedDatabase makes dpkg's empty tables.
func seedDatabase(at *place) error {
	for _, dir := range []string{"info", "updates", "parts", "triggers", "alternatives"} {
		if _, err := at.dir(dpkgDir+"/"+dir, true); err != nil {
			return err
		}
	}
	if err := at.write(infoDir+"/format", []byte("1\n"), 0o644); err != nil {
		return err
	}
	return at.write(dpkgDir+"/diversions", nil, 0o644)
}

// mountPoints are directories that a system needs and that stay empty.
var mountPoints = []string{"dev", "proc", "run", "sys", "tmp"}

// checkBase refuses a base in which nothing could run.
func checkBase(at *place) error {
	for _, file := range []string{"usr/bin/dpkg", "usr/bin/sh"} {
		if _, err := at.lstat(file); err != nil {
			return kiln.Misuse(fmt.Errorf("the base has no /%s: the essential packages of the archives are not a complete minimal system; name the distribution's own suite in base.apt", file))
		}
	}
	for _, dir := range mountPoints {
		if _, err := at.dir(dir, true); err != nil {
			return fmt.Errorf("making %s: %w", dir, err)
		}
	}
	return nil
}

// allowNoServices puts policy-rc.d into place; the returned function takes it
// away. A policy-rc.d that is there already stays, and is used.
func allowNoServices(at *place) (restore func() error, err error) {
	if _, err := at.lstat(policyRCPath); !notExist(err) {
		return func() error { return nil }, nil
	}
	if err := at.write(policyRCPath, []byte(policyRC), 0o755); err != nil {
		return nil, fmt.Errorf("forbidding services to start: %w", err)
	}
	return func() error { return at.remove(policyRCPath) }, nil
}

// emptyDir reports whether dir holds nothing.
func emptyDir(dir string) (bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer f.Close()
	names, err := f.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return len(names) == 0, err
}

const (
	clusterTemplate = "usr/share/postgresql-common/createcluster.conf"
	clusterConfig   = "etc/postgresql-common/createcluster.conf"
	noCluster       = "\n# A cluster made while an image is built would be the same in every instance.\ncreate_main_cluster = false\n"
)

// seedNoCluster keeps PostgreSQL's packages from making a database cluster:
// its identity and log would be shared by all instances and differ between
// builds. It reports whether there was something to prevent.
func seedNoCluster(at *place) (bool, error) {
	text, err := at.read(clusterTemplate, maxTable)
	if err != nil {
		return false, nil // not installed, or another version that works differently
	}
	if _, err := at.lstat(clusterConfig); !notExist(err) {
		return false, nil
	}
	if err := at.write(clusterConfig, append(text, noCluster...), 0o644); err != nil {
		return false, fmt.Errorf("keeping PostgreSQL from making a cluster: %w", err)
	}
	return true, nil
}
