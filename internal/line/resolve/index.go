package resolve

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"

	"kiln"
	"kiln/internal/atomicfile"
	"kiln/internal/deb"
)

// Bounds of one Packages index. The largest public one unpacks to 60 MB and has 70,000 stanzas.
const (
	maxIndexBytes    = 1 << 30
	maxIndexPackages = 1 << 20
)

// index is a Packages file in a form that can be used without parsing it
// whole: names in the order in which the file first mentions them, and one
// record per package that is decoded when the solver looks at it.
//
// On disk (little endian): magic, CRC-32C of the rest, five counts, then the
// sections below in order. It is a cache: who can change it can make the
// solver choose differently, but not get a package past verification, which
// reads the signed Packages file itself.
type index struct {
	names    []string
	pkgName  []uint32 // record -> name
	pkgFlags []byte   // record -> priority and flags
	pkgEnd   []uint32 // record -> end of its bytes in records
	provides []uint32 // pairs: name, record
	records  []byte
}

const (
	indexMagic    = "kiln-index-3\n"
	flagEssential = 0x10
	flagProtected = 0x20
	priorityMask  = 0x0f
)

// priorities as apt orders them; a package without one counts as extra.
const (
	priorityRequired = 1 + iota
	priorityImportant
	priorityStandard
	priorityOptional
	priorityExtra
)

func priorityOf(s string) byte {
	switch s {
	case "required":
		return priorityRequired
	case "important":
		return priorityImportant
	case "standard":
		return priorityStandard
	case "optional":
		return priorityOptional
	}
	return priorityExtra
}

// indexBuilder makes an index from stanzas.
type indexBuilder struct {
	index
	ids map[string]uint32
}

func (b *indexBuilder) name(s string) uint32 {
	if id, ok := b.ids[s]; ok {
		return id
	}
	s = strings.Clone(s)
	id := uint32(len(b.names))
	b.ids[s] = id
	b.names = append(b.names, s)
	return id
}

// add takes one stanza. The order in which names are seen matters: apt breaks
// ties between providers by it.
func (b *indexBuilder) add(p *deb.Package) error {
	if len(b.pkgName) >= maxIndexPackages || len(b.records) > maxIndexBytes {
		return fmt.Errorf("more than %d packages", maxIndexPackages)
	}
	if p.Filename == "" || p.Size <= 0 || p.SHA256 == "" || p.Architecture == "" {
		return fmt.Errorf("package %s %s has no file name, size, SHA256 or architecture", p.Name, p.Version)
	}
	rec := uint32(len(b.pkgName))
	b.pkgName = append(b.pkgName, b.name(p.Name))
	flags := priorityOf(p.Priority)
	if p.Essential {
		flags |= flagEssential
	}
	if p.Protected {
		flags |= flagProtected
	}
	b.pkgFlags = append(b.pkgFlags, flags)
	for _, field := range []string{p.PreDepends, p.Depends, p.Conflicts, p.Breaks, p.Recommends, p.Suggests, p.Replaces, p.Enhances} {
		b.mention(field, nil)
	}
	b.mention(p.Provides, func(id uint32) { b.provides = append(b.provides, id, rec) })
	b.records = appendRecord(b.records, p)
	b.pkgEnd = append(b.pkgEnd, uint32(len(b.records)))
	return nil
}

// Bytes that may stand before a name in a relation field, and that end one.
var beforeName, afterName = byteSet(" \t\n,|"), byteSet(" \t\n,|(:[<")

func byteSet(s string) (set [256]bool) {
	for i := range len(s) {
		set[s[i]] = true
	}
	return set
}

// mention registers the names in a relation field without parsing it fully.
// A name with an architecture qualifier is another package to apt.
func (b *indexBuilder) mention(field string, fn func(uint32)) {
	for at := 0; at < len(field); {
		for at < len(field) && beforeName[field[at]] {
			at++
		}
		end := at
		for end < len(field) && !afterName[field[end]] {
			end++
		}
		qualified := end < len(field) && field[end] == ':'
		if end > at && (!qualified || fn != nil) {
			id := b.name(field[at:end])
			if fn != nil {
				fn(id)
			}
		}
		for end < len(field) && field[end] != ',' && field[end] != '|' {
			end++
		}
		at = end
	}
}

