package tree

import (
	"archive/tar"
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
)

// sparse is a tar whose second member says that it has size bytes, all of them holes.
func sparse(t *testing.T, size string) []byte {
	t.Helper()
	plain := hostile(t,
		tar.Header{Name: "first", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1},
		tar.Header{Name: "holes", Typeflag: tar.TypeReg, Mode: 0o644, Format: tar.FormatPAX, PAXRecords: map[string]string{
			"XNU.sparse.numblocks": "1", "XNU.sparse.map": "0,0", "XNU.sparse.size": size,
		}},
	)
	return bytes.ReplaceAll(plain, []byte("XNU."), []byte("GNU.")) // the writer makes none
}

func TestASparseFileIsRefusedHoweverLarge(t *testing.T) {
	for _, size := range []string{"4096", "1099511627776", "9223372036854775807"} {
		_, err := ReadTar(bytes.NewReader(sparse(t, size)), t.TempDir(), Limits{Bytes: 1 << 20})
		if !errors.Is(err, ErrSparse) {
			t.Errorf("%s bytes: got %v", size, err)
		}
	}
	old := &tar.Header{Typeflag: tar.TypeGNUSparse}
	if err := CheckDense(old); !errors.Is(err, ErrSparse) {
		t.Errorf("the old form: got %v", err)
	}
	if err := CheckDense(&tar.Header{Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "1"}}); err != nil {
		t.Errorf("an ordinary file: %v", err)
	}
}

func TestASizeThatOverflowsIsOverTheLimit(t *testing.T) {
	x := &extractor{limits: Limits{Bytes: 1 << 20}, stats: Stats{Bytes: 1}}
	err := x.file("x", &tar.Header{Size: math.MaxInt64}, strings.NewReader(""))
	if err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
}
