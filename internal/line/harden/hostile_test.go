package harden

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/tree"
)

// touches are the files that a setting reads or writes. Kinds that touch no file of a fixed name are named with why.
func touches(set kiln.Setting) (files []string, why string) {
	text := func(k string) string { s, _ := set.Params[k].(string); return s }
	list := func(k string) (out []string) {
		l, _ := set.Params[k].([]any)
		for _, v := range l {
			out = append(out, fmt.Sprint(v))
		}
		return out
	}
	switch set.Kind {
	case "sysctl":
		return []string{sysctlDropIn, "/etc/sysctl.conf", "/etc/sysctl.d/10-site.conf"}, ""
	case "kernel-module":
		return []string{"/etc/modprobe.d/kiln-" + text("name") + ".conf", "/etc/modprobe.d/site.conf"}, ""
	case "kernel-argument":
		return []string{grubMain, grubDropIn}, ""
	case "mount":
		return []string{fstab}, ""
	case "unit-masked", "unit-enabled":
		return []string{"/usr/lib/systemd/system/" + list("names")[0], "/etc/systemd/system"}, ""
	case "config":
		g := grammars[text("program")]
		if g.dropIn == "" {
			return []string{g.main}, ""
		}
		return []string{g.main, g.dropIn, g.dirs[0]}, ""
	case "limit":
		return []string{limitsMain, limitsDropIn}, ""
	case "audit-rules":
		return []string{auditFile, auditLast, auditRules + "/site.rules"}, ""
	case "audit-set-id":
		return []string{auditFile}, ""
	case "sudo-default":
		return []string{sudoers, sudoDropIn}, ""
	case "pam":
		return []string{text("file")}, ""
	case "apt-setting":
		return []string{aptDropIn, "/etc/apt/apt.conf", "/etc/apt/apt.conf.d/site"}, ""
	case "dconf":
		dir := "/etc/dconf/db/" + text("database") + ".d"
		return []string{dir + "/99-zz-kiln", dir + "/locks/99-zz-kiln", dir + "/10-site", "/etc/dconf/profile/user"}, ""
	case "own-unit":
		return []string{"/etc/systemd/system/" + text("name")}, ""
	case "log-owners":
		return nil, "looks at owners of whatever logs there are"
	case "nftables":
		return []string{nftMain}, ""
	case "iptables":
		return []string{rulesV4, rulesV6}, ""
	case "ufw":
		return []string{ufwRules, ufwRules6, ufwBefore, ufwBefore6}, ""
	case "sshd":
		return []string{sshdConfig, "/etc/ssh/sshd_config.d/site.conf"}, ""
	case "key-value", "file-content", "line-present", "file-created":
		return []string{text("path")}, ""
	case "shell-umask":
		return append(list("files"), text("path")), ""
	case "file-mode", "line-absent", "files-absent", "files-empty", "directory-empty", "file-present":
		return list("paths"), ""
	case "tree-mode":
		return list("directories"), ""
	case "account-empty-password", "account-locked", "account-password-age", "account-changed-in-past":
		return []string{"/etc/shadow", "/etc/passwd"}, ""
	case "account-no-shell", "account-root-group", "account-homes":
		return []string{"/etc/passwd"}, ""
	case "account-zero-uid", "account-shadowed", "account-unused-defaults":
		return []string{"/etc/passwd", "/etc/shadow"}, ""
	case "account-group-exists", "group-zero-gid", "group-no-members", "group-empty":
		return []string{"/etc/group", "/etc/gshadow"}, ""
	case "account-unique":
		return []string{text("file")}, ""
	case "packages-absent", "packages-present", "asked-packages-absent", "unused-packages-absent", "package-manager-absent", "shells-absent", "documentation-absent":
		return []string{"/var/lib/dpkg/status", "/var/lib/dpkg/info/app.list"}, ""
	case "owned-files":
		return []string{"/etc/passwd", "/etc/group"}, ""
	case "setid-cleared", "capabilities-cleared", "world-writable-files", "sticky-directories", "setgid-directories", "device-files-absent":
		return nil, "looks at owners, modes and attributes of whatever there is"
	case "layer-secrets":
		return []string{"/srv/app.conf"}, ""
	case "layer-setid":
		return nil, "looks at the layers of an image, not at a tree"
	case "certificates-known":
		return append(list("bundles"), list("known")...), ""
	}
	for _, prefix := range []string{"image-", "inputs-", "layer-"} {
		if strings.HasPrefix(set.Kind, prefix) {
			return nil, "judges the image's configuration and layers, not files of the tree"
		}
	}
	return nil, ""
}

