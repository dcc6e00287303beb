package resolve

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
)

const twoStanzas = `Package: aa
Version: 1
Architecture: all
Filename: a
Size: 1
SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855

Package: bb
Version: 1
Architecture: all
Filename: b
Size: 1
SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
`

func TestAnIndexIsKeptUnpackedWhileItIsRead(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := io.WriteString(z, twoStanzas); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	var kept []byte
	wrong := errors.New("another digest")
	for name, c := range map[string]struct {
		keep func(io.Reader) error
		want error
	}{
		"whole":               {func(r io.Reader) (err error) { kept, err = io.ReadAll(r); return err }, nil},
		"it has it already":   {func(io.Reader) error { return nil }, nil},
		"it refuses at once":  {func(io.Reader) error { return wrong }, wrong},
		"it refuses the text": {func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return errors.Join(err, wrong) }, wrong},
	} {
		x, err := buildIndex(bytes.NewReader(packed.Bytes()), "gz", c.keep)
		if !errors.Is(err, c.want) || err == nil && len(x.pkgName) != 2 {
			t.Errorf("%s: %+v, %v", name, x, err)
		}
	}
	if string(kept) != twoStanzas {
		t.Errorf("kept %q", kept)
	}
	cut := packed.Bytes()[:packed.Len()/2]
	_, err := buildIndex(bytes.NewReader(cut), "gz", func(r io.Reader) error { _, err := io.ReadAll(r); return err })
	if err == nil || !strings.Contains(err.Error(), "EOF") {
		t.Errorf("cut short: %v", err)
	}
}
