package recipe

import (
	"reflect"
	"strings"

	"kiln"
	"kiln/internal/strictyaml"
)

// hooks read the short forms. Each returns false for the long form, a mapping.
var hooks = map[reflect.Type]strictyaml.Hook{
	reflect.TypeFor[kiln.AptBase]():        aptBase,
	reflect.TypeFor[kiln.PackageRequest](): packageRequest,
	reflect.TypeFor[kiln.Variable]():       variable,
	reflect.TypeFor[kiln.Recipe]():         commands("entrypoint", "command"),
	reflect.TypeFor[kiln.Healthcheck]():    commands("command"),
	reflect.TypeFor[kiln.RunTest]():        runTest,
	reflect.TypeFor[kiln.HTTPTest]():       scalarInto(func(t *kiln.HTTPTest, s string) { t.URL = s }),
	reflect.TypeFor[kiln.TCPTest]():        tcpTest,
	reflect.TypeFor[kiln.FileTest]():       scalarInto(func(t *kiln.FileTest, s string) { t.Path = s }),
	reflect.TypeFor[kiln.ProcessTest]():    scalarInto(func(t *kiln.ProcessTest, s string) { t.Name = s }),
	reflect.TypeFor[kiln.PortsTest]():      portsTest,
	reflect.TypeFor[kiln.Duration]():       duration,
}

// scalarInto makes the hook of a type whose short form is one text.
func scalarInto[T any](set func(*T, string)) strictyaml.Hook {
	return func(_ *strictyaml.Decoder, n *strictyaml.Node, v reflect.Value, _ string) bool {
		if !n.Scalar() {
			return false
		}
		set(v.Addr().Interface().(*T), n.Text)
		return true
	}
}

func aptBase(d *strictyaml.Decoder, n *strictyaml.Node, v reflect.Value, path string) bool {
	if !n.Scalar() {
		return false
	}
	if n.Text != "machine" {
		d.Fail(n, path, `is the word "machine" or a mapping`, "write apt: machine, or apt: {release: bookworm, archives: [...]}")
		return true
	}
	v.Set(reflect.ValueOf(kiln.AptBase{Machine: true}))
	return true
}

// packageRequest reads NAME, NAME=VERSION and NAME/SUITE, as apt-get install does.
func packageRequest(d *strictyaml.Decoder, n *strictyaml.Node, v reflect.Value, path string) bool {
	if !n.Scalar() {
		return false
	}
	var p kiln.PackageRequest
	if name, version, ok := strings.Cut(n.Text, "="); ok {
		p.Name, p.Version = name, version
		if version == "" {
			d.Fail(n, path, "has no version after =", "write NAME=VERSION, or the name alone")
		}
	} else if name, suite, ok := strings.Cut(n.Text, "/"); ok {
		p.Name, p.Suite = name, suite
		if suite == "" {
			d.Fail(n, path, "has no suite after /", "write NAME/SUITE, or the name alone")
		}
	} else {
		p.Name = n.Text
	}
	v.Set(reflect.ValueOf(p))
	return true
}

var variable = scalarInto(func(v *kiln.Variable, s string) { v.Default = &s })

// runTest reads a text, which goes to /bin/sh -c, a list, which is the command, and the mapping.
func runTest(d *strictyaml.Decoder, n *strictyaml.Node, v reflect.Value, path string) bool {
	t := v.Addr().Interface().(*kiln.RunTest)
	switch {
	case n.Scalar():
		t.Command = shell(n.Text)
		return true
	case n.Kind == strictyaml.Sequence:
		d.Value(n, reflect.ValueOf(&t.Command).Elem(), path)
		return true
	}
	if c := n.Get("command"); c != nil && c.Scalar() {
		inPlace(c, shell(c.Text))
	}
	return false
}

func shell(text string) []string { return []string{"/bin/sh", "-c", text} }

// inPlace turns a text into the list that it stands for.
func inPlace(n *strictyaml.Node, args []string) {
	text := *n
	n.Kind, n.Text = strictyaml.Sequence, ""
	for _, a := range args {
		item := text
		item.Kind, item.Text = strictyaml.Text, a
		n.Items = append(n.Items, &item)
	}
}

