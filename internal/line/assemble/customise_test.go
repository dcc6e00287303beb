package assemble

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/internal/sandbox"
)

func ptr[T any](v T) *T { return &v }

// debianLike is the part of a tree that customising looks at.
func debianLike(t *testing.T) string {
	dir := t.TempDir()
	plant(t, dir, map[string]string{
		"etc/passwd":  "f 0644 0:0 root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\n_apt:x:100:65534::/nonexistent:/usr/sbin/nologin\n",
		"etc/group":   "f 0644 0:0 root:x:0:\nshadow:x:42:\nwww-data:x:33:\nstaff:x:50:root\n",
		"etc/shadow":  "f 0640 0:42 root:*:1:0:99999:7:::\n",
		"etc/gshadow": "f 0640 0:42 root:*::\nstaff:*::root\n",
		"usr/bin":     "d 0755 0:0", "bin": "l -> usr/bin", "run": "d 0755 0:0", "var/run": "l -> /run", "etc/alias": "l -> target",
	})
	return dir
}

const day = 20000

func sampleLock() *kiln.Lock {
	return &kiln.Lock{Header: kiln.NewHeader("Lock"), Name: "sample", Platform: "linux/amd64", Epoch: day * 86400}
}

func customise(t *testing.T, r *kiln.Recipe, dir string) error {
	t.Helper()
	return Customise(t.Context(), r, sampleLock(), dir, Options{Run: sandbox.Run})
}

func TestAccounts(t *testing.T) {
	needRoot(t)
	dir := debianLike(t)
	okay(t, customise(t, &kiln.Recipe{
		Groups: []kiln.GroupSpec{{Name: "data", GID: ptr(5000)}, {Name: "auto"}, {Name: "staff"}},
		Users: []kiln.UserSpec{
			{Name: "web", UID: ptr(10001), Home: "/srv/web", Groups: []string{"staff", "data"}},
			{Name: "job", Group: "data", Shell: "/bin/sh"},
			{Name: "www-data", Groups: []string{"web"}},
		},
	}, dir))
	for name, want := range map[string]string{
		"etc/passwd":  "web:x:10001:10001::/srv/web:/usr/sbin/nologin\njob:x:102:5000::/nonexistent:/bin/sh\n",
		"etc/group":   "staff:x:50:root,web\ndata:x:5000:web\nauto:x:101:\nweb:x:10001:www-data\n",
		"etc/shadow":  fmt.Sprintf("web:!:%d::::::\njob:!:%d::::::\n", day, day),
		"etc/gshadow": "staff:*::root,web\ndata:!::web\nauto:!::\nweb:!::www-data\n",
	} {
		if got := content(t, dir, name); !strings.HasSuffix(got, want) {
			t.Errorf("%s ends wrong:\n%s", name, got)
		}
	}
	compareMode(t, dir, "etc/shadow", "f 0640 0:42")
	compareMode(t, dir, "srv/web", "d 0750 10001:10001")
	before := content(t, dir, "etc/passwd")
	okay(t, customise(t, &kiln.Recipe{Users: []kiln.UserSpec{{Name: "web", UID: ptr(10001)}}}, dir))
	if content(t, dir, "etc/passwd") != before {
		t.Error("a user that is there already was added again")
	}
}

