package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
)

// Media types of the docker schema 2 forms that are read like their OCI siblings.
const (
	dockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// Bounds on what a manifest may list.
const (
	maxLayers    = 512
	maxManifests = 1024
)

// manifestOrIndex is the union of both documents; MediaType tells which.
type manifestOrIndex struct {
	MediaType    string               `json:"mediaType"`
	ArtifactType string               `json:"artifactType"`
	Config       *ocispec.Descriptor  `json:"config"`
	Layers       []ocispec.Descriptor `json:"layers"`
	Manifests    []ocispec.Descriptor `json:"manifests"`
	Subject      *ocispec.Descriptor  `json:"subject"`
	Annotations  map[string]string    `json:"annotations"`
	FSLayers     json.RawMessage      `json:"fsLayers"`
}

func isIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == dockerManifestList
}

func isManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == dockerManifest
}

// parseManifest reads an image manifest or index strictly enough that every
// descriptor in it can be relied on.
func parseManifest(data []byte) (*manifestOrIndex, error) {
	var m manifestOrIndex
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&m); err != nil {
		return nil, fmt.Errorf("it is no manifest: %w", err)
	}
	if m.FSLayers != nil {
		return nil, errors.New("it is a docker schema 1 manifest, which has no digests to rely on; push the image again with a current tool")
	}
	if m.MediaType == "" { // allowed by OCI: told apart by content
		m.MediaType = ocispec.MediaTypeImageManifest
		if m.Manifests != nil {
			m.MediaType = ocispec.MediaTypeImageIndex
		}
	}
	switch {
	case isIndex(m.MediaType):
		if m.Config != nil || m.Layers != nil || len(m.Manifests) > maxManifests {
			return nil, errors.New("it is both index and manifest, or lists too many manifests")
		}
		return &m, checkDescriptors(m.Manifests)
	case isManifest(m.MediaType):
		if m.Config == nil || m.Manifests != nil || len(m.Layers) > maxLayers {
			return nil, errors.New("it has no config, or is an index too, or lists too many layers")
		}
		return &m, checkDescriptors(append([]ocispec.Descriptor{*m.Config}, m.Layers...))
	}
	return nil, fmt.Errorf("its media type is %q, neither an image manifest nor an index", m.MediaType)
}

func checkDescriptors(list []ocispec.Descriptor) error {
	for _, d := range list {
		if err := kiln.Digest(d.Digest).Validate(); err != nil {
			return err
		}
		if d.Size < 0 {
			return fmt.Errorf("descriptor %s has size %d", kiln.Digest(d.Digest).Short(), d.Size)
		}
	}
	return nil
}

// Manifest reads and checks the image manifest that desc names.
func (l *Layout) Manifest(desc ocispec.Descriptor) (*ocispec.Manifest, error) {
	data, err := l.Read(kiln.Digest(desc.Digest), maxManifest)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("reading manifest %s: %w", kiln.Digest(desc.Digest).Short(), err)
	}
	if !isManifest(m.MediaType) {
		return nil, fmt.Errorf("%s is an index, not an image manifest", kiln.Digest(desc.Digest).Short())
	}
	return &ocispec.Manifest{
		MediaType: m.MediaType, ArtifactType: m.ArtifactType, Config: *m.Config, Layers: m.Layers, Subject: m.Subject, Annotations: m.Annotations,
	}, nil
}

// ForPlatform returns the image manifest for platform (os/arch[/variant]) that
// desc, an index or a manifest itself, leads to.
func (l *Layout) ForPlatform(desc ocispec.Descriptor, platform string) (ocispec.Descriptor, error) {
	data, err := l.Read(kiln.Digest(desc.Digest), maxManifest)
	if err != nil {
		return desc, err
	}
	m, err := parseManifest(data)
	if err != nil {
		return desc, fmt.Errorf("reading manifest %s: %w", kiln.Digest(desc.Digest).Short(), err)
	}
	if isIndex(m.MediaType) {
		return choosePlatform(m.Manifests, platform)
	}
	desc.MediaType = m.MediaType
	config, err := l.Read(kiln.Digest(m.Config.Digest), maxManifest)
	if err != nil {
		return desc, err
	}
	return desc, checkPlatform(config, platform)
}

// checkPlatform compares an image configuration with the platform asked for.
func checkPlatform(config []byte, platform string) error {
	want, err := ParsePlatform(platform)
	if err != nil {
		return err
	}
	var have ocispec.Platform
	if err := json.Unmarshal(config, &have); err != nil {
		return fmt.Errorf("reading the image's configuration: %w", err)
	}
	if have.OS != want.OS || have.Architecture != want.Architecture {
		return fmt.Errorf("the image is for %q, not for %s", have.OS+"/"+have.Architecture, platform)
	}
	return nil
}

