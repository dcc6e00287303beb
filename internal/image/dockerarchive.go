package image

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
)

// archiveManifest is an entry of a docker archive's manifest.json.
type archiveManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// WriteArchive writes the image as a docker archive, which `docker load`,
// `podman load` and `skopeo copy docker-archive:` read. desc names an image
// manifest; tags are references such as "registry.example.com/base/nginx:1".
// The same image and tags give the same bytes. Signatures do not fit in.
func (l *Layout) WriteArchive(w io.Writer, desc ocispec.Descriptor, tags ...string) error {
	m, err := l.Manifest(desc)
	if err != nil {
		return fmt.Errorf("writing docker archive: %w", err)
	}
	out := tar.NewWriter(w)
	entry := archiveManifest{Config: kiln.Digest(m.Config.Digest).Hex() + ".json", RepoTags: tags, Layers: []string{}}
	if err := l.archiveBlob(out, m.Config, entry.Config); err != nil {
		return err
	}
	written := map[string]bool{}
	for _, d := range m.Layers {
		name := kiln.Digest(d.Digest).Hex() + ".tar.gz"
		entry.Layers = append(entry.Layers, name)
		if written[name] {
			continue
		}
		written[name] = true
		if err := l.archiveBlob(out, d, name); err != nil {
			return err
		}
	}
	list, err := json.Marshal([]archiveManifest{entry})
	if err != nil {
		return fmt.Errorf("writing docker archive: %w", err)
	}
	if err := archiveHeader(out, "manifest.json", int64(len(list))); err != nil {
		return err
	}
	if _, err := out.Write(list); err != nil {
		return fmt.Errorf("writing docker archive: %w", err)
	}
	return out.Close()
}

func (l *Layout) archiveBlob(out *tar.Writer, d ocispec.Descriptor, name string) error {
	if err := archiveHeader(out, name, d.Size); err != nil {
		return err
	}
	r, err := l.Open(kiln.Digest(d.Digest))
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.Copy(out, r); err != nil {
		return fmt.Errorf("writing %s of docker archive: %w", name, err)
	}
	return nil
}

func archiveHeader(out *tar.Writer, name string, size int64) error {
	err := out.WriteHeader(&tar.Header{
		Name: name, Mode: 0o644, Size: size, Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
	})
	if err != nil {
		return fmt.Errorf("writing docker archive: %w", err)
	}
	return nil
}
