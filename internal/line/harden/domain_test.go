package harden

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/testneeds"
	"kiln/internal/tree"

	"golang.org/x/sys/unix"
)

// node is one path of a test's tree.
type node struct {
	path, mode, owner, content, link string
	capable                          bool // has a file capability
}

func f(path, mode, content string) node { return node{path: path, mode: mode, content: content} }
func d(path, mode string) node          { return node{path: path + "/", mode: mode} }
func l(path, target string) node        { return node{path: path, link: target} }

func (n node) of(owner string) node { n.owner = owner; return n }

// needRoot skips a test that gives files to other users.
func needRoot(t testing.TB) {
	t.Helper()
	testneeds.Root(t, "give files to other users")
}

// plant makes a tree of nodes; later ones replace earlier ones of the same path.
func plant(t testing.TB, nodes ...node) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	must(t, os.Mkdir(dir, 0o755))
	last := map[string]int{}
	for i, n := range nodes {
		last[n.path] = i
	}
	for i, n := range nodes {
		if last[n.path] != i {
			continue
		}
		p := filepath.Join(dir, n.path)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		switch {
		case n.link != "":
			must(t, os.Symlink(n.link, p))
			continue
		case strings.HasSuffix(n.path, "/"):
			must(t, os.MkdirAll(p, 0o755))
		default:
			must(t, os.WriteFile(p, []byte(n.content), 0o644))
		}
		give(t, p, n)
	}
	return dir
}

func give(t testing.TB, p string, n node) {
	t.Helper()
	if n.owner != "" {
		u, g, _ := strings.Cut(n.owner, ":")
		uid, _ := strconv.Atoi(u)
		gid, _ := strconv.Atoi(g)
		must(t, os.Lchown(p, uid, gid))
	}
	mode, err := octal(n.mode)
	must(t, err)
	must(t, os.Chmod(p, fileMode(mode)))
	if n.capable { // cap_net_raw=ep, as the kernel stores it
		err := unix.Lsetxattr(p, capability, []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0)
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
			t.Skipf("no file capabilities here: %v", err)
		}
		must(t, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dump describes every path: "0644 0:0 content" for files, "0755 0:0" for directories, "-> target" for links.
func dump(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, tree.Walk(dir, func(e tree.Entry) error {
		switch e.Type {
		case 'l':
			out[e.Path] = "-> " + e.Link
		case 'd':
			out[e.Path] = fmt.Sprintf("%04o %d:%d", e.Mode, e.UID, e.GID)
		default:
			data, err := os.ReadFile(filepath.Join(dir, e.Path))
			out[e.Path] = fmt.Sprintf("%04o %d:%d %s", e.Mode, e.UID, e.GID, data)
			if e.Xattrs[capability] != "" {
				out[e.Path] += " capable"
			}
			return err
		}
		return nil
	}))
	delete(out, ".")
	return out
}

// differences returns what changed: path to its new description, "gone" for what is no longer there.
func differences(before, after map[string]string) map[string]string {
	out := map[string]string{}
	for p, v := range after {
		if before[p] != v {
			out[p] = v
		}
	}
	for p := range before {
		if _, ok := after[p]; !ok {
			out[p] = "gone"
		}
	}
	return out
}

func show(m map[string]string) string {
	var b strings.Builder
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		fmt.Fprintf(&b, "  %s: %q\n", k, m[k])
	}
	return b.String()
}

// debian is a small sound tree to which each case adds what its objective is about.
var debian = []node{
	d("root", "0700"), d("tmp", "1777"), d("var/tmp", "1777"), d("var/log", "0755"), d("usr/bin", "0755"), d("usr/sbin", "0755"), d("usr/lib", "0755"),
	d("usr/local/bin", "0755"), d("usr/local/sbin", "0755"), l("bin", "usr/bin"), l("sbin", "usr/sbin"), l("lib", "usr/lib"),
	f("etc/passwd", "0644", "root:x:0:0:root:/root:/usr/sbin/nologin\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"),
	f("etc/group", "0644", "root:x:0:\nshadow:x:42:\nwww-data:x:33:\nnogroup:x:65534:\n"),
	f("etc/shadow", "0640", "root:*:19000:0:99999:7:::\nwww-data:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n").of("0:42"),
	f("etc/gshadow", "0640", "root:*::\nshadow:*::\nwww-data:*::\nnogroup:*::\n").of("0:42"),
	f("etc/nsswitch.conf", "0644", "passwd: files\n"),
	f("usr/bin/app", "0755", "program"),
	f("var/lib/dpkg/status", "0644", "Package: app\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nDescription: the software\n\n"),
	f("var/lib/dpkg/info/app.list", "0644", "/.\n/usr\n/usr/bin\n/usr/bin/app\n"),
}

