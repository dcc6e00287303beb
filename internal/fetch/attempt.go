package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// enough is how many new bytes make an attempt count as progress: large files
// over bad lines need more attempts than small ones, but not without bound.
const enough = 4 << 20

// retry fetches u into s, continuing after broken connections.
func (c *Client) retry(ctx context.Context, u *url.URL, s sink, b bound) error {
	for attempt := 1; ; attempt++ {
		had := s.Size()
		err := c.attempt(ctx, u, s, b)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return failed(u, context.Cause(ctx))
		}
		if s.Size()-had >= enough {
			attempt = 1
		}
		if !temporary(err) {
			return failed(u, err)
		}
		if attempt >= c.config.Attempts {
			return failed(u, fmt.Errorf("%w (%d attempts)", err, attempt))
		}
		c.note(u, err)
		if err := wait(ctx, c.pause(attempt, err)); err != nil {
			return failed(u, err)
		}
	}
}

func (c *Client) note(u *url.URL, err error) {
	c.config.Report.Note("fetch", failed(u, err).Error()+"; trying again")
}

// attempt asks once, for what s lacks.
func (c *Client) attempt(ctx context.Context, u *url.URL, s sink, b bound) error {
	if u.Scheme == "file" {
		return readFile(u, s, b)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(c.config.Stall, func() { cancel(ErrStalled) })
	defer watchdog.Stop()

	res, err := c.ask(ctx, u, s.Size(), b.fresh)
	if err != nil {
		return cause(ctx, err)
	}
	defer res.Body.Close()
	if err := begin(res, s, b); err != nil {
		return err
	}
	body := &watched{res.Body, watchdog, c.config.Stall}
	if err := take(s, body, b); err != nil {
		return cause(ctx, err)
	}
	return nil
}

// cause prefers the reason why a request was cancelled to the fact that it was.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

func (c *Client) ask(ctx context.Context, u *url.URL, have int64, fresh bool) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "kiln")
	req.Header.Set("Accept-Encoding", "identity")
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	if fresh {
		req.Header.Set("Cache-Control", "no-cache")
	}
	res, err := c.http.Do(req)
	// net/http wraps the reason together with the URL, query included.
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return nil, &noAnswer{wrapped.Err}
	}
	return res, err
}

// begin looks at an answer's head: it is an error, the whole, or the rest of what s has.
func begin(res *http.Response, s sink, b bound) error {
	have := s.Size()
	switch res.StatusCode {
	case http.StatusOK:
		if have > 0 {
			if err := s.Reset(); err != nil {
				return err
			}
		}
		have = 0
	case http.StatusPartialContent:
		if !continues(res.Header.Get("Content-Range"), have) {
			return errors.Join(errMisranged, s.Reset())
		}
	case http.StatusRequestedRangeNotSatisfiable:
		return errors.Join(errMisranged, s.Reset())
	case http.StatusNotFound, http.StatusGone:
		return ErrNotFound
	default:
		return &StatusError{res.StatusCode, retryAfter(res.Header.Get("Retry-After"), time.Now())}
	}
	if res.ContentLength >= 0 {
		return b.check(have + res.ContentLength)
	}
	return nil
}

// errMisranged is a server that does not continue where it was asked to.
var errMisranged = errors.New("the server did not continue where the connection broke")

func continues(contentRange string, have int64) bool {
	first, _, ok := strings.Cut(strings.TrimPrefix(contentRange, "bytes "), "-")
	n, err := strconv.ParseInt(strings.TrimSpace(first), 10, 64)
	return ok && err == nil && have > 0 && n == have
}

// take copies the body until its end, its error or one byte too many.
func take(s sink, body io.Reader, b bound) error {
	src := &source{r: io.LimitReader(body, b.max-s.Size()+1)}
	if _, err := io.CopyBuffer(onlyWriter{s}, src, make([]byte, 128<<10)); err != nil {
		if src.err == nil {
			return err // writing failed: the disk, not the server
		}
		return fmt.Errorf("%w after %d bytes: %w", ErrTruncated, s.Size(), err)
	}
	return b.check(s.Size())
}

// source remembers that reading, not writing, failed.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// onlyWriter hides ReadFrom, so that every chunk passes through Write and is counted.
type onlyWriter struct{ io.Writer }

// watched postpones the stall timer with every read that yields something.
type watched struct {
	r     io.Reader
	timer *time.Timer
	stall time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if n > 0 {
		w.timer.Reset(w.stall)
	}
	return n, err
}

func readFile(u *url.URL, s sink, b bound) error {
	path := u.Path
	if path == "" {
		path = u.Opaque
	}
	if !filepath.IsAbs(path) {
		return errors.New("a file URL needs an absolute path")
	}
	// Not blocking: a named pipe must not hang the build.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	if err := b.check(info.Size()); err != nil {
		return err
	}
	return take(s, f, b)
}

// temporary reports whether asking again may help.
func temporary(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		switch status.Code {
		case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
			return true
		}
		return status.Code >= 500 && status.Code != http.StatusNotImplemented
	}
	if errors.Is(err, ErrTruncated) || errors.Is(err, ErrStalled) || errors.Is(err, errMisranged) {
		return true
	}
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	if errors.Is(err, ErrRedirect) || errors.As(err, &certificate) || errors.As(err, &name) && name.IsNotFound {
		return false
	}
	var none *noAnswer
	return errors.As(err, &none)
}

// pause is how long to wait after a failed attempt, counted from 1.
func (c *Client) pause(attempt int, err error) time.Duration {
	var status *StatusError
	if errors.As(err, &status) && status.after > 0 {
		return min(status.after, c.config.MaxWait)
	}
	d := c.config.Backoff << min(attempt-1, 16)
	// Half of it at random, so that clients which failed together do not return together.
	d = d/2 + rand.N(d/2+1)
	return min(d, c.config.MaxWait)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// retryAfter reads a Retry-After header: seconds or a date.
func retryAfter(text string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n < 1e6 {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(text); err == nil && t.After(now) {
		return t.Sub(now)
	}
	return 0
}
