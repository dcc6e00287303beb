package harden

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// pamParams: a PAM stack has a line for Module, with Options.
type pamParams struct {
	File    string   `json:"file"`
	Type    string   `json:"type"` // auth, account, password, session
	Module  string   `json:"module"`
	Control string   `json:"control"`
	Options []string `json:"options"`
	// Place is where a new line goes: first, last, before or after the line of pam_unix.so, or after the line of
	// pam_faillock.so with authfail, which ends a stack that went wrong.
	Place string `json:"place"`
	// Change only sets options of lines that are there; without such a line the objective is not met.
	Change bool   `json:"change"`
	Remedy string `json:"remedy"` // what to do where Change finds none
}

func (p pamParams) check() error {
	if !slices.Contains([]string{"auth", "account", "password", "session"}, p.Type) {
		return errors.New("type is auth, account, password or session")
	}
	if !strings.HasSuffix(p.Module, ".so") || p.Change == (p.Control != "") || p.Change && p.Remedy == "" {
		return errors.New("module is a .so; a new line needs control, change needs remedy")
	}
	if !p.Change && !slices.Contains([]string{"first", "last", "before-unix", "after-unix", "after-authfail"}, p.Place) {
		return errors.New("place is first, last, before-unix, after-unix or after-authfail")
	}
	if err := oneLine(append([]string{p.Control, p.Module}, p.Options...)...); err != nil {
		return err
	}
	return checkGlobs([]string{p.File})
}

// pamLine is one line of a stack: kind, control, module and the rest.
type pamLine struct {
	at            int
	kind, control string
	module        string
	options       []string
}

var pamWords = regexp.MustCompile(`\[[^\]]*\]|\S+`)

