package keys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"kiln/internal/atomicfile"
	"kiln/internal/smallfile"
)

// readSecret reads a private key file and refuses one that others than its owner can open.
func readSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o and can be opened by others; run: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	return smallfile.Read(path, maxFile)
}

// writeNew writes a key file whose name must be free.
func writeNew(path string, text []byte, mode fs.FileMode) error {
	err := atomicfile.Create(path, text, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w; nothing was changed", path, ErrExists)
	}
	return err
}
