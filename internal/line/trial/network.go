package trial

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"kiln"
	"kiln/internal/sandbox"
)

// maxBody is what is read of an answer.
const maxBody = 4 << 20

// http asks a URL from inside the candidate's network. Redirects are not
// followed: their status is the answer.
func (t *trial) http(ctx context.Context, h kiln.HTTPTest) outcome {
	status := h.Status
	if status == 0 {
		status = http.StatusOK
	}
	expected := expectedHTTP(h, status)
	match, err := expressions(h.Match)
	if err != nil {
		return broken(expected, err)
	}
	req, err := request(ctx, h)
	if err != nil {
		return broken(expected, err)
	}
	b, err := t.box(ctx)
	if err != nil {
		return outcome{kiln.Fail, expected, err.Error(), true}
	}
	client := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: b.Dial, DisableKeepAlives: true,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: h.Insecure, RootCAs: t.authorities(b)},
		},
	}
	resp, err := client.Do(req)
	if err != nil {
		return failed(expected, "no answer: "+causeOf(ctx, err))
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return failed(expected, "status "+strconv.Itoa(resp.StatusCode)+", then "+causeOf(ctx, err))
	}
	observed := fmt.Sprintf("status %d, %d bytes", resp.StatusCode, len(body))
	if resp.StatusCode != status {
		return failed(expected, observed+excerpt(body))
	}
	if o, bad := headersDiffer(expected, h.Response, resp.Header); bad {
		return o
	}
	for _, m := range match {
		if !m.Match(body) {
			return failed(expected, observed+" in which nothing matches "+m.String()+excerpt(body))
		}
	}
	return passed(expected, observed)
}

func expectedHTTP(h kiln.HTTPTest, status int) string {
	s := fmt.Sprintf("%s %s answers %d", orElseString(h.Method, "GET"), h.URL, status)
	for _, m := range h.Match {
		s += fmt.Sprintf(", body matching %q", m)
	}
	for _, n := range sortedNames(h.Response) {
		s += fmt.Sprintf(", header %s matching %q", n, h.Response[n])
	}
	return s
}

func orElseString(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// request builds the request; a Host header is the one that virtual hosts see.
func request(ctx context.Context, h kiln.HTTPTest) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, h.Method, h.URL, strings.NewReader(h.Body))
	if err != nil {
		return nil, err
	}
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" || req.URL.Host == "" {
		return nil, fmt.Errorf("%q is no http or https URL", h.URL)
	}
	req.Header.Set("User-Agent", "kiln-trial")
	for n, v := range h.Headers {
		if strings.EqualFold(n, "Host") {
			req.Host = v
		} else {
			req.Header.Set(n, v)
		}
	}
	return req, nil
}

func headersDiffer(expected string, want map[string]string, got http.Header) (outcome, bool) {
	for _, n := range sortedNames(want) {
		re, err := expressions([]string{want[n]})
		if err != nil {
			return broken(expected, err), true
		}
		values, present := got[http.CanonicalHeaderKey(n)]
		if !present {
			return failed(expected, "no header "+n), true
		}
		if !slices.ContainsFunc(values, re[0].MatchString) {
			return failed(expected, fmt.Sprintf("header %s: %s", n, strings.Join(values, ", "))), true
		}
	}
	return outcome{}, false
}

// authorities are the image's own, if it has any; else the machine's.
func (t *trial) authorities(b *sandbox.Box) *x509.CertPool {
	data, err := readInside(b.Root(), "/etc/ssl/certs/ca-certificates.crt", maxBody)
	if err != nil {
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil
	}
	return pool
}

// excerpt shows the beginning of a body that is text.
func excerpt(body []byte) string {
	text := strings.TrimSpace(strings.ToValidUTF8(string(body[:min(len(body), 300)]), "."))
	if text == "" {
		return ""
	}
	return ": " + text
}

