package harden

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// iptablesParams: what the rules that iptables-persistent loads at start must do, for IPv4 and IPv6.
type iptablesParams struct {
	// Need is "default-deny" (the chains of Hooks drop what no rule accepts), "loopback" (the machine talks to itself,
	// and nobody else under its addresses) or "served" (the recipe's ports and SSH are open).
	Need string `json:"need"`
	// Hooks are the chains that drop, of input, forward and output.
	Hooks []string `json:"hooks"`
}

func (p iptablesParams) check() error {
	return checkNeed(p.Need, p.Hooks, "default-deny", "loopback", "served")
}

func checkNeed(need string, hooks []string, known ...string) error {
	if !slices.Contains(known, need) {
		return fmt.Errorf("need is one of %s, not %q", strings.Join(known, ", "), need)
	}
	if (need == "default-deny") != (len(hooks) > 0) {
		return errors.New("hooks belong to default-deny, which needs at least one")
	}
	for _, h := range hooks {
		if !slices.Contains(filterHooks, h) {
			return fmt.Errorf("a hook is input, forward or output, not %q", h)
		}
	}
	return nil
}

var filterHooks = []string{"input", "forward", "output"}

// The two files of iptables-persistent.
const (
	rulesV4 = "/etc/iptables/rules.v4"
	rulesV6 = "/etc/iptables/rules.v6"
)

// ruleFile is a file as iptables-save writes it. Its lines are kept; only lines are added and policies changed.
type ruleFile struct {
	path     string
	v6       bool
	lines    []string
	policies map[string]int // chain of the table filter -> its line
	rules    []savedRule    // of the table filter
	end      int            // the line of the table's COMMIT; -1 where there is no such table
}

// savedRule is one "-A chain ..." line.
type savedRule struct {
	line  int
	chain string
	args  []string
}

// ruleLines reads a file of rules and refuses it with the line that iptables-restore would not take.
func (s *Subject) ruleLines(p string, v6 bool) (*ruleFile, error) {
	lines, err := s.confLines(p)
	if err != nil {
		return nil, err
	}
	f := &ruleFile{path: p, v6: v6, lines: lines, policies: map[string]int{}, end: -1}
	table := ""
	for i, line := range lines {
		if table, err = f.read(table, i, strings.TrimSpace(line)); err != nil {
			return nil, err
		}
	}
	if table != "" {
		return nil, &refusal{p, len(lines), "ends without the COMMIT of table " + table}
	}
	return f, nil
}

// read takes one line and returns the table that the next one belongs to.
func (f *ruleFile) read(table string, i int, line string) (string, error) {
	switch {
	case line == "" || line[0] == '#':
		return table, nil
	case line[0] == '*' && table == "" && len(line) > 1:
		return line[1:], nil
	case table == "":
		return "", &refusal{f.path, i + 1, "stands before any table"}
	case line == "COMMIT":
		if table == "filter" {
			f.end = i
		}
		return "", nil
	case line[0] != ':' && line[0] != '-' && line[0] != '[':
		return "", &refusal{f.path, i + 1, "is no table, chain or rule"}
	}
	words, err := quotedWords(line)
	if err != nil || len(words) < 2 {
		return "", &refusal{f.path, i + 1, "is no chain with a policy, and no rule"}
	}
	if words[0][0] == '[' {
		words = words[1:]
	}
	switch {
	case table != "filter" || len(words) < 2:
	case words[0][0] == ':':
		f.policies[words[0][1:]] = i
	case words[0] == "-A" || words[0] == "--append":
		f.rules = append(f.rules, savedRule{i, words[1], withoutComment(words[2:])})
	}
	return table, nil
}

// quotedWords splits at blanks outside of double quotes.
func quotedWords(line string) ([]string, error) {
	var out []string
	var word strings.Builder
	inside, any := false, false
	for _, c := range line {
		switch {
		case c == '"':
			inside, any = !inside, true
		case !inside && (c == ' ' || c == '\t'):
			if any {
				out = append(out, word.String())
			}
			word.Reset()
			any = false
		default:
			word.WriteRune(c)
			any = true
		}
	}
	if inside {
		return nil, errors.New("a quotation is not closed")
	}
	if any {
		out = append(out, word.String())
	}
	return out, nil
}

