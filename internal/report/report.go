// Package report tells people what a build did and why: a self-contained HTML
// page, the canonical record, and the difference of two builds.
//
// The page loads nothing: style and script are inside it and named by digest in
// its content security policy. Everything shown comes from the record, is
// escaped by html/template, and has its control characters made visible.
package report

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"kiln"
)

var (
	//go:embed report.html
	pageText string
	//go:embed report.css
	styleText string
	//go:embed report.js
	scriptText string
)

// Command is a command line that a reader can copy, and what it is for.
type Command struct{ Purpose, Line string }

// Options is what the page says besides the record.
type Options struct {
	// Verify are the commands with which anybody checks signature and statements; shown as they are.
	Verify []Command
	// Reproduce are the commands that make the same bytes again.
	Reproduce []Command
}

// JSON returns the canonical record of the build.
func JSON(b *kiln.Build) ([]byte, error) {
	text, err := kiln.Encode(b)
	if err != nil {
		return nil, fmt.Errorf("encoding the build record: %w", err)
	}
	return text, nil
}

// HTML writes the page of one build. Stations that did not run are said to be
// missing. More than one Options are joined.
func HTML(w io.Writer, b *kiln.Build, options ...Options) error {
	shown, err := visible(b)
	if err != nil {
		return fmt.Errorf("preparing the report: %w", err)
	}
	var all Options
	for _, o := range options {
		all.Verify = append(all.Verify, o.Verify...)
		all.Reproduce = append(all.Reproduce, o.Reproduce...)
	}
	if err := page.Execute(w, newView(shown, all)); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

var page = template.Must(template.New("report.html").Funcs(functions).Parse(pageText))

// Dress is what pages of Kiln have in common: their style, script, and the
// content security policy that allows those two and nothing else.
type Dress struct {
	Style  template.CSS
	Script template.JS
	Policy string
}

// NewDress returns the dress of every page.
func NewDress() Dress {
	return Dress{Style: template.CSS(styleText), Script: template.JS(scriptText), Policy: securityPolicy()}
}

// Template parses the text of another page, which may use the functions and the definitions (digest, pill, text, reference)
// of the build's.
func Template(name, text string) (*template.Template, error) {
	base, err := template.New("report.html").Funcs(functions).Parse(pageText)
	if err != nil {
		return nil, err
	}
	return base.New(name).Parse(text)
}

// visible returns a copy of the record in which every string is as VisibleText makes it.
func visible(b *kiln.Build) (*kiln.Build, error) {
	text, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	var any any
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.UseNumber()
	if err := dec.Decode(&any); err != nil {
		return nil, err
	}
	if text, err = json.Marshal(visibleValue(any)); err != nil {
		return nil, err
	}
	out := new(kiln.Build)
	return out, json.Unmarshal(text, out)
}

func visibleValue(v any) any {
	switch v := v.(type) {
	case string:
		return VisibleText(v)
	case []any:
		for i := range v {
			v[i] = visibleValue(v[i])
		}
		return v
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			out[VisibleText(key)] = visibleValue(value)
		}
		return out
	}
	return v
}

// VisibleText returns a text that cannot reorder or hide what stands around it,
// and that every kind of file can hold: control and format characters other than
// line breaks and tabs are written as escapes, what is no UTF-8 as U+FFFD.
func VisibleText(s string) string {
	hidden := func(r rune) bool {
		return r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r&0xfffe == 0xfffe) // the last are no characters
	}
	if plain(s) || utf8.ValidString(s) && !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// plain is the fast answer for most texts: printable ASCII, line breaks and tabs.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < ' ' || c > '~') && c != '\n' && c != '\t' {
			return false
		}
	}
	return true
}

// securityPolicy allows the page's own style and script by digest and nothing else.
func securityPolicy() string {
	return fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; script-src 'sha256-%s'; base-uri 'none'; form-action 'none'",
		sourceDigest(styleText), sourceDigest(scriptText))
}

func sourceDigest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}
