package harden

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ufwParams: what the rules that ufw keeps in its files must do, for IPv4 and IPv6.
type ufwParams struct {
	// Need is "loopback" (the machine talks to itself, and nobody else under its addresses), "served" (the recipe's ports
	// and SSH are open), "asked" (no other port is), "limited" (open ports take few connections a minute from one
	// address), or "outgoing" (the machine reaches what Ports says).
	Need string `json:"need"`
	// Ports are, for outgoing, what the machine may reach: "443", "53/udp", or "tcp", "udp" for all ports.
	Ports []string `json:"ports"`
	// Only "ssh" asks for limits at the SSH server's ports alone; empty asks for them at every open port.
	Only string `json:"only"`
}

func (p ufwParams) check() error {
	known := []string{"loopback", "served", "asked", "limited", "outgoing"}
	switch {
	case !slices.Contains(known, p.Need):
		return fmt.Errorf("need is one of %s, not %q", strings.Join(known, ", "), p.Need)
	case (p.Need == "outgoing") != (len(p.Ports) > 0):
		return errors.New("ports belong to outgoing, which needs at least one")
	case p.Only != "" && (p.Only != "ssh" || p.Need != "limited"):
		return errors.New("only is ssh, and belongs to limited")
	}
	for _, text := range p.Ports {
		if text == "tcp" || text == "udp" {
			continue
		}
		if _, err := parsePort(text); err != nil {
			return err
		}
	}
	return nil
}

// ufwFile is one of the two files in which ufw keeps rules: each a comment that ufw reads back, and the lines that
// iptables-restore reads.
type ufwFile struct {
	*ruleFile
	tuples []ufwTuple
	before *ruleFile // what is loaded in front of it
}

const (
	ufwRules   = "/etc/ufw/user.rules"
	ufwRules6  = "/etc/ufw/user6.rules"
	ufwBefore  = "/etc/ufw/before.rules"
	ufwBefore6 = "/etc/ufw/before6.rules"
	ufwTupled  = "### tuple ### "
	ufwBegin   = "### RULES ###"
)

// ufwTuple is a rule as ufw words it.
type ufwTuple struct {
	line, end                      int // of the comment, and behind its last rule
	action, proto, dport, src, way string
}

// incoming says that a rule opens something to others.
func (t ufwTuple) incoming() bool {
	return (t.is("allow") || t.is("limit")) && strings.HasPrefix(t.way, "in") && t.way != "in_lo"
}

// is compares the action, whether it is logged or not.
func (t ufwTuple) is(action string) bool {
	have, _, _ := strings.Cut(t.action, "_")
	return have == action
}

// covers reports whether the rule is about a port; whom it lets in is the site's.
func (t ufwTuple) covers(p port) bool {
	if t.proto != "any" && t.proto != p.proto {
		return false
	}
	return slices.Contains(strings.Split(t.dport, ","), fmt.Sprint(p.number))
}

func (f *ufwFile) prefix() string {
	if f.v6 {
		return "ufw6"
	}
	return "ufw"
}

func (f *ufwFile) anywhere() string {
	if f.v6 {
		return "::/0"
	}
	return "0.0.0.0/0"
}

// own is the machine's own addresses as ufw writes them.
func (f *ufwFile) own() string {
	if f.v6 {
		return "::1"
	}
	return "127.0.0.0/8"
}

