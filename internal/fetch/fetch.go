// Package fetch gets files over http, https and from file URLs.
//
// Everything a server sends is taken as hostile: sizes are bounded, what has a
// known digest is stored only when it has it, redirects are few and never leave
// https. A connection that breaks is resumed where it stopped. Proxies come
// from the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY).
package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"kiln"
	"kiln/internal/blob/dir"
)

// Config is how a client works; the zero value of each field means its default.
type Config struct {
	// Store receives what Blob and Blobs fetch. Get works without one.
	Store *dir.Store
	// Attempts is how often a file is asked for before giving up; default 5.
	Attempts int
	// Backoff is the wait before the second attempt, doubled for each further one up to MaxWait; default 500ms.
	Backoff time.Duration
	// MaxWait bounds one wait, a server's Retry-After too; default 30s.
	MaxWait time.Duration
	// Stall is how long a server may send nothing before the connection counts as broken; default 30s.
	Stall time.Duration
	// Transport makes connections; default is one with the environment's proxies. Tests set it.
	Transport http.RoundTripper
	// Report hears a note for each attempt that failed and is repeated.
	Report kiln.Report
}

// Client fetches files. It is safe for concurrent use.
type Client struct {
	config Config
	http   *http.Client

	mu       sync.Mutex
	inFlight map[kiln.Digest]chan struct{}
}

const maxRedirects = 5

// New returns a client.
func New(c Config) *Client {
	if c.Attempts <= 0 {
		c.Attempts = 5
	}
	c.Backoff = or(c.Backoff, 500*time.Millisecond)
	c.MaxWait = or(c.MaxWait, 30*time.Second)
	c.Stall = or(c.Stall, 30*time.Second)
	if c.Transport == nil {
		c.Transport = transport()
	}
	return &Client{
		config:   c,
		http:     &http.Client{Transport: c.Transport, CheckRedirect: checkRedirect},
		inFlight: map[kiln.Digest]chan struct{}{},
	}
}

func or(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

func transport() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression = true // sizes and digests are those of the bytes as they lie in the archive
	t.MaxIdleConnsPerHost = 16
	t.MaxResponseHeaderBytes = 256 << 10
	return t
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("%w: more than %d", ErrRedirect, maxRedirects)
	}
	if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("%w: from https to %s", ErrRedirect, req.URL.Scheme)
	}
	return nil
}

// Get returns the content of a URL, which must be at most max bytes long.
func (c *Client) Get(ctx context.Context, rawURL string, max int64) ([]byte, error) {
	u, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	b := &buffer{}
	if err := c.retry(ctx, u, b, bound{max: max}); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// buffer is a sink in memory.
type buffer struct{ bytes.Buffer }

func (b *buffer) Size() int64  { return int64(b.Len()) }
func (b *buffer) Reset() error { b.Buffer.Reset(); return nil }

// Item is one file whose content is known beforehand.
type Item struct {
	URL    string
	Digest kiln.Digest
	Size   int64  // in bytes, exact
	Name   string // what people call it, for errors; may be empty
}

// Blob puts the content of a URL into the store, if the store lacks it. It must
// have exactly that digest and size. Concurrent calls for one digest fetch it once.
func (c *Client) Blob(ctx context.Context, rawURL string, want kiln.Digest, size int64) error {
	return c.blob(ctx, Item{URL: rawURL, Digest: want, Size: size}, func(int64) {})
}

func (c *Client) blob(ctx context.Context, it Item, count func(int64)) error {
	u, err := parse(it.URL)
	if err != nil {
		return err
	}
	if c.config.Store == nil {
		return errors.New("internal error: this client has no blob store")
	}
	if err := it.Digest.Validate(); err != nil {
		return fmt.Errorf("fetching %s: %w", clean(u), err)
	}
	leave, err := c.enter(ctx, it.Digest)
	if err != nil {
		return failed(u, err)
	}
	defer leave()
	if n, err := c.config.Store.Size(it.Digest); err == nil {
		if n == it.Size {
			count(n)
			return nil
		}
		if err := c.dropShort(it, n); err != nil {
			return failed(u, err)
		}
	}
	return c.download(ctx, u, it, count)
}

// dropShort removes a cached blob of another size than expected, as a power
// failure can leave one. Where its content is right, the expectation is wrong
// and the blob stays: whoever asks must not be able to empty the cache.
func (c *Client) dropShort(it Item, size int64) error {
	switch err := c.config.Store.Verify(it.Digest); {
	case err == nil:
		return fmt.Errorf("%w: the content of %s has %d bytes, not %d", ErrSize, it.Digest, size, it.Size)
	case !errors.Is(err, dir.ErrDigest):
		return err
	}
	return c.config.Store.Remove(it.Digest)
}

// enter waits until no other call of this client fetches d.
func (c *Client) enter(ctx context.Context, d kiln.Digest) (leave func(), err error) {
	for {
		c.mu.Lock()
		busy, taken := c.inFlight[d]
		if !taken {
			done := make(chan struct{})
			c.inFlight[d] = done
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				delete(c.inFlight, d)
				c.mu.Unlock()
				close(done)
			}, nil
		}
		c.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// download fetches into the store. Wrong content is asked for once more past
// caches: a proxy may hold what the archive has replaced.
func (c *Client) download(ctx context.Context, u *url.URL, it Item, count func(int64)) error {
	w, err := c.config.Store.Writer()
	if err != nil {
		return failed(u, err)
	}
	defer w.Abort()
	s := &counted{Writer: w, count: count}
	b := bound{max: it.Size, exact: true}
	if err := c.retry(ctx, u, s, b); err != nil {
		return err
	}
	if got := w.Digest(); got != it.Digest {
		c.note(u, fmt.Errorf("%w: asking once more past caches", ErrDigest))
		b.fresh = true
		if err := s.Reset(); err != nil {
			return failed(u, err)
		}
		if err := c.retry(ctx, u, s, b); err != nil {
			return err
		}
	}
	if got := w.Digest(); got != it.Digest {
		return failed(u, fmt.Errorf("%w: expected %s, the server sent %s; nothing of it was kept", ErrDigest, it.Digest, got))
	}
	if _, err := w.Commit(it.Digest); err != nil {
		return failed(u, err)
	}
	return nil
}

// counted tells how many bytes arrived; a reset takes them back.
type counted struct {
	*dir.Writer
	count func(int64)
}

func (s *counted) Write(p []byte) (int, error) {
	n, err := s.Writer.Write(p)
	s.count(int64(n))
	return n, err
}

func (s *counted) Reset() error {
	s.count(-s.Size())
	return s.Writer.Reset()
}

// sink is where content goes; it knows how much it has and can start again.
type sink interface {
	io.Writer
	Size() int64
	Reset() error
}

// bound says how much content is right.
type bound struct {
	max   int64
	exact bool // it must be max
	fresh bool // caches on the way must ask the server
}

func (b bound) check(n int64) error {
	if n > b.max {
		return fmt.Errorf("%w: larger than %d bytes", ErrSize, b.max)
	}
	if b.exact && n < b.max {
		return fmt.Errorf("%w: %d bytes instead of %d", ErrSize, n, b.max)
	}
	return nil
}
