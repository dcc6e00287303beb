// Package recipe reads recipes: the YAML files (kiln.yaml) in which people say
// what image they want.
//
// Reading is strict: an unknown field, a wrong type, a key given twice, an
// undefined variable or a broken rule is an [Error] with file, line, column,
// field and, where one is known, a hint; several are reported at once.
package recipe

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"kiln"
	"kiln/internal/strictyaml"
)

// FileName is the recipe's name in a folder.
const FileName = "kiln.yaml"

// Error is one thing wrong with a recipe.
type Error = strictyaml.Error

// Errors are all that were found; errors.As finds the first [Error].
type Errors = strictyaml.Errors

// Load reads the recipe at path, a file or a folder with kiln.yaml, with vars
// overriding its variables. Dir is set to the recipe's folder.
func Load(path string, vars map[string]string) (*kiln.Recipe, error) {
	file := path
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		file = filepath.Join(path, FileName)
	}
	data, err := read(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &Error{File: file, Message: "there is no such recipe", Hint: "name a recipe file, or a folder with " + FileName + "; kiln init writes one"}
	}
	if err != nil {
		return nil, fmt.Errorf("reading recipe %s: %w", file, err)
	}
	r, err := Parse(data, file, vars)
	if err != nil {
		return nil, err
	}
	r.Dir = filepath.Dir(file)
	return r, nil
}

// read returns the file, or just enough of it to see that it is too large.
func read(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(errors.New("it is no regular file"), err)
	}
	return io.ReadAll(io.LimitReader(f, strictyaml.MaxSize+1))
}

// Parse reads a recipe from data; file is its name in errors. The result is
// valid and its variables are expanded.
func Parse(data []byte, file string, vars map[string]string) (*kiln.Recipe, error) {
	root, err := strictyaml.Parse(data, file)
	if err != nil {
		return nil, err
	}
	d := &strictyaml.Decoder{File: file, Hooks: hooks}
	values := variables(d, root, vars)
	expand(d, root, "", values)

	r := &kiln.Recipe{Header: kiln.NewHeader("Recipe")}
	d.Decode(root, r)
	if err := d.Err(); err != nil {
		return nil, err
	}
	for name, v := range r.Variables {
		value := values[name]
		v.Default = &value
		r.Variables[name] = v
	}
	for _, p := range r.Problems() {
		d.FailAt(p.Field, p.Rule, "")
	}
	return r, d.Err()
}
