package harden

import (
	"errors"
	"strings"
)

// moduleParams: the kernel does not load the module Name, neither by itself nor when asked.
type moduleParams struct {
	Name string `json:"name"`
}

func (p moduleParams) check() error {
	if p.Name == "" || strings.ContainsAny(p.Name, " /\t\n#") {
		return errors.New("name is a module's name")
	}
	return nil
}

var modprobeDirs = []string{"/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"}

// sameModule: the kernel takes a dash for an underscore.
func sameModule(a, b string) bool {
	return strings.ReplaceAll(a, "-", "_") == strings.ReplaceAll(b, "-", "_")
}

// denied looks for both lines: install stops a request, blacklist stops loading by alias.
func (p moduleParams) denied(s *Subject) (install, blacklist bool, other *found, err error) {
	files, err := s.dropIns(modprobeDirs, ".conf")
	if err != nil {
		return false, false, nil, err
	}
	for _, q := range files {
		lines, err := s.confLines(q)
		if err != nil {
			return false, false, nil, err
		}
		for i, line := range lines {
			f := strings.Fields(line)
			if len(f) < 2 || !sameModule(f[1], p.Name) {
				continue
			}
			switch f[0] {
			case "blacklist":
				blacklist = true
			case "install":
				if len(f) == 3 && (strings.HasSuffix(f[2], "/false") || strings.HasSuffix(f[2], "/true")) {
					install = true
				} else {
					other = &found{q, i, strings.TrimSpace(line)}
				}
			}
		}
	}
	return install, blacklist, other, nil
}

func moduleState(s *Subject, p moduleParams) (Observation, error) {
	obs, err := moduleConfigured(s, p)
	if yes, known := s.kernel.loaded(p.Name); known && err == nil {
		state := "not loaded"
		if yes {
			state = "loaded"
		}
		obs = obs.inEffect(p.Name+" is "+state, !yes)
	}
	return obs, err
}

func moduleConfigured(s *Subject, p moduleParams) (Observation, error) {
	install, blacklist, other, err := p.denied(s)
	switch {
	case err != nil:
		return refused(err)
	case other != nil:
		return blocked(other.value, other.at()+" runs a program in place of "+p.Name+": remove the line"), nil
	case install && blacklist:
		return good(p.Name + " is denied"), nil
	case install:
		return bad(p.Name + " is not blacklisted"), nil
	}
	return bad(p.Name + " may be loaded"), nil
}

func moduleApply(s *Subject, p moduleParams) error {
	file := "/etc/modprobe.d/kiln-" + p.Name + ".conf"
	install, blacklist, _, err := p.denied(s)
	if err != nil {
		return err
	}
	if !install {
		if err := s.addLine(file, "install "+p.Name+" /bin/false", 0o644); err != nil {
			return err
		}
	}
	if blacklist {
		return nil
	}
	return s.addLine(file, "blacklist "+p.Name, 0o644)
}
