// Package publish puts an admitted image where people get it: under a name and
// a channel into the local store, and into layouts, docker archives and
// registries. Nothing is published without a verdict that serves it.
package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
	"kiln/internal/atomicfile"
	"kiln/internal/image"
)

// Records remembers which digest a name and channel mean.
type Records interface {
	Put(ctx context.Context, r *kiln.Release) error
	// Current returns nil, or an error that wraps fs.ErrNotExist, where nothing was published yet.
	Current(ctx context.Context, name, channel string) (*kiln.Release, error)
}

// ErrRefused says that the verdict does not let the image be served.
var ErrRefused = errors.New("refused by policy")

// Input is what to publish.
type Input struct {
	Name    string
	Channel string // for example "stable"
	// Build gives ID, Lock and Artifact.
	Build   *kiln.Build
	Verdict *kiln.Verdict
	Outputs []kiln.Output
	// Dir is where relative paths of outputs start.
	Dir string
	Now time.Time
}

// Place is where an image was put.
type Place struct {
	Kind   string // store, layout, archive, registry
	Target string
	Digest kiln.Digest // of the index; of the image manifest in a docker archive
}

// Image publishes the build's image, which lies in store with its referrers.
// The store's name and the record come first, then the outputs in their order;
// an output that fails does not stop the others. A channel that means this
// digest already keeps its release.
func Image(ctx context.Context, in Input, store *image.Layout, records Records) (*kiln.Release, []Place, error) {
	if err := in.admitted(); err != nil {
		return nil, nil, err
	}
	a := in.Build.Artifact
	desc, err := store.Find(string(a.Index))
	if err != nil {
		return nil, nil, fmt.Errorf("publishing %s: %w", in.Name, err)
	}
	if err := store.Verify(desc); err != nil {
		return nil, nil, fmt.Errorf("publishing %s: the image in the local store: %w", in.Name, err)
	}
	release, err := in.record(ctx, records, func() error { return move(store, in.Name+":"+in.Channel, desc) })
	if err != nil {
		return nil, nil, fmt.Errorf("publishing %s: %w", in.Name, err)
	}
	places := []Place{{"store", in.Name + "@" + in.Channel, a.Index}}
	var failed []error
	for _, o := range in.Outputs {
		p, err := To(ctx, store, in.Name, in.Channel, a, o, in.Dir)
		if err != nil {
			failed = append(failed, fmt.Errorf("publishing %s: %w", in.Name, err))
			continue
		}
		places = append(places, p)
	}
	return release, places, errors.Join(failed...)
}

// admitted refuses what no verdict about this very image lets pass.
func (in Input) admitted() error {
	v, a := in.Verdict, in.Build.Artifact
	switch {
	case a == nil:
		return fmt.Errorf("publishing %s: the build has no image", in.Name)
	case !kiln.ValidName(in.Name) || !kiln.ValidName(in.Channel):
		return fmt.Errorf("publishing: %q and %q are no name and channel", in.Name, in.Channel)
	case v == nil:
		return fmt.Errorf("publishing %s: nobody decided about it: %w", in.Name, ErrRefused)
	}
	if err := v.Validate(); err != nil {
		return fmt.Errorf("publishing %s: its verdict: %w", in.Name, err)
	}
	if v.Subject.Digest != a.Index && v.Subject.Digest != a.Manifest {
		return fmt.Errorf("publishing %s: the verdict is about %s, the image is %s: %w", in.Name, v.Subject.Digest.Short(), a.Index.Short(), ErrRefused)
	}
	if !v.Serves() {
		return fmt.Errorf("publishing %s: the decision is %s by %s: %w", in.Name, v.Decision, v.Rule, ErrRefused)
	}
	return nil
}

// move gives the name to the image; what had it stays in the store without a
// name, because releases of the past can be asked for.
func move(store *image.Layout, name string, desc ocispec.Descriptor) error {
	old, err := store.Find(name)
	if err != nil && !errors.Is(err, image.ErrNotFound) {
		return err
	}
	if err := store.Tag(name, desc); err != nil || old.Digest == "" || old.Digest == desc.Digest {
		return err
	}
	old.Annotations = nil
	return store.Add(old)
}

