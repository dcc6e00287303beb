package harden

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/tree"

	"golang.org/x/sys/unix"
)

func TestTheCataloguesSettingsAreKnown(t *testing.T) {
	cat, err := catalogue.Load()
	must(t, err)
	used := map[string]bool{}
	for _, k := range cat.Objectives() {
		for _, v := range k.Variants {
			for _, s := range v.Settings {
				used[s.Kind] = true
				if err := Check(s); err != nil {
					t.Errorf("%s, variant %s: %v", k.ID, v.ID, err)
				}
			}
		}
	}
	for _, name := range Kinds() {
		if !used[name] {
			t.Errorf("no objective uses kind %s", name)
		}
	}
}

func TestSettingsThatAreMistakes(t *testing.T) {
	for _, c := range []struct {
		kind, params, want string
	}{
		{"no-such-kind", `{}`, "no kind"},
		{"file-mode", `{"paths":["/etc/x"],"mod":"0644"}`, "mod"},
		{"file-mode", `{"paths":["etc/x"],"mode":"0644"}`, "not absolute"},
		{"file-mode", `{"paths":["/etc/../x"],"mode":"0644"}`, "not absolute and clean"},
		{"file-mode", `{"paths":["/etc/x"],"mode":"644x"}`, "octal"},
		{"key-value", `{"path":"/etc/x","key":"A","value":"a\nb","separator":"space"}`, "one line"},
		{"key-value", `{"path":"/etc/x","key":"A","value":"x","separator":"space","accept":"at-most"}`, "number"},
		{"line-absent", `{"paths":["/etc/x"],"match":"("}`, "expression"},
		{"setid-cleared", `{"bits":"0777"}`, "bits"},
		{"account-locked", `{"scope":"some"}`, "scope"},
		{"world-writable-files", `{"x":1}`, "x"},
	} {
		var m map[string]any
		must(t, json.Unmarshal([]byte(c.params), &m))
		if err := Check(kiln.Setting{Kind: c.kind, Params: m}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: got %v, want an error with %q", c.kind, c.params, err, c.want)
		}
	}
}

// everything is a tree on which many objectives have something to do at once.
func everything() []node {
	all := debianWith(concat(
		pack("dash", "Essential: yes\n", f("usr/bin/dash", "0755", "dash")),
		pack("apt", "Depends: libapt-pkg6.0\n", f("usr/bin/apt", "0755", "apt"), f("etc/apt/apt.conf.d/01x", "0644", "x")),
		pack("libapt-pkg6.0", "", f("usr/lib/libapt-pkg.so", "0644", "lib")),
		pack("sudo", "", f("usr/bin/sudo", "4755", "sudo"), f("etc/sudoers", "0440", "root ALL=(ALL) NOPASSWD: ALL\n")),
		pack("login", "Essential: yes\n", f("usr/bin/su", "4755", "su"), f("etc/login.defs", "0644", "UMASK 022\nPASS_MAX_DAYS 99999\n")),
		pack("less", "", f("usr/bin/less", "0755", "less"), f("usr/share/doc/less/copyright", "0644", "c"), f("usr/share/doc/less/NEWS", "0644", "n")),
		pack("openssh-server", "", f("usr/sbin/sshd", "0755", "sshd")),
		[]node{
			l("usr/bin/sh", "dash"), l("etc/alternatives/pager", "/usr/bin/less"), l("usr/bin/pager", "/etc/alternatives/pager"),
			f("etc/ssh/sshd_config", "0644", "PermitRootLogin yes\nX11Forwarding yes\n"), f("etc/ssh/ssh_host_rsa_key", "0600", key),
			users(passwd + "games:x:5:60::/usr/games:/bin/sh\ntoor:x:0:0::/root:/bin/sh\n" + ann), groups(group + annGrp),
			hashes(shadow + "games::1::::::\nann:$y$x:30000:0:99999:7:::\n"),
			f("srv/games", "0666", "g").of("5:60"), f("srv/lost", "4755", "x").of("4711:4711"), d("srv/drop", "0777"),
			f("root/.bash_history", "0644", "x"), f("tmp/x", "0644", "x"), f("var/log/x.log", "0666", "x"), f("etc/machine-id", "0644", "abc\n"),
			f("etc/motd", "0666", "Debian\n").of("33:33"), f("etc/issue", "0644", "Debian\n"), f("etc/profile", "0644", "umask 022\n"), d("etc/profile.d", "0755"),
			d("home/ann", "0777"), f("home/ann/.netrc", "0666", "x"), f("home/ann/.profile", "0666", "x"), d("etc/cron.d", "0755"), d("etc/security", "0755"),
		})...)
	return all
}

