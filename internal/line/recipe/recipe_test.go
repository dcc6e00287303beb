package recipe

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln"
)

// parse reads a recipe with the obligatory fields in front of text, unless it names them.
func parse(t *testing.T, text string, vars map[string]string) (*kiln.Recipe, error) {
	t.Helper()
	return Parse([]byte("name: demo\nbase: {apt: machine}\n"+text), "kiln.yaml", vars)
}

func mustParse(t *testing.T, text string, vars map[string]string) *kiln.Recipe {
	t.Helper()
	r, err := parse(t, text, vars)
	if err != nil {
		t.Fatalf("%v\nin\n%s", err, text)
	}
	return r
}

// encoded is the canonical JSON of a recipe without what parse adds.
func encoded(t *testing.T, r *kiln.Recipe) string {
	t.Helper()
	b, err := kiln.Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	s := strings.Replace(string(b), `"apiVersion":"kiln/v1","base":{"apt":{"machine":true}},`, "", 1)
	return strings.Replace(strings.Replace(s, `"kind":"Recipe","name":"demo"`, "", 1), ",,", ",", 1)
}

// short and long pairs must give the same document.
var shortForms = []struct{ short, long string }{
	{`packages: [nginx, "curl=7.88*", "vim/bookworm-backports"]`, "packages:\n- {name: nginx}\n- {name: curl, version: 7.88*}\n- {name: vim, suite: bookworm-backports}"},
	{"entrypoint: nginx -g 'daemon off;'", `entrypoint: [nginx, -g, "daemon off;"]`},
	{"entrypoint: [a]\nports: [80, 53/udp]", "entrypoint: [a]\nports: ['80', '53/udp']"},
	{"healthcheck: {command: nginx -t}", "healthcheck: {command: [nginx, -t]}"},
	{"tests: [{run: 'id | grep x'}]", "tests: [{run: {command: [/bin/sh, -c, 'id | grep x']}}]"},
	{"tests: [{run: [id, -u]}]", "tests: [{run: {command: [id, -u]}}]"},
	{"tests: [{run: {command: 'id -u', stdout: 33}}]", "tests: [{run: {command: [/bin/sh, -c, id -u], stdout: ['33']}}]"},
	{"command: [a]\ntests: [{http: 'http://127.0.0.1/'}]", "command: [a]\ntests: [{http: {url: 'http://127.0.0.1/'}}]"},
	{"command: [a]\ntests: [{tcp: 6379}]", "command: [a]\ntests: [{tcp: {address: '127.0.0.1:6379'}}]"},
	{"command: [a]\ntests: [{tcp: 'localhost:1'}, {tcp: {address: 2, refused: true}}]", "command: [a]\ntests: [{tcp: {address: 'localhost:1'}}, {tcp: {address: '127.0.0.1:2', refused: true}}]"},
	{"tests: [{file: /etc/passwd}]", "tests: [{file: {path: /etc/passwd}}]"},
	{"command: [a]\ntests: [{process: nginx}]", "command: [a]\ntests: [{process: {name: nginx}}]"},
	{"command: [a]\ntests: [{listening: [80/tcp, 443]}]", "command: [a]\ntests: [{listening: {ports: [80/tcp, '443']}}]"},
	{"tests: [{listening: []}]", "tests: [{listening: {ports: []}}]"},
	{"variables: {a: 1.10}", "variables: {a: {default: '1.10'}}"},
	{"version: 1.10", "version: '1.10'"},
	{"files: [{path: /a, content: x, mode: 0640}]", "files: [{path: /a, content: x, mode: '0640'}]"},
	{"files: [&a {path: /a, content: x}]\nlabels: {x: &y z, w: *y}", "files: [{path: /a, content: x}]\nlabels: {x: z, w: z}"},
}

func TestShortForms(t *testing.T) {
	for _, f := range shortForms {
		short, long := encoded(t, mustParse(t, f.short, nil)), encoded(t, mustParse(t, f.long, nil))
		if short != long {
			t.Errorf("%s\n gives %s\nwant %s", f.short, short, long)
		}
	}
}

