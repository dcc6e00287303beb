package factory

import (
	"fmt"
	"io"
	"os"

	"kiln"
	"kiln/internal/atomicfile"
)

// ReadLock reads a lock file.
func ReadLock(path string) (*kiln.Lock, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, kiln.Misuse(fmt.Errorf("reading lock: %w", err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxLock))
	if err != nil {
		return nil, fmt.Errorf("reading lock %s: %w", path, err)
	}
	lock := new(kiln.Lock)
	if err := kiln.Decode(data, lock); err != nil {
		return nil, kiln.Misuse(kiln.WithHint(fmt.Errorf("reading lock %s: %w", path, err), "make it again with `kiln lock`, or take a copy that was not changed"))
	}
	return lock, nil
}

// WriteLock writes a lock file, whole or not at all.
func WriteLock(lock *kiln.Lock, path string) error {
	data, err := kiln.Encode(lock)
	if err != nil {
		return fmt.Errorf("writing lock: %w", err)
	}
	if err := atomicfile.Write(path, data, 0o644); err != nil {
		return fmt.Errorf("writing lock: %w", err)
	}
	return nil
}