func recordFields(p *deb.Package) []*string {
	return []*string{
		&p.Version, &p.Architecture, &p.Source, &p.SourceVersion, &p.MultiArch, &p.Filename,
		&p.PreDepends, &p.Depends, &p.Conflicts, &p.Breaks, &p.Recommends, &p.Suggests, &p.Provides,
	}
}

func appendRecord(out []byte, p *deb.Package) []byte {
	for _, f := range recordFields(p) {
		v := *f
		if (f == &p.Source && v == p.Name) || (f == &p.SourceVersion && v == p.Version) {
			v = ""
		}
		out = binary.AppendUvarint(out, uint64(len(v)))
		out = append(out, v...)
	}
	out = binary.AppendUvarint(out, uint64(p.Size))
	return append(out, p.SHA256.Hex()...)
}

// record decodes a package.
func (x *index) record(rec uint32) (*deb.Package, error) {
	start := uint32(0)
	if rec > 0 {
		start = x.pkgEnd[rec-1]
	}
	data := string(x.records[start:x.pkgEnd[rec]])
	p := &deb.Package{Name: x.names[x.pkgName[rec]]}
	for _, f := range recordFields(p) {
		v, rest, ok := cutString(data)
		if !ok {
			return nil, errors.New("the cached index is damaged")
		}
		*f, data = v, rest
	}
	size, n := binary.Uvarint([]byte(data[:min(len(data), binary.MaxVarintLen64)]))
	if n <= 0 || len(data) != n+64 {
		return nil, errors.New("the cached index is damaged")
	}
	digest, err := kiln.ParseDigest(data[n:])
	p.Size, p.SHA256 = int64(size), digest
	if p.Source == "" {
		p.Source = p.Name
	}
	if p.SourceVersion == "" {
		p.SourceVersion = p.Version
	}
	flags := x.pkgFlags[rec]
	p.Essential, p.Protected = flags&flagEssential != 0, flags&flagProtected != 0
	return p, err
}

func cutString(s string) (value, rest string, ok bool) {
	size, n := binary.Uvarint([]byte(s[:min(len(s), binary.MaxVarintLen64)]))
	if n <= 0 || size > uint64(len(s)-n) {
		return "", "", false
	}
	return s[n : n+int(size)], s[n+int(size):], true
}

// buildIndex reads a Packages file; kind is its compression ("", gz, xz, zst).
// Keep, if not nil, reads the unpacked text meanwhile; its error ends the reading.
func buildIndex(r io.Reader, kind string, keep func(io.Reader) error) (*index, error) {
	plain, err := deb.Decompress(r, kind, maxIndexBytes)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	b := &indexBuilder{ids: make(map[string]uint32, 1<<12)}
	pr, pw := io.Pipe()
	unpacked := make(chan struct{})
	go func() { // unpacks while this goroutine parses
		defer close(unpacked)
		_ = pw.CloseWithError(unpackTo(pw, plain, keep))
	}()
	err = deb.ParsePackages(pr, b.add)
	_ = pr.CloseWithError(io.ErrClosedPipe) // ends the unpacking when parsing failed
	<-unpacked
	if err != nil {
		return nil, err
	}
	return &b.index, nil
}

// unpackTo copies plain to w, and to keep beside it.
func unpackTo(w io.Writer, plain io.Reader, keep func(io.Reader) error) error {
	if keep == nil {
		_, err := io.CopyBuffer(onlyWriter{w}, onlyReader{plain}, make([]byte, 1<<18))
		return err
	}
	kr, kw := io.Pipe()
	kept := make(chan error)
	go func() {
		err := keep(kr)
		if err == nil { // it may have the text already, and not have read it
			_, err = io.Copy(io.Discard, kr)
		}
		_ = kr.CloseWithError(err)
		kept <- err
	}()
	_, err := io.CopyBuffer(onlyWriter{io.MultiWriter(kw, w)}, onlyReader{plain}, make([]byte, 1<<18))
	_ = kw.CloseWithError(err)
	if keepErr := <-kept; keepErr != nil && (err == nil || errors.Is(err, keepErr)) {
		return fmt.Errorf("keeping it unpacked: %w", keepErr)
	}
	return err
}

