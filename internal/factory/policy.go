package factory

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"kiln"
	"kiln/internal/line/admit"
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
	f, err := os.Open(path)
	if err != nil {
		return nil, kiln.Misuse(fmt.Errorf("reading policy: %w", err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPolicy+1))
	if err != nil {
		return nil, fmt.Errorf("reading policy %s: %w", path, err)
	}
	if len(data) > maxPolicy {
		return nil, kiln.Misuse(fmt.Errorf("reading policy %s: larger than %d bytes", path, maxPolicy))
	}
	p, err := admit.ParsePolicy(data, path)
	return p, kiln.Misuse(err)
}

// DefaultPolicy is the text of the built-in policy.
func DefaultPolicy() []byte { return admit.DefaultFile() }

// PolicySchema is the JSON Schema of policy files.
func PolicySchema() []byte { return admit.Schema() }
