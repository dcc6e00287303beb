package factory

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/assess"
	"kiln/internal/image"
	"kiln/internal/line/harden"
	"kiln/internal/target"
)

// AuditRequest is an audit as a user asks for it.
type AuditRequest struct {
	// Target is what is looked at, as target.Parse reads it.
	Target string
	// Profiles are audited together; AllObjectives among them means every objective of the catalogue. None means the
	// default of the scope.
	Profiles []string
	// Scope is "container" or "machine"; empty means what the profiles are for, or else what the target is.
	Scope   string
	Waivers []kiln.Waiver
	// Platform is os/arch[/variant] of an image with several; empty is this machine's.
	Platform string
	// PlainHTTP allows registries without TLS.
	PlainHTTP bool
	// AtRest runs no program of the target: what is configured is judged, not what is in effect.
	AtRest bool
	// ProfileFile is the path of a profile of the user's own, instead of Profiles; Tailoring that of an XCCDF tailoring file.
	ProfileFile, Tailoring string
	// Opinion is another program's, set beside these outcomes.
	Opinion SecondOpinion
}

// defaultMachineProfile is audited on machines where none is named.
const defaultMachineProfile = "cis-l1"

// NeedsMounts tells whether an audit of that target has to be in a mount namespace of its own (sandbox.Enter).
func NeedsMounts(name string) (bool, error) {
	form, _, err := target.Parse(name)
	kind := target.KindOf(form)
	return kind == target.Image || kind == target.Disk, err
}

// Audit looks at a target and returns the state of every objective asked for,
// ready to be written in any form that package assess knows. It changes nothing.
// The state directory is opened only for what needs it: images of the local
// store, and the cache of those from registries.
func Audit(ctx context.Context, cfg Config, req AuditRequest) (*assess.Assessment, error) {
	start := cfg.now()
	if err := req.Opinion.check(); err != nil {
		return nil, err
	}
	loading := loadCatalogue() // beside opening and listing the target
	state := &auditState{cfg: cfg}
	defer state.close()
	t, err := target.Open(ctx, req.Target, state.options(req))
	if err != nil {
		return nil, err
	}
	looked, err := harden.Look(ctx, t.Dir, t.Skip)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	defer looked.Close()
	cat, err := loading()
	var result *kiln.HardeningResult
	if err == nil {
		result, err = judge(ctx, looked, cat, t, cfg, req)
	}
	if err == nil {
		err = req.Opinion.ask(ctx, cfg.State, t, result)
	}
	if err := errors.Join(err, t.Close()); err != nil {
		return nil, err
	}
	result.Target, result.Image = req.Target, t.Digest
	result.LeftOut = append(result.LeftOut, t.Notes...)
	return &assess.Assessment{
		Result: result, Controls: cat.Objectives(), Start: start, End: cfg.now(), Platform: result.Platform,
	}, nil
}

// loadCatalogue begins to read the catalogue and returns how to wait for it.
// Its digest, which takes as long, is computed while the tree is judged.
func loadCatalogue() func() (*catalogue.Catalogue, error) {
	var cat *catalogue.Catalogue
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		cat, err = catalogue.Load()
	}()
	return func() (*catalogue.Catalogue, error) { <-done; return cat, err }
}

func judge(ctx context.Context, looked *harden.Looked, cat *catalogue.Catalogue, t *target.Target, cfg Config, req AuditRequest) (*kiln.HardeningResult, error) {
	digest := make(chan kiln.Digest, 1)
	go func() { digest <- cat.Digest() }()
	in, err := auditInput(cat, t, req)
	if err != nil {
		return nil, err
	}
	in.Now, in.Report = cfg.now(), cfg.Report
	result, err := looked.Audit(ctx, in)
	if err != nil {
		return nil, err
	}
	result.Catalogue, result.LeftOut = <-digest, append(result.LeftOut, in.Notes...)
	return result, nil
}

func auditInput(cat *catalogue.Catalogue, t *target.Target, req AuditRequest) (harden.Input, error) {
	in := harden.Input{Waivers: append([]kiln.Waiver{}, req.Waivers...), Config: t.Config, Skip: t.Skip}
	profiles, err := chooseProfiles(cat, t, req, &in)
	if err != nil {
		return in, kiln.Misuse(err)
	}
	in.Profile = strings.Join(profiles, "+")
	for _, l := range t.Layers {
		in.Layers = append(in.Layers, harden.Layer{Digest: l.Digest, Step: l.Step, Open: l.Open})
	}
	if !req.AtRest {
		in.Probe = prober(t)
		if t.Kind == target.Host {
			in.Proc = "/proc"
		}
	}
	return in, nil
}

// chooseProfiles fills objectives and scope, and returns the profiles' names.
func chooseProfiles(cat *catalogue.Catalogue, t *target.Target, req AuditRequest, in *harden.Input) ([]string, error) {
	in.Scope, req.Profiles = req.Scope, ProfileNames(req.Profiles)
	names := req.Profiles
	if in.Scope == "" {
		in.Scope = scopeOf(cat, t, names)
	}
	if len(names) == 0 {
		names = []string{catalogue.DefaultProfile}
		if in.Scope == "machine" {
			names = []string{defaultMachineProfile}
		}
	}
	if req.ProfileFile != "" || req.Tailoring != "" {
		return tailored(cat, req, in)
	}
	var err error
	in.Controls, names, err = Profiles(cat, names)
	return names, err
}

// scopeOf is what all the profiles are for, or else what the target is.
func scopeOf(cat *catalogue.Catalogue, t *target.Target, profiles []string) string {
	scopes := map[string]bool{}
	for _, p := range profiles {
		if p != AllObjectives && p != "none" {
			scopes[cat.Scope(p)] = true
		}
	}
	switch {
	case len(scopes) == 1 && scopes["machine"]:
		return "machine"
	case len(scopes) == 1:
		return "container"
	case t.Machine():
		return "machine"
	}
	return "container"
}

// auditState opens the state directory when it is first needed.
type auditState struct {
	cfg  Config
	open *Factory
}

func (s *auditState) factory() (*Factory, error) {
	if s.open == nil {
		f, err := Open(s.cfg)
		if err != nil {
			return nil, err
		}
		s.open = f
	}
	return s.open, nil
}

func (s *auditState) close() {
	if s.open != nil {
		_ = s.open.Close() // it was only read
	}
}

func (s *auditState) options(req AuditRequest) target.Options {
	platform := req.Platform
	if platform == "" {
		platform = "linux/" + runtime.GOARCH
	}
	return target.Options{
		Work: filepath.Join(s.cfg.State, "work"), Platform: platform, PlainHTTP: req.PlainHTTP,
		Cache: func() (*image.Layout, error) {
			return image.CreateLayout(filepath.Join(s.cfg.State, "cache", "images"))
		},
		Store: func(ctx context.Context, ref string) (*image.Layout, kiln.Digest, error) {
			f, err := s.factory()
			if err != nil {
				return nil, "", err
			}
			b, err := f.Find(ctx, ref)
			if err != nil {
				return nil, "", kiln.WithHint(err, "an image elsewhere is named with its registry (registry.example.com/NAME:TAG), a file or directory by its path")
			}
			if b.Artifact == nil {
				return nil, "", fmt.Errorf("build %s has left no image", b.ID)
			}
			return f.layout, b.Artifact.Index, nil
		},
	}
}
