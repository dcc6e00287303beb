package tailor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"kiln"
	"kiln/catalogue"
)

func load(t *testing.T) *catalogue.Catalogue {
	t.Helper()
	c, err := catalogue.Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// files is a recipe's folder.
func files(m map[string]string) Read {
	return func(name string) ([]byte, error) {
		if text, ok := m[name]; ok {
			return []byte(text), nil
		}
		return nil, os.ErrNotExist
	}
}

func first(s *Selection, id string) string {
	for _, k := range s.Controls {
		if k.ID == id {
			return k.Variants[0].ID + " " + k.Severity
		}
	}
	return "absent"
}

func TestAProfileOfOnesOwn(t *testing.T) {
	c := load(t)
	const profile = `
name: ours
description: What our machines need.
inherits: cis-l1
objectives: [ctrl-alt-del-off, login-max-days/stig]
remove:
  - {id: banner-motd, reason: "the notice is shown elsewhere"}
  - {id: banner-issue, reason: "likewise"}
`
	h := kiln.Hardening{ProfileFile: "ours.yaml", Waivers: []kiln.Waiver{{Objective: "banner-issue"}}}
	s, err := Choose(c, h, files(map[string]string{"ours.yaml": profile}))
	if err != nil {
		t.Fatal(err)
	}
	base, err := c.Profile("cis-l1")
	if err != nil {
		t.Fatal(err)
	}
	if s.Profile != "ours" || s.Scope != "machine" || len(s.Controls) != len(base)+1 {
		t.Errorf("%s, %s, %d objectives; cis-l1 has %d", s.Profile, s.Scope, len(s.Controls), len(base))
	}
	if got := first(s, "login-max-days"); !strings.HasPrefix(got, "stig ") {
		t.Errorf("login-max-days begins with %s", got)
	}
	if got := fmt.Sprint(s.LeftOut); got != "map[banner-motd:left out by profile ours: the notice is shown elsewhere]" {
		t.Errorf("left out: %s; what is waived is not left out", got)
	}
	h = kiln.Hardening{ProfileFile: "ours.yaml", Include: []string{"banner-motd"}}
	if s, err = Choose(c, h, files(map[string]string{"ours.yaml": profile})); err != nil || s.LeftOut["banner-motd"] != "" || s.LeftOut["banner-issue"] == "" {
		t.Errorf("what the recipe includes is not left out: %v, %v", s, err)
	}
}

func TestAProfileOfOnesOwnIsReadStrictly(t *testing.T) {
	c := load(t)
	for name, x := range map[string]struct{ text, want string }{
		"an unknown field":     {"name: a\ndescription: b\nobjective: [x]\n", "objective"},
		"an unknown objective": {"name: a\ndescription: b\nobjectives: [x]\n", `p.yaml:3`},
		"an unknown variant":   {"name: a\ndescription: b\nobjectives: [login-max-days/x]\n", `has no variant "x"`},
		"an unknown profile":   {"name: a\ndescription: b\ninherits: x\n", `no profile "x"`},
		"nothing to remove":    {"name: a\ndescription: b\nremove: [{id: banner-motd, reason: c}]\n", "is not in what the profile inherits"},
		"no reason":            {"name: a\ndescription: b\ninherits: cis-l1\nremove: [{id: banner-motd}]\n", "needs a reason"},
		"no name":              {"description: b\n", "needs a name"},
		"another scope":        {"name: a\ndescription: b\nscope: both\n", "is container or machine"},
	} {
		_, err := Choose(c, kiln.Hardening{ProfileFile: "p.yaml"}, files(map[string]string{"p.yaml": x.text}))
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
	if _, err := Choose(c, kiln.Hardening{ProfileFile: "none.yaml"}, files(nil)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

const content = "xccdf_org.ssgproject.content_"

func tailoring(extends, choices string) string {
	return `<?xml version="1.0"?><Tailoring xmlns="http://checklists.nist.gov/xccdf/1.2" id="xccdf_x_tailoring_a"><version time="2026-01-01T00:00:00">1</version>
<Profile id="xccdf_x_profile_ours" extends="` + content + `profile_` + extends + `">` + strings.NewReplacer("RULE:", content+"rule_", "VALUE:", content+"value_").Replace(choices) + `</Profile></Tailoring>`
}

func TestTailoringChangesTheProfile(t *testing.T) {
	c := load(t)
	text := tailoring("cis_level1_server", `<title>Ours</title>
<select idref="RULE:sshd_set_max_auth_tries" selected="false"/>
<select idref="RULE:disable_ctrlaltdel_reboot" selected="true"/>
<select idref="RULE:sshd_set_keepalive" selected="false"/>
<select idref="RULE:unheard_of" selected="true"/>
<select idref="RULE:unheard_of_too" selected="false"/>
<refine-value idref="VALUE:var_accounts_maximum_age_login_defs" selector="60"/>
<set-value idref="VALUE:var_unheard_of">1</set-value>
<refine-rule idref="RULE:sshd_disable_empty_passwords" severity="low"/>
<refine-rule idref="RULE:sshd_set_max_sessions" severity="high"/>`)
	before, err := c.Export()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Choose(c, kiln.Hardening{Tailoring: "t.xml"}, files(map[string]string{"t.xml": text}))
	if err != nil {
		t.Fatal(err)
	}
	if s.Profile != "cis-l1" {
		t.Errorf("the profile is %s", s.Profile)
	}
	for id, want := range map[string]string{
		"login-max-days": "stig ", "ctrl-alt-del-off": "masked ", "ssh-sessions": " high", "ssh-empty-passwords": " high", "ssh-auth-tries": " ",
	} {
		if got := first(s, id); !strings.Contains(got, want) {
			t.Errorf("%s begins with %q, want %q", id, got, want)
		}
	}
	if got := fmt.Sprint(s.LeftOut); got != "map[ssh-auth-tries:left out by tailoring t.xml]" {
		t.Errorf("left out: %s", got)
	}
	if after, err := c.Export(); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the catalogue itself was changed: %v", err)
	}
	got := strings.Join(s.Notes, "\n")
	want := `tailoring gives sshd_disable_empty_passwords severity low; objective ssh-empty-passwords stays high: waive it, with owner, reason and expiry
tailoring leaves out sshd_set_keepalive, but objective ssh-idle stays: it also stands for sshd_set_idle_timeout
tailoring leaves out unheard_of_too, for which there is no objective
tailoring selects unheard_of, for which there is no objective: it is not judged
tailoring sets value var_unheard_of, which no objective takes`
	if got != want {
		t.Errorf("notes:\n%s\nwant:\n%s", got, want)
	}
}

func TestTailoringIsRefusedByName(t *testing.T) {
	c := load(t)
	for name, x := range map[string]struct {
		h    kiln.Hardening
		text string
		want string
	}{
		"a value that no variant has": {kiln.Hardening{}, tailoring("cis_level1_server", `<set-value idref="VALUE:var_accounts_maximum_age_login_defs">77</set-value>`), `value var_accounts_maximum_age_login_defs is to be "77", but objective `},
		"an unknown selector":         {kiln.Hardening{}, tailoring("cis_level1_server", `<refine-value idref="VALUE:var_accounts_maximum_age_login_defs" selector="x"/>`), `has no selector "x"`},
		"an unknown base":             {kiln.Hardening{}, tailoring("pci", ""), "name one in hardening.profile"},
		"another profile":             {kiln.Hardening{TailoringProfile: "theirs"}, tailoring("stig", ""), "there are ours"},
		"entities":                    {kiln.Hardening{}, `<!DOCTYPE a [<!ENTITY b "c">]><a/>`, "document type"},
	} {
		x.h.Tailoring = "t.xml"
		if _, err := Choose(c, x.h, files(map[string]string{"t.xml": x.text})); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
}

// TestValuesNameRules: every value's rules are ones that an objective stands for, or the table says nothing.
func TestValuesNameRules(t *testing.T) {
	w := &work{catalogue: load(t)}
	values := knownValues()
	if len(values) < 30 {
		t.Fatalf("only %d values are known", len(values))
	}
	for id, v := range values {
		if !slices.ContainsFunc(v.Rules, func(r string) bool { return len(w.objectivesOf(r)) > 0 }) {
			t.Errorf("value %s: no objective stands for %v", id, v.Rules)
		}
	}
}