// withoutComment drops what a rule says to people.
func withoutComment(args []string) []string {
	if i := slices.Index(args, "--comment"); i >= 0 && i+1 < len(args) {
		args = slices.Delete(slices.Clone(args), i, i+2)
		if i >= 2 && args[i-2] == "-m" && args[i-1] == "comment" {
			args = slices.Delete(args, i-2, i)
		}
	}
	return args
}

// has reports whether a chain has exactly this rule.
func (f *ruleFile) has(chain, rule string) bool {
	return slices.ContainsFunc(f.rules, func(r savedRule) bool { return r.chain == chain && strings.Join(r.args, " ") == rule })
}

// policy of a chain; ACCEPT where nothing is said.
func (f *ruleFile) policy(chain string) string {
	i, ok := f.policies[chain]
	if !ok {
		return "ACCEPT"
	}
	return strings.Fields(f.lines[i])[1]
}

// accepts reports whether a rule of the chain lets new connections to the port in, from wherever.
func (f *ruleFile) accepts(chain string, p port) bool {
	return slices.ContainsFunc(f.rules, func(r savedRule) bool {
		return r.chain == chain && after(r.args, "-j") == "ACCEPT" && after(r.args, "-p") == p.proto && after(r.args, "-s") == "" &&
			slices.Contains(strings.Split(after(r.args, "--dport", "--dports"), ","), fmt.Sprint(p.number))
	})
}

func after(args []string, names ...string) string {
	for i, a := range args[:max(0, len(args)-1)] {
		if slices.Contains(names, a) {
			return args[i+1]
		}
	}
	return ""
}

// own is the machine's own address range, which nobody else may send from.
func (f *ruleFile) own() string {
	if f.v6 {
		return "::1/128"
	}
	return "127.0.0.0/8"
}

func (f *ruleFile) icmp() string {
	if f.v6 {
		return "ipv6-icmp"
	}
	return "icmp"
}

