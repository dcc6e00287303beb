package harden

import "testing"

func TestTheSSHServersTimesMayBeStricter(t *testing.T) {
	p := sshdParams{Keyword: "LoginGraceTime", Value: "60", Default: "120", Accept: "one-to"}
	for v, want := range map[string]bool{
		"60": true, "40": true, "1m": true, "30s": true, "1": true, "0m59S": true,
		"0": false, "61": false, "1m1s": false, "1h": false, "none": false, "-1": false, "": false, "99999999999999999999s": false,
	} {
		if got := p.holds(v); got != want {
			t.Errorf("LoginGraceTime %s: %v, want %v", v, got, want)
		}
	}
}