// pamStack parses a file; includes are kept out, since their lines are another file's.
func (s *Subject) pamStack(file string) (lines []string, stack []pamLine, err error) {
	if err := s.editable(file); err != nil {
		return nil, nil, err
	}
	if lines, err = s.confLines(file); err != nil {
		return nil, nil, err
	}
	for i, line := range lines {
		t := strings.TrimSpace(strings.SplitN(line, "#", 2)[0])
		if t == "" || strings.HasPrefix(t, "@include") {
			continue
		}
		if strings.HasSuffix(t, `\`) {
			return nil, nil, &refusal{file, i + 1, "goes on in the next line, which is not supported"}
		}
		w := pamWords.FindAllString(t, -1)
		if len(w) < 3 || strings.HasPrefix(w[1], "[") != strings.HasSuffix(w[1], "]") {
			return nil, nil, &refusal{file, i + 1, "is no line of a PAM stack: it needs type, control and module"}
		}
		stack = append(stack, pamLine{i, strings.ToLower(strings.TrimPrefix(w[0], "-")), w[1], w[2], w[3:]})
	}
	return lines, stack, nil
}

// option splits "remember=24".
func option(o string) string { name, _, _ := strings.Cut(o, "="); return name }

// fits reports whether a line is the one that is meant; two faillock lines differ by their first option.
func (p pamParams) fits(l pamLine) bool {
	if l.kind != p.Type || l.module != p.Module && !strings.HasSuffix(l.module, "/"+p.Module) {
		return false
	}
	for _, phase := range []string{"preauth", "authfail", "authsucc"} {
		if slices.Contains(p.Options, phase) != slices.Contains(l.options, phase) && p.Module == "pam_faillock.so" {
			return false
		}
	}
	return true
}

// lacking are the options that a line does not have, or has with another value; numbers may be larger. Of an option
// that stands there twice the last counts, as for the modules.
func (p pamParams) lacking(l pamLine) []string {
	var out []string
	for _, o := range p.Options {
		name, want, hasValue := strings.Cut(o, "=")
		ok := false
		for _, have := range l.options {
			n, v, _ := strings.Cut(have, "=")
			switch {
			case !hasValue:
				ok = ok || have == o
			case n == name:
				ok = v == want || meets("at-least", want, nil, v)
			}
		}
		if !ok {
			out = append(out, o)
		}
	}
	return out
}

func pamState(s *Subject, p pamParams) (Observation, error) {
	if s.lookup(p.File) == nil {
		return absent(p.File + " is not in the image"), nil
	}
	_, stack, err := s.pamStack(p.File)
	if err != nil {
		return refused(err)
	}
	seen := false
	for _, l := range stack {
		if !p.fits(l) {
			continue
		}
		seen = true
		if missing := p.lacking(l); len(missing) > 0 {
			return bad(fmt.Sprintf("%s:%d: %s without %s", p.File, l.at+1, p.Module, strings.Join(missing, " "))), nil
		}
	}
	switch {
	case seen:
		return good(p.Module + " in " + p.File), nil
	case p.Change:
		return blocked("no "+p.Module+" in "+p.File, p.Remedy), nil
	}
	if len(s.glob([]string{"/usr/lib/*/security/" + p.Module, "/lib/security/" + p.Module, "/usr/lib/security/" + p.Module})) == 0 {
		return blocked("no "+p.Module+" in "+p.File, p.Module+" is not in the image, and a stack that names a missing module locks everybody out: install its package first"), nil
	}
	if strings.HasSuffix(p.Place, "unix") && unixAt(stack, p.Type) < 0 {
		return blocked("no pam_unix.so in "+p.File, "the stack has no pam_unix.so line to stand beside"), nil
	}
	return bad("no " + p.Module + " in " + p.File), nil
}

func unixAt(stack []pamLine, kind string) int {
	return slices.IndexFunc(stack, func(l pamLine) bool { return l.kind == kind && l.module == "pam_unix.so" })
}

// authfailAt is where a failed password ends the stack. What lets people in may stand after it only.
func authfailAt(stack []pamLine, kind string) int {
	return slices.IndexFunc(stack, func(l pamLine) bool {
		return l.kind == kind && l.module == "pam_faillock.so" && l.control == "[default=die]" && slices.Contains(l.options, "authfail")
	})
}

func pamApply(s *Subject, p pamParams) error {
	lines, stack, err := s.pamStack(p.File)
	if err != nil {
		return err
	}
	changed := false
	for _, l := range stack {
		if !p.fits(l) {
			continue
		}
		changed = true
		if missing := p.lacking(l); len(missing) > 0 {
			lines[l.at] = withOptions(lines[l.at], missing)
		}
	}
	if !changed {
		if p.Place == "after-authfail" && authfailAt(stack, p.Type) < unixAt(stack, p.Type) {
			return &refusal{p.File, 0, "has no line [default=die] pam_faillock.so authfail after pam_unix.so, and without it a wrong password would be let in"}
		}
		lines = p.insert(lines, stack)
	}
	return s.writeLines(p.File, lines, 0o644)
}

// withOptions sets options at the end of a line, in front of a comment.
func withOptions(line string, options []string) string {
	text, comment, has := strings.Cut(line, "#")
	for _, o := range options {
		again := regexp.MustCompile(`\s` + regexp.QuoteMeta(option(o)) + `(=\S*)?(\s|$)`)
		for again.MatchString(text) { // one that stands beside another shares its space
			text = again.ReplaceAllString(text, " ")
		}
		text = strings.TrimRight(text, " \t") + " " + o
	}
	if has {
		return text + " #" + comment
	}
	return text
}

// insert adds the line and lengthens the jumps of earlier lines that would otherwise land one line short.
func (p pamParams) insert(lines []string, stack []pamLine) []string {
	same := slices.DeleteFunc(slices.Clone(stack), func(l pamLine) bool { return l.kind != p.Type })
	at := p.position(same)
	for i, l := range same[:at] {
		lines[l.at] = strings.Replace(lines[l.at], l.control, lengthen(l.control, at-i), 1)
	}
	line := p.Type + " " + p.Control + " " + strings.TrimSpace(p.Module+" "+strings.Join(p.Options, " "))
	where := len(lines)
	if at < len(same) {
		where = same[at].at
	} else if at > 0 {
		where = same[at-1].at + 1
	}
	return slices.Insert(lines, where, line)
}

func (p pamParams) position(same []pamLine) int {
	switch p.Place {
	case "first":
		return 0
	case "before-unix":
		return unixAt(same, p.Type)
	case "after-unix":
		return unixAt(same, p.Type) + 1
	case "after-authfail":
		return authfailAt(same, p.Type) + 1
	}
	return len(same)
}

var jump = regexp.MustCompile(`=(\d+)`)

// lengthen adds one to every jump of a control that reaches past the distance.
func lengthen(control string, distance int) string {
	return jump.ReplaceAllStringFunc(control, func(m string) string {
		n, err := strconv.Atoi(m[1:])
		if err != nil || n < distance {
			return m
		}
		return "=" + strconv.Itoa(n+1)
	})
}
