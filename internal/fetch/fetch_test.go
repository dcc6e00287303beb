package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kiln"
	"kiln/internal/blob/dir"
)

// content is larger than one read and than what a socket buffers.
var content = bytes.Repeat([]byte("0123456789abcdef"), 64<<10)

func client(t *testing.T, c Config) *Client {
	t.Helper()
	s, err := dir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c.Store, c.Backoff, c.MaxWait = s, time.Millisecond, 5*time.Millisecond
	return New(c)
}

// empty fails the test where the client's store holds a blob or a temporary file.
func empty(t *testing.T, c *Client) {
	t.Helper()
	root := filepath.Dir(filepath.Dir(filepath.Dir(c.config.Store.Path(kiln.DigestBytes(nil)))))
	filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			t.Errorf("the store holds %s", p)
		}
		return err
	})
}

// serve answers the nth request (from 1) with h.
func serve(t *testing.T, h func(n int, w http.ResponseWriter, r *http.Request)) (string, *atomic.Int32) {
	var n atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h(int(n.Add(1)), w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, &n
}

func whole(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// cut announces everything and breaks the connection after half.
func cut(w http.ResponseWriter) { cutOf(w, content) }

func cutOf(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	w.Write(b[:len(b)/2])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func TestABrokenDownloadIsResumedWhereItStopped(t *testing.T) {
	var ranges []string
	url, _ := serve(t, func(n int, w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		if n == 1 {
			cut(w)
		}
		whole(w, r)
	})
	c := client(t, Config{})
	d := kiln.DigestBytes(content)
	if err := c.Blob(t.Context(), url, d, int64(len(content))); err != nil {
		t.Fatal(err)
	}
	if len(ranges) != 2 || ranges[0] != "" || !strings.HasPrefix(ranges[1], "bytes=") {
		t.Errorf("asked for ranges %q", ranges)
	}
	if err := c.config.Store.Verify(d); err != nil {
		t.Error(err)
	}
}

func TestAServerWithoutRangesIsAskedForTheWhole(t *testing.T) {
	url, _ := serve(t, func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			cut(w)
		}
		w.Write(content)
	})
	got, err := client(t, Config{}).Get(t.Context(), url, int64(len(content)))
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestDownloadsThatFail(t *testing.T) {
	size := int64(len(content))
	cases := []struct {
		name  string
		serve func(n int, w http.ResponseWriter, r *http.Request)
		err   error
		text  string
		asked int32
	}{
		{"cut short every time", func(_ int, w http.ResponseWriter, _ *http.Request) { cut(w) }, ErrTruncated, "cut short after", 3},
		{"other bytes of the same size", func(_ int, w http.ResponseWriter, _ *http.Request) { w.Write(bytes.ToUpper(content)) }, ErrDigest, "wrong content: expected sha256:", 2},
		{"too large, announced", func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(size*1000))
		}, ErrSize, "larger than", 1},
		{"endless", func(_ int, w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.Write(content)
			}
		}, ErrSize, "larger than", 1},
		{"smaller, but complete", func(_ int, w http.ResponseWriter, _ *http.Request) { w.Write(content[:100]) }, ErrSize, "100 bytes instead of", 1},
		{"not there", func(_ int, w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, ErrNotFound, "not found", 1},
		{"forbidden", func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, nil, "check the credentials", 1},
		{"always unavailable", func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, nil, "503 Service Unavailable (3 attempts)", 3},
		{"redirected for ever", func(_ int, w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }, ErrRedirect, "more than 5", 6},
		{"continued at the wrong place", func(n int, w http.ResponseWriter, _ *http.Request) {
			if n == 1 {
				cut(w)
			}
			w.Header().Set("Content-Range", "bytes 5-9/10")
			w.WriteHeader(206)
		}, errMisranged, "did not continue", 3},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url, asked := serve(t, tc.serve)
			url = strings.Replace(url, "http://", "http://user:secret@", 1) + "/pool/x.deb?token=secret"
			c := client(t, Config{Attempts: 3})
			err := c.Blob(t.Context(), url, kiln.DigestBytes(content), size)
			if err == nil || tc.err != nil && !errors.Is(err, tc.err) || !strings.Contains(err.Error(), tc.text) {
				t.Fatalf("error = %v\nwant %v, %q", err, tc.err, tc.text)
			}
			if strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "/pool/x.deb") {
				t.Errorf("error must name the URL and no credentials: %v", err)
			}
			if asked.Load() != tc.asked {
				t.Errorf("asked %d times, want %d", asked.Load(), tc.asked)
			}
			empty(t, c)
		})
	}
}

