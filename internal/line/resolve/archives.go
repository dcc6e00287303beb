package resolve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"kiln"
	"kiln/internal/deb"
)

const maxInRelease = 16 << 20

// suite is one suite ("pocket") of an archive, verified.
type suite struct {
	archive    kiln.AptArchive
	name       string // as asked for
	machine    bool   // from the machine's sources: skipped when it is not the distribution's own
	components []string
	keyring    []byte
	raw        []byte
	release    *deb.Release
	evidence   kiln.Evidence
	id         string
	indexes    []kiln.LockedIndex
	err        error // why it cannot be used
}

func (s *suite) url(below string) string {
	return s.archive.URI + "/dists/" + s.name + "/" + below
}

// openSuites fetches and verifies the InRelease of every suite, in parallel,
// and returns the suites to use in the order of the sources. The first fromMachine
// archives are the machine's: of them, third parties' are left out.
func openSuites(ctx context.Context, base *kiln.AptBase, fromMachine int, dir, arch string, o Options) ([]*suite, error) {
	var all []*suite
	for i, a := range base.Archives {
		found, err := suitesOf(a, i < fromMachine, dir, o)
		if err != nil {
			return nil, fmt.Errorf("archive %s: %w", a.URI, err)
		}
		all = append(all, found...)
	}
	_ = each(len(all), func(i int) error { // each suite keeps its own error
		if all[i].err == nil {
			all[i].err = all[i].open(ctx, o)
		}
		return nil
	})
	used, err := ownSuites(all, base.Release, o.Report)
	if err != nil {
		return nil, err
	}
	for _, s := range used {
		if err := s.findIndexes(arch); err != nil {
			return nil, kiln.Misuse(err)
		}
	}
	nameSuites(used)
	return used, nil
}

