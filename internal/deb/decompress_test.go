package deb

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	slowxz "github.com/ulikunitz/xz"
)

func compress(t *testing.T, kind string, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch kind {
	case "gz":
		w = gzip.NewWriter(&out)
	case "xz":
		w, err = slowxz.NewWriter(&out)
	case "zst":
		w, err = zstd.NewWriter(&out)
	default:
		return data
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func unpack(data []byte, kind string, max int64) ([]byte, error) {
	r, err := Decompress(bytes.NewReader(data), kind, max)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestDecompress(t *testing.T) {
	text := []byte(strings.Repeat("Package: nginx\n", 10_000))
	for _, kind := range []string{"", "gz", "xz", "zst"} {
		packed := compress(t, kind, text)
		if got, err := unpack(packed, kind, int64(len(text))); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%q: %d bytes, %v", kind, len(got), err)
		}
		if _, err := unpack(packed, kind, int64(len(text))-1); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%q over its limit: %v", kind, err)
		}
		if kind == "" {
			continue
		}
		if _, err := unpack(packed[:len(packed)-9], kind, 1<<30); err == nil {
			t.Errorf("%q: truncated data accepted", kind)
		}
		damaged := bytes.Clone(packed)
		damaged[len(damaged)/2] ^= 0x40
		if got, err := unpack(damaged, kind, 1<<30); err == nil && bytes.Equal(got, text) {
			t.Errorf("%q: damage is not there", kind)
		} else if err == nil {
			t.Errorf("%q: damaged data accepted", kind)
		}
	}
	if _, err := unpack(text, "lzma", 1); err == nil {
		t.Error("an unknown compression is accepted")
	}
}

func TestDecompressBomb(t *testing.T) {
	zeros := make([]byte, 16<<20)
	for _, kind := range []string{"gz", "xz", "zst"} {
		if got, err := unpack(compress(t, kind, zeros), kind, 1<<20); !errors.Is(err, ErrTooLarge) || len(got) > 1<<20 {
			t.Errorf("%s: %d bytes, %v", kind, len(got), err)
		}
	}
}

// TestXZDictionaryLimit: a stream that asks for a larger dictionary than "xz -9" uses is refused, not obeyed.
func TestXZDictionaryLimit(t *testing.T) {
	var out bytes.Buffer
	w, err := slowxz.WriterConfig{DictCap: 128 << 20}.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := unpack(out.Bytes(), "xz", 1<<20); err == nil || !strings.Contains(err.Error(), "dictionary") {
		t.Errorf("want a refusal of the dictionary, got %v", err)
	}
}
