// Package scan takes the inventory of a root file system: which software is in
// it, which files nothing accounts for, and where files and package database
// disagree.
//
// The tree is walked once and then read once, through [os.Root]: a symbolic link
// never leads outside. Everything found in it is treated as hostile; sizes,
// counts and nesting are bounded, and metadata that cannot be read is listed in
// the bill instead of being skipped.
//
// The extractors are small and ours. Those of osv-scalibr were measured: one of
// them (Java archives) adds 16 MB and 525 packages to a program, writes to
// standard error and leaves licences out; they serve as a reference in development.
package scan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"kiln"
	"kiln/internal/osrelease"
)

// Input is what the scan is told besides the tree. Paths are those of the tree:
// relative, slash-separated, without a leading slash.
type Input struct {
	// Lock names the digest of each .deb; nil leaves digests out.
	Lock *kiln.Lock
	// Recipe accounts for the files it puts into the image by name; nil accounts for none.
	Recipe *kiln.Recipe
	// Accounted reports whether a step of the recipe or hardening made or changed a file; nil means no.
	Accounted func(path string) bool
	// Removed reports whether a packaged file was taken away on purpose; nil means no.
	Removed func(path string) bool
	// Subject is what the bill is about.
	Subject kiln.Subject
}

// Tree returns the bill of the root file system in dir. It is a function of the
// tree and the input only: equal trees give equal bills.
func Tree(ctx context.Context, dir string, in Input) (*kiln.Bill, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the tree to scan: %w", err)
	}
	defer root.Close()
	files, err := walk(ctx, root)
	if err != nil {
		return nil, fmt.Errorf("walking the tree to scan: %w", err)
	}
	db, err := readDatabase(root, files)
	if err != nil {
		return nil, fmt.Errorf("reading the package database of the tree: %w", err)
	}
	s := &scanner{
		root: root, files: files, db: db, in: in,
		bill: &kiln.Bill{Header: kiln.NewHeader("Bill"), Subject: in.Subject, Files: files.count, Bytes: files.bytes},
	}
	s.bill.Distro = s.distro()
	s.account()
	if err := s.read(ctx); err != nil {
		return nil, fmt.Errorf("reading the files of the tree: %w", err)
	}
	if err := s.packages(); err != nil {
		return nil, fmt.Errorf("reading the package database of the tree: %w", err)
	}
	s.finish()
	return s.bill, s.bill.Validate()
}

// scanner is one scan under way.
type scanner struct {
	root  *os.Root
	files *table
	db    *database
	in    Input
	bill  *kiln.Bill
	// suspects are unowned regular files that may still prove to be copies of packaged ones.
	suspects map[string]bool
	found    []kiln.Component
}

func (s *scanner) accounted(path string) bool {
	return s.in.Accounted != nil && s.in.Accounted(path) || recipeAccounts(s.in.Recipe, path)
}

func (s *scanner) removed(path string) bool { return s.in.Removed != nil && s.in.Removed(path) }

// recipeAccounts reports whether the recipe's own list of files names path or a directory copied whole above it.
func recipeAccounts(r *kiln.Recipe, path string) bool {
	if r == nil {
		return false
	}
	for _, f := range r.Files {
		name := strings.Trim(f.Path, "/")
		if path == name || f.Source != "" && strings.HasPrefix(path, name+"/") {
			return true
		}
	}
	return false
}

// distro is the lock's, else what os-release says as ID-VERSION_ID, else ID-CODENAME.
func (s *scanner) distro() string {
	if s.in.Lock != nil && s.in.Lock.Distro != "" {
		return s.in.Lock.Distro
	}
	for _, name := range osrelease.Paths() {
		text, err := s.files.read(s.root, name, 64<<10)
		if err != nil {
			continue
		}
		v := osrelease.Parse(string(text))
		switch {
		case v["ID"] == "":
		case v["VERSION_ID"] != "":
			return v["ID"] + "-" + v["VERSION_ID"]
		case v["VERSION_CODENAME"] != "":
			return v["ID"] + "-" + v["VERSION_CODENAME"]
		default:
			return v["ID"]
		}
	}
	return ""
}

// unreadable records metadata that could not be read.
func (s *scanner) unreadable(path string, err error) {
	var size *tooLarge
	reason := err.Error()
	if errors.As(err, &size) {
		reason = size.Error()
	}
	s.bill.Unreadable = append(s.bill.Unreadable, printable(path)+": "+printable(reason))
}

// finish merges what was found twice and puts everything into order.
func (s *scanner) finish() {
	b := s.bill
	b.Components = merge(append(b.Components, s.found...))
	for _, list := range []*[]string{&b.Unowned, &b.Generated, &b.Missing, &b.Modified, &b.Replaced, &b.Unreadable} {
		for i := range *list {
			(*list)[i] = printable((*list)[i])
		}
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	dropUnknownDependencies(b.Components)
}

// merge joins components that are the same but for where they lie.
func merge(all []kiln.Component) []kiln.Component {
	slices.SortStableFunc(all, func(a, b kiln.Component) int {
		return slices.Compare(
			[]string{a.Type, a.Name, a.Version, a.PURL, a.OwnedBy, strings.Join(a.Locations, "\x00")},
			[]string{b.Type, b.Name, b.Version, b.PURL, b.OwnedBy, strings.Join(b.Locations, "\x00")})
	})
	var out []kiln.Component
	for _, c := range all {
		if n := len(out) - 1; n >= 0 && out[n].PURL == c.PURL && out[n].Type == c.Type && out[n].OwnedBy == c.OwnedBy {
			out[n].Locations = union(out[n].Locations, c.Locations)
			out[n].Licenses = union(out[n].Licenses, c.Licenses)
			out[n].DependsOn = union(out[n].DependsOn, c.DependsOn)
			continue
		}
		out = append(out, c)
	}
	return out
}

func union(a, b []string) []string {
	if len(a)+len(b) == 0 {
		return nil
	}
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

func dropUnknownDependencies(all []kiln.Component) {
	known := map[string]bool{}
	for _, c := range all {
		known[c.PURL] = true
	}
	for i := range all {
		self := all[i].PURL
		all[i].DependsOn = slices.DeleteFunc(all[i].DependsOn, func(p string) bool { return !known[p] || p == self })
	}
}