// pack are the nodes of an installed package; the status entry comes from status.
func pack(name, extra string, files ...node) []node {
	list := "/.\n"
	out := []node{}
	for _, n := range files {
		for dir := path.Dir(n.path); dir != "."; dir = path.Dir(dir) {
			if !strings.Contains(list, "/"+dir+"\n") {
				list += "/" + dir + "\n"
			}
		}
		list += "/" + strings.TrimSuffix(n.path, "/") + "\n"
		out = append(out, n)
	}
	return append(out, f("var/lib/dpkg/info/"+name+".list", "0644", list), f("var/lib/dpkg/info/"+name+".md5sums", "0644", ""),
		node{path: "status", content: "Package: " + name + "\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n" + extra + "\n"})
}

// debianWith adds nodes to the sound tree; status paragraphs of pack are joined.
func debianWith(more ...node) []node {
	all := slices.Clone(debian)
	at := slices.IndexFunc(all, func(n node) bool { return n.path == "var/lib/dpkg/status" })
	status := all[at].content
	for _, n := range more {
		switch n.path {
		case "status":
			status += n.content
			continue
		case "var/lib/dpkg/status":
			status = n.content + strings.TrimPrefix(status, all[at].content)
			continue
		}
		all = append(all, n)
	}
	all[at].content = status
	return all
}

const statusOfApp = "0644 0:0 Package: app\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nDescription: the software\n\n"

// domain is one objective's case: a tree before, and what Apply changes in it.
type domain struct {
	from      string // the variant to begin with; empty means the first
	objective string
	before    []node
	recipe    func(*kiln.Recipe)
	lock      func(*kiln.Lock)
	want      map[string]string // path -> description after, or "gone"
	// unfixable: the objective judges what only the recipe can change; cure changes the recipe so that it holds.
	unfixable string
	cure      func(*kiln.Recipe)
	cureTree  []node
	variant   string // that holds afterwards; empty means the first
}

