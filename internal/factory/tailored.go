package factory

import (
	"fmt"
	"path/filepath"
	"slices"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/line/harden"
	"kiln/internal/smallfile"
	"kiln/internal/tailor"
)

// maxTailoring bounds a user's profile and tailoring file.
const maxTailoring = 8 << 20

// besideFile reads the files that a recipe in dir names.
func besideFile(dir string) tailor.Read {
	return func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return smallfile.Regular(name, maxTailoring)
	}
}

// tailored fills objectives by the user's own profile and tailoring.
func tailored(cat *catalogue.Catalogue, req AuditRequest, in *harden.Input) ([]string, error) {
	if slices.Contains(req.Profiles, AllObjectives) || req.ProfileFile != "" && len(req.Profiles) > 0 {
		return nil, fmt.Errorf("a profile of your own stands instead of profiles, and a tailoring changes profiles, not %q", AllObjectives)
	}
	for _, n := range req.Profiles {
		if err := checkProfile(cat, n); err != nil {
			return nil, err
		}
	}
	h := kiln.Hardening{ProfileFile: req.ProfileFile, Tailoring: req.Tailoring, Profiles: req.Profiles, Waivers: req.Waivers}
	s, err := tailor.Choose(cat, h, besideFile("."))
	if err != nil {
		return nil, err
	}
	in.Controls, in.LeftOut = s.Controls, s.LeftOut
	in.Notes = s.Notes
	if req.Scope == "" && s.Scope != "" {
		in.Scope = s.Scope
	}
	return []string{s.Profile}, nil
}

// Chooser finds a recipe's objectives in any version of the catalogue, its own profile and tailoring with it.
func Chooser(r *kiln.Recipe) catalogue.Chooser {
	return func(c *catalogue.Catalogue) ([]kiln.Control, error) {
		s, err := tailor.Choose(c, r.Hardening, besideFile(r.Dir))
		if err != nil {
			return nil, err
		}
		return s.Pursued(), nil
	}
}
