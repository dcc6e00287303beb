package assemble

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"runtime"

	"kiln"
)

// add installs packages on top of a configured tree.
func (a *assembly) add(ctx context.Context, ps []*pkg) error {
	if len(ps) == 0 {
		return nil
	}
	if err := a.load(ctx, ps); err != nil {
		return err
	}
	fast, ordered, err := a.sort(ps)
	if err != nil {
		return err
	}
	fast, moved, err := a.unpackFast(ctx, fast)
	if err != nil {
		return err
	}
	ordered = append(ordered, moved...)
	restore, err := allowNoServices(a.at)
	if err != nil {
		return err
	}
	if err := a.unpackOrdered(ctx, ps, fast, ordered); err != nil {
		return err
	}
	prevented, err := seedNoCluster(a.at)
	if err != nil {
		return err
	}
	if prevented {
		a.o.Report.Note(kiln.StationAssemble, "PostgreSQL's packages make no database cluster in an image: run pg_createcluster at first start, or in a step")
	}
	if err := a.configure(ctx, "--configure", "-a"); err != nil {
		return err
	}
	if prevented {
		if err := a.at.remove(clusterConfig + ".ucf-dist"); err != nil {
			return err
		}
	}
	return restore()
}

// sort decides which packages may be unpacked side by side in Go. The others
// go through dpkg: those with a preinst that does something, those of a
// foreign architecture, and all when the tree overrides modes of single files.
func (a *assembly) sort(ps []*pkg) (fast, ordered []*pkg, err error) {
	overrides, err := readTable(a.at, dpkgDir+"/statoverride")
	if err != nil {
		return nil, nil, err
	}
	for _, p := range ps {
		native := p.Architecture == "all" || p.Architecture == debArch()
		if p.preinst() == nil && native && len(overrides) == 0 {
			fast = append(fast, p)
		} else {
			ordered = append(ordered, p)
		}
	}
	return fast, ordered, nil
}

// debArch is Debian's name of the architecture that runs here.
func debArch() string {
	switch runtime.GOARCH {
	case "386":
		return "i386"
	case "arm":
		return "armhf"
	case "ppc64le":
		return "ppc64el"
	}
	return runtime.GOARCH
}

// unpackFast unpacks packages side by side. Those that stand in one another's
// or the tree's way are returned as moved: they go through dpkg, which knows
// all the rules, and everything is unpacked again without them.
func (a *assembly) unpackFast(ctx context.Context, ps []*pkg) (fast, moved []*pkg, err error) {
	u := &unpacker{tolerant: true}
	if u.owners, err = readOwners(a.at); err != nil {
		return nil, nil, err
	}
	if u.diverted, err = readDiversions(a.at); err != nil {
		return nil, nil, err
	}
	known, err := readTriggers(a.at)
	if err != nil {
		return nil, nil, err
	}
	u.interests = known.interests()
	for {
		u.claims = newClaims()
		if err := a.unpackAll(ctx, ps, u); err != nil {
			return nil, nil, err
		}
		if len(u.claims.refused) == 0 {
			break
		}
		if err := u.claims.undo(a.at); err != nil {
			return nil, nil, fmt.Errorf("internal error: taking back: %w", err)
		}
		var kept []*pkg
		for _, p := range ps {
			p.reset()
			if reason := u.claims.refused[p]; reason != nil {
				a.o.Report.Note(kiln.StationAssemble, fmt.Sprintf("package %s goes through dpkg: %v", p.Name, reason))
				moved = append(moved, p)
			} else {
				kept = append(kept, p)
			}
		}
		ps = kept
	}
	if err := u.claims.finish(a.at); err != nil {
		return nil, nil, err
	}
	return ps, moved, register(a.at, ps, u.destination)
}

// step is one call of dpkg: it unpacks some packages, or configures some by name.
type step struct {
	unpack    []*pkg
	configure []*pkg
}

// unpackOrdered has dpkg unpack the packages, each after what it depends on; a
// package's pre-dependencies are configured first.
func (a *assembly) unpackOrdered(ctx context.Context, all, fast, ordered []*pkg) error {
	for _, s := range planSteps(all, fast, ordered) {
		if len(s.configure) > 0 {
			args := []string{"--no-triggers", "--configure"}
			for _, p := range s.configure {
				args = append(args, p.infoName())
			}
			if err := a.configure(ctx, args...); err != nil {
				return err
			}
			continue
		}
		if err := a.dpkgUnpack(ctx, s.unpack); err != nil {
			return err
		}
	}
	return nil
}

