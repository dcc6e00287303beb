package harden

import (
	"path"
	"slices"
	"strings"
)

const (
	nftMain     = "/etc/nftables.conf"
	maxNftDepth = 16 // files that include each other, as nft itself allows
)

// nftToken is a word, a quoted string, a brace or a separator of a file of nft's, with where it stands.
type nftToken struct {
	text       string // "\n" and ";" separate statements
	line       int    // from 0
	start, end int    // in the file's text
}

func (t nftToken) separates() bool { return t.text == "\n" || t.text == ";" }

// nftChain is a chain with the rules that all files give it.
type nftChain struct {
	file                string
	family, table, name string
	kind, hook, policy  string // empty where it is no base chain
	rules               [][]nftToken
	header, policyAt    nftToken // the last word of the type statement, and the policy's word
	top, end            int      // behind the statements in front of the rules, and at the closing brace
	inBlock             int      // how many of the rules stand in the block; others are added by commands
}

// nftTable is a block of a table.
type nftTable struct {
	file, family, name string
	end                int // at the closing brace
}

// nftRules are what the files say once all of them are loaded.
type nftRules struct {
	chains []*nftChain
	tables []*nftTable
	texts  map[string]string // of the files read
	loads  int               // how often a file was read: one may be included twice
}

// nftReader reads one file.
type nftReader struct {
	s      *Subject
	rules  *nftRules
	file   string
	depth  int
	tokens []nftToken
	at     int
}

// nftables reads /etc/nftables.conf and what it includes. What nft would not take, and what can only be judged by
// running it, is refused with its line.
func (s *Subject) nftables() (*nftRules, error) {
	r := &nftRules{texts: map[string]string{}}
	if s.lookup(nftMain) == nil {
		return r, nil
	}
	return r, r.load(s, nftMain, 0)
}

func (r *nftRules) load(s *Subject, file string, depth int) error {
	if depth > maxNftDepth {
		return &refusal{file, 0, "is included deeper than nft allows, or in a circle"}
	}
	lines, err := s.confLines(file)
	if err != nil {
		return err
	}
	text := ""
	if len(lines) > 0 {
		text = strings.Join(lines, "\n") + "\n"
	}
	if r.loads++; r.loads > maxDropIns {
		return &refusal{file, 0, "is one of too many files"}
	}
	r.texts[file] = text
	tokens, err := nftTokens(file, text)
	if err != nil {
		return err
	}
	return (&nftReader{s: s, rules: r, file: file, depth: depth, tokens: tokens}).statements()
}

// nftTokens splits a text; comments go, and a backslash joins lines.
func nftTokens(file, text string) ([]nftToken, error) {
	var out []nftToken
	line := 0
	for i := 0; i < len(text); {
		start := i
		switch c := text[i]; {
		case c == '\n':
			out = append(out, nftToken{"\n", line, i, i + 1})
			line++
			i++
		case c == ' ' || c == '\t' || c == '\r':
			i++
		case c == '\\' && strings.HasPrefix(text[i+1:], "\n"):
			line++
			i += 2
		case c == '#':
			i += strings.IndexByte(text[i:], '\n')
		case c == '{' || c == '}' || c == ';':
			out = append(out, nftToken{string(c), line, i, i + 1})
			i++
		case c == '"':
			n := strings.IndexAny(text[i+1:], "\"\n")
			if text[i+1+n] == '\n' {
				return nil, &refusal{file, line + 1, "has a quotation that is not closed"}
			}
			i += n + 2
			out = append(out, nftToken{text[start:i], line, start, i})
		default:
			i += strings.IndexAny(text[i:], " \t\r\n{};\"#\\")
			if i == start { // a backslash inside of a line
				return nil, &refusal{file, line + 1, "has a backslash inside of a line"}
			}
			out = append(out, nftToken{text[start:i], line, start, i})
		}
	}
	return out, nil
}

func (r *nftReader) refuse(line int, what string) error { return &refusal{r.file, line + 1, what} }

func (r *nftReader) peek() (nftToken, bool) {
	if r.at >= len(r.tokens) {
		return nftToken{}, false
	}
	return r.tokens[r.at], true
}

// head returns the words up to a brace or the end of the statement, which it leaves.
func (r *nftReader) head() []nftToken {
	from := r.at
	for r.at < len(r.tokens) && !slices.Contains([]string{"{", "}", ";", "\n"}, r.tokens[r.at].text) {
		r.at++
	}
	return r.tokens[from:r.at]
}