// onlyReader and onlyWriter keep io.Copy to the buffer it was given.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (x *index) encode() []byte {
	var blob strings.Builder
	ends := make([]uint32, len(x.names))
	for i, n := range x.names {
		blob.WriteString(n)
		ends[i] = uint32(blob.Len())
	}
	out := make([]byte, 0, len(x.records)+blob.Len()+12*len(x.names)+64)
	out = append(out, indexMagic...)
	out = append(out, 0, 0, 0, 0)
	for _, n := range []int{len(x.names), len(x.pkgName), len(x.provides), blob.Len(), len(x.records)} {
		out = binary.LittleEndian.AppendUint32(out, uint32(n))
	}
	for _, list := range [][]uint32{ends, x.pkgName, x.pkgEnd, x.provides} {
		for _, v := range list {
			out = binary.LittleEndian.AppendUint32(out, v)
		}
	}
	out = append(out, x.pkgFlags...)
	out = append(out, blob.String()...)
	out = append(out, x.records...)
	return sealIndex(out)
}

// sealIndex writes the checksum of what follows it.
func sealIndex(out []byte) []byte {
	head := len(indexMagic)
	binary.LittleEndian.PutUint32(out[head:], crc32.Checksum(out[head+4:], castagnoli))
	return out
}

// decodeIndex reads what encode wrote; anything else is an error.
func decodeIndex(data []byte) (*index, error) {
	head := len(indexMagic)
	if len(data) < head+24 || string(data[:head]) != indexMagic {
		return nil, errors.New("is no index of this version")
	}
	if crc32.Checksum(data[head+4:], castagnoli) != binary.LittleEndian.Uint32(data[head:]) {
		return nil, errors.New("does not match its checksum")
	}
	var n [5]int
	for i := range n {
		n[i] = int(binary.LittleEndian.Uint32(data[head+4+4*i:]))
	}
	names, pkgs, provides, blob, records := n[0], n[1], n[2], n[3], n[4]
	rest := data[head+24:]
	if len(rest) != 4*(names+2*pkgs+provides)+pkgs+blob+records {
		return nil, errors.New("has another size than it says")
	}
	list := func(n int) []uint32 {
		out := make([]uint32, n)
		for i := range out {
			out[i] = binary.LittleEndian.Uint32(rest[4*i:])
		}
		rest = rest[4*n:]
		return out
	}
	ends := list(names)
	x := &index{pkgName: list(pkgs), pkgEnd: list(pkgs), provides: list(provides)}
	x.pkgFlags, rest = rest[:pkgs], rest[pkgs:]
	text := string(rest[:blob])
	x.records = rest[blob:]
	x.names = make([]string, names)
	start := uint32(0)
	for i, end := range ends {
		if end < start || end > uint32(blob) {
			return nil, errors.New("names overlap")
		}
		x.names[i], start = text[start:end], end
	}
	return x, x.check()
}

// check makes sure that no number in the index leads out of it.
func (x *index) check() error {
	names, pkgs := uint32(len(x.names)), uint32(len(x.pkgName))
	last := uint32(0)
	for i, n := range x.pkgName {
		if n >= names || x.pkgEnd[i] < last || x.pkgEnd[i] > uint32(len(x.records)) {
			return errors.New("records overlap")
		}
		last = x.pkgEnd[i]
	}
	for i := 0; i+1 < len(x.provides); i += 2 {
		if x.provides[i] >= names || x.provides[i+1] >= pkgs {
			return errors.New("provides lead nowhere")
		}
	}
	return nil
}

// loadIndex returns the index of the Packages file with that digest, from the
// cache when it is there; open gives the file itself, and keep stores it unpacked (see buildIndex).
func loadIndex(cacheDir string, digest kiln.Digest, kind string, open func() (io.ReadCloser, error), keep func(io.Reader) error) (*index, error) {
	cached := ""
	if cacheDir != "" {
		cached = filepath.Join(cacheDir, "index", digest.Hex())
		if data, err := os.ReadFile(cached); err == nil {
			if x, err := decodeIndex(data); err == nil {
				return x, nil
			}
		}
	}
	f, err := open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	x, err := buildIndex(f, kind, keep)
	if err != nil {
		return nil, err
	}
	if cached != "" {
		err := atomicfile.Cache(cached, func(w io.Writer) error { _, err := w.Write(x.encode()); return err })
		if err != nil {
			return nil, fmt.Errorf("writing the index cache: %w", err)
		}
	}
	return x, nil
}
