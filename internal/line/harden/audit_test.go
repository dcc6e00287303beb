package harden

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/catalogue"

	"golang.org/x/sys/unix"
)

// outcomes audits a tree for the objectives named and returns them by id.
func outcomes(t *testing.T, dir string, in Input, ids ...string) map[string]kiln.Outcome {
	t.Helper()
	cat, err := catalogue.Load()
	must(t, err)
	for _, id := range ids {
		k, ok := cat.Objective(id)
		if !ok {
			t.Fatalf("no objective %s", id)
		}
		in.Controls = append(in.Controls, k)
	}
	in.Now = time.Now()
	res, err := Audit(t.Context(), dir, in)
	must(t, err)
	out := map[string]kiln.Outcome{}
	for _, o := range res.Outcomes {
		out[o.Objective] = o
	}
	return out
}

// expect compares states, and that reasons name what they must.
func expect(t *testing.T, got map[string]kiln.Outcome, id, state, reason string) {
	t.Helper()
	if o := got[id]; o.State != state || !strings.Contains(o.Reason, reason) {
		t.Errorf("%s is %s (%s | %s), want %s with %q", id, o.State, o.Observed, o.Reason, state, reason)
	}
}

func TestAnAuditIsUnsureOfWhatItCannotSee(t *testing.T) {
	deep := strings.Repeat("d/", 600)
	for _, c := range []struct {
		name           string
		make           func(dir string) error
		unsure, reason string
		sure           []string
	}{
		{
			"a tree too deep", func(dir string) error { return os.MkdirAll(filepath.Join(dir, "srv", deep), 0o755) },
			"world-writable-files", "more than 500 directories",
			[]string{"account-zero-uid", "mode-passwd"},
		},
		{
			"a huge file", func(dir string) error { return os.Truncate(filepath.Join(dir, "etc/passwd"), 1<<40) },
			"account-zero-uid", "etc/passwd: larger than 64 MiB",
			[]string{"world-writable-files", "group-zero-gid"},
		},
		{"a FIFO for a file", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "etc/shadow")), unix.Mkfifo(filepath.Join(dir, "etc/shadow"), 0o600))
		}, "account-empty-password", "etc/shadow: it is no regular file", []string{"account-zero-uid"}},
	} {
		dir := plant(t, debianWith()...)
		must(t, c.make(dir))
		got := outcomes(t, dir, Input{}, append(c.sure, c.unsure)...)
		expect(t, got, c.unsure, kiln.Unknown, c.reason)
		for _, id := range c.sure {
			expect(t, got, id, kiln.Satisfied, "")
		}
	}
}

func TestAnAuditDoesNotFollowLinksOutOfTheTree(t *testing.T) {
	outside := plant(t, f("shadow", "0644", "root::1::::::\n"), f("open", "0666", "x"))
	dir := plant(t, debianWith(l("etc/shadow-", filepath.Join(outside, "shadow")), l("srv/up", "../../../../../../../.."+outside))...)
	got := outcomes(t, dir, Input{}, "mode-shadow-backup", "world-writable-files")
	expect(t, got, "mode-shadow-backup", kiln.NotApplicable, "")
	expect(t, got, "world-writable-files", kiln.Satisfied, "")
}

func TestAnAuditDoesNotTakeUnreadPackagesForAbsentOnes(t *testing.T) {
	for _, c := range []struct{ place, content, reason string }{
		{"var/lib/pacman/local/telnet/desc", "x", "pacman's"},
		{"lib/apk/db/installed", "P:telnet\nrubbish\n", "line 2"},
		{"var/lib/rpm/Packages.db", "RpmP, and then nothing of a database", "pages of slots"},
		{"var/lib/rpm/something", "x", "no database of rpm that is known"},
		{"var/lib/dpkg/status.d/telnet", "rubbish", "status.d/telnet"},
	} {
		dir := plant(t, f("etc/passwd", "0644", passwd), f(c.place, "0644", c.content), f("bin/su", "4755", "su"))
		got := outcomes(t, dir, Input{}, "telnet-client-absent", "setid-unpackaged", "package-manager-absent", "shells-absent")
		for id := range got {
			expect(t, got, id, kiln.Unknown, c.reason) // the database is read once and remembered
		}
	}
}

