package harden

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// dconfParams: a key of a system's dconf database has a value that nobody can change.
type dconfParams struct {
	// Database is "local", for everybody's desktop, or "gdm", for the login screen.
	Database string `json:"database"`
	// Key with its path, such as /org/gnome/login-screen/banner-message-enable.
	Key string `json:"key"`
	// Value is what is written, as GVariant text: true, 'text', uint32 900.
	Value string `json:"value"`
	// Accept is how a value found is compared: "equals" (default), "at-most", "one-to" (1 to the value), or "any", which
	// takes every text that is not empty.
	Accept string `json:"accept"`
}

func (p dconfParams) check() error {
	if p.Database != "local" && p.Database != "gdm" {
		return fmt.Errorf("database is local or gdm, not %q", p.Database)
	}
	if !strings.HasPrefix(p.Key, "/") || path.Clean(p.Key) != p.Key || strings.Count(p.Key, "/") < 2 || p.Value == "" {
		return errors.New("key is such as /org/gnome/login-screen/disable-user-list, and value is needed")
	}
	if err := oneLine(p.Key, p.Value); err != nil {
		return err
	}
	if p.Accept == "any" {
		return nil
	}
	return checkMeets(p.Accept, dconfNumber(p.Value))
}

// dconfNumber takes the type off a number.
func dconfNumber(value string) string { return strings.TrimPrefix(value, "uint32 ") }

func (p dconfParams) holds(value string) bool {
	if p.Accept == "any" {
		return strings.Trim(value, `"'`) != ""
	}
	return meets(p.Accept, dconfNumber(p.Value), nil, dconfNumber(value))
}

func (p dconfParams) dir() string     { return "/etc/dconf/db/" + p.Database + ".d" }
func (p dconfParams) dropIn() string  { return p.dir() + "/99-zz-kiln" }
func (p dconfParams) lockIn() string  { return p.dir() + "/locks/99-zz-kiln" }
func (p dconfParams) section() string { return strings.TrimPrefix(path.Dir(p.Key), "/") }

// profile is the list of databases that the session, or the login screen, reads.
func (p dconfParams) profile() string {
	if p.Database == "gdm" {
		return "/etc/dconf/profile/gdm"
	}
	return "/etc/dconf/profile/user"
}

// dconfFiles are the files of a directory by name; of several that set a key, the last one wins.
func (s *Subject) dconfFiles(dir string) ([]string, error) {
	real, ok := s.resolve(dir)
	if !ok || s.index[real].Type != 'd' {
		return nil, nil
	}
	var out []string
	for _, q := range s.below(real) {
		if path.Dir(q) == real && s.isFile(q) {
			out = append(out, q)
		}
	}
	if len(out) > maxDropIns {
		return nil, &refusal{dir, 0, fmt.Sprintf("has more than %d files", maxDropIns)}
	}
	return out, nil
}

// value returns the line that wins.
func (p dconfParams) value(s *Subject) (*found, error) {
	files, err := s.dconfFiles(p.dir())
	if err != nil {
		return nil, err
	}
	var last *found
	for _, q := range files {
		lines, err := s.confLines(q)
		if err != nil {
			return nil, err
		}
		section := ""
		for i, line := range lines {
			t := strings.TrimSpace(line)
			key, value, ok := strings.Cut(t, "=")
			switch {
			case t == "" || t[0] == '#':
			case t[0] == '[' && strings.HasSuffix(t, "]"):
				section = t[1 : len(t)-1]
			case !ok || t[0] == '[' || section == "":
				return nil, &refusal{q, i + 1, "is no key with a value in a section"}
			case section == p.section() && strings.TrimSpace(key) == path.Base(p.Key):
				last = &found{q, i, strings.TrimSpace(value)}
			}
		}
	}
	return last, nil
}

