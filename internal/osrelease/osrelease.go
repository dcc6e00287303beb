// Package osrelease reads os-release(5), by which a tree says which distribution it is.
package osrelease

import "strings"

// Paths are where the file is, relative to the root of a tree: the first that is there counts.
func Paths() []string { return []string{"etc/os-release", "usr/lib/os-release"} }

// Parse returns the variables of an os-release: names with values, without the
// quotes around them. Of a name that stands twice the last counts. Lines that are
// no assignments are passed over.
func Parse(text string) map[string]string {
	vars := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !strings.HasPrefix(name, "#") {
			vars[strings.TrimSpace(name)] = strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	return vars
}
