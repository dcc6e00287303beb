package assemble

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"kiln"
	"kiln/internal/deb"
)

// pkg is one package on its way into the tree.
type pkg struct {
	kiln.LockedPackage
	index   int               // in the lock
	control map[string][]byte // control.tar
	meta    *deb.Package
	built   int64           // Unix seconds
	confs   map[string]bool // configuration files, as shipped, without the slash

	// What unpacking found; written by the one worker that unpacks the package.
	list  []string          // every path as shipped
	sums  map[string]string // MD5 of configuration files, or of all files when the package has no md5sums
	fires map[string]bool   // watched paths that it holds
	// lost and won are destinations that a replacing package took or that this one took; guarded by claims.
	lost, won map[string]bool
}

func newPkg(l kiln.LockedPackage, index int) *pkg {
	return &pkg{LockedPackage: l, index: index, sums: map[string]string{}, fires: map[string]bool{}, lost: map[string]bool{}, won: map[string]bool{}}
}

// reset forgets what an undone unpacking found.
func (p *pkg) reset() {
	p.list, p.sums, p.fires, p.lost, p.won = nil, map[string]string{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
}

// take reads control.tar and checks that the .deb is the package that the lock names.
func (p *pkg) take(a *deb.Archive) error {
	files, err := a.Control()
	if err != nil {
		return err
	}
	meta, err := deb.ParsePackage(files["control"])
	if err != nil {
		return fmt.Errorf("reading control: %w", err)
	}
	if meta.Name != p.Name || meta.Version != p.Version || meta.Architecture != p.Architecture {
		return fmt.Errorf("the .deb is %s %s %s, the lock says %s %s %s",
			meta.Name, meta.Version, meta.Architecture, p.Name, p.Version, p.Architecture)
	}
	p.built = a.Date
	p.control, p.meta, p.confs = files, meta, conffiles(files["conffiles"])
	return nil
}

// conffiles reads the control file of that name; lines with flags ("remove-on-upgrade") name files that are not there.
func conffiles(text []byte) map[string]bool {
	out := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "/"); ok {
			out[name] = true
		}
	}
	return out
}

// wantsSum says whether dpkg's database needs the MD5 of a file.
func (p *pkg) wantsSum(name string) bool {
	return p.control["md5sums"] == nil || p.confs[name]
}

// infoName is the stem of the package's files below var/lib/dpkg/info.
func (p *pkg) infoName() string {
	if p.meta.MultiArch == "same" {
		return p.Name + ":" + p.Architecture
	}
	return p.Name
}

// preinst returns the script that runs before unpacking, nil when there is none or when it does nothing on a first installation.
func (p *pkg) preinst() []byte {
	script := p.control["preinst"]
	if script == nil || inert(script) {
		return nil
	}
	return script
}

// stanza is the package's entry in dpkg's status file, in the state "unpacked".
func (p *pkg) stanza() []byte {
	var b bytes.Buffer
	for line := range strings.Lines(string(bytes.TrimSpace(p.control["control"]))) {
		b.WriteString(strings.TrimRight(line, "\r\n") + "\n")
		if strings.HasPrefix(strings.ToLower(line), "package:") {
			b.WriteString("Status: install ok unpacked\n")
		}
	}
	if list := p.conffileLines(); list != "" {
		b.WriteString("Conffiles:\n" + list)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// conffileLines are the lines of status's Conffiles field: path and MD5. A file
// that the package wants removed on upgrade has no MD5; dpkg notes it so.
func (p *pkg) conffileLines() string {
	var b strings.Builder
	for line := range strings.Lines(string(p.control["conffiles"])) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "remove-on-upgrade "); ok {
			fmt.Fprintf(&b, " %s newconffile remove-on-upgrade\n", strings.TrimSpace(name))
		} else if sum, ok := p.sums[strings.TrimPrefix(line, "/")]; ok {
			fmt.Fprintf(&b, " %s %s\n", line, sum)
		}
	}
	return b.String()
}

// listing is info/NAME.list: every path that the package still owns.
func (p *pkg) listing(dest func(string) string) []byte {
	var b bytes.Buffer
	for _, name := range p.list {
		if name != "." && p.lost[dest(name)] {
			continue
		}
		b.WriteString("/" + name + "\n")
	}
	return b.Bytes()
}

// md5sums is info/NAME.md5sums, made here when the package has none, as dpkg does.
func (p *pkg) md5sums() []byte {
	if text := p.control["md5sums"]; text != nil {
		return text
	}
	var b bytes.Buffer
	for _, name := range p.list {
		if sum, ok := p.sums[name]; ok && !p.confs[name] {
			fmt.Fprintf(&b, "%s  %s\n", sum, name)
		}
	}
	return b.Bytes()
}

// opened is a .deb with its file.
type opened struct {
	*deb.Archive
	f *os.File
}

func (o opened) Close() error { return o.f.Close() }

func openDeb(f *os.File) (opened, error) {
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return opened{}, err
	}
	a, err := deb.OpenArchive(f, st.Size())
	if err != nil {
		f.Close()
		return opened{}, err
	}
	return opened{a, f}, nil
}