// ownSuites leaves out those of the machine's sources that are not the
// distribution's: their signed origin is another, or they cannot be read and
// nothing about them says that they are. A suite of the distribution that
// cannot be verified is always an error: without it updates would be missed.
func ownSuites(all []*suite, release string, report kiln.Report) ([]*suite, error) {
	own := map[kiln.Digest]bool{}
	for _, s := range all {
		if s.err == nil && ownOrigin(s.release.Origin) {
			own[kiln.DigestBytes(s.keyring)] = true
		}
	}
	var used []*suite
	var errs []error
	for _, s := range all {
		switch {
		case s.err != nil && s.machine && !s.looksOwn(release, own):
			report.Warn(kiln.StationResolve, fmt.Sprintf("left out the machine's source %s %s, which seems to be a third party's: %v", s.archive.URI, s.name, s.err))
		case s.err != nil:
			errs = append(errs, s.err)
		case s.machine && !ownOrigin(s.release.Origin):
			report.Note(kiln.StationResolve, fmt.Sprintf("left out the machine's source %s %s: its signed origin is %q, not the distribution; name it in the recipe to use it", s.archive.URI, s.name, s.release.Origin))
		default:
			used = append(used, s)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(used) == 0 {
		return nil, errors.New("none of the machine's apt sources is signed by Debian or Ubuntu; name the archives in the recipe")
	}
	return used, nil
}

// looksOwn reports whether a suite that could not be read is likely the
// distribution's: it has a keyring that verified one of the distribution's
// suites, or one named like theirs, or it is a pocket of the release.
func (s *suite) looksOwn(release string, own map[kiln.Digest]bool) bool {
	named := strings.Contains(s.archive.Keyring, "debian-archive") || strings.Contains(s.archive.Keyring, "ubuntu-archive")
	pocket := release != "" && strings.HasPrefix(s.name, release+"-")
	return named || pocket || (len(s.keyring) > 0 && own[kiln.DigestBytes(s.keyring)])
}

// ownOrigin tells the distributions' archives from third parties'.
func ownOrigin(origin string) bool { return origin == "Debian" || origin == "Ubuntu" }

func suitesOf(a kiln.AptArchive, machine bool, dir string, o Options) ([]*suite, error) {
	if a.URI == "" || len(a.Suites) == 0 {
		return nil, kiln.Misuse(errors.New("needs uri and suites"))
	}
	keyring, failed := loadKeyring(a.Keyring, dir)
	if failed == nil && o.Put != nil {
		if _, err := o.Put(keyring); err != nil {
			return nil, fmt.Errorf("storing the keyring: %w", err)
		}
	}
	if failed != nil {
		failed = kiln.Misuse(fmt.Errorf("archive %s: %w", a.URI, failed))
	}
	a.URI = strings.TrimRight(a.URI, "/")
	var all []*suite
	for _, name := range a.Suites {
		if name == "" || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") || path.Clean(name) != name || strings.HasPrefix(name, "..") {
			return nil, kiln.Misuse(fmt.Errorf("suite %q: flat archives (a suite that ends in /) and odd paths are not supported", name))
		}
		all = append(all, &suite{archive: a, name: name, machine: machine, components: a.Components, keyring: keyring, err: failed})
	}
	return all, nil
}

func (s *suite) open(ctx context.Context, o Options) error {
	var err error
	if s.raw, err = o.Get(ctx, s.url("InRelease"), maxInRelease); err != nil {
		return fmt.Errorf("fetching InRelease of %s from %s: %w", s.name, s.archive.URI, err)
	}
	if s.release, s.evidence, err = o.Verify(s.raw, s.archive, s.name, s.keyring); err != nil {
		return fmt.Errorf("verifying InRelease of %s from %s: %w", s.name, s.archive.URI, err)
	}
	if o.Put != nil {
		if _, err := o.Put(s.raw); err != nil {
			return fmt.Errorf("storing InRelease of %s: %w", s.name, err)
		}
	}
	return nil
}

// findIndexes names the Packages file of each component: packages of the
// architecture, and those for all where the archive lists them apart.
func (s *suite) findIndexes(arch string) error {
	if len(s.components) == 0 {
		s.components = []string{"main"}
	}
	if !slices.Contains(s.release.Architectures, arch) {
		return fmt.Errorf("suite %s of %s has no packages for %s; it has %s", s.name, s.archive.URI, arch, strings.Join(s.release.Architectures, " "))
	}
	for _, c := range s.components {
		if c == "" || path.Clean(c) != c || strings.HasPrefix(c, "/") || strings.HasPrefix(c, "..") {
			return fmt.Errorf("component %q of suite %s is no component", c, s.name)
		}
		found, ok := s.indexOf(c, arch)
		if !ok {
			return fmt.Errorf("suite %s of %s has no component %s for %s; it has %s", s.name, s.archive.URI, c, arch, strings.Join(s.release.Components, " "))
		}
		s.indexes = append(s.indexes, found)
		if slices.Contains(s.release.Architectures, "all") && !s.release.NoAll {
			if found, ok := s.indexOf(c, "all"); ok {
				s.indexes = append(s.indexes, found)
			}
		}
	}
	return nil
}

// indexKinds are the compressions in order of preference. For Debian's main gz
// is 3 MB more to fetch than xz and takes a fifth of the time to unpack, which
// pays on every link faster than 30 Mbit/s.
var indexKinds = []string{"zst", "gz", "xz", ""}

func (s *suite) indexOf(component, arch string) (kiln.LockedIndex, bool) {
	// The Release of a security suite prefixes components in some archives ("updates/main").
	for _, c := range []string{component, path.Base(component)} {
		for _, k := range indexKinds {
			p := c + "/binary-" + arch + "/Packages"
			if k != "" {
				p += "." + k
			}
			if sum, ok := s.release.SHA256[p]; ok && (sum.Size > 0 || k == "") {
				return kiln.LockedIndex{Path: p, Component: component, Digest: sum.Digest, Size: sum.Size}, true
			}
		}
	}
	return kiln.LockedIndex{}, false
}

// openIndexes loads every Packages file, in parallel.
func openIndexes(ctx context.Context, suites []*suite, o Options) ([]*packagesFile, error) {
	type job struct {
		s     *suite
		index kiln.LockedIndex
	}
	var jobs []job
	for _, s := range suites {
		for _, x := range s.indexes {
			jobs = append(jobs, job{s, x})
		}
	}
	files := make([]*packagesFile, len(jobs))
	err := each(len(jobs), func(i int) error {
		x, err := jobs[i].s.load(ctx, jobs[i].index, o)
		files[i] = &packagesFile{index: x, suite: jobs[i].s, component: jobs[i].index.Component}
		return err
	})
	return files, err
}

func (s *suite) load(ctx context.Context, x kiln.LockedIndex, o Options) (*index, error) {
	kind := strings.TrimPrefix(path.Ext(x.Path), ".")
	name, err := s.fetch(ctx, x, o)
	if err != nil {
		return nil, fmt.Errorf("fetching %s of %s: %w", x.Path, s.name, err)
	}
	loaded, err := loadIndex(o.CacheDir, x.Digest, kind, func() (io.ReadCloser, error) { return os.Open(name) }, s.keep(x, o))
	if err != nil {
		return nil, fmt.Errorf("reading %s of %s: %w", x.Path, s.name, err)
	}
	return loaded, nil
}

// keep stores the file unpacked where the archive signs its digest too, so that verifying need not unpack it again.
func (s *suite) keep(x kiln.LockedIndex, o Options) func(io.Reader) error {
	ext := path.Ext(x.Path)
	plain, known := s.release.SHA256[strings.TrimSuffix(x.Path, ext)]
	if o.Keep == nil || ext == "" || !known || plain.Size > maxIndexBytes {
		return nil
	}
	return func(r io.Reader) error { return o.Keep(r, plain.Digest, plain.Size) }
}

// fetch gets the file by its digest, so that an archive that changes meanwhile
// does no harm; by its name where the archive, or a mirror, does not offer that.
func (s *suite) fetch(ctx context.Context, x kiln.LockedIndex, o Options) (string, error) {
	if s.release.ByHash {
		byHash := s.url(path.Dir(x.Path) + "/by-hash/SHA256/" + x.Digest.Hex())
		name, err := o.Blob(ctx, byHash, x.Digest, x.Size)
		if err == nil || ctx.Err() != nil {
			return name, err
		}
	}
	return o.Blob(ctx, s.url(x.Path), x.Digest, x.Size)
}

// nameSuites gives each suite its ID, "origin/suite"; a second archive with the same gets a number.
func nameSuites(suites []*suite) {
	used := map[string]int{}
	for _, s := range suites {
		id := plainOrigin(s.release.Origin) + "/" + s.name
		used[id]++
		if n := used[id]; n > 1 {
			id = fmt.Sprintf("%s-%d", id, n)
		}
		s.id = id
	}
}

// plainOrigin makes a signed origin fit for an identifier.
func plainOrigin(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		case r == ' ' || r == '_':
			return '-'
		}
		return -1
	}, strings.ToLower(s))
	if s == "" {
		return "archive"
	}
	return s
}

