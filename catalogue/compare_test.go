package catalogue

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln"
)

// copyCatalogue writes the catalogue's own files into a new directory, each changed by edit.
func copyCatalogue(t *testing.T, edit func(name, text string) string) string {
	t.Helper()
	dir := t.TempDir()
	names := []string{"benchmarks.yaml"}
	for _, pattern := range []string{"objectives/*.yaml", "profiles/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		names = append(names, found...)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(edit(name, string(data))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func same(_, text string) string { return text }

// replaced fails where the text to change is not there: an edit that changes nothing would test nothing.
func replaced(t *testing.T, text, old, with string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("the catalogue no longer contains %q", old)
	}
	return strings.Replace(text, old, with, 1)
}

const newObjective = `
- id: made-up
  title: "Something new is right"
  rationale: "The next edition asks for it."
  severity: low
  scope: both
  variants:
    - id: file
      settings:
        - {kind: file-mode, params: {path: "/etc/made-up", mode: "0600"}}
  references:
    cis-debian-12: ["9.9.9 L1"]
`

var edition *Catalogue // read once: tests of a package run one after the other

// nextEdition is a made second version: a new benchmark version that renumbers, re-values, adds and removes.
func nextEdition(t *testing.T) *Catalogue {
	t.Helper()
	if edition != nil {
		return edition
	}
	dir := copyCatalogue(t, func(name, text string) string {
		switch name {
		case "benchmarks.yaml":
			return replaced(t, text, `{name: "CIS Debian Linux 12", version: "1.1.0"}`, `{name: "CIS Debian Linux 12", version: "2.0.0"}`)
		case "objectives/machine-ssh.yaml":
			text = replaced(t, text, `cis-debian-12: ["5.1.10 L1"]`, `cis-debian-12: ["5.1.11 L1"]`)
			text = replaced(t, text, `value: "/etc/issue.net"`, `value: "/etc/issue"`)
			return text + newObjective
		case "profiles/cis-l1.yaml":
			text = replaced(t, text, "  - mode-motd\n", "")
			return text + "  - made-up\n"
		}
		return text
	})
	c, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	edition = c
	return c
}

func TestADirectoryAndAnExportAreTheSameCatalogue(t *testing.T) {
	own, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := Read(copyCatalogue(t, same))
	if err != nil {
		t.Fatal(err)
	}
	data, err := own.Export()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "catalogue.json")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	export, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]*Catalogue{"directory": dir, "export": export} {
		if c.Digest() != own.Digest() {
			t.Errorf("the %s has digest %s, the catalogue %s", what, c.Digest(), own.Digest())
		}
		if d := Compare(own, c); len(d.Objectives)+len(d.Benchmarks) != 0 {
			t.Errorf("the %s differs: %+v", what, d)
		}
	}
}

