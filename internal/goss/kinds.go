package goss

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kiln/internal/sandbox"
)

// kind is one kind of resource: its checked attributes, its options, and how to
// find the attributes' values.
type kind struct {
	attributes []string
	options    []string
	look       func(context.Context, Host, resource) (map[string]value, error)
}

var kinds = map[string]kind{
	"addr":         {[]string{"reachable"}, []string{"address", "timeout"}, lookAddr},
	"command":      {[]string{"exit-status", "stdout", "stderr"}, []string{"exec", "timeout"}, lookCommand},
	"file":         {[]string{"exists", "mode", "size", "owner", "uid", "group", "gid", "filetype", "linked-to", "contents", "contains", "md5", "sha256", "sha512"}, []string{"path"}, lookFile},
	"group":        {[]string{"exists", "gid"}, []string{"groupname"}, lookGroup},
	"http":         {[]string{"status", "headers", "body"}, []string{"url", "method", "allow-insecure", "no-follow-redirects", "timeout", "request-headers", "request-body", "username", "password"}, lookHTTP},
	"kernel-param": {[]string{"value"}, []string{"name"}, lookKernelParam},
	"matching":     {[]string{"matches"}, []string{"content"}, lookMatching},
	"package":      {[]string{"installed", "versions"}, []string{"name"}, lookPackage},
	"port":         {[]string{"listening", "ip"}, []string{"port"}, lookPort},
	"process":      {[]string{"running"}, []string{"comm"}, lookProcess},
	"service":      {[]string{"running"}, []string{"name"}, lookService},
	"user":         {[]string{"exists", "uid", "gid", "groups", "home", "shell"}, []string{"username"}, lookUser},
}

func sortedKeys(m map[string]kind) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// within bounds a look by the resource's timeout in milliseconds.
func within(ctx context.Context, r resource, def time.Duration) (context.Context, func()) {
	if n, err := strconv.Atoi(r.option("timeout", "")); err == nil && n > 0 {
		def = time.Duration(n) * time.Millisecond
	}
	return context.WithTimeoutCause(ctx, def, fmt.Errorf("no answer within %v", def))
}

func lookAddr(ctx context.Context, h Host, r resource) (map[string]value, error) {
	ctx, cancel := within(ctx, r, 500*time.Millisecond)
	defer cancel()
	network, address, ok := strings.Cut(r.option("address", r.id), "://")
	if !ok {
		network, address = "tcp", network
	}
	c, err := h.Dial(ctx, network, address)
	if err == nil {
		_ = c.Close()
	}
	return map[string]value{"reachable": err == nil}, nil
}

func lookCommand(ctx context.Context, h Host, r resource) (map[string]value, error) {
	ctx, cancel := within(ctx, r, 10*time.Second)
	defer cancel()
	exit, stdout, stderr, err := h.Exec(ctx, r.option("exec", r.id))
	if err != nil {
		return nil, err
	}
	return map[string]value{"exit-status": float64(exit), "stdout": text(stdout), "stderr": text(stderr)}, nil
}

var fileTypes = map[uint32]string{
	unix.S_IFREG: "file", unix.S_IFDIR: "directory", unix.S_IFLNK: "symlink", unix.S_IFSOCK: "socket", unix.S_IFIFO: "pipe",
	unix.S_IFCHR: "character-device", unix.S_IFBLK: "block-device",
}

func lookFile(_ context.Context, h Host, r resource) (map[string]value, error) {
	name := r.option("path", r.id)
	st, link, err := h.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]value{"exists": false}, nil
	}
	if err != nil {
		return nil, err
	}
	v := map[string]value{
		"exists": true, "filetype": fileTypes[st.Mode&unix.S_IFMT], "mode": fmt.Sprintf("%04o", st.Mode&0o7777), "size": float64(st.Size),
		"uid": float64(st.Uid), "gid": float64(st.Gid), "owner": nameOf(h, "/etc/passwd", st.Uid), "group": nameOf(h, "/etc/group", st.Gid),
	}
	if link != "" {
		v["linked-to"] = link
	}
	for _, a := range []string{"contents", "contains", "md5", "sha256", "sha512"} {
		if r.node.Get(a) == nil {
			continue
		}
		data, err := h.ReadFile(name)
		if err != nil {
			return nil, err
		}
		v["contents"], v["contains"] = text(data), text(data)
		v["md5"], v["sha256"], v["sha512"] = sum(md5.Sum(data)), sum(sha256.Sum256(data)), sum(sha512.Sum512(data))
		break
	}
	return v, nil
}

// sum is a digest in hexadecimal.
func sum[T [16]byte | [32]byte | [64]byte](d T) string {
	switch d := any(d).(type) {
	case [16]byte:
		return hex.EncodeToString(d[:])
	case [32]byte:
		return hex.EncodeToString(d[:])
	case [64]byte:
		return hex.EncodeToString(d[:])
	}
	return ""
}

// record finds a line of passwd or group by its name.
func record(h Host, file, name string, fields int) ([]string, error) {
	data, err := h.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) >= fields && f[0] == name {
			return f, nil
		}
	}
	return nil, nil
}

// nameOf finds who has a number; the number itself if nobody.
func nameOf(h Host, file string, id uint32) string {
	n := strconv.FormatUint(uint64(id), 10)
	data, _ := h.ReadFile(file) // a candidate without accounts has numbers
	for line := range strings.Lines(string(data)) {
		if f := strings.Split(line, ":"); len(f) >= 3 && f[2] == n {
			return f[0]
		}
	}
	return n
}

func number(s string) value {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return s
	}
	return f
}

