package image

import (
	"archive/tar"
	"errors"
	"io"
	"log"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
	"kiln/internal/testarchive"
	"kiln/internal/tree"
)

func discard() *log.Logger { return log.New(io.Discard, "", 0) }

func remoteReferrers(t *testing.T, ref, of string) int {
	t.Helper()
	r, err := name.ParseReference(ref)
	must(t, err)
	index, err := remote.Referrers(r.Context().Digest(of), remote.WithContext(t.Context()))
	must(t, err)
	m, err := index.IndexManifest()
	must(t, err)
	return len(m.Manifests)
}

func unpack(t *testing.T, how []string, layers ...[]byte) (map[string]string, *Unpacked, error) {
	t.Helper()
	l := newLayout(t)
	_, manifest := build(t, l, how, layers...)
	dir := t.TempDir()
	out, err := Unpack(t.Context(), l, manifest, dir, Limits{})
	if err != nil {
		return nil, nil, err
	}
	dump, err := tree.Dump(dir)
	must(t, err)
	paths := map[string]string{}
	for p, v := range dump {
		if p == "." {
			continue
		}
		kind, _, _ := strings.Cut(v, " ")
		switch kind {
		case "f":
			data, err := os.ReadFile(filepath.Join(dir, p))
			must(t, err)
			v = "f " + string(data)
		case "d":
			v = "d"
		}
		paths[p] = v
	}
	return paths, out, nil
}

func TestLayersAreAppliedOneOverTheOther(t *testing.T) {
	cases := []struct {
		name   string
		layers [][]string
		want   map[string]string
	}{
		{
			"a whiteout hides a file and a directory",
			[][]string{{"d a", "f a/x 1", "f a/y 2", "d b", "f b/z 3"}, {"f a/.wh.x", "f .wh.b"}},
			map[string]string{"a": "d", "a/y": "f 2"},
		},
		{
			"an opaque directory hides what was below, not its own layer's files, in either order",
			[][]string{{"d a", "f a/old 1", "d a/sub", "f a/sub/old 1"}, {"f a/new 2", "f a/.wh..wh..opq", "f a/sub/new 3"}},
			map[string]string{"a": "d", "a/new": "f 2", "a/sub": "d", "a/sub/new": "f 3"},
		},
		{
			"a whiteout of a name that its own layer makes again",
			[][]string{{"d a", "f a/x 1"}, {"d a", "f a/y 2", "f .wh.a"}},
			map[string]string{"a": "d", "a/y": "f 2"},
		},
		{
			"a file replaces a directory, a directory a link",
			[][]string{{"d a", "f a/x 1", "l b a"}, {"f a now", "d b"}},
			map[string]string{"a": "f now", "b": "d"},
		},
		{
			"a merged directory is reached through its link, absolute or not",
			[][]string{{"d usr", "d usr/bin", "l bin usr/bin", "l sbin /usr/bin"}, {"f bin/x 1", "f sbin/y 2", "h bin/z sbin/y", "f sbin/.wh.none"}},
			map[string]string{"usr": "d", "usr/bin": "d", "bin": "l -> usr/bin", "sbin": "l -> /usr/bin", "usr/bin/x": "f 1", "usr/bin/y": "f 2", "usr/bin/z": "h -> usr/bin/y"},
		},
		{
			"leading slashes and dots, missing parents, whiteouts of nothing",
			[][]string{{"f /etc/x 1", "f ./var/lib/y 2", "f no/such/.wh.z", "f no/such/.wh..wh..opq"}},
			map[string]string{"etc": "d", "etc/x": "f 1", "var": "d", "var/lib": "d", "var/lib/y": "f 2"},
		},
		{
			"aufs bookkeeping is dropped",
			[][]string{{"d .wh..wh.plnk", "f .wh..wh.aufs", "f x 1"}},
			map[string]string{"x": "f 1"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, how := range []string{"", "gzip", "zstd"} {
				var layers [][]byte
				for _, entries := range c.layers {
					layers = append(layers, layer(t, entries...))
				}
				got, _, err := unpack(t, []string{how}, layers...)
				must(t, err)
				if !maps.Equal(got, c.want) {
					t.Errorf("%s: got %v\nwant %v", how, got, c.want)
				}
			}
		})
	}
}

