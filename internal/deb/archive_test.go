package deb

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"kiln/internal/tree"
)

type file struct {
	name, body string
}

func tarOf(t *testing.T, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, f := range files {
		okay(t, tw.WriteHeader(&tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(f.body))}))
		_, err := tw.Write([]byte(f.body))
		okay(t, err)
	}
	okay(t, tw.Close())
	return b.Bytes()
}

func okay(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func packed(t *testing.T, kind string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch kind {
	case "":
		return data
	case "gz":
		w = gzip.NewWriter(&b)
	case "xz":
		w, err = xz.NewWriter(&b)
	case "zst":
		w, err = zstd.NewWriter(&b)
	}
	okay(t, err)
	_, err = w.Write(data)
	okay(t, err)
	okay(t, w.Close())
	return b.Bytes()
}

type arMember struct {
	name string
	body []byte
}

func arOf(t *testing.T, members ...arMember) []byte {
	t.Helper()
	b := bytes.NewBufferString(ArMagic)
	for _, m := range members {
		okay(t, WriteMember(b, m.name, 1700000000, int64(len(m.body)), bytes.NewReader(m.body)))
	}
	return b.Bytes()
}

const sampleControl = "Package: hello\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@example.com>\nDescription: greets\n"

func TestOpenArchiveReadsEveryCompression(t *testing.T) {
	control := tarOf(t, file{"./control", sampleControl}, file{"./postinst", "#!/bin/sh\n"})
	data := tarOf(t, file{"./usr/bin/hello", "hello"})
	for _, kind := range []string{"", "gz", "xz", "zst"} {
		t.Run("kind "+kind, func(t *testing.T) {
			ending := strings.TrimSuffix("."+kind, ".")
			raw := arOf(t, arMember{"debian-binary", []byte("2.0\n")}, arMember{"_private", []byte("x")},
				arMember{"control.tar" + ending, packed(t, kind, control)}, arMember{"data.tar" + ending, packed(t, kind, data)})
			a, err := OpenArchive(bytes.NewReader(raw), int64(len(raw)))
			okay(t, err)
			files, err := a.Control()
			okay(t, err)
			if a.Date != 1700000000 {
				t.Errorf("built at %d", a.Date)
			}
			if string(files["control"]) != sampleControl || files["postinst"] == nil {
				t.Errorf("control files are %q", files)
			}
			r, err := a.Data()
			okay(t, err)
			got, err := io.ReadAll(r)
			okay(t, err)
			if !bytes.Equal(got, data) {
				t.Error("data.tar came out changed")
			}
		})
	}
}

func TestOpenArchiveRefuses(t *testing.T) {
	version := arMember{"debian-binary", []byte("2.0\n")}
	control := arMember{"control.tar", tarOf(t, file{"control", sampleControl})}
	data := arMember{"data.tar", tarOf(t)}
	whole := arOf(t, version, control, data)
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"no ar":              {[]byte("PK\x03\x04 something else"), "does not begin as an ar archive"},
		"empty":              {nil, "does not begin as an ar archive"},
		"other format":       {arOf(t, arMember{"debian-binary", []byte("3.0\n")}, control, data), "3.0"},
		"no version":         {arOf(t, control, data), "not debian-binary"},
		"wrong order":        {arOf(t, version, data, control), "where control.tar must stand"},
		"no data":            {arOf(t, version, control), "looking for data.tar"},
		"other compression":  {arOf(t, version, control, arMember{"data.tar.lzma", nil}), "lzma"},
		"name without a dot": {arOf(t, version, control, arMember{"data.tarxz", nil}), "where data.tar must stand"},
		"truncated":          {whole[:len(whole)-512], "does not fit"},
		"negative size":      {bytes.Replace(whole, []byte("4         `"), []byte("-4        `"), 1), "does not fit"},
		"damaged header":     {bytes.Replace(whole, []byte("`\n"), []byte("??"), 1), "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := OpenArchive(bytes.NewReader(c.raw), int64(len(c.raw)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want an error about %q, got %v", c.want, err)
			}
		})
	}
}

func TestControlRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		files []file
		want  string
	}{
		"no control file": {[]file{{"postinst", "x"}}, "no control file"},
		"path":            {[]file{{"control", "x"}, {"../../etc/passwd", "x"}}, "not a plain file"},
		"twice":           {[]file{{"control", "x"}, {"./control", "y"}}, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			raw := arOf(t, arMember{"debian-binary", []byte("2.0\n")}, arMember{"control.tar", tarOf(t, c.files...)}, arMember{"data.tar", nil})
			a, err := OpenArchive(bytes.NewReader(raw), int64(len(raw)))
			okay(t, err)
			if _, err := a.Control(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want an error about %q, got %v", c.want, err)
			}
		})
	}
}

func TestDataEndsBeforeABombGrows(t *testing.T) {
	var small bytes.Buffer
	w, err := zstd.NewWriter(&small)
	okay(t, err)
	zeros := make([]byte, 1<<20)
	for range 200 {
		_, err := w.Write(zeros)
		okay(t, err)
	}
	okay(t, w.Close())
	raw := arOf(t, arMember{"debian-binary", []byte("2.0\n")}, arMember{"control.tar", tarOf(t, file{"control", sampleControl})}, arMember{"data.tar.zst", small.Bytes()})
	a, err := OpenArchive(bytes.NewReader(raw), int64(len(raw)))
	okay(t, err)
	r, err := a.Data()
	okay(t, err)
	defer r.Close()
	n, err := io.Copy(io.Discard, r)
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("read %d MiB of zeros from %d packed bytes, error %v", n>>20, small.Len(), err)
	}
}

func FuzzOpenArchive(f *testing.F) {
	f.Add([]byte(ArMagic))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		a, err := OpenArchive(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			return
		}
		_, _ = a.Control()
		if r, err := a.Data(); err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			r.Close()
		}
	})
}

// A control file of a terabyte, all holes, takes 2 kB in its archive: reading it would take the machine's memory.
func TestASparseControlFileIsRefused(t *testing.T) {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	okay(t, tw.WriteHeader(&tar.Header{Name: "control", Typeflag: tar.TypeReg, Mode: 0o644, Format: tar.FormatPAX, PAXRecords: map[string]string{
		"XNU.sparse.numblocks": "1", "XNU.sparse.map": "0,0", "XNU.sparse.size": "1099511627776",
	}}))
	okay(t, tw.Close())
	control := bytes.ReplaceAll(b.Bytes(), []byte("XNU."), []byte("GNU.")) // the writer makes none
	h, err := tar.NewReader(bytes.NewReader(control)).Next()
	okay(t, err)
	if h.Size != 1<<40 {
		t.Fatalf("the bomb has %d bytes", h.Size)
	}
	if err := addControl(map[string][]byte{}, h, strings.NewReader("")); !errors.Is(err, tree.ErrSparse) {
		t.Errorf("got %v", err)
	}
}
