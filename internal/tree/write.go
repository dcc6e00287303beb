package tree

import (
	"archive/tar"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"kiln"
)

// TarOptions say how a tree becomes a tar stream.
type TarOptions struct {
	// Epoch, in Unix seconds, is the latest modification time written; later ones become Epoch. Zero writes every time as 0.
	Epoch int64
	// Keep chooses entries; nil keeps all. A hard link whose first name is not kept becomes the file itself.
	Keep func(Entry) bool
}

// Stats count what was written or read.
type Stats struct {
	Files int   // entries that are not directories
	Bytes int64 // of regular files
}

const paxXattr = "SCHILY.xattr."

// WriteTar writes the tree below dir as PAX tar: entries in Walk's order,
// numeric owners, no names, no access times, directories with the time Epoch.
// The same tree gives the same bytes. Sockets are left out; devices are an error.
func WriteTar(w io.Writer, dir string, o TarOptions) (Stats, error) {
	t := &tarWriter{dir: dir, out: tar.NewWriter(w), opts: o, first: map[string]string{}, buf: make([]byte, 256<<10)}
	if err := Walk(dir, t.add); err != nil {
		return t.stats, fmt.Errorf("packing tree: %w", err)
	}
	if err := t.out.Close(); err != nil {
		return t.stats, fmt.Errorf("packing tree: %w", err)
	}
	return t.stats, nil
}

// Digest returns the SHA-256 of the tree's canonical tar.
func Digest(dir string, epoch int64) (kiln.Digest, error) {
	h := sha256.New()
	if _, err := WriteTar(h, dir, TarOptions{Epoch: epoch}); err != nil {
		return "", err
	}
	return kiln.DigestSum(h.Sum(nil)), nil
}

type tarWriter struct {
	dir   string
	out   *tar.Writer
	opts  TarOptions
	first map[string]string // first name of a hard-linked file -> name that was written
	stats Stats
	buf   []byte
}

func (t *tarWriter) add(e Entry) error {
	if e.Type == 's' {
		return nil
	}
	if t.opts.Keep != nil && !t.opts.Keep(e) {
		return nil
	}
	if e.Type == 'c' || e.Type == 'b' {
		return fmt.Errorf("%s is a device node; an image must not hold any", e.Path)
	}
	if e.Type == 'h' {
		if name, ok := t.first[e.Link]; ok {
			e.Link = name
		} else if err := t.promote(&e); err != nil {
			return err
		}
	} else if e.Type == 'f' {
		t.first[e.Path] = e.Path
	}
	return t.write(e)
}

// promote turns a further name into the file, because its first name is not part of this archive.
func (t *tarWriter) promote(e *Entry) error {
	t.first[e.Link] = e.Path
	dir, err := os.Open(filepath.Join(t.dir, filepath.Dir(e.Path)))
	if err != nil {
		return err
	}
	defer dir.Close()
	w := walker{root: t.dir, seen: map[inode]string{}}
	*e, err = w.entry(int(dir.Fd()), e.Path, filepath.Base(e.Path))
	return err
}

func (t *tarWriter) write(e Entry) error {
	if err := t.out.WriteHeader(t.header(e)); err != nil {
		return fmt.Errorf("%s: %w", e.Path, err)
	}
	if e.Type != 'd' {
		t.stats.Files++
	}
	if e.Type != 'f' {
		return nil
	}
	t.stats.Bytes += e.Size
	f, err := os.Open(t.dir + "/" + e.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	if n, err := io.CopyBuffer(struct{ io.Writer }{t.out}, struct{ io.Reader }{io.LimitReader(f, e.Size)}, t.buf); err != nil || n != e.Size {
		return fmt.Errorf("%s changed while it was read (%d of %d bytes): %v", e.Path, n, e.Size, err)
	}
	return nil
}

func (t *tarWriter) header(e Entry) *tar.Header {
	h := &tar.Header{
		Name: e.Path, Mode: int64(e.Mode), Uid: e.UID, Gid: e.GID, Size: e.Size,
		ModTime: time.Unix(min(e.MTime, t.opts.Epoch), 0), Format: tar.FormatPAX,
	}
	switch e.Type {
	case 'f':
		h.Typeflag = tar.TypeReg
	case 'd':
		h.Typeflag = tar.TypeDir
		h.Name += "/"
		// A directory's own time says when something was last put into it: with
		// it, an application's file in usr/bin would move the base layer.
		h.ModTime = time.Unix(t.opts.Epoch, 0)
	case 'l':
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
	case 'h':
		h.Typeflag, h.Linkname = tar.TypeLink, e.Link
	case 'p':
		h.Typeflag = tar.TypeFifo
	}
	for name, value := range e.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[paxXattr+name] = value
	}
	return h
}