// statement returns a whole statement, braces inside of it with what they hold; it leaves what ends it.
func (r *nftReader) statement() ([]nftToken, error) {
	from, depth := r.at, 0
	for ; r.at < len(r.tokens); r.at++ {
		t := r.tokens[r.at]
		switch {
		case t.text == "{":
			depth++
		case t.text == "}" && depth == 0, t.separates() && depth == 0:
			return r.tokens[from:r.at], nil
		case t.text == "}":
			depth--
		}
	}
	if depth > 0 {
		return nil, r.refuse(r.tokens[from].line, "opens a brace that nothing closes")
	}
	return r.tokens[from:r.at], nil
}

// block runs each on every statement up to the closing brace, which it returns.
func (r *nftReader) block(each func() error) (nftToken, error) {
	open := r.tokens[r.at]
	for r.at++; ; {
		t, ok := r.peek()
		switch {
		case !ok:
			return t, r.refuse(open.line, "opens a brace that nothing closes")
		case t.text == "}":
			r.at++
			return t, nil
		case t.separates():
			r.at++
		default:
			if err := each(); err != nil {
				return t, err
			}
			if err := r.separated(t); err != nil {
				return t, err
			}
		}
	}
}

// separated refuses a statement that runs into the next one: nft would not load the file.
func (r *nftReader) separated(first nftToken) error {
	if next, ok := r.peek(); ok && !next.separates() {
		return r.refuse(first.line, "has a statement that neither a line's end nor a semicolon ends")
	}
	return nil
}

func nftWords(tokens []nftToken) []string {
	out := make([]string, 0, len(tokens))
	for _, t := range tokens {
		out = append(out, strings.Trim(t.text, `"`))
	}
	return out
}

func (r *nftReader) statements() error {
	for {
		t, ok := r.peek()
		switch {
		case !ok:
			return nil
		case t.text == "}":
			return r.refuse(t.line, "closes a brace that nothing opened")
		case t.separates():
			r.at++
		default:
			if err := r.command(t); err != nil {
				return err
			}
			if err := r.separated(t); err != nil {
				return err
			}
		}
	}
}

var nftObjects = []string{"set", "map", "element", "counter", "quota", "ct", "limit", "secmark", "synproxy", "flowtable", "tunnel"}

// command reads one statement outside of any table.
func (r *nftReader) command(first nftToken) error {
	from := r.at
	words := nftWords(r.head())
	if len(words) > 1 && (words[0] == "add" || words[0] == "create" || words[0] == "insert") {
		words = words[1:]
	} else if len(words) > 1 && slices.Contains([]string{"flush", "delete", "destroy"}, words[0]) {
		return r.drop(first, words)
	}
	switch {
	case len(words) == 0:
		return r.refuse(first.line, "is a block without a name")
	case words[0] == "include" && len(words) == 2:
		return r.include(first, words[1])
	case words[0] == "table":
		return r.table(first, words[1:])
	case words[0] == "chain":
		return r.chainCommand(first, words[1:])
	case words[0] == "rule":
		r.at = from
		return r.ruleCommand(first)
	case slices.Contains([]string{"define", "redefine", "undefine"}, words[0]), slices.Contains(nftObjects, words[0]):
		_, err := r.statement()
		return err
	}
	return r.refuse(first.line, "begins with "+words[0]+", which cannot be judged without running it")
}

// drop forgets what a flush or delete takes away.
func (r *nftReader) drop(first nftToken, words []string) error {
	family, rest := nftFamily(words[2:])
	switch {
	case words[1] == "ruleset" && len(words) == 2:
		r.rules.chains, r.rules.tables = nil, nil
	case words[1] == "table" && len(rest) == 1:
		r.rules.chains = slices.DeleteFunc(r.rules.chains, func(c *nftChain) bool { return c.family == family && c.table == rest[0] })
		if words[0] != "flush" {
			r.rules.tables = slices.DeleteFunc(r.rules.tables, func(t *nftTable) bool { return t.family == family && t.name == rest[0] })
		}
	case slices.Contains(nftObjects, words[1]):
		_, err := r.statement()
		return err
	default:
		return r.refuse(first.line, "takes away what cannot be told without running it")
	}
	return nil
}

var nftFamilies = []string{"ip", "ip6", "inet", "arp", "bridge", "netdev"}

// nftFamily takes the family off a name; ip is what nft takes where none is said.
func nftFamily(words []string) (family string, rest []string) {
	if len(words) > 0 && slices.Contains(nftFamilies, words[0]) {
		return words[0], words[1:]
	}
	return "ip", words
}

