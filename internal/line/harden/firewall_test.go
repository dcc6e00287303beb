package harden

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kiln"
)

const nftHead = "#!/usr/sbin/nft -f\n# Hardening; made by kiln.\nflush ruleset\n"

// firewallCase is a file of rules before and after a need is met; an empty after says that it is met already.
type firewallCase struct {
	kind, need, file, before, after string
	hooks                           []any
}

var firewallCases = map[string]firewallCase{
	"Debian's own file drops": {"nftables", "default-deny", "etc/nftables.conf", debianNft, `#!/usr/sbin/nft -f

flush ruleset

table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		iif "lo" accept
		ct state { established, related } accept
		meta l4proto { icmp, ipv6-icmp } accept
		tcp dport 22 ct state new accept
		udp dport 53 ct state new accept
		tcp dport 8080 ct state new accept
	}
	chain forward {
		type filter hook forward priority filter;
	}
	chain output {
		type filter hook output priority filter;
	}
}
`, []any{"input"}},
	"what the site has stays in front": {
		"nftables", "default-deny", "etc/nftables.conf",
		"table ip6 x { chain y { type filter hook input priority 0; policy drop; }; }\ntable ip x {\n  chain y { # the door\n    type filter hook input priority -10\n    policy accept\n    tcp dport { 22,\n      80 } accept # two\n  }\n}\n",
		"table ip6 x { chain y { type filter hook input priority 0; policy drop; }; }\ntable ip x {\n  chain y { # the door\n    type filter hook input priority -10\n    policy drop\n    tcp dport { 22,\n      80 } accept # two\n" +
			"\t\tiif \"lo\" accept\n\t\tct state { established, related } accept\n\t\tmeta l4proto { icmp, ipv6-icmp } accept\n\t\ttcp dport 22 ct state new accept\n\t\tudp dport 53 ct state new accept\n\t\ttcp dport 8080 ct state new accept\n  }\n}\n",
		[]any{"input"},
	},
	"a chain in one line": {
		"nftables", "loopback", "etc/nftables.conf", "table inet x { chain y { type filter hook input priority 0; tcp dport 80 accept; }; }\n",
		"table inet x { chain y { type filter hook input priority 0; \n\t\tiif \"lo\" accept\n\t\tip6 saddr ::1 drop\n\t\tip saddr 127.0.0.0/8 drop\n\t\ttcp dport 80 accept; }; }\n", nil,
	},
	"the other protocol gets a chain": {
		"nftables", "default-deny", "etc/nftables.conf", "table ip x { chain y { type filter hook forward priority 0; policy drop; }; }\n",
		"table ip x { chain y { type filter hook forward priority 0; policy drop; }; }\ntable ip6 filter {\n\tchain forward {\n\t\ttype filter hook forward priority filter; policy drop;\n\t\tct state { established, related } accept\n\t}\n}\n",
		[]any{"forward"},
	},
	"a flush forgets what stood before": {
		"nftables", "table", "etc/nftables.conf", "table inet x { }\nflush ruleset\n", "table inet x { }\nflush ruleset\ntable inet filter {\n}\n", nil,
	},
	"no file at all": {"nftables", "table", "etc/nftables.conf", "", nftHead + "table inet filter {\n}\n", nil},
	"commands add chains and rules": {
		"nftables", "loopback", "etc/nftables.conf",
		"define own = 127.0.0.0/8\nadd table inet x\nadd chain inet x y { type filter hook input priority 0; }\nadd set inet x s { type ipv4_addr; elements = { 10.0.0.1, 10.0.0.2 } }\nadd rule inet x y iifname \"lo\" accept\nadd rule inet x y ip saddr 127.0.0.0/8 counter drop\nadd rule inet x y ip6 saddr ::1 reject\n", "", nil,
	},
	"iptables drops": {
		"iptables", "default-deny", "etc/iptables/rules.v4",
		"# site\n*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT ACCEPT [3:4]\n[1:2] -A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 22 -m comment --comment \"the \\ office\" -j ACCEPT\n-A INPUT -j REJECT\nCOMMIT\n",
		"# site\n*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT DROP [0:0]\n[1:2] -A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 22 -m comment --comment \"the \\ office\" -j ACCEPT\n-A INPUT -i lo -j ACCEPT\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -p icmp -j ACCEPT\n-A INPUT -p tcp --dport 22 -m conntrack --ctstate NEW -j ACCEPT\n-A INPUT -p udp --dport 53 -m conntrack --ctstate NEW -j ACCEPT\n-A INPUT -p tcp --dport 8080 -m conntrack --ctstate NEW -j ACCEPT\n-A INPUT -j REJECT\nCOMMIT\n",
		[]any{"input"},
	},
	"iptables has its loop in front": {
		"iptables", "loopback", "etc/iptables/rules.v6", "*filter\n-A INPUT -p tcp -j ACCEPT\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n",
		"*filter\n-A INPUT -i lo -j ACCEPT\n-A INPUT -s ::1/128 -j DROP\n-A INPUT -p tcp -j ACCEPT\n-A OUTPUT -o lo -j ACCEPT\nCOMMIT\n", nil,
	},
	"ufw opens what is served": {
		"ufw", "served", "etc/ufw/user.rules", ufwSite,
		strings.Replace(ufwSite, "### END", "\n### tuple ### allow tcp 8080 0.0.0.0/0 any 0.0.0.0/0 in\n-A ufw-user-input -p tcp --dport 8080 -j ACCEPT\n\n### END", 1), nil,
	},
	"ufw refuses the machine's addresses": {
		"ufw", "loopback", "etc/ufw/user.rules", ufwSite,
		strings.Replace(ufwSite, "### END", "\n### tuple ### allow any any 0.0.0.0/0 any 0.0.0.0/0 in_lo\n-A ufw-user-input -i lo -j ACCEPT\n\n### tuple ### allow any any 0.0.0.0/0 any 0.0.0.0/0 out_lo\n-A ufw-user-output -o lo -j ACCEPT\n\n### tuple ### deny any any 0.0.0.0/0 any 127.0.0.0/8 in\n-A ufw-user-input -s 127.0.0.0/8 -j DROP\n\n### END", 1), nil,
	},
}

