package assemble

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"kiln"
	"kiln/internal/sandbox"
)

// Options are what assembling needs from outside.
type Options struct {
	// Open gives the .deb of that digest, from the blob store.
	Open func(kiln.Digest) (*os.File, error)
	// CacheDir keeps packages and bases in a form that is faster to use. Empty
	// means no cache. Everything in it can be deleted at any time.
	CacheDir string
	// Program names the running program: a base that another one configured is not used.
	Program kiln.Digest
	// Run runs a command in the sandbox; sandbox.Run.
	Run func(context.Context, sandbox.Spec) (sandbox.Result, error)
	// Report hears of progress; may be nil.
	Report kiln.Report
	// Parallel is the number of packages unpacked at once; default 2.
	Parallel int
}

func (o Options) withDefaults() Options {
	if o.Parallel <= 0 {
		o.Parallel = 2
	}
	return o
}

// assembly is one tree in the making.
type assembly struct {
	o     Options
	dir   string
	lock  *kiln.Lock
	epoch int64 // SOURCE_DATE_EPOCH of the scripts that run now
	debs  *debCache
	at    *place
}

// Apt makes the configured root file system of the lock's packages in the
// directory into, which must exist and be empty, and best lies on a tmpfs. The
// same lock gives the same tree (tree.Digest at lock.Epoch), whether caches
// were used or not. It must run as root of a user namespace at least
// (sandbox.Enter). After an error the directory holds an unfinished tree.
// A package that is at fault is refused (kiln.ErrRefused).
func Apt(ctx context.Context, lock *kiln.Lock, into string, o Options) error {
	a, err := begin(lock, into, o)
	if err != nil {
		return fmt.Errorf("assembling %s: %w", lock.Name, err)
	}
	defer a.at.close()
	if err := a.apt(ctx); err != nil {
		return fmt.Errorf("assembling %s: %w", lock.Name, err)
	}
	return nil
}

// Add installs the lock's packages into the configured tree in dir, by what
// its dpkg database says of the rest. Nothing else of the tree is cleaned or
// reset. The packages must be all that is missing: what they depend on is
// either there or among them, else configuring them fails. After an error the
// tree may hold unfinished packages: use a copy of one that is not to be lost.
func Add(ctx context.Context, lock *kiln.Lock, dir string, o Options) error {
	a, err := begin(lock, dir, o)
	if err != nil {
		return fmt.Errorf("adding packages: %w", err)
	}
	defer a.at.close()
	if a.debs, err = openDebCache(a.o.CacheDir, a.o.Open); err != nil {
		return err
	}
	ps := make([]*pkg, len(lock.Packages))
	for i, l := range lock.Packages {
		ps[i] = newPkg(l, i)
	}
	if err := a.add(ctx, ps); err != nil {
		return fmt.Errorf("adding packages: %w", err)
	}
	return nil
}

func begin(lock *kiln.Lock, into string, o Options) (*assembly, error) {
	if o.Run == nil {
		return nil, errNoRun
	}
	a := &assembly{o: o.withDefaults(), dir: into, lock: lock, epoch: lock.Epoch}
	if want := "linux/" + runtime.GOARCH; lock.Platform != want {
		return nil, fmt.Errorf("the lock is for %s, and this machine can only run programs of %s", lock.Platform, want)
	}
	var err error
	if a.at, err = openPlace(into); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *assembly) apt(ctx context.Context) error {
	if empty, err := emptyDir(a.dir); err != nil || !empty {
		return cmp.Or(err, fmt.Errorf("directory %s is not empty", a.dir))
	}
	base, rest, err := a.split()
	if err != nil {
		return err
	}
	if a.debs, err = openDebCache(a.o.CacheDir, a.o.Open); err != nil {
		return err
	}
	if err := a.cachedBase(ctx, base); err != nil {
		return fmt.Errorf("base: %w", err)
	}
	a.epoch = a.lock.Epoch
	if err := a.add(ctx, rest); err != nil {
		return err
	}
	if err := firstStart(a.at, a.o.Report); err != nil {
		return err
	}
	return (&cleaner{at: a.at, dir: a.dir, epoch: a.epoch, report: a.o.Report}).all()
}

// split separates the base from what comes on top.
func (a *assembly) split() (base, rest []*pkg, err error) {
	names := map[string]bool{}
	for i, l := range a.lock.Packages {
		key := l.Name + ":" + l.Architecture
		if names[key] {
			return nil, nil, fmt.Errorf("the lock names package %s twice", l.Name)
		}
		names[key] = true
		p := newPkg(l, i)
		if l.Base {
			base = append(base, p)
		} else {
			rest = append(rest, p)
		}
	}
	if len(base) == 0 {
		return nil, nil, errors.New("the lock has no base packages (\"base\": true): there is no system to install into")
	}
	return base, rest, nil
}

// load opens the packages and reads their control files, several at once, the largest first.
func (a *assembly) load(ctx context.Context, ps []*pkg) error {
	return a.each(ctx, ps, func(ctx context.Context, _ int, p *pkg) error {
		o, err := a.debs.open(ctx, p.Digest)
		if err != nil {
			return err
		}
		defer o.Close()
		return p.take(o.Archive)
	})
}

