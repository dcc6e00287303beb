package target

import (
	"errors"
	"io"
	"os"
	"strings"
)

func firstBytes(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 72<<10)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", err
	}
	return string(head[:n]), nil
}

func looksLikeTar(head string) bool { return len(head) > 262 && head[257:262] == "ustar" }

// looksLikeDisk knows partition tables, and file systems that fill the whole image.
func looksLikeDisk(head string) bool {
	return strings.HasPrefix(head, "QFI\xfb") || len(head) >= 512 && head[510:512] == "\x55\xaa" || filesystem(head) != ""
}

// filesystem names the file system that begins with these bytes, or nothing.
func filesystem(head string) string {
	at := func(offset int, magic string) bool {
		return len(head) >= offset+len(magic) && head[offset:offset+len(magic)] == magic
	}
	switch {
	case at(1024+0x38, "\x53\xef"):
		return "ext4"
	case at(0, "XFSB"):
		return "xfs"
	case at(0x10040, "_BHRfS_M"):
		return "btrfs"
	case at(0, "hsqs"):
		return "squashfs"
	case at(1024, "\xe2\xe1\xf5\xe0"):
		return "erofs"
	case at(0x52, "FAT32"), at(0x36, "FAT"):
		return "vfat"
	}
	return ""
}
