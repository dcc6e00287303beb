package target

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// partition is a part of a disk, or all of it.
type partition struct {
	number       int // from 1; 0 is the whole disk
	offset, size int64
	id           string // of the partition (PARTUUID), lower case
	kind         string // its file system; "" where none is known
	uuid, label  string // of the file system
}

func (p partition) String() string {
	if p.number == 0 {
		return "the disk"
	}
	return fmt.Sprintf("partition %d", p.number)
}

const (
	sector     = 512
	maxEntries = 128      // of a partition table
	probed     = 72 << 10 // bytes at the beginning of a partition that name its file system
)

// partitions reads the partition table of a disk; without one the disk is one file system.
func partitions(f io.ReaderAt, size int64) ([]partition, error) {
	whole := partition{size: size}
	if whole.look(f); whole.kind != "" && whole.kind != "swap" {
		return []partition{whole}, nil
	}
	head := make([]byte, 2*sector)
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("reading the partition table: %w", err)
	}
	list, err := gpt(f, head[sector:])
	if err == nil && list == nil && string(head[510:512]) == "\x55\xaa" {
		list = mbr(head)
	}
	if err != nil {
		return nil, err
	}
	var out []partition
	for _, p := range list {
		if p.offset <= 0 || p.size <= 0 || p.offset > size || p.size > size-p.offset {
			return nil, fmt.Errorf("%s lies outside of the disk", p)
		}
		p.look(f)
		out = append(out, p)
	}
	if len(out) == 0 {
		return nil, errors.New("it has no partitions and no file system that is known (ext4, xfs, btrfs, vfat, squashfs, erofs)")
	}
	return out, nil
}

// gpt reads a GUID partition table, if head is its header.
func gpt(f io.ReaderAt, head []byte) ([]partition, error) {
	if string(head[:8]) != "EFI PART" {
		return nil, nil
	}
	le := binary.LittleEndian
	at, count, each := le.Uint64(head[72:]), le.Uint32(head[80:]), le.Uint32(head[84:])
	if at == 0 || at > 1<<40 || count > maxEntries || each < 128 || each > 4096 {
		return nil, fmt.Errorf("its partition table has %d entries of %d bytes, which no real one has", count, each)
	}
	table := make([]byte, int(count)*int(each))
	if _, err := f.ReadAt(table, int64(at)*sector); err != nil {
		return nil, fmt.Errorf("reading the partition table: %w", err)
	}
	var out []partition
	for i := range int(count) {
		e := table[i*int(each):][:128]
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if strings.Trim(string(e[:16]), "\x00") == "" {
			continue
		}
		if first > last || last > 1<<40 {
			return nil, fmt.Errorf("partition %d lies outside of the disk", i+1)
		}
		out = append(out, partition{number: i + 1, offset: int64(first) * sector, size: int64(last-first+1) * sector, id: mixedGUID(e[16:32])})
	}
	return out, nil
}

// mbr reads the four primary partitions of an old partition table.
func mbr(head []byte) []partition {
	le := binary.LittleEndian
	disk := le.Uint32(head[440:])
	var out []partition
	for i := range 4 {
		e := head[446+16*i:][:16]
		if e[4] == 0 {
			continue
		}
		out = append(out, partition{
			number: i + 1, offset: int64(le.Uint32(e[8:])) * sector, size: int64(le.Uint32(e[12:])) * sector, id: fmt.Sprintf("%08x-%02x", disk, i+1),
		})
	}
	return out
}

// mixedGUID writes a GUID, whose first three parts are little-endian.
func mixedGUID(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

// look finds out which file system a partition holds, and what it is called.
func (p *partition) look(f io.ReaderAt) {
	head := make([]byte, min(probed, p.size))
	n, err := f.ReadAt(head, p.offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return
	}
	text := string(head[:n])
	p.kind = filesystem(text)
	cut := func(at, n int) []byte {
		if len(text) < at+n {
			return make([]byte, n)
		}
		return []byte(text[at : at+n])
	}
	name := func(at, n int) string { return strings.TrimRight(string(cut(at, n)), "\x00 ") }
	switch p.kind {
	case "ext4":
		p.uuid, p.label = plainUUID(cut(1024+0x68, 16)), name(1024+0x78, 16)
	case "xfs":
		p.uuid, p.label = plainUUID(cut(32, 16)), name(108, 12)
	case "btrfs":
		p.uuid, p.label = plainUUID(cut(0x10020, 16)), name(0x1012b, 256)
	case "vfat":
		at := 0x27
		if len(text) > 0x57 && text[0x52:0x57] == "FAT32" {
			at = 0x43
		}
		v := binary.LittleEndian.Uint32(cut(at, 4))
		p.uuid, p.label = fmt.Sprintf("%04x-%04x", v>>16, v&0xffff), name(at+4, 11)
	}
}

func plainUUID(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// is tells whether a device as fstab names it is this partition.
func (p partition) is(device string) bool {
	key, value, _ := strings.Cut(device, "=")
	value = strings.ToLower(strings.Trim(value, `"`))
	switch key {
	case "UUID":
		return value != "" && value == p.uuid
	case "PARTUUID":
		return value != "" && value == p.id
	case "LABEL":
		return value != "" && value == strings.ToLower(p.label)
	}
	return false
}

// checkSize returns a disk's size: a file's, or a block device's.
func checkSize(f *os.File) (int64, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil && size < 2*sector {
		err = errors.New("it is too small for a disk")
	}
	return size, err
}
