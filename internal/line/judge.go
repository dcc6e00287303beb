package line

import (
	"context"
	"errors"
	"fmt"

	"kiln"
	"kiln/internal/keys"
	"kiln/internal/line/admit"
	"kiln/internal/line/attest"
	"kiln/internal/line/publish"
	"kiln/internal/line/scan"
)

// ErrDenied says that the policy did not admit the image.
var ErrDenied = errors.New("not admitted")

type signed struct {
	Statements []kiln.Statement `json:"statements"`
}

// attest signs what was done and attaches it to the image.
func (j *journey) attest(ctx context.Context) (string, bool, error) {
	b := j.build
	ids, err := j.keyIDs()
	if err != nil {
		return "", false, err
	}
	var out signed
	cached, key, err := remember(j, kiln.StationAttest, []any{b.Artifact, b.Lock, b.Trial, b.Hardening, b.Bill, ids}, &out, func() error {
		out.Statements, err = j.sign(ctx)
		return err
	})
	if err == nil && cached && !j.haveStatements(out.Statements) {
		cached = false
		if out.Statements, err = j.sign(ctx); err == nil {
			err = j.memo.put(kiln.StationAttest, key, out)
		}
	}
	if err != nil {
		return "", false, err
	}
	b.Statements = out.Statements
	return fmt.Sprintf("%d statements signed by their roles", len(out.Statements)), cached, nil
}

// sign makes the statements anew; those of an earlier build of the same image give way.
func (j *journey) sign(ctx context.Context) ([]kiln.Statement, error) {
	in, err := j.attestInput()
	if err != nil {
		return nil, err
	}
	if err := j.Layout.DropReferrers(attest.BundleMediaType, j.build.Artifact.Index, j.build.Artifact.Manifest); err != nil {
		return nil, err
	}
	return attest.Attest(ctx, in, j.Key, j.Layout)
}

func (j *journey) attestInput() (attest.Input, error) {
	in := attest.Input{Build: j.build, Recipe: j.req.Recipe, Version: j.Version}
	subject := kiln.Subject{Name: j.build.Artifact.Name, Digest: j.build.Artifact.Index}
	bill := *j.build.Bill
	bill.Subject = subject
	var err error
	if in.CycloneDX, err = scan.CycloneDX(&bill, j.build.Lock.Epoch); err != nil {
		return in, err
	}
	in.SPDX, err = scan.SPDX(&bill, j.build.Lock.Epoch)
	return in, err
}

func (j *journey) keyIDs() (map[string]kiln.Digest, error) {
	ids := map[string]kiln.Digest{}
	for _, role := range keys.Roles() {
		public, err := j.Public(role)
		if err != nil {
			return nil, err
		}
		if ids[role], err = keys.ID(public); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

func (j *journey) haveStatements(list []kiln.Statement) bool {
	for _, s := range list {
		if !j.Layout.Has(s.Bundle, -1) || !j.Layout.Has(s.Referrer, -1) {
			return false
		}
	}
	return true
}

// admit asks the policy. Every statement is verified again from the stored
// bundle first: the policy judges what is there, not what this process believes it wrote.
func (j *journey) admit(ctx context.Context) (string, bool, error) {
	b := j.build
	if err := j.checkStatements(); err != nil {
		return "", false, err
	}
	policy, err := j.policy()
	if err != nil {
		return "", false, err
	}
	verdict := admit.Decide(policy, j.record(), j.Now())
	var decided struct {
		Verdict    kiln.Verdict     `json:"verdict"`
		Statements []kiln.Statement `json:"statements"`
	}
	timeless := *verdict
	timeless.Time = 0
	cached, key, err := remember(j, kiln.StationAdmit, []any{timeless, b.Statements}, &decided, func() error {
		decided.Verdict = *verdict
		decided.Statements, err = j.decide(ctx, verdict)
		return err
	})
	if err == nil && cached && !j.haveStatements(decided.Statements) {
		cached, decided.Verdict = false, *verdict
		if decided.Statements, err = j.decide(ctx, verdict); err == nil {
			err = j.memo.put(kiln.StationAdmit, key, decided)
		}
	}
	if err != nil {
		return "", false, err
	}
	b.Verdict = &decided.Verdict
	b.Statements = append(b.Statements, decided.Statements...)
	if !b.Verdict.Serves() {
		return "", false, fmt.Errorf("%w: the decision is %s by %s", ErrDenied, b.Verdict.Decision, b.Verdict.Rule)
	}
	return fmt.Sprintf("%s by %s", b.Verdict.Decision, b.Verdict.Rule), cached, nil
}

// decide signs the verdict and, where it admits, the release.
func (j *journey) decide(ctx context.Context, v *kiln.Verdict) ([]kiln.Statement, error) {
	in, err := j.attestInput()
	if err != nil {
		return nil, err
	}
	in.Now = j.Now()
	return attest.Decision(ctx, in, v, j.build.Statements, j.Key, j.Layout)
}

// policy is the request's, bound to the keys that sign here.
func (j *journey) policy() (*admit.Policy, error) {
	ids, err := j.keyIDs()
	if err != nil {
		return nil, err
	}
	self := map[string][]kiln.Digest{}
	for role, id := range ids {
		self[role] = []kiln.Digest{id}
	}
	return j.req.Policy.WithSelf(self), nil
}

// admitInputs asks the policy about the inputs alone, before any of their programs runs.
func (j *journey) admitInputs() error {
	b := j.build
	v := admit.DecideInputs(j.req.Policy, &kiln.Record{Match: "image:" + b.Name, Subject: kiln.Subject{Name: b.Name}, Evidence: b.Evidence}, j.Now())
	if v.Serves() {
		return nil
	}
	b.Verdict = v
	return fmt.Errorf("%w: the decision about the inputs is %s by %s", ErrDenied, v.Decision, v.Rule)
}

func (j *journey) record() *kiln.Record {
	b := j.build
	return &kiln.Record{
		Match: "image:" + b.Name, Version: j.req.Recipe.Version, Subject: kiln.Subject{Name: b.Name, Digest: b.Artifact.Index},
		Evidence: b.Evidence, Statements: b.Statements, Hardening: b.Hardening, Trial: b.Trial, Bill: b.Bill,
	}
}

// maxBundle bounds a signed bundle: an SBOM of a large image has a few MiB.
const maxBundle = 64 << 20

func (j *journey) checkStatements() error {
	for _, s := range j.build.Statements {
		if err := j.checkStatement(s, j.build.Artifact.Index); err != nil {
			return err
		}
	}
	return nil
}

// publish gives the image its name.
func (j *journey) publish(ctx context.Context) (string, bool, error) {
	b := j.build
	before, err := j.Records.Current(ctx, b.Name, j.req.Channel)
	known := err == nil && before != nil && before.Digest == b.Artifact.Index && j.recorded(ctx)
	release, places, err := publish.Image(ctx, publish.Input{
		Name: b.Name, Channel: j.req.Channel, Build: b, Verdict: b.Verdict, Outputs: j.req.Recipe.Outputs, Dir: j.req.Recipe.Dir, Now: j.Now(),
	}, j.Layout, j.Records)
	b.Release = release
	if err != nil {
		return "", false, err
	}
	note := b.Name + "@" + j.req.Channel
	for _, p := range places[1:] { // the first is the local store
		note += ", " + p.Kind + " " + p.Target
	}
	return note, known, nil
}
