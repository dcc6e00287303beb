package line

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/s2"

	"kiln"
	"kiln/internal/atomicfile"
	"kiln/internal/tree"
)

// trees keeps root file systems between runs as compressed canonical tars,
// named by the key of what made them. Reading one back checks the digest that
// was taken when it was written.
//
// Trusted for nothing: a changed file is found by its digest and made again.
type trees struct{ dir string }

// keptTree describes one kept tree.
type keptTree struct {
	Tree  kiln.Digest `json:"tree"`  // of the canonical tar
	Epoch int64       `json:"epoch"` // that clamped its times
	Files int         `json:"files"`
	Bytes int64       `json:"bytes"`
}

func (t trees) path(key kiln.Digest) string { return filepath.Join(t.dir, key.Hex()+".tar.s2") }

func (t trees) has(key kiln.Digest) bool {
	_, err := os.Stat(t.path(key))
	return err == nil
}

// save keeps the tree in dir under key.
func (t trees) save(key kiln.Digest, dir string, epoch int64) (keptTree, error) {
	kept := keptTree{Epoch: epoch}
	sum := sha256.New()
	err := atomicfile.Cache(t.path(key), func(f io.Writer) error {
		stats, err := writeTree(f, sum, dir, epoch)
		kept.Files, kept.Bytes = stats.Files, stats.Bytes
		return err
	})
	if err != nil {
		return kept, fmt.Errorf("keeping tree: %w", err)
	}
	kept.Tree = kiln.DigestSum(sum.Sum(nil))
	return kept, nil
}

// writeTree packs dir: hashing and compressing run beside reading.
func writeTree(f io.Writer, sum hash.Hash, dir string, epoch int64) (tree.Stats, error) {
	z := s2.NewWriter(f, s2.WriterConcurrency(2))
	buf := bufio.NewWriterSize(io.MultiWriter(sum, z), 1<<20)
	stats, err := tree.WriteTar(buf, dir, tree.TarOptions{Epoch: epoch})
	return stats, errors.Join(err, buf.Flush(), z.Close())
}

// load unpacks the tree kept under key into dir and checks that it is still the one that was kept.
func (t trees) load(key, want kiln.Digest, dir string) error {
	f, err := os.Open(t.path(key))
	if err != nil {
		return fmt.Errorf("reading kept tree: %w", err)
	}
	defer f.Close()
	z := s2.NewReader(f)
	sum := sha256.New()
	body := io.TeeReader(z, sum)
	if _, err := tree.ReadTar(body, dir, tree.Limits{}); err != nil {
		return fmt.Errorf("reading kept tree: %w", err)
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return fmt.Errorf("reading kept tree: %w", err)
	}
	if got := kiln.DigestSum(sum.Sum(nil)); got != want {
		return fmt.Errorf("reading kept tree %s: its content is %s now", want.Short(), got.Short())
	}
	return nil
}

// drop forgets a kept tree.
func (t trees) drop(key kiln.Digest) error {
	if err := os.Remove(t.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
