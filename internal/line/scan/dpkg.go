package scan

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"

	"kiln/internal/deb"
)

// Bounds of the package database.
const (
	maxStatus   = 64 << 20
	maxInfoFile = 32 << 20
)

const (
	statusFile = "var/lib/dpkg/status"
	statusDir  = "var/lib/dpkg/status.d/" // one file a package, as distroless images have them
	infoDir    = "var/lib/dpkg/info/"
)

// database is what dpkg knows about the tree.
type database struct {
	packages []*deb.Package
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

// diversions notes what dpkg-divert has moved.
func (r *databaseReader) diversions() error {
	text, err := r.optional("var/lib/dpkg/diversions", maxInfoFile)
	if err != nil {
		return err
	}
	r.diverted, r.by = map[string]string{}, map[string]string{}
	for _, d := range deb.ParseDiversions(text) {
		from := r.files.place(d.From)
		r.diverted[from], r.by[from] = r.files.place(d.To), d.By
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
	return readPackages(statusFile, text, func(p *deb.Package) error {
		// A package counts as soon as its files are unpacked: half-configured software can be attacked as well.
		switch words := strings.Fields(p.Status); {
		case len(words) != 3:
			return fmt.Errorf("package %s has no proper status (%q)", p.Name, clip(p.Status))
		case words[2] == "not-installed", words[2] == "config-files":
			return nil
		}
		r.conffiles(p.Conffiles)
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
		err = readPackages(name, text, func(p *deb.Package) error {
			r.own(p.Name, []string{name})
			return r.add(p, statusDir, false)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readPackages calls fn with each package of a status file.
func readPackages(name string, text []byte, fn func(*deb.Package) error) error {
	err := deb.ParsePackages(bytes.NewReader(text), fn)
	if err != nil {
		return fmt.Errorf("reading %s: %w", printable(name), err)
	}
	return nil
}

// add registers a package and the files it lists. Distroless trees have checksums only, which then are the list.
func (r *databaseReader) add(p *deb.Package, dir string, lists bool) error {
	if err := identified(p); err != nil {
		return err
	}
	r.db.packages = append(r.db.packages, p)
	base := dir + p.Name
	if _, ok := r.files.entries[base+":"+p.Architecture+".list"]; ok && lists {
		base += ":" + p.Architecture
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
		r.db.sums[r.where(p.Name, name)] = [16]byte(raw)
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
	r.own(p.Name, paths)
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

// identified checks what the bill says of a package beyond what every stanza must have: these names go into
// package URLs, and the source is what advisories are looked up by.
func identified(p *deb.Package) error {
	if err := deb.ValidateName(p.Architecture); err != nil {
		return fmt.Errorf("package %s has no proper architecture (%q)", p.Name, clip(p.Architecture))
	}
	if deb.ValidateName(p.Source) != nil || deb.ValidateVersion(p.SourceVersion) != nil {
		return fmt.Errorf("package %s has no proper source package (%q, %q)", p.Name, clip(p.Source), clip(p.SourceVersion))
	}
	return nil
}

func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}
