package line

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"

	"kiln"
	"kiln/internal/component"
)

// maxDocument bounds a component or goss file.
const maxDocument = 1 << 20

// beside reads a small file of the recipe's folder exactly as the lock lists
// it: kept results stand for what the lock says, so nothing else may be read.
func (j *journey) beside(name string) ([]byte, error) {
	name = path.Clean(filepath.ToSlash(name))
	i := slices.IndexFunc(j.build.Lock.Files, func(f kiln.LockedFile) bool { return f.Path == name })
	if i < 0 {
		return nil, fmt.Errorf("%s is not in the lock; run `kiln lock` again", name)
	}
	data, err := readBeside(j.req.Recipe.Dir, name)
	if err == nil && kiln.DigestBytes(data) != j.build.Lock.Files[i].Digest {
		return nil, fmt.Errorf("%s has changed since the recipe was locked; run `kiln lock` again", name)
	}
	return data, err
}

// besideOrRecipe reads the file as the lock lists it, or, before there is a lock, as it is.
func (j *journey) besideOrRecipe(name string) ([]byte, error) {
	if j.build.Lock != nil {
		return j.beside(name)
	}
	return readBeside(j.req.Recipe.Dir, name)
}

// readBeside reads a small file of the recipe's folder.
func readBeside(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(cmp.Or(dir, "."))
	if err != nil {
		return nil, fmt.Errorf("opening the recipe's folder: %w", err)
	}
	defer root.Close()
	if info, err := root.Stat(name); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", name, err)
	case len(data) > maxDocument:
		return nil, fmt.Errorf("%s is larger than 1 MiB", name)
	}
	return data, nil
}

// testsToRun are the recipe's tests and the test phases of its components; a
// component without one brings no test, rather than a test that cannot fail.
func (j *journey) testsToRun() ([]kiln.Test, error) {
	tests := slices.Clone(j.req.Recipe.Tests)
	for _, s := range j.req.Recipe.Steps {
		if s.Component == "" {
			continue
		}
		data, err := j.beside(s.Component)
		if err != nil {
			return nil, err
		}
		doc, err := component.Parse(data, s.Component)
		if err != nil {
			return nil, err
		}
		if doc.Phase("test") != nil {
			tests = append(tests, kiln.Test{Name: s.Name, Component: s.Component, Parameters: s.Parameters})
		}
	}
	return tests, nil
}
