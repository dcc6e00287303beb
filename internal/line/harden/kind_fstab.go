package harden

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"kiln"
)

// mountParams: the file system mounted at Path has Options.
type mountParams struct {
	Path    string   `json:"path"`
	Options []string `json:"options"`
	// Create is the line of /etc/fstab that makes the mount where there is none. Without it the options are not
	// applicable, and a missing mount is for the machine's disk layout to add.
	Create string `json:"create"`
}

func (p mountParams) check() error {
	if !strings.HasPrefix(p.Path, "/") || path.Clean(p.Path) != p.Path {
		return fmt.Errorf("path %q is not absolute and clean", p.Path)
	}
	if p.Create != "" {
		if f := strings.Fields(p.Create); len(f) != 6 || f[1] != p.Path {
			return errors.New("create is a whole line of fstab for path")
		}
	}
	return oneLine(append([]string{p.Create}, p.Options...)...)
}

const fstab = "/etc/fstab"

// fstabFields returns the fields of an entry with their positions in the line, or nothing for comments.
func fstabFields(line string) (fields []string, at []int) {
	rest, pos := line, 0
	for {
		trimmed := strings.TrimLeft(rest, " \t")
		pos += len(rest) - len(trimmed)
		if trimmed == "" || trimmed[0] == '#' && len(fields) == 0 {
			return fields, at
		}
		end := strings.IndexAny(trimmed, " \t")
		if end < 0 {
			end = len(trimmed)
		}
		fields, at = append(fields, trimmed[:end]), append(at, pos)
		rest, pos = trimmed[end:], pos+end
	}
}

// entry finds the last entry for the mount point; -1 where there is none.
func (p mountParams) entry(s *Subject) (lines []string, at int, err error) {
	if err := s.editable(fstab); err != nil {
		return nil, -1, err
	}
	lines, err = s.confLines(fstab)
	if err != nil {
		return nil, -1, err
	}
	at = -1
	for i, line := range lines {
		f, _ := fstabFields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) < 4 {
			return nil, -1, &refusal{fstab, i + 1, fmt.Sprintf("has %d fields, an entry has 4 or more", len(f))}
		}
		if f[1] == p.Path || path.Clean(f[1]) == p.Path {
			at = i
		}
	}
	return lines, at, nil
}

// opposite are options that would undo one, wherever they stand after it.
var opposite = map[string][]string{"nodev": {"dev", "defaults"}, "nosuid": {"suid", "defaults"}, "noexec": {"exec", "defaults"}}

// lacks reports which of the wanted options are not in effect: of two that contradict each other the last counts.
func (p mountParams) lacks(options string) []string {
	have := strings.Split(options, ",")
	var out []string
	for _, want := range p.Options {
		on := false
		for _, o := range have {
			if o == want {
				on = true
			} else if slices.Contains(opposite[want], o) {
				on = false
			}
		}
		if !on {
			out = append(out, want)
		}
	}
	return out
}

func mountState(s *Subject, p mountParams) (Observation, error) {
	obs, err := mountConfigured(s, p)
	options, known := s.kernel.mounted(p.Path)
	if err != nil || !known || obs.State == kiln.Unknown {
		return obs, err
	}
	if options == "" {
		return obs.inEffect("nothing is mounted at "+p.Path, false), nil
	}
	missing := p.lacks(options)
	if obs.State == kiln.NotApplicable || obs.State == kiln.NotSatisfied && !p.inFstab(s) {
		// Without a line of fstab a unit mounts it, or the system itself does: what is in effect counts.
		obs = good(p.Path + " is not in " + fstab)
	}
	return obs.inEffect(p.Path+" "+options, len(missing) == 0), nil
}

func (p mountParams) inFstab(s *Subject) bool {
	_, at, err := p.entry(s)
	return err == nil && at >= 0
}

func mountConfigured(s *Subject, p mountParams) (Observation, error) {
	lines, at, err := p.entry(s)
	if err != nil {
		return refused(err)
	}
	if at < 0 {
		switch {
		case p.Create != "":
			return bad("no entry for " + p.Path), nil
		case len(p.Options) == 0:
			return blocked("no entry for "+p.Path, "a file system of its own for "+p.Path+" is for the machine's disk layout to add"), nil
		}
		return absent(p.Path + " is not a file system of its own"), nil
	}
	f, _ := fstabFields(lines[at])
	if missing := p.lacks(f[3]); len(missing) > 0 {
		return bad(p.Path + " without " + strings.Join(missing, ", ")), nil
	}
	return good(p.Path + " " + f[3]), nil
}

func mountApply(s *Subject, p mountParams) error {
	lines, at, err := p.entry(s)
	if err != nil {
		return err
	}
	if at < 0 {
		return s.writeLines(fstab, append(lines, p.Create), 0o644)
	}
	f, pos := fstabFields(lines[at])
	if len(p.lacks(f[3])) == 0 {
		return nil
	}
	kept := slices.DeleteFunc(strings.Split(f[3], ","), func(o string) bool {
		return slices.ContainsFunc(p.Options, func(w string) bool { return o == w || o != "defaults" && slices.Contains(opposite[w], o) })
	})
	options := strings.Join(append(kept, p.Options...), ",")
	lines[at] = lines[at][:pos[3]] + options + lines[at][pos[3]+len(f[3]):]
	return s.writeLines(fstab, lines, 0o644)
}
