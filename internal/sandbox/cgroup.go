package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// cgroup is the control groups of one box: one in version 2, or one for memory
// and one for pids in version 1.
type cgroup struct {
	dirs         []string
	procs        []int // cgroup.procs of each, open for writing
	memory, pids bool  // what is really limited
}

var cgroupSerial atomic.Int64

// makeCgroup makes the groups that the spec's limits need, as far as the
// machine lets us; limits() makes up for the rest.
func (w *builder) makeCgroup() error {
	if w.spec.Memory <= 0 && w.spec.PIDs <= 0 {
		return nil
	}
	w.cgroup = &cgroup{}
	name := fmt.Sprintf("kiln-%d-%d", os.Getpid(), cgroupSerial.Add(1))
	if w.spec.Memory > 0 {
		w.cgroup.memory = w.cgroup.limit("memory", name, map[string]string{
			"memory.max": strconv.FormatInt(w.spec.Memory, 10), "memory.swap.max": "0",
		}, map[string]string{"memory.limit_in_bytes": strconv.FormatInt(w.spec.Memory, 10)})
	}
	if w.spec.PIDs > 0 {
		v := map[string]string{"pids.max": strconv.Itoa(w.spec.PIDs)}
		w.cgroup.pids = w.cgroup.limit("pids", name, v, v)
	}
	return nil
}

// limit makes a group with a controller and sets values; the first value must
// be accepted for the limit to count.
func (c *cgroup) limit(controller, name string, v2, v1 map[string]string) bool {
	if parent, ok := controllerDir(controller); ok {
		return c.make(filepath.Join(parent, name), v1)
	}
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.controllers"); err != nil {
		return false
	}
	for _, parent := range []string{ownUnified(root), root} {
		if strings.Contains(readSmall(parent+"/cgroup.subtree_control"), controller) && c.make(filepath.Join(parent, name), v2) {
			return true
		}
	}
	return false
}

// make makes one group and opens it for the box's first process.
func (c *cgroup) make(dir string, values map[string]string) bool {
	err := os.Mkdir(dir, 0o755)
	if err != nil && !os.IsExist(err) {
		return false
	}
	if err == nil {
		c.dirs = append(c.dirs, dir)
	}
	for name, v := range values {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(v), 0o644); err != nil && name != "memory.swap.max" {
			return false
		}
	}
	fd, err := unix.Open(filepath.Join(dir, "cgroup.procs"), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	c.procs = append(c.procs, fd)
	return true
}

// join has the process move itself into the groups.
func (c *cgroup) join(p *plan) {
	if c == nil {
		return
	}
	for _, fd := range c.procs {
		p.add("joining the cgroup", unix.SYS_WRITE, uintptr(fd), p.str("0"), 1)
	}
}

// again opens the groups for another process of the box.
func (c *cgroup) again() (*cgroup, error) {
	if c == nil {
		return nil, nil
	}
	n := &cgroup{memory: c.memory, pids: c.pids}
	for _, d := range c.dirs {
		fd, err := unix.Open(filepath.Join(d, "cgroup.procs"), unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			n.close()
			return nil, err
		}
		n.procs = append(n.procs, fd)
	}
	return n, nil
}

func (c *cgroup) close() {
	if c == nil {
		return
	}
	for _, fd := range c.procs {
		_ = unix.Close(fd)
	}
	c.procs = nil
}

// remove deletes the groups; the last process may take a moment to leave.
func (c *cgroup) remove() {
	c.close()
	for _, d := range c.dirs {
		for range 50 {
			if err := os.Remove(d); err == nil || os.IsNotExist(err) {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
}

// controllerDir is our group in a version 1 hierarchy.
func controllerDir(controller string) (string, bool) {
	for line := range strings.Lines(readSmall("/proc/self/cgroup")) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && f[1] == controller {
			dir := filepath.Join("/sys/fs/cgroup", controller, f[2])
			if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
				return dir, true
			}
		}
	}
	return "", false
}

// ownUnified is our group in the version 2 hierarchy.
func ownUnified(root string) string {
	for line := range strings.Lines(readSmall("/proc/self/cgroup")) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join(root, p)
		}
	}
	return root
}

// readSmall reads a file of the kernel, empty if it cannot.
func readSmall(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}
