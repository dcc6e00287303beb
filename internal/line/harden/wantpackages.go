package harden

import (
	"fmt"
	"slices"

	"kiln"
)

// Packages are the names of the packages that the objectives ask to be present
// by the variants that they begin with, and of which has knows no alternative;
// in the order of the objectives. An objective for a package that is neither
// there nor asked for asks for nothing.
func Packages(controls []kiln.Control, has func(name string) bool) ([]string, error) {
	var names []string
	asked := map[string]bool{}
	there := func(name string) bool { return asked[name] || has(name) }
	for before := -1; before < len(names); { // one objective may make another apply
		before = len(names)
		for _, c := range controls {
			if c.Applies != nil && c.Applies.Package != "" && !there(c.Applies.Package) {
				continue
			}
			if c.Applies != nil && slices.ContainsFunc(c.Applies.Without, there) {
				continue
			}
			for _, set := range c.Variants[0].Settings {
				name, err := wantedPackage(set, there)
				if err != nil {
					return nil, fmt.Errorf("objective %s: %w", c.ID, err)
				}
				if name != "" {
					asked[name], names = true, append(names, name)
				}
			}
		}
	}
	return names, nil
}

// wantedPackage is the package that a setting asks for, "" where it is there, or the setting is of another kind.
func wantedPackage(set kiln.Setting, there func(string) bool) (string, error) {
	if set.Kind != "packages-present" {
		return "", nil
	}
	p, err := params[presentPackages](set.Params)
	if err != nil {
		return "", err
	}
	for _, name := range p.Packages {
		if there(name) {
			return "", nil
		}
	}
	return p.Packages[0], nil
}
