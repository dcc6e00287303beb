package image

import (
	"io"
	"maps"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
)

// ImageConfig is the image's configuration in Kiln's words, with the commands of
// its history, oldest first. What only the manifest's annotations say of the
// base image stands among the labels.
func (u *Unpacked) ImageConfig() *kiln.ImageConfig {
	c := u.Config.Config
	out := &kiln.ImageConfig{
		Healthcheck: u.Healthcheck,
		Entrypoint:  c.Entrypoint, Command: c.Cmd, User: c.User, WorkDir: c.WorkingDir, Env: c.Env, Labels: c.Labels,
		Ports: slices.Sorted(maps.Keys(c.ExposedPorts)), Volumes: slices.Sorted(maps.Keys(c.Volumes)), StopSignal: c.StopSignal,
	}
	for _, key := range []string{ocispec.AnnotationBaseImageName, ocispec.AnnotationBaseImageDigest} {
		if value := u.Annotations[key]; value != "" && out.Labels[key] == "" {
			out.Labels = maps.Clone(out.Labels)
			if out.Labels == nil {
				out.Labels = map[string]string{}
			}
			out.Labels[key] = value
		}
	}
	for _, h := range u.Config.History {
		if h.CreatedBy != "" {
			out.History = append(out.History, h.CreatedBy)
		}
	}
	return out
}

// LayerSource is one layer of an image.
type LayerSource struct {
	Digest kiln.Digest // of the blob as it is stored
	Step   string      // the command of the history that made it, where the image says so
	// Open returns the layer's tar archive, decompressed and not bounded; read to its end, the blob's digest has been checked.
	Open func() (io.ReadCloser, error)
}

// Layers lists the layers of the image manifest desc, lowest first.
func Layers(l *Layout, desc ocispec.Descriptor) ([]LayerSource, error) {
	m, err := l.Manifest(desc)
	if err != nil {
		return nil, err
	}
	raw, err := l.Read(kiln.Digest(m.Config.Digest), maxManifest)
	if err != nil {
		return nil, err
	}
	config, err := parseConfig(raw)
	if err != nil {
		return nil, err
	}
	var steps []string // of the history, those that made a layer
	for _, h := range config.History {
		if !h.EmptyLayer {
			steps = append(steps, h.CreatedBy)
		}
	}
	out := make([]LayerSource, len(m.Layers))
	for i, d := range m.Layers {
		out[i] = LayerSource{Digest: kiln.Digest(d.Digest), Open: func() (io.ReadCloser, error) { return l.openLayer(kiln.Digest(d.Digest)) }}
		if len(steps) == len(m.Layers) {
			out[i].Step = steps[i]
		}
	}
	return out, nil
}

func (l *Layout) openLayer(d kiln.Digest) (io.ReadCloser, error) {
	blob, err := l.Open(d)
	if err != nil {
		return nil, err
	}
	plain, done, err := decompress(blob)
	if err != nil {
		blob.Close()
		return nil, err
	}
	return &layerReader{plain: plain, done: done, blob: blob}, nil
}

// layerReader reads the blob to its end when the archive has ended, so that its digest is checked.
type layerReader struct {
	plain io.Reader
	done  func()
	blob  io.ReadCloser
}

func (r *layerReader) Read(p []byte) (int, error) {
	n, err := r.plain.Read(p)
	if err == io.EOF {
		if _, err := io.Copy(io.Discard, r.blob); err != nil {
			return n, err
		}
	}
	return n, err
}

func (r *layerReader) Close() error {
	r.done()
	return r.blob.Close()
}