// Each bad recipe names its place, the field, what is wrong and what to do.
func TestErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"pakages: [nginx]", "kiln.yaml:3:1: pakages: unknown field\n  hint: did you mean \"packages\"?"},
		{"packages: [{nmae: nginx}]", `packages[0].nmae: unknown field` + "\n" + `  hint: did you mean "name"?`},
		{"tests:\n  - htpp: http://127.0.0.1/", "kiln.yaml:4:5: tests[0].htpp: unknown field"},
		{"files: /etc/motd", "kiln.yaml:3:8: files: must be a list, found text (/etc/motd)"},
		{"healthcheck: [a]", "healthcheck: must be a mapping, found a list"},
		{"recommends: yes", "recommends: must be true or false, found text (yes)"},
		{"pins: [{package: a, release: b, priority: high}]", "pins[0].priority: must be a whole number, found text (high)"},
		{"name: again", "kiln.yaml:3:1: key \"name\" stands twice in one mapping\n  hint: the first is in line 1"},
		{"env: {A: 1, A: 2}", `key "A" stands twice`},
		{"tests:", "kiln.yaml:3:1: tests: has no value"},
		{"workdir: /srv/${dir}", "kiln.yaml:3:10: workdir: variable dir is not defined"},
		{"variables: {port: 80}\nports: ['${prot}']", "hint: did you mean ${port}?"},
		{"variables: {port: {description: p}}", "variables.port: has no default and was not given a value\n  hint: give one with --var port=VALUE"},
		{"variables: {a: 1, b: '${a}'}", "variables.b: a default cannot use another variable"},
		{"workdir: /${", "workdir: ${ does not begin a variable here"},
		{"apiVersion: kiln/v2", "kiln.yaml:3:1: apiVersion: apiVersion is \"kiln/v2\", this program reads \"kiln/v1\""},
		{"kind: Lock", `kind is "Lock"`},
		{"entrypoint: nginx && sleep 1", "entrypoint: uses &, which needs a shell\n  hint: write a list"},
		{"entrypoint: 'a \"b'", "entrypoint: ends within a quotation"},
		{"packages: [nginx=]", "packages[0]: has no version after ="},
		{"packages: [nginx, nginx]", "packages[1]: nginx stands in packages[0] too"},
		{"packages: [Nginx]", "packages[0].name: is a package's name"},
		{"files:\n- path: etc/motd\n  content: x", "kiln.yaml:4:3: files[0].path: is an absolute path"},
		{"files: [{path: /a/../b, content: x}]", "files[0].path: is an absolute path"},
		{"files: [{path: /a}]", "files[0]: has exactly one of content, source, directory, symlink"},
		{"files: [{path: /a, content: x, source: b}]", "files[0]: has exactly one of"},
		{"files: [{path: /a, source: ../b}]", "files[0].source: is a path beside the recipe"},
		{"files: [{path: /a, source: /etc/shadow}]", "files[0].source: is a path beside the recipe"},
		{"files: [{path: /proc/x, content: x}]", "/proc belongs to the kernel"},
		{"files: [{path: /a, content: x, mode: 0899}]", `files[0].mode: is octal text such as "0644"`},
		{"files: [{path: /a, content: x}, {path: /a/, directory: true}]", "files[1]: /a stands in files[0] too"},
		{"ports: [80, 80/tcp]", "ports[1]: 80/tcp stands in ports[0] too"},
		{"ports: [0]", "ports[0]: is a port from 1 to 65535"},
		{"ports: [65536]", "ports[0]: is a port from 1 to 65535"},
		{"users: [{name: a, uid: 0}]", "users[0].uid: is a number from 1"},
		{"users: [{name: A b}]", "users[0].name: is 1 to 32 of"},
		{"user: 'a:b:c'", "user: is a name or number, or user:group"},
		{"env: {'A=B': c}", "env.A=B: an environment variable's name"},
		{"steps: [{run: a, component: b}]", "steps[0]: has exactly one of run and component"},
		{"steps: [{run: a, parameters: {b: c}}]", "steps[0].parameters: are for a component"},
		{"steps: [{run: a, timeout: 30}]", "steps[0].timeout: is a duration without a unit\n  hint: write 30s"},
		{"steps: [{run: a, timeout: soon}]", `steps[0].timeout: "soon" is no duration`},
		{"tests: [{run: a, file: /b}]", "tests[0]: has exactly one of run, http"},
		{"tests: [{name: x}]", "tests[0]: has exactly one of run, http"},
		{"tests: [{http: 'http://127.0.0.1/'}]", "tests[0]: needs a running service, and the recipe starts none"},
		{"tests: [{run: {command: [a], stdout: '('}}]", "tests[0].run.stdout[0]: is no regular expression"},
		{"tests: [{file: {path: /a, absent: true, mode: 0644}}]", "absent stands alone"},
		{"command: [a]\ntests: [{http: nginx}]", "tests[0].http.url: is an address"},
		{"hardening: {waivers: [{objective: x, owner: o, reason: r}]}", "hardening.waivers[0].expires: an exception needs an expiry as YYYY-MM-DD"},
		{"hardening: {waivers: [{objective: x, reason: r, expires: 2026-01-01}]}", "hardening.waivers[0].owner: an exception needs an owner"},
		{"hardening: {remove: {shell: true}}\ntests: [{run: 'id'}]", "tests[0].run: starts a shell, and hardening.remove.shell takes every shell away"},
		{"packages: [curl]\nhardening: {remove: {packages: [curl]}}", "curl is asked for by packages[0]"},
		{"outputs: [{layout: a, archive: b}]", "outputs[0]: has exactly one of layout, archive, registry"},
		{"outputs: [{registry: 'registry.example.com/a', insecure: true}]", "outputs[0].insecure: is for a registry on this machine only"},
		{"labels: {a: !!str b}", "tags and directives are not read here"},
		{"labels: {a: *b}", "alias *b has no anchor before it"},
		{"labels: &l {<<: *l}", "merge keys (<<) are not read here"},
		{"labels: {a: &b [*b]}", "alias *b stands within itself"},
		{"files:\n\t- path: /a", "hint: indent with spaces"},
		{"---\nname: b", "holds 2 documents"},
	} {
		_, err := parse(t, c.text, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n got  %v\n want %s", c.text, err, c.want)
		}
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("%s: %T is no *Error", c.text, err)
		}
	}
}

