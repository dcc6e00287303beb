package harden

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// auditParams: the audit system has Rules when it starts. A rule counts whatever its key is, and when a rule of the
// tree covers it: more system calls, more permissions.
type auditParams struct {
	Rules []string `json:"rules"`
	// Existing leaves out rules about programs that are not in the image.
	Existing bool `json:"existing"`
	// Last puts the rules into the file that is read last, for those that end the configuration (-e 2).
	Last bool `json:"last"`
}

func (p auditParams) check() error {
	if len(p.Rules) == 0 {
		return errors.New("rules needs at least one")
	}
	for _, r := range p.Rules {
		if err := oneLine(r); err != nil {
			return err
		}
		if _, err := parseAudit(r); err != nil {
			return fmt.Errorf("rule %q: %w", r, err)
		}
	}
	return nil
}

const (
	auditRules = "/etc/audit/rules.d"
	auditFile  = auditRules + "/50-kiln.rules"
	auditLast  = auditRules + "/99-zz-kiln.rules"
)

// auditRule is one rule in a form that can be compared.
type auditRule struct {
	control string   // a whole line that is no filter: -e 2, -b 8192
	action  string   // "always,exit"
	calls   []string // sorted
	fields  []string // sorted, without keys
	watch   string   // path of -w, or of a rule that is only about a path
	perm    string   // of a watch
}

// parseAudit reads a line as auditctl does.
func parseAudit(line string) (auditRule, error) {
	var r auditRule
	f := strings.Fields(line)
	for i := 0; i < len(f); i++ {
		opt := f[i]
		if opt == "-D" || opt == "-c" || opt == "-i" || strings.HasPrefix(opt, "--") {
			r.control = strings.Join(f, " ")
			return r, nil
		}
		if i++; i == len(f) {
			return r, errors.New("option " + opt + " has no value")
		}
		if err := r.take(opt, f[i]); err != nil {
			return r, err
		}
	}
	if r.action == "" && r.watch == "" && r.control == "" {
		return r, errors.New("is no rule")
	}
	r.settle()
	return r, nil
}

func (r *auditRule) take(opt, value string) error {
	switch opt {
	case "-b", "-e", "-f", "-r":
		r.control = opt + " " + value
	case "-a", "-A":
		parts := strings.Split(value, ",")
		slices.Sort(parts)
		r.action = strings.Join(parts, ",")
	case "-d", "-W":
		return errors.New("option " + opt + " takes a rule away, which is not supported")
	case "-S":
		r.calls = append(r.calls, strings.Split(value, ",")...)
	case "-F":
		if strings.HasPrefix(value, "key=") {
			return nil
		}
		for _, unset := range []string{"4294967295", "-1"} {
			value = strings.Replace(value, "auid!="+unset, "auid!=unset", 1)
		}
		r.fields = append(r.fields, value)
	case "-C":
		r.fields = append(r.fields, "C "+value)
	case "-w":
		r.watch = value
	case "-p":
		r.perm = value
	case "-k":
	default:
		return errors.New("option " + opt + " is unknown")
	}
	return nil
}

// settle gives a watch and the rule that means the same one form.
func (r *auditRule) settle() {
	slices.Sort(r.calls)
	slices.Sort(r.fields)
	r.fields = slices.Compact(r.fields)
	if r.watch == "" && len(r.calls) == 0 && r.action == "always,exit" {
		var p, perm string
		plain := true
		for _, f := range r.fields {
			k, v, _ := strings.Cut(f, "=")
			switch k {
			case "path", "dir":
				p = v
			case "perm":
				perm = v
			case "arch":
			default:
				plain = false
			}
		}
		if plain && p != "" {
			r.watch, r.perm = p, perm
		}
	}
	if r.watch != "" {
		r.watch = path.Clean(r.watch)
		if r.perm == "" {
			r.perm = "rwxa"
		}
	}
}

// covers reports whether every event that want asks for is recorded by r.
func (r auditRule) covers(want auditRule) bool {
	switch {
	case want.control != "":
		return r.control == want.control
	case want.watch != "":
		return r.watch == want.watch && contains(r.perm, want.perm)
	}
	return r.action == want.action && slices.Equal(r.fields, want.fields) &&
		(slices.Contains(r.calls, "all") || !slices.ContainsFunc(want.calls, func(c string) bool { return !slices.Contains(r.calls, c) }))
}

func contains(have, want string) bool {
	return !strings.ContainsFunc(want, func(c rune) bool { return !strings.ContainsRune(have, c) })
}

// auditRules reads all rules in the order in which augenrules joins them.
func (s *Subject) auditRules() ([]auditRule, error) {
	files, err := s.dropIns([]string{auditRules}, ".rules")
	if err != nil {
		return nil, err
	}
	var out []auditRule
	for _, q := range files {
		lines, err := s.confLines(q)
		if err != nil {
			return nil, err
		}
		for i, line := range lines {
			t := strings.TrimSpace(line)
			if t == "" || t[0] == '#' {
				continue
			}
			r, err := parseAudit(t)
			if err != nil {
				return nil, &refusal{q, i + 1, err.Error()}
			}
			out = append(out, r)
		}
	}
	return out, nil
}

// missing returns the wanted rules that nothing covers.
func (p auditParams) missing(s *Subject) ([]string, error) {
	have, err := s.auditRules()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, text := range p.Rules {
		want, _ := parseAudit(text)
		if p.Existing && s.lookup(programOf(want)) == nil {
			continue
		}
		if !slices.ContainsFunc(have, func(r auditRule) bool { return r.covers(want) }) {
			out = append(out, text)
		}
	}
	return out, nil
}

func programOf(r auditRule) string {
	for _, f := range r.fields {
		if p, ok := strings.CutPrefix(f, "path="); ok {
			return p
		}
	}
	return r.watch
}

func auditState(s *Subject, p auditParams) (Observation, error) {
	if !s.isDir(auditRules) {
		return absent("auditd is not in the image"), nil
	}
	missing, err := p.missing(s)
	if err != nil {
		return refused(err)
	}
	if len(missing) > 0 {
		return bad(fmt.Sprintf("%d of %d rules missing: %s", len(missing), len(p.Rules), missing[0])), nil
	}
	return good(fmt.Sprintf("%d rules", len(p.Rules))), nil
}

func auditApply(s *Subject, p auditParams) error {
	missing, err := p.missing(s)
	if err != nil {
		return err
	}
	file := auditFile
	if p.Last {
		file = auditLast
	}
	for _, rule := range missing {
		if err := s.addLine(file, rule, 0o640); err != nil {
			return err
		}
	}
	return nil
}

// setidRules are the rules for the set-id programs that are in the tree now: the list changes with every package.
func setidRules(s *Subject) auditParams {
	p := auditParams{}
	for _, q := range s.paths() {
		if e := s.index[q]; e.Type == 'f' && e.Mode&0o6000 != 0 && !strings.ContainsAny(q, " \t\n\r\x00") {
			p.Rules = append(p.Rules, "-a always,exit -F path=/"+q+" -F perm=x -F auid>=1000 -F auid!=unset -k privileged")
		}
	}
	return p
}

func auditSetidState(s *Subject, _ none) (Observation, error) {
	p := setidRules(s)
	if len(p.Rules) == 0 {
		return good("no set-id programs"), nil
	}
	return auditState(s, p)
}

func auditSetidApply(s *Subject, _ none) error { return auditApply(s, setidRules(s)) }
