package harden

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"kiln/internal/deb"
	"kiln/internal/pkgdb"
)

// Places of package databases other than dpkg's own.
var (
	apkDatabases = []string{"lib/apk/db/installed", "usr/lib/apk/db/installed"}
	rpmPlaces    = []string{"var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"}
	rpmFiles     = []string{"rpmdb.sqlite", "Packages.db", "Packages"}
	// unreadable are those that no code here reads.
	unreadable = map[string]string{"var/lib/pacman/local": "pacman's", "var/lib/rpmmanifest": "a list of rpm's", "var/db/pkg": "portage's", "nix/store": "nix's"}
)

const statusDir = "var/lib/dpkg/status.d"

// foreign reads the packages of trees that dpkg does not manage: status.d of
// images without dpkg, apk's and rpm's. Such packages are seen, but cannot be
// removed here. A database that is there and cannot be read makes db.broken.
func (s *Subject) foreign(db *packages) {
	if s.isFile(dpkgStatus) {
		return
	}
	err := errors.Join(s.statusDirectory(db), s.apkPackages(db), s.rpmPackages(db))
	for place, whose := range unreadable {
		if len(db.order) == 0 && s.lookup(place) != nil {
			err = errors.Join(err, fmt.Errorf("its packages are in %s database, which is not read", whose))
		}
	}
	if err != nil {
		db.broken = err
		s.sight.failed(err)
	}
}

// statusDirectory reads one file a package, with the list of its files beside it.
func (s *Subject) statusDirectory(db *packages) error {
	real, ok := s.resolve(statusDir)
	if !ok {
		return nil
	}
	for _, q := range slices.Clone(s.below(real)) {
		if !s.isFile(q) || strings.HasSuffix(q, ".md5sums") {
			continue
		}
		data, err := s.read(q)
		if err != nil {
			return err
		}
		d, err := deb.ParsePackage(data)
		if err != nil {
			return fmt.Errorf("reading /%s: %w", q, err)
		}
		p := &pkg{name: d.Name, arch: d.Architecture, manager: "dpkg without its programs"}
		sums, err := s.read(q + ".md5sums")
		if err != nil && s.isFile(q+".md5sums") {
			return err
		}
		for line := range strings.Lines(string(sums)) {
			if _, file, ok := strings.Cut(strings.TrimRight(line, "\n"), "  "); ok {
				at, _ := s.canonical(file)
				p.files = append(p.files, at)
			}
		}
		db.add(p)
	}
	return nil
}

func (s *Subject) apkPackages(db *packages) error {
	for _, place := range apkDatabases {
		if s.lookup(place) == nil {
			continue
		}
		q, _ := s.resolve(place)
		f, err := s.open(q)
		if err != nil {
			return fmt.Errorf("reading apk's database: %w", err)
		}
		list, err := pkgdb.APK(f)
		f.Close()
		if err != nil {
			return fmt.Errorf("reading apk's database /%s: %w", place, err)
		}
		s.addForeign(db, "apk", list)
		return nil
	}
	return nil
}

func (s *Subject) rpmPackages(db *packages) error {
	for _, dir := range rpmPlaces {
		real, ok := s.resolve(dir)
		if !ok || s.inside[real] == 0 {
			continue
		}
		at := slices.IndexFunc(rpmFiles, func(name string) bool { return s.isFile(path.Join(real, name)) })
		if at < 0 {
			return fmt.Errorf("/%s holds no database of rpm that is known", dir)
		}
		list, err := s.readRPM(path.Join(real, rpmFiles[at]))
		if err != nil {
			return fmt.Errorf("reading rpm's database /%s/%s: %w", dir, rpmFiles[at], err)
		}
		s.addForeign(db, "rpm", list)
		return nil
	}
	return nil
}

func (s *Subject) readRPM(place string) ([]pkgdb.Package, error) {
	q, _ := s.resolve(place)
	f, err := s.open(q)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if e := s.lookup(place + "-wal"); e != nil && e.Size > 0 {
		log, err := s.open(e.Path)
		if err != nil {
			return nil, err
		}
		defer log.Close()
		return pkgdb.RPM(s.context(), f, info.Size(), log)
	}
	return pkgdb.RPM(s.context(), f, info.Size(), nil)
}

func (s *Subject) addForeign(db *packages, manager string, list []pkgdb.Package) {
	for _, f := range list {
		p := &pkg{name: f.Name, arch: f.Arch, provides: f.Provides, manager: manager}
		for _, n := range f.Needs {
			p.needs = append(p.needs, []string{n})
		}
		for _, file := range f.Files {
			q, _ := s.canonical(file)
			p.files = append(p.files, q)
		}
		db.add(p)
	}
}

// refuseForeign says why packages cannot be removed, where another manager's are among them.
func refuseForeign(list []*pkg) error {
	for _, p := range list {
		if p.manager != "" {
			at := dpkgInfo
			if len(p.files) > 0 {
				at = p.files[0]
			}
			return &refusal{path: at, what: fmt.Sprintf("its package %s is one of %s, whose packages are not removed here: make the base image without it", p.name, p.manager)}
		}
	}
	return nil
}

// programDirectories are where programs are looked for, the image's PATH among them.
func (s *Subject) programDirectories() []string {
	all := append(strings.Split(searchPath(s.config), ":"), "usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin", "opt/bin", "usr/games")
	var out []string
	for _, dir := range all {
		if dir == "" {
			continue
		}
		if real, ok := s.resolve(dir); ok && s.index[real].Type == 'd' && !slices.Contains(out, real) {
			out = append(out, real)
		}
	}
	return out
}

// programsNamed returns the programs with one of the names (patterns of base
// names) in the directories of programs, in byte order. A link that leads nowhere is none.
func (s *Subject) programsNamed(names []string) []string {
	var out []string
	for _, dir := range s.programDirectories() {
		for _, name := range names {
			if strings.ContainsAny(name, "*?[") {
				out = append(out, s.programsLike(dir, name)...)
			} else if s.isFile(path.Join(dir, name)) {
				out = append(out, path.Join(dir, name))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (s *Subject) programsLike(dir, pattern string) []string {
	var out []string
	for _, q := range s.below(dir) {
		if path.Dir(q) != dir {
			continue
		}
		if ok, _ := path.Match(pattern, path.Base(q)); ok && s.isFile(q) {
			out = append(out, q)
		}
	}
	return out
}

// loosePrograms are programs with one of the names that do not go with the
// packages, nor stay with those that stay: what no package, or another one, brings.
// Of those that another package brings, taken says which.
func (s *Subject) loosePrograms(names []string, known func(*pkg) bool) (loose []string, taken map[string]string) {
	taken = map[string]string{}
	for _, q := range s.programsNamed(names) {
		target, _ := s.resolve(q)
		owners := append(slices.Clone(s.packages().owners[q]), s.packages().owners[target]...)
		if slices.ContainsFunc(owners, known) || slices.ContainsFunc(owners, func(p *pkg) bool { return s.kept(p.name) || s.lockedRequest(p.name) }) || s.fromRecipe(q) {
			continue
		}
		loose = append(loose, q)
		if own := s.packages().owner(q); own != "" {
			taken[q] = own
		}
	}
	return loose, taken
}

// brokenPackages is why nothing can be said of what packages own, where that was asked.
func (s *Subject) brokenPackages(asked bool) error {
	if !asked {
		return nil
	}
	return s.packages().broken
}