func TestAccountsRefuse(t *testing.T) {
	needRoot(t)
	for name, c := range map[string]struct {
		r    kiln.Recipe
		want string
	}{
		"uid taken":       {kiln.Recipe{Users: []kiln.UserSpec{{Name: "x", UID: ptr(33)}}}, "belongs to user www-data"},
		"gid taken":       {kiln.Recipe{Groups: []kiln.GroupSpec{{Name: "x", GID: ptr(50)}}}, "belongs to group staff"},
		"other uid":       {kiln.Recipe{Users: []kiln.UserSpec{{Name: "www-data", UID: ptr(34)}}}, "exists with uid 33"},
		"other gid":       {kiln.Recipe{Groups: []kiln.GroupSpec{{Name: "staff", GID: ptr(51)}}}, "exists with gid 50"},
		"no group":        {kiln.Recipe{Users: []kiln.UserSpec{{Name: "x", Groups: []string{"none"}}}}, "add it under groups"},
		"no primary":      {kiln.Recipe{Users: []kiln.UserSpec{{Name: "x", Group: "none"}}}, "add it under groups"},
		"injected line":   {kiln.Recipe{Users: []kiln.UserSpec{{Name: "x", Home: "/x\nroot2::0:0::/:/bin/sh"}}}, "absolute path"},
		"injected field":  {kiln.Recipe{Users: []kiln.UserSpec{{Name: "x", Shell: "/bin/sh:x"}}}, "absolute path"},
		"name":            {kiln.Recipe{Users: []kiln.UserSpec{{Name: "a:0:0"}}}, "user name"},
		"negative":        {kiln.Recipe{Groups: []kiln.GroupSpec{{Name: "x", GID: ptr(-1)}}}, "not between"},
		"owner not there": {kiln.Recipe{Files: []kiln.FileSpec{{Path: "/x", Content: ptr(""), Owner: "none"}}}, "does not exist in the image"},
	} {
		t.Run(name, func(t *testing.T) { wants(t, customise(t, &c.r, debianLike(t)), c.want) })
	}
}

// lockFolder lists what is in a recipe's folder as resolve does.
func lockFolder(t *testing.T, dir string, paths map[string]string) []kiln.LockedFile {
	t.Helper()
	var out []kiln.LockedFile
	for _, p := range sorted(paths) {
		mode := paths[p]
		f := kiln.LockedFile{Path: p, Mode: mode, Digest: kiln.DigestBytes(nil)}
		switch mode[0] {
		case 'l':
			target, err := os.Readlink(filepath.Join(dir, p))
			okay(t, err)
			f.Digest = kiln.DigestBytes([]byte(target))
		case '0':
			data, err := os.ReadFile(filepath.Join(dir, p))
			okay(t, err)
			f.Digest, f.Size = kiln.DigestBytes(data), int64(len(data))
		}
		out = append(out, f)
	}
	return out
}

func TestFiles(t *testing.T) {
	needRoot(t)
	beside := t.TempDir()
	plant(t, beside, map[string]string{
		"site/index": "f 0644 0:0 index", "site/sub/run": "f 0755 0:0 run", "site/link": "l -> index", "single": "f 0600 7:7 single", "extra": "f 0644 0:0 extra",
	})
	lock := sampleLock()
	lock.Files = lockFolder(t, beside, map[string]string{"site": "d0755", "site/index": "0644", "site/link": "l0777", "site/sub": "d0700", "site/sub/run": "0755", "single": "0600"})
	dir := debianLike(t)
	r := &kiln.Recipe{Dir: beside, Files: []kiln.FileSpec{
		{Path: "/opt/a/text", Content: ptr("hello"), Mode: "4750", Owner: "www-data"},
		{Path: "/bin/tool", Content: ptr("t"), Mode: "0755", Owner: "0", Group: "staff"},
		{Path: "/var/run/pid/x", Content: ptr("p")},
		{Path: "/etc/alias", Content: ptr("replaced")},
		{Path: "/srv/site", Source: "site", Owner: "33"},
		{Path: "/srv/strict", Source: "./site/", Mode: "0640"},
		{Path: "/srv/single", Source: "single"},
		{Path: "/opt/empty", Directory: true, Mode: "1777"},
		{Path: "/opt/link", Symlink: "/nowhere"},
		{Path: "/tmp/kept/x", Content: ptr("k")},
	}}
	okay(t, Customise(t.Context(), r, lock, dir, Options{Run: sandbox.Run}))
	for _, n := range []string{"etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"} {
		okay(t, os.Remove(filepath.Join(dir, n)))
	}
	compare(t, dir, map[string]string{
		"bin": "l -> usr/bin", "var/run": "l -> /run",
		"opt/a/text": "f 4750 33:33 " + sumOf("hello"), "usr/bin/tool": "f 0755 0:50", "run/pid": "d 0755", "run/pid/x": "f 0644 0:0",
		"etc/alias": "f 0644 0:0 " + sumOf("replaced"),
		"srv/site":  "d 0755 33:33", "srv/site/index": "f 0644 33:33 " + sumOf("index"), "srv/site/sub/run": "f 0755 33:33", "srv/site/link": "l -> index", "srv/site/sub": "d 0755 33:33",
		"srv/strict": "d 0750 0:0", "srv/strict/index": "f 0640 0:0", "srv/strict/sub": "d 0750 0:0", "srv/strict/sub/run": "f 0640 0:0", "srv/strict/link": "l -> index",
		"srv/single": "f 0644 0:0 " + sumOf("single"), "opt/empty": "d 1777 0:0", "opt/link": "l -> /nowhere", "tmp/kept/x": "f 0644 0:0",
	})
}

