package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"kiln"
	"kiln/internal/deb"
	"kiln/internal/pgp"
)

// Problem is one input of a lock that cannot be proven.
type Problem struct {
	Input   string // "nginx 1.22.1-9", "InRelease of debian/bookworm"
	Missing bool   // the cache lacks it; otherwise it is there and wrong
	Err     error
}

// LockError lists everything that fails or is missing.
type LockError struct{ Problems []Problem }

func (e *LockError) Error() string {
	var missing, wrong []string
	for _, p := range e.Problems {
		if p.Missing {
			missing = append(missing, "  missing: "+p.Input)
		} else {
			wrong = append(wrong, "  fails: "+p.Input+": "+p.Err.Error())
		}
	}
	text := fmt.Sprintf("%d inputs of the lock cannot be proven:\n%s", len(e.Problems), strings.Join(append(wrong, missing...), "\n"))
	if len(wrong) > 0 {
		text += "\nwhat is damaged in the cache is fetched again when a build or `kiln lock export` needs it; if it still fails, make a new lock"
	}
	if len(missing) > 0 {
		text += "\nbuild with network access from the recipe while the archive still has it, import the bundle that `kiln lock export` wrote, or make a new lock"
	}
	return text
}

// Unwrap returns the reasons, for errors.Is.
func (e *LockError) Unwrap() []error {
	var errs []error
	for _, p := range e.Problems {
		errs = append(errs, p.Err)
	}
	return errs
}

// maxIndex bounds an unpacked Packages file; the largest public one has 80 MB.
const maxIndex = 256 << 20

// Options are what LockWith needs from outside.
type Options struct {
	// Open opens a cached blob; an error that is fs.ErrNotExist says that the cache lacks it.
	Open func(kiln.Digest) (io.ReadCloser, error)
	// Keep, if set, stores an unpacked Packages file under the digest that the
	// signed InRelease gives it: the next time it need not be unpacked.
	Keep func(content io.Reader, want kiln.Digest, max int64) error
	// Pinned, if set, gives the fingerprints by one of which an archive must be
	// signed because its recipe says so; none means those that the lock names.
	Pinned func(*kiln.LockedArchive) []string
	// Now is the time to judge keys by.
	Now time.Time
}

// Lock proves a lock again without network, from cached blobs alone: the
// signature over each InRelease by a key that is good now, each index named by
// it, each package named by a signed index with that path, size and digest, and
// each package's content. Valid-Until is judged by the lock's own date: a lock
// pins content, and how fresh that was is decided when it is made. That date
// is the newest signed one among its archives, and no other.
//
// It returns one Evidence for each archive and package, and for a base image
// one that says that only its digest is known. What fails or is missing is
// listed in a *LockError, completely.
func Lock(ctx context.Context, lock *kiln.Lock, open func(kiln.Digest) (io.ReadCloser, error), now time.Time) ([]kiln.Evidence, error) {
	return LockWith(ctx, lock, Options{Open: open, Now: now})
}

