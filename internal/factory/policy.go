package factory

import (
	"fmt"
	"path/filepath"

	"kiln"
	"kiln/internal/line/admit"
	"kiln/internal/smallfile"
)

// maxPolicy bounds a policy file.
const maxPolicy = 4 << 20

// ReadPolicy returns the policy for a recipe: the file given, else the one that
// the recipe names (relative to the recipe), else the built-in one.
func ReadPolicy(r *kiln.Recipe, given string) (*admit.Policy, error) {
	path := given
	if path == "" && r.Policy != "" {
		path = r.Policy
		if !filepath.IsAbs(path) {
			path = filepath.Join(r.Dir, path)
		}
	}
	if path == "" {
		return admit.Default(), nil
	}
	return LoadPolicy(path)
}

// LoadPolicy reads and checks a policy file.
func LoadPolicy(path string) (*admit.Policy, error) {
	data, err := smallfile.Read(path, maxPolicy)
	if err != nil {
		return nil, kiln.Misuse(fmt.Errorf("reading policy: %w", err))
	}
	p, err := admit.ParsePolicy(data, path)
	return p, kiln.Misuse(err)
}

// DefaultPolicy is the text of the built-in policy.
func DefaultPolicy() []byte { return admit.DefaultFile() }

// PolicySchema is the JSON Schema of policy files.
func PolicySchema() []byte { return admit.Schema() }
