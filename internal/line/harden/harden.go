// Package harden brings a tree and its image configuration to the objectives of
// a profile, and says for each what was found, what was changed and what holds.
//
// An objective has variants, the strictest first; a variant is one or more
// settings, each a kind (a mechanism) with parameters. Apply takes the first
// variant that can be had and records why the ones before it could not.
// There is no undo: the caller hands in a copy-on-write fork and drops it.
package harden

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"kiln"
	"kiln/internal/tree"
)

// Prober runs a program inside the tree and returns what it prints: the way to
// a program's effective configuration, such as sshd -T. An error, a program that
// is missing included, makes kinds fall back to reading files.
type Prober func(ctx context.Context, args ...string) ([]byte, error)

// Input is what Apply and Audit work with.
type Input struct {
	Recipe *kiln.Recipe
	Lock   *kiln.Lock
	// Controls are the objectives, in any order; the order never changes the result.
	Controls []kiln.Control
	// Scope is what the tree is for: "container" (the default) or "machine". Objectives of the other scope do not apply.
	Scope string
	// Profile is their profile's name; empty means the recipe's.
	Profile string
	// Catalogue is the digest of the catalogue that Controls come from.
	Catalogue kiln.Digest
	// Waivers are exceptions; nil means the recipe's.
	Waivers []kiln.Waiver
	// LeftOut says of objectives that are not pursued who left them out; they show as not applicable with that reason.
	LeftOut map[string]string
	// Notes are about how the objectives were chosen, for whoever reads the result; harden does not use them.
	Notes []string
	Now   time.Time // decides whether waivers have expired
	Probe Prober    // may be nil
	// Before is the tree's digest where the caller already knows it; empty means it is computed.
	Before kiln.Digest
	// NoDigest leaves the result's digests empty: for trees that no image is made of, which may hold device nodes.
	NoDigest bool
	// FilesOnly says that the tree is no image: what asks for an image's configuration does not apply. An audit without
	// Config and Recipe takes it for granted.
	FilesOnly bool
	Report    kiln.Report // may be nil

	// Config is the configuration of an image that exists already; Audit judges it as it is. Nil means the recipe's.
	// Its History holds the commands of the image's history, oldest first.
	Config *kiln.ImageConfig
	// Layers are the image's, lowest first, for what the tree alone does not show: a file that a later layer hides is
	// still in an earlier one. Nil where there are none to look into.
	Layers []Layer
	// Skip are places of the tree that Audit does not look into, each with the reason.
	Skip map[string]string
	// Proc is the proc file system of the kernel that runs the tree, where an audit is of the running machine: what is
	// in effect must be as wanted, too. Empty for a tree at rest.
	Proc string
}

// Layer is one layer of an image as a registry hands it out.
type Layer struct {
	Digest kiln.Digest // of the blob as it is stored
	Step   string      // the command of the history that made it, where the image records it
	// Open returns the layer's tar archive, decompressed. Its content is anybody's: names, sizes and their number are
	// to be bounded by who reads it. Reading to the end checks the blob's digest.
	Open func() (io.ReadCloser, error)
}

// maxRounds bounds the fix point: one change may undo another (a removed account leaves unowned files).
const maxRounds = 5

// Apply hardens the tree in dir and returns the outcome of every objective,
// sorted by id. Applying the same input again changes nothing. On an error the
// tree may be partly changed, never a file half-written: drop the fork.
func Apply(ctx context.Context, dir string, in Input) (*kiln.HardeningResult, error) {
	in = in.withDefaults()
	if err := checkInput(in); err != nil {
		return nil, err
	}
	digest := digestBefore(dir, in)
	s, err := newSubject(dir, in)
	before, derr := digest() // nothing is changed before the tree has been read whole
	if err != nil {
		return nil, err
	}
	defer s.close()
	if derr != nil {
		return nil, fmt.Errorf("digesting the tree before hardening: %w", derr)
	}
	config, err := s.imageConfig()
	if err != nil {
		return nil, err
	}
	s.config = config
	outcomes, touched, err := s.pursue(ctx, in, true)
	if err != nil {
		return nil, err
	}
	after := before
	if touched && !in.NoDigest {
		if after, err = tree.Digest(dir, s.epoch); err != nil {
			return nil, fmt.Errorf("digesting the tree after hardening: %w", err)
		}
	}
	return &kiln.HardeningResult{
		Header: kiln.NewHeader("HardeningResult"), Profile: profileName(in), Catalogue: in.Catalogue,
		Before: before, After: after, Outcomes: outcomes, Removed: slices.Sorted(slices.Values(s.removed)), Config: *s.config,
	}, nil
}

