package line

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"kiln"
	"kiln/internal/deb"
	"kiln/internal/image"
	"kiln/internal/line/assemble"
	"kiln/internal/line/harden"
	"kiln/internal/line/pack"
	"kiln/internal/line/scan"
	"kiln/internal/line/trial"
	"kiln/internal/probe"
	"kiln/internal/sandbox"
	"kiln/internal/tree"
)

// treeNote is what is remembered of a tree besides the tree itself.
type treeNote struct {
	keptTree
	Key kiln.Digest `json:"key"`
	// Made are paths that the recipe's own files and steps made, Gone those that hardening took away.
	Made []string `json:"made,omitempty"`
	Gone []string `json:"gone,omitempty"`
	// Base is the configuration of the image that the tree starts from.
	Base *kiln.ImageConfig `json:"base,omitempty"`
}

// assemble makes the recipe's tree: packages configured, then the recipe's accounts, files and steps.
func (j *journey) assemble(ctx context.Context) (string, bool, error) {
	lock, r := j.build.Lock, j.req.Recipe
	inputs := []any{lock.Packages, lock.Image, lock.Epoch, lock.Release, lock.Platform, lock.Files, r.Groups, r.Users, r.Files, r.Steps}
	cached, err := j.rememberTree(ctx, treeWork{station: kiln.StationAssemble, inputs: inputs, note: &j.assembled, result: &j.assembled, do: func(dir string) error {
		return j.makeTree(ctx, dir)
	}})
	if err != nil {
		return "", false, err
	}
	j.build.Tree = j.assembled.Tree
	return fmt.Sprintf("%d files, %s", j.assembled.Files, size(j.assembled.Bytes)), cached, nil
}

func (j *journey) makeTree(ctx context.Context, dir string) error {
	lock := j.build.Lock
	if !j.proven { // what was proven in an earlier run may be gone or damaged since
		if _, err := j.prove(ctx, lock, j.req.Recipe); err != nil {
			return err
		}
	}
	o := assemble.Options{Open: j.open, CacheDir: j.path("cache"), Program: j.Program, Run: sandbox.Run, Report: j.Report, Parallel: 2}
	if lock.Image != nil {
		base, err := j.unpackBase(ctx, dir)
		if err != nil {
			return err
		}
		j.assembled.Base = base
	}
	if len(lock.Archives) > 0 {
		if err := assemble.Apt(ctx, lock, dir, o); err != nil {
			return err
		}
	}
	before, err := paths(dir)
	if err != nil {
		return err
	}
	if err := assemble.Customise(ctx, j.req.Recipe, lock, dir, o); err != nil {
		return err
	}
	after, err := paths(dir)
	j.assembled.Made = missing(after, before)
	return err
}

// harden makes the profile's objectives hold on the tree.
func (j *journey) harden(ctx context.Context) (string, bool, error) {
	controls, err := j.profile()
	if err != nil {
		return "", false, err
	}
	r, lock := inherit(j.req.Recipe, j.assembled.Base), j.build.Lock
	if err := fitsProfile(lock, controls.list); err != nil {
		return "", false, err
	}
	if lock.Catalogue != "" && lock.Catalogue != controls.digest {
		j.Report.Warn(kiln.StationHarden, "the lock was made with another catalogue of objectives; the image may come out different")
	}
	if r, err = withWanted(r); err != nil {
		return "", false, err
	}
	for _, n := range controls.notes {
		j.Report.Warn(kiln.StationHarden, n)
	}
	in := harden.Input{
		Recipe: r, Lock: lock, Controls: controls.list, Profile: controls.profile, Catalogue: controls.digest, Waivers: r.Hardening.Waivers, LeftOut: controls.leftOut,
		Now: j.Now(), Probe: j.probe, Before: j.assembled.Tree, Report: j.Report,
	}
	inputs := []any{
		j.assembled.Tree, controls.list, controls.profile, controls.leftOut, r.Hardening, r.Name, r.Version, r.Description, r.Entrypoint, r.Command, r.User, r.WorkDir, r.Env,
		r.Ports, r.Volumes, r.Labels, r.StopSignal, r.Healthcheck, r.Packages, day(j.Now()),
		lock.Epoch, lock.Distro, lock.Variants, lock.Packages,
	}
	var result struct {
		Note   treeNote             `json:"note"`
		Result kiln.HardeningResult `json:"result"`
	}
	cached, err := j.rememberTree(ctx, treeWork{station: kiln.StationHarden, inputs: inputs, from: &j.assembled, note: &result.Note, result: &result, do: func(dir string) error {
		return j.applyProfile(ctx, dir, in, &result.Note, &result.Result)
	}})
	if err != nil {
		return "", false, err
	}
	j.hardened, j.build.Hardening = result.Note, &result.Result
	return summary(&result.Result), cached, nil
}

