package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// deviceNames are the devices of a box; they are bound from outside, since a
// user namespace cannot make any.
var deviceNames = []string{"null", "zero", "full", "random", "urandom", "tty"}

// takeMounts opens everything outside that is to be seen inside, as detached
// mounts, while outside can still be reached.
func (w *builder) takeMounts() error {
	w.devices = map[string]int{}
	for _, n := range deviceNames {
		fd, err := unix.OpenTree(unix.AT_FDCWD, "/dev/"+n, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("/dev/%s: %w", n, err)
		}
		w.devices[n] = fd
	}
	for _, m := range w.spec.Mounts {
		fd := -1
		if m.Type == "bind" {
			var err error
			if fd, err = takeTree(m.Source); err != nil {
				return err
			}
		}
		w.binds = append(w.binds, fd)
	}
	return nil
}

// takeTree clones the mounts at path into a detached tree.
func takeTree(path string) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, fmt.Errorf("binding %s: %w", path, err)
	}
	return fd, nil
}

// setTree sets mount attributes on a whole detached tree.
func setTree(fd int, set uint64) error {
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: set, Propagation: unix.MS_PRIVATE})
}

// makeRoot mounts the root on a directory that exists everywhere and holds
// none of the layers: nothing has to be made, so nothing can be left behind.
func (w *builder) makeRoot() error {
	place, err := w.place()
	if err != nil {
		return err
	}
	if w.spec.Root != "" {
		err = w.bindRoot(place)
	} else {
		err = w.overlayRoot(place)
	}
	if err != nil {
		return err
	}
	return unix.Chdir(place)
}

func (w *builder) bindRoot(place string) error {
	fd, err := takeTree(w.spec.Root)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := setTree(fd, unix.MOUNT_ATTR_NODEV); err != nil {
		return fmt.Errorf("setting nodev: %w", err)
	}
	return unix.MoveMount(fd, "", unix.AT_FDCWD, place, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

func (w *builder) overlayRoot(place string) error {
	upper, work := w.spec.Upper, w.spec.Work
	if upper == "" {
		if err := unix.Mount("tmpfs", place, "tmpfs", unix.MS_NODEV, "mode=0755"); err != nil {
			return fmt.Errorf("mounting a tmpfs for changes: %w", err)
		}
		upper, work = place+"/upper", place+"/work"
		for _, d := range []string{upper, work} {
			if err := os.Mkdir(d, 0o755); err != nil {
				return err
			}
		}
		if err := sameRoot(w.spec.Layers[0], upper); err != nil {
			return err
		}
	}
	return mountOverlay(place, w.spec.Layers, upper, work, unix.MS_NODEV)
}

// sameRoot gives the upper directory the owner and mode of the top layer's
// root, because it is the upper one that shows.
func sameRoot(layer, upper string) error {
	var st unix.Stat_t
	if err := unix.Stat(layer, &st); err != nil {
		return fmt.Errorf("reading %s: %w", layer, err)
	}
	if err := unix.Chown(upper, int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("setting the owner of the root: %w", err)
	}
	return unix.Chmod(upper, st.Mode&0o7777)
}

// place finds a directory to mount on which is above no path still needed.
func (w *builder) place() (string, error) {
	needed := append([]string{w.spec.Upper, w.spec.Work}, w.spec.Layers...)
	for i, p := range needed {
		if r, err := filepath.EvalSymlinks(p); err == nil {
			needed[i] = r
		}
	}
	for _, d := range []string{"/sys", "/mnt", "/media", "/srv", "/opt", "/boot", "/home"} {
		above := func(p string) bool { return p == d || strings.HasPrefix(p, d+"/") }
		if st, err := os.Lstat(d); err == nil && st.IsDir() && !slices.ContainsFunc(needed, above) {
			return d, nil
		}
	}
	return "", errors.New("found no directory to mount the root on (tried /sys, /mnt and others)")
}

// pivot makes the working directory the root. The old root stays mounted above
// it, out of the thread's sight, until the first process has its /proc: in a
// user namespace the kernel mounts a proc or sysfs only beside one that shows whole.
func (w *builder) pivot() error {
	var err error
	if w.old, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("opening the old root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	return unix.Chdir("/")
}

// furnish mounts what a program expects around a root. From here on the
// thread's root is the box's, so no symbolic link in it leads outside.
func (w *builder) furnish() error {
	if err := w.mountPoint("/proc", true); err != nil {
		return err
	}
	if err := w.dev(); err != nil {
		return err
	}
	if err := w.sys(); err != nil {
		return err
	}
	for i, m := range w.spec.Mounts {
		if err := w.mount(m, w.binds[i]); err != nil {
			return fmt.Errorf("mount on %s: %w", m.Target, err)
		}
	}
	if w.spec.ReadOnly {
		if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return fmt.Errorf("making the root read-only: %w", err)
		}
	}
	if err := unix.Sethostname([]byte(w.spec.Hostname)); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	if w.spec.Network == NetworkNone {
		return loopbackUp()
	}
	return nil
}

const noFiles = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

func (w *builder) dev() error {
	if err := w.mountPoint("/dev", true); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0755,size=64k"); err != nil {
		return fmt.Errorf("/dev: %w", err)
	}
	for _, n := range deviceNames {
		if err := newFile("/dev/" + n); err != nil {
			return err
		}
		if err := unix.MoveMount(w.devices[n], "", unix.AT_FDCWD, "/dev/"+n, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("/dev/%s: %w", n, err)
		}
	}
	for link, to := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx",
	} {
		if err := os.Symlink(to, "/dev/"+link); err != nil {
			return err
		}
	}
	for _, d := range []string{"/dev/pts", "/dev/shm"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"); err != nil {
		// group 5 (tty) may have no place in the user namespace
		if err := unix.Mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
			return fmt.Errorf("/dev/pts: %w", err)
		}
	}
	if err := unix.Mount("tmpfs", "/dev/shm", "tmpfs", noFiles, "mode=1777,size=64m"); err != nil {
		return fmt.Errorf("/dev/shm: %w", err)
	}
	return nil
}

