package admit

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"kiln/internal/strictyaml"
)

func schema(t *testing.T) map[string]any {
	t.Helper()
	var s map[string]any
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// What the program reads and what editors are told must be the same fields.
func TestSchemaHasTheFieldsThatAreRead(t *testing.T) {
	s := schema(t)
	defs := s["$defs"].(map[string]any)
	items := func(name string) any {
		return s["properties"].(map[string]any)[name].(map[string]any)["items"]
	}
	for _, c := range []struct {
		schema any
		read   any
	}{
		{s, document{}},
		{s["properties"].(map[string]any)["defaults"], defaults{}},
		{items("never"), never{}},
		{defs["rule"], rule{}},
		{defs["root"], rootSpec{}},
		{defs["vulnerabilities"], vulnerabilities{}},
		{defs["attestation"], attestation{}},
		{defs["exception"], exception{}},
	} {
		var fields []string
		for f := range reflect.TypeOf(c.read).Fields() {
			fields = append(fields, f.Tag.Get("yaml"))
		}
		slices.Sort(fields)
		if told := slices.Sorted(maps.Keys(c.schema.(map[string]any)["properties"].(map[string]any))); !slices.Equal(told, fields) {
			t.Errorf("%T: schema has %v, the program reads %v", c.read, told, fields)
		}
	}
}

func TestSchemaAgreesWithTheReader(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("policy.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("policy.json")
	if err != nil {
		t.Fatal(err)
	}
	const rules = "version: 1\nroots: {debian: {openpgp: builtin}}\nrules: [{match: 'image:**', inputs: [{root: debian}]}]\n"
	for text, good := range map[string]bool{
		string(defaultPolicy): true,
		rules:                 true,
		rules + "defaults: {mode: warn, min_release_age: 7d, vulnerabilities: {max: high}}\n": true,
		rules + "defaults: {mode: maybe}\n":                                                   false,
		rules + "rule: []\n":                                                                  false,
		strings.Replace(rules, "inputs", "signed", 1):                                         false,
		strings.Replace(rules, "version: 1\n", "", 1):                                         false,
		strings.Replace(rules, ", inputs: [{root: debian}]", "", 1):                           false,
		rules + "never: [{match: 'image:x'}]\n":                                               false,
		rules + "exceptions: [{id: E, match: 'image:x', condition: tests, reason: r, owner: o, approved_by: a, expires: '2026-04-01'}]\n": true,
		rules + "exceptions: [{id: E, match: 'image:x', condition: tests, reason: r, owner: o, expires: '2026-04-01'}]\n":                 false,
	} {
		node, err := strictyaml.Parse([]byte(text), "policy.yaml")
		if err != nil {
			t.Fatal(err)
		}
		told := compiled.Validate(plain(node))
		_, read := parseAt([]byte(text), "policy.yaml", now)
		if (told == nil) != good || (read == nil) != good {
			t.Errorf("%s\nschema: %v\nreader: %v\nwant good: %v", text, told, read, good)
		}
	}
}

// plain turns a node into what a JSON reader would give.
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
		return json.Number(n.Text)
	case strictyaml.Bool:
		return n.Text == "true"
	}
	return n.Text
}
