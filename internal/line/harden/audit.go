package harden

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"kiln"
	"kiln/internal/osrelease"
	"kiln/internal/tree"
)

// maxEntries bounds the trees that are audited: each entry takes memory.
const maxEntries = 2_000_000

// Audit reports the state of every objective, sorted by id, and changes
// nothing. The tree may be anybody's: it is read within bounds and never left
// through a link. What cannot be judged, because a file cannot be read or
// parsed or a place not be looked into, is unknown, with the reason. The tree's
// digest is reported only where in.Before gives it.
func Audit(ctx context.Context, dir string, in Input) (*kiln.HardeningResult, error) {
	o, err := Look(ctx, dir, in.Skip)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	return o.Audit(ctx, in)
}

// Looked is a tree that was listed for an audit. It is not safe for concurrent use.
type Looked struct{ s *Subject }

// Look is the part of Audit that needs no objectives, for callers that read
// their catalogue meanwhile. Skip are places not to look into, each with the reason.
func Look(ctx context.Context, dir string, skip map[string]string) (*Looked, error) {
	s, err := readTree(dir, &sight{ctx: ctx, skip: skip, blind: map[string]error{}})
	if err != nil {
		return nil, err
	}
	s.packages()
	return &Looked{s}, nil
}

// Close lets go of the tree.
func (o *Looked) Close() { o.s.close() }

// Audit is the rest of it: in.Skip is what Look was given already.
func (o *Looked) Audit(ctx context.Context, in Input) (*kiln.HardeningResult, error) {
	in = in.withDefaults()
	if err := checkInput(in); err != nil {
		return nil, err
	}
	s := o.s
	s.take(in)
	s.filesOnly = in.FilesOnly || in.Config == nil && in.Recipe == nil
	var err error
	if s.config, err = s.auditedConfig(in.Config); err != nil {
		return nil, err
	}
	outcomes, _, err := s.pursue(ctx, in, false)
	if err != nil {
		return nil, err
	}
	return &kiln.HardeningResult{
		Header: kiln.NewHeader("HardeningResult"), Profile: profileName(in), Catalogue: in.Catalogue,
		Before: in.Before, After: in.Before, Outcomes: outcomes, Config: *s.config, LeftOut: s.sight.leftOut(), Platform: s.distro(),
	}, nil
}

// auditedConfig is the image's own configuration with its user as a number, or the recipe's.
func (s *Subject) auditedConfig(given *kiln.ImageConfig) (*kiln.ImageConfig, error) {
	if given == nil {
		return s.imageConfig()
	}
	c := *given
	if user, err := s.numeric(c.User); err == nil { // a name without an entry stays, and is judged as that
		c.User = user
	}
	return &c, nil
}

// state is what a kind sees. In an audit an error is an unknown state.
func (s *Subject) state(set kiln.Setting) (Observation, error) {
	k := kinds[set.Kind]
	if s.filesOnly && (strings.HasPrefix(k.Name, "image-") || strings.HasPrefix(k.Name, "inputs-")) {
		return absent("there is no image configuration, only files"), nil
	}
	if s.sight == nil {
		return k.state(s, set.Params)
	}
	s.sight.clear()
	obs, err := k.state(s, set.Params)
	if err != nil {
		return unknown(err.Error()), nil
	}
	if why := s.sight.note; why != "" && (s.sight.foreign || obs.State == kiln.Satisfied || obs.State == kiln.NotApplicable) {
		return unknown(why), nil
	}
	return obs, nil
}

// distro is the distribution of the tree as the lock or os-release names it ("debian-12"), or nothing.
func (s *Subject) distro() string {
	if s.lock != nil {
		return s.lock.Distro
	}
	if s.release == nil {
		text := s.readRelease()
		s.release = &text
	}
	return *s.release
}

func (s *Subject) readRelease() string {
	for _, p := range osrelease.Paths() {
		data, err := s.read(p)
		if err != nil {
			continue
		}
		v := osrelease.Parse(string(data))
		return strings.TrimSuffix(v["ID"]+"-"+v["VERSION_ID"], "-")
	}
	return ""
}

// sight is what an audit could not see. Kinds need not know of it: the Subject's
// own ways to the tree note when what they were asked for lies where nobody
// could look. A nil sight, when hardening, sees everything.
type sight struct {
	ctx         context.Context
	skip        map[string]string
	blind       map[string]error // places that could not be looked at or into
	note        string           // why the state asked for last is in doubt: it may be worse than it seems
	foreign     bool             // it may be anything: the packages that it asked for are in a database that is not read
	kept        string           // why the package database is in doubt
	keptForeign bool
}

func (g *sight) walk(dir string, fn func(tree.Entry) error) error {
	if g == nil {
		return tree.Walk(dir, fn)
	}
	return tree.WalkSurvey(g.ctx, dir, tree.Survey{
		Entries: maxEntries,
		Skip:    func(p string) bool { return g.skip[p] != "" },
		Unread: func(p string, err error) error {
			if !errors.Is(err, fs.ErrNotExist) { // gone since it was listed: it is not there
				g.blind[p] = err
			}
			return nil
		},
	}, fn)
}

func (g *sight) clear() {
	if g != nil {
		g.note, g.foreign = "", false
	}
}

func (g *sight) failed(err error) {
	if g != nil && g.note == "" {
		g.note = err.Error()
	}
}

// missed is told that nothing is known at next in the directory dir.
func (g *sight) missed(dir, next string) {
	if g == nil {
		return
	}
	for _, p := range []string{next, dir} {
		if err := g.blind[p]; err != nil {
			g.failed(err)
		}
	}
}

// below is told that everything below dir was asked for.
func (g *sight) below(dir string) {
	if g == nil || g.note != "" {
		return
	}
	for _, p := range slices.Sorted(maps.Keys(g.blind)) {
		if dir == "." || p == dir || strings.HasPrefix(p, dir+"/") {
			g.failed(g.blind[p])
			return
		}
	}
}

// apart begins to read the package database. What the returned function finds
// noted then is in doubt whenever the database is used, and recall says it again.
func (g *sight) apart() (done func()) {
	if g == nil {
		return func() {}
	}
	note, foreign := g.note, g.foreign
	g.clear()
	return func() {
		g.kept, g.keptForeign = g.note, g.foreign
		g.foreign = g.foreign || foreign
		if note != "" {
			g.note = note
		}
	}
}

func (g *sight) recall() {
	if g != nil && g.kept != "" {
		g.failed(errors.New(g.kept))
		g.foreign = g.foreign || g.keptForeign
	}
}

// doubt makes an objective that seemed not to apply unknown where that could not be seen.
func (g *sight) doubt(o *kiln.Outcome) {
	if g != nil && g.note != "" {
		o.Before, o.State, o.Reason = kiln.Unknown, kiln.Unknown, g.note
	}
}

// leftOut lists, bounded, what was not looked into.
func (g *sight) leftOut() []string {
	all := map[string]bool{}
	for p, why := range g.skip {
		all["/"+path.Clean(p)+": "+why] = true
	}
	for p, err := range g.blind {
		all["/"+p+": "+err.Error()] = true
	}
	return shorten(all)
}