func TestFilesRefuse(t *testing.T) {
	needRoot(t)
	beside := t.TempDir()
	plant(t, beside, map[string]string{"changed": "f 0644 0:0 before"})
	lock := sampleLock()
	lock.Files = lockFolder(t, beside, map[string]string{"changed": "0644"})
	plant(t, beside, map[string]string{"changed": "f 0644 0:0 after"})
	outside := t.TempDir()
	for name, c := range map[string]struct {
		f    kiln.FileSpec
		want string
	}{
		"relative":        {kiln.FileSpec{Path: "x", Content: ptr("")}, "absolute"},
		"parent":          {kiln.FileSpec{Path: "/a/../../x", Content: ptr("")}, ".."},
		"over directory":  {kiln.FileSpec{Path: "/etc", Content: ptr("")}, "a directory is there"},
		"the root":        {kiln.FileSpec{Path: "/", Content: ptr("")}, "root directory"},
		"below a file":    {kiln.FileSpec{Path: "/etc/passwd/x", Content: ptr("")}, "through"},
		"mode":            {kiln.FileSpec{Path: "/x", Content: ptr(""), Mode: "rwx"}, "octal"},
		"changed":         {kiln.FileSpec{Path: "/x", Source: "changed"}, "has changed since"},
		"not locked":      {kiln.FileSpec{Path: "/x", Source: "other"}, "not in the lock"},
		"nothing":         {kiln.FileSpec{Path: "/x"}, "one of content"},
		"directory there": {kiln.FileSpec{Path: "/etc/group", Directory: true}, "through a symbolic link or a file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := debianLike(t)
			wants(t, Customise(t.Context(), &kiln.Recipe{Dir: beside, Files: []kiln.FileSpec{c.f}}, lock, dir, Options{Run: sandbox.Run}), c.want)
		})
	}
	t.Run("link out of the tree", func(t *testing.T) {
		dir := debianLike(t)
		plant(t, dir, map[string]string{"out": "l -> " + outside, "up": "l -> ../../../../../../" + outside})
		okay(t, customise(t, &kiln.Recipe{Files: []kiln.FileSpec{{Path: "/out/x", Content: ptr("x")}, {Path: "/up/y", Content: ptr("y")}}}, dir))
		if names, _ := os.ReadDir(outside); len(names) > 0 {
			t.Errorf("written outside: %v", names)
		}
		compareMode(t, dir, strings.TrimPrefix(outside, "/")+"/x", "f 0644")
	})
}