func TestCompareNamesEveryKindOfChange(t *testing.T) {
	own, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	d := Compare(own, nextEdition(t))
	for _, f := range d.Benchmarks {
		got = append(got, f.What+": "+f.Old+" -> "+f.New)
	}
	for _, c := range d.Objectives {
		got = append(got, c.Change+" "+c.Objective)
		for _, f := range c.Fields {
			got = append(got, "  "+f.What+": "+f.Old+" -> "+f.New)
		}
	}
	want := `cis-debian-12: CIS Debian Linux 12 1.1.0 -> CIS Debian Linux 12 2.0.0
added made-up
changed ssh-banner
  variant file: sshd {"default":"none","keyword":"Banner","value":"/etc/issue.net"} -> sshd {"default":"none","keyword":"Banner","value":"/etc/issue"}
changed ssh-host-based
  CIS Debian Linux 12: 5.1.10 L1 -> 5.1.11 L1`
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

func TestTheEffectOnARecipe(t *testing.T) {
	own, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	until := kiln.Exception{Owner: "a", Reason: "b", Expires: "2099-01-01"}
	h := kiln.Hardening{Profile: "cis-l1", Waivers: []kiln.Waiver{
		{Objective: "mode-motd", Exception: until},
		{Objective: "ssh-banner", Exception: until},
		{Objective: "made-up", Exception: until},
		{Objective: "mode-passwd", Exception: until},
		{Objective: "nothing", Exception: until},
	}}
	choose := func(c *Catalogue) ([]kiln.Control, error) { return c.Select(h) }
	e, err := EffectOn(h, choose, own, nextEdition(t))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range e.Revalued {
		got = append(got, f.What)
	}
	for _, f := range e.Renumbered {
		got = append(got, f.What+": "+f.Old+" -> "+f.New)
	}
	for _, n := range e.Waivers {
		got = append(got, n.Objective+": "+n.Note)
	}
	want := `ssh-banner
ssh-host-based, CIS Debian Linux 12: 5.1.10 L1 -> 5.1.11 L1
mode-motd: no longer in what the recipe asks for: remove the waiver
ssh-banner: what is waived has changed; decide again: file: sshd {"default":"none","keyword":"Banner","value":"/etc/issue"}
made-up: the objective is new to what the recipe asks for: the waiver takes effect
nothing: names nothing that the recipe asks for`
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	if g, l := strings.Join(e.Gained, " "), strings.Join(e.Lost, " "); g != "made-up" || l != "mode-motd" {
		t.Errorf("gained %q, lost %q", g, l)
	}
	h.Include = []string{"made-up"}
	if e, err := EffectOn(h, choose, nextEdition(t), own); err != nil || !strings.Contains(e.Broken, `no objective "made-up"`) {
		t.Errorf("a recipe that the new catalogue cannot serve: %+v, %v", e, err)
	}
}

func TestContrastsOfBenchmarks(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	contrasts := func(one, other string) map[string]Contrast {
		a, err := c.Benchmark(one)
		if err != nil {
			t.Fatal(err)
		}
		b, err := c.Benchmark(other)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]Contrast{}
		for _, x := range c.Contrasts(a, b) {
			out[x.Objective] = x
		}
		return out
	}
	x := contrasts("cis-ubuntu-24.04", "DISA STIG Canonical Ubuntu 24.04 LTS")["login-max-days"]
	if x.A == nil || x.B == nil || x.A.Variant != "cis" || x.B.Variant != "stig" || !strings.Contains(x.A.Settings, "365") || !strings.Contains(x.B.Settings, "60") {
		t.Errorf("the age of passwords, 365 days against 60: %+v %+v", x.A, x.B)
	}
	renumbered := 0
	for _, x := range contrasts("cis-debian-12", "cis-debian-13") {
		for _, d := range x.Differs {
			if d == OtherIDs {
				renumbered++
			}
		}
	}
	if renumbered < 20 {
		t.Errorf("%d objectives have other ids in CIS Debian 13, want 20 or more: root login went from 5.1.20 to 5.1.21", renumbered)
	}
	if _, err := c.Benchmark("cis-debian-11"); err == nil || !strings.Contains(err.Error(), "there are cci, ") {
		t.Errorf("a benchmark that there is not: %v", err)
	}
}

func TestReadRefusesHostileCatalogues(t *testing.T) {
	own, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	data, err := own.Export()
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "catalogue.json")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	linked := copyCatalogue(t, same)
	if err := os.Remove(linked + "/benchmarks.yaml"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", linked+"/benchmarks.yaml"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ path, want string }{
		"an export that was changed": {write(strings.Replace(string(data), "365", "999", 1)), "it was changed"},
		"a truncated export":         {write(string(data[:len(data)/2])), "too early"},
		"another document":           {write(`{"apiVersion":"kiln/v1","kind":"Lock"}`), "kind"},
		"a link instead of a file":   {linked, "no regular file"},
		"nothing there":              {filepath.Join(t.TempDir(), "none"), "no such file"},
		"an empty directory":         {t.TempDir(), "benchmarks.yaml"},
		"a bomb of aliases": {copyCatalogue(t, func(n, s string) string {
			return s + map[bool]string{true: "\nbomb: &a {name: \"x\", version: \"y\"}\nmore: *a\n"}[n == "benchmarks.yaml"]
		}), "anchors and aliases"},
		"a profile that does not exist": {copyCatalogue(t, func(n, s string) string { return strings.Replace(s, "inherits: cis-l1", "inherits: cis-l0", 1) }), `no profile "cis-l0"`},
	} {
		if _, err := Read(c.path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