func TestAnyOrderGivesTheSameTree(t *testing.T) {
	needRoot(t)
	cat, err := catalogue.Load()
	must(t, err)
	for name, remove := range map[string]kiln.Removal{
		"kept": {}, "removed": {PackageManager: true, Shell: true, Docs: true, Unused: true, Packages: []string{"less"}},
	} {
		recipe := &kiln.Recipe{Name: "app", Packages: []kiln.PackageRequest{{Name: "app"}}, Entrypoint: []string{"app"}, Hardening: kiln.Hardening{Profile: "container-strict", Remove: remove}}
		list, err := cat.Select(recipe.Hardening)
		must(t, err)
		var first map[string]string
		var digest kiln.Digest
		for seed := range uint64(5) {
			r := rand.New(rand.NewPCG(seed, 1))
			r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			dir := plant(t, everything()...)
			in := Input{Recipe: recipe, Lock: &kiln.Lock{Epoch: 1750000000}, Controls: list, Profile: "container-strict", Now: time.Now()}
			res, err := Apply(t.Context(), dir, in)
			must(t, err)
			after := dump(t, dir)
			if first == nil {
				first, digest = after, res.After
			} else if diff := differences(first, after); len(diff) > 0 || res.After != digest {
				t.Errorf("%s: order %d gives another tree:\n%s", name, seed, show(diff))
			}
			again, err := Apply(t.Context(), dir, in)
			must(t, err)
			if again.Before != res.After || again.After != res.After {
				t.Errorf("%s: applied again it changes:\n%s", name, show(differences(after, dump(t, dir))))
			}
			if !slices.IsSortedFunc(res.Outcomes, func(a, b kiln.Outcome) int { return strings.Compare(a.Objective, b.Objective) }) {
				t.Error("outcomes are not sorted")
			}
			must(t, res.Validate())
		}
	}
}

// TestOrderWithinAPhase applies objectives of one phase one by one in other orders, without the sorting of Apply:
// only the order of lines added to one file may differ.
func TestOrderWithinAPhase(t *testing.T) {
	needRoot(t)
	cat, err := catalogue.Load()
	must(t, err)
	list, err := cat.Profile("container-strict")
	must(t, err)
	var first map[string]string
	for seed := range uint64(4) {
		dir := plant(t, everything()...)
		s, err := newSubject(dir, Input{Recipe: &kiln.Recipe{Name: "app", Packages: []kiln.PackageRequest{{Name: "app"}}}, Lock: &kiln.Lock{Epoch: 1750000000}})
		must(t, err)
		s.config, err = s.imageConfig()
		must(t, err)
		items := s.items(Input{Controls: list})
		rand.New(rand.NewPCG(seed, 2)).Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
		slices.SortStableFunc(items, func(a, b *item) int { return a.phase - b.phase })
		for range maxRounds {
			for _, it := range items {
				_, err := s.attend(t.Context(), it, false, true)
				must(t, err)
			}
		}
		s.close()
		after := dump(t, dir)
		for p, v := range after {
			lines := strings.Split(v, "\n")
			if mode, text, ok := strings.Cut(lines[0], "0:0 "); ok {
				lines[0] = text
				lines = append(lines, mode)
			}
			slices.Sort(lines)
			after[p] = strings.Join(lines, "\n")
		}
		if first == nil {
			first = after
		} else if diff := differences(first, after); len(diff) > 0 {
			t.Errorf("order %d gives another tree:\n%s", seed, show(diff))
		}
	}
}

