package harden

import (
	"slices"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/pkgdb"
	"kiln/internal/pkgdb/pkgdbtest"
)

// Trees of images that are not Debian's, as small as they can be.
var (
	alpine = []node{
		f("etc/os-release", "0644", "ID=alpine\nVERSION_ID=3.22.1\n"), users("root:x:0:0:root:/root:/bin/sh\n"), groups("root:x:0:\n"), hashes("root:*::0:::::\n").of("0:0"),
		f("bin/busybox", "0755", "\x7fELF"), l("bin/sh", "/bin/busybox"), l("usr/bin/wget", "/bin/busybox"), l("usr/bin/nc", "../../bin/busybox"), l("usr/sbin/crond", "/bin/busybox"),
		f("sbin/apk", "0755", "\x7fELF"), f("bin/bbsuid", "4111", "\x7fELF"),
		f("lib/apk/db/installed", "0644", "P:busybox\nV:1.37\nA:x86_64\nF:bin\nR:busybox\nR:bbsuid\n\nP:apk-tools\nV:2.14\nA:x86_64\nF:sbin\nR:apk\n\nP:busybox-extras\nV:1.37\nF:bin\nR:busybox-extras\n\n"),
		f("bin/busybox-extras", "0755", "\x7fELF"), l("usr/bin/telnet", "/bin/busybox-extras"),
	}
	ubi = []node{
		f("etc/os-release", "0644", "ID=\"rhel\"\nVERSION_ID=\"9.5\"\n"), users("root:x:0:0:root:/root:/bin/bash\n"), groups("root:x:0:\n"), hashes("root:*::0:::::\n").of("0:0"),
		f("usr/bin/bash", "0755", "\x7fELF"), l("bin", "usr/bin"), l("usr/bin/sh", "bash"), f("usr/bin/microdnf", "0755", "\x7fELF"), f("usr/bin/rpm", "0755", "\x7fELF"), f("usr/bin/su", "4755", "\x7fELF"),
		f("usr/bin/curl", "0755", "\x7fELF"),
		f("var/lib/rpm/Packages.db", "0644", string(pkgdbtest.NDB(
			pkgdb.Package{Name: "bash", Version: "5.1-9.el9", Files: []string{"bin/bash", "bin/sh"}},
			pkgdb.Package{Name: "microdnf", Version: "3-1", Files: []string{"usr/bin/microdnf"}},
			pkgdb.Package{Name: "util-linux", Version: "2-1", Files: []string{"usr/bin/su"}},
			pkgdb.Package{Name: "curl-minimal", Version: "8-1", Files: []string{"usr/bin/curl"}},
		))),
	}
	distroless = []node{
		f("etc/os-release", "0644", "ID=debian\nVERSION_ID=\"12\"\n"), users("root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n"), groups("root:x:0:\nnonroot:x:65532:\n"),
		f("usr/lib/os-release", "0644", "x"), f("usr/share/zoneinfo/UTC", "0644", "TZif2"),
		f("var/lib/dpkg/status.d/tzdata", "0644", "Package: tzdata\nVersion: 2026a\nArchitecture: all\n"),
		f("var/lib/dpkg/status.d/tzdata.md5sums", "0644", "d41d8cd98f00b204e9800998ecf8427e  usr/share/zoneinfo/UTC\n"),
	}
	static  = []node{f("app", "0755", "\x7fELF"), d("tmp", "1777")}
	busybox = []node{
		users("root:x:0:0:root:/root:/bin/sh\n"), groups("root:x:0:\n"), f("bin/busybox", "0755", "\x7fELF"), f("bin/sh", "0755", "\x7fELF"), f("bin/telnet", "0755", "\x7fELF"), f("bin/wget", "0755", "\x7fELF"), f("bin/su", "4755", "\x7fELF"),
	}
)

// TestPackageObjectivesOnAnyImage: what there is is found, whatever distribution it is of.
func TestPackageObjectivesOnAnyImage(t *testing.T) {
	ids := []string{
		"package-manager-absent", "shells-absent", "telnet-client-absent", "fetch-tools-absent", "cron-absent", "ssh-server-absent", "setuid-cleared", "setid-unpackaged", "compilers-absent",
	}
	const yes, no = kiln.Satisfied, kiln.NotSatisfied
	for _, c := range []struct {
		name string
		tree []node
		want []string // in the order of ids
	}{
		{"alpine", alpine, []string{no, no, no, no, no, yes, no, yes, yes}},
		{"ubi", ubi, []string{no, no, yes, no, yes, yes, no, yes, yes}},
		{"distroless", distroless, []string{yes, yes, yes, yes, yes, yes, yes, yes, yes}},
		{"static", static, []string{yes, yes, yes, yes, yes, yes, yes, yes, yes}},
		{"busybox", busybox, []string{yes, no, no, no, yes, yes, no, no, yes}},
	} {
		got := outcomes(t, plant(t, c.tree...), Input{Config: &kiln.ImageConfig{}}, ids...)
		for i, id := range ids {
			if got[id].State != c.want[i] {
				t.Errorf("%s: %s is %s (%s | %s), want %s", c.name, id, got[id].State, got[id].Observed, got[id].Reason, c.want[i])
			}
		}
	}
}

