package recipe

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"kiln"
	"kiln/internal/strictyaml"
)

var update = flag.Bool("update", false, "write the generated schema and reference")

// repository is the root of the sources.
const repository = "../../.."

// object keeps a schema's keys in the order that people read.
type object []pair

type pair struct {
	key   string
	value any
}

func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, p := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		key, _ := json.Marshal(p.key)
		var value bytes.Buffer
		enc := json.NewEncoder(&value)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(p.value); err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(value.Bytes())
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func ref(name string) object { return object{{"$ref", "#/$defs/" + name}} }

// basics are the forms of single values. A variable may stand for any of them.
var basics = object{
	{"text", object{{"type", []string{"string", "number", "boolean"}}}},
	{"texts", object{{"description", "A list of texts, or one text."}, {"anyOf", []any{ref("text"), object{{"type", "array"}, {"items", ref("text")}}}}}},
	{"integer", object{{"anyOf", []any{object{{"type", "integer"}}, ref("variable")}}}},
	{"boolean", object{{"anyOf", []any{object{{"type", "boolean"}}, ref("variable")}}}},
	{"variable", object{{"type", "string"}, {"pattern", `\$\{[A-Za-z_][A-Za-z0-9_-]*\}`}}},
	{"duration", object{{"description", "A duration with its unit, such as 30s, 5m or 1h."}, {"type", []string{"string", "number"}}, {"pattern", `^(0|([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+|.*\$\{.*)$`}, {"maximum", 0}}},
}

// shorts are the short forms beside a type's mapping; see hooks.
var shorts = map[string][]any{
	"AptBase":        {object{{"const", "machine"}}},
	"PackageRequest": {ref("text")},
	"Variable":       {ref("text")},
	"RunTest":        {ref("text"), object{{"type", "array"}, {"items", ref("text")}, {"minItems", 1}}},
	"HTTPTest":       {ref("text")},
	"TCPTest":        {ref("text")},
	"FileTest":       {ref("text")},
	"ProcessTest":    {ref("text")},
	"PortsTest":      {ref("texts")},
}

// exactlyOne names fields of which one must be given.
var exactlyOne = map[string][]string{
	"Base":     {"apt", "oci", "layout", "archive", "kiln"},
	"FileSpec": {"content", "source", "directory", "symlink"},
	"Step":     {"run", "component"},
	"Test":     {"run", "http", "tcp", "file", "process", "listening", "goss", "component"},
	"Output":   {"layout", "archive", "registry"},
}

// generator makes the schema from the Go types and their comments.
type generator struct {
	comments map[string]string // "Type" and "Type.Field"
	defs     map[string]object
	order    []string
}

func newGenerator(t *testing.T) *generator {
	t.Helper()
	g := &generator{comments: map[string]string{}, defs: map[string]object{}}
	files, err := filepath.Glob(filepath.Join(repository, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal("no sources of package kiln", err)
	}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		g.read(f)
	}
	return g
}

func (g *generator) read(f *ast.File) {
	for _, d := range f.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range decl.Specs {
			typ, ok := s.(*ast.TypeSpec)
			if !ok {
				continue
			}
			g.comments[typ.Name.Name] = sentence(decl.Doc)
			if st, ok := typ.Type.(*ast.StructType); ok {
				for _, field := range st.Fields.List {
					for _, name := range field.Names {
						g.comments[typ.Name.Name+"."+name.Name] = strings.TrimSpace(sentence(field.Doc) + " " + sentence(field.Comment))
					}
				}
			}
		}
	}
}

func sentence(c *ast.CommentGroup) string {
	return strings.Join(strings.Fields(c.Text()), " ")
}

// field is one field of a type as a user writes it.
type field struct {
	name, comment string
	typ           reflect.Type
	required      bool
}

func (g *generator) fields(t reflect.Type) []field {
	var list []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			list = append(list, g.fields(f.Type)...)
		case name != "" && name != "-":
			list = append(list, field{name, strings.ReplaceAll(g.comments[t.Name()+"."+f.Name], f.Name+" ", name+" "), f.Type, options == "" && t.Name() != "Header"})
		}
	}
	return list
}

// value returns the schema of a field's type and defines the types it needs.
func (g *generator) value(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[kiln.Duration]():
		return ref("duration")
	case t.Kind() == reflect.Pointer:
		return g.value(t.Elem())
	case t == reflect.TypeFor[[]string]():
		return ref("texts")
	case t.Kind() == reflect.Slice:
		return object{{"type", "array"}, {"items", g.value(t.Elem())}}
	case t.Kind() == reflect.Map:
		return object{{"type", "object"}, {"additionalProperties", g.value(t.Elem())}}
	case t.Kind() == reflect.Struct:
		g.define(t)
		return ref(t.Name())
	case t.Kind() == reflect.Bool:
		return ref("boolean")
	case t.Kind() == reflect.Int:
		return ref("integer")
	}
	return ref("text")
}

