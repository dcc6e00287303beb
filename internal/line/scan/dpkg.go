package scan

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"
)

// Bounds of the package database.
const (
	maxStatus   = 64 << 20
	maxInfoFile = 32 << 20
	maxLine     = 1 << 20
)

const (
	statusFile = "var/lib/dpkg/status"
	statusDir  = "var/lib/dpkg/status.d/" // one file a package, as distroless images have them
	infoDir    = "var/lib/dpkg/info/"
)

// installed is one package whose files dpkg has put into the tree.
type installed struct {
	name, version, architecture string
	source, sourceVersion       string
	depends                     []string // alternatives as written, one entry for each comma
	provides                    []string
}

// database is what dpkg knows about the tree.
type database struct {
	packages []*installed
	// owner gives the package of a path, once links among directories are followed.
	owner map[string]string
	// leaves are owned paths below which the same package lists nothing: files, links, empty directories.
	leaves map[string]bool
	// sums are the MD5 sums that packages promise for their files; conffiles are not among them.
	sums map[string][16]byte
	// known holds every sum any package ever named, conffiles included.
	known map[[16]byte]bool
	// excluded reports whether dpkg's own configuration keeps a path from being unpacked.
	excluded func(path string) bool
}

// readDatabase reads dpkg's database; a tree without one has no packages.
func readDatabase(root *os.Root, files *table) (*database, error) {
	db := &database{
		owner: map[string]string{}, leaves: map[string]bool{},
		sums: map[string][16]byte{}, known: map[[16]byte]bool{},
	}
	r := &databaseReader{root: root, files: files, db: db}
	for _, step := range []func() error{r.diversions, r.status, r.statusD, r.excludes} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return db, nil
}

type databaseReader struct {
	root  *os.Root
	files *table
	db    *database
	// diverted maps a path to where another package's diversion moved it, by[path] is the diverting package.
	diverted, by map[string]string
}

// optional reads a file that need not exist.
func (r *databaseReader) optional(name string, max int64) ([]byte, error) {
	data, err := r.files.read(r.root, name, max)
	if err != nil && !exists(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", printable(name), err)
	}
	return data, nil
}

// diversions reads dpkg-divert's file: path, new path and package in turn.
func (r *databaseReader) diversions() error {
	text, err := r.optional("var/lib/dpkg/diversions", maxInfoFile)
	if err != nil {
		return err
	}
	r.diverted, r.by = map[string]string{}, map[string]string{}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for i := 0; i+2 < len(lines); i += 3 {
		from := r.files.place(lines[i])
		r.diverted[from], r.by[from] = r.files.place(lines[i+1]), lines[i+2]
	}
	return nil
}

// where returns the place in the tree of a path that a package lists.
func (r *databaseReader) where(pkg, listed string) string {
	at := r.files.place(listed)
	if to, ok := r.diverted[at]; ok && r.by[at] != pkg {
		return to
	}
	return at
}

func (r *databaseReader) status() error {
	text, err := r.optional(statusFile, maxStatus)
	if err != nil {
		return err
	}
	return stanzas(text, func(field map[string]string) error {
		// A package counts as soon as its files are unpacked: half-configured software can be attacked as well.
		switch words := strings.Fields(field["Status"]); {
		case len(words) != 3:
			return fmt.Errorf("%s: package %q has no proper status (%q)", statusFile, clip(field["Package"]), clip(field["Status"]))
		case words[2] == "not-installed", words[2] == "config-files":
			return nil
		}
		p, err := newInstalled(field)
		if err != nil {
			return fmt.Errorf("%s: %w", statusFile, err)
		}
		r.conffiles(field["Conffiles"])
		return r.add(p, infoDir, true)
	})
}

