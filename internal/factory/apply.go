package factory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/deb"
	"kiln/internal/line/harden"
	"kiln/internal/target"
)

// ApplyRequest asks to harden a directory in place.
type ApplyRequest struct {
	Dir string
	// Profiles, Scope and Waivers are those of an AuditRequest.
	Profiles []string
	Scope    string
	Waivers  []kiln.Waiver
	// AtRest runs no program of the tree.
	AtRest bool
	// AddPackages first installs the packages that the objectives ask for, from this machine's archives.
	AddPackages bool
}

// ApplyControls makes the objectives of profiles hold on a directory, by the
// code that builds use, and returns every outcome with the paths that were
// changed. There is no way back but a copy of the directory. The running
// system, and a directory with other file systems mounted in it, are refused.
func ApplyControls(ctx context.Context, cfg Config, req ApplyRequest) (*kiln.HardeningResult, error) {
	dir, err := ownTree(req.Dir)
	if err != nil {
		return nil, kiln.Misuse(err)
	}
	cat, err := catalogue.Load()
	if err != nil {
		return nil, err
	}
	t, err := target.Open(ctx, "dir:"+dir, target.Options{})
	if err != nil {
		return nil, err
	}
	in, err := auditInput(cat, t, AuditRequest{Profiles: req.Profiles, Scope: req.Scope, Waivers: req.Waivers, AtRest: req.AtRest})
	var added []string
	if err == nil && req.AddPackages {
		added, err = addPackages(ctx, cfg, dir, in.Controls)
	}
	if err == nil {
		in.Now, in.Report, in.Catalogue = cfg.now(), cfg.Report, cat.Digest()
		in.FilesOnly, in.NoDigest = true, true
		var result *kiln.HardeningResult
		if result, err = harden.Apply(ctx, dir, in); err == nil {
			result.Target, result.Added = req.Dir, added
			return result, t.Close()
		}
	}
	return nil, errors.Join(fmt.Errorf("hardening %s: %w", req.Dir, err), t.Close())
}

// addPackages installs what the objectives ask for and the tree lacks.
func addPackages(ctx context.Context, cfg Config, dir string, controls []kiln.Control) ([]string, error) {
	there, err := deb.ReadStatus(dir)
	if err != nil {
		return nil, err
	}
	names, err := harden.Packages(controls, func(name string) bool {
		return slices.ContainsFunc(there, func(p deb.Package) bool { return p.Name == name })
	})
	if err != nil || len(names) == 0 {
		return nil, err
	}
	f, err := Open(cfg)
	if err != nil {
		return nil, err
	}
	l, err := f.line()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	locked, err := l.AddPackages(ctx, dir, names)
	var added []string
	for _, p := range locked {
		added = append(added, p.Name+"="+p.Version)
	}
	return added, errors.Join(err, f.Close())
}

// ownTree returns the directory with links resolved, unless it is the running system's or holds more than one file system.
func ownTree(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return "", fmt.Errorf("hardening %s: %w", dir, err)
	}
	info, err := os.Stat(abs)
	if err != nil {
		return "", fmt.Errorf("hardening %s: %w", dir, err)
	}
	root, err := os.Stat("/")
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("hardening %s: it is no directory", dir)
	}
	if os.SameFile(info, root) {
		return "", kiln.WithHint(fmt.Errorf("hardening %s: it is the running system, which has no way back", dir),
			"try the profile on a copy; `kiln audit host` says what holds here")
	}
	if !target.IsRoot(abs) {
		return "", kiln.WithHint(fmt.Errorf("hardening %s: it is no root file system: it has no /etc, no /usr and no /bin", dir),
			"name the directory that would be / of the machine or the container")
	}
	inside, err := target.MountsBelow(abs)
	if err != nil {
		return "", fmt.Errorf("hardening %s: %w", dir, err)
	}
	if len(inside) > 0 {
		return "", kiln.WithHint(fmt.Errorf("hardening %s: other file systems are mounted in it: %s", dir, strings.Join(inside, ", ")), "unmount them first")
	}
	return abs, nil
}
