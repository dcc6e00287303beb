package harden

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"kiln/internal/secret"
	"kiln/internal/tree"
)

// Bounds on what is read of an image's layers, over all of them. They are those
// of unpacking: an image that could be unpacked can be looked at.
const (
	maxLayerEntries = 2_000_000
	maxLayerBytes   = 16 << 30
	maxTracked      = 20_000 // files with something to report
)

// trace is a file of a layer with something to report.
type trace struct {
	path   string
	layer  int  // from 1
	setid  bool // it is set-id
	mode   uint32
	found  []secret.Finding
	unread string // why it was not looked at
	hidden int    // the layer that deletes or replaces it, 0 where it is still there
}

// layerScan is what the layers of an image hold, files included that later layers hide.
type layerScan struct {
	traces  []*trace
	files   map[string][]*trace // by path, those not hidden yet
	below   map[string]int      // directory -> how many of them are below it
	entries int
	bytes   int64
	deleted map[string]bool // of the layer being read: whiteouts and what replaces a directory
	opaque  map[string]bool
}

// layers reads the image's layers once.
func (s *Subject) layers(ctx context.Context) (*layerScan, error) {
	if s.scanned != nil || s.scanError != nil {
		return s.scanned, s.scanError
	}
	scan := &layerScan{files: map[string][]*trace{}, below: map[string]int{}}
	for i, l := range s.layerList {
		if err := scan.layer(ctx, i+1, l); err != nil {
			s.scanError = fmt.Errorf("layer %d (%s): %w", i+1, l.Digest.Short(), err)
			return nil, s.scanError
		}
	}
	s.scanned = scan
	return scan, nil
}

func (l *layerScan) layer(ctx context.Context, number int, from Layer) error {
	r, err := from.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	l.deleted, l.opaque = map[string]bool{}, map[string]bool{}
	in := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading tar: %w", err)
		}
		if err := l.member(number, h, in); err != nil {
			return fmt.Errorf("member %q: %w", clipped(h.Name), err)
		}
	}
	l.hide(number)
	_, err = io.Copy(io.Discard, io.LimitReader(r, 1<<20)) // what follows the archive, so that its digest is checked
	return err
}

func clipped(name string) string { return name[:min(len(name), 200)] }

func (l *layerScan) member(number int, h *tar.Header, content io.Reader) error {
	if err := tree.CheckDense(h); err != nil {
		return err
	}
	if l.entries++; l.entries > maxLayerEntries || h.Size < 0 || h.Size > maxLayerBytes-l.bytes {
		return fmt.Errorf("the layers hold more than the limit of %d entries and %d bytes", maxLayerEntries, int64(maxLayerBytes))
	}
	l.bytes += h.Size
	name := clean(h.Name)
	base := path.Base(name)
	switch {
	case base == ".wh..wh..opq":
		l.opaque[path.Dir(name)] = true
		return nil
	case strings.HasPrefix(base, ".wh..wh."):
		return nil // bookkeeping of aufs
	case strings.HasPrefix(base, ".wh."):
		l.deleted[path.Join(path.Dir(name), strings.TrimPrefix(base, ".wh."))] = true
		return nil
	}
	if h.Typeflag != tar.TypeDir {
		l.replace(number, name)
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	return l.file(number, name, h, content)
}

// replace hides what lower layers have at a path, or below it where it was a directory.
func (l *layerScan) replace(number int, name string) {
	for _, t := range l.files[name] {
		if t.layer < number {
			l.gone(t, number)
		}
	}
	if l.below[name] > 0 {
		l.deleted[name] = true
	}
}

func (l *layerScan) file(number int, name string, h *tar.Header, content io.Reader) error {
	t := &trace{path: name, layer: number, mode: uint32(h.Mode) & 0o7777, setid: h.Mode&0o6000 != 0}
	found, err := secret.File(name, content)
	switch {
	case errors.Is(err, secret.ErrTooDense):
		t.unread = err.Error()
	case err != nil:
		return err
	}
	t.found = found
	if !t.setid && len(t.found) == 0 && t.unread == "" {
		return nil
	}
	if len(l.traces) >= maxTracked {
		return fmt.Errorf("more than %d files of the layers have something to report", maxTracked)
	}
	l.traces = append(l.traces, t)
	l.files[name] = append(l.files[name], t)
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		l.below[dir]++
	}
	return nil
}

// hide applies a layer's whiteouts to what lower layers have.
func (l *layerScan) hide(number int) {
	if len(l.deleted) == 0 && len(l.opaque) == 0 {
		return
	}
	for _, t := range l.traces {
		if t.hidden != 0 || t.layer == number {
			continue
		}
		gone := l.deleted[t.path]
		for dir := path.Dir(t.path); !gone; dir = path.Dir(dir) {
			gone = l.deleted[dir] || l.opaque[dir]
			if dir == "." {
				break
			}
		}
		if gone {
			l.gone(t, number)
		}
	}
}