// sys shows the kernel's objects read-only where the kernel lets us mount them;
// a box is complete without.
func (w *builder) sys() error {
	if err := w.mountPoint("/sys", false); err != nil {
		return err
	}
	if _, err := os.Lstat("/sys"); err != nil {
		return nil
	}
	if unix.Mount("sysfs", "/sys", "sysfs", noFiles|unix.MS_RDONLY, "") != nil {
		return nil
	}
	for _, d := range []string{"/sys/firmware", "/sys/devices/virtual/powercap", "/sys/kernel/debug", "/sys/kernel/security"} {
		if err := unix.Mount("tmpfs", d, "tmpfs", noFiles|unix.MS_RDONLY, "size=0"); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("masking %s: %w", d, err)
		}
	}
	return nil
}

// mountPoint sees to it that path is a real directory. A missing one is made if
// make is set; in a tree that stays it is removed at the end.
func (w *builder) mountPoint(path string, create bool) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if !create {
			return nil
		}
		return w.newDir(path)
	}
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return fmt.Errorf("%s of the root is not a directory", path)
	}
	return nil
}

func (w *builder) newDir(path string) error {
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	w.remember(path)
	return nil
}

// remember notes a new mount point for tidy, unless the tree is dropped anyway.
func (w *builder) remember(path string) {
	if w.spec.Root != "" || w.spec.Upper != "" {
		w.made = append(w.made, path)
	}
}

func newFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// mount puts one of the spec's mounts in place.
func (w *builder) mount(m Mount, fd int) error {
	dir := true
	if fd >= 0 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		dir = st.Mode&unix.S_IFMT == unix.S_IFDIR
	}
	if err := w.target(filepath.Clean(m.Target), dir); err != nil {
		return err
	}
	if m.Type == "tmpfs" {
		flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
		if m.ReadOnly {
			flags |= unix.MS_RDONLY
		}
		return unix.Mount("tmpfs", m.Target, "tmpfs", flags, m.Options)
	}
	set := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV)
	switch {
	case m.ReadOnly:
		set |= unix.MOUNT_ATTR_RDONLY
	case m.Options != "exec":
		set |= unix.MOUNT_ATTR_NOEXEC
	}
	if err := setTree(fd, set); err != nil {
		return err
	}
	return unix.MoveMount(fd, "", unix.AT_FDCWD, m.Target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// target makes a missing mount target and the directories above it.
func (w *builder) target(path string, dir bool) error {
	st, err := os.Stat(path)
	if err == nil {
		if st.IsDir() != dir {
			return errors.New("source and target are not of one kind (file, directory)")
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if up := filepath.Dir(path); up != "/" {
		if err := w.target(up, true); err != nil {
			return err
		}
	}
	if dir {
		return w.newDir(path)
	}
	if err := newFile(path); err != nil {
		return err
	}
	w.remember(path)
	return nil
}

// loopbackUp brings up the only device of a new network namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return nil
}
