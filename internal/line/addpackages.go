package line

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"kiln"
	"kiln/internal/deb"
	"kiln/internal/line/assemble"
	"kiln/internal/line/resolve"
	"kiln/internal/sandbox"
)

// AddPackages installs packages, with what they need, into a configured tree
// that was made elsewhere, and returns those that it added. They come from this
// machine's own archives, by signature, index and digest as in a build; so the
// tree must be of the machine's release. After an error the tree may hold
// unfinished packages.
func (l *Line) AddPackages(ctx context.Context, dir string, names []string) ([]kiln.LockedPackage, error) {
	if len(names) == 0 {
		return nil, nil
	}
	lock, err := l.missingPackages(ctx, dir, names)
	if err != nil {
		return nil, fmt.Errorf("finding packages to add: %w", err)
	}
	if err := l.FetchInputs(ctx, lock); err != nil {
		return nil, fmt.Errorf("fetching packages to add: %w", err)
	}
	if _, err := l.VerifyLock(ctx, lock); err != nil {
		return nil, fmt.Errorf("verifying packages to add: %w", err)
	}
	o := assemble.Options{
		Open: l.Blobs.Open, CacheDir: l.path("cache"), Program: l.Program, Run: sandbox.Run, Report: l.Report,
	}
	return lock.Packages, assemble.Add(ctx, lock, dir, o)
}

// missingPackages resolves the tree's packages and the wanted ones together,
// and locks those that the tree lacks.
func (l *Line) missingPackages(ctx context.Context, dir string, names []string) (*kiln.Lock, error) {
	base, err := sameRelease(dir)
	if err != nil {
		return nil, err
	}
	there, err := installed(dir)
	if err != nil {
		return nil, err
	}
	r := &kiln.Recipe{Header: kiln.NewHeader("Recipe"), Name: "added-packages", Base: kiln.Base{Apt: base}}
	for _, name := range slices.Concat(there, names) {
		r.Packages = append(r.Packages, kiln.PackageRequest{Name: name})
	}
	lock, _, err := l.Lock(ctx, r)
	if err != nil {
		return nil, err
	}
	lock.Packages = slices.DeleteFunc(lock.Packages, func(p kiln.LockedPackage) bool { return slices.Contains(there, p.Name) })
	return lock, nil
}

// sameRelease is the machine's archives, when the tree is of the release that they are for.
func sameRelease(dir string) (*kiln.AptBase, error) {
	machine, err := resolve.Machine("/")
	if err != nil {
		return nil, err
	}
	tree, err := resolve.Codename(dir)
	if err != nil {
		return nil, err
	}
	if tree != machine.Release {
		return nil, kiln.WithHint(fmt.Errorf("the tree is of release %q, this machine's archives of %q", tree, machine.Release),
			"add the packages on a machine of the tree's release, or build the tree from a recipe that names its archives")
	}
	return machine, nil
}

// installed are the names of the packages of a tree that are installed.
func installed(dir string) ([]string, error) {
	all, err := deb.ReadStatus(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range all {
		if !strings.HasSuffix(p.Status, " installed") {
			return nil, kiln.WithHint(fmt.Errorf("package %s of the tree is %q", p.Name, p.Status), "finish or remove it first: `dpkg --configure -a` in the tree")
		}
		names = append(names, p.Name)
	}
	if len(names) == 0 {
		return nil, errors.New("the tree has no installed package: nothing can be added to it")
	}
	return names, nil
}
