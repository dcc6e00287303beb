package component

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/internal/strictyaml"
	"kiln/internal/tree"
)

// localHost runs commands on this machine, in the tree's folder: enough for
// documents whose commands stay there. File actions are confined as always.
type localHost struct{ root string }

func (h localHost) Root() string { return h.root }

func (h localHost) Exec(ctx context.Context, c Command) (Output, error) {
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Timeout)
		defer cancel()
	}
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdin = filepath.Join(h.root, c.Dir), c.Env, strings.NewReader(c.Stdin)
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = nil
	}
	return Output{cmd.ProcessState.ExitCode(), stdout.Bytes(), stderr.Bytes()}, err
}

const accounts = "root:x:0:0::/root:/bin/sh\nweb:x:101:102::/srv:/usr/sbin/nologin\n"

// newTree makes a small tree with the links that Debian has, an absolute one among them.
func newTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"etc", "usr/bin", "run", "var", "srv"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir, "etc/passwd", accounts)
	write(t, dir, "etc/group", "root:x:0:\nwww:x:33:\n")
	link(t, dir, "/run", "var/run")
	link(t, dir, "usr/bin", "bin")
	return dir
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, dir, target, name string) {
	t.Helper()
	if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func parse(t *testing.T, text string) *Document {
	t.Helper()
	d, err := Parse([]byte(text), "doc.yaml")
	if err != nil {
		t.Fatalf("%v\nin\n%s", err, text)
	}
	return d
}

func runAll(t *testing.T, dir, phases, text string, params map[string]string) Result {
	t.Helper()
	r, err := parse(t, text).Run(t.Context(), phases, params, localHost{dir})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// build wraps steps in a document with one phase.
func build(steps string) string {
	return "schemaVersion: 1.0\nphases:\n- name: build\n  steps:\n" + steps
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root to give files away")
		}
		t.Skip("needs root to give files away")
	}
}

