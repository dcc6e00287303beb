package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
)

// maxArchiveMembers bounds a docker archive: a real one has a few per layer.
const maxArchiveMembers = 20_000

// A docker archive has no manifest with digests, so Kiln makes one: the config
// as it is, each layer as it lies in the archive, in the archive's order.

// resolveArchive reads the archive once and computes the manifest that fetchArchive will store.
func resolveArchive(file, shown, platform string) (kiln.LockedImage, error) {
	manifest, config, err := archiveImage(file, nil)
	if err == nil {
		err = checkPlatform(config, platform)
	}
	if err != nil {
		return kiln.LockedImage{}, fmt.Errorf("reading docker archive %s: %w", shown, err)
	}
	return kiln.LockedImage{Reference: "docker-archive:" + shown, Digest: kiln.DigestBytes(manifest), Size: int64(len(manifest)), Created: created(config)}, nil
}

func fetchArchive(file string, locked kiln.LockedImage, into *Layout) (ocispec.Descriptor, error) {
	manifest, _, err := archiveImage(file, into)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("reading docker archive %s: %w", file, err)
	}
	if got := kiln.DigestBytes(manifest); got != locked.Digest {
		return ocispec.Descriptor{}, fmt.Errorf("docker archive %s changed since it was locked: its image is %s, the lock says %s; "+
			"put the old file back or lock again", file, got.Short(), locked.Digest.Short())
	}
	return into.PutBytes(ocispec.MediaTypeImageManifest, manifest)
}

// archiveImage returns the manifest made of the archive's only image; with a
// layout the blobs are stored there too.
func archiveImage(file string, into *Layout) (manifest, config []byte, err error) {
	members, list, err := archiveIndex(file)
	if err != nil {
		return nil, nil, err
	}
	if len(list) != 1 {
		return nil, nil, fmt.Errorf("it holds %d images; save one image only", len(list))
	}
	entry := list[0]
	if len(entry.Layers) == 0 || len(entry.Layers) > maxLayers {
		return nil, nil, fmt.Errorf("its image has %d layers", len(entry.Layers))
	}
	raw, err := readMember(file, members, entry.Config)
	if err != nil {
		return nil, nil, err
	}
	var parsed ocispec.Image
	if err := json.Unmarshal(raw, &parsed); err != nil {
		return nil, nil, fmt.Errorf("its configuration: %w", err)
	}
	if len(parsed.RootFS.DiffIDs) != len(entry.Layers) {
		return nil, nil, fmt.Errorf("its configuration knows %d layers, its manifest %d", len(parsed.RootFS.DiffIDs), len(entry.Layers))
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: Descriptor(ocispec.MediaTypeImageConfig, raw), Layers: []ocispec.Descriptor{},
	}
	if into != nil {
		if _, err := into.PutBytes(ocispec.MediaTypeImageConfig, raw); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range entry.Layers {
		d, err := archiveLayer(file, members, name, into)
		if err != nil {
			return nil, nil, err
		}
		m.Layers = append(m.Layers, d)
	}
	manifest, err = json.Marshal(m)
	return manifest, raw, err
}

type archiveMember struct{ offset, size int64 }

// archiveIndex finds where every member's bytes lie and reads manifest.json.
func archiveIndex(file string) (map[string]archiveMember, []archiveManifest, error) {
	members, err := archiveMembers(file)
	if err != nil {
		return nil, nil, err
	}
	raw, err := readMember(file, members, "manifest.json")
	if err != nil {
		return nil, nil, errors.New("it has no manifest.json; make it with `docker save` or `podman save --format docker-archive`")
	}
	var list []archiveManifest
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, nil, fmt.Errorf("its manifest.json: %w", err)
	}
	return members, list, nil
}

// archiveMembers finds where every member's bytes lie; symbolic links, which old docker versions write, are followed.
func archiveMembers(file string) (map[string]archiveMember, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	members, links := map[string]archiveMember{}, map[string]string{}
	for in, n := tar.NewReader(f), 0; ; n++ {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, notTar(f, n, err)
		}
		if n > maxArchiveMembers {
			return nil, fmt.Errorf("it has more than %d members", maxArchiveMembers)
		}
		switch name := path.Clean(h.Name); h.Typeflag {
		case tar.TypeReg:
			at, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, err
			}
			members[name] = archiveMember{at, h.Size}
		case tar.TypeSymlink:
			links[name] = path.Join(path.Dir(name), h.Linkname)
		}
	}
	for name, target := range links {
		if m, ok := members[target]; ok {
			members[name] = m
		}
	}
	return members, nil
}

func openMember(file string, members map[string]archiveMember, name string) (io.ReadCloser, int64, error) {
	m, ok := members[path.Clean(name)]
	if !ok {
		return nil, 0, fmt.Errorf("it has no member %q, which its manifest names", name)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, 0, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, m.offset, m.size), f}, m.size, nil
}

func readMember(file string, members map[string]archiveMember, name string) ([]byte, error) {
	r, size, err := openMember(file, members, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if size > maxManifest {
		return nil, fmt.Errorf("its member %q has %d bytes, more than %d", name, size, maxManifest)
	}
	return io.ReadAll(r)
}

func archiveLayer(file string, members map[string]archiveMember, name string, into *Layout) (ocispec.Descriptor, error) {
	r, size, err := openMember(file, members, name)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer r.Close()
	buffered := bufio.NewReaderSize(r, 64<<10)
	mediaType := ocispec.MediaTypeImageLayer
	switch magic, _ := buffered.Peek(4); {
	case len(magic) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
		mediaType = ocispec.MediaTypeImageLayerGzip
	case string(magic) == "\x28\xb5\x2f\xfd":
		mediaType = ocispec.MediaTypeImageLayerZstd
	}
	var d kiln.Digest
	if into != nil {
		d, _, err = into.WriteBlob(buffered, "", size)
	} else {
		sum := sha256.New()
		_, err = io.Copy(sum, buffered)
		d = kiln.DigestSum(sum.Sum(nil))
	}
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("reading layer %q: %w", name, err)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.Digest(d), Size: size}, nil
}

// notTar says what is wrong with an archive after n members.
func notTar(f io.ReaderAt, n int, err error) error {
	var head [4]byte
	_, _ = f.ReadAt(head[:], 0) // too short a file has no mark
	switch {
	case bytes.HasPrefix(head[:], []byte("\x1f\x8b")):
		return errors.New("it is no tar archive but compressed by gzip: unpack it first, gzip -dc FILE > FILE.tar")
	case bytes.Equal(head[:], []byte("\x28\xb5\x2f\xfd")):
		return errors.New("it is no tar archive but compressed by zstd: unpack it first, zstd -d FILE")
	case n == 0:
		return fmt.Errorf("it is no tar archive: %w", err)
	}
	return fmt.Errorf("it is no whole tar archive, broken or cut off after %d members: %w", n, err)
}
