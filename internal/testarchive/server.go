package testarchive

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault is what a server does wrong with one file.
type Fault struct {
	// Times is how many requests it spoils; 0 means all.
	Times    int
	Status   int           // answer this status
	Truncate bool          // announce everything, send half, break the connection
	Wrong    bool          // send other bytes of the same size
	Extra    bool          // send one byte too many
	Slow     time.Duration // wait before answering
}

// Server serves an archive over http on loopback.
type Server struct {
	URL string

	mu       sync.Mutex
	faults   map[string]*Fault
	requests []string
}

// Serve serves the archive until the test ends and makes its URI the server's.
func (a *Archive) Serve(t testing.TB) *Server {
	t.Helper()
	s := &Server{faults: map[string]*Fault{}}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(a.Dir, w, r) }))
	t.Cleanup(h.Close)
	s.URL, a.URI = h.URL, h.URL
	return s
}

// Break spoils answers for every path that ends with suffix; the last fault set for a suffix counts. A zero Fault heals.
func (s *Server) Break(suffix string, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f == (Fault{}) {
		delete(s.faults, suffix)
		return
	}
	s.faults[suffix] = &f
}

// Requests returns the paths that were asked for, in order.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...)
}

// take notes the request and returns the fault for it.
func (s *Server) take(p string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, p)
	for suffix, f := range s.faults {
		if !strings.HasSuffix(p, suffix) {
			continue
		}
		found := *f
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				delete(s.faults, suffix)
			}
		}
		return found
	}
	return Fault{}
}

func (s *Server) serve(dir string, w http.ResponseWriter, r *http.Request) {
	f := s.take(r.URL.Path)
	select {
	case <-time.After(f.Slow):
	case <-r.Context().Done():
		return
	}
	if f.Status != 0 {
		w.WriteHeader(f.Status)
		return
	}
	data, err := os.ReadFile(filepath.Join(dir, path.Clean("/"+r.URL.Path)))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	switch {
	case f.Truncate:
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:len(data)/2])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	case f.Wrong:
		data = bytes.Map(func(c rune) rune { return c ^ 1 }, []byte(strings.Repeat("x", len(data))))
	case f.Extra:
		data = append(data, 'x')
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}
