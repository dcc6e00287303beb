package sandbox

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// Dial connects from inside the box's network namespace ("tcp", "udp" with an
// address of numbers or "localhost"; "unix" with a path of the box). The
// connection may be used from anywhere and outlives the box.
func (b *Box) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	flags := 0
	candidates := []string{address}
	if strings.HasPrefix(network, "unix") {
		flags |= unix.CLONE_NEWNS
	} else {
		var err error
		if candidates, err = numeric(address); err != nil {
			return nil, err
		}
	}
	if b.spec.Network == NetworkNone {
		flags |= unix.CLONE_NEWNET
	}
	type answer struct {
		c   net.Conn
		err error
	}
	result := make(chan answer, 1)
	onThread(func() {
		if flags != 0 {
			if err := b.enter(flags); err != nil {
				result <- answer{nil, err}
				return
			}
		}
		var a answer
		for _, c := range candidates {
			// A numeric address is dialled on this goroutine, hence this thread.
			if a.c, a.err = new(net.Dialer).DialContext(ctx, network, c); a.err == nil {
				break
			}
		}
		result <- a
	})
	a := <-result
	return a.c, a.err
}

// numeric turns an address into ones that need no resolver.
func numeric(address string) ([]string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dialling %s: %w", address, err)
	}
	if host == "localhost" || host == "" {
		return []string{net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)}, nil
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return nil, fmt.Errorf("dialling %s: a box has no name service; use an IP address or localhost", address)
	}
	return []string{address}, nil
}