func TestEveryKindSaysWhatItTouches(t *testing.T) {
	for kind, set := range samples(t) {
		if files, why := touches(set); len(files) == 0 && why == "" {
			t.Errorf("kind %s: add to touches() the files that it reads or writes, or the reason why there are none", kind)
		}
	}
}

// samples is one setting of the catalogue for each kind.
func samples(t testing.TB) map[string]kiln.Setting {
	t.Helper()
	cat, err := catalogue.Load()
	must(t, err)
	out := map[string]kiln.Setting{}
	for _, k := range cat.Objectives() {
		for _, v := range k.Variants {
			for _, s := range v.Settings {
				out[s.Kind] = s
			}
		}
	}
	return out
}

// users of a file are the catalogue's objectives, each reduced to its first setting that touches the file.
func usersOf(t testing.TB) map[string][]kiln.Control {
	t.Helper()
	cat, err := catalogue.Load()
	must(t, err)
	out := map[string][]kiln.Control{}
	for _, k := range cat.Objectives() {
		seen := map[string]bool{}
		for _, v := range k.Variants {
			for _, set := range v.Settings {
				files, _ := touches(set)
				for _, file := range files {
					file = strings.ReplaceAll(file, "*", "x")
					if seen[file] || slices.Contains(exclusive, k.ID) {
						continue
					}
					seen[file] = true
					one := k
					one.Platforms, one.Applies, one.Scope = nil, nil, "both"
					one.Variants = []kiln.Variant{{ID: "only", Settings: []kiln.Setting{set}}}
					out[file] = append(out[file], one)
				}
			}
		}
	}
	return out
}

// hostiles put something in the place of a file; outside is a directory beside the tree.
var hostiles = map[string]func(t testing.TB, at, outside string){
	"link out": func(t testing.TB, at, outside string) { must(t, os.Symlink(outside+"/precious", at)) },
	"link up and out": func(t testing.TB, at, outside string) {
		must(t, os.Symlink("../../../../../../../../../.."+outside+"/precious", at))
	},
	"link to nothing":          func(t testing.TB, at, outside string) { must(t, os.Symlink(outside+"/new", at)) },
	"link to a link":           func(t testing.TB, at, _ string) { must(t, os.Symlink(filepath.Base(at), at)) },
	"link out, of a directory": func(t testing.TB, at, outside string) { must(t, os.Symlink(outside, at)) },
	"FIFO":                     func(t testing.TB, at, _ string) { must(t, unix.Mkfifo(at, 0o644)) },
	"socket":                   func(t testing.TB, at, _ string) { must(t, unix.Mknod(at, unix.S_IFSOCK|0o644, 0)) },
	"directory": func(t testing.TB, at, _ string) {
		must(t, os.Mkdir(at, 0o755))
		must(t, os.WriteFile(at+"/x", []byte("x"), 0o644))
	},
	"zero bytes": func(t testing.TB, at, _ string) {
		must(t, os.WriteFile(at, []byte("# text\nkey = value\x00\n\x00\x00"), 0o644))
	},
	"invalid UTF-8": func(t testing.TB, at, _ string) {
		must(t, os.WriteFile(at, []byte("# \xff\xfe\xc3\x28\n\xa0\xa1 = \xe2\x28\xa1\n:\xff:\n"), 0o644))
	},
	"one endless line": func(t testing.TB, at, _ string) {
		must(t, os.WriteFile(at, []byte(strings.Repeat("a b=", 1<<12)), 0o644))
	},
	"huge": func(t testing.TB, at, _ string) {
		must(t, os.WriteFile(at, nil, 0o644))
		must(t, os.Truncate(at, maxFile+1))
	},
	"large": func(t testing.TB, at, _ string) {
		must(t, os.WriteFile(at, nil, 0o644))
		must(t, os.Truncate(at, maxConfig+1))
	},
	"name from outside": func(t testing.TB, at, outside string) { must(t, os.Link(outside+"/precious", at)) },
}