// causeOf prefers why a context ended to that it did.
func causeOf(ctx context.Context, err error) string {
	if c := context.Cause(ctx); c != nil {
		return c.Error()
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	return err.Error()
}

// tcp connects, sends, and reads until everything matches.
func (t *trial) tcp(ctx context.Context, c kiln.TCPTest) outcome {
	address := c.Address
	if _, err := strconv.Atoi(address); err == nil {
		address = "127.0.0.1:" + address
	}
	expected := expectedTCP(c, address)
	match, err := expressions(c.Match)
	if err != nil {
		return broken(expected, err)
	}
	b, err := t.box(ctx)
	if err != nil {
		return outcome{kiln.Fail, expected, err.Error(), true}
	}
	conn, err := b.Dial(ctx, "tcp", address)
	if c.Refused {
		return refusal(ctx, expected, conn, err)
	}
	if err != nil {
		return failed(expected, "no connection: "+causeOf(ctx, err))
	}
	defer func() { _ = conn.Close() }()
	if end, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(end)
	}
	if _, err := io.WriteString(conn, c.Send); err != nil {
		return failed(expected, "sending: "+causeOf(ctx, err))
	}
	if len(match) == 0 {
		return passed(expected, "connected")
	}
	var got bytes.Buffer
	for buf := make([]byte, 4096); got.Len() < maxBody; {
		n, err := conn.Read(buf)
		got.Write(buf[:n])
		if allMatch(match, got.Bytes()) {
			return passed(expected, fmt.Sprintf("received %q", clip(got.String())))
		}
		if err != nil {
			return failed(expected, fmt.Sprintf("received %q, then %s", clip(got.String()), causeOf(ctx, err)))
		}
	}
	return failed(expected, "received 4 MiB without a match")
}

func expectedTCP(c kiln.TCPTest, address string) string {
	switch {
	case c.Refused:
		return address + " refuses connections"
	case len(c.Match) > 0:
		return fmt.Sprintf("%s answers with what matches %q", address, c.Match)
	}
	return address + " accepts connections"
}

// refusal judges a connection that must not come about.
func refusal(ctx context.Context, expected string, conn net.Conn, err error) outcome {
	if err == nil {
		_ = conn.Close()
		return failed(expected, "connected")
	}
	var errno syscall.Errno
	if errors.As(err, &errno) || errors.Is(err, context.DeadlineExceeded) {
		return passed(expected, causeOf(ctx, err))
	}
	return broken(expected, err)
}

// listening compares all sockets that wait for peers with the list.
func (t *trial) listening(p kiln.PortsTest) outcome {
	var want []port
	for _, s := range p.Ports {
		w, err := parsePort(s)
		if err != nil {
			return broken("listening ports", err)
		}
		want = append(want, w)
	}
	expected := "exactly " + describe(want)
	b, err := t.box(context.Background())
	if err != nil {
		return outcome{kiln.Fail, expected, err.Error(), true}
	}
	sockets, err := b.Listening()
	if err != nil {
		return failed(expected, err.Error())
	}
	var got []port
	var seen []string
	for _, s := range sockets {
		got = append(got, portOf(s))
		seen = append(seen, s.String())
	}
	observed := orElseString(strings.Join(seen, ", "), "nothing")
	for _, w := range want {
		if !slices.Contains(got, w) {
			return failed(expected, observed)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			return failed(expected, observed)
		}
	}
	return passed(expected, observed)
}

// port is a port with its protocol.
type port struct {
	number   int
	protocol string
}

func portOf(p sandbox.Port) port { return port{p.Port, p.Protocol} }

// parsePort reads "8080", "8080/tcp", "53/udp".
func parsePort(s string) (port, error) {
	number, protocol, ok := strings.Cut(s, "/")
	if !ok {
		protocol = "tcp"
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > 65535 || (protocol != "tcp" && protocol != "udp") {
		return port{}, fmt.Errorf("%q is no port; ports look like 8080/tcp", s)
	}
	return port{n, protocol}, nil
}

func describe(ports []port) string {
	if len(ports) == 0 {
		return "no port listens"
	}
	var s []string
	for _, p := range ports {
		s = append(s, fmt.Sprintf("%d/%s", p.number, p.protocol))
	}
	return strings.Join(s, ", ")
}
