// Package secret finds credentials in files, variables and command lines:
// private keys, tokens whose form their makers publish, passwords in addresses
// and in the files where programs keep them. The rules are data, in rules.yaml.
//
// A finding names place and kind and never repeats the secret: at most four of
// its characters, and never more than a quarter, are kept to recognise it by.
package secret

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"
)

// MaxFile is how many bytes of a file are looked at; what follows is not.
const MaxFile = 8 << 20

// maxFindings bounds the findings of one file.
const maxFindings = 20

// How far after a word its expression looks, in bytes: keys are long.
const (
	window     = 700
	longWindow = 4 << 10
)

// maxEffort bounds the bytes of one file that are given to expressions.
const maxEffort = 2 << 20

// ErrTooDense says that a file has so many beginnings of secrets that it was not looked at to its end.
var ErrTooDense = errors.New("too many places that look like the beginning of a secret")

//go:embed rules.yaml
var rulesFile []byte

// Finding is a secret that was seen.
type Finding struct {
	Rule   string // its id in rules.yaml, or "variable"
	Title  string // what it is, for people
	Line   int    // from 1
	Masked string // the first characters, at most four, and "***"
}

func (f Finding) String() string { return fmt.Sprintf("%s %s (line %d)", f.Title, f.Masked, f.Line) }

// rule is an entry of rules.yaml.
type rule struct {
	ID      string   `yaml:"id"`
	Title   string   `yaml:"title"`
	Words   []string `yaml:"words"`
	Also    string   `yaml:"also"` // must follow the word, too
	Match   string   `yaml:"match"`
	Paths   []string `yaml:"paths"`
	Entropy float64  `yaml:"entropy"`
	Binary  bool     `yaml:"binary"` // looked for in files that are no text, too
	Loose   bool     `yaml:"loose"`
	Long    bool     `yaml:"long"`  // reaches over many lines
	Whole   bool     `yaml:"whole"` // the file is the secret, whatever is in it

	expression *regexp.Regexp
}

// word is a word to look for, with the rules that it belongs to.
type word struct {
	text  []byte
	rules []*rule
}

// engine is the rules, ready for use.
type engine struct {
	rules  []*rule
	words  []word
	text   table // of all words
	binary table // of those that are looked for in files that are no text, too
}

// table finds words by their first two bytes.
type table struct {
	starts [1 << 16]uint16 // -> 1 + place in lists, 0 where no word begins so
	lists  [][]int
}

var compiled = sync.OnceValue(func() *engine {
	e, err := compile(rulesFile)
	if err != nil {
		panic("internal error: secret: rules.yaml: " + err.Error())
	}
	return e
})

func compile(raw []byte) (*engine, error) {
	e := &engine{}
	if err := yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict()).Decode(&e.rules); err != nil {
		return nil, err
	}
	at := map[string]int{}
	for _, r := range e.rules {
		if err := r.compile(); err != nil {
			return nil, fmt.Errorf("rule %s: %w", r.ID, err)
		}
		if len(r.Paths) > 0 {
			continue // these look for their words themselves, in the few files that they are for
		}
		for _, w := range r.Words {
			i, ok := at[w]
			if !ok {
				i = len(e.words)
				at[w] = i
				e.words = append(e.words, word{text: []byte(w)})
				e.text.enter(w, i)
				if r.Binary {
					e.binary.enter(w, i)
				}
			}
			e.words[i].rules = append(e.words[i].rules, r)
		}
	}
	return e, nil
}

// enter makes word i findable by its first two bytes.
func (e *table) enter(w string, i int) {
	start := &e.starts[int(w[0])|int(w[1])<<8]
	if *start == 0 {
		e.lists = append(e.lists, nil)
		*start = uint16(len(e.lists))
	}
	e.lists[*start-1] = append(e.lists[*start-1], i)
}

func (r *rule) compile() error {
	switch {
	case r.ID == "" || r.Title == "":
		return fmt.Errorf("needs an id and a title")
	case r.Whole != (r.Match == ""):
		return fmt.Errorf("needs an expression, or is about whole files")
	case r.Whole && len(r.Paths) == 0, !r.Whole && len(r.Words) == 0:
		return fmt.Errorf("needs words, or paths where it is about whole files")
	case len(r.Paths) == 0 && slices.ContainsFunc(r.Words, func(w string) bool { return len(w) < 2 }):
		return fmt.Errorf("its words need two characters")
	}
	for _, p := range r.Paths {
		if _, err := path.Match(p, ""); err != nil {
			return err
		}
	}
	var err error
	if r.Match != "" {
		r.expression, err = regexp.Compile(r.Match)
	}
	return err
}

// about says that the rule is for a file with that path.
func (r *rule) about(file string) bool {
	return len(r.Paths) == 0 || slices.ContainsFunc(r.Paths, func(p string) bool {
		parts := strings.Split(file, "/")
		n := strings.Count(p, "/") + 1
		if n > len(parts) {
			return false
		}
		ok, _ := path.Match(p, strings.Join(parts[len(parts)-n:], "/"))
		return ok
	})
}

// File looks at a file: path decides which rules apply, relative to the root of
// its tree. At most MaxFile bytes are read. Findings are in the order of lines,
// at most twenty; an error is one of reading, or ErrTooDense.
func File(file string, r io.Reader) ([]Finding, error) {
	buffer := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buffer)
	buffer.Reset()
	if _, err := buffer.ReadFrom(io.LimitReader(r, MaxFile)); err != nil {
		return nil, err
	}
	return Bytes(file, buffer.Bytes()) // findings keep copies, never the bytes
}