const (
	debianNft = "#!/usr/sbin/nft -f\n\nflush ruleset\n\ntable inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter;\n\t}\n\tchain forward {\n\t\ttype filter hook forward priority filter;\n\t}\n\tchain output {\n\t\ttype filter hook output priority filter;\n\t}\n}\n"
	ufwSite   = "*filter\n:ufw-user-input - [0:0]\n:ufw-user-output - [0:0]\n:ufw-user-limit - [0:0]\n:ufw-user-limit-accept - [0:0]\n### RULES ###\n\n### tuple ### limit tcp 22 0.0.0.0/0 any 10.0.0.0/8 in\n-A ufw-user-input -p tcp --dport 22 -s 10.0.0.0/8 -j ufw-user-limit-accept\n\n### tuple ### allow any 53 0.0.0.0/0 any 0.0.0.0/0 in\n-A ufw-user-input -p tcp --dport 53 -j ACCEPT\n-A ufw-user-input -p udp --dport 53 -j ACCEPT\n### END RULES ###\n-A ufw-user-limit -j REJECT\n-A ufw-user-limit-accept -j ACCEPT\nCOMMIT\n"
)

func (c firewallCase) run(t *testing.T) (dir string) {
	t.Helper()
	nodes := machine()
	if c.before != "" {
		nodes = append(nodes, f(c.file, "0640", c.before))
	}
	dir = plant(t, debianWith(nodes...)...)
	params := map[string]any{"need": c.need}
	if c.hooks != nil {
		params["hooks"] = c.hooks
	}
	k := kiln.Control{ID: "x", Title: "x", Rationale: "x", Severity: "low", Scope: "machine", Variants: []kiln.Variant{{ID: "v", Settings: []kiln.Setting{{Kind: c.kind, Params: params}}}}}
	in := Input{Scope: "machine", Controls: []kiln.Control{k}, Recipe: &kiln.Recipe{Ports: []string{"8080", "53/udp"}}, Lock: &kiln.Lock{}}
	res, err := Apply(t.Context(), dir, in)
	must(t, err)
	o := res.Outcomes[0]
	if o.State != kiln.Satisfied || (o.Before == kiln.Satisfied) != (c.after == "") {
		t.Errorf("%s -> %s: %s %s", o.Before, o.State, o.Observed, o.Reason)
	}
	again, err := Apply(t.Context(), dir, in)
	must(t, err)
	if again.Outcomes[0].Before != kiln.Satisfied || len(again.Outcomes[0].Changed) > 0 {
		t.Errorf("applied again: %s, changed %v", again.Outcomes[0].Before, again.Outcomes[0].Changed)
	}
	return dir
}

