package resolve

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln"
)

// aptLists are package lists whose resolution is compared with apt's own choice.
var aptLists = []struct {
	name     string
	packages []string
	pins     []kiln.Pin
	fails    bool // apt refuses, and so must we
}{
	{name: "minbase"},
	{name: "web server", packages: []string{"nginx", "openssl", "ca-certificates", "curl"}},
	{name: "virtual packages and alternatives", packages: []string{"cron", "logwatch", "mutt", "apticron", "default-mta"}},
	{name: "alternative chosen by request", packages: []string{"postfix", "mutt", "logwatch", "gawk", "sysvinit-core"}},
	{name: "language runtimes", packages: []string{"python3-venv", "openjdk-17-jre-headless|openjdk-21-jre-headless", "ruby", "nodejs", "php-fpm", "php-mysql"}},
	{name: "databases", packages: []string{"postgresql", "redis-server", "mariadb-server"}},
	{name: "build tools", packages: []string{"build-essential", "cmake", "git", "debhelper", "golang-go", "libgtk-3-dev", "qtbase5-dev"}},
	{name: "pin", packages: []string{"exim4", "bsd-mailx", "mailutils"}, pins: []kiln.Pin{
		{Package: "exim4-daemon-light", Release: "*", Priority: -1},
		{Package: "libssl* openssl", Release: "a=*stable*,l=Debian", Priority: 1001},
		{Package: "curl", Version: "*", Priority: -10},
	}},
	{name: "conflict", packages: []string{"exim4-daemon-heavy", "postfix"}, fails: true},
	{name: "desktops and documents, over 1,000", packages: []string{"task-gnome-desktop", "task-kde-desktop", "libreoffice", "texlive-full", "gimp", "virt-manager"}},
}

// TestLikeApt lets apt itself, on an empty system, choose for the same lists from the same archives.
func TestLikeApt(t *testing.T) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		skip(t, "apt-get is not installed")
	}
	if testing.Short() {
		t.Skip("fetches the indexes of two releases")
	}
	machine, err := Machine("/")
	if err != nil {
		skip(t, err.Error())
	}
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			base := distributionSources(t, machine, release)
			o := testOptions(t)
			if _, err := o.Get(t.Context(), base.Apt.Archives[0].URI+"/dists/"+release+"/InRelease", maxInRelease); err != nil {
				skip(t, "the machine's archive cannot be reached: "+err.Error())
			}
			apt := newPrivateApt(t, base.Apt.Archives)
			for _, l := range aptLists {
				t.Run(l.name, func(t *testing.T) { compareWithApt(t, apt, base, o, l.packages, l.pins, l.fails) })
			}
		})
	}
}

func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("in CI this must run: " + why)
	}
	t.Skip(why)
}

// distributionSources are the machine's Debian sources, with the suites of a release.
func distributionSources(t *testing.T, machine *kiln.AptBase, release string) kiln.Base {
	t.Helper()
	var archives []kiln.AptArchive
	for _, a := range machine.Archives {
		if !strings.Contains(a.Keyring, "debian-archive-keyring") {
			continue
		}
		a.Suites = otherRelease(a.Suites, machine.Release, release)
		archives = append(archives, a)
	}
	if len(archives) == 0 {
		skip(t, "the machine has no Debian sources")
	}
	return kiln.Base{Apt: &kiln.AptBase{Release: release, Archives: archives}}
}

func compareWithApt(t *testing.T, apt *privateApt, base kiln.Base, o Options, packages []string, pins []kiln.Pin, fails bool) {
	var names []string
	for _, n := range packages {
		names = append(names, apt.first(n))
	}
	r := recipeOn(base, names...)
	r.Pins = pins
	start := time.Now()
	lock, _, err := Apt(context.Background(), r, o)
	took := time.Since(start)
	want, aptErr := apt.choose(names, pins)
	if fails {
		if err == nil || aptErr == nil {
			t.Fatalf("must fail: apt said %v, we said %v", aptErr, err)
		}
		t.Log(err)
		return
	}
	if err != nil || aptErr != nil {
		t.Fatalf("apt said %v, we said %v", aptErr, err)
	}
	got := map[string]string{}
	for _, p := range lock.Packages {
		got[p.Name] = p.Version
	}
	for _, n := range slices.Sorted(maps.Keys(want)) {
		if got[n] != want[n] {
			t.Errorf("apt chooses %s %s, we %q (needed by %s)", n, want[n], got[n], whyOf(lock, n))
		}
	}
	for _, n := range slices.Sorted(maps.Keys(got)) {
		if want[n] == "" {
			t.Errorf("apt does not choose %s %s (needed by %s)", n, got[n], whyOf(lock, n))
		}
	}
	t.Logf("%d packages in %v", len(got), took.Round(time.Millisecond))
	if strings.Contains(t.Name(), "over_1,000") && len(got) <= 1000 {
		t.Errorf("the large list has only %d packages", len(got))
	}
}