func (g *generator) define(t reflect.Type) {
	if _, done := g.defs[t.Name()]; done {
		return
	}
	g.defs[t.Name()] = nil
	g.order = append(g.order, t.Name())
	mapping := g.mapping(t)
	if short := shorts[t.Name()]; short != nil {
		mapping = object{{"description", g.comments[t.Name()]}, {"anyOf", append(slices.Clone(short), mapping)}}
	}
	g.defs[t.Name()] = mapping
}

func (g *generator) mapping(t reflect.Type) object {
	properties, required := object{}, []string{}
	for _, f := range g.fields(t) {
		value := g.value(f.typ)
		switch f.name {
		case "apiVersion":
			value = object{{"const", kiln.APIVersion}}
		case "kind":
			value = object{{"const", "Recipe"}}
		}
		if f.comment != "" {
			value = append(object{{"description", f.comment}}, value...)
		}
		properties = append(properties, pair{f.name, value})
		if f.required {
			required = append(required, f.name)
		}
	}
	out := object{{"description", g.comments[t.Name()]}, {"type", "object"}, {"properties", properties}, {"additionalProperties", false}}
	if len(required) > 0 {
		out = append(out, pair{"required", required})
	}
	var one []any
	for _, name := range exactlyOne[t.Name()] {
		one = append(one, object{{"required", []string{name}}})
	}
	if one != nil {
		out = append(out, pair{"oneOf", one})
	}
	return out
}

func (g *generator) schema(t *testing.T) []byte {
	t.Helper()
	root := g.mapping(reflect.TypeFor[kiln.Recipe]())
	defs := slices.Clone(basics)
	for _, name := range g.order {
		defs = append(defs, pair{name, g.defs[name]})
	}
	full := append(object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"title", "Kiln recipe (kiln.yaml)"},
	}, root...)
	compact, err := json.Marshal(append(full, pair{"$defs", defs}))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, compact, "", "  "); err != nil {
		t.Fatal(err)
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// TestSchemaIsCurrent keeps the embedded and the published schema equal to the types: go test ./internal/line/recipe -update
func TestSchemaIsCurrent(t *testing.T) {
	want := newGenerator(t).schema(t)
	for _, file := range []string{"recipe.schema.json", filepath.Join(repository, "docs/reference/recipe.schema.json")} {
		same(t, file, want)
	}
}

func same(t *testing.T, file string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what package kiln says; run: go test ./internal/line/recipe -update", file)
	}
}

func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("recipe.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("recipe.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// plain is the file as a YAML editor sees it.
func plain(n *strictyaml.Node) any {
	switch n.Kind {
	case strictyaml.Mapping:
		m := map[string]any{}
		for _, p := range n.Pairs {
			m[p.Key] = plain(p.Value)
		}
		return m
	case strictyaml.Sequence:
		list := []any{}
		for _, item := range n.Items {
			list = append(list, plain(item))
		}
		return list
	case strictyaml.Number:
		if _, err := strconv.ParseFloat(n.Text, 64); err != nil {
			return n.Text
		}
		return json.Number(n.Text)
	case strictyaml.Bool:
		return n.Text == "true"
	case strictyaml.Null:
		return nil
	}
	return n.Text
}

func checkSchema(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	n, err := strictyaml.Parse([]byte(text), "kiln.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(plain(n))
}

func examples(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repository, "examples/*/kiln.yaml"))
	if err != nil || len(files) < 4 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	return files
}

func TestSchemaAcceptsWhatTheReaderAccepts(t *testing.T) {
	s := compile(t)
	texts := []string{strings.Replace(template, "NAME", "web", 1)}
	for _, file := range examples(t) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(data))
	}
	const head = "name: demo\nbase: {apt: machine}\n"
	for _, f := range shortForms {
		texts = append(texts, head+f.short, head+f.long)
	}
	texts = append(texts, head+"variables: {n: 3, yes: true}\npins: [{package: a, release: b, priority: '${n}'}]\nrecommends: ${yes}\nsteps: [{run: a, timeout: '${n}s'}]\ntests: [{file: /a, wait: 1m30s, timeout: 0}]")
	for _, text := range texts {
		if err := checkSchema(t, s, text); err != nil {
			t.Errorf("%v\nin\n%s", err, text)
		}
		if _, err := Parse([]byte(text), "kiln.yaml", nil); err != nil {
			t.Errorf("%v", err)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	s := compile(t)
	for _, text := range []string{
		"name: a",
		"name: a\nbase: {apt: machine, oci: b}",
		"name: a\nbase: {apt: debian}",
		"name: a\nbase: {apt: machine}\ncolour: red",
		"name: a\nbase: {apt: machine}\nkind: Lock",
		"name: a\nbase: {apt: machine}\nfiles: [{path: /a}]",
		"name: a\nbase: {apt: machine}\nrecommends: maybe",
		"name: a\nbase: {apt: machine}\nsteps: [{run: a, timeout: 30}]",
		"name: a\nbase: {apt: machine}\ntests: [{run: a, file: /b}]",
		"name: a\nbase: {apt: machine}\ntests: [{http: {status: 200}}]",
		"name: a\nbase: {apt: machine}\nhardening: {waivers: [{objective: a, owner: b, reason: c}]}",
	} {
		if checkSchema(t, s, text) == nil {
			t.Errorf("the schema accepts\n%s", text)
		}
		if _, err := Parse([]byte(text), "kiln.yaml", nil); err == nil {
			t.Errorf("the reader accepts\n%s", text)
		}
	}
}

// TestExamplesLoad also checks that every file an example names is there.
func TestExamplesLoad(t *testing.T) {
	for _, file := range examples(t) {
		r, err := Load(filepath.Dir(file), nil)
		if err != nil {
			t.Error(err)
			continue
		}
		var named []string
		for _, f := range r.Files {
			named = append(named, f.Source)
		}
		for _, s := range r.Steps {
			named = append(named, s.Component)
		}
		for _, name := range named {
			if _, err := os.Stat(filepath.Join(r.Dir, name)); err != nil {
				t.Error(err)
			}
		}
		if len(r.Tests) == 0 || r.Healthcheck == nil && r.Name != "component" {
			t.Errorf("%s shows no tests or no health check", file)
		}
	}
}

// TestReferenceIsCurrent keeps the tables of docs/reference/recipe.md equal to the types.
func TestReferenceIsCurrent(t *testing.T) {
	const begin, end = "<!-- generated: fields -->\n", "<!-- end of generated -->"
	file := filepath.Join(repository, "docs/reference/recipe.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s lacks its markers", file)
	}
	same(t, file, []byte(head+begin+tables(t)+end+tail))
}

