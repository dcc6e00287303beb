// Package pkgdb reads the databases of installed packages that are not dpkg's:
// apk's text, and rpm's in each of its three forms (SQLite, ndb, Berkeley DB).
// What it reads is anybody's: sizes and numbers are bounded, and a database that
// is damaged is an error, never a shorter list.
package pkgdb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Bounds of one database; real ones are far below.
const (
	MaxSize     = 512 << 20 // bytes
	maxPackages = 100_000
	maxFiles    = 4_000_000 // of all packages together
	maxHeader   = 64 << 20  // bytes of one rpm header
)

// Package is an installed package.
type Package struct {
	Name, Version, Arch string
	// Provides are the names that it stands for besides its own, without versions.
	Provides []string
	// Needs are the names that it depends on, without versions; files and libraries that rpm wants are among them.
	Needs []string
	// Files are its files as paths relative to the root of the tree; directories may be among them.
	Files []string
}

// counter bounds a list of packages while it grows.
type counter struct{ packages, files int }

func (c *counter) add(p *Package) error {
	c.packages++
	c.files += len(p.Files)
	if c.packages > maxPackages || c.files > maxFiles {
		return fmt.Errorf("it lists more than %d packages or %d files", maxPackages, maxFiles)
	}
	return nil
}

// APK reads apk's database of installed packages (lib/apk/db/installed): one
// letter, a colon and a value a line, an empty line between packages.
func APK(r io.Reader) ([]Package, error) {
	lines := bufio.NewScanner(io.LimitReader(r, MaxSize))
	lines.Buffer(make([]byte, 64<<10), 16<<20)
	var out []Package
	var p Package
	var count counter
	dir := ""
	finish := func() error {
		if p.Name == "" && p.Version == "" && len(p.Files) == 0 {
			return nil
		}
		if p.Name == "" {
			return errors.New("a package has no name")
		}
		out = append(out, p)
		err := count.add(&p)
		p, dir = Package{}, ""
		return err
	}
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if line == "" {
			if err := finish(); err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok || len(key) != 1 {
			return nil, fmt.Errorf("line %d: it is no letter with a value", n)
		}
		switch key {
		case "P":
			p.Name = value
		case "V":
			p.Version = value
		case "A":
			p.Arch = value
		case "p":
			p.Provides = apkNames(value)
		case "D":
			p.Needs = apkNames(value)
		case "F":
			dir = relative(value)
		case "R":
			p.Files = append(p.Files, path.Join(dir, value))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading it: %w", err)
	}
	return out, finish()
}

// apkNames reads "so:libc.so.6=1.2 name>=1 !conflict" as names.
func apkNames(value string) []string {
	var out []string
	for word := range strings.FieldsSeq(value) {
		if i := strings.IndexAny(word, "=<>~"); i > 0 {
			word = word[:i]
		}
		if !strings.HasPrefix(word, "!") {
			out = append(out, word)
		}
	}
	return out
}

// relative is a path below the root.
func relative(p string) string {
	return strings.TrimPrefix(path.Clean("/"+p), "/")
}
