package deb

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of control data. The largest stanza seen in a public archive has about 200 kB.
const (
	maxStanza  = 1 << 20
	maxControl = 64 << 20
)

// Field is one field of a paragraph. In Value, lines are separated by "\n" and
// the one character that marks a continuation line is removed.
type Field struct{ Name, Value string }

// Paragraph is one stanza of a control file, its fields in the order of the file.
type Paragraph []Field

// Get returns the value of the field, whose name is compared without regard
// to case; a field that is not there gives "".
func (p Paragraph) Get(name string) string {
	v, _ := p.Lookup(name)
	return v
}

// Lookup is Get that also says whether the field is there.
func (p Paragraph) Lookup(name string) (string, bool) {
	for _, f := range p {
		if strings.EqualFold(f.Name, name) {
			return f.Value, true
		}
	}
	return "", false
}

// ParseControl reads a deb822 text (deb822(5)): paragraphs separated by empty
// lines, "#" lines are comments wherever they stand. A field that stands twice
// in a paragraph, a line that is no field, and text over 64 MiB are errors.
func ParseControl(data []byte) ([]Paragraph, error) {
	if len(data) > maxControl {
		return nil, fmt.Errorf("control text has %d bytes, over the limit of %d", len(data), maxControl)
	}
	var all []Paragraph
	err := eachStanza(bytes.NewReader(data), func(text string, line int) error {
		p, err := parseParagraph(text, line)
		if err == nil && len(p) > 0 {
			all = append(all, p)
		}
		return err
	})
	return all, err
}

func parseParagraph(text string, line int) (Paragraph, error) {
	var p Paragraph
	for l := range strings.Lines(text) {
		l = strings.TrimRight(l, "\r\n")
		switch {
		case strings.HasPrefix(l, "#"):
		case l != "" && (l[0] == ' ' || l[0] == '\t'):
			if len(p) == 0 {
				return nil, fmt.Errorf("line %d: a continuation line before any field", line)
			}
			p[len(p)-1].Value += "\n" + l[1:]
		default:
			name, value, ok := strings.Cut(l, ":")
			if !ok || !validFieldName(name) {
				return nil, fmt.Errorf("line %d: %.60q is neither a field nor its continuation", line, l)
			}
			if _, twice := p.Lookup(name); twice {
				return nil, fmt.Errorf("line %d: field %s stands twice in one paragraph", line, name)
			}
			p = append(p, Field{name, strings.TrimSpace(value)})
		}
		line++
	}
	return p, nil
}

// validFieldName applies Policy 5.1: printable US-ASCII without colon, not beginning with "#" or "-".
func validFieldName(s string) bool {
	if s == "" || s[0] == '-' || s[0] == '#' {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// eachStanza cuts r at empty lines and calls fn with each stanza's text and
// the number of its first line. Lines of white space only count as empty, as
// dpkg reads them.
func eachStanza(r io.Reader, fn func(text string, line int) error) error {
	br := bufio.NewReaderSize(r, 1<<18)
	var stanza []byte
	line, first := 0, 1
	flush := func() error {
		if len(stanza) == 0 {
			return nil
		}
		err := fn(string(stanza), first)
		stanza = stanza[:0]
		return err
	}
	for {
		chunk, err := br.ReadSlice('\n')
		atStart := len(stanza) == 0 || stanza[len(stanza)-1] == '\n'
		if atStart {
			line++
		}
		if atStart && err == nil && blank(chunk) {
			if err := flush(); err != nil {
				return err
			}
			continue
		}
		if len(stanza) == 0 {
			first = line
		}
		stanza = append(stanza, chunk...)
		if len(stanza) > maxStanza {
			return fmt.Errorf("the stanza at line %d is longer than %d bytes", first, maxStanza)
		}
		switch {
		case err == nil || errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return flush()
		default:
			return err
		}
	}
}

func blank(line []byte) bool {
	return line[0] == '\n' || len(bytes.TrimSpace(line)) == 0
}