func TestAnAuditJudgesAnImagesOwnConfiguration(t *testing.T) {
	dir := plant(t, debianWith(users(passwd+"web:x:101:101::/:/bin/false\n"), groups(group+"web:x:101:\n"))...)
	config := &kiln.ImageConfig{
		User: "web", Env: []string{"PATH=/bin", "DB_PASSWORD_FILE=/run/secrets/db"}, Ports: []string{"80/tcp"},
		History: []string{"/bin/sh -c #(nop) ENV API_TOKEN=s3cr3t", "RUN build --password=$PASSWORD", "COPY x /x"},
	}
	got := outcomes(t, dir, Input{Config: config}, "image-user", "image-no-secrets", "image-healthcheck")
	expect(t, got, "image-user", kiln.Satisfied, "")
	expect(t, got, "image-healthcheck", kiln.NotSatisfied, "")
	expect(t, got, "image-no-secrets", kiln.NotSatisfied, "")
	if o := got["image-no-secrets"]; o.Observed != "step 1 of the history: value of API_TOKEN s***" {
		t.Errorf("secrets: %q", o.Observed)
	}
	expect(t, outcomes(t, dir, Input{Config: &kiln.ImageConfig{User: "nobody-knows"}}, "image-user"), "image-user", kiln.NotSatisfied, "not numeric")
	expect(t, outcomes(t, dir, Input{}, "image-user"), "image-user", kiln.NotApplicable, "only files")
}

func TestAnAuditKnowsTheDistributionFromTheTree(t *testing.T) {
	k := kiln.Control{
		ID: "x", Title: "x", Rationale: "x", Severity: "low", Scope: "both", Platforms: []string{"debian-12"},
		Variants: []kiln.Variant{{ID: "v", Settings: []kiln.Setting{{Kind: "world-writable-files"}}}},
	}
	for release, state := range map[string]string{
		"ID=debian\nVERSION_ID=\"12\"\n": kiln.Satisfied, "ID=alpine\nVERSION_ID=3.20.1\n": kiln.NotApplicable, "": kiln.Satisfied,
	} {
		dir := plant(t, d("srv", "0755"), f("usr/lib/os-release", "0644", release), l("etc/os-release", "../usr/lib/os-release"))
		expect(t, outcomes(t, dir, Input{Controls: []kiln.Control{k}}), "x", state, "")
	}
}

func TestAnAuditLeavesOutWhatItIsToldAndEnds(t *testing.T) {
	dir := plant(t, debianWith(f("mnt/x", "0666", "x"), f("srv/x", "0644", "x"))...)
	in := Input{Skip: map[string]string{"mnt": "another machine's"}}
	expect(t, outcomes(t, dir, in, "world-writable-files"), "world-writable-files", kiln.Satisfied, "")
	res, err := Audit(t.Context(), dir, in)
	must(t, err)
	if !slices.Equal(res.LeftOut, []string{"/mnt: another machine's"}) {
		t.Errorf("left out: %q", res.LeftOut)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Audit(ctx, dir, in); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// FuzzAudit: whatever account files and settings hold, an audit ends with an outcome for every objective.
func FuzzAudit(f *testing.F) {
	f.Add("root:x:0:0::/:/bin/sh\n\xff\xfe:::::\n", "root::\n", "Include /etc/ssh/sshd_config\nMatch all\n", "Package: a\nStatus: install ok installed\nDepends: a\n\n")
	f.Add("", ":::::::::", "\x00", "Package\n")
	f.Fuzz(func(t *testing.T, passwd, shadow, sshd, status string) {
		dir := t.TempDir()
		for p, text := range map[string]string{"etc/passwd": passwd, "etc/shadow": shadow, "etc/ssh/sshd_config": sshd, "etc/login.defs": sshd, "var/lib/dpkg/status": status} {
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, p)), 0o755))
			must(t, os.WriteFile(filepath.Join(dir, p), []byte(text), 0o600))
		}
		cat, err := catalogue.Load()
		must(t, err)
		for _, scope := range []string{"container", "machine"} {
			res, err := Audit(t.Context(), dir, Input{Controls: cat.Objectives(), Scope: scope, Now: time.Now()})
			if err != nil || len(res.Outcomes) != len(cat.Objectives()) {
				t.Fatal(err)
			}
			if _, err := kiln.Encode(res); err != nil {
				t.Fatal(err)
			}
		}
	})
}
