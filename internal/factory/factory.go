// Package factory is the application: every operation that the command line
// (and later the API and the pages) may call, over one state directory.
package factory

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"kiln"
	"kiln/internal/blob/dir"
	"kiln/internal/fetch"
	"kiln/internal/image"
	"kiln/internal/keys"
	"kiln/internal/line"
	"kiln/internal/store"
)

// Config is how a factory is opened.
type Config struct {
	// State is the state directory; it is made where it does not exist.
	State string
	// Passphrase gives the pass phrase of the signing keys; it is asked for once, when a key is needed.
	Passphrase func() ([]byte, error)
	// Now is the clock; nil is the machine's.
	Now    func() time.Time
	Report kiln.Report
}

// Factory is one open state directory.
type Factory struct {
	cfg     Config
	records *store.Store
	blobs   *dir.Store
	layout  *image.Layout
	fetch   *fetch.Client
	pass    []byte
	keys    map[string]*keys.Key // opened once: the pass phrase is slow to check on purpose
}

func (c Config) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// Open opens or creates the state directory.
func Open(cfg Config) (*Factory, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := os.MkdirAll(cfg.State, 0o700); err != nil {
		return nil, kiln.WithHint(fmt.Errorf("opening state: %w", err), "choose another place with --state DIR or KILN_STATE")
	}
	f := &Factory{cfg: cfg, keys: map[string]*keys.Key{}}
	if err := f.open(); err != nil {
		f.Close()
		return nil, fmt.Errorf("opening state %s: %w", cfg.State, err)
	}
	return f, nil
}

func (f *Factory) open() (err error) {
	if f.records, err = store.Open(f.path("kiln.db")); err != nil {
		return kiln.WithHint(err, "if the file is damaged, put back a copy of it or move it away: images, keys and caches stay, names and channels come back with the next build of each recipe, and what was last seen of each archive is forgotten")
	}
	if f.blobs, err = dir.Open(f.path("cache", "blobs")); err != nil {
		return err
	}
	f.fetch = fetch.New(fetch.Config{Store: f.blobs})
	f.layout, err = image.CreateLayout(f.path("store"))
	return err
}

// Close releases the state directory.
func (f *Factory) Close() error {
	if f.records == nil {
		return nil
	}
	return f.records.Close()
}

func (f *Factory) path(parts ...string) string {
	return filepath.Join(append([]string{f.cfg.State}, parts...)...)
}

func (f *Factory) line() (*line.Line, error) {
	program, err := programDigest()
	if err != nil {
		return nil, err
	}
	return &line.Line{
		Dir: f.cfg.State, Blobs: f.blobs, Records: f.records, Fetch: f.fetch, Layout: f.layout,
		Key: f.key, Public: func(role string) (*ecdsa.PublicKey, error) { return keys.LoadPublic(f.path("keys"), role) },
		Now: f.cfg.Now, Program: program, Report: f.cfg.Report,
	}, nil
}

// programDigest names the running program: results of another one are not its own.
func programDigest() (kiln.Digest, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("naming the program: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("naming the program: %w", err)
	}
	return kiln.DigestSum(h.Sum(nil)), nil
}

// BuildRequest is a build as a user asks for it.
type BuildRequest = line.Request

// Build takes a recipe along the line. Two builds of the same recipe at once
// run one after the other; the second finds what the first made.
func (f *Factory) Build(ctx context.Context, req BuildRequest) (*kiln.Build, error) {
	if err := f.checkKeys(); err != nil {
		return nil, err
	}
	unlock, err := f.lock(ctx, req.Recipe.Name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := f.keepCatalogue(); err != nil {
		return nil, err
	}
	l, err := f.line()
	if err != nil {
		return nil, err
	}
	b, err := l.Run(ctx, req)
	return b, explain(err)
}

// Lock resolves a recipe without building.
func (f *Factory) Lock(ctx context.Context, r *kiln.Recipe) (*kiln.Lock, error) {
	if err := f.keepCatalogue(); err != nil {
		return nil, err
	}
	l, err := f.line()
	if err != nil {
		return nil, err
	}
	lock, _, err := l.Lock(ctx, r)
	return lock, explain(err)
}

// VerifyLock re-checks a lock offline from the cache: signature, index, package.
func (f *Factory) VerifyLock(ctx context.Context, lock *kiln.Lock) ([]kiln.Evidence, error) {
	l, err := f.line()
	if err != nil {
		return nil, err
	}
	evidence, err := l.VerifyLock(ctx, lock)
	return evidence, kiln.Refuse(err)
}

// key loads a role's signing key, asking for the pass phrase the first time.
func (f *Factory) key(role string) (*keys.Key, error) {
	if k := f.keys[role]; k != nil {
		return k, nil
	}
	if f.pass == nil {
		pass, err := f.cfg.Passphrase()
		if err != nil {
			return nil, err
		}
		f.pass = pass
	}
	k, err := keys.Load(f.path("keys"), role, f.pass)
	if err != nil {
		return nil, err
	}
	f.keys[role] = k
	return k, nil
}
