package scan

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
)

// Bounds of one archive. Its directory and its contents have budgets of their own, so that neither a directory
// that claims a million entries nor a small file that inflates without end costs more than these.
const (
	maxZip          = 1 << 30
	maxZipDirectory = 16 << 20
	maxZipInflated  = 256 << 20
	maxZipDepth     = 4
)

var errBudget = errors.New("archive is larger than what is read of one")

// metered lets at most left bytes be read.
type metered struct {
	r    io.ReaderAt
	left int64
}

func (m *metered) ReadAt(p []byte, off int64) (int, error) {
	if m.left -= int64(len(p)); m.left < 0 {
		return 0, errBudget
	}
	return m.r.ReadAt(p, off)
}

// zipFile is an open archive with what is left of its budget.
type zipFile struct {
	files    []*zip.File
	meter    *metered
	inflated *int64 // what may still be inflated, shared with archives inside
}

func openZip(f io.ReaderAt, size int64) (*zipFile, error) {
	left := int64(maxZipInflated)
	return openZipWithin(f, size, &left)
}

func openZipWithin(f io.ReaderAt, size int64, inflated *int64) (*zipFile, error) {
	if size > maxZip {
		return nil, &tooLarge{size, maxZip}
	}
	m := &metered{f, maxZipDirectory}
	z, err := zip.NewReader(m, size)
	if err != nil {
		return nil, fmt.Errorf("opening archive: %w", err)
	}
	m.left = maxZipInflated
	return &zipFile{z.File, m, inflated}, nil
}

// read returns one member of at most max bytes.
func (z *zipFile) read(file *zip.File, max int64) ([]byte, error) {
	max = min(max, *z.inflated)
	r, err := file.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", printable(clip(file.Name)), err)
	}
	defer r.Close()
	data, err := readAll(r, max)
	*z.inflated -= int64(len(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", printable(clip(file.Name)), err)
	}
	return data, nil
}
