package harden

import (
	"slices"
	"testing"

	"kiln"
)

func TestPackagesThatObjectivesAskFor(t *testing.T) {
	ask := func(id, applies string, names ...any) kiln.Control {
		c := kiln.Control{ID: id, Variants: []kiln.Variant{
			{ID: "a", Settings: []kiln.Setting{{Kind: "packages-present", Params: map[string]any{"packages": names}}}},
			{ID: "b", Settings: []kiln.Setting{{Kind: "packages-present", Params: map[string]any{"packages": []any{"looser"}}}}},
		}}
		if applies != "" {
			c.Applies = &kiln.Applicability{Package: applies}
		}
		return c
	}
	controls := []kiln.Control{
		ask("plugins", "auditd", "audispd-plugins"), // asked for by what comes later
		ask("audit", "", "auditd"),
		ask("firewall", "", "ufw", "nftables"),
		ask("time", "", "chrony", "ntpsec"),
		ask("tls", "rsyslog", "rsyslog-gnutls"),
		{ID: "mode", Variants: []kiln.Variant{{ID: "a", Settings: []kiln.Setting{{Kind: "file-mode", Params: map[string]any{"paths": []any{"/etc/x"}, "mode": "0644"}}}}}},
	}
	got, err := Packages(controls, func(name string) bool { return name == "nftables" })
	must(t, err)
	if want := []string{"auditd", "chrony", "audispd-plugins"}; !slices.Equal(got, want) {
		t.Errorf("asked for %q, want %q", got, want)
	}
	controls = []kiln.Control{ask("none", "")}
	if _, err := Packages(controls, func(string) bool { return false }); err == nil {
		t.Error("an objective that names no package is no mistake")
	}
}