func (in Input) withDefaults() Input {
	if in.Recipe == nil {
		return in
	}
	if in.Profile == "" {
		in.Profile = in.Recipe.Hardening.Profile
	}
	if in.Waivers == nil {
		in.Waivers = in.Recipe.Hardening.Waivers
	}
	return in
}

// digestBefore begins to compute the tree's digest and returns how to wait for it.
func digestBefore(dir string, in Input) func() (kiln.Digest, error) {
	if in.Before != "" || in.NoDigest {
		return func() (kiln.Digest, error) { return in.Before, nil }
	}
	var epoch int64
	if in.Lock != nil {
		epoch = in.Lock.Epoch
	}
	var d kiln.Digest
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		d, err = tree.Digest(dir, epoch)
	}()
	return func() (kiln.Digest, error) { <-done; return d, err }
}

func profileName(in Input) string {
	if in.Profile == "" {
		return "none"
	}
	return in.Profile
}

func checkInput(in Input) error {
	if !slices.Contains([]string{"", "container", "machine"}, in.Scope) {
		return fmt.Errorf("scope is container or machine, not %q", in.Scope)
	}
	seen := map[string]bool{}
	for _, c := range in.Controls {
		if err := c.Validate(); err != nil {
			return fmt.Errorf("objective %s: %w", c.ID, err)
		}
		if seen[c.ID] {
			return fmt.Errorf("objective %s stands twice in the profile", c.ID)
		}
		seen[c.ID] = true
		for _, v := range c.Variants {
			for _, set := range v.Settings {
				if err := Check(set); err != nil {
					return fmt.Errorf("objective %s, variant %s: %w", c.ID, v.ID, err)
				}
			}
		}
	}
	for _, w := range in.Waivers {
		if err := w.Validate(); err != nil {
			return fmt.Errorf("waiver of %q: %w", w.Objective, err)
		}
	}
	return checkRemoval(in)
}

// checkRemoval fails closed where the recipe asks for a removal that no objective performs.
func checkRemoval(in Input) error {
	if in.Recipe == nil {
		return nil
	}
	for kind, asked := range removalAsked(&in.Recipe.Hardening.Remove) {
		if asked && !slices.ContainsFunc(in.Controls, func(c kiln.Control) bool { return uses(c, kind) }) {
			return fmt.Errorf("the recipe's hardening.remove asks for %s but no objective does it; choose objectives with the catalogue's Select", kind)
		}
	}
	return nil
}

func uses(c kiln.Control, kind string) bool {
	return slices.ContainsFunc(c.Variants, func(v kiln.Variant) bool {
		return slices.ContainsFunc(v.Settings, func(s kiln.Setting) bool { return s.Kind == kind })
	})
}

// item is one objective on its way through the rounds.
type item struct {
	control kiln.Control
	phase   int
	waiver  *kiln.Waiver
	outcome kiln.Outcome
	changed map[string]bool
	start   int // first variant that may be used
}

func (s *Subject) pursue(ctx context.Context, in Input, change bool) ([]kiln.Outcome, bool, error) {
	s.ctx = ctx
	items := s.items(in)
	touched := false
	for round := range maxRounds {
		var moved []string
		clear(s.touched)
		for i, it := range items {
			if err := ctx.Err(); err != nil {
				return nil, false, err
			}
			did, err := s.attend(ctx, it, round == 0, change)
			if err != nil {
				return nil, false, fmt.Errorf("objective %s: %w", it.control.ID, err)
			}
			if did {
				moved = append(moved, it.control.ID)
			}
			if round == 0 {
				in.Report.Progress(kiln.StationHarden, int64(i+1), int64(len(items)), "objectives")
			}
		}
		touched = touched || len(moved) > 0
		if len(moved) == 0 {
			break
		}
		if round == maxRounds-1 {
			return nil, false, fmt.Errorf("%s: these objectives undo each other, the tree still changes after %d rounds; choose one of them, or another variant", list(moved), maxRounds)
		}
	}
	outcomes := make([]kiln.Outcome, 0, len(items))
	for _, it := range items {
		it.outcome.Changed = shorten(it.changed)
		outcomes = append(outcomes, it.outcome)
	}
	slices.SortFunc(outcomes, func(a, b kiln.Outcome) int { return strings.Compare(a.Objective, b.Objective) })
	return outcomes, touched, nil
}

