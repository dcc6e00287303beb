package deb

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	fastxz "github.com/therootcompany/xz"
	slowxz "github.com/ulikunitz/xz"
)

// xzDictionary is the most memory an xz stream may ask for: what "xz -9" uses.
const xzDictionary = 64 << 20

// ErrTooLarge says that data unpacks to more than its reader allows.
var ErrTooLarge = errors.New("unpacked data is larger than allowed")

// Decompress returns the unpacked content of r. Kind is "", "gz", "xz" or
// "zst", the ending of the file's name without its dot, or "s2", which only
// our own cache of packages has. After max bytes
// reading fails with ErrTooLarge. Close releases the decoder, never r.
func Decompress(r io.Reader, kind string, max int64) (io.ReadCloser, error) {
	switch kind {
	case "":
		return &bounded{r: r, left: max}, nil
	case "gz":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("opening gzip data: %w", err)
		}
		return &bounded{r: z, left: max}, nil
	case "xz":
		return &bounded{r: newXZ(r), left: max}, nil
	case "zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(128<<20))
		if err != nil {
			return nil, fmt.Errorf("opening zstd data: %w", err)
		}
		return &bounded{r: z, left: max, close: z.Close}, nil
	}
	if kind == "s2" {
		return &bounded{r: s2.NewReader(r, s2.ReaderMaxBlockSize(1<<20)), left: max}, nil
	}
	return nil, fmt.Errorf("compression %.20q is not supported (none, gz, xz, zst are)", kind)
}

type bounded struct {
	r     io.Reader
	left  int64
	close func()
}

func (b *bounded) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, ErrTooLarge
	}
	return n, err
}

func (b *bounded) Close() error {
	if b.close != nil {
		b.close()
	}
	return nil
}

// xzReader reads with the fast decoder and, when that one finds the stream's
// first block corrupt, starts again with the slower, maintained one. It does
// not ask that one about dictionaries over the limit: it knows no limit.
type xzReader struct {
	source  io.Reader
	seen    *recorder // what the fast decoder consumed before its first byte of output
	current io.Reader
	started bool
}

type recorder struct {
	r    io.Reader
	data []byte
	off  bool
}

func (c *recorder) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if !c.off {
		c.data = append(c.data, p[:n]...)
	}
	return n, err
}

func newXZ(r io.Reader) io.Reader {
	return &xzReader{source: r, seen: &recorder{r: r}}
}

func (x *xzReader) Read(p []byte) (int, error) {
	if x.current == nil {
		fast, err := fastxz.NewReader(x.seen, xzDictionary)
		if err != nil {
			return 0, fmt.Errorf("opening xz data: %w", err)
		}
		x.current = fast
	}
	n, err := x.current.Read(p)
	if n == 0 && errors.Is(err, fastxz.ErrData) && !x.started {
		return x.fallBack(p, err)
	}
	if n > 0 && !x.started {
		x.started, x.seen.off, x.seen.data = true, true, nil
	}
	return n, err
}

func (x *xzReader) fallBack(p []byte, cause error) (int, error) {
	x.started, x.seen.off = true, true
	all := io.MultiReader(&replay{data: x.seen.data}, x.source)
	slow, err := slowxz.ReaderConfig{DictCap: 8 << 20, SingleStream: false}.NewReader(all)
	if err != nil {
		return 0, fmt.Errorf("reading xz data: %w", cause)
	}
	x.current = slow
	return slow.Read(p)
}

type replay struct{ data []byte }

func (r *replay) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	return n, nil
}
