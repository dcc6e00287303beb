package resolve

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"kiln"
)

// TestLikeAptInRandomWorlds makes small archives full of alternatives, virtual
// packages and conflicts, and compares with apt: also whether there is a solution at all.
func TestLikeAptInRandomWorlds(t *testing.T) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		skip(t, "apt-get is not installed")
	}
	worlds := 25
	if n, err := strconv.Atoi(os.Getenv("KILN_RANDOM_WORLDS")); err == nil {
		worlds = n
	}
	solved := 0
	for seed := range worlds {
		rnd := rand.New(rand.NewPCG(uint64(seed), 7))
		stanzas := randomWorld(rnd)
		a := newTestArchive(t)
		a.suite("stable", stanzas, "")
		apt := newPrivateApt(t, a.base("stable").Apt.Archives)
		for range 2 {
			ask := randomNames(rnd, 1+rnd.IntN(3))
			want, aptErr := apt.choose(ask, nil)
			o := testOptions(t)
			o.Report = nil
			lock, _, err := Apt(t.Context(), recipeOn(a.base("stable"), ask...), o)
			if (err == nil) != (aptErr == nil) {
				t.Errorf("world %d, %v: apt says %v, we say %v\n%s", seed, ask, aptErr, err, stanzas)
				continue
			}
			if err != nil {
				continue
			}
			solved++
			if got := versionsOf(lock); !maps.Equal(got, want) {
				t.Errorf("world %d, %v: apt chooses %v, we %v\n%s", seed, ask, want, got, stanzas)
			}
		}
	}
	if solved < worlds/2 {
		t.Errorf("only %d of %d requests had a solution: the worlds prove little", solved, 2*worlds)
	}
}

func versionsOf(lock *kiln.Lock) map[string]string {
	all := map[string]string{}
	for _, p := range lock.Packages {
		all[p.Name] = p.Version
	}
	return all
}

func randomNames(rnd *rand.Rand, n int) []string {
	var names []string
	for len(names) < n {
		if name := fmt.Sprintf("pkg%02d", rnd.IntN(20)); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// randomWorld has an essential package, apt, and twenty packages with random relations among them and virtual names.
func randomWorld(rnd *rand.Rand) string {
	var out strings.Builder
	out.WriteString("Package: base\nVersion: 1\nEssential: yes\nPriority: required\n\nPackage: apt\nVersion: 1\nPriority: required\n")
	for i := range 20 {
		versions := 1 + rnd.IntN(4)/3
		for v := range versions {
			fmt.Fprintf(&out, "\nPackage: pkg%02d\nVersion: %d\nPriority: %s\n", i, v+1, []string{"optional", "optional", "standard", "extra"}[rnd.IntN(4)])
			writeRelation(&out, rnd, "Depends", 45, 2)
			writeRelation(&out, rnd, "Pre-Depends", 10, 1)
			writeRelation(&out, rnd, "Conflicts", 12, 1)
			writeRelation(&out, rnd, "Breaks", 8, 1)
			writeRelation(&out, rnd, "Suggests", 20, 1)
			if rnd.IntN(3) == 0 {
				fmt.Fprintf(&out, "Provides: virtual%d\n", rnd.IntN(4))
			}
		}
	}
	return out.String()
}

func writeRelation(out *strings.Builder, rnd *rand.Rand, field string, percent, most int) {
	if rnd.IntN(100) >= percent {
		return
	}
	var groups []string
	for range 1 + rnd.IntN(most) {
		alternatives := 1
		if field == "Depends" {
			alternatives += rnd.IntN(3)
		}
		var alts []string
		for range alternatives {
			alts = append(alts, randomTarget(rnd))
		}
		groups = append(groups, strings.Join(alts, " | "))
	}
	fmt.Fprintf(out, "%s: %s\n", field, strings.Join(groups, ", "))
}

func randomTarget(rnd *rand.Rand) string {
	switch rnd.IntN(8) {
	case 0, 1:
		return fmt.Sprintf("virtual%d", rnd.IntN(4))
	case 2:
		return fmt.Sprintf("pkg%02d (%s %d)", rnd.IntN(20), []string{"<<", "<=", "=", ">=", ">>"}[rnd.IntN(5)], 1+rnd.IntN(3))
	}
	return fmt.Sprintf("pkg%02d", rnd.IntN(20))
}
