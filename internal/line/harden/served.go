package harden

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// port is where a program of the machine is reached.
type port struct {
	number int
	proto  string // tcp or udp
}

func (p port) String() string { return strconv.Itoa(p.number) + "/" + p.proto }

// parsePort reads "8080" (TCP) and "53/udp".
func parsePort(text string) (port, error) {
	number, proto, ok := strings.Cut(text, "/")
	n, err := strconv.Atoi(number)
	if !ok {
		proto = "tcp"
	}
	if err != nil || n < 1 || n > 65535 || proto != "tcp" && proto != "udp" {
		return port{}, fmt.Errorf("port %q is not such as 8080 or 53/udp", text)
	}
	return port{n, proto}, nil
}

// served are the ports that a firewall must leave open: the recipe's, and those of the SSH server, without which nobody
// reaches the machine any more.
func (s *Subject) served() ([]port, error) {
	out, err := s.sshPorts()
	if err != nil {
		return nil, err
	}
	for _, text := range s.recipe.Ports {
		p, err := parsePort(text)
		if err != nil {
			return nil, fmt.Errorf("the recipe's ports: %w", err)
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b port) int { return cmp.Or(a.number-b.number, strings.Compare(a.proto, b.proto)) })
	return out, nil
}

// sshPorts are all ports that a line of the server's files names, 22 where none does. A port more than the server
// listens at opens nothing.
func (s *Subject) sshPorts() ([]port, error) {
	if !s.packages().has("openssh-server") {
		return nil, nil
	}
	var out []port
	for _, file := range s.filesOf([]string{sshdConfig, "/etc/ssh/sshd_config.d/*.conf"}) {
		lines, err := s.confLines(file)
		if err != nil {
			return nil, err
		}
		for i, line := range lines {
			text := sshPort(line)
			if text == "" {
				continue
			}
			p, err := parsePort(text)
			if err != nil {
				return nil, &refusal{file, i + 1, err.Error()}
			}
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	if len(out) == 0 {
		out = []port{{22, "tcp"}}
	}
	return out, nil
}

// sshPort returns the port that a line of sshd_config names, or "".
func sshPort(line string) string {
	keyword, value := sshdLine(line)
	value = strings.Trim(value, `"`)
	switch {
	case strings.EqualFold(keyword, "port"):
		return value
	case strings.EqualFold(keyword, "listenaddress") && (strings.Count(value, ":") == 1 || strings.Contains(value, "]:")):
		return value[strings.LastIndexByte(value, ':')+1:]
	}
	return ""
}
