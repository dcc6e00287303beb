package line

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"time"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/deb"
	"kiln/internal/fetch"
	"kiln/internal/line/resolve"
	"kiln/internal/line/verify"
)

func (l *Line) path(parts ...string) string {
	return filepath.Join(append([]string{l.Dir}, parts...)...)
}

// resolve fixes every input. What it finds unchanged since the last build of
// the same recipe keeps that build's lock, so that an archive that was merely
// signed again does not make a new image.
func (j *journey) resolve(ctx context.Context) (string, bool, error) {
	if _, err := j.profile(); err != nil { // said now rather than after the tree was made
		return "", false, err
	}
	if j.req.Lock != nil {
		if j.req.Lock.Recipe != j.build.Recipe {
			return "", false, kiln.Misuse(fmt.Errorf("the lock was made for recipe %s, this one is %s: the recipe or a variable changed; run `kiln lock` again", j.req.Lock.Recipe.Short(), j.build.Recipe.Short()))
		}
		if err := fits(j.req.Lock, j.req.Recipe); err != nil {
			return "", false, err
		}
		j.build.Lock = j.req.Lock
		if err := j.offerKeyrings(); err != nil {
			return "", false, err
		}
		return fmt.Sprintf("%d packages, from the lock given", len(j.req.Lock.Packages)), true, nil
	}
	lock, evidence, err := j.Line.Lock(ctx, j.req.Recipe)
	if err != nil {
		return "", false, err
	}
	key, err := kiln.DigestOf([]any{"last lock", j.build.Recipe, lock.Platform})
	if err != nil {
		return "", false, err
	}
	last := new(kiln.Lock)
	known, err := j.memo.get(kiln.StationResolve, key, last)
	if err != nil {
		return "", false, err
	}
	j.build.Evidence = evidence
	if known && sameInputs(last, lock) && j.haveInputs(last) {
		j.build.Lock = last
		return fmt.Sprintf("%d packages, as last time", len(last.Packages)), true, nil
	}
	j.build.Lock = lock
	return describeLock(lock), false, j.memo.put(kiln.StationResolve, key, lock)
}

// offerKeyrings brings the recipe's keyrings into the cache for a lock from another machine.
func (j *journey) offerKeyrings() error {
	for _, a := range j.build.Lock.Archives {
		if !j.Blobs.Has(a.Keyring) {
			return resolve.Keyrings(j.req.Recipe, resolve.Options{Put: j.put})
		}
	}
	return nil
}

// put stores small content.
func (l *Line) put(data []byte) (kiln.Digest, error) {
	d, _, err := l.Blobs.Put(bytes.NewReader(data), "", int64(len(data)))
	return d, err
}

// keep stores content of a known digest.
func (l *Line) keep(r io.Reader, want kiln.Digest, limit int64) error {
	_, _, err := l.Blobs.Put(r, want, limit)
	return err
}

func describeLock(lock *kiln.Lock) string {
	if lock.Image != nil {
		return fmt.Sprintf("base image %s, %d packages", lock.Image.Digest.Short(), len(lock.Packages))
	}
	return fmt.Sprintf("%d packages from %d suites", len(lock.Packages), len(lock.Archives))
}

// sameInputs reports whether two locks name the same content.
func sameInputs(a, b *kiln.Lock) bool {
	return a.Recipe == b.Recipe && a.Catalogue == b.Catalogue && reflect.DeepEqual(a.Packages, b.Packages) &&
		reflect.DeepEqual(a.Files, b.Files) && reflect.DeepEqual(a.Image, b.Image)
}

// haveInputs reports whether the signed indexes behind a lock are still in the cache.
func (j *journey) haveInputs(lock *kiln.Lock) bool {
	for _, a := range lock.Archives {
		if !j.Blobs.Has(a.InRelease) || !j.Blobs.Has(a.Keyring) {
			return false
		}
	}
	return true
}

// Lock resolves a recipe: every input by digest, with the evidence for the archives.
func (l *Line) Lock(ctx context.Context, r *kiln.Recipe) (*kiln.Lock, []kiln.Evidence, error) {
	var read digests
	lock, evidence, err := l.lock(ctx, r, &read)
	if err != nil {
		if n := l.dropDamaged(read.list); n > 0 {
			l.Report.Warn(kiln.StationResolve, fmt.Sprintf("%d indexes were damaged in the cache; they were dropped and are fetched again", n))
			return l.lock(ctx, r, &read)
		}
	}
	return lock, evidence, err
}

// digests collects what several goroutines read.
type digests struct {
	mu   sync.Mutex
	list []kiln.Digest
}

func (d *digests) add(x kiln.Digest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, x)
}

func (l *Line) lock(ctx context.Context, r *kiln.Recipe, read *digests) (*kiln.Lock, []kiln.Evidence, error) {
	objectives, err := catalogue.Load()
	if err != nil {
		return nil, nil, err
	}
	o := resolve.Options{
		Catalogue: objectives.Digest(),
		Get:       l.Fetch.Get,
		Blob: func(ctx context.Context, url string, want kiln.Digest, size int64) (string, error) {
			if err := l.Fetch.Blob(ctx, url, want, size); err != nil {
				return "", err
			}
			read.add(want)
			return l.Blobs.Path(want), nil
		},
		Put:  l.put,
		Keep: l.keep,
		Verify: func(raw []byte, a kiln.AptArchive, suite string, keyring []byte) (*deb.Release, kiln.Evidence, error) {
			return l.release(ctx, raw, a, suite, keyring)
		},
		CacheDir: l.path("cache", "indexes"),
		Platform: r.Platform,
		Report:   l.Report,
	}
	if r.Base.Apt != nil {
		if o.Also, err = alsoWanted(r); err != nil {
			return nil, nil, err
		}
		return resolve.Apt(ctx, r, o)
	}
	if err := wholeImageOnly(r); err != nil {
		return nil, nil, err
	}
	lock, err := resolve.Image(ctx, r, o, l.resolveImage(r))
	return lock, nil, err
}

