package line

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln"
	"kiln/internal/tree"
)

func TestAKeptResultIsWholeOrUnknown(t *testing.T) {
	m := memo{t.TempDir()}
	key := kiln.DigestBytes([]byte("inputs"))
	type result struct{ N int }
	var got result
	if ok, err := m.get("scan", key, &got); ok || err != nil {
		t.Fatalf("nothing was kept, got %v, %v", ok, err)
	}
	if err := m.put("scan", key, result{7}); err != nil {
		t.Fatal(err)
	}
	if ok, err := m.get("scan", key, &got); !ok || err != nil || got.N != 7 {
		t.Fatalf("got %v %v %v", got, ok, err)
	}
	path := m.path("scan", key)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string]string{
		"cut short": string(data[:len(data)/2]),
		"changed":   strings.Replace(string(data), `"N":7`, `"N":8`, 1),
		"empty":     "",
	} {
		if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if ok, err := m.get("scan", key, &got); ok || err != nil {
			t.Errorf("%s: a damaged result counts as none, got %v, %v", name, ok, err)
		}
	}
}

func smallTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "etc", "motd"), []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAKeptTreeComesBackAsItWas(t *testing.T) {
	kept := trees{t.TempDir()}
	key := kiln.DigestBytes([]byte("key"))
	src := smallTree(t)
	note, err := kept.save(key, src, 1700000000)
	if err != nil {
		t.Fatal(err)
	}
	want, err := tree.Digest(src, 1700000000)
	if err != nil || note.Tree != want {
		t.Fatalf("digest %s, want %s (%v)", note.Tree, want, err)
	}
	dst := t.TempDir()
	if err := kept.load(key, note.Tree, dst); err != nil {
		t.Fatal(err)
	}
	if got, err := tree.Digest(dst, 1700000000); err != nil || got != want {
		t.Errorf("came back as %s, want %s (%v)", got, want, err)
	}
}

func TestAChangedTreeIsNotBelieved(t *testing.T) {
	kept := trees{t.TempDir()}
	mine, other := kiln.DigestBytes([]byte("mine")), kiln.DigestBytes([]byte("other"))
	note, err := kept.save(mine, smallTree(t), 0)
	if err != nil {
		t.Fatal(err)
	}
	changed := smallTree(t)
	if err := os.WriteFile(filepath.Join(changed, "etc", "motd"), []byte("evil\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := kept.save(other, changed, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(kept.path(other), kept.path(mine)); err != nil {
		t.Fatal(err)
	}
	if err := kept.load(mine, note.Tree, t.TempDir()); err == nil || !strings.Contains(err.Error(), "its content is") {
		t.Errorf("want a refusal, got %v", err)
	}
}

func TestARecipeInheritsFromItsBaseImage(t *testing.T) {
	base := &kiln.ImageConfig{
		Entrypoint: []string{"/init"}, Command: []string{"serve"}, User: "10", Env: []string{"A=1", "B=2"}, Ports: []string{"80/tcp"},
		Healthcheck: &kiln.Healthcheck{Command: []string{"/check"}},
	}
	got := inherit(&kiln.Recipe{Env: map[string]string{"B": "3"}}, base)
	if got.Entrypoint[0] != "/init" || got.Command[0] != "serve" || got.User != "10" || got.Env["A"] != "1" || got.Env["B"] != "3" || got.Ports[0] != "80/tcp" || got.Healthcheck == nil {
		t.Errorf("inherited %+v", got)
	}
	own := inherit(&kiln.Recipe{Entrypoint: []string{"/mine"}}, base)
	if len(own.Command) != 0 {
		t.Errorf("an entrypoint of the recipe's own must drop the base's command, got %v", own.Command)
	}
}

func TestASummaryNamesWhatDoesNotHold(t *testing.T) {
	h := &kiln.HardeningResult{}
	add := func(state string, ids ...string) {
		for _, id := range ids {
			h.Outcomes = append(h.Outcomes, kiln.Outcome{Objective: id, State: state})
		}
	}
	add(kiln.Satisfied, "a", "b")
	add(kiln.NotApplicable, "n")
	if got := summary(h); got != "2 of 2 objectives hold" {
		t.Errorf("got %q", got)
	}
	add(kiln.NotSatisfied, "c", "d", "e", "f", "g", "h")
	add(kiln.Waived, "w")
	if got, want := summary(h), "2 of 9 objectives hold, not: c, d, e, f, and 2 more, waived: w"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNobodySignsForABaseImage(t *testing.T) {
	image := &kiln.LockedImage{Digest: kiln.DigestBytes([]byte("base"))}
	if got := provenNote(&kiln.Lock{Image: image}); strings.Contains(got, "reached by a signature") || !strings.Contains(got, "digest only") {
		t.Errorf("of a base image: %q", got)
	}
	if got := provenNote(&kiln.Lock{Archives: make([]kiln.LockedArchive, 1), Packages: make([]kiln.LockedPackage, 2)}); got != "3 inputs, every one reached by a signature" {
		t.Errorf("of packages: %q", got)
	}
}

func TestAFailedTrialSaysWhatWasExpected(t *testing.T) {
	trial := &kiln.Trial{Result: kiln.Fail, Log: "a\nb\n", Tests: []kiln.TestResult{
		{Name: "home", Type: "http", Result: kiln.Fail, Expected: "status 200", Observed: "connection refused"},
		{Name: "other", Type: "tcp", Result: kiln.Pass},
	}}
	err := failedTests(trial)
	if err == nil {
		t.Fatal("a failed trial passed")
	}
	for _, want := range []string{"1 of 2 tests failed", "home (http): expected status 200; found connection refused", "a\n    b"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %q", want, err)
		}
	}
}
