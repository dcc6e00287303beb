package scan

import (
	"io/fs"
	"runtime/debug"
	"slices"
	"testing"
)

func TestSPDXExpression(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"MIT", "MIT"},
		{"mit", "MIT"},
		{"Expat", "MIT"},
		{"GPL-2+", "GPL-2.0-or-later"},
		{"GPL-2", "GPL-2.0-only"},
		{"GPL-3.0+", "GPL-3.0-or-later"},
		{"LGPL-2.1", "LGPL-2.1-only"},
		{"GPL-2+ or Artistic", "GPL-2.0-or-later OR Artistic-1.0"},
		{"BSD-3-clause and/or GPL-2", "BSD-3-Clause OR GPL-2.0-only"},
		{"GPL-2+, and BSD-3-clause", "GPL-2.0-or-later AND BSD-3-Clause"},
		{"(MIT OR Apache-2.0) AND Unicode-3.0", "(MIT OR Apache-2.0) AND Unicode-3.0"},
		{"GPL-3+ with font exception", "GPL-3.0-or-later WITH Font-exception-2.0"},
		{"Apache-2.0 WITH LLVM-exception", "Apache-2.0 WITH LLVM-exception"},
		{"Apache-2.0+", "Apache-2.0+"},
	} {
		if got, ok := spdxExpression(c.in); !ok || got != c.want {
			t.Errorf("%q gives %q, %v; want %q", c.in, got, ok, c.want)
		}
	}
	for _, bad := range []string{"", "public-domain", "GPL-2+ or", "(MIT", "MIT)", "MIT MIT", "GPL-2 with strange exception", "or", "LLVM-exception", "BSD"} {
		if got, ok := spdxExpression(bad); ok {
			t.Errorf("%q is taken for the expression %q", bad, got)
		}
	}
}

func TestGoModule(t *testing.T) {
	for _, c := range []struct {
		m    debug.Module
		want string
	}{
		{debug.Module{Path: "example.com/a/b", Version: "v1.2.3"}, "pkg:golang/example.com/a/b@v1.2.3"},
		{debug.Module{Path: "example.com/a/b", Version: "(devel)"}, "pkg:golang/example.com/a/b"},
		{debug.Module{Path: "example.com/a/b/v2", Version: "v2.0.0+incompatible"}, "pkg:golang/example.com/a/b/v2@v2.0.0%2Bincompatible"},
		{debug.Module{Path: "example.com/a", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.0.1"}}, "pkg:golang/example.com/fork@v1.0.1"},
		{debug.Module{Path: "example.com/a", Version: "v1.0.0", Replace: &debug.Module{Path: "../a"}}, "pkg:golang/example.com/a@v1.0.0"},
	} {
		if got, ok := goModule(&c.m); !ok || got.PURL != c.want {
			t.Errorf("%v gives %q, want %q", c.m, got.PURL, c.want)
		}
	}
}

func TestPlace(t *testing.T) {
	files := &table{dirs: map[string]string{".": "."}, entries: map[string]entry{
		"usr": {mode: dirMode}, "usr/bin": {mode: dirMode}, "usr/lib": {mode: dirMode},
		"bin":        {mode: linkMode, link: "usr/bin"},
		"lib":        {mode: linkMode, link: "/usr/lib"},
		"lib64":      {mode: linkMode, link: "lib"},
		"loop":       {mode: linkMode, link: "loop"},
		"up":         {mode: linkMode, link: "../../../usr"},
		"usr/bin/vi": {mode: linkMode, link: "/lib64/vi"},
	}}
	for _, c := range []struct{ in, place, follow string }{
		{"/bin/sh", "usr/bin/sh", "usr/bin/sh"},
		{"/lib64/ld.so", "usr/lib/ld.so", "usr/lib/ld.so"},
		{"up/bin/x", "usr/bin/x", "usr/bin/x"},
		{"bin", "bin", "usr/bin"},
		{"usr/bin/vi", "usr/bin/vi", "usr/lib/vi"},
		{"../../etc/passwd", "etc/passwd", "etc/passwd"},
		{"/", ".", "."},
		{"loop/x", "loop/x", "loop/x"},
	} {
		if got := files.place(c.in); got != c.place {
			t.Errorf("place(%q) = %q, want %q", c.in, got, c.place)
		}
		if got := files.follow(c.in); got != c.follow {
			t.Errorf("follow(%q) = %q, want %q", c.in, got, c.follow)
		}
	}
}

func TestRules(t *testing.T) {
	match := func(name string) bool {
		return slices.ContainsFunc(generatedRules, func(r rule) bool { return r.match(name) })
	}
	for _, yes := range []string{"etc/passwd", "var/cache/a/b", "var/lib/systemd/deb-systemd-helper-enabled/a/b", "etc/pam.d/common-auth", "usr/lib/x86_64-linux-gnu/gio/modules/giomodule.cache"} {
		if !match(yes) {
			t.Errorf("%s is not generated", yes)
		}
	}
	for _, no := range []string{"etc/passwd.bak", "var/cache", "opt/var/cache/a", "etc/pam.d/other", "etc/ld.so.preload", "usr/local/bin/x", "root/.ssh/authorized_keys", "etc/cron.d/x", "etc/sudoers.d/x"} {
		if match(no) {
			t.Errorf("%s is generated", no)
		}
	}
}

const (
	dirMode  = fs.ModeDir | 0o755
	linkMode = fs.ModeSymlink | 0o777
)