// items puts the objectives into the one order in which they are pursued.
func (s *Subject) items(in Input) []*item {
	items := make([]*item, 0, len(in.Controls))
	for _, c := range in.Controls {
		it := &item{control: c, changed: map[string]bool{}, start: lockedVariant(in.Lock, c)}
		for _, v := range c.Variants {
			for _, set := range v.Settings {
				it.phase = max(it.phase, kinds[set.Kind].phase)
			}
		}
		it.outcome = kiln.Outcome{Objective: c.ID, Title: c.Title, Severity: c.Severity, References: c.References}
		items = append(items, it)
	}
	slices.SortFunc(items, func(a, b *item) int {
		if a.phase != b.phase {
			return a.phase - b.phase
		}
		return strings.Compare(a.control.ID, b.control.ID)
	})
	waive(items, in)
	return items
}

// lockedVariant is the first variant that the lock still allows: what a fit has accepted.
func lockedVariant(l *kiln.Lock, c kiln.Control) int {
	if l == nil {
		return 0
	}
	for _, lv := range l.Variants {
		if lv.Objective == c.ID {
			return max(0, slices.IndexFunc(c.Variants, func(v kiln.Variant) bool { return v.ID == lv.Variant }))
		}
	}
	return 0
}

// waive attaches waivers that hold; others are named in a warning and ignored.
func waive(items []*item, in Input) {
	for i := range in.Waivers {
		w := &in.Waivers[i]
		at := slices.IndexFunc(items, func(it *item) bool { return it.control.ID == w.Objective })
		switch {
		case at < 0:
			in.Report.Warn(kiln.StationHarden, fmt.Sprintf("the waiver of %s names no objective of profile %s", w.Objective, profileName(in)))
		case w.Expired(in.Now):
			note := fmt.Sprintf("the waiver of %s expired on %s and is ignored; %s may renew it", w.Objective, w.Expires, w.Owner)
			items[at].outcome.Reason = note
			in.Report.Warn(kiln.StationHarden, note)
		default:
			items[at].waiver = w
		}
	}
}

// attend looks at one objective, changes the tree for it where it may, and reports whether it did.
func (s *Subject) attend(ctx context.Context, it *item, first, change bool) (bool, error) {
	if why := s.leftOut[it.control.ID]; why != "" {
		it.outcome.Before, it.outcome.State, it.outcome.Reason = kiln.NotApplicable, kiln.NotApplicable, why
		return false, nil
	}
	if why := s.outOfScope(it.control); why != "" {
		it.outcome.Before, it.outcome.State, it.outcome.Reason = kiln.NotApplicable, kiln.NotApplicable, why
		s.sight.doubt(&it.outcome)
		return false, nil
	}
	notes := []string{}
	moved := false
	var strictest Observation
	for i := it.start; i < len(it.control.Variants); i++ {
		v := it.control.Variants[i]
		obs, err := s.look(v)
		if err != nil {
			return moved, err
		}
		if i == it.start {
			strictest = obs
			if first {
				it.outcome.Before, it.outcome.Observed, it.outcome.Effective = obs.State, obs.Observed, obs.Source
				it.outcome.Wanted = wanted(v)
			}
		}
		if change && it.waiver == nil && obs.State == kiln.NotSatisfied && obs.Blocked == "" {
			err := s.perform(v)
			for _, p := range s.takeChanged() {
				it.changed[p], moved = true, true
			}
			r, refusing := errors.AsType[*refusal](err) // a file that must not be written is a reason, not a breakdown
			if err != nil && !refusing {
				return moved, err
			}
			if obs, err = s.look(v); err != nil {
				return moved, err
			}
			if refusing {
				obs.Blocked = r.Error()
			}
			if obs.State == kiln.NotSatisfied && obs.Blocked == "" {
				obs.Blocked = "it does not hold after being applied: " + obs.Observed
			}
		}
		if obs.State == kiln.Satisfied || obs.State == kiln.NotApplicable {
			it.settle(obs, v.ID, notes)
			return moved, nil
		}
		notes = append(notes, reasonOf(v.ID, obs))
	}
	it.settle(strictest, "", notes)
	return moved, nil
}

func reasonOf(variant string, obs Observation) string {
	why := obs.Blocked
	if why == "" {
		why = obs.Observed
	}
	return variant + ": " + why
}

