package deb

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestCompareVersions(t *testing.T) {
	older := [][2]string{
		{"1.0", "1.1"},
		{"1.0~rc1", "1.0"},
		{"1.0~~", "1.0~"},
		{"1.0", "1.0a"},
		{"1.0a", "1.0+b"},
		{"1.0-1", "1.0-1+deb12u1"},
		{"1.9", "1.10"},
		{"9", "1:0"},
		{"1.0-1~bpo", "1.0-1"},
		{"2.36-9+deb12u9", "2.36-9+deb12u10"},
		{"1.2-a-1", "1.2-b-1"},
	}
	for _, c := range older {
		if CompareVersions(c[0], c[1]) >= 0 || CompareVersions(c[1], c[0]) <= 0 {
			t.Errorf("%s must be older than %s", c[0], c[1])
		}
	}
	for _, c := range [][2]string{{"1.0", "1.0-0"}, {"0:1", "1"}, {"1.00", "1.0"}, {"a01", "a1"}} {
		if CompareVersions(c[0], c[1]) != 0 {
			t.Errorf("%s must equal %s", c[0], c[1])
		}
	}
}

// TestCompareVersionsLikeDpkg asks dpkg about random pairs, close to each other so that every rule decides some.
func TestCompareVersionsLikeDpkg(t *testing.T) {
	dpkg, err := exec.LookPath("dpkg")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("dpkg is needed in CI")
		}
		t.Skip("dpkg is not installed")
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 150 {
		a := randomVersion(rnd)
		b := mutate(rnd, a)
		op := "eq"
		switch c := CompareVersions(a, b); {
		case c < 0:
			op = "lt"
		case c > 0:
			op = "gt"
		}
		if err := exec.Command(dpkg, "--compare-versions", a, op, b).Run(); err != nil {
			t.Errorf("dpkg disagrees that %s is %s %s", a, op, b)
		}
	}
}

func randomVersion(rnd *rand.Rand) string {
	const alphabet = "0011239.+~ab-Z"
	var s strings.Builder
	if rnd.IntN(4) == 0 {
		s.WriteString([]string{"0:", "1:", "2:"}[rnd.IntN(3)])
	}
	s.WriteByte("0129"[rnd.IntN(4)])
	for range rnd.IntN(8) {
		s.WriteByte(alphabet[rnd.IntN(len(alphabet))])
	}
	if rnd.IntN(2) == 0 || strings.HasSuffix(s.String(), "-") {
		s.WriteString("-1")
	}
	return s.String()
}

func mutate(rnd *rand.Rand, v string) string {
	i := rnd.IntN(len(v) + 1)
	if j := strings.IndexByte(v, ':'); i <= j+1 {
		i = j + 2
	}
	c := string("01~+.aA"[rnd.IntN(7)])
	if rnd.IntN(2) == 0 && i < len(v) {
		return v[:i] + c + v[i+1:]
	}
	return v[:i] + c + v[i:]
}
