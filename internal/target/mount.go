package target

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"kiln"
	"kiln/internal/mountinfo"
	"kiln/internal/workspace"
)

// disk mounts the file systems of a disk image, read-only, as its own fstab
// puts them together. The kernel reads them, so whoever audits a disk trusts
// the kernel with what the disk's maker wrote.
func (t *Target) disk(ctx context.Context, file string, o Options) error {
	if os.Geteuid() != 0 {
		return needsRoot(errors.New("mounting a disk image takes root"))
	}
	work, err := workspace.Open(o.Work, 1<<30)
	if err != nil {
		return err
	}
	t.onClose(work.Close)
	if file, err = raw(ctx, file, work); err != nil {
		return err
	}
	disk, err := os.Open(file)
	if err != nil {
		return kiln.Misuse(err)
	}
	defer disk.Close()
	size, err := checkSize(disk)
	if err != nil {
		return kiln.Misuse(err)
	}
	list, err := partitions(disk, size)
	if err != nil {
		return kiln.Misuse(err)
	}
	return t.mountAll(disk, list, work)
}

func needsRoot(err error) error {
	return kiln.Misuse(kiln.WithHint(err, "run it as root, or mount the disk read-only and audit the directory"))
}

// raw returns a raw image: the file itself, or what qemu-img makes of a qcow2
// image. One that refers to other files is refused: they would be read with our rights.
func raw(ctx context.Context, file string, work *workspace.Space) (string, error) {
	head, err := firstBytes(file)
	if err != nil {
		return "", kiln.Misuse(err)
	}
	if !strings.HasPrefix(head, "QFI\xfb") {
		return file, nil
	}
	if len(head) < 104 {
		return "", kiln.Misuse(errors.New("its qcow2 header is cut"))
	}
	be := binary.BigEndian
	if be.Uint64([]byte(head[8:16])) != 0 {
		return "", kiln.Misuse(errors.New("it is a qcow2 image with a backing file: make a whole one with `qemu-img convert` first"))
	}
	if be.Uint32([]byte(head[4:8])) >= 3 && be.Uint64([]byte(head[72:80]))&4 != 0 {
		return "", kiln.Misuse(errors.New("it is a qcow2 image whose data lie in another file: make a whole one with `qemu-img convert` first"))
	}
	dir, err := work.Fresh("raw")
	if err != nil {
		return "", err
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "disk")
	message, err := exec.CommandContext(ctx, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", abs, out).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return "", kiln.Misuse(kiln.WithHint(errors.New("reading a qcow2 image takes the program qemu-img"), "install it (package qemu-utils), or convert the image to raw elsewhere"))
	}
	if err != nil {
		return "", fmt.Errorf("converting the qcow2 image: %w: %s", err, lastLine(string(message)))
	}
	return out, nil
}

// mountOptions keep the kernel from replaying journals, which it would have to write.
var mountOptions = map[string]string{"ext4": "noload", "xfs": "norecovery", "btrfs": "rescue=nologreplay"}

// mountAll mounts every file system by itself, finds the root among them, and puts the others where its fstab wants them.
func (t *Target) mountAll(disk *os.File, list []partition, work *workspace.Space) error {
	places := map[int]string{}
	for _, p := range list {
		if p.kind == "" || p.kind == "swap" {
			if p.kind == "" {
				t.Notes = append(t.Notes, p.String()+": no file system that is known (encrypted and logical volumes are not opened)")
			}
			continue
		}
		dir, err := work.Fresh("part" + strconv.Itoa(p.number))
		if err == nil {
			err = t.mountOne(disk, p, dir)
		}
		if err != nil {
			return fmt.Errorf("mounting %s (%s): %w", p, p.kind, err)
		}
		places[p.number] = dir
		if t.Dir == "" {
			t.Dir = rootIn(dir)
		}
	}
	if t.Dir == "" {
		return kiln.Misuse(errors.New("none of its file systems is a root: no etc/passwd and no os-release; encrypted and logical volumes are not opened: mount them and audit the directory"))
	}
	return t.assemble(list, places)
}