// describeArchives writes the suites, the epoch and the distribution into the lock and returns the evidence.
func describeArchives(lock *kiln.Lock, suites []*suite) []kiln.Evidence {
	var evidence []kiln.Evidence
	for _, s := range suites {
		a := kiln.LockedArchive{
			ID: s.id, URI: s.archive.URI, Suite: s.name, Codename: s.release.Codename, Components: s.components,
			InRelease: kiln.DigestBytes(s.raw), InReleaseSize: int64(len(s.raw)),
			Date: s.release.Date.Unix(), ValidUntil: unix(s.release.ValidUntil),
			SignedBy: s.evidence.Signers, Keyring: kiln.DigestBytes(s.keyring), Indexes: s.indexes, Exception: s.evidence.Exception,
		}
		lock.Archives = append(lock.Archives, a)
		lock.Epoch = max(lock.Epoch, a.Date)
		e := s.evidence
		e.Archive, e.Suite = s.id, s.name
		evidence = append(evidence, e)
	}
	lock.Distro = distro(suites)
	if lock.Release == "" {
		lock.Release = suites[0].release.Codename
	}
	return evidence
}

// distro is os-release's ID and VERSION_ID as the archive's first suite that
// has a version tells them: "debian-12", "ubuntu-24.04".
func distro(suites []*suite) string {
	for _, s := range suites {
		v := s.release.Version
		if v == "" {
			continue
		}
		if s.release.Origin == "Debian" {
			v, _, _ = strings.Cut(v, ".")
		}
		return plainOrigin(s.release.Origin) + "-" + v
	}
	return plainOrigin(suites[0].release.Origin)
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// each runs fn for 0..n-1 at once and joins the errors in that order.
func each(n int, fn func(i int) error) error {
	errs := make([]error, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { errs[i] = fn(i) })
	}
	wait.Wait()
	return errors.Join(errs...)
}
