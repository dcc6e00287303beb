package fetch

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// What can be wrong with a download, to be tested with errors.Is.
var (
	// ErrTruncated says that the connection ended before the content did, in every attempt.
	ErrTruncated = errors.New("download was cut short")
	// ErrSize says that the content is larger or smaller than it must be.
	ErrSize = errors.New("wrong size")
	// ErrDigest says that the content is not the one that was asked for.
	ErrDigest = errors.New("wrong content")
	// ErrNotFound says that the server does not have the file.
	ErrNotFound = errors.New("not found")
	// ErrStalled says that the server sent nothing for too long.
	ErrStalled = errors.New("the server stopped sending")
	// ErrRedirect says that a redirect was not followed.
	ErrRedirect = errors.New("redirect refused")
)

// StatusError is an answer that is neither success nor "not found".
type StatusError struct {
	Code  int           // HTTP status
	after time.Duration // the server's Retry-After, 0 if none
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("the server answered %d %s", e.Code, http.StatusText(e.Code))
	switch e.Code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return text + "; check the credentials for this archive"
	case http.StatusProxyAuthRequired:
		return text + "; check the credentials of the proxy in the environment"
	}
	return text
}

// Error says which URL could not be fetched, without credentials and query, and why.
type Error struct {
	URL string
	Err error
}

func (e *Error) Error() string { return "fetching " + e.URL + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

func failed(u *url.URL, err error) error { return &Error{clean(u), err} }

// noAnswer is a request that got no answer at all: no connection, no name, no TLS, a broken head.
type noAnswer struct{ err error }

func (e *noAnswer) Error() string {
	if errors.Is(e.err, ErrRedirect) {
		return e.err.Error()
	}
	return "no answer from the server: " + e.err.Error()
}

func (e *noAnswer) Unwrap() error { return e.err }

// clean prints a URL for people: what may be secret is left out.
func clean(u *url.URL) string {
	c := *u
	c.User = nil
	if c.RawQuery != "" {
		c.RawQuery = "..."
	}
	c.Fragment = ""
	return c.String()
}

func parse(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's error quotes the URL, which may hold a password.
		return nil, errors.New("fetching: the URL cannot be parsed")
	}
	switch u.Scheme {
	case "http", "https":
		if u.Host == "" {
			return nil, fmt.Errorf("fetching %s: the URL has no host", clean(u))
		}
	case "file":
		if u.Host != "" && u.Host != "localhost" {
			return nil, fmt.Errorf("fetching %s: a file URL has no host; write file:///path", clean(u))
		}
	default:
		return nil, fmt.Errorf("fetching %s: only http, https and file URLs can be fetched", clean(u))
	}
	return u, nil
}
