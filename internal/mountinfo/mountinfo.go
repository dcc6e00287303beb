// Package mountinfo reads the kernel's list of mounts, proc_pid_mountinfo(5).
package mountinfo

import (
	"path"
	"slices"
	"strings"
)

// Mount is one line of the list. A later mount at the same place covers those before it.
type Mount struct {
	Point   string // where it is, absolute and clean
	Type    string // of the file system
	Options string // of the mount, as "rw,nodev"
	Super   string // options of the file system itself
}

// Parse reads /proc/PID/mountinfo. Lines that are cut are passed over.
func Parse(text string) []Mount {
	var out []Mount
	for line := range strings.Lines(text) {
		// id, parent, device, root, mount point, options, any number of optional fields, "-", type, source, super options
		f := strings.Split(strings.TrimSuffix(line, "\n"), " ") // a source may be empty
		dash := slices.Index(f, "-")
		if dash < 6 || dash+1 >= len(f) || !strings.HasPrefix(f[4], "/") {
			continue
		}
		m := Mount{Point: path.Clean(Unescape(f[4])), Options: f[5], Type: f[dash+1]}
		if dash+3 < len(f) {
			m.Super = f[dash+3]
		}
		out = append(out, m)
	}
	return out
}

var escapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// Unescape undoes the \ooo that stands for blanks and backslashes, in fstab(5) as well.
func Unescape(s string) string { return escapes.Replace(s) }
