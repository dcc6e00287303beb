package line

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
	"kiln/internal/line/attest"
)

// keep writes a build down that ended in a decision about its image: published,
// also where one of its outputs failed, or denied. Who asks about the image
// afterwards is answered by the newest decision.
func (j *journey) keep(ctx context.Context, failed error) error {
	b := j.build
	published := b.Release != nil && !b.Unchanged
	denied := errors.Is(failed, ErrDenied) && b.Artifact != nil
	if !published && !denied {
		return nil
	}
	return j.Records.PutBuild(ctx, b, j.Now().Unix())
}

// recorded reports whether the image's newest record is one of a published
// build. A run that was killed after the channel moved and before the build
// was written down left none, and the next one must make up for it.
func (j *journey) recorded(ctx context.Context) bool {
	b, err := j.Records.Build(ctx, string(j.build.Artifact.Index))
	return err == nil && b.Release != nil
}

// CheckServable refuses an image that its build's record does not let be
// served, or whose statements are no longer what the record says: each must
// still be attached, about this image, and signed by this factory's key for its role.
func (l *Line) CheckServable(b *kiln.Build) error {
	v, a := b.Verdict, b.Artifact
	switch {
	case a == nil || v == nil || b.Release == nil || !v.Serves():
		return fmt.Errorf("%w: the newest decision about it does not let it be served", ErrDenied)
	case v.Subject.Digest != a.Index && v.Subject.Digest != a.Manifest:
		return fmt.Errorf("%w: the decision is about %s", ErrDenied, v.Subject.Digest.Short())
	}
	attached, err := l.Layout.Referrers(a.Index)
	if err != nil {
		return err
	}
	released := false
	for _, s := range b.Statements {
		if !slices.ContainsFunc(attached, func(d ocispec.Descriptor) bool { return string(d.Digest) == string(s.Referrer) }) {
			return fmt.Errorf("%w: its %s statement by %s was withdrawn", ErrDenied, s.PredicateType, s.Role)
		}
		if err := l.checkStatement(s, a.Index); err != nil {
			return fmt.Errorf("%w: %w", ErrDenied, err)
		}
		released = released || s.PredicateType == kiln.PredicateRelease
	}
	if v.Decision == kiln.Allow && !released {
		return fmt.Errorf("%w: it has no release signature", ErrDenied)
	}
	return nil
}

// checkStatement verifies a statement from its stored bundle.
func (l *Line) checkStatement(s kiln.Statement, subject kiln.Digest) error {
	public, err := l.Public(s.Role)
	if err != nil {
		return err
	}
	text, err := l.Layout.Read(s.Bundle, maxBundle)
	if err != nil {
		return fmt.Errorf("reading the %s statement: %w", s.PredicateType, err)
	}
	got, _, err := attest.Verify(text, public, subject)
	if err == nil && got != s.PredicateType {
		err = fmt.Errorf("it is a %s", got)
	}
	if err != nil {
		return fmt.Errorf("checking the %s statement by %s: %w", s.PredicateType, s.Role, err)
	}
	return nil
}

// checkUntil refuses a station that there is none of, before the line is
// travelled to its end in search of it.
func checkUntil(name string) error {
	var names []string
	for _, s := range stations {
		names = append(names, s.name)
	}
	if name == "" || slices.Contains(names, name) {
		return nil
	}
	return kiln.Misuse(fmt.Errorf("there is no station %q to stop after; stations are %s", name, strings.Join(names, ", ")))
}
