package target

import (
	"fmt"
	"os"
	"slices"
	"strings"
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
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("reading the mounts: %w", err)
	}
	for _, m := range mounts(string(data)) {
		if why := foreign(m.kind); why != "" && m.point != "/" {
			t.Skip[strings.TrimPrefix(m.point, "/")] = why
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

type mount struct{ point, kind string }

// mounts reads /proc/self/mountinfo: the fifth field is the place, the one after " - " the type.
func mounts(text string) []mount {
	var out []mount
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(g) < 1 {
			continue
		}
		out = append(out, mount{unescape(f[4]), g[0]})
	}
	return out
}

// unescape undoes the kernel's \ooo for blanks and backslashes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// MountsBelow lists the mount points strictly below dir, an absolute path without links.
func MountsBelow(dir string) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("reading the mounts: %w", err)
	}
	var out []string
	for _, m := range mounts(string(data)) {
		if strings.HasPrefix(m.point, strings.TrimSuffix(dir, "/")+"/") {
			out = append(out, m.point)
		}
	}
	return out, nil
}
