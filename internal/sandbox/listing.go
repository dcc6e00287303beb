package sandbox

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Process is one process of a box. PID and PPID are those inside.
type Process struct {
	PID, PPID, UID int
	Name           string // the kernel's short name, at most 15 bytes
	Exe            string // path of the program inside, empty if unknown
	Args           []string
}

// Processes lists the box's processes by number. The one that only waits in a
// box without a service is left out.
func (b *Box) Processes() ([]Process, error) {
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", b.pid))
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", ErrEnded)
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var list []Process
	for _, d := range dirs {
		if l, err := os.Readlink(d + "/ns/pid"); err != nil || l != ns {
			continue
		}
		if p, ok := readProcess(d); ok && !(b.waits && p.PID == 1) {
			list = append(list, p)
		}
	}
	if !b.alive() { // its number may have gone to somebody else
		return nil, fmt.Errorf("listing processes: %w", ErrEnded)
	}
	slices.SortFunc(list, func(a, b Process) int { return a.PID - b.PID })
	return list, nil
}

// readProcess reads one directory of /proc; a process that ended meanwhile, or
// a zombie, is none.
func readProcess(dir string) (Process, bool) {
	var p Process
	status := readSmall(dir + "/status")
	if status == "" {
		return p, false
	}
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		f := strings.Fields(value)
		if len(f) == 0 {
			continue
		}
		switch key {
		case "Name":
			p.Name = strings.TrimSpace(value)
		case "State":
			if f[0] == "Z" || f[0] == "X" {
				return p, false
			}
		case "NSpid":
			p.PID, _ = strconv.Atoi(f[len(f)-1])
		case "PPid":
			p.PPID = innerPID(f[0])
		case "Uid":
			p.UID, _ = strconv.Atoi(f[1])
		}
	}
	p.Exe, _ = os.Readlink(dir + "/exe")
	cmdline, _ := os.ReadFile(dir + "/cmdline")
	for a := range bytes.SplitSeq(bytes.TrimSuffix(cmdline, []byte{0}), []byte{0}) {
		p.Args = append(p.Args, string(a))
	}
	return p, p.PID > 0
}

// innerPID is a process's number in its innermost namespace.
func innerPID(outer string) int {
	for line := range strings.Lines(readSmall("/proc/" + outer + "/status")) {
		if v, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(v)
			if len(f) > 1 {
				n, _ := strconv.Atoi(f[len(f)-1])
				return n
			}
		}
	}
	return 0 // outside the box
}

// Port is a socket that waits for peers.
type Port struct {
	Protocol string // tcp or udp
	Address  string // "0.0.0.0", "::", "127.0.0.1"...
	Port     int
}

// String is "80/tcp on 0.0.0.0".
func (p Port) String() string { return fmt.Sprintf("%d/%s on %s", p.Port, p.Protocol, p.Address) }

// Socket states in /proc/net: a TCP socket that listens, a UDP socket that is bound to no peer.
var waitingState = map[string]string{"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}

// Listening lists the sockets of the box's network namespace that wait for peers.
func (b *Box) Listening() ([]Port, error) {
	var list []Port
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", b.pid, table))
		if err != nil {
			if os.IsNotExist(err) && b.alive() {
				continue // a kernel without IPv6
			}
			return nil, fmt.Errorf("listing sockets: %w", ErrEnded)
		}
		ports, err := parseSockets(string(text), strings.TrimSuffix(table, "6"), waitingState[table])
		if err != nil {
			return nil, fmt.Errorf("listing %s sockets: %w", table, err)
		}
		list = append(list, ports...)
	}
	if !b.alive() { // its number may have gone to somebody else
		return nil, fmt.Errorf("listing sockets: %w", ErrEnded)
	}
	slices.SortFunc(list, func(a, b Port) int {
		if a.Port != b.Port {
			return a.Port - b.Port
		}
		return strings.Compare(a.String(), b.String())
	})
	return slices.Compact(list), nil
}

func (b *Box) alive() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pidfd >= 0
}

// parseSockets reads a table of /proc/net.
func parseSockets(text, protocol, state string) ([]Port, error) {
	var list []Port
	first := true
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if first || len(f) < 4 {
			first = false
			continue
		}
		if f[3] != state {
			continue
		}
		addr, port, err := parseEndpoint(f[1])
		if err != nil {
			return nil, err
		}
		if port == 0 {
			continue // unbound
		}
		list = append(list, Port{Protocol: protocol, Address: addr.String(), Port: port})
	}
	return list, nil
}

// parseEndpoint reads "0100007F:1F90": 32-bit words in the machine's order
// (little endian on the architectures we run on), then the port.
func parseEndpoint(s string) (netip.Addr, int, error) {
	bad := fmt.Errorf("cannot read socket address %q", s)
	host, port, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	if !ok || err != nil || (len(raw) != 4 && len(raw) != 16) {
		return netip.Addr{}, 0, bad
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.Addr{}, 0, bad
	}
	addr, _ := netip.AddrFromSlice(raw)
	return addr, int(n), nil
}
