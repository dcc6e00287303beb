package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mountOverlay mounts layers (top first) with changes going to upper.
func mountOverlay(on string, layers []string, upper, work string, flags uintptr) error {
	// Without redirects, metacopies and an index the upper directory is a plain
	// description of the changes, which the packer reads and another overlay takes.
	o := []string{
		"lowerdir=" + strings.Join(each(layers, escapeLower), ":"),
		"upperdir=" + escapeOption(upper), "workdir=" + escapeOption(work),
		"redirect_dir=nofollow", "metacopy=off", "index=off",
	}
	if inUserNamespace() {
		o = append(o, "userxattr")
	}
	data := strings.Join(o, ",")
	if len(data) >= os.Getpagesize() {
		return fmt.Errorf("mounting %d layers: their paths take more than %d bytes; use a shorter state directory", len(layers), os.Getpagesize())
	}
	if err := unix.Mount("overlay", on, "overlay", flags, data); err != nil {
		return &overlayError{err: err}
	}
	return nil
}

// overlayError is an overlay that the kernel refused.
type overlayError struct{ err error }

func (e *overlayError) Error() string {
	s := "mounting the overlay: " + e.err.Error()
	if errors.Is(e.err, unix.EINVAL) {
		s += " (a layer or the upper directory lies on a file system that overlay does not take, such as another overlay; use a directory elsewhere, e.g. on a tmpfs)"
	}
	if errors.Is(e.err, unix.ENODEV) {
		s += " (this kernel has no overlay file system: modprobe overlay)"
	}
	return s
}
func (e *overlayError) Unwrap() error { return e.err }

func each(list []string, f func(string) string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = f(s)
	}
	return out
}

// escapeOption protects what the kernel splits mount options at; escapeLower
// also the separator of lower directories.
func escapeOption(s string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(s)
}

func escapeLower(s string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `:`, `\:`).Replace(s)
}