func (c domain) input(t testing.TB, k kiln.Control, recipe *kiln.Recipe) Input {
	t.Helper()
	lock := &kiln.Lock{Epoch: 1750000000}
	if c.lock != nil {
		c.lock(lock)
	}
	return Input{Recipe: recipe, Lock: lock, Controls: []kiln.Control{k}, Profile: "test", Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

func (c domain) newRecipe() *kiln.Recipe {
	r := &kiln.Recipe{Name: "app", Version: "1", Packages: []kiln.PackageRequest{{Name: "app"}}, Entrypoint: []string{"/usr/bin/app"}, User: "www-data"}
	if c.recipe != nil {
		c.recipe(r)
	}
	return r
}

func TestEveryObjectiveOnATree(t *testing.T) {
	needRoot(t)
	cat, err := catalogue.Load()
	must(t, err)
	seen := map[string]bool{"device-files-absent": true} // TestDeviceFiles
	for _, c := range append(slices.Clone(domains), generated(cat)...) {
		k, ok := cat.Objective(c.objective)
		if !ok {
			t.Errorf("no objective %s", c.objective)
			continue
		}
		seen[c.objective] = true
		t.Run(c.objective, func(t *testing.T) { t.Parallel(); c.run(t, k) })
	}
	for id := range ofImages(t) { // TestObjectivesOfImagesBothWays
		seen[id] = true
	}
	for _, k := range cat.Objectives() {
		if !seen[k.ID] && k.Scope != "machine" {
			t.Errorf("objective %s has no case", k.ID)
		}
	}
}

func (c domain) run(t *testing.T, k kiln.Control) {
	if c.from != "" {
		k.Variants = k.Variants[slices.IndexFunc(k.Variants, func(v kiln.Variant) bool { return v.ID == c.from }):]
	}
	recipe := c.newRecipe()
	dir := plant(t, debianWith(c.before...)...)
	in := c.input(t, k, recipe)
	before := dump(t, dir)
	audit, err := Audit(t.Context(), dir, in)
	must(t, err)
	if diff := differences(before, dump(t, dir)); len(diff) > 0 {
		t.Fatalf("Audit changed the tree:\n%s", show(diff))
	}
	if got := audit.Outcomes[0]; got.Before != kiln.NotSatisfied {
		t.Fatalf("before: %s (%s %s), want not satisfied", got.Before, got.Observed, got.Reason)
	}
	res, err := Apply(t.Context(), dir, in)
	must(t, err)
	o := res.Outcomes[0]
	if c.unfixable != "" {
		c.runUnfixable(t, k, dir, before, o)
		return
	}
	want := c.variant
	if want == "" {
		want = k.Variants[0].ID
	}
	if o.Before != kiln.NotSatisfied || o.State != kiln.Satisfied || o.Variant != want {
		t.Errorf("outcome %s -> %s by %q: %s %s", o.Before, o.State, o.Variant, o.Observed, o.Reason)
	}
	after := dump(t, dir)
	if got := differences(before, after); show(got) != show(c.want) {
		t.Errorf("changes:\n%swant:\n%s", show(got), show(c.want))
	}
	again, err := Apply(t.Context(), dir, in)
	must(t, err)
	if diff := differences(after, dump(t, dir)); len(diff) > 0 || again.Before != again.After || again.Before != res.After || len(again.Outcomes[0].Changed) > 0 {
		t.Errorf("applied again, it changed:\n%s", show(diff))
	}
}

func (c domain) runUnfixable(t *testing.T, k kiln.Control, dir string, before map[string]string, o kiln.Outcome) {
	if o.State != kiln.NotSatisfied || !strings.Contains(o.Reason, c.unfixable) {
		t.Errorf("outcome %s with reason %q, want one with %q", o.State, o.Reason, c.unfixable)
	}
	if diff := differences(before, dump(t, dir)); len(diff) > 0 {
		t.Errorf("it changed:\n%s", show(diff))
	}
	recipe := c.newRecipe()
	if c.cure != nil {
		c.cure(recipe)
	}
	cured := c
	cured.lock = nil
	dir = plant(t, debianWith(append(slices.Clone(c.before), c.cureTree...)...)...)
	in := cured.input(t, k, recipe)
	in.Lock.Archives = []kiln.LockedArchive{{ID: "example/stable", SignedBy: []string{"ABCD"}}}
	res, err := Apply(t.Context(), dir, in)
	must(t, err)
	if o := res.Outcomes[0]; o.State != kiln.Satisfied {
		t.Errorf("after the cure: %s: %s %s", o.State, o.Observed, o.Reason)
	}
}

// generated are the cases of objectives that say nothing but "this file at most so" or "these packages not".
func generated(cat *catalogue.Catalogue) []domain {
	var out []domain
	for _, k := range cat.Objectives() {
		set := k.Variants[0].Settings[0]
		if len(k.Variants) > 1 || len(k.Variants[0].Settings) > 1 || k.Scope == "machine" {
			continue
		}
		switch set.Kind {
		case "packages-absent":
			name := set.Params["packages"].([]any)[0].(string)
			out = append(out, domain{
				objective: k.ID, before: pack(name, "Depends: app\n", f("usr/bin/unwanted", "0755", "tool")),
				want: map[string]string{
					"usr/bin/unwanted": "gone", "var/lib/dpkg/info/" + name + ".list": "gone", "var/lib/dpkg/info/" + name + ".md5sums": "gone",
					"var/lib/dpkg/status": statusOfApp,
				},
			})
		case "file-mode":
			if strings.HasPrefix(k.ID, "mode-") {
				out = append(out, modeCase(k, set))
			}
		}
	}
	return out
}

func modeCase(k kiln.Control, set kiln.Setting) domain {
	p := strings.TrimPrefix(set.Params["paths"].([]any)[0].(string), "/")
	group := "0"
	if set.Params["groups"].([]any)[0] == "shadow" {
		group = "42"
	}
	n := f(p, "0666", "text\n").of("33:33")
	want := fmt.Sprintf("%04o 0:%s text\n", 0o666&mustOctal(set.Params["mode"].(string)), group)
	for _, base := range debian { // the account files must stay readable for the test's own tree
		if base.path == p {
			n.content = base.content
			want = strings.TrimSuffix(want, "text\n") + base.content
		}
	}
	if strings.HasPrefix(path.Base(p), "cron.") && path.Base(p) != "cron.allow" {
		n, want = d(p, "0777").of("33:33"), fmt.Sprintf("%04o 0:0", 0o777&mustOctal(set.Params["mode"].(string)))
	}
	return domain{objective: k.ID, before: []node{n}, want: map[string]string{p: want}}
}

func mustOctal(t string) uint32 { m, _ := octal(t); return m }
