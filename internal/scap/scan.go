// Package scap works with other people's security content and results: it reads
// XCCDF benchmarks (alone or in a data stream), tailoring files and results, runs
// the OpenSCAP program where it is installed, and compares its results with Kiln's.
//
// Documents come from strangers. They are read as a stream, never as a tree; their
// size, depth and lists are bounded, and a document type (by which entities are
// defined) is refused.
package scap

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	// maxDocument bounds a document: the largest published data streams have some 40 MB, results with a data stream inside more.
	maxDocument = 256 << 20
	// maxDepth bounds how deep elements stand in each other.
	maxDepth = 100
	// maxText bounds the text kept of one element.
	maxText = 16 << 10
	// maxItems bounds every list: benchmarks, profiles, rules, values, selections, results.
	maxItems = 50_000
)

// The name spaces of XCCDF.
const (
	xccdf11 = "http://checklists.nist.gov/xccdf/1.1"
	xccdf12 = "http://checklists.nist.gov/xccdf/1.2"
)

// element is an open XCCDF element; elements of other name spaces have no name.
type element struct {
	name    string
	attr    map[string]string // by local name
	text    strings.Builder   // its own and its children's, where it is kept
	keeps   bool
	offset  int64 // where it begins in the document
	content int64 // where its content begins
}

// visitor is told of XCCDF elements: stack holds the open ones, the element itself last.
type visitor struct {
	// keep names the elements whose text is kept.
	keep  map[string]bool
	start func(stack []*element) error
	end   func(stack []*element, after int64) error
}

func names(list ...string) map[string]bool {
	out := map[string]bool{}
	for _, n := range list {
		out[n] = true
	}
	return out
}

// scan reads a document to its end.
func scan(r io.Reader, v visitor) error {
	limited := &io.LimitedReader{R: r, N: maxDocument + 1}
	dec := xml.NewDecoder(limited)
	var stack []*element
	for seen := false; ; seen = true {
		before := dec.InputOffset()
		tok, err := dec.Token()
		switch {
		case limited.N <= 0:
			return fmt.Errorf("is larger than %d MiB", maxDocument>>20)
		case errors.Is(err, io.EOF) && seen:
			return nil
		case err != nil:
			return fmt.Errorf("is no well-formed XML: %w", err)
		}
		if stack, err = v.take(tok, stack, before, dec.InputOffset()); err != nil {
			line, _ := dec.InputPos()
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}

func (v visitor) take(tok xml.Token, stack []*element, before, after int64) ([]*element, error) {
	switch t := tok.(type) {
	case xml.Directive:
		return stack, errors.New("a document type is not read: it could define entities")
	case xml.StartElement:
		if len(stack) >= maxDepth {
			return stack, fmt.Errorf("elements stand in each other more than %d deep", maxDepth)
		}
		e := v.open(t, before, after)
		stack = append(stack, e)
		if e.name != "" && v.start != nil {
			return stack, v.start(stack)
		}
	case xml.CharData:
		keepText(stack, t)
	case xml.EndElement: // the decoder has checked that it fits
		e := stack[len(stack)-1]
		var err error
		if e.name != "" && v.end != nil {
			err = v.end(stack, after)
		}
		return stack[:len(stack)-1], err
	}
	return stack, nil
}

func (v visitor) open(t xml.StartElement, before, after int64) *element {
	e := &element{offset: before, content: after}
	if t.Name.Space != xccdf11 && t.Name.Space != xccdf12 {
		return e
	}
	e.name, e.keeps = t.Name.Local, v.keep[t.Name.Local]
	e.attr = make(map[string]string, len(t.Attr))
	for _, a := range t.Attr {
		if a.Name.Space == "" || a.Name.Space == "http://www.w3.org/XML/1998/namespace" {
			e.attr[a.Name.Local] = clip(a.Value, maxText)
		}
	}
	return e
}

// keepText gives text to the innermost element that keeps it.
func keepText(stack []*element, text []byte) {
	for i := len(stack) - 1; i >= 0; i-- {
		if stack[i].keeps {
			if room := maxText - stack[i].text.Len(); room > 0 {
				stack[i].text.Write(text[:min(room, len(text))])
			}
			return
		}
	}
}

// words is the element's text with its white space tidied.
func (e *element) words() string {
	return strings.ToValidUTF8(strings.Join(strings.Fields(e.text.String()), " "), "\uFFFD")
}

// under reports whether the element stands directly in one of that name; wrappers of other name spaces do not count.
func under(stack []*element, parent string) bool {
	return len(stack) > 1 && stack[len(stack)-2].name == parent
}

// inside returns the innermost open element of that name, or nil.
func inside(stack []*element, name string) *element {
	for i := len(stack) - 1; i >= 0; i-- {
		if stack[i].name == name {
			return stack[i]
		}
	}
	return nil
}

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// room refuses a list that is full.
func room(n int, what string) error {
	if n >= maxItems {
		return fmt.Errorf("holds more than %d %s", maxItems, what)
	}
	return nil
}

// openFile opens a regular file: a pipe would wait for ever.
func openFile(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	return os.Open(path)
}

// readFile reads the file at path by one of this package's readers.
func readFile[T any](path string, read func(io.Reader) (T, error)) (T, error) {
	var none T
	f, err := openFile(path)
	if err != nil {
		return none, err
	}
	defer f.Close()
	v, err := read(f)
	if err != nil {
		return none, fmt.Errorf("reading %s: %w", path, err)
	}
	return v, nil
}
