package harden

import (
	"fmt"
	"slices"
	"strings"
)

// nftablesParams: what the rules in /etc/nftables.conf and the files that it includes must have.
type nftablesParams struct {
	// Need is "table" (there is one), "base-chains" (packets in, through and out are looked at), "loopback" (the machine
	// talks to itself, and nobody else under its addresses) or "default-deny" (what no rule accepts is dropped at Hooks).
	Need string `json:"need"`
	// Hooks are, for default-deny, some of input, forward and output.
	Hooks []string `json:"hooks"`
}

func (p nftablesParams) check() error {
	return checkNeed(p.Need, p.Hooks, "table", "base-chains", "loopback", "default-deny")
}

func nftablesState(s *Subject, p nftablesParams) (Observation, error) {
	n, err := s.nftables()
	if err != nil {
		return refused(err)
	}
	if _, err := s.served(); err != nil {
		return refused(err)
	}
	return judge(p.missing(n), "the rules have it"), nil
}

// missing says what the rules lack.
func (p nftablesParams) missing(n *nftRules) []string {
	var off []string
	switch p.Need {
	case "table":
		if len(n.tables) == 0 {
			off = append(off, nftMain+" has no table")
		}
	case "base-chains":
		for _, h := range filterHooks {
			if len(n.hooked(h, "")) == 0 {
				off = append(off, "no chain filters at "+h)
			}
		}
	case "loopback":
		for _, family := range []string{"ip", "ip6"} {
			if !n.loopback(family) {
				off = append(off, "no chain at input refuses "+nftOwn[family]+" from elsewhere than lo")
			}
		}
	case "default-deny":
		for _, h := range p.Hooks {
			for _, family := range []string{"ip", "ip6"} {
				if !n.denies(h, family) {
					off = append(off, "no chain at "+h+" has the policy drop for "+family)
				}
			}
		}
	}
	return off
}

// nftOwn are the machine's own addresses by family.
var nftOwn = map[string]string{"ip": "127.0.0.0/8", "ip6": "::1"}

// hooked are the base chains at a hook that see a family's packets; an empty family is any.
func (n *nftRules) hooked(hook, family string) []*nftChain {
	var out []*nftChain
	for _, c := range n.chains {
		if c.kind == "filter" && c.hook == hook && (c.family == "inet" || c.family == family || family == "" && (c.family == "ip" || c.family == "ip6")) {
			out = append(out, c)
		}
	}
	return out
}

func (n *nftRules) denies(hook, family string) bool {
	return slices.ContainsFunc(n.hooked(hook, family), func(c *nftChain) bool { return c.policy == "drop" })
}

// loopback: a chain at input accepts from lo, and after that drops the machine's own addresses.
func (n *nftRules) loopback(family string) bool {
	return slices.ContainsFunc(n.hooked("input", family), func(c *nftChain) bool {
		accept := slices.IndexFunc(c.rules, nftFromLo)
		deny := slices.IndexFunc(c.rules, func(r []nftToken) bool { return nftRefuses(r, family) })
		return accept >= 0 && deny > accept
	})
}

func nftFromLo(rule []nftToken) bool {
	w := nftWords(rule)
	return len(w) >= 3 && (w[0] == "iif" || w[0] == "iifname") && w[1] == "lo" && w[len(w)-1] == "accept"
}

func nftRefuses(rule []nftToken, family string) bool {
	w := nftWords(rule)
	i := slices.Index(w, "saddr")
	return i > 0 && i+1 < len(w) && w[i-1] == family && (w[i+1] == nftOwn[family] || w[i+1] == nftOwn[family]+"/128") && (slices.Contains(w, "drop") || slices.Contains(w, "reject"))
}

// nftEdit is a piece of text put in the place of another one.
type nftEdit struct {
	file     string
	from, to int
	text     string
}

// nftablesApply adds a table, chains and rules, and changes policies; everything else of the files stays.
func nftablesApply(s *Subject, p nftablesParams) error {
	ports, err := s.served()
	if err != nil {
		return err
	}
	for range 2 * len(filterHooks) { // each step reads the files again
		n, err := s.nftables()
		if err != nil {
			return err
		}
		if len(p.missing(n)) == 0 {
			return nil
		}
		if err := s.nftWrite(n, p.step(n, ports)); err != nil {
			return err
		}
	}
	return nil
}

// step is the next change towards what is needed.
func (p nftablesParams) step(n *nftRules, ports []port) []nftEdit {
	switch p.Need {
	case "table":
		return []nftEdit{n.newTable("inet", "")}
	case "base-chains":
		for _, h := range filterHooks {
			if len(n.hooked(h, "")) == 0 {
				return []nftEdit{n.newChain("inet", h, nil)}
			}
		}
	case "loopback":
		for _, family := range []string{"ip", "ip6"} {
			if !n.loopback(family) {
				return n.addLoopback(family)
			}
		}
	}
	for _, h := range p.Hooks {
		for _, family := range []string{"ip", "ip6"} {
			if !n.denies(h, family) {
				return n.deny(h, family, ports)
			}
		}
	}
	return nil
}

// newTable is a table with what it holds: at the end of the main file, or inside of the table filter that is there.
func (n *nftRules) newTable(family, holds string) nftEdit {
	for _, t := range n.tables {
		if t.family == family && t.name == "filter" && t.end >= 0 {
			at := lineStart(n.texts[t.file], t.end)
			return nftEdit{t.file, at, at, holds}
		}
	}
	end := len(n.texts[nftMain])
	return nftEdit{nftMain, end, end, "table " + family + " filter {\n" + holds + "}\n"}
}

