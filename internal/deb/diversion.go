package deb

import "strings"

// Diversion says that the file From of every package but By lies at To
// (dpkg-divert(1)). By is ":" for the local administrator, whose diversions
// move the files of all packages.
type Diversion struct{ From, To, By string }

// ParseDiversions reads dpkg's file of diversions, three lines each, in its
// order; paths are as written, with their leading slash. Lines at the end that
// make no three are left out.
func ParseDiversions(text []byte) []Diversion {
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	var all []Diversion
	for ; len(lines) >= 3; lines = lines[3:] {
		all = append(all, Diversion{lines[0], lines[1], lines[2]})
	}
	return all
}