// Each case: a document's steps, and what changes in the tree ("-" for what is gone).
func TestFileActions(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name, steps string
		want        map[string]string
	}{
		{
			"CreateFile makes folders, owner and mode", `
  - {name: a, action: CreateFile, inputs: [{path: /opt/x/a, content: hello, owner: web, group: www, permissions: 0640}, {path: b}]}`,
			map[string]string{"opt": "d 0755 0:0", "opt/x": "d 0755 0:0", "opt/x/a": "f 0640 101:33 2cf24dba", "b": "f 0644 0:0 e3b0c442"},
		},
		{
			"an absolute link is taken inside the tree", `
  - {name: a, action: CreateFile, inputs: [{path: /var/run/pid, content: hello}]}`,
			map[string]string{"run/pid": "f 0644 0:0 2cf24dba"},
		},
		{
			"dots stay inside the tree", `
  - {name: a, action: CreateFile, inputs: [{path: ../../../../esc, content: hello}]}`,
			map[string]string{"esc": "f 0644 0:0 2cf24dba"},
		},
		{
			"AppendFile", `
  - {name: a, action: CreateFile, inputs: [{path: /a, content: hel}]}
  - {name: b, action: AppendFile, inputs: [{path: /a, content: lo}]}`,
			map[string]string{"a": "f 0644 0:0 2cf24dba"},
		},
		{
			"CreateFolder and SetFolderPermissions", `
  - {name: a, action: CreateFolder, inputs: [{path: /d/e/, permissions: "1777"}, {path: /etc}]}
  - {name: b, action: SetFolderPermissions, inputs: [{path: /d, permissions: 700, recursive: false}]}`,
			map[string]string{"d": "d 0700 0:0", "d/e": "d 1777 0:0"},
		},
		{
			"SetFolderOwner goes down and takes the user's group", `
  - {name: a, action: CreateFile, inputs: [{path: /srv/d/f, content: hello}]}
  - {name: b, action: SetFolderOwner, inputs: [{path: /srv/d, owner: web}]}`,
			map[string]string{"srv/d": "d 0755 101:102", "srv/d/f": "f 0644 101:102 2cf24dba"},
		},
		{
			"SetFolderPermissions reaches what it locks", `
  - {name: a, action: CreateFile, inputs: [{path: /srv/d/f, content: hello}]}
  - {name: b, action: SetFolderPermissions, inputs: [{path: /srv/d, permissions: 0400}]}`,
			map[string]string{"srv/d": "d 0400 0:0", "srv/d/f": "f 0400 0:0 2cf24dba"},
		},
		{
			"SetFileOwner, SetFilePermissions with set-id", `
  - {name: a, action: CreateFile, inputs: [{path: /a, content: hello}]}
  - {name: b, action: SetFileOwner, inputs: [{path: /a, owner: "7", group: www}]}
  - {name: c, action: SetFilePermissions, inputs: [{path: /a, permissions: 2755}]}`,
			map[string]string{"a": "f 2755 7:33 2cf24dba"},
		},
		{
			"CreateSymlink", `
  - {name: a, action: CreateSymlink, inputs: [{path: /l/passwd, target: ../etc/passwd}]}
  - {name: b, action: CreateSymlink, inputs: [{path: /l/passwd, target: /etc/group, force: true}]}`,
			map[string]string{"l": "d 0755 0:0", "l/passwd": "l -> /etc/group"},
		},
		{
			"CopyFile and MoveFile with a wildcard", `
  - {name: a, action: CreateFile, inputs: [{path: /s/a1, content: hello}, {path: /s/a2, content: hello, permissions: "4755"}, {path: /s/b, content: hello}]}
  - {name: b, action: CopyFile, inputs: [{source: /s/a*, destination: /t/}]}
  - {name: c, action: MoveFile, inputs: [{source: /s/b, destination: /t/c}]}
  - {name: d, action: DeleteFile, inputs: [{path: "/s/a*"}]}`,
			map[string]string{"s": "d 0755 0:0", "t": "d 0755 0:0", "t/a1": "f 0644 0:0 2cf24dba", "t/a2": "f 0755 0:0 2cf24dba", "t/c": "f 0644 0:0 2cf24dba"},
		},
		{
			"CopyFolder and MoveFolder", `
  - {name: a, action: CreateFile, inputs: [{path: /s/x/f, content: hello}, {path: /t/old, content: hello}]}
  - {name: b, action: CreateSymlink, inputs: [{path: /s/x/l, target: f}]}
  - {name: c, action: CopyFolder, inputs: [{source: /s/x, destination: /t}]}
  - {name: d, action: MoveFolder, inputs: [{source: /s/x, destination: /u/}]}
  - {name: e, action: DeleteFolder, inputs: [{path: /s}]}`,
			map[string]string{
				"t": "d 0755 0:0", "t/f": "f 0644 0:0 2cf24dba", "t/l": "l -> f", "t/old": "f 0644 0:0 2cf24dba",
				"u": "d 0755 0:0", "u/x": "d 0755 0:0", "u/x/f": "f 0644 0:0 2cf24dba", "u/x/l": "l -> f",
			},
		},
		{
			"DeleteFolder with force, DeleteFile takes the link", `
  - {name: a, action: DeleteFile, inputs: [{path: /bin}]}
  - {name: b, action: DeleteFolder, inputs: [{path: /usr, force: true}]}`,
			map[string]string{"bin": "-", "usr": "-", "usr/bin": "-"},
		},
		{
			"SetFileEncoding", `
  - {name: a, action: CreateFile, inputs: [{path: /a, content: "h\u00e4", encoding: UTF-16-BE}, {path: /b, content: "h\u00e4"}]}
  - {name: b, action: SetFileEncoding, inputs: [{path: /b, encoding: utf16-be}]}`,
			map[string]string{"a": "f 0644 0:0 099b502a", "b": "f 0644 0:0 099b502a"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := newTree(t)
			before := dump(t, dir)
			r := runAll(t, dir, "build", build(c.steps), nil)
			if !r.OK() {
				t.Fatalf("%+v", r.Steps)
			}
			changed := map[string]string{}
			after := dump(t, dir)
			for p, line := range after {
				if before[p] != line {
					changed[p] = line
				}
			}
			for p := range before {
				if _, there := after[p]; !there {
					changed[p] = "-"
				}
			}
			if !maps.Equal(changed, c.want) {
				t.Errorf("changed\n got  %v\n want %v", changed, c.want)
			}
		})
	}
}

