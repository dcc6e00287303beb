package pkgdb

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// RPM reads rpm's database of installed packages, in the form that its first
// bytes show: SQLite (rpmdb.sqlite), ndb (Packages.db) or Berkeley DB (Packages).
// log is the write-ahead log beside an SQLite database, nil where there is none.
func RPM(ctx context.Context, database io.ReaderAt, size int64, log io.Reader) ([]Package, error) {
	if size > MaxSize {
		return nil, fmt.Errorf("it has %d bytes, more than %d", size, int64(MaxSize))
	}
	head := make([]byte, 16)
	if _, err := database.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("reading its beginning: %w", err)
	}
	var out []Package
	var count counter
	each := func(raw []byte) error {
		p, err := decode(raw)
		if err != nil || p.Name == "gpg-pubkey" { // a key that rpm trusts, kept as a package
			return err
		}
		out = append(out, *p)
		return count.add(p)
	}
	in := io.NewSectionReader(database, 0, size)
	var err error
	switch {
	case string(head) == "SQLite format 3\x00":
		err = readSQLite(ctx, in, log, each)
	case string(head[:4]) == "RpmP":
		err = readNDB(in, each)
	case binary.LittleEndian.Uint32(head[12:]) == bdbMagic, binary.BigEndian.Uint32(head[12:]) == bdbMagic:
		err = readBDB(in, each)
	default:
		err = errors.New("it is in none of the known forms")
	}
	return out, err
}

// sqliteTime bounds what a hostile database can make SQLite do.
const sqliteTime = 20 * time.Second

// readSQLite copies the database, so that SQLite never works in the tree, and reads the table that rpm keeps headers in.
func readSQLite(ctx context.Context, database, log io.Reader, each func([]byte) error) error {
	dir, err := os.MkdirTemp("", "kiln-rpm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "rpmdb.sqlite")
	if err := copyTo(file, database); err != nil {
		return err
	}
	if log != nil {
		if err := copyTo(file+"-wal", log); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, sqliteTime)
	defer cancel()
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath()+"?_pragma=trusted_schema(0)&_pragma=cell_size_check(1)")
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	var kind, text string
	err = db.QueryRowContext(ctx, "SELECT type, lower(sql) FROM sqlite_schema WHERE name = 'Packages'").Scan(&kind, &text)
	if err != nil {
		return fmt.Errorf("finding its table of packages: %w", err)
	}
	if kind != "table" { // a view could do anything
		return fmt.Errorf("its Packages are a %s, not a table", kind)
	}
	rows, err := db.QueryContext(ctx, "SELECT length(blob), blob FROM Packages LIMIT ?", maxPackages+1)
	if err != nil {
		return fmt.Errorf("reading its packages: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		var raw sql.RawBytes
		if err := rows.Scan(&n, &raw); err != nil {
			return fmt.Errorf("reading its packages: %w", err)
		}
		if n > maxHeader {
			return fmt.Errorf("a header of %d bytes", n)
		}
		if err := each(raw); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading its packages: %w", err)
	}
	return nil
}

func copyTo(file string, from io.Reader) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(from, MaxSize+1))
	if err == nil && n > MaxSize {
		err = fmt.Errorf("more than %d bytes", int64(MaxSize))
	}
	return errors.Join(err, f.Close())
}

// ndb: a header of 32 bytes, pages of slots of 16 bytes, each of which names a blob by its place in units of 16 bytes.
const (
	ndbSlot = 'S' | 'l'<<8 | 'o'<<16 | 't'<<24
	ndbBlob = 'B' | 'l'<<8 | 'b'<<16 | 'S'<<24
	// ndbPages bounds pages of slots: 256 slots each.
	ndbPages = 2048
)

func readNDB(r io.ReaderAt, each func([]byte) error) error {
	head := make([]byte, 32)
	if err := readAt(r, head, 0); err != nil {
		return err
	}
	version, pages := binary.LittleEndian.Uint32(head[4:]), binary.LittleEndian.Uint32(head[12:])
	if version != 0 || pages == 0 || pages > ndbPages {
		return fmt.Errorf("its version is %d and it has %d pages of slots", version, pages)
	}
	slots := make([]byte, int(pages)*4096-32)
	if err := readAt(r, slots, 32); err != nil {
		return err
	}
	for ; len(slots) >= 16; slots = slots[16:] {
		if binary.LittleEndian.Uint32(slots) != ndbSlot {
			return errors.New("a slot has not the mark of one")
		}
		number, place := binary.LittleEndian.Uint32(slots[4:]), binary.LittleEndian.Uint32(slots[8:])
		if number == 0 {
			continue
		}
		raw, err := ndbRead(r, number, int64(place)*16)
		if err == nil {
			err = each(raw)
		}
		if err != nil {
			return fmt.Errorf("package %d: %w", number, err)
		}
	}
	return nil
}

func ndbRead(r io.ReaderAt, number uint32, at int64) ([]byte, error) {
	head := make([]byte, 16)
	if err := readAt(r, head, at); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(head[12:])
	if binary.LittleEndian.Uint32(head) != ndbBlob || binary.LittleEndian.Uint32(head[4:]) != number || size > maxHeader {
		return nil, errors.New("its slot does not lead to its blob")
	}
	raw := make([]byte, size)
	return raw, readAt(r, raw, at+16)
}

func readAt(r io.ReaderAt, into []byte, at int64) error {
	if n, err := r.ReadAt(into, at); n < len(into) {
		return fmt.Errorf("it is cut at byte %d: %w", at+int64(n), err)
	}
	return nil
}
