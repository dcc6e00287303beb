package factory

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/atomicfile"
)

// catalogueFile is where the state directory keeps a version of the catalogue.
func catalogueFile(state string, d kiln.Digest) string {
	return filepath.Join(state, "catalogues", d.Hex()+".json")
}

// keepCatalogue leaves this program's catalogue in the state directory, so that
// a later program can say what it changes for a lock made now.
func (f *Factory) keepCatalogue() error {
	c, err := catalogue.Load()
	if err != nil {
		return err
	}
	path := catalogueFile(f.cfg.State, c.Digest())
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	data, err := c.Export()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("keeping the catalogue: %w", err)
	}
	return atomicfile.Write(path, data, 0o644)
}

// Catalogue returns the version of the catalogue with that digest from a state
// directory, as a build or lock left it; os.ErrNotExist where it has none.
func Catalogue(state string, d kiln.Digest) (*catalogue.Catalogue, error) {
	if err := d.Validate(); err != nil {
		return nil, kiln.Misuse(fmt.Errorf("the lock's catalogue: %w", err))
	}
	c, err := catalogue.Read(catalogueFile(state, d))
	if err != nil {
		return nil, err
	}
	if c.Digest() != d {
		return nil, fmt.Errorf("the catalogue kept as %s is another one: remove %s", d.Short(), catalogueFile(state, d))
	}
	return c, nil
}
