package pack

import (
	"archive/tar"
	"fmt"
	"io"
	"time"

	"kiln/internal/tree"
)

// writeTar is tree.WriteTar with the time of every directory set to the epoch:
// a directory's own time changes whenever something is put into it, so that
// without this an application's file in usr/bin would move the base layer.
func writeTar(w io.Writer, dir string, o tree.TarOptions) (tree.Stats, error) {
	r, pw := io.Pipe()
	var stats tree.Stats
	go func() {
		var err error
		stats, err = tree.WriteTar(pw, dir, o)
		pw.CloseWithError(err)
	}()
	err := levelTimes(w, r, time.Unix(o.Epoch, 0))
	r.CloseWithError(err)
	return stats, err
}

func levelTimes(w io.Writer, r io.Reader, epoch time.Time) error {
	in, out := tar.NewReader(r), tar.NewWriter(w)
	buf := make([]byte, 256<<10)
	for {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeDir {
			h.ModTime = epoch
		}
		if err := out.WriteHeader(h); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, buf); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	// The stream ends only when its writer has finished, so that its counts may be read.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	return out.Close()
}