// each runs fn for every package on Parallel workers, the largest package first.
func (a *assembly) each(ctx context.Context, ps []*pkg, fn func(ctx context.Context, worker int, p *pkg) error) error {
	queue := make(chan *pkg, len(ps))
	order := slices.Clone(ps)
	slices.SortStableFunc(order, func(x, y *pkg) int { return cmp.Compare(y.Size, x.Size) })
	for _, p := range order {
		queue <- p
	}
	close(queue)
	g, ctx := errgroup.WithContext(ctx)
	for w := range a.o.Parallel {
		g.Go(func() error {
			for p := range queue {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err := fn(ctx, w, p); err != nil {
					return refuse(fmt.Errorf("package %s %s: %w", p.Name, p.Version, err))
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// refuse marks the package as refused where it is at fault, rather than this machine: a
// full disk, a damaged cache or an impatient user says nothing about it.
func refuse(err error) error {
	var system syscall.Errno
	if errors.Is(err, ErrDamaged) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.As(err, &system) && !slices.Contains(packageFaults, system) {
		return err
	}
	return kiln.Refuse(kiln.WithHint(err, "the archive signed this package and its content is refused all the same: leave it out, take another version, and tell the archive's owner"))
}

// packageFaults are what the kernel answers to paths and links that cannot be.
var packageFaults = []syscall.Errno{syscall.EEXIST, syscall.EISDIR, syscall.ENOTDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.EINVAL, syscall.EXDEV}

// unpackAll unpacks the packages side by side; modes of directories are set at the end.
func (a *assembly) unpackAll(ctx context.Context, ps []*pkg, shared *unpacker) error {
	workers := make([]*unpacker, a.o.Parallel)
	for i := range workers {
		w := *shared
		at, err := openPlace(a.dir)
		if err != nil {
			return err
		}
		defer at.close()
		at.made = w.claims.make
		w.at, w.buf, w.sum = at, make([]byte, 256<<10), newSum()
		workers[i] = &w
	}
	err := a.each(ctx, ps, func(ctx context.Context, worker int, p *pkg) error {
		return a.unpackOne(ctx, workers[worker], p)
	})
	if err != nil {
		return fmt.Errorf("unpacking: %w", err)
	}
	return nil
}

func (a *assembly) unpackOne(ctx context.Context, u *unpacker, p *pkg) error {
	o, err := a.debs.open(ctx, p.Digest)
	if err != nil {
		return err
	}
	defer o.Close()
	data, err := o.Data()
	if err != nil {
		return err
	}
	defer data.Close()
	return u.unpack(ctx, p, data)
}

// configure runs dpkg once for everything that is unpacked.
func (a *assembly) configure(ctx context.Context, args ...string) error {
	cmd := append([]string{"/usr/bin/dpkg", "--force-unsafe-io"}, args...)
	if err := a.inTree(ctx, cmd...); err != nil {
		return fmt.Errorf("configuring packages: %w", err)
	}
	return nil
}

// base makes the configured minimal system.
func (a *assembly) base(ctx context.Context, ps []*pkg) error {
	if err := a.load(ctx, ps); err != nil {
		return err
	}
	a.epoch = newest(ps)
	if err := seedMerged(a.at); err != nil {
		return err
	}
	u := &unpacker{claims: newClaims(), owners: &owners{}}
	for _, dir := range []string{".", "usr", "usr/bin", "usr/lib", "usr/sbin"} {
		u.claims.make(dir)
	}
	// The accounts come first, so that owners of all other packages have names.
	first, others := ps[:0:0], ps[:0:0]
	for _, p := range ps {
		if p.Name == "base-passwd" {
			first = append(first, p)
		} else {
			others = append(others, p)
		}
	}
	if err := a.unpackAll(ctx, first, u); err != nil {
		return err
	}
	if err := seedAccounts(a.at); err != nil {
		return err
	}
	var err error
	if u.owners, err = readOwners(a.at); err != nil {
		return err
	}
	if err := a.unpackAll(ctx, others, u); err != nil {
		return err
	}
	if err := u.claims.finish(a.at); err != nil {
		return err
	}
	if err := a.seedBase(ps, u); err != nil {
		return err
	}
	return a.configureBase(ctx, ps)
}

func (a *assembly) seedBase(ps []*pkg, u *unpacker) error {
	if err := linkMerged(a.at); err != nil {
		return err
	}
	if err := checkBase(a.at); err != nil {
		return err
	}
	if err := seedAwk(a.at); err != nil {
		return err
	}
	if err := seedDatabase(a.at); err != nil {
		return err
	}
	return register(a.at, ps, u.destination)
}

// configureBase runs the preinst scripts that do something, then dpkg.
func (a *assembly) configureBase(ctx context.Context, ps []*pkg) error {
	restore, err := allowNoServices(a.at)
	if err != nil {
		return err
	}
	if script := preinstScript(ps); script != "" {
		if err := a.inTree(ctx, "/bin/sh", "-c", script); err != nil {
			return err
		}
	}
	if err := a.configure(ctx, "--configure", "-a"); err != nil {
		return err
	}
	return restore()
}

// preinstScript calls the preinst scripts as dpkg does on a first installation.
func preinstScript(ps []*pkg) string {
	var b strings.Builder
	for _, p := range ps {
		if p.preinst() == nil {
			continue
		}
		fmt.Fprintf(&b, "DPKG_MAINTSCRIPT_PACKAGE=%s DPKG_MAINTSCRIPT_ARCH=%s DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 DPKG_ADMINDIR=/var/lib/dpkg DPKG_ROOT= DEBCONF_PACKAGE=%s /%s/%s.preinst install </dev/null || { echo \"kiln: preinst of %s failed with $?\"; exit 1; }\n",
			p.Name, p.Architecture, p.Name, infoDir, p.infoName(), p.Name)
	}
	return b.String()
}
