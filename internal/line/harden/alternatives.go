package harden

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

const alternativesDir = "var/lib/dpkg/alternatives"

// alternative is one file of update-alternatives' database: a link, links that
// go with it, and the choices by priority.
type alternative struct {
	mode    string // auto or manual
	link    string
	slaves  []slave
	choices []choice
}

type slave struct{ name, link string }

type choice struct {
	path     string
	priority int
	slaves   []string // by position; empty where the choice has none
}

// readAlternative reads the format of update-alternatives: status, link, pairs of slave name and link, an empty
// line, then for each choice its path, priority and one line a slave; an empty line ends the file.
func readAlternative(data string) (*alternative, error) {
	lines := strings.Split(data, "\n")
	next := func() (string, bool) {
		if len(lines) == 0 {
			return "", false
		}
		l := lines[0]
		lines = lines[1:]
		return l, true
	}
	a := &alternative{}
	a.mode, _ = next()
	a.link, _ = next()
	for {
		name, ok := next()
		if !ok {
			return nil, errors.New("ends before its choices")
		}
		if name == "" {
			break
		}
		link, _ := next()
		a.slaves = append(a.slaves, slave{name, link})
	}
	for {
		p, ok := next()
		if !ok || p == "" {
			return a, nil
		}
		text, _ := next()
		c := choice{path: p}
		var err error
		if c.priority, err = strconv.Atoi(text); err != nil {
			return nil, fmt.Errorf("priority %q is no number", text)
		}
		for range a.slaves {
			l, _ := next()
			c.slaves = append(c.slaves, l)
		}
		a.choices = append(a.choices, c)
	}
}

func (a *alternative) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n", a.mode, a.link)
	for _, s := range a.slaves {
		fmt.Fprintf(&b, "%s\n%s\n", s.name, s.link)
	}
	b.WriteString("\n")
	for _, c := range a.choices {
		fmt.Fprintf(&b, "%s\n%d\n", c.path, c.priority)
		for _, l := range c.slaves {
			b.WriteString(l + "\n")
		}
	}
	b.WriteString("\n")
	return b.String()
}

// chooseAlternatives brings every alternative whose choices lost files in line: the best choice left, or none at all.
func (s *Subject) chooseAlternatives() error {
	for _, q := range append([]string(nil), s.below(alternativesDir)...) {
		data, err := s.read(q)
		if err != nil {
			continue
		}
		a, err := readAlternative(string(data))
		if err != nil {
			return fmt.Errorf("reading alternative %s: %w", path.Base(q), err)
		}
		if err := s.chooseAlternative(q, a); err != nil {
			return err
		}
	}
	return nil
}

func (s *Subject) chooseAlternative(q string, a *alternative) error {
	var left []choice
	best := -1
	for _, c := range a.choices {
		if s.lookup(c.path) == nil {
			continue
		}
		left = append(left, c)
		if best < 0 || c.priority > left[best].priority {
			best = len(left) - 1
		}
	}
	if len(left) == len(a.choices) {
		return nil
	}
	name := path.Base(q)
	if best < 0 {
		return s.dropAlternative(q, name, a)
	}
	a.choices = left
	if err := s.write(q, []byte(a.String()), 0o644); err != nil {
		return err
	}
	if s.lookup("etc/alternatives/"+name) != nil { // the present choice still exists
		return nil
	}
	if err := s.link("etc/alternatives/"+name, left[best].path); err != nil {
		return err
	}
	for i, sl := range a.slaves {
		at := "etc/alternatives/" + sl.name
		if target := left[best].slaves[i]; target != "" && s.lookup(target) != nil {
			if err := s.link(at, target); err != nil {
				return err
			}
		} else if err := s.remove(at); err != nil {
			return err
		}
	}
	return nil
}

func (s *Subject) dropAlternative(q, name string, a *alternative) error {
	links := []slave{{name, a.link}}
	for _, l := range append(links, a.slaves...) {
		at := "etc/alternatives/" + path.Base(l.name)
		if p, ok := s.canonical(l.link); ok && s.index[p].Type == 'l' && clean(s.index[p].Link) == at {
			if err := s.remove(p); err != nil {
				return err
			}
		}
		if err := s.remove(at); err != nil {
			return err
		}
	}
	return s.remove(q)
}