// refusing are the hostile forms that no kind may write through or replace.
var refusing = []string{"link out", "link up and out", "link to nothing", "link to a link", "link out, of a directory", "FIFO", "socket", "directory"}

// exclusive are objectives that exclude another one: together they are an error of whoever chose them.
var exclusive = []string{"rsyslog-forwarded", "banner-dod", "time-timesyncd-enabled", "nftables-enabled"}

// TestHostileFiles puts a hostile form in the place of files that kinds touch, and applies all objectives that touch them:
// it ends, nothing outside of the tree changes, the form stays, and what cannot be had is said with the path. Each form
// takes the place of all files at once, and of single files by turns.
func TestHostileFiles(t *testing.T) {
	needRoot(t)
	users := usersOf(t)
	files := slices.Sorted(maps.Keys(users))
	if len(files) < 150 {
		t.Errorf("only %d files are touched", len(files))
	}
	forms := slices.Sorted(maps.Keys(hostiles))
	for at, form := range forms {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			if form != "huge" { // 64 MiB in each place would be a test of the disk
				tryHostile(t, form, leaves(files), everybody(t))
			}
			for i := at; i < len(files); i += len(forms) {
				tryHostile(t, form, files[i:i+1], users[files[i]])
			}
		})
	}
}

// leaves are the files that are not a directory of another one.
func leaves(files []string) []string {
	return slices.DeleteFunc(slices.Clone(files), func(f string) bool {
		return strings.Count(f, "/") == 1 || slices.ContainsFunc(files, func(g string) bool { return strings.HasPrefix(g, f+"/") })
	})
}

// everybody are all objectives at once.
func everybody(t testing.TB) []kiln.Control {
	t.Helper()
	cat, err := catalogue.Load()
	must(t, err)
	var out []kiln.Control
	for _, k := range cat.Objectives() {
		if !slices.Contains(exclusive, k.ID) {
			k.Platforms, k.Applies, k.Scope = nil, nil, "both"
			out = append(out, k)
		}
	}
	return out
}

