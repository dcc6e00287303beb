package catalogue

import (
	"slices"
	"strings"
	"testing"

	"kiln"
)

func everything(t *testing.T) (*Catalogue, map[string]string) {
	t.Helper()
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.Union("cis-l2", "stig-cat1", "stig-cat2", "stig-cat3")
	if err != nil {
		t.Fatal(err)
	}
	begins := map[string]string{}
	for _, k := range list {
		begins[k.ID] = k.Variants[0].ID
	}
	return c, begins
}

// TestUnionMeetsEveryProfile: each objective of each profile is there, by a variant at least as strict as either wants.
func TestUnionMeetsEveryProfile(t *testing.T) {
	c, begins := everything(t)
	for objective, want := range map[string]string{
		"audit-as-another": "both", "ssh-idle": "both", // neither form meets the other
		"login-umask": "stig", "audit-log-mode": "stig", "audit-disk-full": "cis", "audit-logins": "all", "time-daemon": "chrony",
		"module-udf": "denied", "login-delay": "four-seconds",
	} {
		if _, there := begins[objective]; !there {
			t.Errorf("%s is not in the union", objective)
		} else if k, _ := c.Objective(objective); len(k.Variants) > 1 && begins[objective] != want {
			t.Errorf("%s begins with %s, want %s", objective, begins[objective], want)
		}
	}
	for _, name := range []string{"cis-l1", "cis-l2", "stig-cat1", "stig-cat2", "stig-cat3"} {
		list, err := c.Profile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range list {
			all, _ := c.Objective(k.ID)
			if at := variantIndex(all, begins[k.ID]); at < 0 || at > variantIndex(all, k.Variants[0].ID) {
				t.Errorf("%s of %s: the union begins with %q, which is less strict", k.ID, name, begins[k.ID])
			}
		}
	}
}

func TestUnionIsOneListInAnyOrder(t *testing.T) {
	c, begins := everything(t)
	list, err := c.Profile(UnionName("stig-cat3", "none", "stig-cat1", "cis-l2"))
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != len(begins) || !slices.IsSortedFunc(list, func(a, b kiln.Control) int { return strings.Compare(a.ID, b.ID) }) {
		t.Errorf("%d objectives, want %d, sorted", len(list), len(begins))
	}
	for _, k := range list {
		if k.Variants[0].ID != begins[k.ID] {
			t.Errorf("%s begins with %s or %s, by the order of the profiles", k.ID, k.Variants[0].ID, begins[k.ID])
		}
	}
	if s := c.Scope(UnionName("cis-l2", "stig-cat3")); s != "machine" {
		t.Errorf("the union is for %s", s)
	}
	chosen, err := c.Select(kiln.Hardening{Profiles: []string{"cis-l2", "stig-cat3"}, Include: []string{"login-umask/cis"}})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(chosen, func(k kiln.Control) bool { return k.ID == "login-umask" })
	if len(chosen) != len(list) || chosen[at].Variants[0].ID != "cis" {
		t.Errorf("a recipe's profiles: %d objectives, login-umask %s", len(chosen), chosen[at].Variants[0].ID)
	}
}

func TestUnionRefuses(t *testing.T) {
	c, _ := everything(t)
	for want, names := range map[string][]string{
		"do not go together": {"cis-l1", "container-strict"},
		"no profile \"nis\"": {"cis-l1", "nis"},
		"1 to 32":            slices.Repeat([]string{"cis-l1"}, 33),
		"no profile \"\"":    {"cis-l1", ""},
	} {
		if _, err := c.Union(names...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", names, err, want)
		}
	}
	if _, err := c.Union(); err == nil {
		t.Error("no profile at all was taken")
	}
}

// TestDifferentBeginningsAreOrdered: where the baselines begin with different variants, one of these is named as meeting
// both, or the strictest of them does, which a reader of the list has checked.
func TestDifferentBeginningsAreOrdered(t *testing.T) {
	c, begins := everything(t)
	stricter := strings.Fields(`audit-attributes/root-too audit-deletions/all audit-disk-full/cis audit-log-mode/stig audit-modules/cis audit-refused/stig desktop-idle/stig-24 desktop-lock-delay/stig firewall-installed/ufw
lockout-attempts/stig lockout-time/stig login-inactive/stig login-max-days/stig login-umask/stig password-difference/stig password-length/stig shell-timeout/stig`)
	cis, err := c.Profile("cis-l2")
	if err != nil {
		t.Fatal(err)
	}
	stig, err := c.Profile("stig-cat3")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range cis {
		at := slices.IndexFunc(stig, func(b kiln.Control) bool { return b.ID == a.ID })
		if at < 0 || stig[at].Variants[0].ID == a.Variants[0].ID || c.joint[a.ID] != "" {
			continue
		}
		if !slices.Contains(stricter, a.ID+"/"+begins[a.ID]) {
			t.Errorf("%s: CIS begins with %s, STIG with %s; say which variant meets both (joint), or list %s/%s here after checking it",
				a.ID, a.Variants[0].ID, stig[at].Variants[0].ID, a.ID, begins[a.ID])
		}
	}
}
