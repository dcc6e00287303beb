package factory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kiln"
)

// lock makes builds of one name wait for each other, across processes. The
// kernel drops the lock of a process that dies.
func (f *Factory) lock(ctx context.Context, name string) (func(), error) {
	path := f.path("locks", strings.ReplaceAll(name, "/", "%2f"))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("locking %s: %w", name, err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", name, err)
	}
	if err := f.flock(ctx, file, name); err != nil {
		file.Close()
		return nil, fmt.Errorf("locking %s: %w", name, err)
	}
	return func() { file.Close() }, nil
}

func (f *Factory) flock(ctx context.Context, file *os.File, name string) error {
	said := false
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if !said {
			f.cfg.Report.Emit(kiln.Event{Type: kiln.EventNote, Message: "another build of " + name + " is running; waiting for it"})
			said = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
