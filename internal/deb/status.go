package deb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// Bounds of a package database.
const (
	maxStatus   = 256 << 20
	maxPackages = 200_000
	maxOwned    = 5_000_000 // paths of all packages
)

// ReadStatus returns the packages whose files are in the tree below dir, by
// var/lib/dpkg/status and status.d (the form of distroless images), sorted by
// name. Packages that are not installed, or of which only configuration files
// are left, are not listed. A tree without a database gives none. Links never
// lead out of dir.
func ReadStatus(dir string) ([]Package, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the package database: %w", err)
	}
	defer root.Close()
	files := []string{"var/lib/dpkg/status"}
	parts, err := listDir(root, "var/lib/dpkg/status.d")
	if err != nil {
		return nil, fmt.Errorf("reading the package database: %w", err)
	}
	for _, name := range parts {
		if !strings.HasSuffix(name, ".md5sums") {
			files = append(files, "var/lib/dpkg/status.d/"+name)
		}
	}
	var all []Package
	for _, name := range files {
		if all, err = appendStatus(root, name, all); err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
	}
	slices.SortFunc(all, func(a, b Package) int {
		return strings.Compare(a.Name+":"+a.Architecture, b.Name+":"+b.Architecture)
	})
	return all, nil
}

func appendStatus(root *os.Root, name string, all []Package) ([]Package, error) {
	f, err := openRegular(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	err = ParsePackages(&bounded{r: f, left: maxStatus}, func(p *Package) error {
		if s := p.State(); s == "not-installed" || s == "config-files" {
			return nil
		}
		if len(all) >= maxPackages {
			return fmt.Errorf("more than %d packages", maxPackages)
		}
		all = append(all, *p)
		return nil
	})
	return all, err
}

// Owners says which package owns each path below dir, by
// var/lib/dpkg/info/*.list: keys have no leading slash, and where the tree has
// merged /usr (bin -> usr/bin) they name the real place. Diverted files are
// found where the diversion put them. A directory that several packages own
// belongs to the first by name; the root directory is left out.
func Owners(dir string) (map[string]string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("reading file owners: %w", err)
	}
	defer root.Close()
	const info = "var/lib/dpkg/info"
	names, err := listDir(root, info)
	if err != nil {
		return nil, fmt.Errorf("reading file owners: %w", err)
	}
	diverted, err := readDiversions(root)
	if err != nil {
		return nil, fmt.Errorf("reading diversions: %w", err)
	}
	o := owners{paths: map[string]string{}, merged: mergedDirs(root), diverted: diverted}
	for _, name := range names {
		base, ok := strings.CutSuffix(name, ".list")
		if !ok {
			continue
		}
		pkg, _, _ := strings.Cut(base, ":")
		if err := o.add(root, path.Join(info, name), pkg); err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
	}
	return o.paths, nil
}

type owners struct {
	paths    map[string]string
	merged   map[string]string // "bin" -> "usr/bin"
	diverted map[string]Diversion
}

func (o *owners) add(root *os.Root, name, pkg string) error {
	f, err := openRegular(root, name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(&bounded{r: f, left: maxStatus})
	lines.Buffer(make([]byte, 0, 4096), 64<<10)
	for lines.Scan() {
		p := o.place(lines.Text(), pkg)
		if p == "." || p == "" || !fs.ValidPath(p) {
			continue
		}
		if _, taken := o.paths[p]; taken {
			continue
		}
		if len(o.paths) >= maxOwned {
			return fmt.Errorf("more than %d paths", maxOwned)
		}
		o.paths[p] = pkg
	}
	return lines.Err()
}

// place returns where pkg's file really lies.
func (o *owners) place(p, pkg string) string {
	if d, ok := o.diverted[p]; ok && d.By != pkg {
		p = d.To
	}
	p = path.Clean(strings.TrimPrefix(p, "/"))
	top, rest, deep := strings.Cut(p, "/")
	if real, ok := o.merged[top]; ok {
		if !deep {
			return p // the link itself
		}
		return real + "/" + rest
	}
	return p
}

// mergedDirs finds the top-level directories that are links into usr.
func mergedDirs(root *os.Root) map[string]string {
	merged := map[string]string{}
	for _, d := range []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32", "libo32"} {
		target, err := root.Readlink(d)
		if err != nil {
			continue
		}
		if target = path.Clean(strings.TrimPrefix(target, "/")); strings.HasPrefix(target, "usr/") && fs.ValidPath(target) {
			merged[d] = target
		}
	}
	return merged
}

// readDiversions returns dpkg's diversions by the path they move.
func readDiversions(root *os.Root) (map[string]Diversion, error) {
	found := map[string]Diversion{}
	f, err := openRegular(root, "var/lib/dpkg/diversions")
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(&bounded{r: f, left: 16 << 20})
	if err != nil {
		return nil, err
	}
	for _, d := range ParseDiversions(data) {
		found[d.From] = d
	}
	return found, nil
}

// openRegular opens a file below root that must be a regular one, so that a
// pipe or device in a hostile tree cannot hold the reader.
func openRegular(root *os.Root, name string) (*os.File, error) {
	fi, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	return root.Open(name)
}

// listDir returns the names in a directory below root, sorted; none when it does not exist.
func listDir(root *os.Root, name string) ([]string, error) {
	d, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}