func TestDeviceFiles(t *testing.T) {
	needRoot(t)
	cat, err := catalogue.Load()
	must(t, err)
	k, _ := cat.Objective("device-files-absent")
	dir := plant(t, debian...)
	if err := unix.Mknod(filepath.Join(dir, "srv"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Skipf("no device nodes can be made here: %v", err)
	}
	in := domain{}.input(t, k, domain{}.newRecipe())
	in.Before = kiln.DigestBytes(nil) // a tree with a device node has no digest
	before := dump(t, dir)
	res, err := Apply(t.Context(), dir, in)
	must(t, err)
	if got := differences(before, dump(t, dir)); show(got) != show(map[string]string{"srv": "gone"}) || res.Outcomes[0].State != kiln.Satisfied {
		t.Errorf("%+v\n%s", res.Outcomes[0], show(got))
	}
}

func TestWaivers(t *testing.T) {
	cat, err := catalogue.Load()
	must(t, err)
	k, _ := cat.Objective("banner-issue")
	waiver := kiln.Waiver{Objective: "banner-issue", Exception: kiln.Exception{Owner: "ann", Reason: "the site's own text", Expires: "2026-06-30"}}
	for _, c := range []struct {
		name, now, state, reason string
		warned                   bool
	}{
		{"holds on its last day", "2026-06-30", kiln.Waived, "the site's own text", false},
		{"has expired", "2026-07-01", kiln.Satisfied, "expired on 2026-06-30", true},
	} {
		dir := plant(t, f("etc/issue", "0644", "Debian\n"))
		now, err := time.Parse(time.DateOnly, c.now)
		must(t, err)
		warned := false
		in := Input{
			Controls: []kiln.Control{k}, Profile: "test", Waivers: []kiln.Waiver{waiver}, Now: now,
			Report: func(e kiln.Event) {
				warned = warned || e.Type == kiln.EventWarning && strings.Contains(e.Message, "banner-issue")
			},
		}
		res, err := Apply(t.Context(), dir, in)
		must(t, err)
		o := res.Outcomes[0]
		if o.State != c.state || !strings.Contains(o.Reason, c.reason) || (o.Waiver != nil) != (c.state == kiln.Waived) || warned != c.warned {
			t.Errorf("%s: %+v, warned %v", c.name, o, warned)
		}
		if c.state == kiln.Waived && res.Before != res.After {
			t.Errorf("%s: the tree was changed", c.name)
		}
		must(t, res.Validate())
	}
	in := Input{Waivers: []kiln.Waiver{{Objective: "x"}}}
	if _, err := Apply(t.Context(), t.TempDir(), in); err == nil || !strings.Contains(err.Error(), "owner") {
		t.Errorf("a waiver without an owner gave %v", err)
	}
}

func TestTheNextVariantAndWhy(t *testing.T) {
	needRoot(t)
	cat, err := catalogue.Load()
	must(t, err)
	k, _ := cat.Objective("banner-motd")
	text := "Property of the example company\n"
	recipe := &kiln.Recipe{Name: "app", Files: []kiln.FileSpec{{Path: "/etc/motd", Content: &text}}}
	dir := plant(t, f("etc/motd", "0644", text))
	res, err := Apply(t.Context(), dir, Input{Recipe: recipe, Controls: []kiln.Control{k}})
	must(t, err)
	o := res.Outcomes[0]
	if o.Before != kiln.NotSatisfied || o.State != kiln.Satisfied || o.Variant != "no-escapes" || !strings.Contains(o.Reason, "text: the recipe writes /etc/motd") {
		t.Errorf("%+v", o)
	}
	// What a fit accepted is where the search begins.
	k, _ = cat.Objective("setuid-cleared")
	dir = plant(t, debianWith(pack("sudo", "", f("usr/bin/sudo", "4755", "sudo"))...)...)
	lock := &kiln.Lock{Variants: []kiln.LockedVariant{{Objective: "setuid-cleared", Variant: "requested"}}}
	recipe = &kiln.Recipe{Packages: []kiln.PackageRequest{{Name: "sudo"}}}
	res, err = Apply(t.Context(), dir, Input{Recipe: recipe, Lock: lock, Controls: []kiln.Control{k}})
	must(t, err)
	if o := res.Outcomes[0]; o.Variant != "requested" || res.Before != res.After || !strings.Contains(o.Observed, "kept: /usr/bin/sudo") {
		t.Errorf("%+v", o)
	}
}

func TestThePackageThatIsThePurposeStays(t *testing.T) {
	cat, err := catalogue.Load()
	must(t, err)
	k, _ := cat.Objective("ssh-server-absent")
	dir := plant(t, debianWith(pack("openssh-server", "", f("usr/sbin/sshd", "0755", "sshd"))...)...)
	in := Input{Recipe: &kiln.Recipe{Packages: []kiln.PackageRequest{{Name: "openssh-server"}}}, Controls: []kiln.Control{k}}
	res, err := Apply(t.Context(), dir, in)
	must(t, err)
	if o := res.Outcomes[0]; o.State != kiln.NotApplicable || !strings.Contains(o.Reason, "the recipe asks for it") || res.Before != res.After {
		t.Errorf("%+v", o)
	}
}

func TestTheImageConfiguration(t *testing.T) {
	dir := plant(t, debian...)
	recipe := &kiln.Recipe{
		Name: "app", Version: "1.2", User: "www-data", Env: map[string]string{"B": "2", "A": "1"}, Ports: []string{"8080", "53/udp", "8080/tcp"}, Volumes: []string{"/b", "/a"},
		Labels: map[string]string{"team": "web"}, Entrypoint: []string{"app"},
	}
	res, err := Apply(t.Context(), dir, Input{Recipe: recipe, Lock: &kiln.Lock{Epoch: 1750000000}})
	must(t, err)
	got, err := json.Marshal(res.Config)
	must(t, err)
	want := `{"entrypoint":["app"],"user":"33:33","env":["A=1","B=2","PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],` +
		`"ports":["53/udp","8080/tcp"],"volumes":["/a","/b"],"labels":{"org.opencontainers.image.created":"2025-06-15T15:06:40Z","org.opencontainers.image.title":"app","org.opencontainers.image.version":"1.2","team":"web"}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for user, want := range map[string]string{"nobody": "no error", "ghost": `user "ghost"`, "33:ghosts": `group "ghosts"`} {
		recipe.User = user
		_, err := Apply(t.Context(), dir, Input{Recipe: recipe})
		if want == "no error" && err != nil || want != "no error" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("user %s: %v", user, err)
		}
	}
	recipe.User, recipe.Ports = "", []string{"99999"}
	if _, err := Apply(t.Context(), dir, Input{Recipe: recipe}); err == nil || !strings.Contains(err.Error(), `"99999"`) {
		t.Errorf("a port out of range gave %v", err)
	}
}

func TestARemovalThatNothingDoesIsRefused(t *testing.T) {
	recipe := &kiln.Recipe{Hardening: kiln.Hardening{Remove: kiln.Removal{Shell: true}}}
	if _, err := Apply(t.Context(), t.TempDir(), Input{Recipe: recipe}); err == nil || !strings.Contains(err.Error(), "shells-absent") {
		t.Errorf("got %v", err)
	}
}

// TestLinksDoNotLeadOut: whatever the tree's links say, nothing outside of it is read, changed or removed.
func TestLinksDoNotLeadOut(t *testing.T) {
	needRoot(t)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "precious"), []byte("UMASK 022\n"), 0o666))
	must(t, os.Chmod(filepath.Join(outside, "precious"), 0o666))
	up := "../../../../../../../../../.." + outside
	cat, err := catalogue.Load()
	must(t, err)
	recipe := &kiln.Recipe{Name: "app", Packages: []kiln.PackageRequest{{Name: "app"}}, Hardening: kiln.Hardening{Profile: "container-strict", Remove: kiln.Removal{Unused: true, Shell: true, PackageManager: true, Docs: true}}}
	list, err := cat.Select(recipe.Hardening)
	must(t, err)
	dir := plant(t, debianWith(append(pack("evil", "", f("usr/bin/evil", "0755", "x")),
		l("etc/login.defs", outside+"/precious"), l("etc/motd", up+"/precious"), l("etc/issue", outside+"/new"), l("etc/machine-id", up+"/precious"),
		l("home", outside), l("var/cache", outside), l("etc/apt", outside), l("usr/share/doc", up), l("usr/local/lib", up), l("opt", up),
		l("var/lib/dpkg/diversions", outside+"/precious"), l("loop", "loop"), l("etc/profile.d", "../loop"),
		f("var/lib/dpkg/info/evil.list", "0644", "/usr/bin/evil\n/../../.."+outside+"/precious\n/home/precious\n/opt/precious\n/usr\n/\n"))...)...)
	_, err = Apply(t.Context(), dir, Input{Recipe: recipe, Controls: list, Profile: "container-strict"})
	if err != nil {
		t.Logf("refused: %v", err)
	}
	got := dump(t, outside)
	if want := "  precious: \"0666 0:0 UMASK 022\\n\"\n"; show(got) != want {
		t.Errorf("outside the tree there is now\n%s", show(got))
	}
}

func TestHostileTablesAreRead(t *testing.T) {
	needRoot(t)
	cat, err := catalogue.Load()
	must(t, err)
	list, err := cat.Profile("container-strict")
	must(t, err)
	long := strings.Repeat("x", 1<<20)
	for name, nodes := range map[string][]node{
		"binary passwd":     {f("etc/passwd", "0644", "\x00\xff:::\n::::::\n"+long+"\n+::::::\n:x:0:0:::\n"), f("etc/group", "0644", ":::\n\x00"), hashes("::::::::\n")},
		"huge numbers":      {users("a:x:99999999999999999999:-1::/:\n"), groups("g:x:99999999999999999999:\n"), hashes("a:x:99999999999999999999::::::\n")},
		"directories":       {d("etc/passwd", "0755"), d("etc/shadow", "0755"), d("etc/login.defs", "0755"), d("etc/ssh/sshd_config", "0755"), d("etc/motd", "0755")},
		"broken status":     {f("var/lib/dpkg/status", "0644", "Package: ../../x\nStatus: install ok installed\n\nPackage\n\n\n\n: x\n"+long)},
		"include loop":      {sshd("Include /etc/ssh/sshd_config\nPermitRootLogin yes\n")},
		"broken choices":    {f("var/lib/dpkg/alternatives/x", "0644", "auto\n")},
		"empty everything":  {},
		"home is the root":  {users("a:x:1000:1000::/:/bin/sh\nb:x:1001:1000::/../..:/bin/sh\nc:x:1002:1000::/etc:/bin/sh\n")},
		"pattern in a name": {f("var/log/[.log", "0644", "x"), f("etc/cron.d/*", "0644", "x")},
	} {
		t.Run(name, func(t *testing.T) {
			dir := plant(t, nodes...)
			in := Input{Recipe: &kiln.Recipe{Name: "app"}, Controls: list, Profile: "container-strict", Lock: &kiln.Lock{Epoch: 1}}
			res, err := Apply(t.Context(), dir, in)
			if err != nil {
				t.Logf("refused: %v", err)
				return
			}
			again, err := Apply(t.Context(), dir, in)
			must(t, err)
			if again.Before != res.After || again.After != res.After {
				t.Error("applied again, it changes")
			}
		})
	}
}

func TestAKilledWriteLeavesTheOldFile(t *testing.T) {
	dir := plant(t, f("etc/motd", "0644", "Debian\n"), f("etc/"+temporary, "0600", "half-writ"))
	cat, err := catalogue.Load()
	must(t, err)
	k, _ := cat.Objective("banner-motd")
	_, err = Apply(t.Context(), dir, Input{Controls: []kiln.Control{k}})
	must(t, err)
	got, err := os.ReadDir(filepath.Join(dir, "etc"))
	must(t, err)
	if len(got) != 1 || got[0].Name() != "motd" {
		t.Errorf("etc holds %v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Apply(ctx, dir, Input{Controls: []kiln.Control{k}}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled Apply gave %v", err)
	}
}

func TestTheProgramIsAsked(t *testing.T) {
	cat, err := catalogue.Load()
	must(t, err)
	k, _ := cat.Objective("ssh-log-level")
	dir := plant(t, sshd("LogLevel QUIET\n"), f("usr/sbin/sshd", "0755", "program"))
	asked := 0
	in := Input{Controls: []kiln.Control{k}, Probe: func(_ context.Context, args ...string) ([]byte, error) {
		asked++
		if args[0] != "/usr/sbin/sshd" {
			return nil, fmt.Errorf("unexpected %v", args)
		}
		return []byte("port 22\nloglevel VERBOSE\n"), nil
	}}
	res, err := Audit(t.Context(), dir, in)
	must(t, err)
	if o := res.Outcomes[0]; o.State != kiln.Satisfied || o.Effective != "sshd -T" || o.Observed != "LogLevel VERBOSE" {
		t.Errorf("%+v", o)
	}
	in.Controls = nil
	for _, id := range []string{"ssh-log-level", "ssh-empty-passwords", "ssh-grace"} {
		k, ok := cat.Objective(id)
		if !ok {
			t.Fatalf("no objective %s", id)
		}
		in.Controls = append(in.Controls, k)
	}
	asked = 0
	_, err = Audit(t.Context(), dir, in)
	must(t, err)
	if asked != 1 {
		t.Errorf("the program was asked %d times for three objectives", asked)
	}
	if _, err := Apply(t.Context(), dir, in); err != nil || asked > 4 {
		t.Errorf("%v; the program was asked %d times while three objectives were applied", err, asked)
	}
}

func TestAlternativesFallToTheNextChoice(t *testing.T) {
	needRoot(t)
	cat, err := catalogue.Load()
	must(t, err)
	k, _ := cat.Objective("requested-removals")
	admin := "auto\n/usr/bin/pager\npager.1.gz\n/usr/share/man/man1/pager.1.gz\n\n/usr/bin/less\n77\n/usr/share/man/man1/less.1.gz\n/usr/bin/more\n50\n/usr/share/man/man1/more.1.gz\n\n"
	dir := plant(t, debianWith(concat(
		pack("less", "", f("usr/bin/less", "0755", "less"), f("usr/share/man/man1/less.1.gz", "0644", "l")),
		pack("more", "", f("usr/bin/more", "0755", "more"), f("usr/share/man/man1/more.1.gz", "0644", "m")),
		[]node{
			f("var/lib/dpkg/alternatives/pager", "0644", admin), l("etc/alternatives/pager", "/usr/bin/less"), l("usr/bin/pager", "/etc/alternatives/pager"),
			l("etc/alternatives/pager.1.gz", "/usr/share/man/man1/less.1.gz"), l("usr/share/man/man1/pager.1.gz", "/etc/alternatives/pager.1.gz"),
			f("var/lib/dpkg/diversions", "0644", "/usr/bin/old\n/usr/bin/old.distrib\nless\n"), f("usr/bin/old.distrib", "0755", "old"),
			f("var/lib/dpkg/triggers/File", "0644", "/usr/share/x less\n/usr/share/y more\n"),
		})...)...)
	recipe := &kiln.Recipe{Hardening: kiln.Hardening{Remove: kiln.Removal{Packages: []string{"less"}}}}
	res, err := Apply(t.Context(), dir, Input{Recipe: recipe, Controls: []kiln.Control{k}})
	must(t, err)
	after := dump(t, dir)
	want := map[string]string{
		"etc/alternatives/pager": "-> /usr/bin/more", "etc/alternatives/pager.1.gz": "-> /usr/share/man/man1/more.1.gz", "usr/bin/pager": "-> /etc/alternatives/pager",
		"var/lib/dpkg/alternatives/pager": "0644 0:0 " + strings.Replace(admin, "/usr/bin/less\n77\n/usr/share/man/man1/less.1.gz\n", "", 1),
		"usr/bin/old":                     "0755 0:0 old", "var/lib/dpkg/diversions": "0644 0:0 ", "var/lib/dpkg/triggers/File": "0644 0:0 /usr/share/y more\n",
	}
	for p := range maps.Keys(want) {
		if after[p] != want[p] {
			t.Errorf("%s: %q, want %q", p, after[p], want[p])
		}
	}
	if !slices.Equal(res.Removed, []string{"less"}) {
		t.Errorf("removed %v", res.Removed)
	}
}

func TestHardLinksShareTheirMode(t *testing.T) {
	needRoot(t)
	dir := plant(t, f("srv/a", "0666", "x"))
	must(t, os.Link(filepath.Join(dir, "srv/a"), filepath.Join(dir, "srv/b")))
	cat, err := catalogue.Load()
	must(t, err)
	k, _ := cat.Objective("world-writable-files")
	res, err := Apply(t.Context(), dir, Input{Controls: []kiln.Control{k}})
	must(t, err)
	var types string
	must(t, tree.Walk(dir, func(e tree.Entry) error { types += string(e.Type); return nil }))
	if got := show(dump(t, dir)); res.Outcomes[0].State != kiln.Satisfied || types != "ddfh" || !strings.Contains(got, "srv/b: \"0664") {
		t.Errorf("%s %s", types, got)
	}
}

// TestHardLinksOnAFork: on an overlay a change of one name of a file leaves its other names as they were.
func TestHardLinksOnAFork(t *testing.T) {
	needRoot(t)
	lower := plant(t, f("srv/a", "4755", "x"))
	must(t, os.Link(filepath.Join(lower, "srv/a"), filepath.Join(lower, "srv/b")))
	work := t.TempDir()
	for _, d := range []string{"upper", "work", "merged"} {
		must(t, os.Mkdir(filepath.Join(work, d), 0o755))
	}
	merged := filepath.Join(work, "merged")
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, work, work)
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		t.Skipf("no overlay can be mounted here: %v", err)
	}
	defer func() { must(t, unix.Unmount(merged, 0)) }()
	cat, err := catalogue.Load()
	must(t, err)
	k, _ := cat.Objective("setuid-cleared")
	_, err = Apply(t.Context(), merged, Input{Controls: []kiln.Control{k}})
	must(t, err)
	for p, v := range dump(t, merged) {
		if strings.HasPrefix(v, "4") {
			t.Errorf("%s is still %s", p, v)
		}
	}
	if got := dump(t, lower)["srv/a"]; got != "4755 0:0 x" {
		t.Errorf("the layer below was changed: %s", got)
	}
}

func TestWhereNoInitSystemIsItsObjectivesDoNotApply(t *testing.T) {
	control := kiln.Control{ID: "x", Title: "t", Rationale: "r", Severity: "low", Scope: "both", Applies: &kiln.Applicability{Init: "systemd"}, Variants: []kiln.Variant{
		{ID: "a", Settings: []kiln.Setting{{Kind: "file-mode", Params: map[string]any{"paths": []any{"/etc/x"}, "mode": "0644"}}}},
	}}
	for what, c := range map[string]struct {
		init string
		with []node
		want string
	}{
		"none":             {"systemd", nil, kiln.NotApplicable},
		"systemd":          {"systemd", []node{f("usr/lib/systemd/systemd", "0755", "")}, kiln.Satisfied},
		"another":          {"systemd", []node{f("sbin/init", "0755", "")}, kiln.NotApplicable},
		"another, for any": {"any", []node{f("sbin/init", "0755", "")}, kiln.Satisfied},
	} {
		control.Applies.Init = c.init
		dir := plant(t, debianWith(append(c.with, f("etc/x", "0666", ""))...)...)
		res, err := Apply(t.Context(), dir, Input{Recipe: new(kiln.Recipe), Controls: []kiln.Control{control}, Profile: "p"})
		must(t, err)
		if got := res.Outcomes[0]; got.State != c.want {
			t.Errorf("%s: %s (%s), want %s", what, got.State, got.Reason, c.want)
		}
	}
}