// buffers hold a file at a time; an image has tens of thousands.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// Bytes is File for content that is in memory.
func Bytes(file string, data []byte) ([]Finding, error) {
	s := newSearch(file, data)
	s.loose = s.text && !examples(file)
	s.named()
	s.everywhere()
	if environmentFile(file) && s.text {
		s.assignments()
	}
	slices.SortStableFunc(s.found, func(a, b Finding) int { return a.Line - b.Line })
	if s.effort > maxEffort && len(s.found) == 0 {
		return nil, ErrTooDense
	}
	return s.found, nil
}

func newSearch(file string, data []byte) *search {
	return &search{engine: compiled(), file: file, data: data, text: !isBinary(data), seen: map[string]bool{}, done: map[*rule]int{}}
}

// valueOf looks at a text that is no file.
func valueOf(text string) []Finding {
	s := newSearch("", []byte(text))
	s.text, s.loose, s.plain = true, true, true
	s.everywhere()
	return s.found
}

// search is one file being looked at.
type search struct {
	*engine
	file  string
	data  []byte
	text  bool // no binary
	loose bool // loose rules apply
	plain bool // a value of its own, where well-known words are no example
	seen  map[string]bool
	done  map[*rule]int // where a rule's last match ended
	found []Finding

	effort int // bytes given to expressions
}

// named applies the rules for files of that name.
func (s *search) named() {
	for _, r := range s.rules {
		switch {
		case len(r.Paths) == 0 || !r.about(s.file):
		case r.Whole && len(bytes.TrimSpace(s.data)) > 0:
			s.add(r, nil, 0)
		case r.Whole || !slices.ContainsFunc(r.Words, func(w string) bool { return bytes.Contains(s.data, []byte(w)) }):
		default:
			s.try(r, 0, min(len(s.data), 1<<20))
		}
	}
}

// everywhere looks for the words of all other rules in one pass.
func (s *search) everywhere() {
	data, in := s.data, &s.engine.text
	if !s.text {
		in = &s.engine.binary
	}
	for i := 0; i+1 < len(data); i++ {
		start := in.starts[int(data[i])|int(data[i+1])<<8]
		if start == 0 {
			continue
		}
		for _, at := range in.lists[start-1] {
			w := &s.words[at]
			if !bytes.HasPrefix(data[i:], w.text) {
				continue
			}
			for _, r := range w.rules {
				if !r.Binary && !s.text || r.Loose && !s.loose {
					continue
				}
				if end := s.end(r, i); bytes.Contains(data[i:end], []byte(r.Also)) {
					s.try(r, max(s.lineStart(i), s.done[r]), end)
				}
			}
		}
		if len(s.found) >= maxFindings || s.effort > maxEffort {
			return
		}
	}
}

// end is how far a rule's expression looks from a word at i: to the end of the line, unless it reaches over lines.
func (s *search) end(r *rule, i int) int {
	if r.Long {
		return min(len(s.data), i+longWindow)
	}
	end := min(len(s.data), i+window)
	if n := bytes.IndexByte(s.data[i:end], '\n'); n >= 0 {
		return i + n
	}
	return end
}

// lineStart is where the line of a place begins, or 128 bytes before it.
func (s *search) lineStart(at int) int {
	from := max(0, at-128)
	if i := bytes.LastIndexByte(s.data[from:at], '\n'); i >= 0 {
		return from + i + 1
	}
	return from
}

// try looks for a rule's matches in a part of the file.
func (s *search) try(r *rule, from, to int) {
	for from < to && len(s.found) < maxFindings {
		s.effort += to - from
		m := r.expression.FindSubmatchIndex(s.data[from:to])
		if m == nil {
			return
		}
		begin, end := m[0], m[1]
		if len(m) > 2 && m[2] >= 0 {
			begin, end = m[2], m[3]
		}
		value := s.data[from+begin : from+end]
		if !s.harmless(r, string(value), s.line(from+m[0])) {
			s.add(r, value, from+m[0])
		}
		if len(r.Paths) == 0 {
			s.done[r] = from + end
			return // the next word leads to the next match
		}
		from += max(m[1], m[0]+1)
	}
}

// line is the text of a line, for telling examples; at most 512 bytes.
func (s *search) line(at int) string {
	from := s.lineStart(at)
	end := min(len(s.data), from+512)
	if i := bytes.IndexByte(s.data[from:end], '\n'); i >= 0 {
		end = from + i
	}
	return string(s.data[from:end])
}

func (s *search) add(r *rule, value []byte, at int) {
	f := Finding{Rule: r.ID, Title: r.Title, Line: 1 + bytes.Count(s.data[:at], []byte{'\n'}), Masked: Mask(string(value))}
	// The same place is one finding, though several rules or words lead to it.
	if key := fmt.Sprint(f.Line, string(value)); !s.seen[key] {
		s.seen[key] = true
		s.found = append(s.found, f)
	}
}

// Mask keeps what is needed to recognise a secret: its first characters, at most four and at most a quarter.
func Mask(value string) string {
	n := min(4, len(value)/4)
	for n > 0 && value[n-1] >= 0x80 {
		n--
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, value[:n]) + "***"
}

// isBinary is git's test: a zero byte near the beginning.
func isBinary(data []byte) bool { return bytes.IndexByte(data[:min(len(data), 8000)], 0) >= 0 }

// entropy is that of the characters of a text, in bits each.
func entropy(text string) float64 {
	var counts [256]int
	for i := range len(text) {
		counts[text[i]]++
	}
	sum := 0.0
	for _, n := range counts {
		if n > 0 {
			p := float64(n) / float64(len(text))
			sum -= p * math.Log2(p)
		}
	}
	return sum
}
