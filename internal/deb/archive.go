package deb

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"kiln/internal/tree"
)

// Bounds of a .deb. The largest control.tar in a public archive unpacks to
// about 10 MB. Data may unpack to ratioLimit times its packed size beyond
// dataFloor: ten gigabytes of zeros pack a thousand to one, real files do not.
const (
	maxControlBytes = 64 << 20
	maxControlFiles = 4096
	dataFloor       = 64 << 20
	ratioLimit      = 250
	maxData         = 16 << 30
	arHeader        = 60
	arMagic         = "!<arch>\n"
)

// Archive is an opened .deb, deb(5) format 2.x. It reads the file only when asked.
type Archive struct {
	// Date is when the package was built, Unix seconds, as its ar header says; 0 if it does not.
	Date int64

	control, data member
}

type member struct {
	name string
	kind string // of compression
	date int64
	body *io.SectionReader
}

// OpenArchive reads the ar structure of a .deb of size bytes: the members
// debian-binary, control.tar and data.tar, in that order, each of the tars
// plain or packed with gzip, xz or zstd. Members whose name begins with "_" are
// skipped, as deb(5) wants. Anything else is an error.
func OpenArchive(f io.ReaderAt, size int64) (*Archive, error) {
	magic := make([]byte, len(arMagic))
	if _, err := f.ReadAt(magic, 0); err != nil || string(magic) != arMagic {
		return nil, errors.New("not a .deb: the file does not begin as an ar archive")
	}
	r := &arReader{f: f, at: int64(len(arMagic)), size: size}
	version, err := r.next()
	if err != nil {
		return nil, fmt.Errorf("reading .deb: %w", err)
	}
	if err := checkFormat(version); err != nil {
		return nil, fmt.Errorf("reading .deb: %w", err)
	}
	a := &Archive{Date: version.date}
	if a.control, err = r.tar("control.tar"); err != nil {
		return nil, fmt.Errorf("reading .deb: %w", err)
	}
	if a.data, err = r.tar("data.tar"); err != nil {
		return nil, fmt.Errorf("reading .deb: %w", err)
	}
	return a, nil
}

func checkFormat(m member) error {
	if m.name != "debian-binary" {
		return fmt.Errorf("the first member is %.20q, not debian-binary", m.name)
	}
	text := make([]byte, min(m.body.Size(), 16))
	if _, err := io.ReadFull(m.body, text); err != nil {
		return fmt.Errorf("reading debian-binary: %w", err)
	}
	if !strings.HasPrefix(string(text), "2.") {
		return fmt.Errorf("format version %.8q is not supported, 2.0 is", strings.TrimSpace(string(text)))
	}
	return nil
}

type arReader struct {
	f        io.ReaderAt
	at, size int64
}

// tar returns the next member that is not private ("_..."), which must be the tar called want.
func (r *arReader) tar(want string) (member, error) {
	for range 64 {
		m, err := r.next()
		if err != nil {
			return m, fmt.Errorf("looking for %s: %w", want, err)
		}
		if strings.HasPrefix(m.name, "_") {
			continue
		}
		ending, ok := strings.CutPrefix(m.name, want)
		if !ok || (ending != "" && ending[0] != '.') {
			return m, fmt.Errorf("found member %.20q where %s must stand", m.name, want)
		}
		m.kind = strings.TrimPrefix(ending, ".")
		switch m.kind {
		case "", "gz", "xz", "zst", "s2":
			return m, nil
		}
		return m, fmt.Errorf("member %.20q: compression %.8q is not supported (none, gz, xz, zst are)", m.name, m.kind)
	}
	return member{}, fmt.Errorf("looking for %s: too many private members", want)
}

