package trial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"kiln"
	"kiln/internal/deb"
	"kiln/internal/goss"
	"kiln/internal/sandbox"
)

// goss runs the checks of a goss file, commands as the image's user.
func (t *trial) goss(ctx context.Context, test kiln.Test) outcome {
	expected := "all checks of " + test.Goss + " hold"
	data, err := t.readDocument(test.Goss)
	if err != nil {
		return broken(expected, err)
	}
	file, err := goss.Parse(data, test.Goss)
	if err != nil {
		return broken(expected, err)
	}
	b, err := t.box(ctx)
	if err != nil {
		return outcome{kiln.Fail, expected, err.Error(), true}
	}
	results := file.Run(ctx, gossHost{t, b})
	var bad []string
	skipped := 0
	for _, r := range results {
		if r.Skipped {
			skipped++
		} else if !r.OK {
			bad = append(bad, r.String())
		}
	}
	if len(results) == skipped {
		return broken(expected, fmt.Errorf("it checks nothing: all its %d resources are skipped", skipped))
	}
	observed := fmt.Sprintf("%d of %d checks hold", len(results)-skipped-len(bad), len(results)-skipped)
	if skipped > 0 {
		observed += fmt.Sprintf(", %d skipped by the file", skipped)
	}
	if len(bad) > 0 {
		return failed(expected, observed+"\n"+strings.Join(bad, "\n"))
	}
	return passed(expected, observed)
}

// gossHost is the candidate as goss sees it.
type gossHost struct {
	t   *trial
	box *sandbox.Box
}

func (h gossHost) Exec(ctx context.Context, command string) (int, string, string, error) {
	out, errs := &tail{max: maxOutput}, &tail{max: maxOutput}
	r, err := h.box.Exec(ctx, sandbox.ExecSpec{
		Args: []string{"/bin/sh", "-c", command}, Env: h.t.spec.Env, Dir: h.t.spec.Dir, UID: h.t.who.uid, GID: h.t.who.gid, Groups: h.t.who.groups,
		Stdout: out, Stderr: errs,
	})
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w; goss commands need a shell in the image", err)
	}
	return r.ExitCode, out.String(), errs.String(), err
}

func (h gossHost) Processes() ([]sandbox.Process, error) { return h.box.Processes() }
func (h gossHost) Listening() ([]sandbox.Port, error)    { return h.box.Listening() }

func (h gossHost) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return h.box.Dial(ctx, network, address)
}

func (h gossHost) ReadFile(name string) ([]byte, error) {
	return readInside(h.box.Root(), name, maxMatched)
}

func (h gossHost) Stat(name string) (st unix.Stat_t, link string, err error) {
	f, err := openInside(h.box.Root(), name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return st, "", err
	}
	defer func() { _ = f.Close() }()
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, "", err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(f.Fd()), "", buf)
		if err != nil {
			return st, "", err
		}
		link = string(buf[:n])
	}
	return st, link, nil
}

func (h gossHost) Packages() (map[string][]string, error) {
	list, err := deb.ReadStatus(h.box.Root())
	out := map[string][]string{}
	for _, p := range list {
		out[p.Name] = append(out[p.Name], p.Version)
	}
	return out, err
}