// TestLinksCannotLeadOut plants every kind of link that could, and sees that nothing beside the tree changes.
func TestLinksCannotLeadOut(t *testing.T) {
	outside := t.TempDir()
	write(t, outside, "secret", "secret")
	for name, target := range map[string]string{
		"absolute": outside,
		"relative": strings.Repeat("../", 40) + outside[1:],
		"chained":  "hop",
	} {
		t.Run(name, func(t *testing.T) {
			dir := newTree(t)
			link(t, dir, outside, "hop")
			link(t, dir, target, "out")
			r := runAll(t, dir, "build", build(`
  - {name: a, action: ReadFile, onFailure: Continue, inputs: [{path: /out/secret, printFileContent: true}]}
  - {name: b, action: CreateFile, onFailure: Continue, inputs: [{path: /out/new}]}
  - {name: c, action: DeleteFile, onFailure: Continue, inputs: [{path: /out/secret}]}
  - {name: d, action: CopyFile, onFailure: Continue, inputs: [{source: /out/*, destination: /srv/}]}
  - {name: e, action: SetFolderPermissions, onFailure: Continue, inputs: [{path: /out, permissions: 0777}]}
  - {name: f, action: DeleteFolder, onFailure: Continue, inputs: [{path: /out/, force: true}]}
  - {name: g, action: Assert, onFailure: Continue, inputs: {fileExists: /out/secret}}`), nil)
			for _, s := range r.Steps {
				if strings.Contains(s.Stdout, "secret") || s.Name == "g" && s.Status == Success {
					t.Errorf("read from outside: %+v", s)
				}
			}
			after := dump(t, outside)
			if len(after) != 2 || !strings.HasPrefix(after["secret"], "f 0644") || !strings.HasPrefix(after["."], "d 0755") && !strings.HasPrefix(after["."], "d 0700") {
				t.Errorf("outside is now %v", after)
			}
		})
	}
}

