// Package atomicfile writes files that appear whole or not at all: whoever
// opens the name finds what stood there before or the complete new content,
// also after the program was killed or the machine lost power.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Write replaces path by a file of that content and mode (whatever the umask)
// and makes the folders above it where they are missing. When it returns
// without error, the file survives a loss of power.
func Write(path string, data []byte, mode fs.FileMode) error {
	return Fill(path, mode, content(data))
}

// Fill is Write for content that fill produces. When fill fails, its error is
// returned and path stays as it was.
func Fill(path string, mode fs.FileMode, fill func(io.Writer) error) error {
	return place(path, mode, fill, true, os.Rename)
}

// Create is Write for a name that must be free: one that exists is left alone
// and gives an error that is fs.ErrExist.
func Create(path string, data []byte, mode fs.FileMode) error {
	return place(path, mode, content(data), true, os.Link)
}

// Cache is Fill with mode 0600 and without waiting for the disk: after a loss
// of power the file may be there with wrong content. It is for what is checked
// whenever it is read and can be made again.
func Cache(path string, fill func(io.Writer) error) error {
	return place(path, 0o600, fill, false, os.Rename)
}

// Sync waits until the disk has a file's content, or a folder's names.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func content(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// place writes a file under a passing name beside path, and has publish give it the name path.
func place(path string, mode fs.FileMode, fill func(io.Writer) error, durable bool, publish func(from, to string) error) error {
	dir := filepath.Dir(path)
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = stage(dir, mode, fill, durable, func(name string) error { return publish(name, path) })
	}
	if err == nil && durable {
		err = Sync(dir)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, cause(err, dir))
	}
	return nil
}

func stage(dir string, mode fs.FileMode, fill func(io.Writer) error, durable bool, publish func(name string) error) error {
	f, err := os.CreateTemp(dir, prefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already after a rename; the second name after a link
	if err = fill(f); err == nil {
		err = f.Chmod(mode)
	}
	if err == nil && durable {
		err = f.Sync()
	}
	if failed := f.Close(); err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	return publish(f.Name())
}

// prefix marks files that are being written.
const prefix = ".part-"

// cause leaves the passing name out of an error: nobody knows it. What fill
// says of files elsewhere stays as it is.
func cause(err error, dir string) error {
	switch e := err.(type) {
	case *os.LinkError:
		return e.Err
	case *fs.PathError:
		if passing(e.Path, dir) {
			return e.Err
		}
	}
	return err
}

func passing(name, dir string) bool {
	return filepath.Dir(name) == dir && strings.HasPrefix(filepath.Base(name), prefix)
}
