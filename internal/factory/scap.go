package factory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"kiln"
	"kiln/internal/sandbox"
	"kiln/internal/scap"
	"kiln/internal/target"
	"kiln/internal/workspace"
)

// SecondOpinion is what an audit compares its own outcomes with.
type SecondOpinion struct {
	// Content is the path of a SCAP data stream that the OpenSCAP program evaluates on the target; Profile is one of its profiles.
	Content, Profile string
	// Results are paths of XCCDF results that another run wrote.
	Results []string
}

// ForksTree tells whether the audit lets a program write into a copy of the target, which needs a mount namespace of its own.
func (r AuditRequest) ForksTree() bool {
	form, _, err := target.Parse(r.Target)
	return err == nil && r.Opinion.Content != "" && target.KindOf(form) != target.Host
}

// check refuses what could not be compared before anything is looked at.
func (o SecondOpinion) check() error {
	if o.Profile != "" && o.Content == "" {
		return kiln.Misuse(errors.New("a profile of SCAP content is named, and no content"))
	}
	for _, path := range append([]string{o.Content}, o.Results...) {
		if path == "" {
			continue
		}
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return kiln.Misuse(errors.Join(fmt.Errorf("%s is no regular file", path), err))
		}
	}
	return nil
}

// ask gives the other judges' results beside these.
func (o SecondOpinion) ask(ctx context.Context, state string, t *target.Target, h *kiln.HardeningResult) error {
	for _, path := range o.Results {
		r, err := scap.ReadResultsFile(path)
		if err != nil {
			return kiln.Misuse(fmt.Errorf("results of another run: %w", err))
		}
		h.Comparisons = append(h.Comparisons, scap.Compare(r, filepath.Base(path), h.Outcomes))
	}
	if o.Content == "" {
		return nil
	}
	out, err := o.evaluate(ctx, state, t, h.Platform)
	if err != nil {
		return fmt.Errorf("evaluating %s: %w", filepath.Base(o.Content), err)
	}
	c := scap.Compare(out.Results, "oscap, "+filepath.Base(o.Content), h.Outcomes)
	c.Bound = out.Bound
	h.Comparisons = append(h.Comparisons, c)
	return nil
}

func (o SecondOpinion) evaluate(ctx context.Context, state string, t *target.Target, distro string) (*scap.Evaluated, error) {
	e := scap.Evaluation{Content: o.Content, Profile: o.Profile, Distro: distro}
	if t.Kind == target.Host {
		work, err := os.MkdirTemp("", "kiln-scap-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(work)
		e.Work = work
		return e.Run(ctx)
	}
	space, err := workspace.Open(filepath.Join(state, "work"), 1<<30)
	if err != nil {
		return nil, err
	}
	out, err := evaluateFork(ctx, e, space, t.Dir)
	return out, errors.Join(err, space.Close())
}

// evaluateFork runs on a copy-on-write fork: the program writes into what it looks at.
func evaluateFork(ctx context.Context, e scap.Evaluation, space *workspace.Space, dir string) (*scap.Evaluated, error) {
	work, err := space.Fresh("scap")
	if err != nil {
		return nil, err
	}
	place, err := space.Fresh("fork")
	if err != nil {
		return nil, err
	}
	fork, err := sandbox.NewFork(place, dir)
	if err != nil {
		return nil, err
	}
	e.Work, e.Tree = work, fork.Merged
	out, err := e.Run(ctx)
	return out, errors.Join(err, fork.Close())
}