func dump(t *testing.T, dir string) map[string]string {
	t.Helper()
	m, err := tree.Dump(dir)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Each case fails, says why, and leaves the tree outside the root alone.
func TestFileActionsRefuse(t *testing.T) {
	for _, c := range []struct{ step, want string }{
		{"CreateFile, inputs: [{path: /etc/passwd, overwrite: false}]", "/etc/passwd is already there"},
		{"CreateFile, inputs: [{path: /etc}]", "/etc is there and no regular file"},
		{"CreateFile, inputs: [{path: /a, owner: nobody-here}]", "/etc/passwd has no entry nobody-here"},
		{"CreateFile, inputs: [{path: /a, permissions: rwx}]", "are not octal"},
		{"CreateFile, inputs: [{path: /a, encoding: latin1}]", "unknown encoding"},
		{"CreateFile, inputs: [{path: /loop/a}]", "too many symbolic links"},
		{"AppendFile, inputs: [{path: /none}]", "no such file"},
		{"CopyFile, inputs: [{source: /none, destination: /x}]", "no such file"},
		{"CopyFile, inputs: [{source: /none*, destination: /x/}]", "nothing matches /none*"},
		{"CopyFile, inputs: [{source: /etc/*, destination: /x}]", "must end with /"},
		{"CopyFile, inputs: [{source: /etc, destination: /x}]", "is a folder"},
		{"CopyFolder, inputs: [{source: /etc, destination: /etc/x}]", "cannot go into itself"},
		{"MoveFolder, inputs: [{source: /, destination: /x}]", "cannot go into itself"},
		{"CreateSymlink, inputs: [{path: /l, target: /none}]", "target /none is not there"},
		{"CreateSymlink, inputs: [{path: /bin, target: /etc}]", "/bin is already there"},
		{"DeleteFolder, inputs: [{path: /etc}]", "not empty"},
		{"DeleteFolder, inputs: [{path: /, force: true}]", "root cannot be deleted"},
		{"DeleteFile, inputs: [{path: /etc}]", "use DeleteFolder"},
		{"ReadFile, inputs: [{path: /etc}]", "no regular file"},
		{"SetFilePermissions, inputs: [{path: /etc, permissions: 0644}]", "is a folder"},
		{"SetFolderOwner, inputs: [{path: /etc/passwd, owner: root}]", "is no folder"},
	} {
		dir := newTree(t)
		link(t, dir, "loop", "loop")
		r := runAll(t, dir, "build", build("  - {name: a, action: "+c.step+"}"), nil)
		if r.OK() || !strings.Contains(r.Steps[0].Message, c.want) {
			t.Errorf("%s\n got  %s %q\n want %q", c.step, r.Status, r.Steps[0].Message, c.want)
		}
	}
}

func TestRun(t *testing.T) {
	const text = `
name: demo
description: chaining, loops, conditions
schemaVersion: 1.0
constants:
  - Words: {type: string, value: "one;two"}
parameters:
  - Greeting: {type: string, default: hello, description: d, allowedValues: [hello, bye]}
phases:
  - name: build
    steps:
      - name: Say
        action: ExecuteBash
        inputs:
          commands:
            - echo "{{ Greeting }} {{Words}}"
            - echo '{{.State}} {{ loop.value }}'
      - name: Each
        action: ExecuteBash
        loop: {name: words, forEach: {list: "{{ Words }}", delimiter: ";"}}
        inputs: {commands: ['echo {{ words.index }}={{ loop.value }}']}
      - name: Count
        action: ExecuteBinary
        loop: {for: {start: 6, end: 2, updateBy: -2}}
        inputs: {path: /bin/echo, arguments: ["n{{ loop.value }}"]}
      - name: Write
        action: CreateFile
        inputs: [{path: /w, content: "{{ build.Each.outputs.stdout }}"}]
      - name: Read
        action: ReadFile
        inputs: [{path: "{{ build.Write.inputs[0].path }}"}]
      - name: Skipped
        action: ExecuteBash
        if: {and: [{fileExists: /w}, {not: {folderExists: /etc}}]}
        inputs: {commands: [exit 1]}
      - name: SkippedToo
        action: ExecuteBash
        if: {stringEquals: hello, value: "{{ Greeting }}", then: Skip, else: Execute}
        inputs: {commands: [exit 1]}
  - name: validate
    steps:
      - name: Check
        action: Assert
        inputs:
          and:
            - stringEquals: "0=one\n1=two"
              value: "{{ build.Read.outputs.content }}"
            - stringEquals: "n6\nn4\nn2"
              value: "{{ build.Count.outputs.stdout }}"
            - or: [{numberGreaterThan: 2.5, value: 2}, {stringlessThan: b, value: A}]
            - fileSHA256Equals: `
	dir := newTree(t)
	d := text + "5c45e1a0bb0e0d0a7d1e8a0b2ac7a3aa8b7f5d6d5b9c8c1b6d8a5f3c2e1d0b9a\n              path: /w\n"
	r := runAll(t, dir, "build", d, nil)
	var got []string
	for _, s := range r.Steps {
		got = append(got, s.Name+" "+s.Status)
	}
	want := []string{"Say Success", "Each Success", "Count Success", "Write Success", "Read Success", "Skipped Skipped", "SkippedToo Skipped"}
	if !slices.Equal(got, want) {
		t.Fatalf("got %v\nwant %v\n%+v", got, want, r.Steps)
	}
	if r.Steps[0].Stdout != "hello one;two\n{{.State}} {{ loop.value }}\n" {
		t.Errorf("Say wrote %q", r.Steps[0].Stdout)
	}
	if r = runAll(t, dir, "build,validate", d, nil); r.Status != Failed || !strings.Contains(r.Steps[7].Message, "the assertion and in line") {
		t.Errorf("a wrong hash passed: %+v", r)
	}
	good := text + sha256Of(t, dir, "w") + "\n              path: /w\n"
	if r = runAll(t, dir, "build,validate", good, nil); r.Status != Success {
		t.Errorf("%+v", r.Steps[len(r.Steps)-1])
	}
	if r = runAll(t, dir, "validate", good, nil); r.Status != Failed || !strings.Contains(r.Steps[0].Message, "run the phases together") {
		t.Errorf("chaining to a phase that did not run: %+v", r)
	}
	if r = runAll(t, dir, "test", good, nil); r.Status != Success || len(r.Steps) != 0 {
		t.Errorf("a phase that is not there: %+v", r)
	}
	for params, want := range map[string]string{"Greeting=no": "allowed are hello, bye", "Other=x": "there is no parameter Other"} {
		name, value, _ := strings.Cut(params, "=")
		if _, err := parse(t, good).Run(t.Context(), "build", map[string]string{name: value}, localHost{dir}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", params, err)
		}
	}
}

func sha256Of(t *testing.T, dir, name string) string {
	t.Helper()
	out, err := exec.Command("sha256sum", filepath.Join(dir, name)).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out[:64])
}

