package catalogue

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"

	"kiln"
)

// exported is a catalogue as one document, so that a later program can compare with it.
type exported struct {
	kiln.Header
	Digest     kiln.Digest        `json:"digest"` // of objectives and profiles
	Benchmarks []Benchmark        `json:"benchmarks"`
	Objectives []kiln.Control     `json:"objectives"`
	Profiles   map[string]profile `json:"profiles"`
	Joint      map[string]string  `json:"joint"` // objective to the variant that meets every profile's choice
}

const exportKind = "Catalogue"

// Validate reports what is no exported catalogue.
func (e *exported) Validate() error {
	switch {
	case e.APIVersion != kiln.APIVersion:
		return fmt.Errorf("apiVersion is %.40q, this program reads %q", e.APIVersion, kiln.APIVersion)
	case e.Kind != exportKind:
		return fmt.Errorf("kind is %.40q, expected %q", e.Kind, exportKind)
	}
	return e.Digest.Validate()
}

// Export returns the catalogue as one canonical JSON document, which [Read] takes.
func (c *Catalogue) Export() ([]byte, error) {
	return kiln.Encode(&exported{
		Header: kiln.NewHeader(exportKind), Digest: c.Digest(), Benchmarks: c.benchmarks, Objectives: c.Objectives(), Profiles: c.profiles, Joint: c.joint,
	})
}

// Read reads another version of the catalogue: a directory laid out like this
// package's data, or the document that Export wrote, whose digest must fit its
// content. Neither is trusted: sizes are bounded and links are not followed.
func Read(path string) (*Catalogue, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading catalogue: %w", err)
	}
	var c *Catalogue
	if info.IsDir() {
		c, err = readDirectory(path)
	} else {
		c, err = readExport(path, info)
	}
	if err != nil {
		return nil, fmt.Errorf("reading catalogue %s: %w", filepath.Base(path), err)
	}
	return c, nil
}

func readDirectory(path string) (*Catalogue, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return load(root.FS())
}

// maxExport bounds an exported catalogue.
const maxExport = 32 << 20

func readExport(path string, info os.FileInfo) (*Catalogue, error) {
	if !info.Mode().IsRegular() {
		return nil, errors.New("is neither a directory nor a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxExport+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxExport {
		return nil, fmt.Errorf("is larger than %d MiB", maxExport>>20)
	}
	return parseExport(data)
}

func parseExport(data []byte) (*Catalogue, error) {
	e := new(exported)
	if err := kiln.Decode(data, e); err != nil {
		return nil, err
	}
	c := &Catalogue{objectives: map[string]kiln.Control{}, joint: e.Joint, profiles: e.Profiles, benchmarks: e.Benchmarks}
	for _, k := range e.Objectives {
		if err := k.Validate(); err != nil {
			return nil, err
		}
		if _, twice := c.objectives[k.ID]; twice {
			return nil, fmt.Errorf("objective %s stands twice", k.ID)
		}
		c.objectives[k.ID] = k
		c.ids = append(c.ids, k.ID)
	}
	if err := c.finish(); err != nil {
		return nil, err
	}
	if c.Digest() != e.Digest {
		return nil, fmt.Errorf("its content has digest %s, not the %s it says: it was changed", c.Digest().Short(), e.Digest.Short())
	}
	return c, nil
}

// plain refuses YAML anchors and aliases, by which a small file can stand for an endless one.
func plain(raw []byte) error {
	for _, t := range lexer.Tokenize(string(raw)) {
		if t.Type == token.AnchorType || t.Type == token.AliasType || t.Type == token.MergeKeyType {
			return fmt.Errorf("line %d: anchors and aliases are not read", t.Position.Line)
		}
	}
	return nil
}
