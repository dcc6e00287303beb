//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kiln"
)

// releases that the examples are for.
var releases = []string{"bookworm", "trixie"}

// TestEveryExampleBuildsOnEachRelease builds every folder of examples from the
// archives of the machine, for Debian 12 and 13: every test passes, every
// objective holds, every file is accounted for, and the policy admits.
func TestEveryExampleBuildsOnEachRelease(t *testing.T) {
	f := newFactory(t)
	onDebian(t)
	folders, err := filepath.Glob(filepath.Join(f.examples, "*", "kiln.yaml"))
	must(t, err)
	if len(folders) < 4 {
		t.Fatalf("only %d examples: %v", len(folders), folders)
	}
	for _, release := range releases {
		for _, path := range folders {
			name := filepath.Base(filepath.Dir(path))
			t.Run(release+"/"+name, func(t *testing.T) {
				f.t = t
				exampleHolds(t, f.build(f.exampleFor(t, name, release), "--channel", release), release)
			})
		}
	}
	f.t = t
	if listed := f.must("ls"); strings.Count(listed, "\n") != len(folders)*len(releases) {
		t.Errorf("kiln ls lists\n%s", listed)
	}
}

// onDebian skips where the machine's archives hold none of the releases.
func onDebian(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("/etc/os-release")
	must(t, err)
	if !slices.Contains(strings.Split(string(text), "\n"), "ID=debian") {
		missing(t, "needs a Debian machine: its archives hold both releases")
	}
}

// exampleFor copies an example and lets it take another release from the same archives.
func (f *factory) exampleFor(t *testing.T, name, release string) string {
	t.Helper()
	to := filepath.Join(f.dir, release, name)
	must(t, os.CopyFS(to, os.DirFS(filepath.Join(f.examples, name))))
	recipe := filepath.Join(to, "kiln.yaml")
	text, err := os.ReadFile(recipe)
	must(t, err)
	changed := strings.Replace(string(text), "apt: machine", "apt: {machine: true, release: "+release+"}", 1)
	if changed == string(text) {
		t.Fatalf("%s has no `apt: machine` to change", recipe)
	}
	must(t, os.WriteFile(recipe, []byte(changed), 0o600))
	return to
}

func exampleHolds(t *testing.T, b *kiln.Build, release string) {
	t.Helper()
	if b.Lock.Release != release {
		t.Errorf("built for %s, want %s", b.Lock.Release, release)
	}
	if b.Trial.Result != kiln.Pass || len(b.Trial.Tests) == 0 {
		t.Errorf("the trial says %s of %d tests", b.Trial.Result, len(b.Trial.Tests))
	}
	for _, o := range b.Hardening.Outcomes {
		if o.State != kiln.Satisfied && o.State != kiln.NotApplicable {
			t.Errorf("%s is %s: observed %s; %s", o.Objective, o.State, o.Observed, o.Reason)
		}
	}
	if len(b.Bill.Unowned)+len(b.Bill.Modified) > 0 {
		t.Errorf("not accounted for: %v, modified: %v", b.Bill.Unowned, b.Bill.Modified)
	}
	if !b.Verdict.Serves() {
		t.Errorf("the verdict is %s by %s", b.Verdict.Decision, b.Verdict.Rule)
	}
}
