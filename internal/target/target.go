// Package target opens what an audit looks at as a tree of files that is only
// read: an image from wherever images are, a directory, the file systems of a
// disk image, or the running system.
package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"kiln"
	"kiln/internal/image"
)

// Kinds of targets.
const (
	Image     = "image"
	Directory = "directory"
	Disk      = "disk"
	Host      = "host"
)

// Target is what is audited, opened. Close gives back what holds it.
type Target struct {
	Name string // as the user wrote it
	Kind string
	Dir  string // the root of its files
	// Skip are places below Dir, relative to it, that are not the target's own, each with the reason.
	Skip map[string]string
	// Notes say what of it could not be had.
	Notes []string

	// Of an image: its configuration with its history, the digest of its manifest, and its layers, lowest first.
	Config *kiln.ImageConfig
	Digest kiln.Digest
	Layers []image.LayerSource

	release []func() error
}

// Close takes away what Open made: mounts, loop devices, unpacked files.
func (t *Target) Close() error {
	var errs []error
	for _, f := range slices.Backward(t.release) {
		errs = append(errs, f())
	}
	t.release = nil
	return errors.Join(errs...)
}

func (t *Target) onClose(f func() error) { t.release = append(t.release, f) }

// Options say where things are.
type Options struct {
	// Work is a folder for what is unpacked or mounted; a process that was killed leaves nothing in it that the next does not remove.
	Work string
	// Cache returns the layout that keeps what comes from registries. It is asked once, and only where it is needed.
	Cache func() (*image.Layout, error)
	// Store finds an image of the local store by NAME, NAME@CHANNEL, build or digest. It is asked only where it is needed.
	Store func(ctx context.Context, ref string) (*image.Layout, kiln.Digest, error)
	// Platform is os/arch[/variant] of an image with several.
	Platform string
	// PlainHTTP allows registries without TLS; loopback ones may always.
	PlainHTTP bool
}

// forms are the prefixes that say what a name means, with what each stands for.
var forms = []struct{ prefix, kind string }{
	{"registry:", Image},
	{"kiln:", Image},
	{"oci:", Image},
	{"archive:", Image},
	{"podman:", Image},
	{"docker:", Image},
	{"dir:", Directory},
	{"disk:", Disk},
}

// Parse tells what a name means: a form ("registry:", ...) and what follows.
// Without a form, host is the running system, what exists as a file or a
// directory is that, a reference with a registry's host is an image there, and
// everything else a name in the local store. Only names, and the first bytes of a file, are looked at.
func Parse(name string) (form, rest string, err error) {
	if name == Host {
		return "host:", "", nil
	}
	for _, f := range forms {
		if rest, ok := strings.CutPrefix(name, f.prefix); ok {
			if rest == "" {
				return "", "", kiln.Misuse(fmt.Errorf("target %q names nothing after %s", name, f.prefix))
			}
			return f.prefix, rest, nil
		}
	}
	info, err := os.Stat(name)
	if err == nil {
		form, err := formOfFile(name, info)
		return form, name, err
	}
	dir, _ := image.SplitLayout(name)
	if isLayout(dir) {
		return "oci:", name, nil
	}
	if strings.HasPrefix(name, "/") || strings.HasPrefix(name, ".") || name == "" {
		return "", "", kiln.Misuse(kiln.WithHint(fmt.Errorf("target %q: no such file or directory", name), "`kiln audit --help` says what a target may be"))
	}
	if image.CheckReference(name) == nil {
		return "registry:", name, nil
	}
	return "kiln:", name, nil
}

func isLayout(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "oci-layout"))
	return err == nil
}

// rootMarks are what a root file system has at least one of, unless it is a single static program's.
var rootMarks = []string{"etc", "usr", "bin", "sbin", "lib"}

// IsRoot tells whether a directory looks like a root file system, rather than like any folder.
func IsRoot(dir string) bool {
	return slices.ContainsFunc(rootMarks, func(mark string) bool {
		_, err := os.Lstat(filepath.Join(dir, mark))
		return err == nil
	})
}

// formOfFile looks at a file's first bytes, or for the mark of a layout in a directory.
func formOfFile(name string, info os.FileInfo) (string, error) {
	switch {
	case info.IsDir() && isLayout(name):
		return "oci:", nil
	case info.IsDir() && IsRoot(name):
		return "dir:", nil
	case info.IsDir():
		return "", kiln.Misuse(kiln.WithHint(fmt.Errorf("target %s is a directory, but neither a root file system (it has none of %s) nor an OCI layout", name, strings.Join(rootMarks, ", ")),
			"say dir:"+name+" where it is one all the same"))
	case info.Mode()&os.ModeDevice != 0 && info.Mode()&os.ModeCharDevice == 0:
		return "disk:", nil
	case !info.Mode().IsRegular():
		return "", kiln.Misuse(fmt.Errorf("target %s is neither a file, a directory nor a disk", name))
	}
	head, err := firstBytes(name)
	if err != nil {
		return "", kiln.Misuse(fmt.Errorf("target %s: %w", name, err))
	}
	switch {
	case looksLikeTar(head), strings.HasPrefix(head, "\x1f\x8b"), strings.HasPrefix(head, "\x28\xb5\x2f\xfd"):
		return "archive:", nil
	case looksLikeDisk(head):
		return "disk:", nil
	}
	return "", kiln.Misuse(kiln.WithHint(fmt.Errorf("target %s is neither an image archive nor a disk image", name),
		"say archive:FILE or disk:FILE where it is one all the same"))
}

// KindOf is what a form stands for.
func KindOf(form string) string {
	for _, f := range forms {
		if f.prefix == form {
			return f.kind
		}
	}
	return Host
}

// Open makes the target's files readable at one place. Images and disks need
// the process to be in a mount namespace of its own (sandbox.Enter): what is
// mounted or unpacked is then seen by nobody else and goes with the process.
func Open(ctx context.Context, name string, o Options) (*Target, error) {
	form, rest, err := Parse(name)
	if err != nil {
		return nil, err
	}
	t := &Target{Name: name, Kind: KindOf(form), Skip: map[string]string{}}
	switch t.Kind {
	case Host:
		err = t.host()
	case Directory:
		err = t.directory(rest)
	case Disk:
		err = t.disk(ctx, rest, o)
	default:
		err = t.image(ctx, form, rest, o)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", name, err), t.Close())
	}
	return t, nil
}

// Machine tells whether the target is a machine: the host, a disk, or a tree with an init system.
func (t *Target) Machine() bool {
	if t.Kind == Host || t.Kind == Disk {
		return true
	}
	root, err := os.OpenRoot(t.Dir)
	if err != nil {
		return false
	}
	defer root.Close()
	for _, p := range []string{"sbin/init", "usr/sbin/init", "lib/systemd/systemd", "usr/lib/systemd/systemd"} {
		if _, err := root.Lstat(p); err == nil {
			return true
		}
	}
	return false
}

func (t *Target) directory(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no directory", dir)
	}
	if err != nil {
		return kiln.Misuse(err)
	}
	t.Dir = dir
	return nil
}
