package scan

import (
	"bufio"
	"bytes"
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

//go:embed spdx-licenses.txt
var spdxList string

// spdxIDs returns the licences and the exceptions of the SPDX list, lower case -> as written.
var spdxIDs = sync.OnceValues(func() (licences, exceptions map[string]string) {
	licences, exceptions = map[string]string{}, map[string]string{}
	into := licences
	for line := range strings.Lines(spdxList) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			into = exceptions
		case line[0] != '#':
			into[strings.ToLower(line)] = line
		}
	}
	return licences, exceptions
})

// copyrightLicenses returns the licences that a copyright file in Debian's machine-readable format (DEP-5) declares
// for files: SPDX expressions where the short name has one, else the short name as written. Other formats give nil.
func copyrightLicenses(text []byte) []string {
	start := strings.ToLower(string(text[:min(len(text), 400)]))
	if !strings.Contains(start, "format:") || !strings.Contains(start, "copyright-format") && !strings.Contains(start, "dep5") {
		return nil
	}
	var out []string
	err := stanzas(text, func(field map[string]string) error {
		if field["Files"] != "" || field["Format"] != "" {
			short, _, _ := strings.Cut(field["License"], "\n")
			out = append(out, licenses(short)...)
		}
		return nil
	})
	if err != nil {
		return nil
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// licenses returns what one licence field says: an SPDX expression, or the text as it stands.
func licenses(text string) []string {
	text = strings.Join(strings.Fields(printable(text)), " ")
	if text == "" || len(text) > 250 {
		return nil
	}
	if e, ok := spdxExpression(text); ok {
		return []string{e}
	}
	return []string{text}
}

// isExpression reports whether a licence of a component is an SPDX expression rather than a name.
func isExpression(text string) bool {
	e, ok := spdxExpression(text)
	return ok && e == text
}

var words = regexp.MustCompile(`[()]|[^\s()]+`)

// spdxExpression rewrites a licence field, SPDX or Debian's short form, as an SPDX expression.
// Anything it does not understand completely is refused.
func spdxExpression(text string) (string, bool) {
	text = strings.ReplaceAll(text, "and/or", "or")
	text = strings.ReplaceAll(text, ",", "")
	p := &expression{words: words.FindAllString(text, 64)}
	out, ok := p.sum(0)
	return out, ok && len(p.words) == 0
}

// expression is a recursive-descent reader: OR binds weaker than AND, which binds weaker than WITH.
type expression struct{ words []string }

func (p *expression) peek() string {
	if len(p.words) == 0 {
		return ""
	}
	return strings.ToUpper(p.words[0])
}

func (p *expression) next() string {
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

func (p *expression) sum(depth int) (string, bool) { return p.list("OR", depth, p.product) }

func (p *expression) product(depth int) (string, bool) { return p.list("AND", depth, p.term) }

func (p *expression) list(operator string, depth int, part func(int) (string, bool)) (string, bool) {
	left, ok := part(depth)
	for ok && p.peek() == operator {
		p.next()
		var right string
		right, ok = part(depth)
		left += " " + operator + " " + right
	}
	return left, ok
}

func (p *expression) term(depth int) (string, bool) {
	if len(p.words) == 0 || depth > 16 {
		return "", false
	}
	if p.peek() == "(" {
		p.next()
		inner, ok := p.sum(depth + 1)
		if !ok || p.peek() != ")" {
			return "", false
		}
		p.next()
		return "(" + inner + ")", true
	}
	id, ok := spdxID(p.next())
	if !ok || p.peek() != "WITH" {
		return id, ok
	}
	p.next()
	return p.exception(id)
}

// exception reads what follows WITH: an SPDX exception or Debian's "NAME exception".
func (p *expression) exception(id string) (string, bool) {
	if len(p.words) == 0 {
		return "", false
	}
	name := strings.ToLower(p.next())
	if p.peek() == "EXCEPTION" {
		p.next()
		name = debianException[name]
	}
	_, exceptions := spdxIDs()
	known, ok := exceptions[name]
	return id + " WITH " + known, ok
}

// debianException holds the exceptions whose Debian name means one text only.
var debianException = map[string]string{"font": "font-exception-2.0", "classpath": "classpath-exception-2.0", "libtool": "libtool-exception"}

// debianShort maps short names of Debian's format that SPDX writes differently. "BSD" alone stays a
// name: it stands for several texts.
var debianShort = map[string]string{
	"expat": "MIT", "artistic": "Artistic-1.0", "zlib/libpng": "Zlib", "cc0": "CC0-1.0", "psf-2": "PSF-2.0", "python": "Python-2.0", "openssl": "OpenSSL",
	"boost-1.0": "BSL-1.0", "bsl-1": "BSL-1.0", "mpl-2": "MPL-2.0", "apache-2": "Apache-2.0", "perl": "Artistic-1.0-Perl OR GPL-1.0-or-later",
	"unicode": "Unicode-DFS-2016", "lppl-1.3c": "LPPL-1.3c", "ofl-1.1": "OFL-1.1", "cc-by-sa-3": "CC-BY-SA-3.0", "cc-by-sa-4": "CC-BY-SA-4.0",
}

var gnuFamily = regexp.MustCompile(`^(a?gpl|lgpl|gfdl)-?v?([0-9](?:\.[0-9])?)(?:\.0)?(\+|-or-later|-only)?$`)

func spdxID(short string) (string, bool) {
	lower := strings.ToLower(short)
	if to, ok := debianShort[lower]; ok {
		if strings.Contains(to, " ") {
			to = "(" + to + ")"
		}
		return to, true
	}
	licences, _ := spdxIDs()
	if m := gnuFamily.FindStringSubmatch(lower); m != nil {
		version := m[2]
		if !strings.Contains(version, ".") {
			version += ".0"
		}
		suffix := "-only"
		if m[3] == "+" || m[3] == "-or-later" {
			suffix = "-or-later"
		}
		lower = m[1] + "-" + version + suffix
	}
	id, ok := licences[lower]
	if !ok && strings.HasSuffix(lower, "+") {
		if id, ok = licences[strings.TrimSuffix(lower, "+")]; ok {
			id += "+"
		}
	}
	return id, ok
}

// maxLine bounds a line of a copyright file.
const maxLine = 1 << 20

// stanzas reads paragraphs of "Field: value" with continuation lines; values keep their line breaks. People write
// copyright files by hand, and dpkg never reads them: unlike internal/deb, it takes a field that stands twice and a
// line that is none, so that a slip does not cost the licences of a whole package.
func stanzas(text []byte, fn func(map[string]string) error) error {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(make([]byte, 64<<10), maxLine)
	field, name := map[string]string{}, ""
	var value strings.Builder
	endField := func() {
		if name != "" {
			field[name] = value.String()
		}
		name = ""
		value.Reset()
	}
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.TrimSpace(line) == "":
			endField()
			if err := emit(field, fn); err != nil {
				return err
			}
			clear(field)
		case line[0] == ' ' || line[0] == '\t':
			value.WriteString("\n" + strings.TrimSpace(line))
		case line[0] == '#':
		default:
			endField()
			key, first, _ := strings.Cut(line, ":")
			name = key
			value.WriteString(strings.TrimSpace(first))
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading paragraphs: %w", err)
	}
	endField()
	return emit(field, fn)
}

func emit(field map[string]string, fn func(map[string]string) error) error {
	if len(field) == 0 {
		return nil
	}
	return fn(field)
}
