package pkgdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Berkeley DB's hash files: pages with a header of 26 bytes. Pages of the hash
// list pairs of keys and values; a value that does not fit is a chain of overflow pages.
const (
	bdbMagic        = 0x00061561
	bdbHeader       = 26
	bdbHashUnsorted = 2
	bdbOverflow     = 7
	bdbHash         = 13
	bdbOffPage      = 3 // the item is in overflow pages
)

// bdb is a database being read.
type bdb struct {
	r     io.ReaderAt
	order binary.ByteOrder
	size  uint32 // of a page
	last  uint32 // page
	left  int    // overflow pages that may still be read: no honest file has one twice
}

func readBDB(r io.ReaderAt, each func([]byte) error) error {
	meta := make([]byte, 512)
	if err := readAt(r, meta, 0); err != nil {
		return err
	}
	db := &bdb{r: r, order: binary.LittleEndian}
	if binary.BigEndian.Uint32(meta[12:]) == bdbMagic {
		db.order = binary.BigEndian
	}
	db.size, db.last = db.order.Uint32(meta[20:]), db.order.Uint32(meta[32:])
	if meta[24] != 0 || db.size < 512 || db.size > 64<<10 || db.size&(db.size-1) != 0 || int64(db.last)*int64(db.size) > MaxSize {
		return fmt.Errorf("its pages are of %d bytes, the last is %d, or it is encrypted", db.size, db.last)
	}
	db.left = int(db.last) + 1
	for n := uint32(1); n <= db.last; n++ {
		page, err := db.page(n)
		if err != nil {
			return err
		}
		if page[25] != bdbHash && page[25] != bdbHashUnsorted {
			continue
		}
		if err := db.values(page, each); err != nil {
			return fmt.Errorf("page %d: %w", n, err)
		}
	}
	return nil
}

func (db *bdb) page(n uint32) ([]byte, error) {
	if n > db.last {
		return nil, fmt.Errorf("page %d does not exist", n)
	}
	page := make([]byte, db.size)
	return page, readAt(db.r, page, int64(n)*int64(db.size))
}

// values gives each the values of a hash page that are headers of packages: those in overflow pages.
func (db *bdb) values(page []byte, each func([]byte) error) error {
	items := int(db.order.Uint16(page[20:]))
	if items%2 != 0 || bdbHeader+2*items > len(page) {
		return fmt.Errorf("it lists %d items", items)
	}
	for i := 1; i < items; i += 2 { // keys and values take turns
		at := int(db.order.Uint16(page[bdbHeader+2*i:]))
		if at >= len(page) {
			return errors.New("an item lies outside it")
		}
		if page[at] != bdbOffPage {
			continue
		}
		if at+12 > len(page) {
			return errors.New("an item is cut")
		}
		raw, err := db.overflow(db.order.Uint32(page[at+4:]), db.order.Uint32(page[at+8:]))
		if err == nil {
			err = each(raw)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// overflow joins the pages of one value.
func (db *bdb) overflow(first, length uint32) ([]byte, error) {
	if length > maxHeader {
		return nil, fmt.Errorf("a value of %d bytes", length)
	}
	var out []byte
	for n := first; n != 0; {
		if db.left--; db.left < 0 {
			return nil, errors.New("its overflow pages lead to each other")
		}
		page, err := db.page(n)
		if err != nil {
			return nil, err
		}
		used := int(db.order.Uint16(page[22:]))
		if page[25] != bdbOverflow || bdbHeader+used > len(page) {
			return nil, fmt.Errorf("page %d is no overflow page", n)
		}
		next := db.order.Uint32(page[16:])
		if next != 0 {
			used = len(page) - bdbHeader
		}
		out = append(out, page[bdbHeader:bdbHeader+used]...)
		if n = next; len(out) > maxHeader {
			return nil, errors.New("a value without end")
		}
	}
	if uint64(len(out)) < uint64(length) {
		return nil, fmt.Errorf("a value of %d bytes has only %d", length, len(out))
	}
	return out, nil
}
