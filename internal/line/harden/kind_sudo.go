package harden

import (
	"cmp"
	"errors"
	"path"
	"strings"
)

// sudoParams: the sudo default Name is on, or has Value, for every user, host and command.
type sudoParams struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Accept string `json:"accept"`
	// Default is sudo's own value; "on" for a flag that is on by itself.
	Default string `json:"default"`
}

func (p sudoParams) check() error {
	if p.Name == "" || strings.ContainsAny(p.Name+p.Value, "\n,!\"") {
		return errors.New("name is needed; it and value must be free of commas, quotes and exclamation marks")
	}
	return checkMeets(p.Accept, p.Value)
}

const (
	sudoers     = "/etc/sudoers"
	sudoDropIn  = "/etc/sudoers.d/zz-kiln"
	maxIncludes = 16 // sudo itself stops at 128
)

// sudoLines calls fn with every logical line of sudoers in the order in which sudo reads them.
func (s *Subject) sudoLines(file string, depth int, fn func(file string, line int, text string)) error {
	if depth > maxIncludes {
		return &refusal{file, 0, "includes nest too deep, or go round in a circle"}
	}
	lines, err := s.confLines(file)
	if err != nil {
		return err
	}
	for i := 0; i < len(lines); i++ {
		start, text := i, strings.TrimSpace(lines[i])
		for strings.HasSuffix(text, `\`) && !strings.HasPrefix(text, "#") { // a comment does not go on
			if i++; i == len(lines) {
				return &refusal{file, start + 1, "ends in a continuation without a next line"}
			}
			text = strings.TrimSuffix(text, `\`) + strings.TrimSpace(lines[i])
		}
		for _, inc := range s.sudoIncludes(file, text) {
			if err := s.sudoLines(inc, depth+1, fn); err != nil {
				return err
			}
		}
		fn(file, start, text)
	}
	return nil
}

// sudoIncludes lists the files that an include line names; names with a dot or a tilde in a directory are not read.
func (s *Subject) sudoIncludes(file, line string) []string {
	f := strings.Fields(line)
	if len(f) != 2 {
		return nil
	}
	target := strings.Trim(f[1], `"`)
	if !strings.HasPrefix(target, "/") {
		target = path.Join("/", path.Dir(clean(file)), target)
	}
	switch f[0] {
	case "#include", "@include":
		return []string{target}
	case "#includedir", "@includedir":
		var out []string
		for _, q := range s.filesOf([]string{target + "/*"}) {
			if !strings.ContainsAny(path.Base(q), ".~") {
				out = append(out, q)
			}
		}
		return out
	}
	return nil
}

// sudoItems splits the options of a Defaults line at commas outside of quotes, and ends it at a comment.
func sudoItems(rest string) []string {
	var out []string
	quoted, from := false, 0
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '#':
			return append(out, rest[from:i])
		case c == ',':
			out, from = append(out, rest[from:i]), i+1
		}
	}
	return append(out, rest[from:])
}

// value is that of the last line without a scope that sets the option.
func (p sudoParams) value(s *Subject) (string, string, error) {
	value, at := p.Default, "default"
	err := s.sudoLines(sudoers, 0, func(file string, line int, text string) {
		rest, ok := strings.CutPrefix(text, "Defaults")
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '\t' {
			return
		}
		for _, item := range sudoItems(rest) {
			name, v, set := strings.Cut(strings.TrimSpace(item), "=")
			name = strings.TrimSpace(name)
			where := found{file, line, ""}
			switch {
			case name == p.Name && set:
				value, at = strings.Trim(strings.TrimSpace(v), `"`), where.at()
			case name == p.Name:
				value, at = "on", where.at()
			case name == "!"+p.Name:
				value, at = "off", where.at()
			}
		}
	})
	return value, at, err
}

// holds compares a value; a flag without one is on.
func (p sudoParams) holds(v string) bool { return meets(p.Accept, cmp.Or(p.Value, "on"), nil, v) }

func sudoState(s *Subject, p sudoParams) (Observation, error) {
	if !s.isFile(sudoers) {
		return absent("sudo is not in the image"), nil
	}
	v, at, err := p.value(s)
	if err != nil {
		return refused(err)
	}
	if p.holds(v) {
		return good(p.Name + " " + v + " at " + at), nil
	}
	return bad(strings.TrimSpace(p.Name+" "+v) + " at " + at), nil
}

// sudoApply adds a line to a file that sudo reads after others; where sudoers does not include it, or sets the option
// again behind the include, a line at the end of sudoers.
func sudoApply(s *Subject, p sudoParams) error {
	line := "Defaults " + p.Name
	if p.Value != "" {
		line += "=" + p.Value
	}
	reads := false
	if err := s.sudoLines(sudoers, 0, func(_ string, _ int, text string) {
		f := strings.Fields(text)
		reads = reads || len(f) == 2 && strings.HasSuffix(f[0], "includedir") && path.Clean(f[1]) == path.Dir(sudoDropIn)
	}); err != nil {
		return err
	}
	if reads {
		if err := s.addLine(sudoDropIn, line, 0o440); err != nil {
			return err
		}
		if v, _, err := p.value(s); err != nil || p.holds(v) {
			return err
		}
	}
	return s.addLine(sudoers, line, 0o440)
}
