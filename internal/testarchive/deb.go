// Package testarchive builds signed apt archives for tests, hostile ones too,
// and serves them on loopback with faults.
package testarchive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Package is one .deb.
type Package struct {
	Name    string
	Version string // default "1.0"
	Arch    string // default "amd64"
	// Control are further control fields, each line ended: "Depends: libc6 (>= 2)\nEssential: yes\n".
	Control string
	// Scripts are further control members by name: preinst, postinst, conffiles, triggers ...
	Scripts map[string]string
	Data    []Member
	// Compression of the members control.tar and data.tar: "xz" (default), "gz", "zst", "none".
	Compression string
	// RawData replaces the data member's uncompressed tar, RawControl the control member's.
	RawData, RawControl []byte
	// Deb replaces the whole file; the index describes these bytes.
	Deb []byte
	// Index, when set, changes the package's stanza in Packages after sizes and digests were filled in.
	Index func(stanza string) string
}

// Member is one entry of a tar. What the header leaves out is filled in: type
// by name and link, mode 0644 or 0755, size, time 2025-01-01, owner 0:0 root.
type Member struct {
	tar.Header
	Body string
}

// File is a regular file; paths begin with "./" as dpkg-deb writes them.
func File(path, body string) Member {
	return Member{tar.Header{Name: "./" + path, Typeflag: tar.TypeReg, Mode: 0o644}, body}
}

// Exec is an executable file.
func Exec(path, body string) Member {
	m := File(path, body)
	m.Mode = 0o755
	return m
}

// Dir is a directory.
func Dir(path string) Member {
	return Member{Header: tar.Header{Name: "./" + path + "/", Typeflag: tar.TypeDir, Mode: 0o755}}
}

// Symlink is a symbolic link.
func Symlink(path, target string) Member {
	return Member{Header: tar.Header{Name: "./" + path, Linkname: target, Typeflag: tar.TypeSymlink, Mode: 0o777}}
}

// Hardlink is a hard link to another member.
func Hardlink(path, target string) Member {
	return Member{Header: tar.Header{Name: "./" + path, Linkname: "./" + target, Typeflag: tar.TypeLink, Mode: 0o644}}
}

// Sparse is a file of size bytes that are all holes: a kilobyte of archive.
func Sparse(path string, size int64) Member {
	return Member{Header: tar.Header{Name: "./" + path, Typeflag: tar.TypeReg, Mode: 0o644, Format: tar.FormatPAX, PAXRecords: map[string]string{
		notYetSparse + "numblocks": "1", notYetSparse + "map": "0,0", notYetSparse + "size": strconv.FormatInt(size, 10),
	}}}
}

// notYetSparse stands for "GNU.sparse.", which tar.Writer does not write: Tar puts it in afterwards.
const notYetSparse = "XNU.sparse."

// Hostile is one way in which a .deb attacks who unpacks it.
type Hostile struct {
	Name string // what it tries
	Data []Member
}

// HostileData lists data members that must be refused, or unpacked without
// leaving the tree. Where they succeed, outside gets a file "pwned": use a
// directory beside the tree.
func HostileData(outside string) []Hostile {
	device := tar.Header{Typeflag: tar.TypeBlock, Devmajor: 8, Mode: 0o660}
	char := tar.Header{Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1, Mode: 0o666}
	block, mem := Member{Header: device}, Member{Header: char}
	block.Name, mem.Name = "./dev/sda", "./dev/mem"
	return []Hostile{
		{"path with ..", []Member{raw("../pwned", "x")}},
		{"path with .. inside", []Member{raw("./usr/../../pwned", "x")}},
		{"absolute path", []Member{raw(outside+"/pwned", "x")}},
		{"absolute symlink, then a file through it", []Member{Symlink("var", outside), File("var/pwned", "x")}},
		{"relative symlink upwards, then a file through it", []Member{Dir("usr"), Symlink("usr/up", "../../../../../../../.."+outside), File("usr/up/pwned", "x")}},
		{"symlink, then a file over it", []Member{Symlink("pwned", outside+"/pwned"), File("pwned", "x")}},
		{"hard link to a file outside", []Member{{Header: tar.Header{Name: "./pwned", Linkname: "../../../../../../../../etc/passwd", Typeflag: tar.TypeLink}}, File("pwned", "x")}},
		{"hard link through a symlink", []Member{Symlink("up", "/etc"), Hardlink("shadow", "up/passwd")}},
		{"block device", []Member{block}},
		{"character device", []Member{mem}},
		{"sparse file of a terabyte", []Member{Sparse("usr/hole", 1<<40)}},
		{"name with NUL", []Member{{Header: tar.Header{Name: "./a\x00b", Typeflag: tar.TypeReg}, Body: "x"}}},
	}
}

func raw(name, body string) Member {
	return Member{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, body}
}

