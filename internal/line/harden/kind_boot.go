package harden

import (
	"errors"
	"regexp"
	"slices"
	"strings"
)

// argumentParams: the kernel is started with Argument, such as audit=1.
type argumentParams struct {
	Argument string `json:"argument"`
	// Absent: it is not.
	Absent bool `json:"absent"`
}

func (p argumentParams) check() error {
	if p.Argument == "" || strings.ContainsAny(p.Argument, " \t\n\"'$`\\") {
		return errors.New("argument is one word of a kernel command line")
	}
	return nil
}

const (
	grubMain   = "/etc/default/grub"
	grubDropIn = "/etc/default/grub.d/zz-kiln.cfg"
)

// grubAssigns finds the lines that set the arguments, grubLine those of them that are understood: one word, quoted or
// not, and perhaps a comment.
var (
	grubAssigns = regexp.MustCompile(`^\s*(?:export\s+)?GRUB_CMDLINE_LINUX(?:_DEFAULT)?\+?=`)
	grubLine    = regexp.MustCompile(`^(\s*(?:export\s+)?GRUB_CMDLINE_LINUX(?:_DEFAULT)?=)("(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'#;]*)(\s*|\s+#.*)$`)
)

// grubQuote is the quotation mark of a value, if it has one.
func grubQuote(value string) string {
	if value != "" && (value[0] == '"' || value[0] == '\'') {
		return value[:1]
	}
	return ""
}

// grubLines calls fn with every line that gives kernel arguments.
func (s *Subject) grubLines(fn func(file string, line int, all bool, words []string)) error {
	drops, err := s.dropIns([]string{"/etc/default/grub.d"}, ".cfg")
	if err != nil {
		return err
	}
	for _, q := range append([]string{clean(grubMain)}, drops...) {
		lines, err := s.confLines(q)
		if err != nil {
			return err
		}
		for i, line := range lines {
			if !grubAssigns.MatchString(line) {
				continue
			}
			m := grubLine.FindStringSubmatch(line)
			if m == nil {
				return &refusal{q, i + 1, "opens a quotation that it does not close, or is more than one plain assignment"}
			}
			fn(q, i, !strings.Contains(m[1], "_DEFAULT"), strings.Fields(strings.Trim(m[2], grubQuote(m[2]))))
		}
	}
	return nil
}

// words are the arguments of every boot entry: the variable starts anew where a line does not name itself.
func (s *Subject) kernelArguments() (always, usual []string, err error) {
	err = s.grubLines(func(_ string, _ int, all bool, words []string) {
		to, self := &usual, "GRUB_CMDLINE_LINUX_DEFAULT"
		if all {
			to, self = &always, "GRUB_CMDLINE_LINUX"
		}
		kept := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "$"+self || w == "${"+self+"}" })
		if len(kept) == len(words) {
			*to = nil
		}
		*to = append(*to, kept...)
	})
	return always, usual, err
}

func argumentState(s *Subject, p argumentParams) (Observation, error) {
	obs, err := argumentConfigured(s, p)
	if yes, known := s.kernel.argument(p.Argument); known && err == nil {
		state := "the kernel was started without " + p.Argument
		if yes {
			state = "the kernel was started with " + p.Argument
		}
		obs = obs.inEffect(state, yes != p.Absent)
	}
	return obs, err
}

func argumentConfigured(s *Subject, p argumentParams) (Observation, error) {
	if s.lookup(grubMain) == nil {
		return absent("grub is not in the image"), nil
	}
	always, usual, err := s.kernelArguments()
	if err != nil {
		return refused(err)
	}
	name, _, _ := strings.Cut(p.Argument, "=")
	last := ""
	for _, w := range always {
		if n, _, _ := strings.Cut(w, "="); n == name {
			last = w
		}
	}
	seen := strings.TrimSpace("kernel arguments: " + strings.Join(always, " "))
	there := last == p.Argument
	if p.Absent {
		there = !slices.Contains(append(always, usual...), p.Argument)
	}
	if there {
		return good(seen), nil
	}
	return bad(seen), nil
}

// argumentApply adds the argument in a file of its own, or takes it out of the lines that have it. Boot entries that
// were made before are made again by update-grub, which the making of a disk runs.
func argumentApply(s *Subject, p argumentParams) error {
	if !p.Absent {
		return s.addLine(grubDropIn, `GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX `+p.Argument+`"`, 0o644)
	}
	hits := []found{}
	if err := s.grubLines(func(file string, line int, _ bool, words []string) {
		if slices.Contains(words, p.Argument) {
			hits = append(hits, found{file: file, line: line})
		}
	}); err != nil {
		return err
	}
	for _, h := range hits {
		lines, err := s.confLines(h.file)
		if err != nil {
			return err
		}
		m := grubLine.FindStringSubmatch(lines[h.line])
		quote := grubQuote(m[2])
		words := slices.DeleteFunc(strings.Fields(strings.Trim(m[2], quote)), func(w string) bool { return w == p.Argument })
		lines[h.line] = m[1] + quote + strings.Join(words, " ") + quote + m[3]
		if err := s.writeLines(h.file, lines, 0o644); err != nil {
			return err
		}
	}
	return nil
}