func TestFailure(t *testing.T) {
	for _, c := range []struct {
		name, step, status, message string
		ran                         bool // the step after it
	}{
		{"Abort", "ExecuteBash, inputs: {commands: ['echo no >&2', exit 3]}", Failed, "exit status 3: no", false},
		{"Continue", "ExecuteBash, onFailure: Continue, inputs: {commands: [exit 3]}", Failed, "exit status 3", true},
		{"Ignore", "ExecuteBash, onFailure: Ignore, inputs: {commands: [exit 3]}", SuccessWithIgnoredFailure, "exit status 3", true},
		{"only the last command counts", "ExecuteBash, inputs: {commands: ['false', 'true']}", Success, "", true},
		{"a reboot", "ExecuteBash, inputs: {commands: [exit 194]}", Failed, "asked for a reboot", false},
		{"an iteration", "ExecuteBash, loop: {forEach: ['true', 'false', 'exit 9']}, inputs: {commands: ['{{ loop.value }}']}", Failed, "iteration 1: exit status 1", false},
		{"a missing program", "ExecuteBinary, inputs: {path: /no/such}", Failed, "/no/such was not found in the image", false},
		{"time", "ExecuteBash, timeoutSeconds: 1, inputs: {commands: [sleep 30]}", Failed, "ran longer than 1s", false},
		{"a condition", "ExecuteBash, if: {binaryExists: none, else: Abort}, inputs: {commands: ['true']}", Failed, "its condition aborts it", false},
		{"retries", "ExecuteBash, maxAttempts: 3, inputs: {commands: ['test -e twice && exit 0', 'test -e once && touch twice', 'touch once', exit 1]}", Success, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := newTree(t)
			r := runAll(t, dir, "build", build("  - {name: a, action: "+c.step+"}\n  - {name: b, action: CreateFile, inputs: [{path: /after}]}"), nil)
			if r.Status != c.status || !strings.HasPrefix(r.Steps[0].Message, c.message) || (len(r.Steps) == 2) != c.ran {
				t.Errorf("got %s %q, %d steps", r.Status, r.Steps[0].Message, len(r.Steps))
			}
		})
	}
}

func TestSudoRunsTheCommand(t *testing.T) {
	r := runAll(t, newTree(t), "build", build("  - {name: a, action: ExecuteBash, inputs: {commands: [sudo -E echo done]}}"), nil)
	if !r.OK() || r.Steps[0].Stdout != "done\n" {
		t.Errorf("%+v", r.Steps[0])
	}
}

