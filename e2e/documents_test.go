//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln"
)

// TestWhatTheDocumentsShowIsAdmitted builds what a new user would type: the
// recipe of the README, the one of `kiln init`, those of the how-to, and
// images on each kind of local base.
func TestWhatTheDocumentsShowIsAdmitted(t *testing.T) {
	f := newFactory(t)
	readme := recipesOf(t, filepath.Join(f.repository, "README.md"))
	howto := recipesOf(t, filepath.Join(f.repository, "docs/howto/write-a-recipe.md"))
	f.must("init", "mine")
	f.write(t, "readme/kiln.yaml", readme[0])
	f.write(t, "guided/kiln.yaml", stepByStep(howto))
	f.write(t, "tuned/kiln.yaml", beginning(t, howto, "name: redis-tuned"))
	f.write(t, "shop/kiln.yaml", beginning(t, howto, "name: shop"))
	must(t, os.CopyFS(filepath.Join(f.dir, "shop/app"), os.DirFS(filepath.Join(f.examples, "python-web/app"))))

	shop := f.admitted(t, "shop", "--out", "out/shop")
	for _, recipe := range []string{"mine", "readme", "guided", "tuned"} {
		t.Run(recipe, func(t *testing.T) { f.admitted(t, recipe) })
	}
	mustRun(t, installed(t, "skopeo"), "--insecure-policy", "copy", "--quiet", "oci:"+f.dir+"/out/shop/oci:stable", "docker-archive:"+f.dir+"/shop.tar:shop:1")
	for name, base := range map[string]string{"layout": "../out/shop/oci", "archive": "../shop.tar", "kiln": "shop@stable"} {
		t.Run("on a base of kind "+name, func(t *testing.T) { f.onBase(t, name, base, shop) })
	}
}

// onBase builds a second image on the first, which brings how it runs.
func (f *factory) onBase(t *testing.T, kind, base string, first *kiln.Build) {
	dir := "on-" + kind
	f.write(t, dir+"/kiln.yaml", "name: "+dir+"\nbase: {"+kind+": "+base+"}\n"+
		"files: [{path: /srv/app/more.txt, content: more}]\ntests:\n- http: {url: \"http://127.0.0.1:8000/\", match: Hello}\n- file: {path: /srv/app/more.txt, match: more}\n")
	b := f.admitted(t, dir)
	if b.Lock.Epoch != first.Lock.Epoch || b.Hardening.Config.User != first.Hardening.Config.User {
		t.Errorf("epoch %d and user %s, the base has %d and %s", b.Lock.Epoch, b.Hardening.Config.User, first.Lock.Epoch, first.Hardening.Config.User)
	}
	if len(b.Bill.Components) < len(first.Bill.Components) {
		t.Errorf("%d components, the base has %d", len(b.Bill.Components), len(first.Bill.Components))
	}
}

func (f *factory) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(f.dir, name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

func (f *factory) admitted(t *testing.T, args ...string) *kiln.Build {
	t.Helper()
	f.t = t
	b := f.build(args...)
	if !b.Verdict.Serves() || b.Release == nil || len(b.Trial.Tests) == 0 {
		t.Errorf("%s: verdict %s, %d tests", args[0], b.Verdict.Decision, len(b.Trial.Tests))
	}
	return b
}

// recipesOf returns the YAML blocks of a document.
func recipesOf(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	var out []string
	for _, block := range strings.Split(string(text), "```yaml\n")[1:] {
		code, _, _ := strings.Cut(block, "```")
		out = append(out, code)
	}
	if len(out) == 0 {
		t.Fatalf("%s shows no recipe", path)
	}
	return out
}

func beginning(t *testing.T, blocks []string, with string) string {
	t.Helper()
	for _, b := range blocks {
		if strings.HasPrefix(b, with) {
			return b
		}
	}
	t.Fatalf("no recipe begins with %q", with)
	return ""
}

// stepByStep is the recipe that the how-to's steps build up: without whole
// recipes, alternatives, and the waiver of an objective that there is not.
func stepByStep(blocks []string) string {
	var out strings.Builder
	for i, b := range blocks {
		other := i > 0 && strings.HasPrefix(b, "name: ") || strings.HasPrefix(b, "base:") || strings.HasPrefix(b, "users:") || strings.HasPrefix(b, "  waivers:")
		if !other {
			out.WriteString(b)
		}
	}
	return out.String()
}