// locked reports whether a lock keeps the key, or a directory of it, from being changed by users.
func (p dconfParams) locked(s *Subject) (bool, error) {
	files, err := s.dconfFiles(p.dir() + "/locks")
	if err != nil {
		return false, err
	}
	for _, q := range files {
		lines, err := s.confLines(q)
		if err != nil {
			return false, err
		}
		for _, line := range lines {
			t := strings.TrimSpace(line)
			if t == p.Key || strings.HasSuffix(t, "/") && strings.HasPrefix(p.Key, t) {
				return true, nil
			}
		}
	}
	return false, nil
}

// read reports whether the profile has the database.
func (p dconfParams) read(s *Subject) (bool, error) {
	lines, err := s.confLines(p.profile())
	return slices.ContainsFunc(lines, func(line string) bool { return strings.TrimSpace(line) == "system-db:"+p.Database }), err
}

func dconfState(s *Subject, p dconfParams) (Observation, error) {
	if !s.packages().has("gdm3") && s.lookup("/etc/dconf") == nil {
		return absent("neither gdm3 nor dconf is in the image"), nil
	}
	last, err := p.value(s)
	if err != nil {
		return refused(err)
	}
	locked, err := p.locked(s)
	if err != nil {
		return refused(err)
	}
	read, err := p.read(s)
	if err != nil {
		return refused(err)
	}
	if last == nil {
		return bad(p.Key + " is not set"), nil
	}
	seen := p.Key + " " + last.value + " at " + last.at()
	switch {
	case !p.holds(last.value):
		return bad(seen), nil
	case !locked:
		return bad(seen + ", and users can change it"), nil
	case !read:
		return bad(seen + ", but " + p.profile() + " does not name the database"), nil
	}
	return good(seen + ", locked"), nil
}

// dconfApply writes a file that is read last, the lock, and the profile where it lacks the database.
func dconfApply(s *Subject, p dconfParams) error {
	for _, file := range []string{p.dropIn(), p.lockIn(), p.profile()} {
		if err := s.editable(file); err != nil {
			return err
		}
	}
	last, err := p.value(s)
	if err != nil {
		return err
	}
	if last == nil || !p.holds(last.value) {
		if err := p.write(s); err != nil {
			return err
		}
		if last, err = p.value(s); err == nil && last.file != clean(p.dropIn()) {
			return &refusal{last.file, last.line + 1, "is read after " + p.dropIn() + " and says otherwise: give the file another name"}
		}
	}
	locked, err := p.locked(s)
	if err == nil && !locked {
		err = s.addLine(p.lockIn(), p.Key, 0o644)
	}
	if err != nil {
		return err
	}
	return p.readIt(s)
}

// write sets the key in the drop-in.
func (p dconfParams) write(s *Subject) error {
	lines, err := s.confLines(p.dropIn())
	if err != nil {
		return err
	}
	if len(lines) == 0 {
		lines = []string{"# Hardening; made by kiln."}
	}
	line := path.Base(p.Key) + "=" + p.Value
	at := slices.Index(lines, "["+p.section()+"]")
	if at < 0 {
		return s.writeLines(p.dropIn(), append(lines, "["+p.section()+"]", line), 0o644)
	}
	for i := at + 1; i < len(lines) && !strings.HasPrefix(lines[i], "["); i++ {
		if key, _, _ := strings.Cut(lines[i], "="); key == path.Base(p.Key) {
			lines[i] = line
			return s.writeLines(p.dropIn(), lines, 0o644)
		}
	}
	return s.writeLines(p.dropIn(), slices.Insert(lines, at+1, line), 0o644)
}

// readIt puts the database into the profile: behind the user's own, in front of what the distribution has.
func (p dconfParams) readIt(s *Subject) error {
	there, err := p.read(s)
	if err != nil || there {
		return err
	}
	lines, err := s.confLines(p.profile())
	if err == nil && len(lines) == 0 {
		lines, err = s.confLines("/usr/share/dconf/profile/" + path.Base(p.profile()))
	}
	if err != nil {
		return err
	}
	if len(lines) == 0 {
		lines = []string{"user-db:user"}
	}
	at := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "user-db:") }) + 1
	return s.writeLines(p.profile(), slices.Insert(lines, at, "system-db:"+p.Database), 0o644)
}