// rootIn returns where a root file system begins in a mounted one: at the top, or in the subvolume @; empty where it is none.
func rootIn(dir string) string {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return ""
	}
	defer root.Close()
	for _, top := range []string{".", "@"} {
		for _, mark := range []string{"etc/passwd", "etc/os-release", "usr/lib/os-release"} {
			if _, err := root.Lstat(filepath.Join(top, mark)); err == nil {
				return filepath.Join(dir, top)
			}
		}
	}
	return ""
}

func (t *Target) mountOne(disk *os.File, p partition, dir string) error {
	loop, err := attach(disk, p)
	if err != nil {
		return err
	}
	defer loop.Close() // it goes with the last mount
	const flags = unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC
	if err := unix.Mount(loop.Name(), dir, p.kind, flags, mountOptions[p.kind]); err != nil {
		if errors.Is(err, unix.EPERM) {
			return needsRoot(err)
		}
		return err
	}
	t.onClose(func() error { return unix.Unmount(dir, unix.MNT_DETACH) })
	return nil
}

// attach makes a read-only loop device of a part of the disk. It goes away when nobody uses it any more.
func attach(disk *os.File, p partition) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, needsRoot(fmt.Errorf("making a loop device: %w", err))
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(disk.Fd()), Info: unix.LoopInfo64{
		Offset: uint64(p.offset), Sizelimit: uint64(p.size), Flags: unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR,
	}}
	for range 16 { // another program may take the free one first
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("making a loop device: %w", err)
		}
		loop, err := os.OpenFile("/dev/loop"+strconv.Itoa(n), os.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("making a loop device: %w", err)
		}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("making a loop device: %w", err)
		}
	}
	return nil, errors.New("making a loop device: all that are free are taken again and again")
}

// maxFstab bounds what is read of a disk's fstab.
const maxFstab = 1 << 20

// assemble shows the other file systems where the root's fstab mounts them.
func (t *Target) assemble(list []partition, places map[int]string) error {
	root, err := os.OpenRoot(t.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	used := map[string]bool{}
	if f, err := root.OpenFile("etc/fstab", os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
		defer f.Close()
		lines := bufio.NewScanner(io.LimitReader(f, maxFstab))
		for lines.Scan() {
			t.fstabLine(strings.Fields(lines.Text()), list, places, used)
		}
		if err := lines.Err(); err != nil {
			t.Notes = append(t.Notes, "reading its fstab: "+err.Error())
		}
	}
	for _, p := range list {
		if dir := places[p.number]; dir != "" && !used[dir] && !strings.HasPrefix(t.Dir+"/", dir+"/") {
			t.Notes = append(t.Notes, fmt.Sprintf("%s (%s): its fstab mounts it nowhere by UUID, PARTUUID or LABEL", p, p.kind))
		}
	}
	return nil
}

func (t *Target) fstabLine(f []string, list []partition, places map[int]string, used map[string]bool) {
	if len(f) < 3 || strings.HasPrefix(f[0], "#") || !strings.HasPrefix(f[1], "/") || f[1] == "/" {
		return
	}
	for _, p := range list {
		dir := places[p.number]
		if dir == "" || used[dir] || !p.is(f[0]) || strings.HasPrefix(t.Dir+"/", dir+"/") {
			continue
		}
		used[dir] = true
		if err := t.bind(dir, mountinfo.Unescape(f[1])); err != nil {
			t.Notes = append(t.Notes, fmt.Sprintf("%s: mounting it at %s: %v", p, f[1], err))
		}
	}
}

// bind shows a mounted directory at a place in the root, which is never left through a link.
func (t *Target) bind(from, place string) error {
	top, err := unix.Open(t.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	fd, err := unix.Openat2(top, strings.TrimLeft(place, "/"), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	at := "/proc/self/fd/" + strconv.Itoa(fd)
	if err := unix.Mount(from, at, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	where, err := os.Readlink(at)
	if err != nil {
		return err
	}
	t.onClose(func() error { return unix.Unmount(where, unix.MNT_DETACH) })
	return nil
}
