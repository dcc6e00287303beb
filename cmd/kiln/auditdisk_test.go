package main

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kiln/internal/testneeds"
)

// filesystem makes an ext4 image of files.
func filesystem(t *testing.T, files map[string]string) []byte {
	t.Helper()
	dir, image := t.TempDir(), filepath.Join(t.TempDir(), "fs")
	for name, text := range files {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", "-O", "^has_journal", "-d", dir, image, "4M").CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// partitioned is a disk with an old partition table and these partitions, each at a whole MiB.
func partitioned(parts ...[]byte) []byte {
	const mib = 1 << 20
	d := make([]byte, mib)
	copy(d[440:], "\x78\x56\x34\x12")
	copy(d[510:], "\x55\xaa")
	for i, p := range parts {
		e := d[446+16*i:]
		e[4] = 0x83
		binary.LittleEndian.PutUint32(e[8:], uint32(len(d)/512))
		binary.LittleEndian.PutUint32(e[12:], uint32(len(p)/512))
		d = append(d, p...)
	}
	return d
}

func TestAuditOfADiskImage(t *testing.T) {
	if os.Geteuid() != 0 {
		testneeds.Missing(t, "mounting needs root")
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		testneeds.Missing(t, "mkfs.ext4 is not installed")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		testneeds.Missing(t, "there are no loop devices")
	}
	root := filesystem(t, map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/os-release": "ID=debian\nVERSION_ID=12\n",
		"etc/fstab": "PARTUUID=12345678-02 / ext4 defaults 0 1\nPARTUUID=12345678-01 /srv/../../data ext4 defaults 0 2\n",
		"data/keep": "", "srv/keep": "",
	})
	data := filesystem(t, map[string]string{"open": "x"})
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(image, partitioned(data, root), 0o644); err != nil {
		t.Fatal(err)
	}
	mounted := func() string {
		text, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before := mounted()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "audit", image, "--profile", "all", "--verbose", "--at-rest")
	cmd.Env = append(os.Environ(), "KILN_STATE="+t.TempDir(), "TESTSCRIPT_COMMAND=kiln")
	cmd.Args[0] = "kiln"
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"disk.img, debian-12, judged by all", "account-zero-uid"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the audit does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "mounts it nowhere") {
		t.Errorf("the data partition was not put at /data:\n%s", out)
	}
	if after := mounted(); after != before {
		t.Errorf("mounts before and after differ:\n%s\n%s", before, after)
	}
}
