//go:build e2e

// Package rootfs compares the root file systems that Kiln assembles with those
// that mmdebstrap makes from the same archives.
package rootfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln"
	"kiln/internal/blob/dir"
	"kiln/internal/fetch"
	"kiln/internal/line"
	"kiln/internal/line/assemble"
	"kiln/internal/line/resolve"
	"kiln/internal/sandbox"
	"kiln/internal/tree"
)

// work is a tmpfs in a mount namespace of this program's own: it is gone with it, however it ends.
var work string

func TestMain(m *testing.M) {
	sandbox.Init()
	os.Exit(inNamespace(m))
}

func inNamespace(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // every test says why it cannot run
	}
	if err := sandbox.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var err error
	if work, err = os.MkdirTemp("", "kiln-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(work)
	if err := unix.Mount("tmpfs", work, "tmpfs", 0, "mode=755"); err != nil {
		fmt.Fprintln(os.Stderr, "mounting a tmpfs: "+err.Error())
		return 1
	}
	defer unix.Unmount(work, unix.MNT_DETACH)
	return m.Run()
}

func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("in CI this must run: " + why)
	}
	t.Skip(why)
}

// lists are the package sets that are compared.
var lists = []struct {
	name     string
	packages []string
}{
	{"minbase", nil},
	{"web and ssh server", []string{"openssh-server", "nginx"}},
	{"database", []string{"postgresql"}},
	{"Python and Java", []string{"python3", "default-jre-headless"}},
	{"system services", []string{"systemd", "chrony", "rsyslog"}},
}

func TestTreesEqualMmdebstraps(t *testing.T) {
	b := newBuilder(t)
	for _, release := range []string{"bookworm", "trixie"} {
		for _, l := range lists {
			t.Run(release+", "+l.name, func(t *testing.T) {
				ours, theirs := b.into(t), b.into(t)
				lock := b.lock(t, release, l.packages)
				start := time.Now()
				b.assemble(t, lock, ours, b.cache)
				t.Logf("%d packages in %v", len(lock.Packages), time.Since(start).Round(time.Millisecond))
				b.mmdebstrap(t, release, l.packages, theirs)
				for _, d := range differences(t, ours, theirs) {
					t.Error(d)
				}
			})
		}
	}
}

func TestTheSameLockGivesTheSameTree(t *testing.T) {
	b := newBuilder(t)
	for _, l := range lists {
		t.Run(l.name, func(t *testing.T) {
			lock := b.lock(t, "bookworm", l.packages)
			first, second := b.into(t), filepath.Join(b.into(t), "elsewhere", "deeper")
			if err := os.MkdirAll(second, 0o755); err != nil {
				t.Fatal(err)
			}
			b.assemble(t, lock, first, "") // no cache at all
			b.assemble(t, lock, second, b.cache)
			a, err := tree.Digest(first, lock.Epoch)
			if err != nil {
				t.Fatal(err)
			}
			z, err := tree.Digest(second, lock.Epoch)
			if err != nil {
				t.Fatal(err)
			}
			if a != z {
				t.Errorf("digests %s and %s", a.Short(), z.Short())
				for _, d := range plainDifferences(t, first, second) {
					t.Error(d)
				}
			}
		})
	}
}

// builder makes trees from the machine's own Debian archives.
type builder struct {
	machine *kiln.AptBase
	line    *line.Line
	cache   string
}

func newBuilder(t *testing.T) *builder {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "needs root: mmdebstrap is compared in its root mode")
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		missing(t, "mmdebstrap is not installed")
	}
	machine, err := resolve.Machine("/")
	if err != nil {
		missing(t, err.Error())
	}
	machine.Archives = slices.DeleteFunc(machine.Archives, func(a kiln.AptArchive) bool {
		return !strings.Contains(a.Keyring, "debian-archive-keyring")
	})
	if len(machine.Archives) == 0 {
		missing(t, "the machine has no Debian archives")
	}
	state := filepath.Join(work, "state")
	blobs, err := dir.Open(filepath.Join(state, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	l := &line.Line{Dir: state, Blobs: blobs, Records: forgetful{}, Fetch: fetch.New(fetch.Config{Store: blobs}), Now: time.Now}
	return &builder{machine: machine, line: l, cache: filepath.Join(state, "cache")}
}

// forgetful has seen no archive before.
type forgetful struct{}

func (forgetful) Seen(context.Context, string) (int64, error)  { return 0, nil }
func (forgetful) SetSeen(context.Context, string, int64) error { return nil }
func (forgetful) Put(context.Context, *kiln.Release) error     { return errors.ErrUnsupported }

func (forgetful) PutBuild(context.Context, *kiln.Build, int64) error { return errors.ErrUnsupported }

func (forgetful) Build(context.Context, string) (*kiln.Build, error) {
	return nil, errors.ErrUnsupported
}

func (forgetful) Current(context.Context, string, string) (*kiln.Release, error) {
	return nil, errors.ErrUnsupported
}

func (b *builder) into(t *testing.T) string {
	t.Helper()
	into, err := os.MkdirTemp(work, "tree-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(into); err != nil {
			t.Error(err)
		}
	})
	return into
}

