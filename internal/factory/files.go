package factory

import (
	"fmt"

	"kiln"
	"kiln/internal/atomicfile"
	"kiln/internal/smallfile"
)

// ReadLock reads a lock file.
func ReadLock(path string) (*kiln.Lock, error) {
	data, err := smallfile.Read(path, maxLock)
	if err != nil {
		return nil, kiln.Misuse(fmt.Errorf("reading lock: %w", err))
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
