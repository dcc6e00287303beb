package main

import (
	"path/filepath"
	"slices"
	"testing"

	"kiln/internal/testarchive"
)

// A recipe may leave it to its objectives which packages they need; what it names itself decides among alternatives.
func TestObjectivesBringTheirPackages(t *testing.T) {
	plain := func(name string) testarchive.Package { return testarchive.Package{Name: name, Arch: arch} }
	w := newWorkshop(t, ember(essential("ash"), plain("chrony"), plain("ufw"), plain("nftables"), plain("auditd")))
	p := bare(t)
	lock := filepath.Join(t.TempDir(), "kiln.lock")
	for _, c := range []struct {
		hardening string
		want      []string
	}{
		{"{profile: none, include: [time-daemon, firewall-installed]}", []string{"ash", "nftables"}},
		{"{profile: none, include: [time-daemon, firewall-installed], addPackages: true}", []string{"ash", "chrony", "nftables"}},
		{"{profile: none, addPackages: true}", []string{"ash", "nftables"}},
	} {
		w.recipe(t, "packages: [nftables]\nhardening: "+c.hardening+"\n")
		p.on(t).must("lock", w.dir, "--out", lock)
		var got []string
		for _, l := range readLock(t, lock).Packages {
			got = append(got, l.Name)
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s locks %q, want %q", c.hardening, got, c.want)
		}
	}
	w.recipe(t, "hardening: {profile: cis-l1, addPackages: true}\n")
	p.on(t).refuses(exitMisuse, []string{"apparmor"}, "lock", w.dir, "--out", lock)
}
