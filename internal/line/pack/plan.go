package pack

import (
	"fmt"
	"path"
	"slices"

	"kiln/internal/tree"
)

// plan says which layer each path goes to. A directory stands in every layer
// that has something below it, so that no tool has to invent its mode; an
// empty one stands in its own. All names of a hard-linked file go to the lowest
// layer that any of them asks for: a link cannot reach into another layer.
type plan struct {
	layer map[string]int // of files
	dirs  map[string]layers
	count []int // entries by layer, directories that only lead somewhere not counted
	files int
	bytes int64
}

// layers is a set of layer numbers.
type layers uint8

func newPlan(dir string, role func(string) string) (*plan, error) {
	p := &plan{layer: map[string]int{}, dirs: map[string]layers{}, count: make([]int, len(Roles()))}
	groups := map[string][]string{}
	err := tree.Walk(dir, func(e tree.Entry) error {
		i, err := layerOf(role, e.Path)
		if err != nil {
			return err
		}
		switch e.Type {
		case 'd':
			if e.Path != "." {
				p.layer[e.Path] = i
				p.dirs[e.Path] = 0
			}
			return nil
		case 's':
			return nil // sockets are not packed
		case 'h':
			groups[e.Link] = append(groups[e.Link], e.Path)
		case 'f':
			p.bytes += e.Size
		}
		p.files++
		p.layer[e.Path] = i
		return nil
	})
	if err != nil {
		return nil, err
	}
	p.joinLinks(groups)
	p.spread()
	return p, nil
}

func layerOf(role func(string) string, name string) (int, error) {
	if role == nil {
		return len(Roles()) - 1, nil
	}
	i := slices.Index(Roles(), role(name))
	if i < 0 {
		return 0, fmt.Errorf("internal error: %s has the role %q, which is no layer", name, role(name))
	}
	return i, nil
}

func (p *plan) joinLinks(groups map[string][]string) {
	for first, others := range groups {
		lowest := p.layer[first]
		for _, name := range others {
			lowest = min(lowest, p.layer[name])
		}
		for _, name := range append(others, first) {
			p.layer[name] = lowest
		}
	}
}

// spread enters every directory into the layers of what is below it, and empty ones into their own.
func (p *plan) spread() {
	full := map[string]bool{}
	for name := range p.layer {
		full[path.Dir(name)] = true
	}
	for name, i := range p.layer {
		_, isDir := p.dirs[name]
		if isDir && full[name] {
			continue
		}
		p.count[i]++
		if isDir {
			p.dirs[name] |= 1 << i
		}
		for up := path.Dir(name); up != "."; up = path.Dir(up) {
			p.dirs[up] |= 1 << i
		}
	}
}

// keeps reports whether layer i holds e.
func (p *plan) keeps(e tree.Entry, i int) bool {
	if e.Path == "." {
		return true
	}
	if e.Type == 'd' {
		return p.dirs[e.Path]&(1<<i) != 0
	}
	at, ok := p.layer[e.Path]
	return ok && at == i
}