// TestFirewallRulesByLine shows what the kinds write, beside what the site has.
func TestFirewallRulesByLine(t *testing.T) {
	needRoot(t)
	for name, c := range firewallCases {
		t.Run(name, func(t *testing.T) {
			want := c.after
			if want == "" {
				want = c.before
			}
			data, err := os.ReadFile(filepath.Join(c.run(t), c.file))
			must(t, err)
			if string(data) != want {
				t.Errorf("it says\n%s\nwant\n%s", data, want)
			}
		})
	}
}

// TestFirewallRulesAreTaken lets the programs that load the rules read them, in a name space of their own.
func TestFirewallRulesAreTaken(t *testing.T) {
	needRoot(t)
	programs := map[string][]string{"etc/nftables.conf": {"nft", "-c", "-f"}, "etc/iptables/rules.v4": {"iptables-restore", "--test"}, "etc/iptables/rules.v6": {"ip6tables-restore", "--test"}, "etc/ufw/user.rules": {"iptables-restore", "--test"}, "etc/ufw/user6.rules": {"ip6tables-restore", "--test"}}
	for name, c := range firewallCases {
		t.Run(name, func(t *testing.T) {
			program := programs[c.file]
			needProgram(t, program[0])
			needProgram(t, "unshare")
			dir := c.run(t)
			for file, program := range programs {
				p := filepath.Join(dir, file)
				if _, err := os.Stat(p); err != nil {
					continue
				}
				out, err := exec.CommandContext(t.Context(), "unshare", append(append([]string{"--net"}, program...), p)...).CombinedOutput()
				if err != nil {
					t.Errorf("%s: %v\n%s", strings.Join(program, " "), err, out)
				}
			}
		})
	}
}

// TestNftRefusesWhatIsRefused: what the parser takes, nft takes, and a file that nft does not take is not changed.
func TestNftRefusesWhatIsRefused(t *testing.T) {
	needProgram(t, "nft")
	for _, text := range []string{"table inet x {\n", "table x { chain y { type filter hook input; } }\n", "}\n", "include \"/etc/none\"\n", "table x { chain y { policy maybe; } }\n", "table x { chain y { accept } ; }\n", "table x { flags dormant }\n"} {
		dir := plant(t, debianWith(f("etc/nftables.conf", "0644", text))...)
		s, err := newSubject(dir, Input{})
		must(t, err)
		_, ours := s.nftables()
		s.close()
		theirs := exec.CommandContext(t.Context(), "nft", "-c", "-f", filepath.Join(dir, "etc/nftables.conf")).Run()
		if ours == nil || theirs == nil {
			t.Errorf("%q: the parser says %v, nft says %v", text, ours, theirs)
		}
	}
}

func FuzzNftables(f *testing.F) {
	for _, c := range firewallCases {
		if c.kind == "nftables" {
			f.Add(c.before)
		}
	}
	f.Add("table a { chain b { \\\n type filter hook input priority 0\n}\n} }")
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.TrimSuffix(text, "\n") + "\n"
		tokens, err := nftTokens("x", text)
		if err != nil {
			return
		}
		for i, tok := range tokens {
			if text[tok.start:tok.end] != tok.text || i > 0 && tokens[i-1].end > tok.start {
				t.Fatalf("%q stands not at %d", tok.text, tok.start)
			}
		}
		n := &nftRules{texts: map[string]string{"x": text}}
		r := &nftReader{s: &Subject{}, rules: n, file: "x", tokens: tokens}
		if r.statements() != nil {
			return
		}
		for _, c := range n.chains {
			if c.top > c.end && c.end > 0 {
				t.Fatalf("the rules of %s begin behind its end", c.name)
			}
		}
	})
}

func needProgram(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
}
