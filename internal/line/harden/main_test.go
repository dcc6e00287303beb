package harden

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/internal/sandbox"
)

// TestMain lets root's tests make their trees in memory: a tmpfs in a mount namespace of this program's own, which is
// gone with it, however it ends. Thousands of small trees take a quarter of the time there.
func TestMain(m *testing.M) {
	sandbox.Init()
	os.Exit(inMemory(m))
}

func inMemory(m *testing.M) int {
	if os.Geteuid() != 0 || sandbox.Enter() != nil {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "kiln-harden-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=1777"); err == nil {
		defer unix.Unmount(dir, unix.MNT_DETACH)
		os.Setenv("TMPDIR", dir)
	}
	return m.Run()
}
