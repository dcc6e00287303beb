package verify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"kiln"
	"kiln/internal/deb"
)

// index proves one Packages file and looks up the wanted packages in it.
func (c *checker) index(rel *deb.Release, idx kiln.LockedIndex, wanted map[key]*listing) error {
	signed, ok := rel.SHA256[idx.Path]
	if !ok {
		return errors.New("the signed InRelease does not name it")
	}
	if signed.Digest != idx.Digest || signed.Size != idx.Size {
		return fmt.Errorf("the lock says %s with %d bytes, signed is %s with %d", idx.Digest, idx.Size, signed.Digest, signed.Size)
	}
	text, err := c.packages(rel, idx)
	if err != nil {
		return err
	}
	look := func(p *deb.Package) error {
		if l := wanted[key{p.Name, p.Version, p.Architecture}]; l != nil && l.err != nil {
			l.index, l.err = idx, differs(l.pkg, p)
		}
		return nil
	}
	names := make(map[string]bool, len(wanted))
	for k := range wanted {
		names[k.name] = true
	}
	if usual, err := eachNamed(text, names, look); usual {
		return err
	}
	return deb.ParsePackages(bytes.NewReader(text), look)
}

// packages returns the content of a Packages file whose digest was compared
// with the signed one. Archives sign the unpacked file's digest too, so where
// the cache holds that, nothing need be unpacked.
func (c *checker) packages(rel *deb.Release, idx kiln.LockedIndex) ([]byte, error) {
	kind := strings.TrimPrefix(path.Ext(idx.Path), ".")
	plain, known := rel.SHA256[strings.TrimSuffix(idx.Path, "."+kind)]
	known = known && kind != "" && plain.Size <= maxIndex
	if known {
		if text, err := c.whole(plain.Digest, plain.Size); err == nil {
			return text, c.content(idx.Digest, idx.Size)
		}
	}
	if err := c.content(idx.Digest, idx.Size); err != nil {
		return nil, err
	}
	text, err := c.unpack(idx.Digest, kind, plain.Size)
	if err != nil || !known || c.Keep == nil {
		return text, err
	}
	if got := kiln.DigestBytes(text); got != plain.Digest {
		return nil, fmt.Errorf("unpacked it has digest %s, signed is %s", got, plain.Digest)
	}
	if err := c.Keep(bytes.NewReader(text), plain.Digest, plain.Size); err != nil {
		return nil, fmt.Errorf("keeping it unpacked: %w", err)
	}
	return text, nil
}

func (c *checker) unpack(d kiln.Digest, kind string, size int64) ([]byte, error) {
	f, err := c.Open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := deb.Decompress(f, kind, maxIndex)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text := bytes.NewBuffer(make([]byte, 0, min(size, maxIndex)+bytes.MinRead))
	if _, err := text.ReadFrom(r); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

// whole reads a cached blob of a known size and compares its digest.
func (c *checker) whole(d kiln.Digest, size int64) ([]byte, error) {
	f, err := c.Open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text := make([]byte, size)
	if _, err := io.ReadFull(f, text); err != nil {
		return nil, err
	}
	if kiln.DigestBytes(text) != d {
		return nil, errors.New("the cached content has another digest")
	}
	return text, nil
}

// eachNamed calls fn with the stanzas of these packages. It is quick because it
// reads no further than each stanza's first line; where a stanza does not begin
// with the package's name, or holds a line of blanks that others take for its
// end, it is not usual, and the caller must parse the whole.
func eachNamed(text []byte, names map[string]bool, fn func(*deb.Package) error) (usual bool, err error) {
	for text = bytes.TrimLeft(text, "\n"); len(text) > 0; text = bytes.TrimLeft(text, "\n") {
		stanza, rest, _ := bytes.Cut(text, []byte("\n\n"))
		first, _, _ := bytes.Cut(stanza, []byte("\n"))
		name, ok := bytes.CutPrefix(first, []byte("Package: "))
		if !ok {
			return false, nil
		}
		text = rest
		if !names[string(bytes.TrimSpace(name))] {
			continue
		}
		p, err := deb.ParsePackage(stanza)
		if err != nil {
			return false, nil
		}
		if err := fn(p); err != nil {
			return true, err
		}
	}
	return true, nil
}
