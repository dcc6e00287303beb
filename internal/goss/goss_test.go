package goss

import (
	"strings"
	"testing"

	"kiln/internal/strictyaml"
)

func TestMatch(t *testing.T) {
	lines := text("alpha 1\nbeta 2\n")
	users := []string{"root", "www-data"}
	for _, tt := range []struct {
		matcher string
		v       value
		want    bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"1", 1.0, true},
		{"2", 1.0, false},
		{"true", true, true},
		{"false", true, false},
		{`"0644"`, "0644", true},
		{`"0644"`, "0600", false},
		{"[alpha, /^beta \\d$/]", lines, true},
		{"[gamma]", lines, false},
		{"['!gamma']", lines, true},
		{"['!alpha']", lines, false},
		{"['!/a.*2/']", lines, false},
		{"[root]", users, true},
		{"[root, nobody]", users, false},
		{"{have-prefix: al}", lines, true},
		{"{have-suffix: x}", "x", true},
		{"{contain-substring: beta}", lines, true},
		{"{match-regexp: '^alpha'}", lines, true},
		{"{not: {match-regexp: alpha}}", lines, false},
		{"{gt: 3}", 4.0, true},
		{"{le: 3}", 4.0, false},
		{"{lt: 5}", 4.0, true},
		{"{ge: 4}", 4.0, true},
		{"{have-len: 2}", users, true},
		{"{have-len: 3}", users, false},
		{"{consist-of: [www-data, root]}", users, true},
		{"{consist-of: [root]}", users, false},
		{"{contain-element: {have-prefix: www}}", users, true},
		{"{contain-elements: [root, x]}", users, false},
		{"{and: [{gt: 1}, {lt: 3}]}", 2.0, true},
		{"{or: [1, 3]}", 2.0, false},
		{"{equal: [root, www-data]}", users, true},
		{"{have-patterns: [alpha, '!gamma']}", "alpha", true},
	} {
		n, err := strictyaml.Parse([]byte("x: "+tt.matcher), "m")
		if err != nil {
			t.Fatal(err)
		}
		if err := checkMatcher(n.Get("x")); err != nil {
			t.Errorf("%s: %v", tt.matcher, err)
		}
		if got := match(n.Get("x"), tt.v); got != tt.want {
			t.Errorf("%s on %q: %v", tt.matcher, tt.v, got)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, tt := range []struct{ file, want string }{
		{"mount: {/: {exists: true}}", "g.yaml:1:8: mount: this kind of goss resource is not supported\n  hint: mounts belong"},
		{"dns: {localhost: {resolvable: true}}", "name service"},
		{"gossfile: {other.yaml: {}}", "test of its own"},
		{`prot: {"80": {listening: true}}`, "did you mean port?"},
		{"service: {nginx: {enabled: true, running: true}}", "service.nginx.enabled: this attribute is not supported"},
		{"file: {/a: {mod: '0644'}}", "did you mean mode?"},
		{"file: {/a: {}}", "checks nothing"},
		{"file: {/a: {contents: {gjson: {a: b}}}}", "gjson is not supported"},
		{"file: {/a: {contents: {match-regexp: '('}}}", "no expression"},
		{"file: {/a: {size: {gt: big}}}", "takes a number"},
		{"file: {/a: {exists: }}", "must have a value"},
		{"file: [a]", "must be a mapping"},
		{"file:\n  /a: {exists: {{ .Vars.x }}}", "g.yaml:2:1: templates are not supported"},
	} {
		_, err := Parse([]byte(tt.file), "g.yaml")
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.file, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("file: {/a: {exists: true, contents: [a, '!/b/']}}"))
	f.Add([]byte("command: {id: {exit-status: {or: [0, 1]}}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data, "g.yaml")
		if err != nil {
			return
		}
		for _, r := range file.resources {
			for _, a := range r.node.Pairs {
				describe(a.Value)
				if checkMatcher(a.Value) == nil {
					match(a.Value, text("a"))
					match(a.Value, []string{"a"})
				}
			}
		}
	})
}