func TestHostileLayersReachNothingOutside(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	must(t, os.WriteFile(victim, []byte("safe"), 0o644))
	refused := map[string][]string{
		"dot dot":                  {"f ../x 1"},
		"dot dot inside":           {"d a", "f a/../../x 1"},
		"whiteout of the parent":   {"f ../.wh.victim"},
		"hard link outside":        {"h x ../victim"},
		"hard link to host path":   {"h x " + victim},
		"hard link through a link": {"l out " + outside, "h x out/victim"},
		"hard link to a directory": {"d a", "h x a"},
		"hard link to itself":      {"f x 1", "h x x"},
		"link loop":                {"l a b", "l b a", "f a/x 1"},
		"file as directory":        {"f a 1", "f a/x 1"},
	}
	for name, entries := range refused {
		if _, _, err := unpack(t, []string{"gzip"}, layer(t, entries...)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	// Absolute links mean the image's own root.
	got, _, err := unpack(t, []string{"gzip"}, layer(t, "l out "+outside, "f out/victim evil", "l up ../../../../../../..", "f up/here 2"), layer(t, "f out/.wh.victim"))
	must(t, err)
	if got["here"] != "f 2" {
		t.Errorf("a link above the root leads elsewhere: %v", got)
	}
	if data, err := os.ReadFile(victim); err != nil || string(data) != "safe" {
		t.Errorf("the file outside is now %q, %v", data, err)
	}
}

func TestDeviceNodesAreSkippedAndNamed(t *testing.T) {
	got, out, err := unpack(t, []string{"gzip"}, layer(t, "d dev", "c dev/mem"))
	must(t, err)
	if len(got) != 1 || len(out.Skipped) != 1 || !strings.Contains(out.Skipped[0], "dev/mem: device node") {
		t.Errorf("got %v, skipped %v", got, out.Skipped)
	}
}

func TestUnpackingIsBoundedAndChecked(t *testing.T) {
	l := newLayout(t)
	_, manifest := build(t, l, []string{"gzip"}, layer(t, "f a "+strings.Repeat("0", 5000), "f b 2"))
	_, err := Unpack(t.Context(), l, manifest, t.TempDir(), Limits{Entries: 10, Bytes: 4000})
	refuses(t, "bomb", "larger than the limit", err)
	_, err = Unpack(t.Context(), l, manifest, t.TempDir(), Limits{Entries: 1, Bytes: 10_000})
	refuses(t, "too many entries", "larger than the limit", err)

	m, err := l.Manifest(manifest)
	must(t, err)
	config, err := l.PutJSON(ocispec.MediaTypeImageConfig, ocispec.Image{RootFS: ocispec.RootFS{
		Type: "layers", DiffIDs: []digest.Digest{digest.Digest(kiln.DigestBytes([]byte("other")))},
	}})
	must(t, err)
	m.Config, m.SchemaVersion = config, 2
	wrong, err := l.PutJSON(ocispec.MediaTypeImageManifest, m)
	must(t, err)
	_, err = Unpack(t.Context(), l, wrong, t.TempDir(), Limits{})
	refuses(t, "wrong diff id", "the configuration says", err)

	path := l.BlobPath(kiln.Digest(m.Layers[0].Digest))
	data, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, data[:len(data)-4], 0o644))
	_, err = Unpack(t.Context(), l, manifest, t.TempDir(), Limits{})
	refuses(t, "truncated layer", "", err)
	must(t, os.WriteFile(path, append(data, 0), 0o644))
	_, err = Unpack(t.Context(), l, manifest, t.TempDir(), Limits{})
	refuses(t, "layer with a byte more", "", err)
}

func TestASparseMemberIsRefused(t *testing.T) {
	layer := testarchive.Tar([]testarchive.Member{testarchive.File("first", "x"), testarchive.Sparse("hole", 1<<62)})
	if _, _, err := unpack(t, []string{"gzip"}, layer); !errors.Is(err, tree.ErrSparse) {
		t.Errorf("got %v", err)
	}
}

// The size stands in the archive: added up without care it makes the sum negative.
func TestASizeThatOverflowsIsOverTheLimit(t *testing.T) {
	a := &applier{limits: Limits{Entries: 10, Bytes: 1 << 20}, out: &Unpacked{Bytes: 1}}
	err := a.member(&tar.Header{Name: "x", Typeflag: tar.TypeReg, Size: math.MaxInt64}, strings.NewReader(""))
	if err == nil || !strings.Contains(err.Error(), "larger than the limit") {
		t.Errorf("got %v", err)
	}
}
