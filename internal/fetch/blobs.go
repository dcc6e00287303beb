package fetch

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"kiln"
)

// Blobs fetches items into the store, parallel at a time (at least one), and
// stops at the first that fails. Items with the same digest are fetched once.
// progress, which may be nil, hears bytes done and in total, about ten times a
// second and at the end; it is never called concurrently.
func (c *Client) Blobs(ctx context.Context, items []Item, parallel int, progress func(done, total int64)) error {
	items = unique(items)
	m := newMeter(items, progress)
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(max(parallel, 1))
	for _, it := range items {
		if inner.Err() != nil {
			break
		}
		group.Go(func() error {
			err := c.blob(inner, it, m.add)
			if err != nil && it.Name != "" {
				err = fmt.Errorf("%s: %w", it.Name, err)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	// A caller that gave up may have ended the loop before anything failed.
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	m.finish()
	return nil
}

func unique(items []Item) []Item {
	seen := make(map[kiln.Digest]bool, len(items))
	var list []Item
	for _, it := range items {
		if !seen[it.Digest] {
			seen[it.Digest] = true
			list = append(list, it)
		}
	}
	return list
}

// meter adds up bytes and tells at a bearable rate.
type meter struct {
	mu          sync.Mutex
	done, total int64
	last        time.Time
	progress    func(done, total int64)
}

func newMeter(items []Item, progress func(done, total int64)) *meter {
	m := &meter{progress: progress}
	for _, it := range items {
		m.total += it.Size
	}
	return m
}

func (m *meter) add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	if m.progress == nil || time.Since(m.last) < 100*time.Millisecond {
		return
	}
	m.last = time.Now()
	m.progress(m.done, m.total)
}

func (m *meter) finish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.progress != nil {
		m.progress(m.done, m.total)
	}
}