// lastDate bounds what an image may say about its age: the end of the year 2100.
const lastDate = 4133980799

// created is when an image configuration says that the image was made, in Unix
// seconds; 0 where it says nothing, or nothing that can be.
func created(config []byte) int64 {
	var have struct {
		Created *time.Time `json:"created"`
	}
	if err := json.Unmarshal(config, &have); err != nil || have.Created == nil {
		return 0
	}
	at := have.Created.Unix()
	if at < 0 || at > lastDate {
		return 0
	}
	return at
}

// healthcheck reads docker's addition to an image configuration. A check that
// is a shell's line names the shell; one that is switched off is none.
func healthcheck(config []byte) *kiln.Healthcheck {
	var have struct {
		Config struct {
			Healthcheck struct {
				Test              []string
				Interval, Timeout time.Duration
				Retries           int
			}
		} `json:"config"`
	}
	if err := json.Unmarshal(config, &have); err != nil {
		return nil
	}
	h := have.Config.Healthcheck
	out := &kiln.Healthcheck{Interval: kiln.Duration(max(h.Interval, 0)), Timeout: kiln.Duration(max(h.Timeout, 0)), Retries: max(h.Retries, 0)}
	switch {
	case len(h.Test) > 1 && h.Test[0] == "CMD":
		out.Command = h.Test[1:]
	case len(h.Test) == 2 && h.Test[0] == "CMD-SHELL":
		out.Command = []string{"/bin/sh", "-c", h.Test[1]}
	default:
		return nil
	}
	return out
}

// choosePlatform picks the one manifest of an index that fits.
func choosePlatform(list []ocispec.Descriptor, platform string) (ocispec.Descriptor, error) {
	want, err := ParsePlatform(platform)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var have []string
	for _, d := range list {
		if d.Platform == nil || !isManifest(d.MediaType) {
			continue
		}
		p := *d.Platform
		if p.OS == want.OS && p.Architecture == want.Architecture && (want.Variant == "" || p.Variant == "" || p.Variant == want.Variant) {
			return d, nil
		}
		have = append(have, strings.TrimRight(p.OS+"/"+p.Architecture+"/"+p.Variant, "/"))
	}
	return ocispec.Descriptor{}, fmt.Errorf("the image has no manifest for %s; it has %q", platform, have)
}

// ParsePlatform reads os/arch[/variant].
func ParsePlatform(s string) (ocispec.Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return ocispec.Platform{}, fmt.Errorf("platform %q is not of the form os/arch, such as linux/amd64", s)
	}
	p := ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

// Descriptor makes the descriptor of a blob held in memory.
func Descriptor(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.Digest(kiln.DigestBytes(data)), Size: int64(len(data))}
}

// PutJSON stores v as a JSON blob, with the field order of its type and no
// white space, and returns its descriptor.
func (l *Layout) PutJSON(mediaType string, v any) (ocispec.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encoding %s: %w", mediaType, err)
	}
	return l.PutBytes(mediaType, data)
}

// PutBytes stores data as a blob and returns its descriptor.
func (l *Layout) PutBytes(mediaType string, data []byte) (ocispec.Descriptor, error) {
	desc := Descriptor(mediaType, data)
	_, _, err := l.WriteBlob(bytes.NewReader(data), kiln.Digest(desc.Digest), 0)
	return desc, err
}

// AddReferrer stores a one-layer artifact manifest that refers to subject and
// enters it into index.json; its layer must have been stored before.
func (l *Layout) AddReferrer(subject, layer ocispec.Descriptor, artifactType string, annotations map[string]string) (ocispec.Descriptor, error) {
	desc, err := l.PutReferrer(subject, layer, artifactType, annotations)
	if err != nil {
		return desc, err
	}
	return desc, l.Add(desc)
}

// PutReferrer is AddReferrer without the entry in index.json; pass what it
// returns to Add, many at once.
func (l *Layout) PutReferrer(subject, layer ocispec.Descriptor, artifactType string, annotations map[string]string) (ocispec.Descriptor, error) {
	config, err := l.PutBytes(ocispec.MediaTypeEmptyJSON, []byte("{}"))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	m := ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType, Config: config, Layers: []ocispec.Descriptor{layer},
		Subject: &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}, Annotations: annotations,
	}
	m.SchemaVersion = 2
	desc, err := l.PutJSON(ocispec.MediaTypeImageManifest, m)
	if err != nil {
		return desc, fmt.Errorf("storing referrer of %s: %w", kiln.Digest(subject.Digest).Short(), err)
	}
	desc.ArtifactType, desc.Annotations = artifactType, annotations
	return desc, nil
}
