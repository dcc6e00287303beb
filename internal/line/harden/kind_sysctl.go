package harden

import (
	"errors"
	"path"
	"strings"
)

// sysctlParams: the kernel setting Key is Value once the machine has started.
type sysctlParams struct {
	Key    string   `json:"key"`
	Value  string   `json:"value"`
	Accept string   `json:"accept"`
	Others []string `json:"others"`
}

func (p sysctlParams) check() error {
	if p.Key == "" || p.Value == "" || strings.ContainsAny(p.Key, " =/*") {
		return errors.New("key is a dotted name, and value is needed")
	}
	if err := oneLine(p.Key, p.Value); err != nil {
		return err
	}
	return checkMeets(p.Accept, p.Value)
}

// sysctlDirs are read by systemd-sysctl and procps alike.
var sysctlDirs = []string{"/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"}

// sysctlDropIn comes after every usual name, since the last line wins.
const sysctlDropIn = "/etc/sysctl.d/99-zz-kiln.conf"

// sysctlLine reads "key = value", "key=value" and "-key = value"; slashes in a key are dots. A line with only "-key" exempts it from patterns.
func sysctlLine(line string) (key, value string, ok bool) {
	t := strings.TrimSpace(line)
	if t == "" || t[0] == '#' || t[0] == ';' {
		return "", "", true
	}
	key, value, ok = strings.Cut(t, "=")
	if !ok && t[0] == '-' {
		return "", "", true
	}
	key = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(key), "-"))
	return strings.ReplaceAll(key, "/", "."), strings.TrimSpace(value), ok && key != ""
}

// sysctlFiles are in the order in which they take effect; /etc/sysctl.conf is last, as procps reads it.
func (s *Subject) sysctlFiles() ([]string, error) {
	files, err := s.dropIns(sysctlDirs, ".conf")
	if err != nil {
		return nil, err
	}
	if main, ok := s.resolve("/etc/sysctl.conf"); ok {
		files = append(files, main)
	}
	return files, nil
}

// settings returns every line that sets the key, the one that wins last: an exact name beats a pattern.
func (p sysctlParams) settings(s *Subject) ([]found, error) {
	files, err := s.sysctlFiles()
	if err != nil {
		return nil, err
	}
	var exact, patterns []found
	for _, q := range files {
		lines, err := s.confLines(q)
		if err != nil {
			return nil, err
		}
		for i, line := range lines {
			key, value, ok := sysctlLine(line)
			if !ok {
				return nil, &refusal{q, i + 1, "is no setting: it has no key and ="}
			}
			if key == p.Key {
				exact = append(exact, found{q, i, value})
			} else if strings.Contains(key, "*") {
				if hit, _ := path.Match(strings.ReplaceAll(key, ".", "/"), strings.ReplaceAll(p.Key, ".", "/")); hit {
					patterns = append(patterns, found{q, i, value})
				}
			}
		}
	}
	return append(patterns, exact...), nil
}

func sysctlState(s *Subject, p sysctlParams) (Observation, error) {
	obs, err := sysctlConfigured(s, p)
	if value, known := s.kernel.sysctl(p.Key); known && err == nil {
		obs = obs.inEffect(p.Key+"="+value, meets(p.Accept, p.Value, p.Others, value))
	}
	return obs, err
}

func sysctlConfigured(s *Subject, p sysctlParams) (Observation, error) {
	all, err := p.settings(s)
	if err != nil {
		return refused(err)
	}
	if len(all) == 0 {
		return bad(p.Key + " is not set"), nil
	}
	last := all[len(all)-1]
	seen := p.Key + "=" + last.value + " at " + last.at()
	if meets(p.Accept, p.Value, p.Others, last.value) {
		return good(seen), nil
	}
	return bad(seen), nil
}

// sysctlApply writes the drop-in, and comments out lines in /etc that set another value: /etc/sysctl.conf would win over it.
func sysctlApply(s *Subject, p sysctlParams) error {
	all, err := p.settings(s)
	if err != nil {
		return err
	}
	for _, f := range all {
		if f.file == clean(sysctlDropIn) || !strings.HasPrefix(f.file, "etc/") || meets(p.Accept, p.Value, p.Others, f.value) {
			continue
		}
		if err := s.setAside(f, p.Key); err != nil {
			return err
		}
	}
	lines, err := s.confLines(sysctlDropIn)
	if err != nil {
		return err
	}
	for i, line := range lines {
		if key, _, _ := sysctlLine(line); key == p.Key {
			lines[i] = p.Key + " = " + p.Value
			return s.writeLines(sysctlDropIn, lines, 0o644)
		}
	}
	return s.addLine(sysctlDropIn, p.Key+" = "+p.Value, 0o644)
}

// setAside makes a comment of an exact line; a pattern serves other keys too and stays.
func (s *Subject) setAside(f found, key string) error {
	lines, err := s.confLines(f.file)
	if err != nil {
		return err
	}
	if k, _, _ := sysctlLine(lines[f.line]); k != key {
		return nil
	}
	lines[f.line] = "# " + lines[f.line]
	return s.writeLines(f.file, lines, 0o644)
}
