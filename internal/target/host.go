package target

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"kiln/internal/mountinfo"
)

// kernelTypes are file systems that hold no files of the system's own.
var kernelTypes = []string{
	"proc", "sysfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "pstore", "bpf", "configfs",
	"fusectl", "hugetlbfs", "efivarfs", "binfmt_misc", "rpc_pipefs", "nsfs", "selinuxfs", "autofs",
}

// networkTypes are file systems of another machine.
var networkTypes = []string{
	"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "afs", "lustre", "ocfs2", "gfs2", "ncpfs", "coda", "davfs",
	"fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.davfs2", "beegfs", "orangefs",
}

// storePlaces hold the images and containers of engines: trees of their own.
var storePlaces = []string{
	"var/lib/docker", "var/lib/containers/storage", "var/lib/containerd", "var/lib/lxc", "var/lib/machines", "var/lib/kubelet", "snap", "var/lib/snapd/snap",
}

// host is the running system: its own local file systems.
func (t *Target) host() error {
	t.Dir = "/"
	list, err := mounts()
	if err != nil {
		return err
	}
	for _, m := range list {
		if why := foreign(m.Type); why != "" && m.Point != "/" {
			t.Skip[strings.TrimPrefix(m.Point, "/")] = why
		}
	}
	for _, p := range storePlaces {
		t.Skip[p] = "images and containers: audit each by itself"
	}
	for _, p := range []string{"proc", "sys", "dev"} {
		t.Skip[p] = "the kernel's"
	}
	return nil
}

func foreign(kind string) string {
	switch {
	case slices.Contains(kernelTypes, kind):
		return "the kernel's"
	case slices.Contains(networkTypes, kind):
		return "on the network (" + kind + ")"
	case kind == "overlay":
		return "a container's"
	}
	return ""
}

// mounts are what this process has mounted.
func mounts() ([]mountinfo.Mount, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("reading the mounts: %w", err)
	}
	return mountinfo.Parse(string(data)), nil
}

// MountsBelow lists the mount points strictly below dir, an absolute path without links.
func MountsBelow(dir string) ([]string, error) {
	list, err := mounts()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range list {
		if strings.HasPrefix(m.Point, strings.TrimSuffix(dir, "/")+"/") {
			out = append(out, m.Point)
		}
	}
	return out, nil
}