// lineStart is where the line of at begins, if only blanks stand between; otherwise at itself.
func lineStart(text string, at int) int {
	start := strings.LastIndexByte(text[:at], '\n') + 1
	if strings.TrimSpace(text[start:at]) == "" {
		return start
	}
	return at
}

func (n *nftRules) newChain(family, hook string, rules []string) nftEdit {
	name := hook
	if n.named(family, "filter", name) != nil {
		name = "kiln_" + hook
	}
	policy := ""
	if rules != nil {
		policy = " policy drop;"
	}
	holds := "\tchain " + name + " {\n\t\ttype filter hook " + hook + " priority filter;" + policy + "\n"
	for _, r := range rules {
		holds += "\t\t" + r + "\n"
	}
	return n.newTable(family, holds+"\t}\n")
}

// addLoopback puts rules in front of the others of the first chain at input that sees the family.
func (n *nftRules) addLoopback(family string) []nftEdit {
	chains := slices.DeleteFunc(n.hooked("input", family), func(c *nftChain) bool { return c.end == 0 })
	if len(chains) == 0 {
		return []nftEdit{n.newChain(n.familyFor("input", family), "input", nil)}
	}
	c, at := chains[0], chains[0].top
	text := "\n\t\tiif \"lo\" accept"
	if i := slices.IndexFunc(c.rules, nftFromLo); i >= 0 && i < c.inBlock {
		text, at = "", c.rules[i][len(c.rules[i])-1].end
	}
	text += "\n\t\t" + family + " saddr " + nftOwn[family] + " drop"
	at = n.behind(c.file, at)
	if n.texts[c.file][at] != '\n' {
		text += "\n\t\t"
	}
	return []nftEdit{{c.file, at, at, text}}
}

// behind is the end of the statement that ends at a place: with its separator, and a comment in its line.
func (n *nftRules) behind(file string, at int) int {
	text := n.texts[file]
	line := text[at:]
	if i := strings.IndexByte(line, '\n'); i >= 0 {
		line = line[:i]
	}
	rest := strings.TrimLeft(line, " \t;")
	if rest == "" || rest[0] == '#' {
		return at + len(line)
	}
	return at + len(line) - len(rest)
}

// familyFor is the family of a chain that is missing: one for both protocols, unless the other one has its own.
func (n *nftRules) familyFor(hook, family string) string {
	other := map[string]string{"ip": "ip6", "ip6": "ip"}[family]
	if len(n.hooked(hook, other)) > 0 {
		return family
	}
	return "inet"
}

// deny gives a chain at the hook the policy drop. What it accepted by its policy and the machine needs to be reached,
// and to reach others, is accepted by rules behind those that the site has.
func (n *nftRules) deny(hook, family string, ports []port) []nftEdit {
	rules := nftAccepted(hook, ports)
	chains := slices.DeleteFunc(n.hooked(hook, family), func(c *nftChain) bool { return c.end == 0 || c.header.end == 0 })
	if len(chains) == 0 {
		return []nftEdit{n.newChain(n.familyFor(hook, family), hook, rules)}
	}
	c := chains[0]
	edits := []nftEdit{{c.file, c.header.end, c.header.end, "; policy drop"}}
	if c.policyAt.end > 0 {
		edits[0] = nftEdit{c.file, c.policyAt.start, c.policyAt.end, "drop"}
	}
	text := ""
	for _, r := range rules {
		if !slices.ContainsFunc(c.rules, func(have []nftToken) bool { return nftSame(have, r) }) {
			text += "\t\t" + r + "\n"
		}
	}
	at := lineStart(n.texts[c.file], c.end)
	if at == c.end && text != "" {
		text = "\n" + text + "\t"
	}
	return append(edits, nftEdit{c.file, at, at, text})
}

// nftSame compares a rule with a text, whatever blanks and quotations it has.
func nftSame(rule []nftToken, text string) bool {
	tokens, err := nftTokens("", text+"\n")
	return err == nil && slices.Equal(nftWords(rule), nftWords(tokens[:len(tokens)-1]))
}

// nftAccepted are the rules of a chain that drops everything else.
func nftAccepted(hook string, ports []port) []string {
	switch hook {
	case "input":
		out := []string{`iif "lo" accept`, "ct state { established, related } accept", "meta l4proto { icmp, ipv6-icmp } accept"}
		for _, p := range ports {
			out = append(out, fmt.Sprintf("%s dport %d ct state new accept", p.proto, p.number))
		}
		return out
	case "output":
		return []string{`oif "lo" accept`, "meta l4proto { tcp, udp, icmp, ipv6-icmp } ct state { new, established, related } accept"}
	}
	return []string{"ct state { established, related } accept"}
}

// nftWrite makes the edits, from the end of each file to its beginning.
func (s *Subject) nftWrite(n *nftRules, edits []nftEdit) error {
	slices.SortStableFunc(edits, func(a, b nftEdit) int { return b.from - a.from })
	texts := map[string]string{}
	for _, e := range edits {
		text, ok := texts[e.file]
		if !ok {
			text = n.texts[e.file]
		}
		if text == "" {
			text = "#!/usr/sbin/nft -f\n# Hardening; made by kiln.\nflush ruleset\n"
			e.from, e.to = len(text), len(text)
		}
		texts[e.file] = text[:e.from] + e.text + text[e.to:]
	}
	for file, text := range texts {
		if err := s.writeLines(file, strings.Split(strings.TrimSuffix(text, "\n"), "\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}