func (r *arReader) next() (member, error) {
	var h [arHeader]byte
	if _, err := r.f.ReadAt(h[:], r.at); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return member{}, fmt.Errorf("reading ar header at byte %d: %w", r.at, err)
	}
	if h[58] != '`' || h[59] != '\n' {
		return member{}, fmt.Errorf("damaged ar header at byte %d", r.at)
	}
	name := strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/")
	n, err := strconv.ParseInt(strings.TrimRight(string(h[48:58]), " "), 10, 64)
	if err != nil || n < 0 || n > r.size-r.at-arHeader {
		return member{}, fmt.Errorf("ar member %.20q at byte %d: its size %.10q does not fit into the file", name, r.at, h[48:58])
	}
	date, err := strconv.ParseInt(strings.TrimRight(string(h[16:28]), " "), 10, 64)
	if err != nil || date < 0 {
		date = 0
	}
	m := member{name: name, date: date, body: io.NewSectionReader(r.f, r.at+arHeader, n)}
	r.at += arHeader + n + n%2
	return m, nil
}

// Control returns the files of control.tar by name: "control", "conffiles",
// "preinst" and so on. Directories, links and names with a slash are errors.
func (a *Archive) Control() (map[string][]byte, error) {
	r, err := a.ControlTar()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	files := map[string][]byte{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", a.control.name, err)
		}
		if err := addControl(files, h, tr); err != nil {
			return nil, fmt.Errorf("reading %s: %w", a.control.name, err)
		}
	}
	if files["control"] == nil {
		return nil, fmt.Errorf("reading %s: it holds no control file", a.control.name)
	}
	return files, nil
}

func addControl(files map[string][]byte, h *tar.Header, body io.Reader) error {
	name := path.Clean(h.Name)
	if h.Typeflag == tar.TypeDir && (name == "." || name == "/") {
		return nil
	}
	if h.Typeflag != tar.TypeReg || name == ".." || strings.ContainsAny(name, "/\n\x00") {
		return fmt.Errorf("member %.60q is not a plain file at the top", h.Name)
	}
	if err := tree.CheckDense(h); err != nil {
		return fmt.Errorf("member %.60q: %w", h.Name, err)
	}
	if len(files) >= maxControlFiles {
		return fmt.Errorf("more than %d files", maxControlFiles)
	}
	if _, twice := files[name]; twice {
		return fmt.Errorf("member %.60q stands twice", h.Name)
	}
	var b bytes.Buffer
	if _, err := io.Copy(&b, body); err != nil {
		return fmt.Errorf("%.60q: %w", h.Name, err)
	}
	files[name] = b.Bytes()
	return nil
}

// Data returns the unpacked data.tar stream. It ends with ErrTooLarge when it
// unpacks to far more than its packed size allows (64 MiB plus 250 times that,
// at most 16 GiB).
func (a *Archive) Data() (io.ReadCloser, error) {
	return a.data.open(min(maxData, dataFloor+ratioLimit*a.data.body.Size()))
}

// ControlTar returns the unpacked control.tar stream.
func (a *Archive) ControlTar() (io.ReadCloser, error) { return a.control.open(maxControlBytes) }

func (m member) open(limit int64) (io.ReadCloser, error) {
	if _, err := m.body.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	r, err := Decompress(m.body, m.kind, limit)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", m.name, err)
	}
	return r, nil
}

// ArMagic begins every .deb.
const ArMagic = arMagic

// WriteHeader writes the 60 bytes that stand before a member of size bytes.
func WriteHeader(w io.Writer, name string, date, size int64) error {
	_, err := fmt.Fprintf(w, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", name, date, 0, 0, 0o100644, size)
	return err
}

// WriteMember writes one ar member of a .deb: its header, the content of size
// bytes, and the padding. The first member stands behind ArMagic.
func WriteMember(w io.Writer, name string, date, size int64, content io.Reader) error {
	if err := WriteHeader(w, name, date, size); err != nil {
		return err
	}
	if _, err := io.CopyN(w, content, size); err != nil {
		return fmt.Errorf("writing member %s: %w", name, err)
	}
	if size%2 == 1 {
		_, err := io.WriteString(w, "\n")
		return err
	}
	return nil
}