func TestCancelledRunIsAnError(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := parse(t, build("  - {name: a, action: ExecuteBash, inputs: {commands: [sleep 30]}}")).Run(ctx, "build", nil, localHost{newTree(t)})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestNestedDocuments(t *testing.T) {
	beside := t.TempDir()
	write(t, beside, "inner.yaml", "schemaVersion: 1.0\nparameters: [{Who: {type: string}}]\nphases:\n- name: build\n  steps: [{name: i, action: CreateFile, inputs: [{path: '/{{ Who }}'}]}]\n- name: test\n  steps: [{name: f, action: ExecuteBash, inputs: {commands: [exit 1]}}]")
	write(t, beside, "self.yaml", build("  - {name: s, action: ExecuteDocument, inputs: {document: self.yaml}}"))
	link(t, beside, "/etc/hostname", "outside.yaml")
	for _, c := range []struct{ document, extra, want string }{
		{"{{ loop.value }}", ", phases: build, parameters: [{name: Who, value: me}]", ""},
		{"inner.yaml", ", parameters: [{name: Who, value: me}]", "document inner.yaml failed"},
		{"inner.yaml", "", "parameter Who has no default"},
		{"none.yaml", "", "no such file"},
		{"self.yaml", "", "document self.yaml failed"},
		{"outside.yaml", "", "escapes"},
	} {
		dir := newTree(t)
		d, err := Parse([]byte(build("  - {name: a, action: ExecuteDocument, loop: {forEach: [inner.yaml]}, inputs: {document: '"+c.document+"'"+c.extra+"}}")), filepath.Join(beside, "outer.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := d.Run(t.Context(), "build", nil, localHost{dir})
		if err != nil {
			t.Fatal(err)
		}
		if r.OK() != (c.want == "") || !strings.Contains(r.Steps[0].Message, c.want) {
			t.Errorf("%s: %s %q, want %q", c.document, r.Status, r.Steps[0].Message, c.want)
		}
		if c.want == "" {
			if _, err := os.Stat(filepath.Join(dir, "me")); err != nil || len(r.Steps[0].Steps) != 1 {
				t.Errorf("the nested document left %v, %+v", err, r.Steps[0].Steps)
			}
		}
	}
}

// Where files come from a lock, nested documents do too, however deep.
func TestNestedDocumentsComeFromTheCaller(t *testing.T) {
	locked := map[string]string{
		"parts/one.yaml":      build("  - {name: a, action: ExecuteDocument, inputs: {document: more/two.yaml}}"),
		"parts/more/two.yaml": build("  - {name: a, action: CreateFile, inputs: [{path: /two}]}"),
	}
	d, err := Parse([]byte(build("  - {name: a, action: ExecuteDocument, inputs: {document: one.yaml}}")), "parts/top.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Nested(); !slices.Equal(got, []string{"parts/one.yaml"}) {
		t.Errorf("nested %v", got)
	}
	var asked []string
	d.Open = func(file string) ([]byte, error) {
		asked = append(asked, file)
		if text, ok := locked[file]; ok {
			return []byte(text), nil
		}
		return nil, errors.New("not in the lock")
	}
	dir := newTree(t)
	r, err := d.Run(t.Context(), "build", nil, localHost{dir})
	if err != nil || !r.OK() || !slices.Equal(asked, []string{"parts/one.yaml", "parts/more/two.yaml"}) {
		t.Errorf("%+v %v, asked for %v", r, err, asked)
	}
	delete(locked, "parts/more/two.yaml")
	if r, _ = d.Run(t.Context(), "build", nil, localHost{dir}); r.OK() {
		t.Error("a document that is not in the lock ran")
	}
}

// Each bad document is refused when it is read, with the line.
func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{build("  - {name: a, action: Reboot, inputs: {delaySeconds: 1}}"), "doc.yaml:5:23: phases[0].steps[0].action: Reboot is refused: a container image is never booted"},
		{build("  - {name: a, action: S3Download, inputs: []}"), "S3Download is refused: a build has no cloud credentials"},
		{build("  - {name: a, action: WebDownload, inputs: []}"), "WebDownload is refused: a build has no network"},
		{build("  - {name: a, action: UpdateOS}"), "UpdateOS is refused: packages are taken from signed archives"},
		{build("  - {name: a, action: ExecutePowerShell, inputs: {commands: []}}"), "ExecutePowerShell is refused: PowerShell runs on Windows"},
		{build("  - {name: a, action: SetRegistry}"), "SetRegistry is refused"},
		{build("  - {name: a, action: CreateFil, inputs: []}"), "unknown action \"CreateFil\"\n  hint: did you mean CreateFile?"},
		{build("  - {name: a, action: CreateFile, inputs: [{pth: /a}]}"), "doc.yaml:5:45: phases[0].steps[0].inputs[0].pth: unknown field\n  hint: did you mean \"path\"?"},
		{build("  - {name: a, action: CreateFile, inputs: [{content: a}]}"), "phases[0].steps[0].inputs[0].path: is missing"},
		{build("  - {name: a, action: CreateFile, inputs: [{path: 'C:\\a'}]}"), "is a Windows path"},
		{build("  - {name: a, action: CreateFile, inputs: [{path: /a, overwrite: maybe}]}"), "overwrite: must be true or false"},
		{build("  - {name: a, action: CreateFile}"), "inputs: is missing"},
		{build("  - {name: a, action: ExecuteBash, inputs: {commands: {a: b}}}"), "commands: must be a list"},
		{build("  - {name: a, action: ExecuteBash, inputs: {commands: []}, onFailure: Stop}"), "onFailure: is Abort, Continue, Ignore; found Stop"},
		{build("  - {name: a, action: ExecuteBash, inputs: {commands: []}, timeoutSeconds: 0}"), "timeoutSeconds: is a number of seconds"},
		{build("  - {name: a, action: ExecuteBash, inputs: {commands: []}, maxAttempts: 0}"), "maxAttempts: is a number from 1"},
		{build("  - {name: a, action: ExecuteBash, inputs: {commands: []}, loop: {for: {start: 1, end: 5, updateBy: -1}}}"), "loop.for: never reaches its end"},
		{build("  - {name: a, action: ExecuteBash, inputs: {commands: []}, loop: {for: {start: 1, end: 5000000, updateBy: 1}}}"), "more than 10000 iterations"},
		{build("  - {name: a, action: ExecuteBash, inputs: {commands: []}, loop: {forEach: {list: a, delimiter: '//'}}}"), "delimiter: is one of"},
		{build("  - {name: a, action: ExecuteBash, inputs: {commands: []}, loop: {}}"), "loop: has exactly one of for and forEach"},
		{build("  - {name: a, action: ExecuteBash, inputs: {commands: []}, if: {fileExist: /a}}"), "if: has no operator\n  hint: did you mean fileExists?"},
		{build("  - {name: a, action: ExecuteBash, inputs: {commands: []}, if: {stringEquals: a}}"), "if.value: is missing"},
		{build("  - {name: a, action: Assert, inputs: {not: {not: {not: {not: {not: {fileExists: a}}}}}}}"), "nested deeper than 4"},
		{build("  - {name: a, action: Assert, inputs: {patternMatches: '(', value: a}}"), "is no regular expression"},
		{build("  - {name: a, action: ExecuteBash, inputs: {commands: ['{{ Nothing }}']}}"), "{{ Nothing }} is no parameter and no constant"},
		{build("  - {name: a, action: ExecuteBash, inputs: {commands: ['{{ build.b.outputs.stdout }}']}}"), "names no step before this one"},
		{build("  - {name: b, action: CreateFile, inputs: [{path: a}]}\n  - {name: a, action: ExecuteBash, inputs: {commands: ['{{ build.b.outputs.stdout }}']}}"), "names no output of that step\n  hint: CreateFile has no output"},
		{build("  - {name: b, action: CreateFile, inputs: [{path: a}]}\n  - {name: a, action: ExecuteBash, inputs: {commands: ['{{ build.b.inputs[1].path }}']}}"), "names no input of that step"},
		{build("  - {name: a, action: ExecuteBash, inputs: {commands: ['{{ aws:ssm:/x }}']}}"), "{{ aws:ssm:/x }} is refused"},
		{build("  - {name: a, action: ExecuteBash, inputs: {commands: ['{{ env:HOME }}']}}"), "{{ env:HOME }} is refused"},
		{build("  - {name: a, action: ExecuteDocument, inputs: {document: 's3://b/c'}}"), "is not a local file"},
		{build("  - {name: a, action: ExecuteDocument, inputs: {document: ../c}}"), "is not beside this document"},
		{build("  - {name: a, action: ExecuteDocument, maxAttempts: 2, inputs: {document: c}}"), "ExecuteDocument runs once"},
		{build("  - {name: a, action: CreateFile, inputs: [{path: a}]}\n  - {name: a, action: CreateFile, inputs: [{path: a}]}"), "two steps are named a"},
		{"schemaVersion: 2.0\nphases: []", `schemaVersion: is "2.0"; 1.0 is read here`},
		{"schemaVersion: 1.0", "phases: is missing"},
		{"schemaVersion: 1.0\nphase: []", "phase: unknown field"},
		{"schemaVersion: 1.0\nphases: []\nparameters: [{ab: {type: string}}]", "a name is 3 to 128"},
		{"schemaVersion: 1.0\nphases: []\nparameters: [{abc: {type: number}}]", "type: is string; found number"},
		{"schemaVersion: 1.0\nphases: []\nconstants: [{abc: {type: string}}]", "has no value"},
	} {
		_, err := Parse([]byte(c.text), "doc.yaml")
		var e *Error
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &e) || e.Line == 0 {
			t.Errorf("%s\n got  %v\n want %s", c.text, err, c.want)
		}
	}
}

func TestTooLargeDocument(t *testing.T) {
	if _, err := Parse(bytes.Repeat([]byte("#"), strictyaml.MaxSize+1), "doc.yaml"); err == nil {
		t.Error("accepted")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(build("  - {name: a, action: Assert, if: {fileExists: /a}, loop: {forEach: [a]}, inputs: {stringEquals: a, value: '{{ loop.value }}'}}"))
	f.Add(build("  - {name: a, action: CreateFile, inputs: [{path: /a}]}"))
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse([]byte(text), "doc.yaml")
		if err != nil {
			return
		}
		for _, p := range d.Phases {
			for _, s := range p.Steps {
				if _, known := actions()[s.Action]; !known && s.Action != "Assert" {
					t.Fatalf("action %q was accepted", s.Action)
				}
			}
		}
	})
}