func TestBaseRules(t *testing.T) {
	const archive = "{uri: 'http://archive.example.com/debian', suites: [s], keyring: k.gpg}"
	for _, c := range []struct{ base, want string }{
		{"{}", "base: is exactly one of apt, oci, layout, archive, kiln"},
		{"{apt: machine, oci: a}", "base: is exactly one of"},
		{"{apt: debian}", `base.apt: is the word "machine" or a mapping`},
		{"{apt: {release: bookworm}}", `base.apt: needs archives, or write "apt: machine"`},
		{"{apt: {machine: true, archives: [" + archive + "]}}", "base.apt.archives: cannot stand beside machine"},
		{"{apt: {archives: [" + archive + "]}}", "base.apt.release: is needed where archives are named"},
		{"{apt: {release: s, archives: [{uri: 'ftp://a/', suites: [s], keyring: k}]}}", "base.apt.archives[0].uri: is an http, https or file address"},
		{"{apt: {release: s, archives: [{uri: 'file:///a', suites: [s]}]}}", "base.apt.archives[0].keyring: is the path of the keyring"},
		{"{apt: {release: s, archives: [{uri: 'file:///a', suites: s t, keyring: k}]}}", "base.apt.archives[0].suites[0]: is a suite's name"},
		{"{apt: {release: s, archives: [{uri: 'file:///a', suites: s, keyring: k, fingerprints: [abc]}]}}", "fingerprints[0]: is 40 or 64 hexadecimal digits"},
		{"{kiln: nginx}", "base.kiln: is NAME@CHANNEL"},
	} {
		_, err := Parse([]byte("name: a\nbase: "+c.base), "kiln.yaml", nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n got  %v\n want %s", c.base, err, c.want)
		}
	}
	if _, err := Parse([]byte("name: a\nbase: {apt: {release: s, archives: ["+archive+"]}}"), "kiln.yaml", nil); err != nil {
		t.Error(err)
	}
	if _, err := Parse([]byte("name: a\nbase: {oci: registry.example.com/a}\npackages: [b]"), "kiln.yaml", nil); err == nil || !strings.Contains(err.Error(), "packages: need an apt base") {
		t.Error(err)
	}
}

func TestSeveralErrorsAtOnceInOrder(t *testing.T) {
	var all Errors
	_, err := parse(t, "colour: red\nfiles:\n- path: 7\n  contents: x\nrecommends: 3", nil)
	if !errors.As(err, &all) || len(all) != 3 || all[0].Line != 3 || all[1].Line != 6 || all[2].Line != 7 {
		t.Errorf("want three errors in lines 3, 6 and 7, got\n%v", err)
	}
}

