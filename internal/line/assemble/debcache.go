package assemble

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/klauspost/compress/s2"

	"kiln"
	"kiln/internal/deb"
)

// repackVersion changes with the form of the files in the cache.
const repackVersion = "2"

// debCache gives opened .debs. With a directory it keeps each one packed anew
// with S2, which takes no time to pack and unpacks some fifty times faster than xz. A file's name is
// the digest of the .deb it stands for and the digest of itself; both are
// checked: the first when it is made, the second each time it is used. Who can
// write to the directory can change what is built from it; damage is noticed.
type debCache struct {
	dir    string
	source func(kiln.Digest) (*os.File, error)
	mu     sync.Mutex
	known  map[string]string // hex of .deb -> hex of file
}

func openDebCache(dir string, source func(kiln.Digest) (*os.File, error)) (*debCache, error) {
	c := &debCache{source: source, known: map[string]string{}}
	if dir == "" {
		return c, nil
	}
	c.dir = filepath.Join(dir, "unpacked", repackVersion)
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the cache of unpacked packages: %w", err)
	}
	f, err := os.Open(c.dir)
	if err != nil {
		return nil, fmt.Errorf("reading the cache of unpacked packages: %w", err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("reading the cache of unpacked packages: %w", err)
	}
	for _, name := range names {
		if stem, ok := strings.CutSuffix(name, ".deb"); ok {
			if of, sum, ok := strings.Cut(stem, "-"); ok {
				c.known[of] = sum
			}
		}
	}
	return c, nil
}

func (c *debCache) path(of, sum string) string { return filepath.Join(c.dir, of+"-"+sum+".deb") }

// open returns the package, from the cache if it is there and whole.
func (c *debCache) open(ctx context.Context, d kiln.Digest) (opened, error) {
	c.mu.Lock()
	sum := c.known[d.Hex()]
	c.mu.Unlock()
	if sum != "" {
		if o, err := c.cached(d, sum); err == nil {
			return o, nil
		}
		os.Remove(c.path(d.Hex(), sum)) // damaged; made again below
	}
	f, err := c.source(d)
	if err != nil {
		return opened{}, fmt.Errorf("opening the .deb: %w", err)
	}
	if err := verify(f, d.Hex()); err != nil {
		f.Close()
		return opened{}, fmt.Errorf("checking the .deb: %w", err)
	}
	o, err := openDeb(f)
	if err != nil || c.dir == "" || ctx.Err() != nil {
		return o, err
	}
	defer o.Close()
	return c.repack(o, d)
}

func (c *debCache) cached(d kiln.Digest, sum string) (opened, error) {
	f, err := os.Open(c.path(d.Hex(), sum))
	if err != nil {
		return opened{}, err
	}
	if err := verify(f, sum); err != nil {
		f.Close()
		return opened{}, err
	}
	return openDeb(f)
}

// ErrDamaged says that a file in a cache is not what its name says.
var ErrDamaged = errors.New("the cached file is damaged")

// verify reads the whole file and compares its SHA-256.
func verify(f *os.File, want string) error {
	got, err := fileSum(f)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%w: its SHA-256 is %s instead of %s", ErrDamaged, got, want)
	}
	return nil
}

func fileSum(f *os.File) (string, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	h := sha256.New()
	buf := bufs.Get().(*[]byte)
	defer bufs.Put(buf)
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{f}, *buf); err != nil {
		return "", err
	}
	return kiln.DigestSum(h.Sum(nil)).Hex(), nil
}

var bufs = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// repack writes the package into the cache and opens it from there.
func (c *debCache) repack(o opened, d kiln.Digest) (opened, error) {
	tmp, err := os.CreateTemp(c.dir, "tmp-*")
	if err != nil {
		return opened{}, fmt.Errorf("caching the unpacked package: %w", err)
	}
	defer os.Remove(tmp.Name())
	if err := writeRepacked(tmp, o); err != nil {
		tmp.Close()
		return opened{}, fmt.Errorf("unpacking the package into the cache: %w", err)
	}
	sum, err := fileSum(tmp)
	if err == nil {
		err = os.Rename(tmp.Name(), c.path(d.Hex(), sum))
	}
	if err != nil {
		tmp.Close()
		return opened{}, fmt.Errorf("caching the unpacked package: %w", err)
	}
	c.mu.Lock()
	c.known[d.Hex()] = sum
	c.mu.Unlock()
	return openDeb(tmp)
}

// writeRepacked writes a .deb with the same content, its tars packed with S2.
func writeRepacked(f *os.File, o opened) error {
	if _, err := io.WriteString(f, deb.ArMagic); err != nil {
		return err
	}
	if err := deb.WriteMember(f, "debian-binary", o.Date, 4, strings.NewReader("2.0\n")); err != nil {
		return err
	}
	control, err := o.ControlTar()
	if err != nil {
		return err
	}
	defer control.Close()
	if err := writePacked(f, "control.tar.s2", control); err != nil {
		return err
	}
	data, err := o.Data()
	if err != nil {
		return err
	}
	defer data.Close()
	return writePacked(f, "data.tar.s2", data)
}

// writePacked writes one member whose size is known only afterwards: its header is written twice.
func writePacked(f *os.File, name string, r io.Reader) error {
	start, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if err := deb.WriteMember(f, name, 0, 0, bytes.NewReader(nil)); err != nil {
		return err
	}
	z := encoders.Get().(*s2.Writer)
	defer encoders.Put(z)
	z.Reset(f)
	buf := bufs.Get().(*[]byte)
	defer bufs.Put(buf)
	if _, err := io.CopyBuffer(struct{ io.Writer }{z}, struct{ io.Reader }{r}, *buf); err != nil {
		return errors.Join(err, z.Close())
	}
	if err := z.Close(); err != nil {
		return err
	}
	end, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	const header = 60
	var h bytes.Buffer
	if err := deb.WriteHeader(&h, name, 0, end-start-header); err != nil {
		return err
	}
	if _, err := f.WriteAt(h.Bytes(), start); err != nil {
		return err
	}
	if (end-start)%2 == 1 {
		_, err = io.WriteString(f, "\n")
	}
	return err
}

// encoders pack in small blocks, so that many can be unpacked at once in little memory.
var encoders = sync.Pool{New: func() any { return s2.NewWriter(nil, s2.WriterConcurrency(1), s2.WriterBlockSize(1<<20)) }}
