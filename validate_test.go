package kiln

import (
	"testing"
	"time"
)

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"nginx": true, "team/web-1.2": true, "a": true, "0": true,
		"": false, "Nginx": false, "-a": false, "a-": false, "a//b": false, "a..b": false, "a b": false, "ä": false, "/a": false,
	} {
		if ValidName(name) != want {
			t.Errorf("ValidName(%q) is %v", name, !want)
		}
	}
}

func TestExceptionHoldsThroughItsLastDay(t *testing.T) {
	e := Exception{Owner: "o", Reason: "r", Expires: "2026-03-31"}
	for at, expired := range map[string]bool{
		"2026-03-31T23:59:59Z":      false,
		"2026-04-01T00:00:00Z":      true,
		"2026-04-01T01:30:00+02:00": false, // still March in UTC
		"2025-01-01T00:00:00Z":      false,
	} {
		now, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if e.Expired(now) != expired {
			t.Errorf("at %s expired is %v", at, !expired)
		}
	}
	if !(Exception{Owner: "o", Reason: "r", Expires: "soon"}).Expired(time.Unix(0, 0)) {
		t.Error("an exception without a readable date holds")
	}
	for _, bad := range []Exception{{}, {Owner: "o"}, {Owner: "o", Reason: "r"}, {Owner: "o", Reason: "r", Expires: "31.3.2026"}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

func TestDuration(t *testing.T) {
	var d Duration
	if err := d.UnmarshalText([]byte("90s")); err != nil || d.Or(time.Hour) != 90*time.Second {
		t.Errorf("%v %v", d, err)
	}
	if text, _ := d.MarshalText(); string(text) != "1m30s" {
		t.Errorf("written as %s", text)
	}
	if Duration(0).Or(time.Hour) != time.Hour {
		t.Error("zero is not the default")
	}
	for _, bad := range []string{"", "30", "-1s", "soon"} {
		if d.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestNormalPort(t *testing.T) {
	for in, want := range map[string]string{"80": "80/tcp", "53/udp": "53/udp", "9/sctp": "9/sctp"} {
		if got, ok := NormalPort(in); !ok || got != want {
			t.Errorf("%s gives %s, %v", in, got, ok)
		}
	}
	for _, bad := range []string{"", "0", "65536", "080", "80/icmp", "-1", "+80", "80/", "http"} {
		if _, ok := NormalPort(bad); ok {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// The verdicts that other documents draw: what may not be called a pass.
func TestDocumentsThatContradictThemselves(t *testing.T) {
	d := DigestBytes(nil)
	for name, doc := range map[string]Document{
		"a trial that passed with a failed test": &Trial{Header: NewHeader("Trial"), Candidate: d, Result: Pass, Tests: []TestResult{{Name: "a", Result: Fail}}},
		"a trial without a result":               &Trial{Header: NewHeader("Trial"), Candidate: d},
		"evidence without a check":               &Evidence{Header: NewHeader("Evidence"), Type: "digest-pin", Subject: Subject{Name: "a", Digest: d}},
		"a waived objective without a waiver":    &HardeningResult{Header: NewHeader("HardeningResult"), Profile: "p", Outcomes: []Outcome{{State: Waived}}},
		"an unknown state":                       &HardeningResult{Header: NewHeader("HardeningResult"), Profile: "p", Outcomes: []Outcome{{State: "fine"}}},
		"a verdict of another word":              &Verdict{Header: NewHeader("Verdict"), Decision: "maybe", Mode: "enforce"},
		"an image without layers":                &Artifact{Header: NewHeader("Artifact"), Index: d, Manifest: d, Config: d, Tree: d},
		"a release under no name":                &Release{Header: NewHeader("Release"), Digest: d, Channel: "stable"},
		"a component without purl":               &Bill{Header: NewHeader("Bill"), Components: []Component{{Name: "a"}}},
	} {
		if doc.Validate() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestServes(t *testing.T) {
	for _, c := range []struct {
		decision, mode string
		want           bool
	}{
		{Allow, "enforce", true},
		{Deny, "enforce", false},
		{Unknown, "enforce", false},
		{Unknown, "", false},
		{Deny, "warn", true},
		{Deny, "observe", true},
	} {
		if got := (&Verdict{Decision: c.decision, Mode: c.mode}).Serves(); got != c.want {
			t.Errorf("%s under %q serves: %v", c.decision, c.mode, got)
		}
	}
}

func TestTCPAddress(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:6379": true, "localhost:1": true, "[::1]:80": true,
		"": false, "6379": false, ":80": false, "a:0": false, "a:65536": false, "a:b": false, "a:80/x": false, "u@a:80": false, "a b:80": false, "::1:80": false,
	} {
		c := &recipeCheck{r: &Recipe{}}
		c.tcpTest("tcp", &TCPTest{Address: address})
		if (len(c.problems) == 0) != want {
			t.Errorf("%q: %v", address, c.problems)
		}
	}
}
