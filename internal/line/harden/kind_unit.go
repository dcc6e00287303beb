package harden

import (
	"errors"
	"path"
	"slices"
	"strings"

	"kiln/internal/tree"
)

// unitParams: systemd units by name, with the type.
type unitParams struct {
	Names []string `json:"names"`
	// Package is what the units come in; it is named where they are missing.
	Package string `json:"package"`
}

func (p unitParams) check() error {
	if len(p.Names) == 0 {
		return errors.New("names needs at least one unit")
	}
	for _, n := range p.Names {
		if path.Base(n) != n || path.Ext(n) == "" || strings.ContainsAny(n, " \n") {
			return errors.New("a name is a unit with its type, such as cron.service")
		}
	}
	return nil
}

const unitConfig = "etc/systemd/system"

// unitDirs are searched in this order; a name in an earlier one hides the later ones.
var unitDirs = []string{unitConfig, "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"}

// unit finds the entry that decides about a unit, not followed; nil where it is not installed.
func (s *Subject) unit(name string) *tree.Entry {
	for _, dir := range unitDirs {
		if q, ok := s.canonical(dir + "/" + name); ok {
			return s.index[q]
		}
	}
	return nil
}

func (s *Subject) masked(e *tree.Entry) bool {
	return e.Type == 'l' && e.Link == "/dev/null" || e.Type == 'f' && e.Size == 0
}

// workload reports whether the recipe asks for the package that a unit comes in.
func (s *Subject) workload(e *tree.Entry) string {
	if name := s.packages().owner(e.Path); name != "" && s.requested(name) {
		return name
	}
	return ""
}

func maskedState(s *Subject, p unitParams) (Observation, error) {
	var open, asked []string
	for _, name := range p.Names {
		e := s.unit(name)
		if e == nil || s.masked(e) {
			continue
		}
		if why := s.workload(e); why != "" {
			asked = append(asked, why)
			continue
		}
		if strings.HasPrefix(e.Path, unitConfig+"/") {
			return blocked(name+" is not masked", "/"+e.Path+" is the site's own unit, which masking would replace: remove it"), nil
		}
		open = append(open, name)
	}
	switch {
	case len(open) > 0:
		return bad(list(open) + ": not masked"), nil
	case len(asked) > 0:
		return absent("the recipe asks for " + list(asked)), nil
	}
	return good("masked or not installed"), nil
}

func maskedApply(s *Subject, p unitParams) error {
	for _, name := range p.Names {
		e := s.unit(name)
		if e == nil || s.masked(e) || s.workload(e) != "" {
			continue
		}
		if err := s.mkdirs(unitConfig); err != nil {
			return err
		}
		dir, _ := s.resolve(unitConfig)
		if err := s.link(dir+"/"+name, "/dev/null"); err != nil {
			return err
		}
	}
	return nil
}

// enablement is where links must stand so that a unit starts.
type enablement struct{ link, target string }

// links reads the [Install] section; none means that the unit is started by others.
func (s *Subject) links(e *tree.Entry) ([]enablement, error) {
	lines, err := s.confLines(e.Path)
	if err != nil {
		return nil, err
	}
	name, section, out := path.Base(e.Path), "", []enablement{}
	for i, line := range lines {
		t := strings.TrimSpace(line)
		if strings.HasPrefix(t, "[") {
			section = t
		}
		key, value, ok := strings.Cut(t, "=")
		if section != "[Install]" || !ok || strings.HasPrefix(t, "#") {
			continue
		}
		suffix := map[string]string{"WantedBy": ".wants/", "RequiredBy": ".requires/"}[strings.TrimSpace(key)]
		for by := range strings.FieldsSeq(value) {
			if suffix == "" {
				break
			}
			if path.Base(by) != by || by == ".." {
				return nil, &refusal{e.Path, i + 1, "names " + by + ", which is no unit"}
			}
			out = append(out, enablement{unitConfig + "/" + by + suffix + name, "/" + e.Path})
		}
	}
	return out, nil
}

func enabledState(s *Subject, p unitParams) (Observation, error) {
	var off []string
	for _, name := range p.Names {
		e := s.unit(name)
		switch {
		case e == nil && p.Package != "":
			return blocked(name+" is not installed", "install the package "+p.Package), nil
		case e == nil:
			return blocked(name+" is not installed", name+" is in no package of the image"), nil
		case s.masked(e):
			off = append(off, name+" is masked")
			continue
		}
		if e.Type == 'l' {
			continue // an alias, which is how enabling left it
		}
		links, err := s.links(e)
		if err != nil {
			return refused(err)
		}
		for _, l := range links {
			if _, ok := s.canonical(l.link); !ok {
				off = append(off, name+" is not in "+path.Base(path.Dir(l.link)))
			}
		}
	}
	return judge(off, "enabled"), nil
}

func enabledApply(s *Subject, p unitParams) error {
	for _, name := range p.Names {
		if e := s.unit(name); e != nil && s.masked(e) {
			if err := s.remove(e.Path); err != nil {
				return err
			}
		}
		e := s.unit(name)
		if e == nil || s.masked(e) {
			continue
		}
		links, err := s.links(e)
		if err != nil {
			return err
		}
		for _, l := range links {
			if _, ok := s.canonical(l.link); ok {
				continue
			}
			if err := s.mkdirs(path.Dir(l.link)); err != nil {
				return err
			}
			if err := s.link(l.link, l.target); err != nil {
				return err
			}
		}
	}
	return nil
}

// presentPackages: one of the packages is installed. A tree alone cannot be given packages: the recipe must.
type presentPackages struct {
	Packages []string `json:"packages"`
}

func (p presentPackages) check() error {
	if len(p.Packages) == 0 {
		return errors.New("packages needs at least one")
	}
	return nil
}

func installedState(s *Subject, p presentPackages) (Observation, error) {
	if i := slices.IndexFunc(p.Packages, s.packages().has); i >= 0 {
		return good(p.Packages[i] + " is installed"), nil
	}
	return blocked("none of "+list(p.Packages), "the package "+p.Packages[0]+" must be installed: hardening.addPackages does it in a build, --add-packages on a tree"), nil
}