// release verifies one InRelease, never older than the newest seen of the same suite.
func (l *Line) release(ctx context.Context, raw []byte, a kiln.AptArchive, suite string, keyring []byte) (*deb.Release, kiln.Evidence, error) {
	id := a.URI + " " + suite
	seen, err := l.Records.Seen(ctx, id)
	if err != nil {
		return nil, kiln.Evidence{}, err
	}
	release, evidence, err := verify.InRelease(raw, verify.Request{Archive: a, Suite: suite, Keyring: keyring, Now: l.Now(), LastSeen: seen})
	if err != nil {
		return nil, evidence, err
	}
	return release, evidence, l.Records.SetSeen(ctx, id, release.Date.Unix())
}

// verify brings every input into the cache and re-checks the whole chain from
// there: signature, index, package.
func (j *journey) verify(ctx context.Context) (string, bool, error) {
	var chain struct {
		Evidence []kiln.Evidence `json:"evidence"`
	}
	cached, _, err := remember(j, kiln.StationVerify, []any{j.build.Lock, day(j.Now())}, &chain, func() error {
		evidence, err := j.prove(ctx, j.build.Lock, j.req.Recipe)
		chain.Evidence, j.proven = evidence, err == nil
		return err
	})
	if err != nil {
		return "", false, err
	}
	j.build.Evidence = chain.Evidence
	if err := j.admitInputs(); err != nil {
		return "", false, err
	}
	return provenNote(j.build.Lock), cached, nil
}

// provenNote says what verifying a lock showed, and no more: nobody signs for a base image.
func provenNote(lock *kiln.Lock) string {
	var parts []string
	if n := len(lock.Packages) + len(lock.Archives); n > 0 {
		parts = append(parts, fmt.Sprintf("%d inputs, every one reached by a signature", n))
	}
	if lock.Image != nil {
		parts = append(parts, fmt.Sprintf("base image %s by its digest only: no signature says who made it", lock.Image.Digest.Short()))
	}
	return strings.Join(parts, "; ")
}

// VerifyLock re-checks a lock offline from the cache.
func (l *Line) VerifyLock(ctx context.Context, lock *kiln.Lock) ([]kiln.Evidence, error) {
	return l.verifyLock(ctx, lock, nil)
}

func (l *Line) verifyLock(ctx context.Context, lock *kiln.Lock, r *kiln.Recipe) ([]kiln.Evidence, error) {
	return verify.LockWith(ctx, lock, verify.Options{
		Pinned: pinnedKeys(r),
		Open:   func(d kiln.Digest) (io.ReadCloser, error) { return l.Blobs.Open(d) },
		Keep:   l.keep,
		Now:    l.Now(),
	})
}

// FetchInputs downloads what the cache lacks of a lock's packages and indexes, each checked against its digest.
func (l *Line) FetchInputs(ctx context.Context, lock *kiln.Lock) error {
	// What the cache holds costs one look at its size; a file that a power failure cut short is fetched again.
	var items []fetch.Item
	for _, p := range lock.Packages {
		items = append(items, fetch.Item{URL: join(lock.Archive(p.Archive).URI, p.Path), Digest: p.Digest, Size: p.Size, Name: p.Name + " " + p.Version})
	}
	for _, a := range lock.Archives {
		for _, x := range a.Indexes {
			url := join(a.URI, "dists/"+a.Suite+"/"+filepath.Dir(x.Path)+"/by-hash/SHA256/"+x.Digest.Hex())
			items = append(items, fetch.Item{URL: url, Digest: x.Digest, Size: x.Size, Name: x.Path + " of " + a.ID})
		}
	}
	if err := l.fetchInReleases(ctx, lock); err != nil {
		return err
	}
	err := l.Fetch.Blobs(ctx, items, 6, func(done, total int64) { l.Report.Progress(kiln.StationVerify, done, total, "bytes") })
	if errors.Is(err, fetch.ErrNotFound) {
		return kiln.WithHint(fmt.Errorf("the archive does not have an input of the lock: %w", err),
			"a mirror in the middle of an update will have it soon; where the archive has moved on, make a new lock with `kiln lock`, or import the bundle that `kiln lock export` wrote in time")
	}
	return err
}

// fetchInReleases gets those that the cache lacks, as long as the archive has
// not signed newer ones. Where it has, verifying says what is missing.
func (l *Line) fetchInReleases(ctx context.Context, lock *kiln.Lock) error {
	for _, a := range lock.Archives {
		if l.Blobs.Has(a.InRelease) {
			continue
		}
		err := l.Fetch.Blob(ctx, join(a.URI, "dists/"+a.Suite+"/InRelease"), a.InRelease, a.InReleaseSize)
		gone := errors.Is(err, fetch.ErrNotFound) || errors.Is(err, fetch.ErrDigest) || errors.Is(err, fetch.ErrSize)
		if err != nil && !gone {
			return fmt.Errorf("InRelease of %s: %w", a.ID, err)
		}
	}
	return nil
}

func join(base, rel string) string { return strings.TrimSuffix(base, "/") + "/" + rel }

// open gives a verified input from the cache.
func (l *Line) open(d kiln.Digest) (*os.File, error) { return l.Blobs.Open(d) }

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