func tryHostile(t *testing.T, form string, files []string, list []kiln.Control) {
	outside := t.TempDir()
	must(t, os.WriteFile(outside+"/precious", []byte("UMASK 022\n"), 0o666))
	must(t, os.Chmod(outside+"/precious", 0o666))
	before := facts(t, outside)
	dir := plant(t, debianWith(append(machine(), f("usr/bin/bash", "0755", "x"), d("home/ann", "0755"))...)...)
	defer os.RemoveAll(filepath.Dir(dir))
	for _, file := range files {
		at := filepath.Join(dir, file)
		must(t, os.MkdirAll(filepath.Dir(at), 0o755))
		if real, err := filepath.EvalSymlinks(filepath.Dir(at)); err != nil || !strings.HasPrefix(real+"/", dir+"/") {
			t.Fatalf("%s is not in the tree: %v", real, err)
		}
		must(t, os.RemoveAll(at))
		hostiles[form](t, at, outside)
	}
	was := facts(t, dir)
	in := Input{Scope: "machine", Controls: list, Profile: "hostile", Recipe: &kiln.Recipe{Name: "app", Packages: []kiln.PackageRequest{{Name: "app"}}}, Lock: &kiln.Lock{Epoch: 1}, Now: time.Unix(1, 0), Before: kiln.DigestBytes(nil)}
	res, err := ends(t, func(ctx context.Context) (*kiln.HardeningResult, error) { return Apply(ctx, dir, in) })
	what := fmt.Sprintf("%s in place of %s", form, list5(files))
	if got := facts(t, outside); show(got) != show(before) {
		t.Errorf("%s: outside of the tree there is now\n%s", what, show(got))
	}
	after := facts(t, dir)
	for p := range after {
		if strings.Contains(p, temporary) {
			t.Errorf("%s: %s is left", what, p)
		}
	}
	if err != nil {
		if !slices.ContainsFunc(files, func(p string) bool { return strings.Contains(err.Error(), clean(p)) }) {
			t.Errorf("%s: %v; want an error that names the file", what, err)
		}
		return
	}
	for _, o := range res.Outcomes {
		if (o.State == kiln.NotSatisfied || o.State == kiln.Unknown) && o.Reason == "" {
			t.Errorf("%s: %s is %s without a reason", what, o.Objective, o.State)
		}
	}
	if !slices.Contains(refusing, form) || slices.ContainsFunc(list, func(k kiln.Control) bool { return slices.Contains(replacing, k.Variants[0].Settings[0].Kind) }) && len(files) == 1 {
		return
	}
	for _, file := range files {
		if p := clean(file); was[p] != "" && after[p] != "" && (after[p][0] != was[p][0] || was[p][0] == 'l' && after[p] != was[p]) && !replaced(file) {
			t.Errorf("%s: %s is now %q", what, file, after[p])
		}
	}
}

func list5(files []string) string { return list(files) }

// replaced: whatever stands there, an objective replaces or removes it.
func replaced(file string) bool {
	return strings.HasPrefix(file, "/etc/systemd/system") || strings.Contains(file, "/systemd/system/")
}

// replacing are kinds whose purpose is to take away what stands there, or to change its mode.
var replacing = []string{"files-absent", "directory-empty", "unit-masked", "unit-enabled", "file-mode", "tree-mode"}

// endless is longer than anything here takes, on a busy machine and with the race detector too.
const endless = 8 * time.Minute

// ends fails a test whose function does not.
func ends(t *testing.T, fn func(context.Context) (*kiln.HardeningResult, error)) (*kiln.HardeningResult, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), endless)
	defer cancel()
	type result struct {
		res *kiln.HardeningResult
		err error
	}
	done := make(chan result, 1)
	go func() {
		res, err := fn(ctx)
		done <- result{res, err}
	}()
	select {
	case r := <-done:
		return r.res, r.err
	case <-time.After(endless):
		buf := make([]byte, 1<<16)
		t.Fatalf("it does not end:\n%s", buf[:runtime.Stack(buf, true)])
		return nil, nil
	}
}

// facts describes every path without opening what is no regular file; large contents are left out.
func facts(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, tree.Walk(dir, func(e tree.Entry) error {
		out[e.Path] = fmt.Sprintf("%c %04o %d:%d %s", e.Type, e.Mode, e.UID, e.GID, e.Link)
		if e.Type == 'f' || e.Type == 'h' {
			info, err := os.Stat(filepath.Join(dir, e.Path))
			must(t, err)
			out[e.Path] = fmt.Sprintf("f %04o %d:%d %d", e.Mode, e.UID, e.GID, info.Size())
			if info.Size() < 1<<20 {
				data, err := os.ReadFile(filepath.Join(dir, e.Path))
				must(t, err)
				out[e.Path] += fmt.Sprintf(" %x", sha256.Sum256(data))
			}
		}
		return nil
	}))
	delete(out, ".")
	return out
}
