package tree

import (
	"archive/tar"
	"errors"
	"strings"
)

// ErrSparse says that a tar member is a sparse file. A few hundred bytes of an
// archive can make one of any size, which no bound on the archive's own bytes
// notices; no package, layer or bundle needs one.
var ErrSparse = errors.New("a sparse file, which is refused")

// CheckDense returns ErrSparse for a member whose content has holes, in any of
// the forms that archive/tar reads.
func CheckDense(h *tar.Header) error {
	if h.Typeflag == tar.TypeGNUSparse {
		return ErrSparse
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return ErrSparse
		}
	}
	return nil
}