// archives are the machine's, with the suites of another release.
func (b *builder) archives(release string) []kiln.AptArchive {
	var out []kiln.AptArchive
	for _, a := range b.machine.Archives {
		a.Suites = slices.Clone(a.Suites)
		for i, s := range a.Suites {
			if rest, ok := strings.CutPrefix(s, b.machine.Release); ok {
				a.Suites[i] = release + rest
			}
		}
		out = append(out, a)
	}
	return out
}

func (b *builder) lock(t *testing.T, release string, packages []string) *kiln.Lock {
	t.Helper()
	r := &kiln.Recipe{Header: kiln.NewHeader("Recipe"), Name: "compared", Base: kiln.Base{Apt: &kiln.AptBase{Release: release, Archives: b.archives(release)}}}
	for _, p := range packages {
		r.Packages = append(r.Packages, kiln.PackageRequest{Name: p})
	}
	lock, _, err := b.line.Lock(t.Context(), r)
	if err == nil {
		err = b.line.FetchInputs(t.Context(), lock)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		missing(t, "the archive cannot be reached: "+err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	return lock
}

func (b *builder) assemble(t *testing.T, lock *kiln.Lock, into, cache string) {
	t.Helper()
	err := assemble.Apt(t.Context(), lock, into, assemble.Options{
		Open: b.line.Blobs.Open, CacheDir: cache, Run: sandbox.Run, Report: func(e kiln.Event) { t.Log(e.Message) },
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (b *builder) mmdebstrap(t *testing.T, release string, packages []string, into string) {
	t.Helper()
	args := []string{"--quiet", "--variant=minbase", "--format=directory", "--include=" + strings.Join(packages, ","), release, into}
	if len(packages) == 0 {
		args = slices.Delete(args, 3, 4)
	}
	for _, a := range b.archives(release) {
		for _, s := range a.Suites {
			args = append(args, fmt.Sprintf("deb [signed-by=%s] %s %s %s", a.Keyring, a.URI, s, strings.Join(a.Components, " ")))
		}
	}
	cmd := exec.CommandContext(t.Context(), "mmdebstrap", args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+work)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mmdebstrap: %v\n%s", err, out)
	}
}

// bookkeeping are the paths that may differ, each with the reason. Patterns
// match from the root; a directory's pattern covers all below it.
var bookkeeping = []struct{ pattern, why string }{
	{`dev/.*`, "device nodes are made by whatever runs the image"},
	{`run/.*`, "mmdebstrap empties it; here the directories that packages made stay"},
	{`etc/(apt/sources\.list|fstab|hostname|resolv\.conf)`, "written by mmdebstrap"},
	{`etc/(passwd|group|shadow|gshadow|subuid|subgid)-|etc/\.pwd\.lock`, "backups, removed"},
	{`etc/ssh/ssh_host_.*`, "host keys must not be in an image"},
	{`(etc/systemd/system/ssh\.service\.wants|usr/lib/systemd/system/ssh-host-keys\.service).*`, "makes them at first start"},
	{`etc/ssl/(private/ssl-cert-snakeoil\.key|certs/ssl-cert-snakeoil\.pem|certs/[0-9a-f]{8}\.[0-9])`, "a private key must not be in an image"},
	{`etc/ssl/certs/java/cacerts`, "holds the time at which each certificate was added"},
	{`etc/machine-id|var/lib/dbus/machine-id`, "empty, or made by mmdebstrap"},
	{`(etc|var/lib)/postgresql/.*|etc/postgresql-common/createcluster\.conf|etc/apt/apt\.conf\.d/02autoremove-postgresql`, "a database cluster must not be in an image"},
	{`var/log/.*`, "logs of the installation are removed, others emptied"},
	{`var/cache/apt/.*|var/lib/apt/(lists.*|extended_states)`, "apt has never run in the tree"},
	{`var/cache/(ldconfig|fontconfig|man)/.*`, "caches are removed"},
	{`(.*/)?__pycache__(/.*)?|.*/icon-theme\.cache`, "caches are removed"},
	{`var/cache/debconf/.*-old|var/lib/dpkg/.*-old`, "backups, removed"},
	{`var/lib/dpkg/(arch|available|lock.*)`, "written where dpkg or apt is asked for it"},
	{`var/lib/systemd/(random-seed|credential\.secret)`, "secrets must not be in an image"},
}

var bookkept = func() *regexp.Regexp {
	var all []string
	for _, b := range bookkeeping {
		all = append(all, b.pattern)
	}
	return regexp.MustCompile(`^(` + strings.Join(all, "|") + `)$`)
}()

// unordered are files of lines whose order follows the order of configuration,
// which dpkg is free to choose. Accounts are compared without numbers and days.
var unordered = map[string]func(string) string{
	"etc/shells":                 strings.TrimSpace,
	"var/lib/dpkg/triggers/File": strings.TrimSpace,
	"etc/passwd":                 func(l string) string { return fields(l, 0, 1, 4, 5, 6) },
	"etc/group":                  func(l string) string { return fields(l, 0, 1, 3) },
	"etc/gshadow":                strings.TrimSpace,
	"etc/shadow":                 func(l string) string { return fields(l, 0, 1, 3, 4, 5, 6, 7, 8) },
}

func fields(line string, keep ...int) string {
	all := strings.Split(strings.TrimSpace(line), ":")
	var out []string
	for _, i := range keep {
		if i < len(all) {
			out = append(out, all[i])
		}
	}
	return strings.Join(out, ":")
}

// differences compares the trees path by path: kind, mode, owner and group by
// name, link, content.
func differences(t *testing.T, ours, theirs string) []string {
	a, b := describe(t, ours), describe(t, theirs)
	paths := maps.Clone(a)
	maps.Copy(paths, b)
	var out []string
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		if a[p] != b[p] && !bookkept.MatchString(p) {
			out = append(out, fmt.Sprintf("%s: ours %q, mmdebstrap's %q", p, a[p], b[p]))
		}
	}
	return out
}

func plainDifferences(t *testing.T, first, second string) []string {
	t.Helper()
	a, err := tree.Dump(first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := tree.Dump(second)
	if err != nil {
		t.Fatal(err)
	}
	paths := maps.Clone(a)
	maps.Copy(paths, b)
	var out []string
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		if a[p] != b[p] {
			out = append(out, fmt.Sprintf("%s: first %q, second %q", p, a[p], b[p]))
		}
	}
	return out
}

var owner = regexp.MustCompile(` (\d+):(\d+)`)

// describe is tree.Dump with names for numbers, merged links and unordered files made comparable.
func describe(t *testing.T, dir string) map[string]string {
	t.Helper()
	dump, err := tree.Dump(dir)
	if err != nil {
		t.Fatal(err)
	}
	users, groups := names(t, dir, "passwd"), names(t, dir, "group")
	for p, line := range dump {
		if first, ok := strings.CutPrefix(line, "h -> "); ok {
			line = dump[first] // names of one file compare as the file itself
		}
		if target, ok := strings.CutPrefix(line, "l -> "); ok {
			line = "l -> " + usrMerged(target)
		}
		if m := owner.FindStringSubmatch(line); m != nil {
			line = strings.Replace(line, m[0], " "+users[m[1]]+":"+groups[m[2]], 1)
		}
		if key, ok := unordered[p]; ok {
			line = sortedContent(t, filepath.Join(dir, p), key)
		}
		dump[p] = line
	}
	return dump
}

// usrMerged names the real place of an absolute link into a merged directory.
func usrMerged(target string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(target, "/"), "/")
	if path.IsAbs(target) && slices.Contains([]string{"bin", "lib", "lib64", "sbin"}, first) {
		return "/usr" + target
	}
	return target
}

func names(t *testing.T, dir, file string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "etc", file))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if f := strings.Split(line, ":"); len(f) > 2 {
			out[f[2]] = f[0]
		}
	}
	return out
}

func sortedContent(t *testing.T, file string, key func(string) string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range bytes.Lines(data) {
		lines = append(lines, key(string(line)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
