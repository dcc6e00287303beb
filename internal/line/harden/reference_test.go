package harden

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated part of the pages of kinds, and pages that are missing")

const (
	pages    = "../../../docs/reference/kinds"
	genBegin = "<!-- generated from the source: go test ./internal/line/harden -run Reference -update -->\n"
	genEnd   = "<!-- end of what is generated -->\n"
)

// shared are parameters that mean the same in several kinds, where the source says nothing of its own.
var shared = map[string]string{
	"path": "the file, absolute", "paths": "files, absolute; patterns where the kind reads patterns", "key": "the setting's name",
	"keyword": "the setting's name, in any case", "value": "the value to have; it is what is written", "names": "names",
	"accept":  "how a value found is compared: `equals` (default), `at-most`, `at-least`, `one-of`, `umask`; with some kinds also `one-to` (1 to the value), `zero-or-at-least`, `negative`",
	"others":  "further values that are as good, for `one-of`",
	"default": "the program's own value, which holds where nothing sets it", "mode": "octal text such as \"0640\": at most these permissions",
	"owners": "owners that are right, the first of which is set", "groups": "groups that are right, the first of which is set",
	"group": "the group's name", "only": "restricts it to `files` or `directories`", "packages": "names of packages",
	"keep": "names that stay", "requested": "what comes from packages that the recipe names stays", "remedy": "what the report advises",
	"except": "what the rule leaves alone", "content": "the text", "rule": "which of the kind's rules", "form": "which of the kind's rules",
	"requires": "what must be there", "required": "names that must be there", "directories": "directories, absolute",
	"field": "which field", "file": "which file", "with": "only where this is in the tree", "match": "a regular expression (RE2)",
	"domain": "whom the limit is for: `*`, a user, or @group", "item": "what is limited, such as core", "type": "which sort, as the program writes it",
	"program": "which program's configuration: see above", "module": "the module's file name", "options": "options that must be there",
	"control": "PAM's control field of a new line", "name": "the name", "most": "the highest number that is right", "least": "the lowest that is right; of bytes where files are meant",
	"scope": "which accounts", "line": "the line", "sensitive": "directories", "files": "files", "mask": "octal bits that nothing may have", "argument": "the argument",
	"rules": "the rules, as auditctl takes them", "privileged": "ports below 1024 are accepted", "utilities": "packages that stay with a shell where a program that stays is a shell script",
	"gives": "what it gives up", "create": "makes it where it is missing", "change": "changes only what is there", "unless": "an expression for what does not count",
}

// TestReferenceHasAPageForEachKind: every kind has a page of prose, and its parameters stand in it as the source has them.
func TestReferenceHasAPageForEachKind(t *testing.T) {
	docs := structDocs(t)
	if len(docs) < 20 {
		t.Fatalf("only %d types of parameters were found in the source", len(docs))
	}
	listed, err := filepath.Glob(pages + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"README": true}
	for _, name := range Kinds() {
		known[name] = true
		k := kinds[name]
		file := filepath.Join(pages, name+".md")
		want := genBegin + parameters(t, k, docs[k.params.Name()]) + genEnd
		have, err := os.ReadFile(file)
		if err != nil && *update {
			have, err = []byte("# "+name+"\n\n"+docs[k.params.Name()].doc+"\n\n"+genBegin+genEnd), nil
		}
		if err != nil {
			t.Errorf("kind %s has no page; run: go test ./internal/line/harden -run Reference -update, and write what it checks and refuses", name)
			continue
		}
		text := replaceGenerated(t, name, string(have), want)
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		} else if text != string(have) {
			t.Errorf("%s is not what the source says; run: go test ./internal/line/harden -run Reference -update", file)
		}
		if prose := len(text) - len(want); prose < 60 {
			t.Errorf("%s has %d characters of prose: say what the kind checks, changes and refuses", file, prose)
		}
	}
	for _, file := range listed {
		if name := strings.TrimSuffix(filepath.Base(file), ".md"); !known[name] {
			t.Errorf("%s is about a kind that there is not", file)
		}
	}
}

func replaceGenerated(t *testing.T, name, text, want string) string {
	t.Helper()
	before, rest, ok := strings.Cut(text, genBegin)
	_, after, ended := strings.Cut(rest, genEnd)
	if !ok || !ended {
		t.Fatalf("the page of kind %s has no generated part between its marks", name)
	}
	return before + want + after
}

// structDoc is what the source says of a type and its fields, by JSON name.
type structDoc struct {
	doc    string
	fields map[string]string
}

func structDocs(t *testing.T) map[string]structDoc {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]structDoc{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range f.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, spec := range g.Specs {
				s := spec.(*ast.TypeSpec)
				if st, ok := s.Type.(*ast.StructType); ok {
					doc := strings.Join(strings.Fields(g.Doc.Text()), " ")
					out[s.Name.Name] = structDoc{strings.TrimPrefix(doc, s.Name.Name+": "), fieldDocs(st)}
				}
			}
		}
	}
	return out
}

func fieldDocs(st *ast.StructType) map[string]string {
	out := map[string]string{}
	for _, f := range st.Fields.List {
		if f.Tag == nil {
			continue
		}
		name := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json")
		out[name] = strings.Join(strings.Fields(f.Doc.Text()+" "+f.Comment.Text()), " ")
	}
	return out
}

func parameters(t *testing.T, k Kind, doc structDoc) string {
	t.Helper()
	w := &strings.Builder{}
	if k.params.NumField() == 0 {
		return "\n## Parameters\n\nNone.\n\n"
	}
	fmt.Fprintf(w, "\n## Parameters\n\n%s\n\n| parameter | is | means |\n| --- | --- | --- |\n", doc.doc)
	for i := range k.params.NumField() {
		name := k.params.Field(i).Tag.Get("json")
		text := doc.fields[name]
		if text == "" {
			text = shared[name]
		}
		if text == "" {
			t.Errorf("kind %s, parameter %s: write a comment at its field in the source", k.Name, name)
		}
		fmt.Fprintf(w, "| `%s` | %s | %s |\n", name, typeWord(k.params.Field(i).Type), strings.ReplaceAll(text, "|", `\|`))
	}
	w.WriteString("\n")
	return w.String()
}

func typeWord(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "yes or no"
	case reflect.Int, reflect.Int64:
		return "number"
	case reflect.Slice:
		return "list"
	case reflect.Map, reflect.Struct:
		return "map"
	}
	return "text"
}
