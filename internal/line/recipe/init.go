package recipe

import (
	_ "embed"
	"fmt"
	"io"
	"strings"

	"kiln"
)

//go:embed init.yaml
var template string

// Init writes a commented recipe that builds as it stands: a small web server
// from the machine's own signed archives. name becomes the image's name.
func Init(w io.Writer, name string) error {
	if !kiln.ValidName(name) {
		return fmt.Errorf("%q cannot name an image; use a-z 0-9 . _ - /, beginning and ending with a letter or digit", strings.ToValidUTF8(name, "?"))
	}
	_, err := io.WriteString(w, strings.Replace(template, "NAME", name, 1))
	return err
}

//go:embed recipe.schema.json
var schema []byte

// Schema returns the JSON Schema (draft 2020-12) of kiln.yaml, for editors. It
// is made from the documents in package kiln by this package's tests.
func Schema() []byte { return append([]byte(nil), schema...) }