// Fields returns the control file.
func (p Package) Fields() string {
	p = p.filled()
	fields := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\n", p.Name, p.Version, p.Arch)
	if !strings.Contains(p.Control, "Maintainer:") {
		fields += "Maintainer: Test <test@example.com>\n"
	}
	fields += p.Control
	if !strings.Contains(p.Control, "Description:") {
		fields += "Description: package of a test\n"
	}
	return fields
}

func (p Package) filled() Package {
	if p.Version == "" {
		p.Version = "1.0"
	}
	if p.Arch == "" {
		p.Arch = "amd64"
	}
	if p.Compression == "" {
		p.Compression = "xz"
	}
	if p.Control != "" && !strings.HasSuffix(p.Control, "\n") {
		p.Control += "\n"
	}
	return p
}

// Build returns the .deb file.
func (p Package) Build() []byte {
	if p.Deb != nil {
		return p.Deb
	}
	p = p.filled()
	control := []Member{Dir("."), File("control", p.Fields())}
	for _, name := range sortedKeys(p.Scripts) {
		m := File(name, p.Scripts[name])
		if strings.HasPrefix(m.Body, "#!") {
			m.Mode = 0o755
		}
		control = append(control, m)
	}
	return Ar(
		ArMember{"debian-binary", []byte("2.0\n")},
		ArMember{"control.tar" + ending(p.Compression), Compress(p.Compression, or(p.RawControl, Tar(control)))},
		ArMember{"data.tar" + ending(p.Compression), Compress(p.Compression, or(p.RawData, Tar(p.Data)))},
	)
}

func or(a, b []byte) []byte {
	if a != nil {
		return a
	}
	return b
}

func ending(compression string) string {
	if compression == "none" {
		return ""
	}
	return "." + compression
}

// Tar packs members as they are, hostile names too.
func Tar(members []Member) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := m.Header
		nul := strings.IndexByte(h.Name, 0)
		if nul >= 0 { // the writer refuses NUL: put it in afterwards
			h.Name = strings.ReplaceAll(h.Name, "\x00", "\x01")
		}
		h.Size = int64(len(m.Body))
		if h.ModTime.IsZero() {
			h.ModTime = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
		}
		if h.Uname == "" && h.Uid == 0 {
			h.Uname, h.Gname = "root", "root"
		}
		check(w.WriteHeader(&h))
		_, err := io.WriteString(w, m.Body)
		check(err)
	}
	check(w.Close())
	out := bytes.ReplaceAll(b.Bytes(), []byte("a\x01b"), []byte("a\x00b"))
	return bytes.ReplaceAll(out, []byte(notYetSparse), []byte("GNU.sparse."))
}

// Compress compresses with "xz", "gz", "zst" or "none".
func Compress(kind string, data []byte) []byte {
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch kind {
	case "none":
		return data
	case "gz":
		w = gzip.NewWriter(&b)
	case "zst":
		w, err = zstd.NewWriter(&b)
	case "xz":
		w, err = xz.WriterConfig{DictCap: 1 << 16}.NewWriter(&b) // the default allocates 8 MiB a file
	default:
		panic("testarchive: no compression " + kind)
	}
	check(err)
	_, err = w.Write(data)
	check(err)
	check(w.Close())
	return b.Bytes()
}

// Bomb returns a .deb of a few MB whose data member holds one file of size
// zero bytes (rounded up to 16 MiB): frames of compressed zeros, repeated.
// Compression is "gz" or "zst".
func Bomb(name, compression string, size int64) []byte {
	const frame = 16 << 20
	n := (size + frame - 1) / frame
	var head bytes.Buffer
	check(tar.NewWriter(&head).WriteHeader(&tar.Header{Name: "./zeros", Typeflag: tar.TypeReg, Mode: 0o644, Size: n * frame, Format: tar.FormatGNU}))
	data := Compress(compression, head.Bytes())
	data = append(data, bytes.Repeat(Compress(compression, make([]byte, frame)), int(n))...)
	data = append(data, Compress(compression, make([]byte, 1024))...)
	p := Package{Name: name, Compression: compression}.filled()
	return Ar(
		ArMember{"debian-binary", []byte("2.0\n")},
		ArMember{"control.tar" + ending(compression), Compress(compression, Tar([]Member{File("control", p.Fields())}))},
		ArMember{"data.tar" + ending(compression), data},
	)
}

// ArMember is a member of an ar archive.
type ArMember struct {
	Name string
	Body []byte
}

// Ar packs members as dpkg-deb does.
func Ar(members ...ArMember) []byte {
	b := []byte("!<arch>\n")
	for _, m := range members {
		b = fmt.Appendf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.Name, 1735689600, 0, 0, "100644", len(m.Body))
		b = append(b, m.Body...)
		if len(m.Body)%2 == 1 {
			b = append(b, '\n')
		}
	}
	return b
}

func check(err error) {
	if err != nil {
		panic("testarchive: " + err.Error())
	}
}