// LockWith is Lock with more to choose.
func LockWith(ctx context.Context, lock *kiln.Lock, o Options) ([]kiln.Evidence, error) {
	if err := lock.Validate(); err != nil {
		return nil, fmt.Errorf("verifying lock: %w", err)
	}
	c := &checker{lock: lock, Options: o}
	results := make([]proof, len(lock.Archives)+1)
	group, ctx := errgroup.WithContext(ctx)
	for i := range lock.Archives {
		group.Go(func() error {
			results[i] = c.archive(&lock.Archives[i])
			return ctx.Err()
		})
	}
	group.Go(func() (err error) {
		results[len(lock.Archives)], err = c.contents(ctx)
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var all proof
	for _, r := range results {
		all.evidence = append(all.evidence, r.evidence...)
		all.problems = append(all.problems, r.problems...)
	}
	if len(all.problems) > 0 {
		return nil, &LockError{all.problems}
	}
	if err := epoch(lock); err != nil {
		return nil, &LockError{[]Problem{{"the lock's own date", false, err}}}
	}
	if lock.Image != nil {
		all.evidence = append(all.evidence, pinned(lock.Image))
	}
	return all.evidence, nil
}

// epoch compares the lock's date with the dates of its archives, which were
// proven, and of its base image, which is compared again when it is unpacked: Valid-Until is judged by it, and all times of the image come from it.
func epoch(lock *kiln.Lock) error {
	var newest int64
	if lock.Image != nil {
		newest = lock.Image.Created
	}
	for _, a := range lock.Archives {
		newest = max(newest, a.Date)
	}
	if lock.Epoch != newest && len(lock.Archives) == 0 {
		return fmt.Errorf("the lock says epoch %d, the date of its base image is %d", lock.Epoch, newest)
	}
	if lock.Epoch != newest {
		return fmt.Errorf("the lock says epoch %d, the newest signed date of its archives is %d", lock.Epoch, newest)
	}
	return nil
}

// PinType is the type of evidence for an input of which only the digest is known: integrity, no origin.
const PinType = "digest-pin"

func pinned(i *kiln.LockedImage) kiln.Evidence {
	return kiln.Evidence{
		Header:  kiln.NewHeader("Evidence"),
		Subject: kiln.Subject{Name: "oci:" + i.Reference, Digest: i.Digest},
		Type:    PinType, Signers: []string{},
		Checks: []string{"named by digest in the lock; integrity only, nothing says who made it"},
	}
}

type checker struct {
	Options
	lock *kiln.Lock
}

// proof is what came out for some of the lock's inputs.
type proof struct {
	evidence []kiln.Evidence
	problems []Problem
}

func (p *proof) fail(input string, err error) {
	p.problems = append(p.problems, Problem{input, errors.Is(err, fs.ErrNotExist), err})
}

// archive proves one archive and which packages its signed indexes name.
func (c *checker) archive(a *kiln.LockedArchive) proof {
	var out proof
	rel, e, err := c.inRelease(a)
	if err != nil {
		input := "InRelease of "
		if errors.Is(err, errKeyring) {
			input = "keyring of "
		}
		out.fail(input+a.ID, err)
		return out
	}
	out.evidence = append(out.evidence, e)
	wanted := c.wanted(a)
	for _, idx := range a.Indexes {
		if err := c.index(rel, idx, wanted); err != nil {
			out.fail(idx.Path+" of "+a.ID, err)
		}
	}
	for _, p := range c.lock.Packages {
		if p.Archive != a.ID {
			continue
		}
		l := wanted[key{p.Name, p.Version, p.Architecture}]
		if l.err != nil {
			out.fail(p.Name+" "+p.Version, l.err)
			continue
		}
		out.evidence = append(out.evidence, packageEvidence(&p, e, l.index))
	}
	return out
}

// inRelease verifies the cached InRelease and compares it with what the lock says about it.
func (c *checker) inRelease(a *kiln.LockedArchive) (*deb.Release, kiln.Evidence, error) {
	raw, err := c.read(a.InRelease, pgp.MaxMessage)
	if err != nil {
		return nil, kiln.Evidence{}, err
	}
	if a.Keyring == "" {
		return nil, kiln.Evidence{}, errors.New("the lock names no keyring")
	}
	keyring, err := c.read(a.Keyring, pgp.MaxKeyring)
	if err != nil {
		return nil, kiln.Evidence{}, fmt.Errorf("%w: %w", errKeyring, err)
	}
	accepted := a.SignedBy
	if c.Pinned != nil {
		if pinned := c.Pinned(a); len(pinned) > 0 {
			accepted = pinned
		}
	}
	r := Request{
		Archive: kiln.AptArchive{URI: a.URI, Fingerprints: accepted, Expired: a.Exception},
		Suite:   a.Suite, Keyring: keyring, Now: c.Now,
	}
	if a.Exception == nil {
		r.fresh = time.Unix(c.lock.Epoch, 0)
	}
	rel, e, err := InRelease(raw, r)
	if err != nil {
		return nil, e, err
	}
	e.Archive = a.ID
	for _, s := range a.SignedBy {
		if !slices.Contains(e.Signers, s) {
			return nil, e, fmt.Errorf("the lock says that %s signed it; good and accepted are %s", s, strings.Join(e.Signers, ", "))
		}
	}
	return rel, e, compare(a, rel, e)
}

// compare refuses a lock that says something else about an archive than its signed text.
func compare(a *kiln.LockedArchive, rel *deb.Release, e kiln.Evidence) error {
	for _, f := range []struct {
		field          string
		locked, signed any
	}{
		{"codename", a.Codename, rel.Codename},
		{"date", a.Date, e.SignedAt},
		{"validUntil", a.ValidUntil, e.ValidUntil},
	} {
		if f.locked != f.signed {
			return fmt.Errorf("the lock says %s %v, signed is %v", f.field, f.locked, f.signed)
		}
	}
	return nil
}

type key struct{ name, version, architecture string }

// listing is what the signed indexes say about one locked package.
type listing struct {
	pkg   *kiln.LockedPackage
	index kiln.LockedIndex
	err   error // why it is not listed as locked; nil when it is
}

var errKeyring = errors.New("its keyring")

var errNotListed = errors.New("no signed index of its archive lists it")

func (c *checker) wanted(a *kiln.LockedArchive) map[key]*listing {
	m := map[key]*listing{}
	for i := range c.lock.Packages {
		if p := &c.lock.Packages[i]; p.Archive == a.ID {
			m[key{p.Name, p.Version, p.Architecture}] = &listing{pkg: p, err: errNotListed}
		}
	}
	return m
}

func differs(locked *kiln.LockedPackage, listed *deb.Package) error {
	switch {
	case locked.Digest != listed.SHA256:
		return fmt.Errorf("the signed index lists it with %s, the lock with %s", listed.SHA256, locked.Digest)
	case locked.Size != listed.Size:
		return fmt.Errorf("the signed index lists it with %d bytes, the lock with %d", listed.Size, locked.Size)
	case locked.Path != path.Clean(listed.Filename):
		return fmt.Errorf("the signed index lists it at %q, the lock at %q", listed.Filename, locked.Path)
	}
	return nil
}

func packageEvidence(p *kiln.LockedPackage, archive kiln.Evidence, idx kiln.LockedIndex) kiln.Evidence {
	e := archive
	origin, _, _ := strings.Cut(p.Archive, "/")
	e.Subject = kiln.Subject{Name: "apt:" + origin + "/" + p.Name + "@" + p.Version, Digest: p.Digest}
	e.Signers = slices.Clone(archive.Signers)
	e.Checks = []string{
		fmt.Sprintf("listed with this path, size and digest by %s (%s) of %s", idx.Path, idx.Digest.Short(), archive.Subject.Name),
		"the cached content has this size and digest",
	}
	return e
}

// contents proves the packages' own bytes, several at a time.
func (c *checker) contents(ctx context.Context) (proof, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	errs := make([]error, len(c.lock.Packages))
	for i, p := range c.lock.Packages {
		group.Go(func() error {
			errs[i] = c.content(p.Digest, p.Size)
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return proof{}, err
	}
	var out proof
	for i, err := range errs {
		if err != nil {
			p := c.lock.Packages[i]
			out.fail(fmt.Sprintf("%s %s (%s of %s)", p.Name, p.Version, p.Path, p.Archive), err)
		}
	}
	return out, nil
}

// content reads a cached blob and compares it with its digest and size.
func (c *checker) content(want kiln.Digest, size int64) error {
	f, err := c.Open(want)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, size+1))
	switch {
	case err != nil:
		return err
	case n != size:
		return fmt.Errorf("the cached content does not have %d bytes", size)
	}
	if got := kiln.DigestSum(h.Sum(nil)); got != want {
		return fmt.Errorf("the cached content has digest %s instead of %s", got, want)
	}
	return nil
}

// read returns a small cached blob after comparing its digest.
func (c *checker) read(d kiln.Digest, max int64) ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	f, err := c.Open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, max+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(b)) > max:
		return nil, fmt.Errorf("the cached content is larger than %d bytes", max)
	case kiln.DigestBytes(b) != d:
		return nil, fmt.Errorf("the cached content has digest %s instead of %s", kiln.DigestBytes(b), d)
	}
	return b, nil
}
