// Package pkgdbtest makes databases of packages for tests.
package pkgdbtest

import (
	"bytes"
	"encoding/binary"
	"path"
	"strings"

	"kiln/internal/pkgdb"
)

// Header is the package as rpm's databases keep it. Version is written with release 1 unless it has one.
func Header(p pkgdb.Package) []byte {
	var index, data bytes.Buffer
	put := func(tag, kind, count uint32, content []byte) {
		for kind == 4 && data.Len()%4 != 0 {
			data.WriteByte(0)
		}
		for _, v := range []uint32{tag, kind, uint32(data.Len()), count} {
			_ = binary.Write(&index, binary.BigEndian, v)
		}
		data.Write(content)
	}
	text := func(tag, kind uint32, list ...string) {
		if len(list) > 0 {
			put(tag, kind, uint32(len(list)), []byte(strings.Join(list, "\x00")+"\x00"))
		}
	}
	version, release, _ := strings.Cut(p.Version, "-")
	text(1000, 6, p.Name)
	text(1001, 6, version)
	text(1002, 6, max(release, "1"))
	text(1022, 6, p.Arch)
	text(1047, 8, p.Provides...)
	text(1049, 8, p.Needs...)
	var dirs, names []string
	var places bytes.Buffer
	for i, f := range p.Files {
		dirs, names = append(dirs, path.Dir("/"+f)+"/"), append(names, path.Base(f))
		_ = binary.Write(&places, binary.BigEndian, uint32(i))
	}
	text(1117, 8, names...)
	text(1118, 8, dirs...)
	if len(names) > 0 {
		put(1116, 4, uint32(len(names)), places.Bytes())
	}
	var out bytes.Buffer
	for _, v := range []int{index.Len() / 16, data.Len()} {
		_ = binary.Write(&out, binary.BigEndian, uint32(v))
	}
	out.Write(index.Bytes())
	out.Write(data.Bytes())
	return out.Bytes()
}

// NDB is a database of rpm's ndb form (Packages.db), of at most 254 packages.
func NDB(packages ...pkgdb.Package) []byte {
	le := binary.LittleEndian
	out := make([]byte, 4096)
	copy(out, "RpmP")
	le.PutUint32(out[12:], 1) // pages of slots
	for i := 32; i < 4096; i += 16 {
		copy(out[i:], "Slot")
	}
	for i, p := range packages {
		raw := Header(p)
		slot := out[32+16*i:]
		le.PutUint32(slot[4:], uint32(i+1))
		le.PutUint32(slot[8:], uint32(len(out)/16))
		blob := make([]byte, 16)
		copy(blob, "BlbS")
		le.PutUint32(blob[4:], uint32(i+1))
		le.PutUint32(blob[12:], uint32(len(raw)))
		out = append(append(out, blob...), raw...)
		for len(out)%16 != 0 {
			out = append(out, 0)
		}
	}
	return out
}

// BDB is a database of rpm's Berkeley DB form (Packages), of few packages.
func BDB(order binary.ByteOrder, packages ...pkgdb.Package) []byte {
	const size = 512
	out := make([]byte, 2*size) // page 0 is about the file, page 1 the hash
	hash := func() []byte { return out[size : 2*size] }
	order.PutUint32(out[12:], 0x00061561)
	order.PutUint32(out[20:], size)
	out[25] = 8
	order.PutUint16(out[size+20:], uint16(2*len(packages)))
	out[size+25] = 13
	for i, p := range packages {
		raw := Header(p)
		at := size - 16*(i+1)
		order.PutUint16(hash()[26+4*i:], uint16(at))
		order.PutUint16(hash()[28+4*i:], uint16(at))
		hash()[at] = 3
		order.PutUint32(hash()[at+4:], uint32(len(out)/size))
		order.PutUint32(hash()[at+8:], uint32(len(raw)))
		for len(raw) > 0 {
			page := make([]byte, size)
			n := copy(page[26:], raw)
			raw = raw[n:]
			page[25] = 7
			order.PutUint16(page[22:], uint16(n))
			if len(raw) > 0 {
				order.PutUint32(page[16:], uint32(len(out)/size+1))
			}
			out = append(out, page...)
		}
	}
	order.PutUint32(out[32:], uint32(len(out)/size-1))
	return out
}
