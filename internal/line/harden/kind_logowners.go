package harden

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"kiln/internal/tree"
)

// logOwnersParams: every file below /var/log belongs to an account, or a group, that is right for its name.
type logOwnersParams struct {
	// Which is "owners" or "groups".
	Which string `json:"which"`
	// Services lets the files of a directory that a service owns belong to that service.
	Services bool `json:"services"`
}

func (p logOwnersParams) check() error {
	if p.Which != "owners" && p.Which != "groups" {
		return fmt.Errorf("which is owners or groups, not %q", p.Which)
	}
	return nil
}

// logNames are the accounts and groups by the names of files and of directories (those with a slash); the first that
// fits counts. The names before are as good; the first one that exists is what Apply sets.
var logNames = []struct{ pattern, owners, groups string }{
	{"gdm/", "root", "gdm root"},
	{"gdm3/", "root", "gdm gdm3 root"},
	{"sssd/", "sssd root", "sssd root"},
	{"landscape/", "root landscape", "root landscape"},
	{"apt/", "root", "adm root"},
	{"audit/", "root", "root adm"},
	{"journal/", "root", "systemd-journal root"},
	{"*.journal", "root", "systemd-journal root"},
	{"*.journal~", "root", "systemd-journal root"},
	{"lastlog*", "root", "utmp root"},
	{"*wtmp*", "root", "utmp root"},
	{"*btmp*", "root", "utmp root"},
	{"*", "root syslog", "adm root"},
}

// right are the names that fit a path below /var/log.
func (p logOwnersParams) right(log, q string) []string {
	rest := strings.TrimPrefix(q, log+"/")
	for _, n := range logNames {
		dir, isDir := strings.CutSuffix(n.pattern, "/")
		hit, _ := path.Match(n.pattern, path.Base(q))
		if isDir && strings.HasPrefix(rest, dir+"/") || !isDir && hit {
			if p.Which == "owners" {
				return strings.Fields(n.owners)
			}
			return strings.Fields(n.groups)
		}
	}
	return nil
}

// wrong returns the files, and the id that each should have.
func (p logOwnersParams) wrong(s *Subject) ([]*tree.Entry, map[string]int) {
	log, ok := s.resolve("/var/log")
	if !ok {
		return nil, nil
	}
	table := map[string]string{"owners": "etc/passwd", "groups": "etc/group"}[p.Which]
	var out []*tree.Entry
	want := map[string]int{}
	for _, q := range s.below(log) {
		e := s.index[q]
		if e.Type != 'f' && e.Type != 'h' {
			continue
		}
		ids := s.ids(table, p.right(log, q))
		dir := s.index[path.Dir(q)]
		if slices.Contains(ids, p.id(e)) || len(ids) == 0 || p.Services && p.id(dir) != 0 && p.id(dir) == p.id(e) {
			continue
		}
		out, want[q] = append(out, e), ids[0]
	}
	return out, want
}

func (p logOwnersParams) id(e *tree.Entry) int {
	if p.Which == "owners" {
		return e.UID
	}
	return e.GID
}

func logOwnersState(s *Subject, p logOwnersParams) (Observation, error) {
	if !s.isDir("/var/log") {
		return absent("/var/log is not in the image"), nil
	}
	if !s.isFile("/etc/passwd") || !s.isFile("/etc/group") {
		return unknown("/etc/passwd or /etc/group is missing: names have no numbers"), nil
	}
	entries, _ := p.wrong(s)
	var off []string
	for _, e := range entries {
		off = append(off, describe(e))
	}
	return judge(off, "as their names want"), nil
}

func logOwnersApply(s *Subject, p logOwnersParams) error {
	entries, want := p.wrong(s)
	for _, e := range entries {
		uid, gid := want[e.Path], e.GID
		if p.Which == "groups" {
			uid, gid = e.UID, want[e.Path]
		}
		if err := s.chown(e.Path, uid, gid); err != nil {
			return err
		}
	}
	return nil
}
