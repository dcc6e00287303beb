package harden

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln"
)

// needless are the kinds that have no refusal case, with why.
var needless = map[string]string{
	"file-mode": "changes modes alone, of what a link leads to in the tree", "tree-mode": "changes modes alone", "account-homes": "changes modes alone",
	"files-absent": "removes what stands there, a link too", "directory-empty": "removes what stands there, a link too",
	"setid-cleared": "changes modes alone", "capabilities-cleared": "takes an attribute away", "world-writable-files": "changes modes alone",
	"sticky-directories": "changes modes alone", "setgid-directories": "changes modes alone", "device-files-absent": "removes nodes", "owned-files": "changes owners alone",
	"certificates-known": "only reports", "file-present": "only reports", "packages-present": "only reports",
	"unit-masked": "replaces the site's link; its refusal of a site's unit is in TestMachineFilesThatAreRefused", "unit-enabled": "TestMachineFilesThatAreRefused: a unit with a path",
	"packages-absent": "dpkg's own database: TestHostileTablesAreRead, broken status", "asked-packages-absent": "as packages-absent", "unused-packages-absent": "as packages-absent",
	"package-manager-absent": "removes files", "shells-absent": "removes files", "documentation-absent": "removes files",
	"files-empty": "empties what links do not lead to", "audit-set-id": "as audit-rules",
	"layer-secrets":           "only reports: TestObjectivesOfImagesBothWays",
	"account-unused-defaults": "removes entries by dropRows, as account-zero-uid",
}

// binary are kinds for which a file with zero bytes is nothing to parse.
var binary = []string{"file-content", "file-created"}

// TestEveryKindRefuses puts a link, then a file that is no text, in the place of the first file that a kind touches: the
// report names the path, with the line where there is one, and the file stays as it was.
func TestEveryKindRefuses(t *testing.T) {
	needRoot(t)
	for kind, set := range samples(t) {
		files, why := touches(set)
		if needless[kind] != "" || why != "" {
			continue
		}
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			if len(files) == 0 {
				t.Fatalf("kind %s: add to touches() the files it reads or writes, or to needless why nothing is refused", kind)
			}
			p := strings.ReplaceAll(files[0], "*", "x")
			q := clean(p)
			refuses(t, set, l(q, "/srv/target"), p, "-> /srv/target")
			if !slices.Contains(binary, kind) {
				refuses(t, set, f(q, "0644", "# first\nkey\x00\n"), p+":2", "0644 0:0 # first\nkey\x00\n")
			}
		})
	}
	for kind := range needless {
		if _, ok := kinds[kind]; !ok {
			t.Errorf("needless names %s, which is no kind", kind)
		}
	}
}

func refuses(t *testing.T, set kiln.Setting, n node, named, stays string) {
	t.Helper()
	nodes := append(machine(), f("srv/target", "0644", "# the target\n"), f("usr/bin/bash", "0755", "x"))
	nodes = append(nodes, broken(set)...)
	nodes = slices.DeleteFunc(nodes, func(o node) bool { return o.path == n.path || strings.HasPrefix(o.path, n.path+"/") })
	dir := plant(t, debianWith(append(nodes, n)...)...)
	k := kiln.Control{ID: "x", Title: "x", Rationale: "x", Severity: "low", Scope: "both", Variants: []kiln.Variant{{ID: "v", Settings: []kiln.Setting{set}}}}
	in := Input{Scope: "machine", Controls: []kiln.Control{k}, Recipe: &kiln.Recipe{}, Lock: &kiln.Lock{Epoch: 1}, Now: time.Unix(1, 0), Before: kiln.DigestBytes(nil)}
	res, err := Apply(t.Context(), dir, in)
	must(t, err)
	o := res.Outcomes[0]
	if o.State == kiln.Satisfied && n.link == "" { // a link may stay where another file can have the setting
		t.Errorf("%s as %.30q: it says satisfied", n.path, stays)
	}
	if (o.State == kiln.NotSatisfied || o.State == kiln.Unknown) && !strings.Contains(o.Reason, named) {
		t.Errorf("%s as %.30q: %s with the reason %q, want one that names %s", n.path, stays, o.State, o.Reason, named)
	}
	after := dump(t, dir)
	if after[n.path] != stays || after["srv/target"] != "0644 0:0 # the target\n" {
		t.Errorf("%s is now %q, and what it led to %q", n.path, after[n.path], after["srv/target"])
	}
	if _, err := os.Lstat(filepath.Join(dir, "etc", temporary)); err == nil {
		t.Error("a temporary file is left")
	}
}