func (r *databaseReader) statusD() error {
	for _, name := range r.files.paths {
		rest, ok := strings.CutPrefix(name, statusDir)
		if !ok || strings.HasSuffix(rest, ".md5sums") || !r.files.entries[name].mode.IsRegular() {
			continue
		}
		text, err := r.files.read(r.root, name, maxStatus)
		if err != nil {
			return fmt.Errorf("reading %s: %w", printable(name), err)
		}
		err = stanzas(text, func(field map[string]string) error {
			p, err := newInstalled(field)
			if err != nil {
				return fmt.Errorf("%s: %w", printable(name), err)
			}
			r.own(p.name, []string{name})
			return r.add(p, statusDir, false)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// add registers a package and the files it lists. Distroless trees have checksums only, which then are the list.
func (r *databaseReader) add(p *installed, dir string, lists bool) error {
	r.db.packages = append(r.db.packages, p)
	base := dir + p.name
	if _, ok := r.files.entries[base+":"+p.architecture+".list"]; ok && lists {
		base += ":" + p.architecture
	}
	sums, err := r.optional(base+".md5sums", maxInfoFile)
	if err != nil {
		return err
	}
	var paths []string
	for line := range strings.Lines(string(sums)) {
		sum, name, ok := strings.Cut(strings.TrimRight(line, "\n"), "  ")
		raw, err := hex.DecodeString(sum)
		if !ok || err != nil || len(raw) != 16 {
			continue
		}
		r.db.sums[r.where(p.name, name)] = [16]byte(raw)
		r.db.known[[16]byte(raw)] = true
		paths = append(paths, name)
	}
	if lists {
		text, err := r.optional(base+".list", maxInfoFile)
		if err != nil {
			return err
		}
		paths = append(paths, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")...)
	}
	r.own(p.name, paths)
	return nil
}

func (r *databaseReader) own(pkg string, paths []string) {
	inner := map[string]bool{}
	for _, listed := range paths {
		at := r.where(pkg, listed)
		if at == "." {
			continue
		}
		r.db.owner[at] = pkg
		for dir := path.Dir(at); dir != "." && !inner[dir]; dir = path.Dir(dir) {
			inner[dir] = true
		}
	}
	for _, listed := range paths {
		if at := r.where(pkg, listed); at != "." && !inner[at] {
			r.db.leaves[at] = true
		}
	}
}

// conffiles notes the sums of configuration files as packages shipped them: a copy of one is still the package's text.
func (r *databaseReader) conffiles(field string) {
	for line := range strings.Lines(field) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		if raw, err := hex.DecodeString(words[1]); err == nil && len(raw) == 16 {
			r.db.known[[16]byte(raw)] = true
		}
	}
}

// excludes reads path-exclude and path-include of dpkg.cfg: the last pattern that matches decides.
func (r *databaseReader) excludes() error {
	type pattern struct {
		form    *regexp.Regexp
		exclude bool
	}
	var all []pattern
	for _, name := range r.files.paths {
		if name != "etc/dpkg/dpkg.cfg" && !strings.HasPrefix(name, "etc/dpkg/dpkg.cfg.d/") || r.files.entries[name].mode.IsDir() {
			continue
		}
		text, err := r.optional(name, 1<<20)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			key := line[:max(strings.IndexAny(line, "= \t"), 0)]
			glob := strings.TrimLeft(line[len(key):], "= \t")
			if key != "path-exclude" && key != "path-include" {
				continue
			}
			form, err := globForm(strings.TrimSpace(glob))
			if err != nil {
				return fmt.Errorf("%s: pattern %q: %w", printable(name), clip(glob), err)
			}
			all = append(all, pattern{form, key == "path-exclude"})
		}
	}
	r.db.excluded = func(name string) bool {
		skip := false
		for _, p := range all {
			if p.form.MatchString("/" + name) {
				skip = p.exclude
			}
		}
		return skip
	}
	return nil
}

// globForm turns dpkg's glob, in which * matches slashes too, into an expression.
func globForm(glob string) (*regexp.Regexp, error) {
	form := regexp.QuoteMeta(glob)
	form = strings.ReplaceAll(form, `\*`, `.*`)
	form = strings.ReplaceAll(form, `\?`, `.`)
	return regexp.Compile("^(?:" + form + ")$")
}

var (
	debName    = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{0,127}$`)
	debVersion = regexp.MustCompile(`^[A-Za-z0-9.+:~-]{1,255}$`)
)

func newInstalled(field map[string]string) (*installed, error) {
	p := &installed{name: field["Package"], version: field["Version"], architecture: field["Architecture"]}
	if !debName.MatchString(p.name) || !debVersion.MatchString(p.version) || !debName.MatchString(p.architecture) {
		return nil, fmt.Errorf("a package entry has no proper name, version and architecture (%q, %q, %q)",
			clip(p.name), clip(p.version), clip(p.architecture))
	}
	p.source, p.sourceVersion = p.name, p.version
	if source := field["Source"]; source != "" {
		name, rest, _ := strings.Cut(source, " ")
		p.source = name
		if v := strings.Trim(rest, "() "); v != "" {
			p.sourceVersion = v
		}
	}
	if !debName.MatchString(p.source) || !debVersion.MatchString(p.sourceVersion) {
		return nil, fmt.Errorf("package %s has no proper source package (%q)", p.name, clip(field["Source"]))
	}
	p.depends = commas(field["Pre-Depends"] + "," + field["Depends"])
	p.provides = commas(field["Provides"])
	return p, nil
}

func commas(field string) []string {
	var out []string
	for part := range strings.SplitSeq(field, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}

// stanzas reads paragraphs of "Field: value" with continuation lines; values keep their line breaks.
func stanzas(text []byte, fn func(map[string]string) error) error {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(make([]byte, 64<<10), maxLine)
	field, name := map[string]string{}, ""
	var value strings.Builder
	endField := func() {
		if name != "" {
			field[name] = value.String()
		}
		name = ""
		value.Reset()
	}
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.TrimSpace(line) == "":
			endField()
			if err := emit(field, fn); err != nil {
				return err
			}
			clear(field)
		case line[0] == ' ' || line[0] == '\t':
			value.WriteString("\n" + strings.TrimSpace(line))
		case line[0] == '#':
		default:
			endField()
			key, first, _ := strings.Cut(line, ":")
			name = key
			value.WriteString(strings.TrimSpace(first))
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading paragraphs: %w", err)
	}
	endField()
	return emit(field, fn)
}

func emit(field map[string]string, fn func(map[string]string) error) error {
	if len(field) == 0 {
		return nil
	}
	return fn(field)
}