func (l *layerScan) gone(t *trace, number int) {
	t.hidden = number
	l.files[t.path] = slices.DeleteFunc(slices.Clone(l.files[t.path]), func(o *trace) bool { return o == t })
	for dir := path.Dir(t.path); dir != "."; dir = path.Dir(dir) {
		l.below[dir]--
	}
}

// where says in which layer a file is, and which hides it.
func (t *trace) where(s *Subject) string {
	text := "/" + t.path
	if len(s.layerList) > 0 {
		text = fmt.Sprintf("%s in layer %d (%s)", text, t.layer, s.layerList[t.layer-1].Digest.Short())
	}
	if t.hidden != 0 {
		text += fmt.Sprintf(", hidden by layer %d", t.hidden)
	}
	return text
}

// layerSecretParams: no file of a layer holds a secret.
type layerSecretParams struct {
	// Packaged are directories in which what a package installed does not count: everybody has the package.
	Packaged []string `json:"packaged"`
	// Except are rules of what secrets look like (ids of internal/secret) that are judged by other objectives.
	Except []string `json:"except"`
}

func (p layerSecretParams) check() error {
	if len(p.Packaged) == 0 {
		return nil
	}
	return checkGlobs(p.Packaged)
}

// counts says that a finding is a secret of this image.
func (p layerSecretParams) counts(s *Subject, t *trace, f secret.Finding) bool {
	if slices.Contains(p.Except, f.Rule) {
		return false
	}
	q := "/" + t.path
	packaged := slices.ContainsFunc(p.Packaged, func(dir string) bool { return strings.HasPrefix(q, dir+"/") })
	return !packaged || t.hidden != 0 || !s.ownsPath(t.path)
}

// ownsPath says that a package owns a path, links among its directories followed.
func (s *Subject) ownsPath(p string) bool {
	q, _ := s.canonical(p)
	return s.packages().owns(q)
}

func layerSecretState(s *Subject, p layerSecretParams) (Observation, error) {
	scan, err := s.secretsOfImage()
	if err != nil {
		return unknown(err.Error()), nil
	}
	var off, unread []string
	for _, t := range scan.traces {
		if t.unread != "" {
			unread = append(unread, t.where(s)+": "+t.unread)
		}
		for _, f := range t.found {
			if p.counts(s, t, f) {
				off = append(off, fmt.Sprintf("%s: %s", t.where(s), f))
			}
		}
	}
	switch {
	case len(off) > 0:
		return blocked(list(off), "a secret that was once in a layer is known to everybody who has the image: take it out of what builds the image, and replace the secret itself"), nil
	case len(unread) > 0:
		return unknown(list(unread)), nil
	}
	return good(fmt.Sprintf("none in %d files", scan.entries)), nil
}

// secretsOfImage are the layers, or where there are none, the tree that becomes one.
func (s *Subject) secretsOfImage() (*layerScan, error) {
	if len(s.layerList) > 0 {
		return s.layers(s.context())
	}
	scan := &layerScan{}
	for _, q := range s.paths() {
		e := s.index[q]
		if e.Type != 'f' || runtimeTree(q) {
			continue
		}
		scan.entries++
		t, seen := s.looked[e]
		if !seen {
			var err error
			if t, err = s.lookForSecrets(q); err != nil {
				return nil, err
			}
			s.looked[e] = t
		}
		if len(t.found) > 0 || t.unread != "" {
			scan.traces = append(scan.traces, t)
		}
	}
	return scan, nil
}

// lookForSecrets reads one file of the tree. A file that is written anew has a new entry, and is looked at again.
func (s *Subject) lookForSecrets(q string) (*trace, error) {
	if err := s.context().Err(); err != nil {
		return nil, err
	}
	t := &trace{path: q, mode: s.index[q].Mode}
	if s.index[q].Size == 0 {
		return t, nil
	}
	f, err := s.open(q)
	if err != nil {
		return nil, fmt.Errorf("reading /%s: %w", q, err)
	}
	defer f.Close()
	t.found, err = secret.File(q, f)
	if errors.Is(err, secret.ErrTooDense) {
		t.unread, err = err.Error(), nil
	}
	return t, err
}

func layerSetidState(s *Subject, _ none) (Observation, error) {
	if len(s.layerList) == 0 {
		return absent("the image is made of one tree: nothing is hidden in it"), nil
	}
	scan, err := s.layers(s.context())
	if err != nil {
		return unknown(err.Error()), nil
	}
	var off []string
	for _, t := range scan.traces {
		if t.setid && t.hidden != 0 {
			off = append(off, fmt.Sprintf("%s %04o", t.where(s), t.mode))
		}
	}
	if len(off) > 0 {
		return blocked(list(off), "a lower layer still holds what a later one takes away: remove it in the step that brings it, or build the image from one tree"), nil
	}
	return good("none"), nil
}