// TestEveryProgramIsFoundWhoeverBringsIt: each objective that names programs sees
// every one of them as a link to a program with many names, and as a file of another manager's package.
func TestEveryProgramIsFoundWhoeverBringsIt(t *testing.T) {
	cat, err := catalogue.Load()
	must(t, err)
	checked := 0
	clean := plant(t, static...)
	for _, k := range cat.Objectives() {
		set := k.Variants[0].Settings[0]
		programs, _ := set.Params["programs"].([]any)
		if len(programs) == 0 || k.Scope == "machine" {
			continue
		}
		expect(t, outcomes(t, clean, Input{}, k.ID), k.ID, kiln.Satisfied, "")
		for i, p := range programs {
			name := strings.NewReplacer("[0-9]*", "12", "*", "9").Replace(p.(string))
			tree := append(slices.Clone(static), f("opt/many", "0755", "\x7fELF"), l("usr/bin/"+name, "/opt/many"))
			if i%2 == 1 {
				tree = append(slices.Clone(static), f("sbin/"+name, "0755", "\x7fELF"), f("lib/apk/db/installed", "0644", "P:other-name\nV:1\nF:sbin\nR:"+name+"\n\n"))
			}
			o := outcomes(t, plant(t, tree...), Input{}, k.ID)[k.ID]
			if o.State != kiln.NotSatisfied || !strings.Contains(o.Observed, "bin/"+name) {
				t.Errorf("%s with %s: %s %s %s", k.ID, name, o.State, o.Observed, o.Reason)
			}
			checked++
		}
	}
	if checked < 100 {
		t.Errorf("only %d programs were tried", checked)
	}
}

// TestPackagesOfOthersAreNotRemoved: in a build on such an image the files stay, with the reason; links of nobody's go.
func TestPackagesOfOthersAreNotRemoved(t *testing.T) {
	needRoot(t)
	cat, err := catalogue.Load()
	must(t, err)
	for _, c := range []struct{ id, state, reason string }{
		{"package-manager-absent", kiln.NotSatisfied, "package apk-tools is one of apk"},
		{"shells-absent", kiln.NotSatisfied, "package busybox is one of apk"},
		{"fetch-tools-absent", kiln.Satisfied, ""},
	} {
		k, _ := cat.Objective(c.id)
		remove := kiln.Removal{Shell: c.id == "shells-absent", PackageManager: c.id == "package-manager-absent"}
		recipe := &kiln.Recipe{Name: "app", Hardening: kiln.Hardening{Remove: remove}}
		dir := plant(t, alpine...)
		before := dump(t, dir)
		res, err := Apply(t.Context(), dir, Input{Recipe: recipe, Lock: &kiln.Lock{Epoch: 1}, Controls: []kiln.Control{k}, Now: time.Now()})
		must(t, err)
		o := res.Outcomes[0]
		if o.State != c.state || !strings.Contains(o.Reason, c.reason) {
			t.Errorf("%s: %s %s, want %s with %q", c.id, o.State, o.Reason, c.state, c.reason)
		}
		diff := differences(before, dump(t, dir))
		if c.state == kiln.NotSatisfied && len(diff) > 0 || c.id == "fetch-tools-absent" && show(diff) != show(map[string]string{"usr/bin/wget": "gone", "usr/bin/nc": "gone"}) {
			t.Errorf("%s changed:\n%s", c.id, show(diff))
		}
	}
}

// TestAnyImageIsAuditedWhole: every objective of the strict profile has a state on every image, and none is an error.
func TestAnyImageIsAuditedWhole(t *testing.T) {
	cat, err := catalogue.Load()
	must(t, err)
	list, err := cat.Profile("container-strict")
	must(t, err)
	for name, tree := range map[string][]node{"alpine": alpine, "ubi": ubi, "distroless": distroless, "static": static, "busybox": busybox, "debian": debian} {
		config := &kiln.ImageConfig{User: "65532:65532", Entrypoint: []string{"/app"}, History: []string{"COPY app /app"}}
		res, err := Audit(t.Context(), plant(t, tree...), Input{Controls: list, Config: config, Layers: []Layer{packed(t, tree...)}, Now: time.Now()})
		must(t, err)
		var unsure []string
		for _, o := range res.Outcomes {
			if o.State == kiln.Unknown {
				unsure = append(unsure, o.Objective)
			}
		}
		want := []string{"image-base-digest", "image-base-tag", "inputs-by-digest", "inputs-signed"}
		if name == "alpine" || name == "ubi" || name == "distroless" {
			want = append(want, "unused-packages-absent")
		}
		if len(res.Outcomes) != len(list) || !slices.Equal(unsure, want) {
			t.Errorf("%s: %d outcomes of %d, unknown %q", name, len(res.Outcomes), len(list), unsure)
		}
	}
}
