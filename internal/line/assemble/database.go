package assemble

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"kiln/internal/deb"
)

const (
	dpkgDir  = "var/lib/dpkg"
	infoDir  = dpkgDir + "/info"
	maxTable = 64 << 20 // bytes of one file of dpkg's database that is read back
)

// diversion says that the path of all packages but "by" lies at "to". A local diversion is by ":".
type diversion struct{ to, by string }

// readDiversions returns dpkg's diversions by the path they move.
func readDiversions(at *place) (map[string]diversion, error) {
	data, err := readTable(at, dpkgDir+"/diversions")
	if err != nil {
		return nil, err
	}
	out := map[string]diversion{}
	for _, d := range deb.ParseDiversions(data) {
		out[strings.TrimPrefix(d.From, "/")] = diversion{to: strings.TrimPrefix(d.To, "/"), by: d.By}
	}
	return out, nil
}

// readTable reads a file of dpkg's; a missing one is empty.
func readTable(at *place, name string) ([]byte, error) {
	data, err := at.read(name, maxTable)
	if notExist(err) {
		return nil, nil
	}
	return data, err
}

// triggers is dpkg's table of who wants to hear of what: var/lib/dpkg/triggers.
type triggers struct {
	files map[string][]string // path -> packages, with "/noawait" where they do not wait
	named map[string][]string
}

func readTriggers(at *place) (*triggers, error) {
	t := &triggers{files: map[string][]string{}, named: map[string][]string{}}
	data, err := readTable(at, dpkgDir+"/triggers/File")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		if path, by, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			t.files[path] = append(t.files[path], by)
		}
	}
	return t, nil
}

// add reads a package's triggers file (deb-triggers(5)).
func (t *triggers) add(p *pkg) error {
	for line := range strings.Lines(string(p.control["triggers"])) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) != 2 || !strings.HasPrefix(f[0], "interest") {
			continue
		}
		by := p.Name
		if p.meta.MultiArch == "same" {
			by += ":" + p.Architecture
		}
		if f[0] == "interest-noawait" {
			by += "/noawait"
		}
		switch {
		case strings.HasPrefix(f[1], "/"):
			t.files[f[1]] = append(t.files[f[1]], by)
		case strings.ContainsAny(f[1], "/\x00") || f[1] == "File" || f[1] == "Unincorp":
			return fmt.Errorf("package %s: trigger name %.40q", p.Name, f[1])
		default:
			t.named[f[1]] = append(t.named[f[1]], by)
		}
	}
	return nil
}

// write stores the table. Named triggers are files of their own, to which lines are added.
func (t *triggers) write(at *place) error {
	var b bytes.Buffer
	for _, path := range slices.Sorted(maps.Keys(t.files)) {
		for _, by := range t.files[path] {
			fmt.Fprintf(&b, "%s %s\n", path, by)
		}
	}
	if err := at.write(dpkgDir+"/triggers/File", b.Bytes(), 0o644); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(t.named)) {
		file := dpkgDir + "/triggers/" + name
		old, err := readTable(at, file)
		if err != nil {
			return err
		}
		text := string(old) + strings.Join(t.named[name], "\n") + "\n"
		if err := at.write(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// interests are the watched paths, without the slash.
func (t *triggers) interests() []string {
	var out []string
	for path := range t.files {
		out = append(out, strings.TrimPrefix(path, "/"))
	}
	slices.Sort(out)
	return out
}

// pending is triggers/Unincorp: the watched paths that packages have changed.
// "-" says that nobody waits: the packages that hold the files are configured in the same run.
func pending(ps []*pkg) []byte {
	var all []string
	for _, p := range ps {
		for path := range p.fires {
			all = append(all, "/"+path+" -\n")
		}
	}
	slices.Sort(all)
	return []byte(strings.Join(slices.Compact(all), ""))
}

// register writes what dpkg itself would know after unpacking the packages: status, lists, scripts, triggers.
func register(at *place, ps []*pkg, dest func(p *pkg, name string) string) error {
	status, err := readTable(at, dpkgDir+"/status")
	if err != nil {
		return err
	}
	t, err := readTriggers(at)
	if err != nil {
		return err
	}
	for _, p := range ps {
		if err := registerFiles(at, p, func(name string) string { return dest(p, name) }); err != nil {
			return fmt.Errorf("package %s: %w", p.Name, err)
		}
		if err := t.add(p); err != nil {
			return err
		}
		status = append(status, p.stanza()...)
	}
	if err := t.write(at); err != nil {
		return err
	}
	if text := pending(ps); len(text) > 0 {
		if err := at.write(dpkgDir+"/triggers/Unincorp", text, 0o644); err != nil {
			return err
		}
	}
	return at.write(dpkgDir+"/status", status, 0o644)
}

// scripts are the control files that run; all others are data.
var scripts = map[string]bool{"preinst": true, "postinst": true, "prerm": true, "postrm": true, "config": true}

func registerFiles(at *place, p *pkg, dest func(string) string) error {
	stem := infoDir + "/" + p.infoName() + "."
	for _, name := range slices.Sorted(maps.Keys(p.control)) {
		if name == "control" || name == "md5sums" || name == "list" {
			continue
		}
		mode := uint32(0o644)
		if scripts[name] {
			mode = 0o755
		}
		if err := at.write(stem+name, p.control[name], mode); err != nil {
			return err
		}
	}
	if err := at.write(stem+"md5sums", p.md5sums(), 0o644); err != nil {
		return err
	}
	return at.write(stem+"list", p.listing(dest), 0o644)
}

// dependencies are the names that the field needs, every alternative of it.
func dependencies(fields ...string) []string {
	var out []string
	for _, field := range fields {
		groups, err := deb.ParseRelations(field)
		if err != nil {
			continue
		}
		for _, g := range groups {
			for _, r := range g {
				out = append(out, r.Name)
			}
		}
	}
	return out
}
