package tree

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
)

// Dump describes every path of the tree in one line, for tests and
// differences: "f 0644 0:0 cc55e2ec" (first eight digits of the content's
// SHA-256), "d 0755 0:0", "l -> target", "h -> first name". A file capability
// adds " cap". Times are left out.
func Dump(dir string) (map[string]string, error) {
	out := map[string]string{}
	err := Walk(dir, func(e Entry) error {
		line, err := describe(dir, e)
		out[e.Path] = line
		return err
	})
	return out, err
}

func describe(dir string, e Entry) (string, error) {
	var line string
	switch e.Type {
	case 'l', 'h':
		return fmt.Sprintf("%c -> %s", e.Type, e.Link), nil
	case 'f':
		sum, err := fileSum(dir + "/" + e.Path)
		if err != nil {
			return "", fmt.Errorf("reading %s: %w", e.Path, err)
		}
		line = fmt.Sprintf("f %04o %d:%d %s", e.Mode, e.UID, e.GID, sum[:8])
	default:
		line = fmt.Sprintf("%c %04o %d:%d", e.Type, e.Mode, e.UID, e.GID)
	}
	for _, name := range sortedKeys(e.Xattrs) {
		if name == "security.capability" {
			line += " cap"
		} else {
			line += " " + name
		}
	}
	return line, nil
}

func fileSum(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
