package pkgdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
)

// Tags of an rpm header that are read, and the types that they have.
const (
	tagName        = 1000
	tagVersion     = 1001
	tagRelease     = 1002
	tagEpoch       = 1003
	tagArch        = 1022
	tagOldNames    = 1027
	tagProvideName = 1047
	tagRequireName = 1049
	tagDirIndexes  = 1116
	tagBaseNames   = 1117
	tagDirNames    = 1118

	typeInt32       = 4
	typeString      = 6
	typeStringArray = 8
	typeI18N        = 9
)

// header is an rpm header as the database keeps it: an index of tags, and the data that they point into.
type header struct {
	index map[uint32]entry
	data  []byte
}

type entry struct{ kind, offset, count uint32 }

// parseHeader reads the form "entries, bytes, index, data", all big endian.
func parseHeader(raw []byte) (*header, error) {
	if len(raw) < 8 {
		return nil, errors.New("a header is cut")
	}
	entries, size := binary.BigEndian.Uint32(raw), binary.BigEndian.Uint32(raw[4:])
	if want := 8 + 16*uint64(entries) + uint64(size); entries == 0 || want > uint64(len(raw)) {
		return nil, fmt.Errorf("a header of %d bytes says that it has %d entries and %d bytes", len(raw), entries, size)
	}
	h := &header{index: make(map[uint32]entry, min(entries, 200)), data: raw[8+16*entries:][:size]}
	for i := range entries {
		at := raw[8+16*i:]
		tag := binary.BigEndian.Uint32(at)
		h.index[tag] = entry{binary.BigEndian.Uint32(at[4:]), binary.BigEndian.Uint32(at[8:]), binary.BigEndian.Uint32(at[12:])}
	}
	return h, nil
}

// strings returns the texts of a tag; none where it is missing.
func (h *header) strings(tag uint32) ([]string, error) {
	e, ok := h.index[tag]
	if !ok {
		return nil, nil
	}
	if e.kind != typeString && e.kind != typeStringArray && e.kind != typeI18N {
		return nil, fmt.Errorf("tag %d is no text", tag)
	}
	if uint64(e.offset) > uint64(len(h.data)) {
		return nil, fmt.Errorf("tag %d lies outside its header", tag)
	}
	rest := h.data[e.offset:]
	if uint64(e.count) > uint64(len(rest)) { // every text takes a byte at least
		return nil, fmt.Errorf("tag %d has more texts than its header has bytes", tag)
	}
	out := make([]string, 0, e.count)
	for range e.count {
		end := bytes.IndexByte(rest, 0)
		if end < 0 {
			return nil, fmt.Errorf("tag %d does not end", tag)
		}
		out = append(out, string(rest[:end]))
		rest = rest[end+1:]
	}
	return out, nil
}

func (h *header) text(tag uint32) (string, error) {
	all, err := h.strings(tag)
	if err != nil || len(all) == 0 {
		return "", err
	}
	return all[0], nil
}

func (h *header) numbers(tag uint32) ([]uint32, error) {
	e, ok := h.index[tag]
	if !ok {
		return nil, nil
	}
	if e.kind != typeInt32 || uint64(e.offset)+4*uint64(e.count) > uint64(len(h.data)) {
		return nil, fmt.Errorf("tag %d is no list of numbers in its header", tag)
	}
	out := make([]uint32, e.count)
	for i := range out {
		out[i] = binary.BigEndian.Uint32(h.data[int(e.offset)+4*i:])
	}
	return out, nil
}

// files joins base names with the directories that they are in.
func (h *header) files() ([]string, error) {
	names, err := h.strings(tagBaseNames)
	dirs, err2 := h.strings(tagDirNames)
	places, err3 := h.numbers(tagDirIndexes)
	old, err4 := h.strings(tagOldNames)
	if err := errors.Join(err, err2, err3, err4); err != nil {
		return nil, err
	}
	if len(places) != len(names) {
		return nil, fmt.Errorf("%d names of files in %d places", len(names), len(places))
	}
	out := make([]string, 0, len(names)+len(old))
	for i, name := range names {
		if int64(places[i]) >= int64(len(dirs)) {
			return nil, errors.New("a file is in a directory that is not listed")
		}
		out = append(out, relative(path.Join(dirs[places[i]], name)))
	}
	for _, p := range old { // packages of long ago list whole paths
		out = append(out, relative(p))
	}
	return out, nil
}

// decode reads the package that a header describes.
func decode(raw []byte) (*Package, error) {
	h, err := parseHeader(raw)
	if err != nil {
		return nil, err
	}
	p := &Package{}
	var version, release string
	for tag, into := range map[uint32]*string{tagName: &p.Name, tagVersion: &version, tagRelease: &release, tagArch: &p.Arch} {
		if *into, err = h.text(tag); err != nil {
			return nil, err
		}
	}
	if p.Name == "" {
		return nil, errors.New("a package has no name")
	}
	epoch, err := h.numbers(tagEpoch)
	if err != nil {
		return nil, err
	}
	p.Version = version + "-" + release
	if len(epoch) > 0 && epoch[0] != 0 {
		p.Version = fmt.Sprintf("%d:%s", epoch[0], p.Version)
	}
	if p.Provides, err = h.strings(tagProvideName); err != nil {
		return nil, err
	}
	if p.Needs, err = h.strings(tagRequireName); err != nil {
		return nil, err
	}
	p.Files, err = h.files()
	return p, err
}