// ufwFiles reads the rules of both protocols.
func (s *Subject) ufwFiles() ([]*ufwFile, error) {
	var out []*ufwFile
	for _, paths := range [][2]string{{ufwRules, ufwBefore}, {ufwRules6, ufwBefore6}} {
		user, err := s.ruleLines(paths[0], paths[0] == ufwRules6)
		if err != nil {
			return nil, err
		}
		before, err := s.ruleLines(paths[1], user.v6)
		if err != nil {
			return nil, err
		}
		f := &ufwFile{ruleFile: user, before: before}
		if len(f.lines) == 0 {
			f.lines = f.empty()
		}
		if err := f.readTuples(); err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// empty is a file without rules, as the package brings it.
func (f *ufwFile) empty() []string {
	p := f.prefix()
	out := []string{"*filter"}
	for _, chain := range []string{"input", "output", "forward", "limit", "limit-accept"} {
		out = append(out, ":"+p+"-user-"+chain+" - [0:0]")
	}
	return append(out, ufwBegin, "-A "+p+`-user-limit -m limit --limit 3/minute -j LOG --log-prefix "[UFW LIMIT BLOCK] "`,
		"-A "+p+"-user-limit -j REJECT", "-A "+p+"-user-limit-accept -j ACCEPT", "COMMIT")
}

func (f *ufwFile) readTuples() error {
	f.tuples = nil
	if !slices.Contains(f.lines, ufwBegin) {
		return &refusal{f.path, 0, "has no line " + ufwBegin + ": it is not ufw's"}
	}
	for i, line := range f.lines {
		text, ok := strings.CutPrefix(line, ufwTupled)
		if !ok {
			continue
		}
		w := strings.Fields(text)
		if n := len(w); n > 0 && strings.HasPrefix(w[n-1], "comment=") {
			w = w[:n-1]
		}
		if len(w) != 6 && len(w) != 7 && len(w) != 9 {
			return &refusal{f.path, i + 1, "has not the fields of a rule of ufw"}
		}
		t := ufwTuple{line: i, end: i + 1, action: w[0], proto: w[1], dport: w[2], src: w[5], way: "in"}
		if len(w) > 6 {
			t.way = w[len(w)-1]
		}
		for t.end < len(f.lines) && strings.HasPrefix(f.lines[t.end], "-A ") {
			t.end++
		}
		f.tuples = append(f.tuples, t)
	}
	return nil
}

// wantedRule is a rule that a need asks for.
type wantedRule struct {
	text  string // of the comment
	lines []string
	there bool
}

func ufwState(s *Subject, p ufwParams) (Observation, error) {
	files, err := s.ufwFiles()
	if err != nil {
		return refused(err)
	}
	ports, err := s.ufwPorts(p)
	if err != nil {
		return refused(err)
	}
	var off []string
	for _, f := range files {
		off = append(off, p.missing(f, ports)...)
	}
	if len(off) > 0 && p.Need == "asked" {
		return blocked(list(off), "name the port in the recipe's ports, or take the rule away with ufw delete"), nil
	}
	return judge(off, "the rules of IPv4 and IPv6 have it"), nil
}

// ufwPorts are the ports that a need is about.
func (s *Subject) ufwPorts(p ufwParams) ([]port, error) {
	if p.Only == "ssh" {
		return s.sshPorts()
	}
	return s.served()
}

func (p ufwParams) missing(f *ufwFile, ports []port) []string {
	var off []string
	switch p.Need {
	case "asked":
		for _, t := range f.tuples {
			if t.incoming() && !t.within(ports) {
				off = append(off, fmt.Sprintf("%s:%d: %s %s is open", f.path, t.line+1, t.dport, t.proto))
			}
		}
	case "limited":
		for _, t := range f.tuples {
			if p.limits(t, ports) {
				off = append(off, fmt.Sprintf("%s:%d: %s %s has no limit", f.path, t.line+1, t.dport, t.proto))
			}
		}
	default:
		for _, r := range p.rules(f, ports) {
			if !r.there {
				off = append(off, f.path+": no rule "+r.text)
			}
		}
	}
	return off
}

// within reports whether a rule opens nothing but these ports.
func (t ufwTuple) within(ports []port) bool {
	for number := range strings.SplitSeq(t.dport, ",") {
		if !slices.ContainsFunc(ports, func(p port) bool { return fmt.Sprint(p.number) == number && (t.proto == p.proto || t.proto == "any") }) {
			return false
		}
	}
	return true
}

// limits reports whether a rule opens a port without the limit that is asked for. ufw limits TCP and UDP alone.
func (p ufwParams) limits(t ufwTuple, ssh []port) bool {
	if !t.incoming() || t.is("limit") || t.dport == "any" {
		return false
	}
	return p.Only == "" || slices.ContainsFunc(ssh, t.covers)
}

// rules are those that the need asks for, in their order.
func (p ufwParams) rules(f *ufwFile, ports []port) []wantedRule {
	switch p.Need {
	case "loopback":
		return f.loopback()
	case "outgoing":
		return f.outgoing(p.Ports)
	}
	var out []wantedRule
	for _, port := range ports {
		r := f.rule("allow", port.proto, fmt.Sprint(port.number), f.anywhere(), "in", "ACCEPT")
		r.there = slices.ContainsFunc(f.tuples, func(t ufwTuple) bool { return t.incoming() && t.covers(port) })
		out = append(out, r)
	}
	return out
}

func (f *ufwFile) loopback() []wantedRule {
	in, out := f.prefix()+"-before-input", f.prefix()+"-before-output"
	rules := []wantedRule{
		f.rule("allow", "any", "any", f.anywhere(), "in_lo", "ACCEPT"),
		f.rule("allow", "any", "any", f.anywhere(), "out_lo", "ACCEPT"),
		f.rule("deny", "any", "any", f.own(), "in", "DROP"),
	}
	rules[0].there = rules[0].there || f.before.has(in, "-i lo -j ACCEPT")
	rules[1].there = rules[1].there || f.before.has(out, "-o lo -j ACCEPT")
	return rules
}

func (f *ufwFile) outgoing(ports []string) []wantedRule {
	var out []wantedRule
	for _, text := range ports {
		if text == "tcp" || text == "udp" {
			out = append(out, f.rule("allow", text, "any", f.anywhere(), "out", "ACCEPT"))
			continue
		}
		p, _ := parsePort(text) // checked
		out = append(out, f.rule("allow", p.proto, fmt.Sprint(p.number), f.anywhere(), "out", "ACCEPT"))
	}
	return out
}

// rule words a rule as ufw itself does.
func (f *ufwFile) rule(action, proto, dport, src, way, target string) wantedRule {
	r := wantedRule{text: strings.Join([]string{action, proto, dport, f.anywhere(), "any", src, way}, " ")}
	r.there = slices.ContainsFunc(f.tuples, func(t ufwTuple) bool {
		return t.is(action) && t.proto == proto && t.dport == dport && t.src == src && t.way == way
	})
	direction, device, _ := strings.Cut(way, "_")
	line := "-A " + f.prefix() + "-user-" + direction + "put"
	if device != "" {
		line += map[string]string{"in": " -i ", "out": " -o "}[direction] + device
	}
	if proto != "any" {
		line += " -p " + proto
	}
	if src != f.anywhere() {
		line += " -s " + src
	}
	if dport != "any" {
		line += " --dport " + dport
	}
	r.lines = []string{line + " -j " + target}
	return r
}

// ufwApply adds rules behind those that ufw has, and gives a limit to those that lack it.
func ufwApply(s *Subject, p ufwParams) error {
	files, err := s.ufwFiles()
	if err != nil {
		return err
	}
	ports, err := s.ufwPorts(p)
	if err != nil {
		return err
	}
	for _, f := range files {
		if len(p.missing(f, ports)) == 0 {
			continue
		}
		if p.Need == "limited" {
			f.limit(p, ports)
		} else {
			f.add(p.rules(f, ports))
		}
		if err := s.writeLines(f.path, f.lines, 0o640); err != nil {
			return err
		}
	}
	return nil
}

func (f *ufwFile) add(rules []wantedRule) {
	at := slices.Index(f.lines, ufwBegin) + 1
	for ; at < len(f.lines); at++ {
		line := f.lines[at]
		if line == "COMMIT" || strings.HasPrefix(line, "### END RULES") || strings.HasPrefix(line, "### LOGGING") || strings.HasPrefix(line, "-A "+f.prefix()+"-user-limit") {
			break
		}
	}
	var lines []string
	for _, r := range rules {
		if !r.there {
			lines = append(append(lines, "", ufwTupled+r.text), r.lines...)
		}
	}
	f.lines = slices.Insert(f.lines, at, append(lines, "")...)
}

// limit rewrites rules so that a second try in short order is refused, as "ufw limit" does.
func (f *ufwFile) limit(p ufwParams, ssh []port) {
	for _, t := range slices.Backward(f.tuples) {
		if !p.limits(t, ssh) {
			continue
		}
		lines := []string{strings.Replace(f.lines[t.line], ufwTupled+"allow", ufwTupled+"limit", 1)}
		for _, line := range f.lines[t.line+1 : t.end] {
			match, ok := strings.CutSuffix(line, " -j ACCEPT")
			if !ok {
				lines = append(lines, line)
				continue
			}
			lines = append(lines, match+" -m conntrack --ctstate NEW -m recent --set",
				match+" -m conntrack --ctstate NEW -m recent --update --seconds 30 --hitcount 6 -j "+f.prefix()+"-user-limit",
				match+" -j "+f.prefix()+"-user-limit-accept")
		}
		f.lines = slices.Replace(f.lines, t.line, t.end, lines...)
	}
}
