package scan

import (
	"context"
	"crypto/md5" // dpkg's own checksums are MD5; they find changes, they prove nothing
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"runtime"
	"sync"

	"kiln"
)

// read looks into files, each once and in parallel: the checksum where the
// database promises one, and whatever the name or the first bytes say about
// software that dpkg does not know.
func (s *scanner) read(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan []string)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range min(runtime.GOMAXPROCS(0), 8) {
		wg.Go(func() {
			r := &reader{s: s, buffer: make([]byte, 256<<10), sum: md5.New()}
			for batch := range work {
				if err := r.directory(ctx, batch); err != nil {
					cancel(err)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			r.report()
		})
	}
	s.batches(func(batch []string) bool {
		select {
		case work <- batch:
			return true
		case <-ctx.Done():
			return false
		}
	})
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}

// batches calls fn with the files of one directory at a time, so that each directory is opened once.
func (s *scanner) batches(fn func([]string) bool) {
	byDir := map[string][]string{}
	var order []string
	for _, name := range s.files.paths {
		e := s.files.entries[name]
		if !e.mode.IsRegular() || s.purpose(name, e) == 0 {
			continue
		}
		dir := path.Dir(name)
		if byDir[dir] == nil {
			order = append(order, dir)
		}
		byDir[dir] = append(byDir[dir], name)
	}
	for _, dir := range order {
		if !fn(byDir[dir]) {
			return
		}
	}
}

// Purposes for which a file is opened.
const (
	forSum = 1 << iota
	forCopy
	forMetadata
	forProgram
)

func (s *scanner) purpose(name string, e entry) int {
	why := 0
	if _, ok := s.db.sums[name]; ok {
		why |= forSum
	}
	if s.suspects[name] {
		why |= forCopy
	}
	if metadataOf(name) != nil {
		why |= forMetadata
	}
	if e.mode&0o111 != 0 && e.size >= 4096 {
		why |= forProgram
	}
	return why
}

// reader is one worker: what it finds is reported once, at its end.
type reader struct {
	s         *scanner
	buffer    []byte
	sum       hash.Hash
	found     []kiln.Component
	changed   []string // content differs from the database
	copies    []string // unowned, but a copy of a packaged file
	strangers []string // unowned
	failed    map[string]error
}

func (r *reader) report() {
	s := r.s
	s.found = append(s.found, r.found...)
	s.bill.Generated = append(s.bill.Generated, r.copies...)
	s.bill.Unowned = append(s.bill.Unowned, r.strangers...)
	for _, name := range r.changed {
		if s.accounted(name) {
			s.bill.Replaced = append(s.bill.Replaced, name)
		} else {
			s.bill.Modified = append(s.bill.Modified, name)
		}
	}
	for name, err := range r.failed {
		s.unreadable(name, err)
	}
}

func (r *reader) directory(ctx context.Context, names []string) error {
	dir, err := r.s.root.OpenRoot(path.Dir(names[0]))
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.file(ctx, dir, name); err != nil {
			return fmt.Errorf("%s: %w", printable(name), err)
		}
	}
	return nil
}

func (r *reader) file(ctx context.Context, dir *os.Root, name string) error {
	f, err := dir.Open(path.Base(name))
	if err != nil {
		return err
	}
	defer f.Close()
	e := r.s.files.entries[name]
	why := r.s.purpose(name, e)
	if why&(forSum|forCopy) != 0 {
		if err := r.checksum(ctx, f, name, why); err != nil {
			return err
		}
	}
	if why&forMetadata != 0 {
		r.extract(metadataOf(name), f, name, e.size)
	}
	if why&forProgram != 0 {
		r.extract(program, f, name, e.size)
	}
	return nil
}

func (r *reader) checksum(ctx context.Context, f *os.File, name string, why int) error {
	r.sum.Reset()
	if _, err := io.CopyBuffer(onlyWriter{r.sum}, onlyReader{ctx, f}, r.buffer); err != nil {
		return err
	}
	got := [16]byte(r.sum.Sum(nil))
	if why&forSum != 0 && got != r.s.db.sums[name] {
		r.changed = append(r.changed, name)
	}
	if why&forCopy == 0 {
		return nil
	}
	if r.s.db.known[got] {
		r.copies = append(r.copies, name)
	} else {
		r.strangers = append(r.strangers, name)
	}
	return nil
}

// onlyWriter and onlyReader keep io.CopyBuffer from finding shortcuts that bypass the buffer; the reader ends with its context.
type onlyWriter struct{ io.Writer }

type onlyReader struct {
	ctx context.Context
	r   io.Reader
}

func (o onlyReader) Read(p []byte) (int, error) {
	if err := o.ctx.Err(); err != nil {
		return 0, err
	}
	return o.r.Read(p)
}

// An extractor reads one file, of which it may seek any part, and returns the software that it describes.
// errNotMine says that the file is none of its kind.
type extractor func(f io.ReaderAt, name string, size int64) ([]kiln.Component, error)

var errNotMine = errors.New("not a file of this kind")

func (r *reader) extract(fn extractor, f io.ReaderAt, name string, size int64) {
	found, err := fn(f, name, size)
	switch {
	case errors.Is(err, errNotMine):
		return
	case err != nil:
		if r.failed == nil {
			r.failed = map[string]error{}
		}
		r.failed[name] = err
	}
	owner := r.s.db.owner[name]
	for _, c := range found {
		c.OwnedBy = owner
		if len(c.Locations) == 0 {
			c.Locations = []string{printable(name)}
		}
		r.found = append(r.found, c)
	}
}