// settle records what holds now. Notes say why stricter variants do not.
func (it *item) settle(obs Observation, variant string, notes []string) {
	o := &it.outcome
	o.State, o.Variant = obs.State, ""
	expired := ""
	if strings.HasPrefix(o.Reason, "the waiver of ") {
		expired = o.Reason
	}
	switch obs.State {
	case kiln.Satisfied:
		o.Variant = variant
	case kiln.NotApplicable, kiln.Unknown:
		notes = []string{obs.Reason}
	}
	if it.waiver != nil {
		o.Waiver = it.waiver
		if o.State == kiln.NotSatisfied || o.State == kiln.Unknown {
			o.State, notes = kiln.Waived, []string{it.waiver.Reason}
		}
	}
	if expired != "" && !slices.Contains(notes, expired) {
		notes = append([]string{expired}, notes...)
	}
	o.Reason = strings.Join(slices.DeleteFunc(notes, func(n string) bool { return n == "" }), "; ")
}

// outOfScope says why an objective makes no sense for this image, or nothing.
func (s *Subject) outOfScope(c kiln.Control) string {
	s.sight.clear()
	if s.machine && c.Scope == "container" {
		return "for containers only"
	}
	if !s.machine && c.Scope == "machine" {
		return "for machines only"
	}
	if len(c.Platforms) > 0 {
		if distro := s.distro(); distro != "" && !slices.Contains(c.Platforms, distro) {
			return "not for " + distro
		}
	}
	if c.Applies == nil {
		return ""
	}
	if i := c.Applies.Init; i != "" && !s.hasInit(i) {
		return "no init system (" + i + ") is in the image"
	}
	if f := c.Applies.File; f != "" && s.lookup(f) == nil {
		return f + " is not in the image"
	}
	if p := c.Applies.Package; p != "" && !s.packages().has(p) {
		return "package " + p + " is not in the image"
	}
	if i := slices.IndexFunc(c.Applies.Without, s.packages().has); i >= 0 {
		return "package " + c.Applies.Without[i] + " is in the image, and takes its place"
	}
	return ""
}

// hasInit reports whether the tree has an init system, "systemd" or "any".
func (s *Subject) hasInit(which string) bool {
	places := []string{"usr/lib/systemd/systemd", "lib/systemd/systemd"}
	if which == "any" {
		places = append(places, "usr/sbin/init", "sbin/init", "bin/init", "etc/init", "usr/lib/openrc", "sbin/openrc")
	}
	return slices.ContainsFunc(places, func(p string) bool { return s.lookup(p) != nil })
}

// look joins the states of a variant's settings: it is satisfied when all are, and not applicable when all are.
func (s *Subject) look(v kiln.Variant) (Observation, error) {
	var joined Observation
	seen := []string{}
	for i, set := range v.Settings {
		obs, err := s.state(set)
		if err != nil {
			return obs, fmt.Errorf("variant %s, kind %s: %w", v.ID, set.Kind, err)
		}
		if text := obs.Observed; text != "" && !slices.Contains(seen, text) {
			seen = append(seen, text)
		}
		if i == 0 {
			joined = obs
			continue
		}
		joined = worse(joined, obs)
	}
	joined.Observed = strings.Join(seen, "; ")
	return joined, nil
}

var gravity = map[string]int{kiln.NotApplicable: 0, kiln.Satisfied: 1, kiln.NotSatisfied: 2, kiln.Unknown: 3}

func worse(a, b Observation) Observation {
	if gravity[b.State] > gravity[a.State] {
		a, b = b, a
	}
	if a.Blocked == "" && a.State == kiln.NotSatisfied {
		a.Blocked = b.Blocked
	}
	if b.Source != "file" {
		a.Source = b.Source
	}
	return a
}

// perform applies the settings of a variant that do not hold yet.
func (s *Subject) perform(v kiln.Variant) error {
	for _, set := range v.Settings {
		obs, err := kinds[set.Kind].state(s, set.Params)
		if err != nil {
			return err
		}
		if obs.State != kiln.NotSatisfied {
			continue
		}
		if err := kinds[set.Kind].apply(s, set.Params); err != nil {
			return fmt.Errorf("variant %s, kind %s: %w", v.ID, set.Kind, err)
		}
	}
	return nil
}

// maxChanged bounds the list of touched paths in a document; a removed package alone touches hundreds.
const maxChanged = 100

func shorten(set map[string]bool) []string {
	if len(set) == 0 {
		return nil
	}
	out := make([]string, 0, len(set))
	for p := range set {
		out = append(out, p)
	}
	slices.Sort(out)
	if len(out) > maxChanged {
		out = append(out[:maxChanged], fmt.Sprintf("and %d more", len(set)-maxChanged))
	}
	return out
}