func TestASilentServerIsNotWaitedForForEver(t *testing.T) {
	url, _ := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	c := client(t, Config{Attempts: 2, Stall: 50 * time.Millisecond})
	if err := c.Blob(t.Context(), url, kiln.DigestBytes(content), int64(len(content))); !errors.Is(err, ErrStalled) {
		t.Errorf("error = %v", err)
	}
	empty(t, c)
}

func TestAStaleCacheIsAskedPast(t *testing.T) {
	url, _ := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cache-Control") == "" {
			w.Write(bytes.ToUpper(content))
			return
		}
		w.Write(content)
	})
	if err := client(t, Config{}).Blob(t.Context(), url, kiln.DigestBytes(content), int64(len(content))); err != nil {
		t.Error(err)
	}
}

func TestUnavailableServersAreAskedAgain(t *testing.T) {
	url, _ := serve(t, func(n int, w http.ResponseWriter, r *http.Request) {
		if n < 4 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(429)
			return
		}
		whole(w, r)
	})
	if _, err := client(t, Config{}).Get(t.Context(), url, 1<<20); err != nil {
		t.Error(err)
	}
}

func TestOneDigestIsFetchedOnce(t *testing.T) {
	url, asked := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		time.Sleep(20 * time.Millisecond)
		whole(w, r)
	})
	c := client(t, Config{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := c.Blob(t.Context(), url, kiln.DigestBytes(content), int64(len(content))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}

func TestACachedBlobOfTheWrongSizeIsFetchedAgain(t *testing.T) {
	url, _ := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) { whole(w, r) })
	c := client(t, Config{})
	d := kiln.DigestBytes(content)
	path := c.config.Store.Path(d)
	os.MkdirAll(filepath.Dir(path), 0o755)
	os.WriteFile(path, nil, 0o444)
	if err := c.Blob(t.Context(), url, d, int64(len(content))); err != nil {
		t.Fatal(err)
	}
	if err := c.config.Store.Verify(d); err != nil {
		t.Error(err)
	}
}

func TestBlobsCountEveryByteOnce(t *testing.T) {
	url, _ := serve(t, func(n int, w http.ResponseWriter, r *http.Request) {
		var i int
		fmt.Sscanf(r.URL.Path, "/%d", &i)
		if n == 2 {
			cutOf(w, content[:i])
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content[:i]))
	})
	c := client(t, Config{})
	var items []Item
	var total int64
	for i := range 20 {
		b := content[:len(content)-i]
		items = append(items, Item{URL: fmt.Sprintf("%s/%d", url, len(b)), Digest: kiln.DigestBytes(b), Size: int64(len(b))})
		total += int64(len(b))
	}
	items = append(items, items[0])
	var done, of int64
	err := c.Blobs(t.Context(), items, 4, func(d, t int64) { done, of = d, t })
	if err != nil || done != total || of != total {
		t.Errorf("%d of %d bytes, want %d: %v", done, of, total, err)
	}
}

func TestBlobsStopAtTheFirstFailureAndOnCancel(t *testing.T) {
	url, _ := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) })
	c := client(t, Config{})
	items := []Item{{URL: url + "/a", Digest: kiln.DigestBytes([]byte("a")), Size: 1}, {URL: url + "/b", Digest: kiln.DigestBytes([]byte("b")), Size: 1}}
	if err := c.Blobs(t.Context(), items, 2, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("error = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Blobs(ctx, items, 2, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
	empty(t, c)
}

func TestFileURLs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a file")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	c := client(t, Config{})
	if err := c.Blob(t.Context(), "file://"+path, kiln.DigestBytes(content), int64(len(content))); err != nil {
		t.Error(err)
	}
	for url, want := range map[string]string{
		"file://" + path:               "larger than 10 bytes",
		"file://" + filepath.Dir(path): "not a regular file",
		"file:///nowhere/x":            "not found",
		"file://host/etc/passwd":       "no host",
		"file:relative":                "absolute path",
		"ftp://archive.example.com/x":  "only http, https and file",
		"http:///x":                    "no host",
		"http://u:secret@h:port/":      "cannot be parsed",
	} {
		if _, err := c.Get(t.Context(), url, 10); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("Get(%s) = %v, want %q", url, err, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-3": 0, "soon": 0,
		"Thu, 01 Jan 2026 00:01:00 GMT": time.Minute,
		"Thu, 01 Jan 2025 00:01:00 GMT": 0,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", text, got, want)
		}
	}
}

func TestHTTPSIsNotLeftByRedirect(t *testing.T) {
	plain, _ := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) { whole(w, r) })
	secure := httptest.NewTLSServer(http.RedirectHandler(plain, http.StatusFound))
	defer secure.Close()
	c := client(t, Config{Transport: secure.Client().Transport})
	if _, err := c.Get(t.Context(), secure.URL, 1<<20); !errors.Is(err, ErrRedirect) {
		t.Errorf("error = %v", err)
	}
}