func (r *nftReader) include(first nftToken, pattern string) error {
	if !strings.HasPrefix(pattern, "/") {
		pattern = path.Join("/etc", pattern)
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return r.refuse(first.line, "includes what is no pattern")
	}
	files := r.s.filesOf([]string{pattern})
	if len(files) == 0 && !strings.ContainsAny(pattern, "*?[") {
		return r.refuse(first.line, "includes "+pattern+", which is missing")
	}
	for _, f := range files {
		if err := r.rules.load(r.s, "/"+f, r.depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (r *nftReader) table(first nftToken, words []string) error {
	family, rest := nftFamily(words)
	if len(rest) != 1 {
		return r.refuse(first.line, "is no table with a name")
	}
	t := &nftTable{file: r.file, family: family, name: rest[0], end: -1}
	r.rules.tables = append(r.rules.tables, t)
	if next, ok := r.peek(); !ok || next.text != "{" {
		return nil
	}
	closing, err := r.block(func() error { return r.inTable(t) })
	t.end = closing.start
	return err
}

// inTable reads one statement of a table.
func (r *nftReader) inTable(t *nftTable) error {
	first, _ := r.peek()
	from := r.at
	words := nftWords(r.head())
	next, _ := r.peek()
	switch {
	case len(words) == 2 && words[0] == "chain" && next.text == "{":
		return r.chain(t.family, t.name, words[1])
	case len(words) > 0 && (words[0] == "flags" || words[0] == "comment" || slices.Contains(nftObjects, words[0])):
		r.at = from
		_, err := r.statement()
		return err
	}
	return r.refuse(first.line, "is nothing that a table holds")
}

// chain reads the block of a chain, which adds to what an earlier one of this name has.
func (r *nftReader) chain(family, table, name string) error {
	c := r.rules.named(family, table, name)
	if c == nil {
		c = &nftChain{file: r.file, family: family, table: table, name: name}
		r.rules.chains = append(r.rules.chains, c)
	} else if c.file != r.file || c.end > 0 {
		c = &nftChain{file: r.file, family: family, table: table, name: name, kind: c.kind, hook: c.hook, policy: c.policy}
		r.rules.chains = append(r.rules.chains, c)
	}
	c.top = r.tokens[r.at].end
	closing, err := r.block(func() error { return r.inChain(c) })
	c.end, c.inBlock = closing.start, len(c.rules)
	return err
}

func (n *nftRules) named(family, table, name string) *nftChain {
	for _, c := range n.chains {
		if c.family == family && c.table == table && c.name == name {
			return c
		}
	}
	return nil
}

// inChain reads one statement of a chain: what it hangs on, its policy, or a rule.
func (r *nftReader) inChain(c *nftChain) error {
	tokens, err := r.statement()
	if err != nil {
		return err
	}
	words, last := nftWords(tokens), tokens[len(tokens)-1]
	switch words[0] {
	case "type":
		hook := slices.Index(words, "hook")
		if hook < 0 || hook+1 >= len(words) || len(words) < 2 || !slices.Contains(words, "priority") {
			return r.refuse(tokens[0].line, "says no hook and priority")
		}
		c.kind, c.hook, c.header = words[1], words[hook+1], last
		if c.policy == "" {
			c.policy = "accept"
		}
	case "policy":
		if len(words) != 2 || words[1] != "accept" && words[1] != "drop" {
			return r.refuse(tokens[0].line, "is no policy of accept or drop")
		}
		c.policy, c.policyAt = words[1], last
	case "comment", "flags", "devices":
	default:
		c.rules = append(c.rules, tokens)
		return nil
	}
	if len(c.rules) == 0 {
		c.top = last.end
	}
	return nil
}

// chainCommand reads "add chain FAMILY TABLE NAME { ... }".
func (r *nftReader) chainCommand(first nftToken, words []string) error {
	family, rest := nftFamily(words)
	if len(rest) != 2 {
		return r.refuse(first.line, "is no chain of a table")
	}
	if next, ok := r.peek(); ok && next.text == "{" {
		return r.chain(family, rest[0], rest[1])
	}
	if r.rules.named(family, rest[0], rest[1]) == nil {
		r.rules.chains = append(r.rules.chains, &nftChain{file: r.file, family: family, table: rest[0], name: rest[1]})
	}
	return nil
}

// ruleCommand reads "add rule FAMILY TABLE CHAIN ...".
func (r *nftReader) ruleCommand(first nftToken) error {
	tokens, err := r.statement()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(tokens, func(t nftToken) bool { return t.text == "rule" }) + 1
	family, rest := nftFamily(nftWords(tokens[at:]))
	if len(rest) < 3 {
		return r.refuse(first.line, "is no rule of a chain")
	}
	c := r.rules.named(family, rest[0], rest[1])
	if c == nil {
		return r.refuse(first.line, "adds a rule to a chain that is not there")
	}
	c.rules = append(c.rules, tokens[len(tokens)-len(rest)+2:])
	return nil
}