func tables(t *testing.T) string {
	t.Helper()
	g := newGenerator(t)
	g.schema(t)
	var b strings.Builder
	types := map[string]reflect.Type{"Recipe": reflect.TypeFor[kiln.Recipe]()}
	gather(types["Recipe"], types)
	for _, name := range append([]string{"Recipe"}, g.order...) {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n| field | type | |\n|---|---|---|\n", name, g.comments[name])
		for _, f := range g.fields(types[name]) {
			required := ""
			if f.required {
				required = " (required)"
			}
			fmt.Fprintf(&b, "| `%s`%s | %s | %s |\n", f.name, required, typeWords(f.typ), strings.ReplaceAll(f.comment, "|", "\\|"))
		}
	}
	return b.String() + "\n"
}

func gather(t reflect.Type, into map[string]reflect.Type) {
	for _, f := range reflect.VisibleFields(t) {
		typ := f.Type
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		if _, done := into[typ.Name()]; typ.Kind() == reflect.Struct && !done {
			into[typ.Name()] = typ
			gather(typ, into)
		}
	}
}

func typeWords(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[kiln.Duration]():
		return "duration"
	case t == reflect.TypeFor[[]string]():
		return "texts"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeWords(t.Elem())
	case reflect.Slice:
		return "list of " + typeWords(t.Elem())
	case reflect.Map:
		return "name: " + typeWords(t.Elem())
	case reflect.Struct:
		return fmt.Sprintf("[%s](#%s)", t.Name(), strings.ToLower(t.Name()))
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "number"
	}
	return "text"
}

// TestShortFormsAreInTheSchema catches a hook whose short form the schema does not know.
func TestShortFormsAreInTheSchema(t *testing.T) {
	inSchema := slices.Sorted(maps.Keys(shorts))
	var inReader []string
	for typ := range hooks {
		if !slices.Contains([]string{"Recipe", "Healthcheck", "Duration"}, typ.Name()) { // forms of []string, and an error
			inReader = append(inReader, typ.Name())
		}
	}
	slices.Sort(inReader)
	if !slices.Equal(inSchema, inReader) {
		t.Errorf("schema %v, reader %v", inSchema, inReader)
	}
}

// TestHowToIsTrue reads every complete recipe of the how-to, and the one that its steps build up.
func TestHowToIsTrue(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "docs/howto/write-a-recipe.md"))
	if err != nil {
		t.Fatal(err)
	}
	var built strings.Builder
	blocks := strings.Split(string(text), "```yaml\n")[1:]
	complete := 0
	for _, block := range blocks {
		code, _, _ := strings.Cut(block, "```")
		switch {
		case strings.HasPrefix(code, "base:"): // the alternative base
			code = "name: a\n" + code
		case strings.HasPrefix(code, "name: shop"), strings.HasPrefix(code, "name: redis-tuned"):
		case strings.HasPrefix(code, "users:"): // another service's
			continue
		default:
			built.WriteString(code)
			continue
		}
		complete++
		if _, err := Parse([]byte(code), "howto", nil); err != nil {
			t.Errorf("%v\nin\n%s", err, code)
		}
	}
	if _, err := Parse([]byte(built.String()), "howto", nil); err != nil {
		t.Errorf("%v\nin\n%s", err, built.String())
	}
	if complete != 3 {
		t.Errorf("%d complete recipes, want 3", complete)
	}
}