// iptablesFiles are both files; one that is missing has no rules.
func (s *Subject) iptablesFiles() ([]*ruleFile, error) {
	var out []*ruleFile
	for _, p := range []string{rulesV4, rulesV6} {
		f, err := s.ruleLines(p, p == rulesV6)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func iptablesState(s *Subject, p iptablesParams) (Observation, error) {
	files, err := s.iptablesFiles()
	if err != nil {
		return refused(err)
	}
	ports, err := s.served()
	if err != nil {
		return refused(err)
	}
	var off []string
	for _, f := range files {
		off = append(off, p.missing(f, ports)...)
	}
	return judge(off, "the rules of IPv4 and IPv6 have it"), nil
}

// missing says what a file lacks.
func (p iptablesParams) missing(f *ruleFile, ports []port) []string {
	var off []string
	switch p.Need {
	case "default-deny":
		for _, h := range p.Hooks {
			if chain := strings.ToUpper(h); f.policy(chain) != "DROP" {
				off = append(off, f.path+": "+chain+" has the policy "+f.policy(chain))
			}
		}
	case "loopback":
		for _, r := range f.loopback() {
			if !f.has(r[0], r[1]) {
				off = append(off, f.path+": no rule -A "+r[0]+" "+r[1])
			}
		}
	case "served":
		for _, port := range ports {
			if !f.accepts("INPUT", port) {
				off = append(off, f.path+": nothing opens "+port.String())
			}
		}
	}
	return off
}

// loopback are the rules by chain, in their order.
func (f *ruleFile) loopback() [][2]string {
	return [][2]string{{"INPUT", "-i lo -j ACCEPT"}, {"INPUT", "-s " + f.own() + " -j DROP"}, {"OUTPUT", "-o lo -j ACCEPT"}}
}

func iptablesApply(s *Subject, p iptablesParams) error {
	files, err := s.iptablesFiles()
	if err != nil {
		return err
	}
	ports, err := s.served()
	if err != nil {
		return err
	}
	for _, f := range files {
		if len(p.missing(f, ports)) == 0 {
			continue
		}
		f.begin()
		p.mend(f, ports)
		if err := s.writeLines(f.path, f.lines, 0o640); err != nil {
			return err
		}
	}
	return nil
}

// begin adds the table filter where the file has none.
func (f *ruleFile) begin() {
	if f.end >= 0 {
		return
	}
	if len(f.lines) == 0 {
		f.lines = []string{"# Hardening; made by kiln."}
	}
	f.lines = append(f.lines, "*filter")
	for _, h := range filterHooks {
		chain := strings.ToUpper(h)
		f.policies[chain] = len(f.lines)
		f.lines = append(f.lines, ":"+chain+" ACCEPT [0:0]")
	}
	f.end = len(f.lines)
	f.lines = append(f.lines, "COMMIT")
}

func (p iptablesParams) mend(f *ruleFile, ports []port) {
	switch p.Need {
	case "default-deny":
		for _, h := range p.Hooks {
			f.deny(strings.ToUpper(h), ports)
		}
	case "loopback":
		for _, r := range slices.Backward(f.loopback()) {
			f.first(r[0], r[1])
		}
	case "served":
		f.open(ports)
	}
}

// first puts a rule in front of the chain's others, where it may stand already.
func (f *ruleFile) first(chain, rule string) {
	for _, r := range f.rules {
		if r.chain == chain && strings.Join(r.args, " ") == rule {
			f.remove(r.line)
			break
		}
	}
	at := f.end
	if i := slices.IndexFunc(f.rules, func(r savedRule) bool { return r.chain == chain }); i >= 0 {
		at = f.rules[i].line
	}
	f.insert(at, chain, rule)
}

// last adds a rule behind the chain's others, or in front of one that ends the chain for everything.
func (f *ruleFile) last(chain, rule string) {
	if f.has(chain, rule) {
		return
	}
	at := f.end
	for _, r := range f.rules {
		if r.chain == chain && (strings.HasPrefix(strings.Join(r.args, " "), "-j DROP") || strings.HasPrefix(strings.Join(r.args, " "), "-j REJECT")) {
			at = r.line
			break
		}
	}
	f.insert(at, chain, rule)
}

func (f *ruleFile) open(ports []port) {
	for _, p := range ports {
		if !f.accepts("INPUT", p) {
			f.last("INPUT", fmt.Sprintf("-p %s --dport %d -m conntrack --ctstate NEW -j ACCEPT", p.proto, p.number))
		}
	}
}

// deny makes a chain drop what its rules do not accept. What the chain accepted by its policy and the machine needs to
// be reached, and to reach others, is accepted by rules behind those that the site has.
func (f *ruleFile) deny(chain string, ports []port) {
	if f.policy(chain) == "DROP" {
		return
	}
	switch chain {
	case "INPUT":
		f.last(chain, "-i lo -j ACCEPT")
		f.last(chain, "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
		f.last(chain, "-p "+f.icmp()+" -j ACCEPT")
		f.open(ports)
	case "OUTPUT":
		f.last(chain, "-o lo -j ACCEPT")
		for _, proto := range []string{"tcp", "udp", f.icmp()} {
			f.last(chain, "-p "+proto+" -m conntrack --ctstate NEW,RELATED,ESTABLISHED -j ACCEPT")
		}
	}
	if i, ok := f.policies[chain]; ok {
		f.lines[i] = ":" + chain + " DROP [0:0]"
		return
	}
	at := slices.Index(f.lines, "*filter") + 1
	f.shift(at, 1)
	f.lines = slices.Insert(f.lines, at, ":"+chain+" DROP [0:0]")
	f.policies[chain] = at
}

func (f *ruleFile) insert(at int, chain, rule string) {
	f.shift(at, 1)
	f.lines = slices.Insert(f.lines, at, "-A "+chain+" "+rule)
	i := slices.IndexFunc(f.rules, func(r savedRule) bool { return r.line > at })
	if i < 0 {
		i = len(f.rules)
	}
	f.rules = slices.Insert(f.rules, i, savedRule{at, chain, strings.Fields(rule)})
}

func (f *ruleFile) remove(line int) {
	f.lines = slices.Delete(f.lines, line, line+1)
	f.rules = slices.DeleteFunc(f.rules, func(r savedRule) bool { return r.line == line })
	f.shift(line, -1)
}

// shift moves what stands at a line or behind it.
func (f *ruleFile) shift(from, by int) {
	for i := range f.rules {
		if f.rules[i].line >= from {
			f.rules[i].line += by
		}
	}
	for chain, line := range f.policies {
		if line >= from {
			f.policies[chain] += by
		}
	}
	if f.end >= from {
		f.end += by
	}
}
