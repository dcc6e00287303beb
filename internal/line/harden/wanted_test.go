package harden

import (
	"testing"

	"kiln"
	"kiln/catalogue"
)

func TestEveryVariantWithValuesSaysWhatItWants(t *testing.T) {
	cat, err := catalogue.Load()
	must(t, err)
	said := 0
	for _, c := range cat.Objectives() {
		for _, v := range c.Variants {
			for _, set := range v.Settings {
				if wants[set.Kind] == nil {
					continue
				}
				said++
				if text := wants[set.Kind](set.Params); text == "" {
					t.Errorf("%s/%s: kind %s wants nothing of %v", c.ID, v.ID, set.Kind, set.Params)
				}
			}
		}
	}
	if said < 300 {
		t.Errorf("only %d settings were looked at", said)
	}
	for kind := range wants {
		if _, ok := kinds[kind]; !ok {
			t.Errorf("there is no kind %s", kind)
		}
	}
}

func TestWantedInWords(t *testing.T) {
	set := func(kind string, params map[string]any) kiln.Setting { return kiln.Setting{Kind: kind, Params: params} }
	for _, c := range []struct {
		variant kiln.Variant
		text    string
	}{
		{kiln.Variant{Title: "never", Settings: []kiln.Setting{set("sysctl", map[string]any{"key": "kernel.x", "value": "2", "accept": "at-least"})}}, "kernel.x = 2 or more"},
		{kiln.Variant{Settings: []kiln.Setting{
			set("unit-masked", map[string]any{"names": []string{"a.service"}}), set("packages-absent", map[string]any{"packages": []string{"a"}}),
		}}, "masked: a.service, not installed: a"},
		{kiln.Variant{Title: "every one", Settings: []kiln.Setting{set("account-unique", map[string]any{"file": "/etc/passwd", "field": "id"})}}, "every one"},
		{kiln.Variant{Settings: []kiln.Setting{set("file-mode", map[string]any{"paths": []string{"/etc/shadow"}, "mode": "0640", "owners": []string{"root"}})}}, "/etc/shadow mode 0640 or stricter, owner root"},
	} {
		if got := wanted(c.variant); got != c.text {
			t.Errorf("wanted %q, want %q", got, c.text)
		}
	}
}