func TestStepsHaveTheirEnvironmentAndFail(t *testing.T) {
	needRoot(t)
	var specs []sandbox.Spec
	run := func(ctx context.Context, s sandbox.Spec) (sandbox.Result, error) {
		specs = append(specs, s)
		switch {
		case strings.Contains(s.Args[3], "fail"):
			fmt.Fprintln(s.Stderr, "it broke")
			return sandbox.Result{ExitCode: 3}, nil
		case strings.Contains(s.Args[3], "sleep"):
			<-ctx.Done()
			return sandbox.Result{}, context.Cause(ctx)
		}
		return sandbox.Result{}, nil
	}
	tryStep := func(s kiln.Step) error {
		dir := debianLike(t)
		plant(t, dir, map[string]string{"usr/bin/sh": "f 0755 0:0 #!"})
		return Customise(t.Context(), &kiln.Recipe{Name: "x", Steps: []kiln.Step{s}}, sampleLock(), dir, Options{Run: run})
	}
	okay(t, tryStep(kiln.Step{Run: "true", Env: map[string]string{"LC_ALL": "C", "A": "b"}}))
	env := strings.Join(specs[0].Env, "\n")
	if specs[0].Network != "" || strings.Contains(env, "LC_ALL=C.UTF-8") || !strings.Contains(env, "A=b\nLC_ALL=C") || !strings.Contains(env, "SOURCE_DATE_EPOCH=1728000000") {
		t.Errorf("network %q, environment\n%s", specs[0].Network, env)
	}
	if specs[0].PIDs == 0 {
		t.Error("a step may start any number of processes")
	}
	wants(t, tryStep(kiln.Step{Name: "make", Run: "fail"}), "steps[0] \"make\": the script failed with exit code 3; its last output:\n    it broke")
	wants(t, tryStep(kiln.Step{Run: "sleep", Timeout: kiln.Duration(10 * time.Millisecond)}), "not done after 10ms")
	wants(t, tryStep(kiln.Step{Component: "none.yaml"}), "not in the lock")
	wants(t, tryStep(kiln.Step{Run: strings.Repeat("x", maxScript+1)}), "put it into a file")
	wants(t, customise(t, &kiln.Recipe{Steps: []kiln.Step{{Run: "true"}}}, debianLike(t)), "no /bin/sh")
}

// A document that a component names comes from the recipe's folder as locked,
// not from the folder in which somebody happens to run the program.
func TestADocumentThatAComponentNamesIsTheLockedOne(t *testing.T) {
	needRoot(t)
	const head = "name: c\nschemaVersion: 1.0\nphases:\n  - name: build\n    steps:\n      - "
	files := map[string]string{
		"top.yaml": head + "{name: s, action: ExecuteDocument, inputs: {document: one.yaml}}\n",
		"one.yaml": head + "{name: s, action: CreateFile, inputs: [{path: /made, content: recipe}]}\n",
	}
	beside, hostile := t.TempDir(), t.TempDir()
	var locked []kiln.LockedFile
	for name, text := range files {
		okay(t, os.WriteFile(filepath.Join(beside, name), []byte(text), 0o644))
		okay(t, os.WriteFile(filepath.Join(hostile, name), []byte(strings.ReplaceAll(text, "recipe", "hostile")), 0o644))
		locked = append(locked, kiln.LockedFile{Path: name, Digest: kiln.DigestBytes([]byte(text)), Size: int64(len(text)), Mode: "0644"})
	}
	t.Chdir(hostile)
	build := func(dir string, files []kiln.LockedFile) error {
		lock := sampleLock()
		lock.Files = files
		return Customise(t.Context(), &kiln.Recipe{Name: "x", Dir: beside, Steps: []kiln.Step{{Component: "top.yaml"}}}, lock, dir, Options{Run: sandbox.Run})
	}
	dir := debianLike(t)
	okay(t, build(dir, locked))
	if made, err := os.ReadFile(filepath.Join(dir, "made")); err != nil || string(made) != "recipe" {
		t.Errorf("made %q, %v", made, err)
	}
	okay(t, os.WriteFile(filepath.Join(beside, "one.yaml"), []byte("changed"), 0o644))
	wants(t, build(debianLike(t), locked), "one.yaml has changed since the recipe was locked")
	wants(t, build(debianLike(t), slices.DeleteFunc(locked, func(f kiln.LockedFile) bool { return f.Path == "one.yaml" })), "one.yaml is not in the lock")
}

