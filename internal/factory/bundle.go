package factory

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"kiln"
	"kiln/internal/atomicfile"
	"kiln/internal/line"
	"kiln/internal/tree"
)

// A bundle holds a lock and every byte that it names, so that the same image
// can be built when the archive no longer has a package. It is a plain tar:
// kiln.lock, then blobs/sha256/HEX in order. Import believes nothing in it: each blob
// must hash to its name, and building re-checks the signatures.
const (
	bundleLock  = "kiln.lock"
	bundleBlobs = "blobs/sha256/"
)

// lockDigests lists what a lock needs, in order.
func lockDigests(lock *kiln.Lock) []kiln.Digest {
	list := line.Inputs(lock)
	slices.Sort(list)
	return slices.Compact(list)
}

// ExportLock writes the lock and its inputs as a bundle to path. What the cache
// lacks is fetched first, and everything is verified: what is exported can be built from.
func (f *Factory) ExportLock(ctx context.Context, lock *kiln.Lock, path string) error {
	if lock.Image != nil {
		return kiln.Misuse(fmt.Errorf("the lock of %s starts from image %s: a bundle holds packages only; copy the image with skopeo instead", lock.Name, lock.Image.Reference))
	}
	l, err := f.line()
	if err != nil {
		return err
	}
	if _, err := l.Prove(ctx, lock); err != nil {
		return explain(err)
	}
	if err := atomicfile.Fill(path, 0o644, func(w io.Writer) error { return f.writeBundle(w, lock) }); err != nil {
		return fmt.Errorf("exporting lock: %w", err)
	}
	return nil
}

func (f *Factory) writeBundle(out io.Writer, lock *kiln.Lock) error {
	body, err := kiln.Encode(lock)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(out)
	if err := writeMember(tw, bundleLock, int64(len(body)), strings.NewReader(string(body))); err != nil {
		return err
	}
	for _, d := range lockDigests(lock) {
		if err := f.writeBlob(tw, d); err != nil {
			return fmt.Errorf("%s: %w", d.Short(), err)
		}
	}
	return tw.Close()
}

func (f *Factory) writeBlob(tw *tar.Writer, d kiln.Digest) error {
	blob, err := f.blobs.Open(d)
	if err != nil {
		return err
	}
	defer blob.Close()
	info, err := blob.Stat()
	if err != nil {
		return err
	}
	return writeMember(tw, bundleBlobs+d.Hex(), info.Size(), blob)
}

func writeMember(tw *tar.Writer, name string, size int64, r io.Reader) error {
	if err := tw.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err := io.Copy(tw, r)
	return err
}

// maxLock bounds a lock file; one for 1,000 packages has about 0.5 MiB.
const maxLock = 64 << 20

// maxBlob bounds one file of a bundle.
const maxBlob = 4 << 30

// ImportLock takes a bundle's inputs into the cache and returns its lock. Only
// blobs that the lock names are taken; one that does not hash to its name stops the import.
func (f *Factory) ImportLock(path string) (*kiln.Lock, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, kiln.Misuse(fmt.Errorf("importing bundle: %w", err))
	}
	defer in.Close()
	lock, err := f.readBundle(tar.NewReader(in))
	if err != nil {
		return nil, kiln.Refuse(kiln.WithHint(fmt.Errorf("importing bundle %s: %w", path, err), "take another copy of the bundle, or have it exported again with `kiln lock export`; nothing wrong was kept"))
	}
	return lock, nil
}

func (f *Factory) readBundle(tr *tar.Reader) (*kiln.Lock, error) {
	h, err := tr.Next()
	if err != nil || h.Name != bundleLock || h.Size > maxLock {
		return nil, errors.New("it does not begin with kiln.lock: not a bundle of `kiln lock export`")
	}
	body, err := io.ReadAll(io.LimitReader(tr, maxLock))
	if err != nil {
		return nil, err
	}
	lock := new(kiln.Lock)
	if err := kiln.Decode(body, lock); err != nil {
		return nil, err
	}
	wanted := lockDigests(lock)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		d, err := kiln.ParseDigest(strings.TrimPrefix(h.Name, bundleBlobs))
		if err != nil || !slices.Contains(wanted, d) || h.Typeflag != tar.TypeReg || tree.CheckDense(h) != nil {
			return nil, fmt.Errorf("member %q is nothing that the lock names", h.Name)
		}
		if _, _, err := f.blobs.Put(tr, d, maxBlob); err != nil {
			return nil, err
		}
	}
	for _, d := range wanted {
		if !f.blobs.Has(d) {
			return nil, fmt.Errorf("%s is named by the lock and missing", d.Short())
		}
	}
	return lock, nil
}
