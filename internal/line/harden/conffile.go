package harden

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Bounds on configuration that a kind parses; real files have a few kilobytes.
const (
	maxConfig  = 1 << 20 // bytes of one file
	maxDropIns = 1000    // files of one program
)

// refusal is a file that a kind does not judge and never changes, with the line at fault (0: the whole file).
type refusal struct {
	path string
	line int
	what string
}

func (r *refusal) Error() string {
	if r.line == 0 {
		return fmt.Sprintf("/%s: %s", clean(r.path), r.what)
	}
	return fmt.Sprintf("/%s:%d: %s", clean(r.path), r.line, r.what)
}

// refused turns a refusal into the state unknown; other errors stay errors.
func refused(err error) (Observation, error) {
	if r, ok := errors.AsType[*refusal](err); ok {
		return unknown(r.Error()), nil
	}
	return Observation{}, err
}

// confLines returns the lines of a configuration file without their ends; nothing where there is no file.
func (s *Subject) confLines(p string) ([]string, error) {
	e := s.lookup(p)
	switch {
	case e == nil:
		return nil, nil
	case e.Type != 'f' && e.Type != 'h':
		return nil, &refusal{p, 0, "is no regular file"}
	case s.size(e) > maxConfig:
		return nil, &refusal{p, 0, fmt.Sprintf("is larger than %d KiB", maxConfig>>10)}
	}
	data, err := s.text(p)
	if err != nil || len(data) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"), nil
}

// text returns the content of the file that p leads to, and refuses one that is no text.
func (s *Subject) text(p string) ([]byte, error) {
	if e := s.lookup(p); e != nil && e.Type != 'f' && e.Type != 'h' {
		return nil, &refusal{p, 0, "it is no regular file"}
	}
	data, err := s.read(p)
	if err != nil {
		return nil, err
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return nil, &refusal{p, 1 + bytes.Count(data[:i], []byte("\n")), "has a zero byte: it is no text"}
	}
	return data, nil
}

// editable refuses a file that Apply must not write through: a symbolic link's target may belong to something else.
func (s *Subject) editable(p string) error {
	q, ok := s.canonical(p)
	if !ok {
		return s.roomFor(path.Dir(clean(p)))
	}
	switch s.index[q].Type {
	case 'f', 'h':
		return nil
	case 'l':
		return &refusal{p, 0, "is a symbolic link to " + s.index[q].Link + ": replace it by a file"}
	}
	return &refusal{p, 0, "is no regular file"}
}

// roomFor refuses a directory in which nothing can be made: what is there of it must be directories, or links to some.
func (s *Subject) roomFor(dir string) error {
	for ; ; dir = path.Dir(dir) {
		q, ok := s.canonical(dir)
		if !ok && dir != "." {
			continue
		}
		switch e := s.index[q]; {
		case e == nil || e.Type == 'd' || s.isDir(dir):
			return nil
		case e.Type == 'l':
			return &refusal{dir, 0, "is a symbolic link to " + e.Link + ", where no directory is"}
		}
		return &refusal{dir, 0, "is no directory"}
	}
}

// writeLines replaces a file by lines, or makes it with mode.
func (s *Subject) writeLines(p string, lines []string, mode uint32) error {
	if err := s.editable(p); err != nil {
		return err
	}
	text := ""
	if len(lines) > 0 {
		text = strings.Join(lines, "\n") + "\n"
	}
	return s.write(p, []byte(text), mode)
}

// madeByKiln begins every drop-in of ours.
const madeByKiln = "# Hardening; made by kiln."

// addLine appends a line to the drop-in file p, which is made with a comment where it is missing.
func (s *Subject) addLine(p, line string, mode uint32) error {
	lines, err := s.confLines(p)
	if err != nil {
		return err
	}
	if len(lines) == 0 {
		lines = []string{madeByKiln}
	}
	return s.writeLines(p, append(lines, line), mode)
}

// dropIns lists the files of drop-in directories in the order in which systemd-style programs read them: by name, a
// file hides those of the same name in later directories, and a link to /dev/null or an empty file hides only.
func (s *Subject) dropIns(dirs []string, suffix string) ([]string, error) {
	chosen := map[string]string{}
	for _, dir := range dirs {
		real, ok := s.resolve(dir)
		if !ok || s.index[real].Type != 'd' {
			continue
		}
		for _, q := range s.below(real) {
			name := path.Base(q)
			if path.Dir(q) != real || !strings.HasSuffix(name, suffix) || chosen[name] != "" {
				continue
			}
			if e := s.index[q]; e.Type == 'd' || e.Type == 'l' && !s.isFile(q) && e.Link != "/dev/null" {
				continue
			}
			chosen[name] = q
		}
	}
	if len(chosen) > maxDropIns {
		return nil, &refusal{dirs[0], 0, fmt.Sprintf("has more than %d files", maxDropIns)}
	}
	names := make([]string, 0, len(chosen))
	for name := range chosen {
		names = append(names, name)
	}
	slices.Sort(names)
	out := make([]string, 0, len(names))
	for _, name := range names {
		if q, ok := s.resolve(chosen[name]); ok && s.isFile(q) && !slices.Contains(out, q) {
			out = append(out, q)
		}
	}
	return out, nil
}

// found is one line that sets something: where it stands and what it says.
type found struct {
	file  string
	line  int // from 0
	value string
}

func (f *found) at() string { return fmt.Sprintf("/%s:%d", clean(f.file), f.line+1) }

// meets compares values as accepts does, and knows three forms more: "negative" (-1 or less), "one-to" (1 to Value),
// and "zero-or-at-least".
func meets(accept, want string, others []string, seen string) bool {
	switch accept {
	case "negative":
		return strings.HasPrefix(seen, "-") && accepts("at-least", "1", nil, seen[1:])
	case "one-to":
		return accepts("at-least", "1", nil, seen) && accepts("at-most", want, nil, seen)
	case "zero-or-at-least":
		return seen == "0" || accepts("at-least", want, nil, seen)
	}
	return accepts(accept, want, others, seen)
}

func checkMeets(accept, want string) error {
	switch accept {
	case "negative", "zero-or-at-least":
		return nil
	case "one-to":
		accept = "at-most"
	}
	return checkAccept(accept, want)
}

// oneLine reports whether a parameter can stand in a line of its own.
func oneLine(texts ...string) error {
	for _, t := range texts {
		if strings.ContainsAny(t, "\n\r\x00") {
			return fmt.Errorf("%q is not one line", t)
		}
	}
	return nil
}