func TestCleanTakesTheVolatileAway(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	plant(t, dir, map[string]string{
		"etc/passwd-": "f 0600 0:0 x", "etc/ssh/ssh_host_rsa_key": "f 0600 0:0 x", "etc/ssh/sshd_config": "f 0644 0:0 x", "etc/machine-id": "f 0444 0:0 0123",
		"etc/ssl/private/ssl-cert-snakeoil.key": "f 0640 0:0 x", "etc/ssl/certs/ssl-cert-snakeoil.pem": "f 0644 0:0 x", "etc/ssl/certs/0.0": "l -> ssl-cert-snakeoil.pem", "etc/ssl/certs/1.0": "l -> real.pem",
		"var/log/dpkg.log": "f 0644 0:0 x", "var/log/nginx/access.log": "f 0640 33:4 x", "var/log/apt/history.log": "f 0644 0:0 x", "var/log/link": "l -> /etc/passwd-",
		"var/lib/dpkg/status": "f 0644 0:0 x", "var/lib/dpkg/status-old": "f 0644 0:0 x", "var/cache/debconf/config.dat-old": "f 0644 0:0 x",
		"var/lib/apt/lists/partial": "d 0700 42:0", "var/lib/apt/lists/x_Packages": "f 0644 0:0 x",
		"tmp/a/b": "f 0644 0:0 x", "run/x.pid": "f 0644 0:0 1", "run/lock": "d 1777 0:0", "var/cache/ldconfig/aux-cache": "f 0600 0:0 x",
		"usr/lib/python3/__pycache__/a.pyc": "f 0644 0:0 x", "usr/lib/owned/__pycache__/a.pyc": "f 0644 0:0 x",
		"var/lib/dpkg/info/owner.list": "f 0644 0:0 /usr/lib/owned/__pycache__\n/usr/lib/owned/__pycache__/a.pyc\n",
	})
	at, err := openPlace(dir)
	okay(t, err)
	defer at.close()
	okay(t, (&cleaner{at: at, dir: dir}).all())
	empty := sumOf("")
	compare(t, dir, map[string]string{
		"etc/ssh/sshd_config": "f 0644", "etc/machine-id": "f 0444 0:0 " + empty, "etc/ssl/certs/1.0": "l -> real.pem",
		"var/log/nginx/access.log": "f 0640 33:4 " + empty, "var/log/link": "l -> /etc/passwd-", "var/lib/dpkg/status": "f 0644",
		"var/lib/apt/lists/partial": "d 0700 42:0", "run/lock": "d 1777 0:0", "usr/lib/owned/__pycache__/a.pyc": "f", "var/lib/dpkg/info/owner.list": "f",
		"usr/lib/python3/__pycache__": "", "tmp/a": "",
	})
}

func TestFirstStartMakesHostKeys(t *testing.T) {
	needRoot(t)
	for name, c := range map[string]struct {
		tree map[string]string
		unit bool
	}{
		"with systemd":        {map[string]string{"usr/sbin/sshd": "f 0755 0:0 x", sshService: "f 0644 0:0 x"}, true},
		"without systemd":     {map[string]string{"usr/sbin/sshd": "f 0755 0:0 x"}, false},
		"distribution's unit": {map[string]string{"usr/sbin/sshd": "f 0755 0:0 x", sshService: "f 0644 0:0 x", sshOwnUnit: "f 0644 0:0 x"}, false},
		"no ssh":              {map[string]string{"etc/x": "f 0644 0:0 x"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			plant(t, dir, c.tree)
			at, err := openPlace(dir)
			okay(t, err)
			defer at.close()
			okay(t, firstStart(at, nil))
			_, err = os.Lstat(filepath.Join(dir, "etc/systemd/system/ssh.service.wants/ssh-host-keys.service"))
			if (err == nil) != c.unit {
				t.Errorf("the unit: %v", err)
			}
		})
	}
}

// A package's script that forks or waits forever must not take the machine or the build with it.
func TestScriptsHaveLimits(t *testing.T) {
	needRoot(t)
	s := store{}
	a := newAssembly(t, s.lockOf(nil), s)
	var spec sandbox.Spec
	limited := false
	a.o.Run = func(ctx context.Context, s sandbox.Spec) (sandbox.Result, error) {
		spec = s
		_, limited = ctx.Deadline()
		return sandbox.Result{}, nil
	}
	okay(t, a.inTree(t.Context(), "/bin/true"))
	if spec.PIDs == 0 || !limited {
		t.Errorf("processes %d, a deadline %v", spec.PIDs, limited)
	}
}
