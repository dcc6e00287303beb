package harden

import "strings"

// answer is what a program said of its configuration.
type answer struct {
	text  string
	below string // the directory that holds the configuration
}

// effective asks a program of the tree for what is in effect, once as long as
// nothing below the directory of its configuration changes. While a profile is
// applied it is not asked again after every change: files are read then, and the
// program has its say in the round that finds nothing more to do. Nothing is
// returned where there is no such program, or it cannot be run or fails.
func (s *Subject) effective(below string, args ...string) string {
	if s.probe == nil || s.touched[below] {
		return ""
	}
	key := strings.Join(args, "\x00")
	if a, ok := s.answers[key]; ok {
		return a.text
	}
	a := answer{below: below}
	if s.isFile(args[0]) {
		if out, err := s.probe(s.context(), args...); err == nil {
			a.text = string(out)
		}
	}
	if s.answers == nil {
		s.answers = map[string]answer{}
	}
	s.answers[key] = a
	return a.text
}

// outdate forgets answers that a change at p may have made wrong.
func (s *Subject) outdate(p string) {
	for key, a := range s.answers {
		if p == a.below || strings.HasPrefix(p, a.below+"/") {
			delete(s.answers, key)
			if s.touched == nil {
				s.touched = map[string]bool{}
			}
			s.touched[a.below] = true
		}
	}
}
