package assemble

import (
	"strings"
	"testing"
)

func TestInert(t *testing.T) {
	dh := "# Automatically added by dh_installinit/13\n"
	for name, c := range map[string]struct {
		script string
		want   bool
	}{
		"helper calls":         {"#!/bin/sh\nset -e\ndpkg-maintscript-helper rm_conffile /etc/x 1.0\\~ -- \"$@\"\nexit 0\n", true},
		"helper call, wrapped": {"#!/bin/sh\ndpkg-maintscript-helper dir_to_symlink \\\n /a b 1 -- \"$@\"\n", true},
		"upgrade only":         {"#!/bin/sh\nset -e\nif [ \"$1\" = \"upgrade\" ] && dpkg --compare-versions \"$2\" lt-nl 1.0; then\n\trm -rf /var/lib/x\nfi\n", true},
		"old version only":     {"#!/bin/sh\n" + dh + "if [ \"$1\" = \"install\" ] && [ -n \"$2\" ] && [ -e \"/etc/init.d/x\" ] ; then\n\tchmod +x \"/etc/init.d/x\" >/dev/null || true\nfi\n", true},
		"only comments":        {"#!/bin/sh -e\n# nothing\n", true},

		"a command":             {"#!/bin/sh\nadduser --system x\n", false},
		"a diversion":           {"#!/bin/sh\ndpkg-divert --add --rename /bin/x\n", false},
		"on install":            {"#!/bin/sh\nif [ \"$1\" = install ]; then\n\ttouch /x\nfi\n", false},
		"with an else":          {"#!/bin/sh\nif [ \"$1\" = upgrade ]; then\n\t:\nelse\n\ttouch /x\nfi\n", false},
		"nested":                {"#!/bin/sh\nif [ \"$1\" = upgrade ]; then\n\tif true; then\n\tx\n\tfi\nfi\ntouch /x\n", false},
		"else on one line":      {"#!/bin/sh\nif [ \"$1\" = upgrade ]; then\n\t:; else touch /x;\nfi\n", false},
		"early end":             {"#!/bin/sh\nif [ \"$1\" = upgrade ]; then\n\t: ;fi;touch /x\nfi\n", false},
		"or":                    {"#!/bin/sh\nif [ \"$1\" = upgrade ] || true; then\n\ttouch /x\nfi\n", false},
		"-o":                    {"#!/bin/sh\nif [ \"$1\" = upgrade -o -n x ]; then\n\ttouch /x\nfi\n", false},
		"not":                   {"#!/bin/sh\nif ! [ \"$1\" = upgrade ]; then\n\ttouch /x\nfi\n", false},
		"substitution":          {"#!/bin/sh\nif [ \"$(touch /x)\" = y ] && [ -n \"$2\" ]; then\n\t:\nfi\n", false},
		"a command in the test": {"#!/bin/sh\nif [ x ] & touch /x [ y ] && [ -n \"$2\" ]; then\n\t:\nfi\n", false},
		"and a command":         {"#!/bin/sh\nif touch /x && [ -n \"$2\" ]; then\n\t:\nfi\n", false},
		"unclosed":              {"#!/bin/sh\nif [ -n \"$2\" ]; then\n", false},
		"helper and more":       {"#!/bin/sh\ndpkg-maintscript-helper rm_conffile /x; touch /y -- \"$@\"\n", false},
		"helper, other call":    {"#!/bin/sh\ndpkg-maintscript-helper supports rm_conffile -- \"$@\"\n", false},
		"here document":         {"#!/bin/sh\nif [ -n \"$2\" ]; then\ncat <<fi\nfi\ntouch /x\nfi\n", false},
		"a function":            {"#!/bin/sh\nset() {\ntouch /x\n}\nset -e\n", false},
		"perl":                  {"#!/usr/bin/perl\n", false},
		"no interpreter":        {"touch /x\n", false},
		"empty":                 {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := inert([]byte(c.script)); got != c.want {
				t.Errorf("got %v for\n%s", got, c.script)
			}
		})
	}
}

func FuzzInert(f *testing.F) {
	f.Add("#!/bin/sh\nset -e\n")
	f.Fuzz(func(t *testing.T, script string) {
		if inert([]byte(script)) && strings.Contains(script, "\nrm ") && !strings.Contains(script, "if ") {
			t.Errorf("a script that removes files is no script that does nothing:\n%s", script)
		}
	})
}

func TestBlame(t *testing.T) {
	for name, c := range map[string]struct {
		output string
		want   ScriptError
	}{
		"postinst": {
			"Setting up nginx ...\nboom\ndpkg: error processing package nginx (--configure):\n installed nginx package post-installation script subprocess returned error exit status 7\nErrors were encountered\n",
			ScriptError{Package: "nginx", Script: "postinst", Exit: 7},
		},
		"preinst by dpkg": {
			"dpkg: error processing archive /var/cache/apt/archives/000-a.deb (--unpack):\n new a package pre-installation script subprocess returned error exit status 2\n",
			ScriptError{Package: "a", Script: "preinst", Exit: 2},
		},
		"preinst of the base": {"x\nkiln: preinst of libc6 failed with 1\n", ScriptError{Package: "libc6", Script: "preinst", Exit: 1}},
		"dependency":          {"dpkg: error processing package b (--configure):\n dependency problems - leaving unconfigured\n", ScriptError{Package: "b", Exit: 1}},
		"dpkg itself":         {"dpkg: error: cannot open the database\n", ScriptError{Exit: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			var out tail
			_, err := out.Write([]byte(c.output))
			okay(t, err)
			err = blame(1, &out)
			got, ok := err.(*ScriptError)
			if !ok {
				t.Fatal(err)
			}
			if got.Package != c.want.Package || got.Script != c.want.Script || got.Exit != c.want.Exit {
				t.Errorf("got %+v", *got)
			}
			wants(t, err, "last output:\n    "+strings.SplitN(c.output, "\n", 2)[0])
		})
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var out tail
	for i := range 5000 {
		_, err := out.Write([]byte(strings.Repeat("x", 50) + string(rune('a'+i%26)) + "\n"))
		okay(t, err)
	}
	_, err := out.Write([]byte("\x1b[31mred\x1b[0m\x07\n"))
	okay(t, err)
	lines := strings.Split(out.lines(tailLines), "\n")
	if len(lines) != tailLines || lines[tailLines-1] != "[31mred[0m" || len(out.buf) > 2*tailBytes {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

func TestStepsFollowDependencies(t *testing.T) {
	p := func(name, pre, dep, provides string) *pkg {
		q := newPkg(kilnPackage(name), 0)
		q.meta = metaOf(name, pre, dep, provides)
		return q
	}
	lib, app, late, tool := p("lib", "", "data", ""), p("app", "virtual (>= 1)", "late", ""), p("late", "", "app", ""), p("tool", "", "", "virtual (= 2)")
	data := p("data", "", "", "")
	tool.meta.Depends = "lib | other"
	all := []*pkg{app, data, late, lib, tool}
	var got []string
	for _, s := range planSteps(all, []*pkg{lib, data}, []*pkg{app, late, tool}) {
		for _, q := range s.unpack {
			got = append(got, "unpack "+q.Name)
		}
		for _, q := range s.configure {
			got = append(got, "configure "+q.Name)
		}
	}
	want := "unpack tool, unpack late, configure data, configure lib, configure tool, unpack app"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("got %s\nwant %s", s, want)
	}
}
