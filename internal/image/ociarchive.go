package image

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
)

// ReadArchive copies the only image of a docker or OCI archive into a layout
// and returns its manifest, or its index of several platforms. Every blob is
// checked against its digest; a docker archive has none, so the manifest is
// made from its content.
func ReadArchive(file string, into *Layout) (ocispec.Descriptor, error) {
	members, err := archiveMembers(file)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("reading image archive %s: %w", file, err)
	}
	_, docker := members["manifest.json"]
	_, oci := members[ocispec.ImageLayoutFile]
	var desc ocispec.Descriptor
	switch {
	case docker:
		var manifest []byte
		if manifest, _, err = archiveImage(file, into); err == nil {
			desc, err = into.PutBytes(ocispec.MediaTypeImageManifest, manifest)
		}
	case oci:
		desc, err = ociArchive(file, members, into)
	default:
		err = fmt.Errorf("it has neither manifest.json nor %s, so it is no image; unpack a plain tar archive and audit the directory", ocispec.ImageLayoutFile)
	}
	if err != nil {
		return desc, fmt.Errorf("reading image archive %s: %w", file, err)
	}
	return desc, into.Add(desc)
}

func ociArchive(file string, members map[string]archiveMember, into *Layout) (ocispec.Descriptor, error) {
	raw, err := readMember(file, members, ocispec.ImageIndexFile)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("its %s: %w", ocispec.ImageIndexFile, err)
	}
	var roots []ocispec.Descriptor
	for _, d := range index.Manifests {
		if d.ArtifactType == "" && (isManifest(d.MediaType) || isIndex(d.MediaType)) {
			roots = append(roots, d)
		}
	}
	if len(roots) != 1 {
		return ocispec.Descriptor{}, fmt.Errorf("it holds %d images; save one image only", len(roots))
	}
	if err := blobs(file, members, into); err != nil {
		return ocispec.Descriptor{}, err
	}
	root := roots[0]
	root.Annotations = nil // its name, which is not needed
	return root, nil
}

// blobs copies all blobs; one that is not what its name says is an error.
func blobs(file string, members map[string]archiveMember, into *Layout) error {
	for name := range members {
		hex, ok := strings.CutPrefix(name, "blobs/sha256/")
		if !ok {
			continue
		}
		want, err := kiln.ParseDigest("sha256:" + hex)
		if err != nil {
			return fmt.Errorf("member %q: %w", clip(name), err)
		}
		r, size, err := openMember(file, members, name)
		if err != nil {
			return err
		}
		_, _, err = into.WriteBlob(bufio.NewReaderSize(r, 64<<10), want, size)
		r.Close()
		if err != nil {
			return fmt.Errorf("member %q: %w", clip(name), err)
		}
	}
	return nil
}