// record names the image in the store and remembers the release, unless the channel means it already.
func (in Input) record(ctx context.Context, records Records, tag func() error) (*kiln.Release, error) {
	current, err := records.Current(ctx, in.Name, in.Channel)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("asking for the current release: %w", err)
	}
	if err := tag(); err != nil {
		return nil, err
	}
	r, err := in.release()
	if err != nil {
		return nil, err
	}
	if current != nil {
		if current.Digest == r.Digest {
			return current, nil
		}
		r.Previous = current.Digest
	}
	return r, records.Put(ctx, r)
}

func (in Input) release() (*kiln.Release, error) {
	verdict, err := kiln.DigestOf(in.Verdict)
	if err != nil {
		return nil, err
	}
	r := &kiln.Release{
		Header: kiln.NewHeader("Release"), Name: in.Name, Channel: in.Channel, Digest: in.Build.Artifact.Index,
		Build: in.Build.ID, Verdict: verdict, Time: in.Now.Unix(),
	}
	if in.Build.Lock != nil {
		if r.Lock, err = kiln.DigestOf(in.Build.Lock); err != nil {
			return nil, err
		}
	}
	return r, r.Validate()
}

// To copies an image of the store to one output. It asks for no verdict: call
// it for what was published before. A file or layout at the target is replaced
// or updated whole; nobody sees half of it.
func To(ctx context.Context, store *image.Layout, name, channel string, a *kiln.Artifact, o kiln.Output, dir string) (Place, error) {
	index, err := store.Find(string(a.Index))
	if err != nil {
		return Place{}, err
	}
	switch {
	case o.Layout != "":
		return toLayout(store, index, o.Layout, channel, dir)
	case o.Archive != "":
		return toArchive(store, index, a, o.Archive, "localhost/"+name+":"+tagOf(channel), dir)
	case o.Registry != "":
		return toRegistry(ctx, store, index, o, channel)
	}
	return Place{}, errors.New("an output names none of layout, archive, registry")
}

func toLayout(store *image.Layout, index ocispec.Descriptor, target, channel, dir string) (Place, error) {
	path, ref := image.SplitLayout(target)
	if ref == "" {
		ref = tagOf(channel)
	}
	if strings.HasPrefix(ref, "sha256:") {
		return Place{}, fmt.Errorf("layout %s: name the image, not its digest", target)
	}
	path = absolute(dir, path)
	l, err := image.CreateLayout(path)
	if err != nil {
		return Place{}, err
	}
	return Place{"layout", path + ":" + ref, kiln.Digest(index.Digest)}, store.CopyTo(l, index, ref)
}

func toArchive(store *image.Layout, index ocispec.Descriptor, a *kiln.Artifact, target, tag, dir string) (Place, error) {
	desc, err := store.ForPlatform(index, a.Platform)
	if err != nil {
		return Place{}, err
	}
	path := absolute(dir, target)
	err = atomicfile.Fill(path, 0o644, func(w io.Writer) error { return store.WriteArchive(w, desc, tag) })
	return Place{"archive", path, kiln.Digest(desc.Digest)}, err
}

func toRegistry(ctx context.Context, store *image.Layout, index ocispec.Descriptor, o kiln.Output, channel string) (Place, error) {
	ref := o.Registry
	if last := ref[strings.LastIndexByte(ref, '/')+1:]; !strings.ContainsAny(last, ":@") {
		ref += ":" + tagOf(channel)
	}
	d, err := image.Push(ctx, store, index, ref, o.Insecure)
	return Place{"registry", ref, d}, err
}

var notInTag = regexp.MustCompile(`[^A-Za-z0-9._-]`)

// tagOf makes a channel a legal tag.
func tagOf(channel string) string { return notInTag.ReplaceAllString(channel, "-") }

func absolute(dir, path string) string {
	if filepath.IsAbs(path) || dir == "" {
		return path
	}
	return filepath.Join(dir, path)
}