// planSteps orders the packages by their dependencies, in the lock's order where they leave it open.
func planSteps(all, fast, ordered []*pkg) []step {
	g := newGraph(all)
	unpacked, configured := map[*pkg]bool{}, map[*pkg]bool{}
	for _, p := range fast {
		unpacked[p] = true
	}
	var steps []step
	var batch []*pkg
	for _, p := range g.order(ordered) {
		var first []*pkg
		for _, q := range g.closure(g.preDepends(p)) {
			if !configured[q] && unpacked[q] && q != p {
				first = append(first, q)
				configured[q] = true
			}
		}
		if len(first) > 0 {
			if len(batch) > 0 {
				steps = append(steps, step{unpack: batch})
				batch = nil
			}
			steps = append(steps, step{configure: first})
		}
		batch = append(batch, p)
		unpacked[p] = true
	}
	if len(batch) > 0 {
		steps = append(steps, step{unpack: batch})
	}
	return steps
}

// graph is who needs whom among the packages that are being added.
type graph struct {
	all  []*pkg
	name map[string][]*pkg // by name and by what they provide
}

func newGraph(all []*pkg) *graph {
	g := &graph{all: all, name: map[string][]*pkg{}}
	for _, p := range all {
		g.name[p.Name] = append(g.name[p.Name], p)
		for _, virtual := range dependencies(p.meta.Provides) {
			g.name[virtual] = append(g.name[virtual], p)
		}
	}
	return g
}

func (g *graph) find(names []string) []*pkg {
	var out []*pkg
	for _, n := range names {
		out = append(out, g.name[n]...)
	}
	return out
}

func (g *graph) preDepends(p *pkg) []*pkg { return g.find(dependencies(p.meta.PreDepends)) }
func (g *graph) depends(p *pkg) []*pkg {
	return g.find(dependencies(p.meta.PreDepends, p.meta.Depends))
}

// closure returns the packages and all that they depend on, dependencies first.
func (g *graph) closure(roots []*pkg) []*pkg {
	seen := map[*pkg]bool{}
	var out []*pkg
	var visit func(p *pkg)
	visit = func(p *pkg) {
		if seen[p] {
			return
		}
		seen[p] = true
		for _, q := range g.depends(p) {
			visit(q)
		}
		out = append(out, p)
	}
	for _, p := range roots {
		visit(p)
	}
	return out
}

// order returns the packages of ps, dependencies first.
func (g *graph) order(ps []*pkg) []*pkg {
	want := map[*pkg]bool{}
	for _, p := range ps {
		want[p] = true
	}
	var roots, out []*pkg
	for _, p := range g.all {
		if want[p] {
			roots = append(roots, p)
		}
	}
	for _, p := range g.closure(roots) {
		if want[p] {
			out = append(out, p)
		}
	}
	return out
}

// debDir is where .debs lie for dpkg inside the tree, for as long as it reads them.
const debDir = "var/cache/apt/archives"

// dpkgUnpack copies checked .debs into the tree and has dpkg unpack them there.
func (a *assembly) dpkgUnpack(ctx context.Context, ps []*pkg) error {
	args := []string{"--no-triggers", "--unpack"}
	var names []string
	for i, p := range ps {
		if err := a.inspect(ctx, p); err != nil {
			return fmt.Errorf("package %s %s: %w", p.Name, p.Version, err)
		}
		name := fmt.Sprintf("%s/%03d-%s.deb", debDir, i, p.Name)
		if err := a.copyDeb(p, name); err != nil {
			return fmt.Errorf("package %s %s: handing it to dpkg: %w", p.Name, p.Version, err)
		}
		args, names = append(args, "/"+name), append(names, name)
	}
	cmd := append([]string{"/usr/bin/dpkg", "--force-unsafe-io"}, args...)
	if err := a.inTree(ctx, cmd...); err != nil {
		return fmt.Errorf("unpacking: %w", err)
	}
	for _, name := range names {
		if err := a.at.remove(name); err != nil {
			return fmt.Errorf("removing %s: %w", name, err)
		}
	}
	return nil
}

func (a *assembly) copyDeb(p *pkg, name string) error {
	f, err := a.o.Open(p.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := verify(f, p.Digest.Hex()); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return a.at.writeFrom(name, f)
}

// inspect applies the rules of the fast way to a package that dpkg will
// unpack: no device nodes, no path out of the tree, nothing through a link of its own.
func (a *assembly) inspect(ctx context.Context, p *pkg) error {
	o, err := a.debs.open(ctx, p.Digest)
	if err != nil {
		return err
	}
	defer o.Close()
	data, err := o.Data()
	if err != nil {
		return err
	}
	defer data.Close()
	return inspectTar(tar.NewReader(data))
}

func inspectTar(tr *tar.Reader) error {
	links := map[string]bool{}
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading data.tar: %w", err)
		}
		if n >= maxMembers {
			return fmt.Errorf("more than %d members", maxMembers)
		}
		name, err := checkMember(h)
		if err != nil {
			return err
		}
		for i, c := range name {
			if c == '/' && links[name[:i]] {
				return fmt.Errorf("/%s: %w", name, errThroughLink)
			}
		}
		switch h.Typeflag {
		case tar.TypeSymlink:
			links[name] = true
		case tar.TypeLink:
			if _, err := checkName(h.Linkname); err != nil {
				return fmt.Errorf("target of hard link /%s: %w", name, err)
			}
		}
	}
}
