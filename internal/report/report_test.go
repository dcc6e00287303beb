package report_test

import (
	"bytes"
	"encoding/json"
	"html"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"kiln"
	"kiln/internal/report"
)

func render(t *testing.T, b *kiln.Build) string {
	t.Helper()
	var out bytes.Buffer
	err := report.HTML(&out, b, report.Options{
		Verify:    []report.Command{{"The release signature", "cosign verify --key key.pub registry.example.com/base/nginx@" + string(digest("index"))}},
		Reproduce: []report.Command{{"The same bytes from the same lock", "kiln build examples/nginx --lock kiln.lock"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPageSaysWhatWasDone(t *testing.T) {
	text := render(t, sample())
	if out := os.Getenv("KILN_REPORT_OUT"); out != "" {
		if err := os.WriteFile(out, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{
		"Admitted", "All 4 rules of the policy hold.", "every high objective met or waived", // verdict
		"assemble", "96 packages unpacked, 71 configured", "2.1 s", // stations
		"debian/bookworm-security", "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8", "2025-11-22 08:26 UTC", "not past Valid-Until", // inputs
		"asked for by the recipe", "needed by nginx", "essential in every system", // packages
		"No program runs with another user&#39;s rights", "strip-all", "usr/bin/su 4755", "7.1.11", // hardening
		"web-team@example.com", "2027-01-31", "the proxy cache lies in the image until the volume exists", // waiver
		"exactly these ports", "8080/tcp", "start worker processes", // tests
		"opt/stranger", "usr/sbin/nginx", "4211 packaged files were", // contents
		"application", "23.0 MiB", string(digest("index")), "daemon off;", // image
		"builder/workstation", kiln.PredicateProvenance, "cosign verify --key key.pub", // statements
		"kiln build examples/nginx --lock kiln.lock", // reproduce
	} {
		if !strings.Contains(text, want) && !strings.Contains(html.UnescapeString(text), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

// The page must show what is inside it and load nothing.
func TestPageLoadsNothing(t *testing.T) {
	text := render(t, sample())
	if !strings.Contains(text, `http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;; style-src &#39;sha256-`) {
		t.Error("the page has no content security policy")
	}
	for _, form := range []string{`(?i)<(link|img|iframe|object|embed|base|form|audio|video|source)\b`, `(?i)\bsrc(set)?\s*=`, `(?i)@import`, `(?i)\burl\(`, `(?i)href="[^#]`, `(?i)\son[a-z]+\s*=`, `(?i)\sstyle\s*=`} {
		if found := regexp.MustCompile(form).FindString(text); found != "" {
			t.Errorf("the page has %q", found)
		}
	}
	if n := strings.Count(text, "<script"); n != 1 {
		t.Errorf("%d scripts, want the page's own", n)
	}
}

const attack = `"><script>alert(1)</script><img src=x onerror=alert(1)>'` + "\u202egnp.exe\x1b[31m"

// Every string of the record, wherever it stands, may come from a stranger.
func TestHostileStrings(t *testing.T) {
	b := sample()
	poison(reflect.ValueOf(b).Elem())
	text := render(t, b)
	for _, bad := range []string{"<script>alert", "<img src=x", "\u202e", "\x1b"} {
		if strings.Contains(text, bad) {
			i := strings.Index(text, bad)
			t.Errorf("%q reaches the page: …%s…", bad, text[max(0, i-200):i+50])
		}
	}
	if n := strings.Count(text, "&lt;script&gt;alert(1)"); n < 100 {
		t.Errorf("the hostile text shows %d times; expected it in every section", n)
	}
	if n := strings.Count(text, "<script"); n != 1 {
		t.Errorf("%d scripts, want the page's own", n)
	}
}

// poison puts the attack into every string of a document, keeping the words that choose a form.
func poison(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		switch v.String() {
		case "allow", "satisfied", "not-satisfied", "waived", "unknown", "not-applicable", "done", "cached", "requested", "pass":
		default:
			v.SetString(v.String() + attack)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			poison(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			poison(v.Field(i))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			for i := range v.Len() {
				poison(v.Index(i))
			}
		}
	}
}

// A build that stopped early still has a page, which says where and why, and claims nothing else.
func TestStoppedBuild(t *testing.T) {
	b := &kiln.Build{Header: kiln.NewHeader("Build"), ID: "1", Name: "x", Recipe: digest("r"), Stations: []kiln.StationRun{
		{Station: "recipe", Result: "done"}, {Station: "resolve", Result: "failed", Note: "package nothing-here is in no archive\nand a long story"},
	}}
	text := render(t, b)
	for _, want := range []string{"Stopped", "The build stopped at resolve: package nothing-here is in no archive"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	for _, no := range []string{"Admitted", `id="tests"`, `id="image"`, `id="hardening"`} {
		if strings.Contains(text, no) {
			t.Errorf("the page of a stopped build has %q", no)
		}
	}
}

// A signature that vouches for many packages stands once, not a hundred times.
func TestProofsAreJoined(t *testing.T) {
	b := sample()
	for _, p := range b.Lock.Packages {
		e := b.Evidence[0]
		e.Subject, e.Checks = kiln.Subject{Name: "apt:debian/" + p.Name, Digest: p.Digest}, []string{"named by the signed index"}
		b.Evidence = append(b.Evidence, e)
	}
	text := render(t, b)
	if n := strings.Count(text, `<article class="card">`); n != 3 {
		t.Errorf("%d cards for three signatures", n)
	}
	for _, want := range []string{"vouches for 46 further inputs", "apt:debian/libpcre2-8-0"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

func TestVerdictWords(t *testing.T) {
	for _, c := range []struct{ decision, mode, want string }{
		{"deny", "enforce", "Refused"},
		{"unknown", "enforce", "unknown is never a yes"},
		{"deny", "observe", "The policy is in observe mode: the image is served all the same."},
	} {
		b := sample()
		b.Verdict.Decision, b.Verdict.Mode = c.decision, c.mode
		b.Verdict.Checks[0].Decision = c.decision
		text := render(t, b)
		if !strings.Contains(text, c.want) || strings.Contains(text, "Admitted") {
			t.Errorf("%s in %s mode: the page does not say %q", c.decision, c.mode, c.want)
		}
	}
}

func TestSameBuildSamePage(t *testing.T) {
	first, second := render(t, sample()), render(t, sample())
	if first != second {
		t.Error("two pages of the same build differ")
	}
}

func TestJSON(t *testing.T) {
	text, err := report.JSON(sample())
	if err != nil {
		t.Fatal(err)
	}
	var back kiln.Build
	if err := kiln.Decode(text, &back); err != nil {
		t.Fatal(err)
	}
	again, err := kiln.Encode(&back)
	if err != nil || !bytes.Equal(again, text) {
		t.Errorf("decoding and encoding the record changes it (%v)", err)
	}
	if !json.Valid(text) {
		t.Error("the record is no JSON")
	}
}
