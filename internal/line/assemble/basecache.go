package assemble

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/s2"
	"golang.org/x/sys/unix"

	"kiln"
	"kiln/internal/tree"
)

// baseVersion changes with the form of the files in the cache; how a base is made changes with the program.
const baseVersion = "2"

// baseSuffix names the form: tar packed with S2, which costs a fifth of zstd's time for half again its size.
const baseSuffix = ".tar.s2"

// baseLimit bounds a configured base that is read back.
const baseLimit = 8 << 30

// baseCache keeps configured base trees as packed tars. A file's name is the key,
// a digest of all that the tree was made from, and the digest of the file
// itself, which is checked before it is used. Who can write to the directory
// can change what is built from it; damage is noticed and repaired.
type baseCache struct{ dir string }

// baseKey names the base that program makes of these packages.
func baseKey(program kiln.Digest, ps []*pkg) kiln.Digest {
	var parts []string
	for _, p := range ps {
		parts = append(parts, string(p.Digest))
	}
	slices.Sort(parts)
	parts = append(parts, "version "+baseVersion, "program "+string(program), debArch())
	parts = append(parts, scriptEnv(0)...)
	return kiln.DigestBytes([]byte(strings.Join(parts, "\n")))
}

func (c baseCache) find(key kiln.Digest) (file, sum string) {
	found, err := filepath.Glob(filepath.Join(c.dir, key.Hex()+"-*"+baseSuffix))
	if err != nil || len(found) == 0 {
		return "", ""
	}
	stem := strings.TrimSuffix(filepath.Base(found[0]), baseSuffix)
	return found[0], stem[len(key.Hex())+1:]
}

// open returns the tar of a base, checked; nil when there is none.
func (c baseCache) open(key kiln.Digest) *os.File {
	name, sum := c.find(key)
	if name == "" {
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	if err := verify(f, sum); err == nil {
		if _, err = f.Seek(0, io.SeekStart); err == nil {
			return f
		}
	}
	f.Close()
	os.Remove(name)
	return nil
}

// store writes the tree below dir into the cache.
func (c baseCache) store(key kiln.Digest, dir string, epoch int64) error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(c.dir, "tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	sum := sha256.New()
	z := s2.NewWriter(io.MultiWriter(tmp, sum), s2.WriterConcurrency(2))
	if _, err := tree.WriteTar(z, dir, tree.TarOptions{Epoch: epoch}); err != nil {
		return errors.Join(err, z.Close())
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), filepath.Join(c.dir, key.Hex()+"-"+kiln.DigestSum(sum.Sum(nil)).Hex()+baseSuffix))
}

// cachedBase makes the base, from the cache if it is there. Either way the
// tree is the same: its newest time is the newest build date of its packages,
// whatever the lock's epoch, so that locks of different days share it.
func (a *assembly) cachedBase(ctx context.Context, ps []*pkg) error {
	key := baseKey(a.o.Program, ps)
	cache := baseCache{dir: filepath.Join(a.o.CacheDir, "bases")}
	if a.o.CacheDir != "" {
		if f := cache.open(key); f != nil {
			defer f.Close()
			a.o.Report.Note(kiln.StationAssemble, "the configured base is known: "+key.Short())
			return a.restore(ctx, f)
		}
	}
	if err := a.base(ctx, ps); err != nil {
		return err
	}
	if err := (&cleaner{at: a.at, dir: a.dir, epoch: a.epoch}).all(); err != nil {
		return err
	}
	if err := clampTimes(a.dir, a.epoch); err != nil {
		return err
	}
	if a.o.CacheDir == "" {
		return nil
	}
	if err := cache.store(key, a.dir, a.epoch); err != nil {
		a.o.Report.Warn(kiln.StationAssemble, fmt.Sprintf("the configured base could not be kept for next time: %v", err))
	}
	return nil
}

// restore unpacks a base that this program packed.
func (a *assembly) restore(ctx context.Context, f *os.File) error {
	z := s2.NewReader(f)
	u := &unpacker{claims: newClaims(), owners: &owners{}, at: a.at, buf: make([]byte, 256<<10), sum: newSum(), dirTimes: true}
	a.at.made = u.claims.make
	defer func() { a.at.made = nil }()
	u.claims.make(".")
	whole := newPkg(kiln.LockedPackage{Name: "the cached base"}, 0)
	whole.control = map[string][]byte{"md5sums": {}}
	if err := u.unpack(ctx, whole, io.LimitReader(z, baseLimit)); err != nil {
		return fmt.Errorf("unpacking the cached base: %w", err)
	}
	return u.claims.finish(a.at)
}

// clampTimes gives everything newer than epoch that time.
func clampTimes(dir string, epoch int64) error {
	ts := unix.NsecToTimespec(time.Unix(epoch, 0).UnixNano())
	err := tree.Walk(dir, func(e tree.Entry) error {
		if e.MTime < epoch || e.Type == 'h' {
			return nil
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, e.Path), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		return fmt.Errorf("setting times: %w", err)
	}
	return nil
}

// newest is the latest build date of the packages; never 0, which would mean no date.
func newest(ps []*pkg) int64 {
	t := int64(1)
	for _, p := range ps {
		t = max(t, p.built)
	}
	return t
}