func (j *journey) applyProfile(ctx context.Context, dir string, in harden.Input, note *treeNote, out *kiln.HardeningResult) error {
	before, err := paths(dir)
	if err != nil {
		return err
	}
	result, err := harden.Apply(ctx, dir, in)
	if err != nil {
		return err
	}
	after, err := paths(dir)
	note.Gone, note.Made, *out = missing(before, after), missing(after, before), *result
	return err
}

func summary(h *kiln.HardeningResult) string {
	total := len(h.Outcomes) - h.Count(kiln.NotApplicable)
	s := fmt.Sprintf("%d of %d objectives hold", h.Count(kiln.Satisfied), total)
	for _, c := range []struct{ state, words string }{{kiln.NotSatisfied, "not"}, {kiln.Waived, "waived"}, {kiln.Unknown, "unknown"}} {
		if h.Count(c.state) > 0 {
			s += ", " + c.words + ": " + named(h, c.state)
		}
	}
	return s
}

// maxNamed is how many objectives one line names.
const maxNamed = 4

// named lists the objectives of that state.
func named(h *kiln.HardeningResult, state string) string {
	var ids []string
	for _, o := range h.Outcomes {
		if o.State == state {
			ids = append(ids, o.Objective)
		}
	}
	if more := len(ids) - maxNamed; more > 0 {
		ids = append(ids[:maxNamed], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(ids, ", ")
}

// probe runs a program inside the tree that lies in the workspace, for effective values.
func (j *journey) probe(ctx context.Context, args ...string) ([]byte, error) {
	return probe.Tree(ctx, j.dir, args...)
}

// trial starts the candidate cold and runs the recipe's tests.
func (j *journey) trial(ctx context.Context) (string, bool, error) {
	tests, err := j.testsToRun()
	if err != nil {
		return "", false, err
	}
	t := new(kiln.Trial)
	inputs := []any{j.hardened.Tree, j.build.Hardening.Config, tests, j.build.Lock.Files}
	cached, _, err := remember(j, kiln.StationTrial, inputs, t, func() error {
		dir, err := j.treeAt(ctx, j.hardened)
		if err != nil {
			return err
		}
		result, err := trial.Run(ctx, trial.Input{
			Layers: []string{dir}, Tree: j.hardened.Tree, Config: j.build.Hardening.Config, Tests: tests,
			Dir: j.req.Recipe.Dir, Read: j.beside, Report: j.Report,
		})
		if err != nil {
			return err
		}
		*t = *result
		return failedTests(t)
	})
	if t.Kind != "" {
		j.build.Trial = t
	}
	if err != nil {
		return "", false, err
	}
	return fmt.Sprintf("%d tests passed", len(t.Tests)), cached, nil
}

// scan lists what is in the tree.
func (j *journey) scan(ctx context.Context) (string, bool, error) {
	b := new(kiln.Bill)
	cached, _, err := remember(j, kiln.StationScan, []any{j.hardened.Tree, j.build.Lock, j.assembled.Made, j.build.Hardening}, b, func() error {
		dir, err := j.treeAt(ctx, j.hardened)
		if err != nil {
			return err
		}
		known, gone := set(j.assembled.Made), set(j.hardened.Gone)
		for _, p := range j.hardened.Made {
			known[p] = true
		}
		for _, o := range j.build.Hardening.Outcomes {
			for _, p := range o.Changed {
				known[p] = true
			}
		}
		bill, err := scan.Tree(ctx, dir, scan.Input{
			Lock: j.build.Lock, Recipe: j.req.Recipe, Subject: kiln.Subject{Name: j.build.Name, Digest: j.hardened.Tree},
			Accounted: func(p string) bool { return known[p] }, Removed: func(p string) bool { return gone[p] },
		})
		if err != nil {
			return err
		}
		*b = *bill
		return nil
	})
	if err != nil {
		return "", false, err
	}
	j.build.Bill = b
	return fmt.Sprintf("%d components, %d unaccounted files", len(b.Components), len(b.Unowned)), cached, nil
}

// pack makes the OCI image.
func (j *journey) pack(ctx context.Context) (string, bool, error) {
	a := new(kiln.Artifact)
	r := j.req.Recipe
	inputs := []any{j.hardened.Tree, j.build.Hardening.Config, j.build.Lock.Epoch, j.build.Lock.Packages, r.Name, r.Version, r.Description, r.Labels}
	work := func() error {
		dir, err := j.treeAt(ctx, j.hardened)
		if err != nil {
			return err
		}
		role, err := layerRole(dir, j.build.Lock)
		if err != nil {
			return err
		}
		art, err := pack.Image(ctx, pack.Input{Dir: dir, Recipe: j.req.Recipe, Lock: j.build.Lock, Role: role, Config: j.build.Hardening.Config, Tree: j.hardened.Tree}, j.Layout)
		if err != nil {
			return err
		}
		*a = *art
		return nil
	}
	cached, key, err := remember(j, kiln.StationPack, inputs, a, work)
	if err == nil && cached && !j.haveImage(a) {
		// The result is known but somebody took the image away: make it again.
		if cached, err = false, work(); err == nil {
			err = j.memo.put(kiln.StationPack, key, a)
		}
	}
	if err != nil {
		return "", false, err
	}
	j.build.Artifact = a
	return fmt.Sprintf("%s in %d layers, %s unpacked, %s", size(a.Size), len(a.Layers), size(a.Unpacked), a.Index.Short()), cached, nil
}

// haveImage reports whether the local store still holds the image, whole.
func (j *journey) haveImage(a *kiln.Artifact) bool {
	desc, err := j.Layout.Find(string(a.Index))
	if err == nil {
		err = j.Layout.Verify(desc)
	}
	if errors.Is(err, image.ErrDamaged) {
		n, _ := j.Layout.DropDamaged() // what cannot be dropped is found again by whoever reads it
		j.Report.Warn(kiln.StationPack, fmt.Sprintf("%d files were damaged in the local store; they were dropped and are made again", n))
	}
	return err == nil
}

// layerRole puts every path into a layer by who brought it, so that a change of
// the application leaves the layers below alone.
func layerRole(dir string, lock *kiln.Lock) (func(string) string, error) {
	owners, err := deb.Owners(dir)
	if err != nil {
		return nil, fmt.Errorf("reading who owns which file: %w", err)
	}
	base := map[string]bool{}
	for _, p := range lock.Packages {
		base[p.Name] = p.Base
	}
	return func(p string) string {
		owner, ok := owners[p]
		switch {
		case !ok:
			return "application"
		case base[owner]:
			return "base"
		}
		return "packages"
	}, nil
}

// paths lists every path of a tree.
func paths(dir string) ([]string, error) {
	var out []string
	err := tree.Walk(dir, func(e tree.Entry) error {
		out = append(out, e.Path)
		return nil
	})
	return out, err
}

// missing returns the paths of a that b lacks.
func missing(a, b []string) []string {
	have := set(b)
	var out []string
	for _, p := range a {
		if !have[p] {
			out = append(out, path.Clean(p))
		}
	}
	return out
}

func set(list []string) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, s := range list {
		m[s] = true
	}
	return m
}

func size(n int64) string {
	const unit = 1 << 20
	if n < 10*unit {
		return fmt.Sprintf("%.1f MiB", float64(n)/unit)
	}
	return fmt.Sprintf("%d MiB", n/unit)
}