func whyOf(lock *kiln.Lock, name string) string {
	if p := lock.Package(name); p != nil {
		return p.Why
	}
	return "nothing"
}

// privateApt is apt with a root of its own: empty status, the given sources, no configuration of the machine's.
type privateApt struct {
	t   *testing.T
	dir string
}

func newPrivateApt(t *testing.T, archives []kiln.AptArchive) *privateApt {
	t.Helper()
	a := &privateApt{t: t, dir: t.TempDir()}
	for _, d := range []string{"etc/apt.conf.d", "etc/preferences.d", "etc/sources.list.d", "state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var sources strings.Builder
	for _, s := range archives {
		for _, suite := range s.Suites {
			fmt.Fprintf(&sources, "deb [signed-by=%s] %s %s %s\n", s.Keyring, s.URI, suite, strings.Join(s.Components, " "))
		}
	}
	a.write("etc/sources.list", sources.String())
	a.write("status", "")
	a.write("apt.conf", fmt.Sprintf(`Dir "%[1]s"; Dir::Etc "%[1]s/etc"; Dir::State "%[1]s/state"; Dir::State::status "%[1]s/status"; Dir::Cache "%[1]s/cache";
Dir::Etc::parts "%[1]s/etc/apt.conf.d"; Dir::Etc::trusted "/dev/null"; Dir::Etc::trustedparts "/dev/null"; APT::Sandbox::User "root"; APT::Architecture "amd64"; APT::Architectures "amd64";
Acquire::Languages "none"; Acquire::Check-Valid-Until "false"; Acquire::Check-Date "false"; Debug::NoLocking "true"; APT::Solver "internal";
`, a.dir))
	if out, err := a.run("apt-get", "update"); err != nil {
		skip(t, "apt-get update: "+err.Error()+"\n"+out)
	}
	return a
}

func (a *privateApt) write(name, text string) {
	a.t.Helper()
	if err := os.WriteFile(filepath.Join(a.dir, name), []byte(text), 0o644); err != nil {
		a.t.Fatal(err)
	}
}

func (a *privateApt) run(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// first returns the first of alternatives "a|b" that the release has.
func (a *privateApt) first(names string) string {
	if !strings.Contains(names, "|") {
		return names
	}
	for n := range strings.SplitSeq(names, "|") {
		if out, err := a.run("apt-cache", "policy", n); err == nil && strings.Contains(out, "Candidate: ") && !strings.Contains(out, "Candidate: (none)") {
			return n
		}
	}
	a.t.Fatalf("the release has none of %s", names)
	return ""
}

// choose asks apt for the minimal base and the names.
func (a *privateApt) choose(names []string, pins []kiln.Pin) (map[string]string, error) {
	var prefs strings.Builder
	for _, p := range pins {
		pin := "release " + p.Release
		if p.Version != "" {
			pin = "version " + p.Version
		}
		fmt.Fprintf(&prefs, "Package: %s\nPin: %s\nPin-Priority: %d\n\n", p.Package, pin, p.Priority)
	}
	a.write("etc/preferences", prefs.String())
	// --print-uris chooses like -s, without then ordering the installation: a tenth of the time.
	args := append([]string{"--print-uris", "-qq", "install", "--no-install-recommends", "?essential", "?priority(required)", "apt"}, names...)
	out, err := a.run("apt-get", args...)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	chosen := map[string]string{}
	for l := range strings.Lines(out) {
		f := strings.Fields(l)
		if len(f) < 3 || !strings.HasSuffix(f[1], ".deb") {
			continue
		}
		parts := strings.Split(f[1], "_")
		if chosen[parts[0]], err = url.PathUnescape(parts[1]); err != nil {
			return nil, err
		}
	}
	return chosen, nil
}
