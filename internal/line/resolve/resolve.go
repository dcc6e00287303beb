// Package resolve turns a recipe into a lock: every input by digest. For an
// apt base it reads the signed indexes of the archives, chooses packages as
// apt-get does on an empty system, and says which; it fetches no package.
//
// The machine's own apt preferences are not read: a recipe's pins are in the
// recipe, so that two machines resolve it alike.
package resolve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"kiln"
	"kiln/internal/deb"
)

// Options are what resolving needs from outside.
type Options struct {
	// Get fetches a small file of which no digest is known yet (InRelease).
	Get func(ctx context.Context, url string, max int64) ([]byte, error)
	// Blob makes sure that the content with that digest is in the blob store, fetching it from url if need be, and returns its path.
	Blob func(ctx context.Context, url string, want kiln.Digest, size int64) (path string, err error)
	// Put stores bytes in the blob store (InRelease, keyrings), for verification without a network. Nil stores nothing.
	Put func(data []byte) (kiln.Digest, error)
	// Keep, if set, stores an unpacked Packages file under the digest that the signed InRelease gives it,
	// so that verifying need not unpack it again.
	Keep func(content io.Reader, want kiln.Digest, max int64) error
	// Verify checks a signed InRelease by every rule of apt and of the policy. It has no default: nothing unverified is ever read.
	Verify func(raw []byte, a kiln.AptArchive, suite string, keyring []byte) (*deb.Release, kiln.Evidence, error)
	// Platform is os/arch where the recipe names none; empty means the machine's own.
	Platform string
	// CacheDir keeps parsed indexes (20 MB for Debian's main); empty means none are kept.
	CacheDir string
	// Root is the root directory of the system that {apt: machine} means; empty means "/".
	Root string
	// Catalogue is copied into the lock.
	Catalogue kiln.Digest
	// Also are packages to install besides the recipe's.
	Also   []kiln.PackageRequest
	Report kiln.Report
}

// Apt resolves a recipe on an apt base. The lock has the packages in order of
// name; the evidence has one entry per suite used. An error says which
// request cannot be met and through which chain of dependencies; what the
// recipe's author must mend is marked as misuse.
func Apt(ctx context.Context, r *kiln.Recipe, o Options) (*kiln.Lock, []kiln.Evidence, error) {
	if r.Base.Apt == nil {
		return nil, nil, errors.New("internal error: the recipe has no apt base")
	}
	if o.Get == nil || o.Blob == nil || o.Verify == nil {
		return nil, nil, errors.New("internal error: resolve needs Get, Blob and Verify")
	}
	lock, err := newLock(r, o)
	if err != nil {
		return nil, nil, err
	}
	arch := debArch(lock.Platform)
	if arch == "" {
		return nil, nil, kiln.Misuse(fmt.Errorf("platform %q has no Debian architecture; use linux/amd64, linux/arm64, linux/arm/v7, linux/386, linux/ppc64le, linux/s390x or linux/riscv64", lock.Platform))
	}
	base, fromMachine, err := aptBase(r.Base.Apt, o)
	if err != nil {
		return nil, nil, err
	}
	suites, err := openSuites(ctx, base, fromMachine, r.Dir, arch, o)
	if err != nil {
		return nil, nil, err
	}
	files, err := openIndexes(ctx, suites, o)
	if err != nil {
		return nil, nil, err
	}
	if err := choose(lock, r, o.Also, suites, files, arch); err != nil {
		return nil, nil, err
	}
	lock.Release = base.Release
	evidence := describeArchives(lock, suites)
	if err := lock.Validate(); err != nil {
		return nil, nil, fmt.Errorf("internal error: the lock is not valid: %w", err)
	}
	return lock, evidence, nil
}

// Image resolves a recipe on an existing image; resolveFn finds the platform's manifest.
func Image(ctx context.Context, r *kiln.Recipe, o Options, resolveFn func(ctx context.Context, base kiln.Base, platform string) (kiln.LockedImage, error)) (*kiln.Lock, error) {
	if len(r.Packages) > 0 || len(r.Pins) > 0 {
		return nil, kiln.Misuse(errors.New("packages and pins need an apt base: an image base brings no signed archive to take them from; " +
			"use base: {apt: machine}, or install in a step with network: true"))
	}
	lock, err := newLock(r, o)
	if err != nil {
		return nil, err
	}
	image, err := resolveFn(ctx, r.Base, lock.Platform)
	if err != nil {
		return nil, fmt.Errorf("resolving the base image: %w", err)
	}
	lock.Image, lock.Epoch = &image, image.Created
	return lock, lock.Validate()
}

// newLock fills in what does not depend on the base.
func newLock(r *kiln.Recipe, o Options) (*kiln.Lock, error) {
	digest, err := kiln.DigestOf(r)
	if err != nil {
		return nil, fmt.Errorf("digest of the recipe: %w", err)
	}
	files, err := lockFiles(r)
	if err != nil {
		return nil, kiln.Misuse(err)
	}
	platform := r.Platform
	if platform == "" {
		platform = o.Platform
	}
	if platform == "" {
		platform = machinePlatform()
	}
	return &kiln.Lock{
		Header: kiln.NewHeader("Lock"), Name: r.Name, Recipe: digest, Platform: platform, Files: files, Catalogue: o.Catalogue,
	}, nil
}

func machinePlatform() string {
	if runtime.GOARCH == "arm" {
		return "linux/arm/v7"
	}
	return "linux/" + runtime.GOARCH
}

// debArch is Debian's name of an OCI platform, "" if it has none.
func debArch(platform string) string {
	return map[string]string{
		"linux/amd64": "amd64", "linux/arm64": "arm64", "linux/arm64/v8": "arm64", "linux/arm/v7": "armhf", "linux/arm/v6": "armel",
		"linux/arm/v5": "armel", "linux/386": "i386", "linux/ppc64le": "ppc64el", "linux/s390x": "s390x", "linux/riscv64": "riscv64",
		"linux/mips64le": "mips64el", "linux/loong64": "loong64",
	}[platform]
}

// aptBase expands {apt: machine} and says how many of the archives are the
// machine's; those that the recipe names follow. Another release than the
// machine's is looked for in the same archives, under the suites of its codename.
func aptBase(b *kiln.AptBase, o Options) (base *kiln.AptBase, fromMachine int, err error) {
	if !b.Machine {
		if len(b.Archives) == 0 {
			return nil, 0, kiln.Misuse(errors.New("base.apt names no archives; name them or write apt: machine"))
		}
		return b, 0, nil
	}
	root := o.Root
	if root == "" {
		root = "/"
	}
	m, err := Machine(root)
	if err != nil {
		return nil, 0, err
	}
	if b.Release != "" && b.Release != m.Release {
		for i := range m.Archives {
			m.Archives[i].Suites = otherRelease(m.Archives[i].Suites, m.Release, b.Release)
		}
		m.Release = b.Release
	}
	fromMachine = len(m.Archives)
	m.Archives = append(m.Archives, b.Archives...)
	return m, fromMachine, nil
}

// otherRelease renames "bookworm-security" to "trixie-security"; suites that do not carry the codename (stable) are renamed too.
func otherRelease(suites []string, from, to string) []string {
	var out []string
	for _, s := range suites {
		head, pocket, deep := strings.Cut(s, "-")
		if head == from || slices.Contains([]string{"stable", "oldstable", "oldoldstable", "testing", "unstable", "sid"}, head) {
			s = to
			if deep {
				s += "-" + pocket
			}
		}
		out = append(out, s)
	}
	return out
}
