// Package workspace gives root file systems a place while a process works on
// them: a tmpfs that only this process sees, or a folder where memory is short.
package workspace

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Space is where trees lie while a process works on them: a tmpfs of the
// process's own mount namespace (see sandbox.Enter), or a folder where memory
// is short. Nothing else sees the tmpfs, and it goes with the process.
type Space struct {
	dir     string
	mounted bool
}

// Open makes one below dir with room for need bytes, and removes what processes that were killed left there.
func Open(dir string, need int64) (*Space, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making work folder: %w", err)
	}
	sweep(dir)
	own := filepath.Join(dir, strconv.Itoa(os.Getpid()))
	if err := os.RemoveAll(own); err != nil {
		return nil, fmt.Errorf("making work folder: %w", err)
	}
	if err := os.MkdirAll(own, 0o700); err != nil {
		return nil, fmt.Errorf("making work folder: %w", err)
	}
	w := &Space{dir: own}
	if free := memAvailable(); free > 2*need+(512<<20) {
		if err := unix.Mount("kiln", own, "tmpfs", 0, fmt.Sprintf("mode=0700,size=%d", free*3/4)); err == nil {
			w.mounted = true
		}
	}
	return w, nil
}

// sweep removes the work folders of processes that are gone. A tmpfs of theirs went with them.
func sweep(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if unix.Kill(pid, 0) == unix.ESRCH {
			_ = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
}

// memAvailable returns what the kernel says can be used without swapping, in bytes; 0 where unknown.
func memAvailable() int64 {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemAvailable:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// Fresh returns an empty folder of that name.
func (w *Space) Fresh(name string) (string, error) {
	dir := filepath.Join(w.dir, name)
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("clearing %s: %w", name, err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("making %s: %w", name, err)
	}
	return dir, nil
}

// Close drops everything.
func (w *Space) Close() error {
	if w.mounted {
		if err := unix.Unmount(w.dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmounting work folder: %w", err)
		}
	}
	return os.RemoveAll(w.dir)
}
