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
	w := newWorkshop(t, ember(essential("ash"), plain("chrony"), plain("rsyslog"), plain("syslog-ng-core"), plain("auditd")))
	p := bare(t)
	lock := filepath.Join(t.TempDir(), "kiln.lock")
	for _, c := range []struct {
		hardening string
		want      []string
	}{
		{"{profile: none, include: [time-daemon, rsyslog-installed]}", []string{"ash", "syslog-ng-core"}},
		{"{profile: none, include: [time-daemon, rsyslog-installed], addPackages: true}", []string{"ash", "chrony", "syslog-ng-core"}},
		{"{profile: none, addPackages: true}", []string{"ash", "syslog-ng-core"}},
	} {
		w.recipe(t, "packages: [syslog-ng-core]\nhardening: "+c.hardening+"\n")
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