func TestVariables(t *testing.T) {
	const text = `
variables:
  port: 8080
  name: {description: who to greet}
  prio: 500
ports: ["${port}"]
workdir: /srv/$${port}/${name}
pins: [{package: x, release: y, priority: "${prio}"}]
files:
- path: /etc/a
  content: "${name} ${PATH} $${name} ${unclosed $5 ${port:-1}"
steps:
- run: echo "$${port} ${port} ${HOME}"
labels: {"${port}": "a$b"}
`
	r := mustParse(t, text, map[string]string{"name": "bob"})
	for _, c := range []struct{ got, want string }{
		{r.Ports[0], "8080"},
		{r.WorkDir, "/srv/${port}/bob"},
		{*r.Files[0].Content, "bob ${PATH} ${name} ${unclosed $5 ${port:-1}"},
		{r.Steps[0].Run, `echo "${port} 8080 ${HOME}"`},
		{r.Labels["${port}"], "a$b"},
		{*r.Variables["name"].Default, "bob"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	if r.Pins[0].Priority != 500 {
		t.Errorf("priority %d", r.Pins[0].Priority)
	}
	_, err := parse(t, text, map[string]string{"name": "bob", "prot": "1"})
	if err == nil || !strings.Contains(err.Error(), "--var prot: the recipe has no such variable\n  hint: did you mean \"port\"?") {
		t.Errorf("unknown override: %v", err)
	}
	_, err = parse(t, "", map[string]string{"a": "1"})
	if err == nil || !strings.Contains(err.Error(), "declares no variables") {
		t.Errorf("override without variables: %v", err)
	}
	if _, err = parse(t, text, map[string]string{"name": "../../etc"}); err == nil {
		t.Error("a variable carried .. past the rules for paths")
	}
}

func TestHostileInput(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for i := 'b'; i < 'k'; i++ {
		bomb += string(i) + ": &" + string(i) + " [" + strings.Repeat("*"+string(i-1)+",", 10) + "]\n"
	}
	for name, text := range map[string]string{
		"alias bomb":     bomb,
		"too large":      strings.Repeat("#", 1<<20+1),
		"deep flow":      "a: " + strings.Repeat("[", 500_000),
		"deep mapping":   "a: " + strings.Repeat("{a: ", 200_000),
		"deep sequence":  "a:\n  " + strings.Repeat("- ", 300_000),
		"deep questions": strings.Repeat("? ", 300_000),
		"tags":           "a: " + strings.Repeat("!t ", 100_000),
		"NUL":            "name: a\x00b",
		"not UTF-8":      "name: \xff\xfe",
		"empty":          "",
		"comment only":   "# nothing",
		"scalar":         "hello",
		"list":           "- a",
		"grown variable": "name: a\nbase: {apt: machine}\nvariables: {v: " + strings.Repeat("x", 1000) + "}\nworkdir: /" + strings.Repeat("${v}", 2000),
	} {
		if _, err := Parse([]byte(text), "kiln.yaml", nil); err == nil {
			t.Errorf("%s was accepted", name)
		} else if len(err.Error()) > 10_000 {
			t.Errorf("%s: message of %d bytes", name, len(err.Error()))
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range shortForms {
		f.Add("name: demo\nbase: {apt: machine}\n" + s.short)
	}
	f.Add(template)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse([]byte(text), "kiln.yaml", nil)
		if err != nil {
			return
		}
		data, err := kiln.Encode(r)
		if err != nil {
			t.Fatalf("accepted, but cannot be stored: %v", err)
		}
		var again kiln.Recipe
		if err := kiln.Decode(data, &again); err != nil {
			t.Fatal(err)
		}
		second, err := kiln.Encode(&again)
		if err != nil || !bytes.Equal(data, second) {
			t.Fatalf("re-encoding changed\n%s\nto\n%s (%v)", data, second, err)
		}
	})
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	var b bytes.Buffer
	if err := Init(&b, "team/web"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, FileName)
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, file} {
		r, err := Load(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.Name != "team/web" || r.Dir != dir {
			t.Errorf("name %q, dir %q", r.Name, r.Dir)
		}
	}
	if _, err := Load(filepath.Join(dir, "none"), nil); err == nil || !strings.Contains(err.Error(), "there is no such recipe") {
		t.Errorf("missing recipe: %v", err)
	}
	if err := Init(&b, "Bad Name"); err == nil {
		t.Error("Init took a name that cannot name an image")
	}
}

func TestExplain(t *testing.T) {
	var text, out bytes.Buffer
	if err := Init(&text, "web"); err != nil {
		t.Fatal(err)
	}
	r, err := Parse(text.Bytes(), "kiln.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := Explain(&out, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"web 1.0: A static web server",
		"the signed package archives this machine uses, checked with the machine's keyrings",
		"python3-minimal",
		"makes the account web with id 10001, without a password",
		"runs check the page: 1 line of shell as root in the sandbox, without a network",
		"as web",
		"meets every objective of container-baseline",
		"GET http://127.0.0.1:8080/ answers 200, with text matching Hello",
		"exactly these ports listen: 8080/tcp",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("explanation lacks %q:\n%s", want, out.String())
		}
	}
}