func lookGroup(_ context.Context, h Host, r resource) (map[string]value, error) {
	f, err := record(h, "/etc/group", r.option("groupname", r.id), 3)
	if f == nil || err != nil {
		return map[string]value{"exists": false}, err
	}
	return map[string]value{"exists": true, "gid": number(f[2])}, nil
}

func lookUser(_ context.Context, h Host, r resource) (map[string]value, error) {
	f, err := record(h, "/etc/passwd", r.option("username", r.id), 7)
	if f == nil || err != nil {
		return map[string]value{"exists": false}, err
	}
	v := map[string]value{"exists": true, "uid": number(f[2]), "gid": number(f[3]), "home": f[5], "shell": f[6]}
	data, err := h.ReadFile("/etc/group")
	if err != nil {
		return nil, err
	}
	var groups []string
	for line := range strings.Lines(string(data)) {
		g := strings.Split(strings.TrimSpace(line), ":")
		if len(g) >= 4 && (g[2] == f[3] || slices.Contains(strings.Split(g[3], ","), f[0])) {
			groups = append(groups, g[0])
		}
	}
	v["groups"] = groups
	return v, nil
}

// maxBody is what is read of an answer.
const maxBody = 4 << 20

func lookHTTP(ctx context.Context, h Host, r resource) (map[string]value, error) {
	ctx, cancel := within(ctx, r, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.option("method", "GET"), r.option("url", r.id), strings.NewReader(r.option("request-body", "")))
	if err != nil {
		return nil, err
	}
	if user := r.option("username", ""); user != "" {
		req.SetBasicAuth(user, r.option("password", ""))
	}
	if n := r.node.Get("request-headers"); n != nil {
		for _, i := range n.Items {
			name, v, _ := strings.Cut(i.Text, ":")
			req.Header.Add(strings.TrimSpace(name), strings.TrimSpace(v))
			if strings.EqualFold(strings.TrimSpace(name), "host") {
				req.Host = strings.TrimSpace(v)
			}
		}
	}
	client := http.Client{Transport: &http.Transport{
		DialContext: h.Dial, DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: r.option("allow-insecure", "") == "true"},
	}}
	if r.option("no-follow-redirects", "") == "true" {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, err
	}
	var headers []string
	for name, values := range resp.Header {
		for _, v := range values {
			headers = append(headers, name+": "+v)
		}
	}
	slices.Sort(headers)
	return map[string]value{"status": float64(resp.StatusCode), "body": text(body), "headers": text(strings.Join(headers, "\n"))}, nil
}

func lookKernelParam(_ context.Context, h Host, r resource) (map[string]value, error) {
	name := strings.ReplaceAll(r.option("name", r.id), ".", "/")
	if name != path.Clean(name) || strings.HasPrefix(name, "..") {
		return nil, fmt.Errorf("%q is no kernel parameter", r.id)
	}
	data, err := h.ReadFile("/proc/sys/" + name)
	if err != nil {
		return nil, err
	}
	return map[string]value{"value": string(bytes.TrimSpace(data))}, nil
}

func lookMatching(_ context.Context, _ Host, r resource) (map[string]value, error) {
	n := r.node.Get("content")
	if n == nil {
		return nil, errors.New("no content")
	}
	if len(n.Items) > 0 {
		return map[string]value{"matches": texts(n.Items)}, nil
	}
	return map[string]value{"matches": n.Text}, nil
}

func lookPackage(_ context.Context, h Host, r resource) (map[string]value, error) {
	all, err := h.Packages()
	if err != nil {
		return nil, err
	}
	versions := all[r.option("name", r.id)]
	return map[string]value{"installed": len(versions) > 0, "versions": versions}, nil
}

// lookPort reads "tcp:80", "tcp6:80", "udp:53", "80". A socket on "::" counts
// for tcp as well, as it takes both.
func lookPort(_ context.Context, h Host, r resource) (map[string]value, error) {
	protocol, number, ok := strings.Cut(r.option("port", r.id), ":")
	if !ok {
		protocol, number = "tcp", protocol
	}
	n, err := strconv.Atoi(number)
	if err != nil {
		return nil, fmt.Errorf("%q is no port", r.id)
	}
	all, err := h.Listening()
	if err != nil {
		return nil, err
	}
	var ips []string
	for _, p := range all {
		six := strings.Contains(p.Address, ":")
		if p.Port == n && p.Protocol == strings.TrimSuffix(protocol, "6") && (six || !strings.HasSuffix(protocol, "6")) {
			ips = append(ips, p.Address)
		}
	}
	return map[string]value{"listening": len(ips) > 0, "ip": ips}, nil
}

func running(h Host, name string) (bool, error) {
	all, err := h.Processes()
	return slices.ContainsFunc(all, func(p sandbox.Process) bool {
		return p.Name == name || path.Base(p.Exe) == name || (len(name) > 15 && p.Name == name[:15])
	}), err
}

func lookProcess(_ context.Context, h Host, r resource) (map[string]value, error) {
	ok, err := running(h, r.option("comm", r.id))
	return map[string]value{"running": ok}, err
}

// lookService looks for the service's process, under its name or with the "d"
// that many daemons end in: nothing in a container manages services.
func lookService(_ context.Context, h Host, r resource) (map[string]value, error) {
	name := strings.TrimSuffix(r.option("name", r.id), ".service")
	for _, n := range []string{name, name + "d", name + "-server"} {
		if ok, err := running(h, n); ok || err != nil {
			return map[string]value{"running": ok}, err
		}
	}
	return map[string]value{"running": false}, nil
}
