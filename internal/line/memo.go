package line

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"kiln"
	"kiln/internal/atomicfile"
)

// memo keeps what a station gave for which inputs, one file a result. A result
// appears whole or not at all, so a killed run continues at the station that
// was running.
type memo struct{ dir string }

type memoFile struct {
	Key    kiln.Digest     `json:"key"`
	Sum    kiln.Digest     `json:"sum"` // of Result, so that a damaged file is work to redo and not an answer
	Result json.RawMessage `json:"result"`
}

func (m memo) path(station string, key kiln.Digest) string {
	return filepath.Join(m.dir, station, key.Hex()+".json")
}

// get reads the result for key into out and reports whether there is one.
func (m memo) get(station string, key kiln.Digest, out any) (bool, error) {
	data, err := os.ReadFile(m.path(station, key))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading kept result: %w", err)
	}
	var f memoFile
	if json.Unmarshal(data, &f) != nil || f.Key != key || f.Sum != kiln.DigestBytes(f.Result) {
		return false, nil
	}
	return json.Unmarshal(f.Result, out) == nil, nil
}

// put keeps result for key.
func (m memo) put(station string, key kiln.Digest, result any) error {
	body, err := kiln.Canonical(result)
	if err != nil {
		return err
	}
	data, err := kiln.Canonical(memoFile{Key: key, Sum: kiln.DigestBytes(body), Result: body})
	if err != nil {
		return err
	}
	if err := atomicfile.Write(m.path(station, key), data, 0o600); err != nil {
		return fmt.Errorf("keeping result of %s: %w", station, err)
	}
	return nil
}