// commands makes the hook of a type with commands that may be written as one
// line: it is split into words where a shell would, and nothing else of a shell
// is understood, because a hardened image has none.
func commands(fields ...string) strictyaml.Hook {
	return func(d *strictyaml.Decoder, n *strictyaml.Node, _ reflect.Value, path string) bool {
		for _, field := range fields {
			c := n.Get(field)
			if n.Kind != strictyaml.Mapping || c == nil || !c.Scalar() {
				continue
			}
			words, problem := Split(c.Text)
			if problem != "" {
				d.Fail(c, strictyaml.Join(path, field), problem, `write a list; for a shell: ["/bin/sh", "-c", "..."]`)
			}
			inPlace(c, words)
		}
		return false
	}
}

func tcpTest(_ *strictyaml.Decoder, n *strictyaml.Node, v reflect.Value, _ string) bool {
	t := v.Addr().Interface().(*kiln.TCPTest)
	if n.Scalar() {
		t.Address = tcpAddress(n.Text)
		return true
	}
	if a := n.Get("address"); a != nil && a.Scalar() {
		a.Kind, a.Text = strictyaml.Text, tcpAddress(a.Text)
	}
	return false
}

func tcpAddress(s string) string {
	if s != "" && strings.Trim(s, "0123456789") == "" {
		return "127.0.0.1:" + s
	}
	return s
}

func portsTest(d *strictyaml.Decoder, n *strictyaml.Node, v reflect.Value, path string) bool {
	if n.Kind != strictyaml.Sequence && !n.Scalar() {
		return false
	}
	t := v.Addr().Interface().(*kiln.PortsTest)
	t.Ports = []string{}
	d.Value(n, reflect.ValueOf(&t.Ports).Elem(), path)
	return true
}

func duration(d *strictyaml.Decoder, n *strictyaml.Node, _ reflect.Value, path string) bool {
	if n.Kind != strictyaml.Number || n.Text == "0" {
		return false
	}
	d.Fail(n, path, "is a duration without a unit", "write "+n.Text+"s for seconds, "+n.Text+"m for minutes")
	return true
}

// Split divides a command line into words as a shell does: blanks separate,
// single and double quotes and the backslash protect. A character that would
// need a shell to act on it is a problem, returned as text; words is then nil.
func Split(line string) (words []string, problem string) {
	s := splitter{}
	for _, c := range line {
		if problem := s.next(c); problem != "" {
			return nil, problem
		}
	}
	if s.quote != 0 || s.escaped {
		return nil, "ends within a quotation"
	}
	s.end()
	if len(s.words) == 0 {
		return nil, "is empty"
	}
	return s.words, ""
}

type splitter struct {
	words   []string
	word    strings.Builder
	open    bool // a word has begun
	quote   rune // the quote that is open, or 0
	escaped bool
}

func (s *splitter) next(c rune) string {
	switch {
	case s.escaped:
		s.escaped = false
		if s.quote == '"' && !strings.ContainsRune(`"\$`+"`", c) {
			s.word.WriteRune('\\')
		}
		s.word.WriteRune(c)
	case c == '\\' && s.quote != '\'':
		s.escaped, s.open = true, true
	case s.quote != 0:
		return s.quoted(c)
	case c == '\'' || c == '"':
		s.quote, s.open = c, true
	case c == ' ' || c == '\t' || c == '\n':
		s.end()
	case strings.ContainsRune("|&;<>()$`*?[]#~", c):
		return "uses " + string(c) + ", which needs a shell"
	default:
		s.word.WriteRune(c)
		s.open = true
	}
	return ""
}

func (s *splitter) quoted(c rune) string {
	switch {
	case c == s.quote:
		s.quote = 0
	case s.quote == '"' && (c == '$' || c == '`'):
		return "uses " + string(c) + ", which needs a shell"
	default:
		s.word.WriteRune(c)
	}
	return ""
}

func (s *splitter) end() {
	if s.open {
		s.words = append(s.words, s.word.String())
		s.word.Reset()
		s.open = false
	}
}
