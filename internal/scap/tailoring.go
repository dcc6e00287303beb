package scap

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Tailoring is an XCCDF tailoring file: profiles that change a benchmark's.
type Tailoring struct {
	ID        string
	Benchmark string // address or id
	Version   string
	Profiles  []Profile
}

// maxTailoring bounds a tailoring file.
const maxTailoring = 8 << 20

// ReadTailoring reads a tailoring file of XCCDF 1.2, or of 1.1 as older tools wrote it.
func ReadTailoring(r io.Reader) (*Tailoring, error) {
	var t *Tailoring
	choices := 0
	start := func(stack []*element) error {
		e := stack[len(stack)-1]
		switch {
		case e.name == "Tailoring" && t == nil:
			t = &Tailoring{ID: e.attr["id"]}
		case e.name == "Profile" && t != nil && under(stack, "Tailoring"):
			if len(t.Profiles) >= 1000 {
				return errors.New("holds more than 1000 profiles")
			}
			t.Profiles = append(t.Profiles, Profile{ID: e.attr["id"], Extends: e.attr["extends"]})
		}
		return nil
	}
	end := func(stack []*element, _ int64) error {
		e := stack[len(stack)-1]
		if t == nil {
			return nil
		}
		switch {
		case under(stack, "Tailoring") && e.name == "version":
			t.Version = e.words()
		case under(stack, "Tailoring") && e.name == "benchmark":
			t.Benchmark = e.attr["href"]
			if t.Benchmark == "" {
				t.Benchmark = e.attr["id"]
			}
		case under(stack, "Profile") && e.name == "title":
			t.Profiles[len(t.Profiles)-1].Title = e.words()
		case under(stack, "Profile"):
			if c, ok := choiceOf(e); ok {
				choices++
				t.Profiles[len(t.Profiles)-1].Choices = append(t.Profiles[len(t.Profiles)-1].Choices, c)
			}
		}
		return room(choices, "choices")
	}
	limited := &io.LimitedReader{R: r, N: maxTailoring + 1}
	err := scan(limited, visitor{keep: names("title", "version", "set-value"), start: start, end: end})
	switch {
	case limited.N <= 0:
		return nil, fmt.Errorf("is larger than %d MiB", maxTailoring>>20)
	case err != nil:
		return nil, err
	case t == nil:
		return nil, errors.New("is no XCCDF tailoring: it has no Tailoring element")
	case len(t.Profiles) == 0:
		return nil, errors.New("has no profile")
	}
	return t, nil
}

// Profile returns the profile with that id or the id's last part; the only one where id is empty.
func (t *Tailoring) Profile(id string) (*Profile, error) {
	var known []string
	for i := range t.Profiles {
		p := &t.Profiles[i]
		if p.ID == id || Short(p.ID) == id || id == "" && len(t.Profiles) == 1 {
			return p, nil
		}
		known = append(known, Short(p.ID))
	}
	if id == "" {
		return nil, fmt.Errorf("the tailoring has several profiles, choose one: %s", strings.Join(known, ", "))
	}
	return nil, fmt.Errorf("the tailoring has no profile %.80q; there are %s", id, strings.Join(known, ", "))
}
