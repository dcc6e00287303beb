package factory

import (
	"fmt"
	"os"
	"path/filepath"

	"kiln"
	"kiln/internal/line/recipe"
	"kiln/internal/smallfile"
	"kiln/internal/strictyaml"
)

// ReadWaivers reads exceptions from a recipe (a file, or a folder with
// kiln.yaml), or from a YAML file that holds nothing but waivers.
func ReadWaivers(path string) ([]kiln.Waiver, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, kiln.Misuse(fmt.Errorf("reading waivers: %w", err))
	}
	if !info.IsDir() {
		list, alone, err := waiverFile(path)
		if alone || err != nil {
			return list, kiln.Misuse(err)
		}
	}
	r, err := recipe.Load(path, nil)
	if err != nil {
		return nil, kiln.Misuse(kiln.WithHint(fmt.Errorf("reading waivers: %w", err), "waivers stand in a recipe's hardening.waivers, or in a file with `waivers:` only"))
	}
	return r.Hardening.Waivers, nil
}

// waiverFile reads a file whose only key is waivers; alone is false where it has others.
func waiverFile(path string) (list []kiln.Waiver, alone bool, err error) {
	data, err := smallfile.Regular(path, strictyaml.MaxSize)
	if err != nil {
		return nil, false, fmt.Errorf("reading waivers: %w", err)
	}
	root, err := strictyaml.Parse(data, filepath.Base(path))
	if err != nil {
		return nil, false, err
	}
	if len(root.Pairs) != 1 || root.Pairs[0].Key != "waivers" {
		return nil, false, nil
	}
	var doc struct {
		Waivers []kiln.Waiver `yaml:"waivers"`
	}
	d := &strictyaml.Decoder{File: filepath.Base(path)}
	d.Decode(root, &doc)
	if err := d.Err(); err != nil {
		return nil, true, err
	}
	for i, w := range doc.Waivers {
		if err := w.Validate(); err != nil {
			return nil, true, fmt.Errorf("%s: waiver %d: %w", path, i+1, err)
		}
	}
	return doc.Waivers, true, nil
}

// maxResult bounds an earlier audit that is compared with.
const maxResult = 64 << 20

// ReadHardening reads the document that an audit printed.
func ReadHardening(path string) (*kiln.HardeningResult, error) {
	data, err := smallfile.Regular(path, maxResult)
	if err != nil {
		return nil, kiln.Misuse(fmt.Errorf("reading an earlier audit: %w", err))
	}
	var h kiln.HardeningResult
	if err = kiln.Decode(data, &h); err == nil {
		err = h.Validate()
	}
	if err != nil {
		return nil, kiln.Misuse(kiln.WithHint(fmt.Errorf("reading an earlier audit, %s: %w", path, err), "`kiln audit TARGET --json > FILE` writes one"))
	}
	return &h, nil
}
