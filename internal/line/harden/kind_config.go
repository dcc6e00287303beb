package harden

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// grammar is how one program reads its settings. The last line that sets a key wins, in the order files are read.
type grammar struct {
	main    string   // the one file that always counts
	dirs    []string // drop-in directories, those that hide others first
	first   bool     // drop-ins are read before main, so that main wins
	dropIn  string   // where Apply writes; empty: in main
	both    bool     // Apply writes main too where it is there, since some auditors read nothing else
	section string   // the only section that counts; empty: the file has none
	equals  string   // between key and value, as Apply writes it; a word alone is a key without value
	fold    bool     // keys in any case
	needs   string   // the package without which the settings mean nothing
	mode    uint32
	shell   bool // assignments of a shell: export, quotes, comments behind the value
	words   bool // values are words that may be quoted, with comments behind them; Host and Match end what is for all, and the first line wins
	goesOn  byte // a line goes on in the next: '\\' at its end, ' ' in front of the next; 0: never
}

func systemdConf(name, section, needs string) grammar {
	dirs := []string{}
	for _, d := range []string{"/etc", "/run", "/usr/local/lib", "/usr/lib"} {
		dirs = append(dirs, d+"/systemd/"+name+".d")
	}
	return grammar{
		main: "/etc/systemd/" + name, dirs: dirs, dropIn: "/etc/systemd/" + name + ".d/99-zz-kiln.conf",
		section: section, equals: "=", needs: needs, mode: 0o644, goesOn: '\\',
	}
}

func inBoth(g grammar) grammar {
	g.both = true
	return g
}

// grammars are the programs that the config kind knows.
var grammars = map[string]grammar{
	"journald":       inBoth(systemdConf("journald.conf", "Journal", "systemd")),
	"coredump":       systemdConf("coredump.conf", "Coredump", "systemd-coredump"),
	"timesyncd":      systemdConf("timesyncd.conf", "Time", "systemd-timesyncd"),
	"systemd":        systemdConf("system.conf", "Manager", "systemd"),
	"journal-upload": systemdConf("journal-upload.conf", "Upload", "systemd-journal-remote"),
	"pwquality": {
		main: "/etc/security/pwquality.conf", dirs: []string{"/etc/security/pwquality.conf.d"}, first: true,
		equals: " = ", needs: "libpam-pwquality", mode: 0o644, // main wins, and it is what auditors read
	},
	"faillock":   {main: "/etc/security/faillock.conf", equals: " = ", needs: "libpam-modules", mode: 0o644},
	"auditd":     {main: "/etc/audit/auditd.conf", equals: " = ", fold: true, needs: "auditd", mode: 0o640},
	"login.defs": {main: "/etc/login.defs", equals: " ", needs: "login", mode: 0o644},
	"useradd":    {main: "/etc/default/useradd", equals: "=", needs: "passwd", mode: 0o644},
	"aide":       {main: "/etc/default/aide", equals: "=", needs: "aide-common", mode: 0o644, shell: true, goesOn: '\\'},
	"apport":     {main: "/etc/default/apport", equals: "=", needs: "apport", mode: 0o644, shell: true, goesOn: '\\'},
	"ufw":        {main: "/etc/ufw/ufw.conf", equals: "=", needs: "ufw", mode: 0o644, shell: true, goesOn: '\\'},
	"ufw-policy": {main: "/etc/default/ufw", equals: "=", needs: "ufw", mode: 0o644, shell: true, goesOn: '\\'},
	"gdm-daemon": {main: "/etc/gdm3/daemon.conf", section: "xdmcp", equals: "=", needs: "gdm3", mode: 0o644}, // Debian
	"gdm-custom": {main: "/etc/gdm3/custom.conf", section: "xdmcp", equals: "=", needs: "gdm3", mode: 0o644}, // Ubuntu
	"postfix":    {main: "/etc/postfix/main.cf", equals: " = ", needs: "postfix", mode: 0o644, goesOn: ' '},
	"ssh":        {main: "/etc/ssh/ssh_config", equals: " ", fold: true, needs: "openssh-client", mode: 0o644, words: true},
}

// configParams: Key of a program's configuration has a value; an empty Value is a key that stands alone.
type configParams struct {
	Program string   `json:"program"`
	Key     string   `json:"key"`
	Value   string   `json:"value"`
	Accept  string   `json:"accept"`
	Others  []string `json:"others"`
	// Default is the program's own value, which holds where no line sets the key.
	Default string `json:"default"`
}

func (p configParams) check() error {
	if _, ok := grammars[p.Program]; !ok {
		return fmt.Errorf("no program %q; there are %s", p.Program, strings.Join(slices.Sorted(maps.Keys(grammars)), ", "))
	}
	if p.Key == "" || strings.ContainsAny(p.Key, " =#[") {
		return errors.New("key is one word")
	}
	if err := oneLine(p.Key, p.Value); err != nil {
		return err
	}
	return checkMeets(p.Accept, p.Value)
}

// files are in the order in which the program reads them.
func (g grammar) files(s *Subject) ([]string, error) {
	drops, err := s.dropIns(g.dirs, ".conf")
	if err != nil {
		return nil, err
	}
	if g.first {
		return append(drops, clean(g.main)), nil
	}
	return append([]string{clean(g.main)}, drops...), nil
}

// split reads one line; ok is false for comments, sections and empty lines.
func (g grammar) split(line string) (key, value string, ok bool) {
	t := strings.TrimSpace(line)
	if t == "" || strings.ContainsRune("#;[", rune(t[0])) {
		return "", "", false
	}
	switch {
	case g.words:
		key, value = sshdLine(t)
		return key, value, true
	case g.shell:
		key, value, _ = strings.Cut(strings.TrimSpace(strings.TrimPrefix(t, "export ")), "=")
		return key, shellWord(value), true
	case strings.TrimSpace(g.equals) == "=":
		key, value, _ = strings.Cut(t, "=")
	default:
		key = t
		if i := strings.IndexAny(t, " \t"); i >= 0 {
			key, value = t[:i], t[i:]
		}
	}
	return strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), `"'`), true
}

// shellWord is the first word of a value, without its quotes; what is behind it is a comment.
func shellWord(value string) string {
	if value != "" && (value[0] == '"' || value[0] == '\'') {
		word, _, _ := strings.Cut(value[1:], value[:1])
		return word
	}
	if i := strings.IndexAny(value, " \t;"); i >= 0 {
		return value[:i]
	}
	return value
}

// statement is one setting of a file: where it stands, over how many lines, and what it says.
type statement struct {
	at, count  int
	key, value string
	section    string
}

// statements reads a file. For grammars in which Host or Match begin a part that is not for all, it ends there.
func (g grammar) statements(file string, lines []string) (out []statement, err error) {
	section := ""
	for i := 0; i < len(lines); i++ {
		t := strings.TrimSpace(lines[i])
		if g.section != "" && strings.HasPrefix(t, "[") {
			if !strings.HasSuffix(t, "]") {
				return nil, &refusal{file, i + 1, "is no section: it has no ]"}
			}
			section = t[1 : len(t)-1]
		}
		key, value, ok := g.split(lines[i])
		if !ok {
			continue
		}
		if g.words && (strings.EqualFold(key, "host") || strings.EqualFold(key, "match")) {
			return out, nil
		}
		st := statement{at: i, count: g.extent(lines[i:]), key: key, value: value, section: section}
		if g.goesOn == ' ' {
			for _, more := range lines[i+1 : i+st.count] {
				if !blankOrComment(more) {
					st.value = strings.TrimSpace(st.value + " " + strings.TrimSpace(more))
				}
			}
		}
		out, i = append(out, st), i+st.count-1
	}
	return out, nil
}

// extent is how many lines the first one spans.
func (g grammar) extent(lines []string) int {
	switch n := 1; g.goesOn {
	case '\\':
		for n < len(lines) && strings.HasSuffix(lines[n-1], `\`) {
			n++
		}
		return n
	case ' ': // comments and empty lines between do not end it
		for i := 1; i < len(lines) && (blankOrComment(lines[i]) || strings.ContainsAny(lines[i][:1], " \t")); i++ {
			if !blankOrComment(lines[i]) {
				n = i + 1
			}
		}
		return n
	}
	return 1
}

func blankOrComment(line string) bool {
	t := strings.TrimSpace(line)
	return t == "" || t[0] == '#'
}

func (g grammar) same(a, b string) bool { return a == b || g.fold && strings.EqualFold(a, b) }

// settings returns every line that sets the key; the last wins, of several that go by the first only that one is returned.
func (p configParams) settings(s *Subject) ([]found, error) {
	g := grammars[p.Program]
	files, err := g.files(s)
	if err != nil {
		return nil, err
	}
	var out []found
	for _, q := range files {
		lines, err := s.confLines(q)
		if err != nil {
			return nil, err
		}
		all, err := g.statements(q, lines)
		if err != nil {
			return nil, err
		}
		for _, st := range all {
			if st.section != g.section || !g.same(st.key, p.Key) || g.words && len(out) > 0 {
				continue
			}
			if strings.HasSuffix(strings.TrimSpace(lines[st.at]), `\`) {
				return nil, &refusal{q, st.at + 1, "goes on in the next line, which is not supported for " + p.Key}
			}
			out = append(out, found{q, st.at, st.value})
		}
	}
	return out, nil
}

func configState(s *Subject, p configParams) (Observation, error) {
	g := grammars[p.Program]
	if s.lookup(g.main) == nil && !s.packages().has(g.needs) {
		return absent(g.needs + " is not in the image"), nil
	}
	all, err := p.settings(s)
	if err != nil {
		return refused(err)
	}
	value, where := p.Default, "default"
	if len(all) > 0 {
		last := all[len(all)-1]
		value, where = last.value, last.at()
	} else if p.Default == "" {
		return bad(p.Key + " is not set"), nil
	}
	seen := strings.TrimSpace(p.Key+" "+value) + " at " + where
	if p.Value == "" && len(all) > 0 || p.Value != "" && meets(p.Accept, p.Value, p.Others, value) {
		return good(seen), nil
	}
	return bad(seen), nil
}

// line is how Apply writes the setting.
func (p configParams) line(g grammar) string {
	if p.Value == "" {
		return p.Key
	}
	return p.Key + g.equals + p.Value
}

// configApply writes the drop-in, then main where that still decides, or main alone where there are no drop-ins.
func configApply(s *Subject, p configParams) error {
	g := grammars[p.Program]
	if g.dropIn != "" {
		if err := p.set(s, g, g.dropIn); err != nil {
			return err
		}
		all, err := p.settings(s)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return &refusal{g.dropIn, 0, "is not read: its directory is none"}
		}
		if last := all[len(all)-1]; last.file != clean(g.main) && !(g.both && s.lookup(g.main) != nil) {
			return nil
		}
	}
	return p.set(s, g, g.main)
}

// set replaces the first line of the file that sets the key, drops further ones, or adds it: at the end of its section,
// or in front of all where the first line wins.
func (p configParams) set(s *Subject, g grammar, file string) error {
	lines, err := s.confLines(file)
	if err != nil {
		return err
	}
	all, err := g.statements(file, lines)
	if err != nil {
		return err
	}
	if len(lines) == 0 {
		lines = []string{"# Hardening; made by kiln."}
	}
	ours := map[int]int{} // line -> how many are the setting's
	first := -1
	for _, st := range all {
		if st.section == g.section && g.same(st.key, p.Key) {
			ours[st.at] = st.count
			if first < 0 {
				first = st.at
			}
		}
	}
	if first < 0 {
		return s.writeLines(file, p.add(g, lines, all), g.mode)
	}
	var out []string
	for i := 0; i < len(lines); i++ {
		count, mine := ours[i]
		if i == first {
			out = append(out, p.line(g))
		} else if !mine {
			out = append(out, lines[i])
		}
		for ; count > 1; count-- {
			if i++; blankOrComment(lines[i]) {
				out = append(out, lines[i])
			}
		}
	}
	return s.writeLines(file, out, g.mode)
}

// add puts the setting where none is.
func (p configParams) add(g grammar, lines []string, all []statement) []string {
	switch {
	case g.words && len(all) > 0:
		return slices.Insert(lines, all[0].at, p.line(g))
	case g.words:
		at := 0
		for at < len(lines) && blankOrComment(lines[at]) {
			at++
		}
		return slices.Insert(lines, at, p.line(g))
	case g.section == "":
		end := len(lines)
		for end > 0 && strings.TrimSpace(lines[end-1]) == "" {
			end--
		}
		return p.insert(g, lines, end)
	}
	section, end := "", -1
	for i, line := range lines {
		t := strings.TrimSpace(line)
		if strings.HasPrefix(t, "[") {
			section = strings.Trim(t, "[]")
		}
		if section == g.section && t != "" {
			end = i + 1
		}
	}
	if end < 0 {
		lines, end = append(lines, "["+g.section+"]"), len(lines)+1
	}
	return p.insert(g, lines, end)
}

// insert puts the setting at a place, behind an empty line where it would otherwise be taken for the rest of the line before.
func (p configParams) insert(g grammar, lines []string, at int) []string {
	if g.goesOn == '\\' && at > 0 && strings.HasSuffix(lines[at-1], `\`) {
		return slices.Insert(lines, at, "", p.line(g))
	}
	return slices.Insert(lines, at, p.line(g))
}

// createdParams: a file is there, with at most Mode; Apply makes it empty.
type createdParams struct {
	Path  string `json:"path"`
	Mode  string `json:"mode"`
	Group string `json:"group"`
	With  string `json:"with"` // the package without which it means nothing
}

func (p createdParams) check() error {
	if _, err := octal(p.Mode); err != nil {
		return err
	}
	return checkGlobs([]string{p.Path})
}

func createdState(s *Subject, p createdParams) (Observation, error) {
	if p.With != "" && !s.packages().has(p.With) {
		return absent(p.With + " is not in the image"), nil
	}
	if err := s.editable(p.Path); err != nil {
		return refused(err)
	}
	if s.lookup(p.Path) == nil {
		return bad(p.Path + " is missing"), nil
	}
	return good(p.Path + " is there"), nil
}

func createdApply(s *Subject, p createdParams) error {
	mode, _ := octal(p.Mode)
	if err := s.write(p.Path, nil, mode); err != nil {
		return err
	}
	if ids := s.ids("etc/group", []string{p.Group}); p.Group != "" && len(ids) > 0 {
		q, _ := s.resolve(p.Path)
		return s.chown(q, 0, ids[0])
	}
	return nil
}

// limitParams: a resource limit of pam_limits.
type limitParams struct {
	Domain string `json:"domain"`
	Type   string `json:"type"` // hard or soft
	Item   string `json:"item"`
	Value  string `json:"value"`
	Accept string `json:"accept"`
}

func (p limitParams) check() error {
	if p.Domain == "" || p.Item == "" || p.Value == "" || p.Type != "hard" && p.Type != "soft" {
		return errors.New("domain, item, value and a type of hard or soft are needed")
	}
	if err := oneLine(p.Domain, p.Item, p.Value); err != nil {
		return err
	}
	return checkMeets(p.Accept, p.Value)
}

const (
	limitsMain   = "/etc/security/limits.conf"
	limitsDropIn = "/etc/security/limits.d/zz-kiln.conf"
)

func (p limitParams) matches(line string) (value string, ok bool) {
	f := strings.Fields(strings.SplitN(line, "#", 2)[0])
	if len(f) != 4 || f[0] != p.Domain || f[1] != p.Type && f[1] != "-" || f[2] != p.Item {
		return "", false
	}
	return f[3], true
}

func limitState(s *Subject, p limitParams) (Observation, error) {
	if !s.isDir("/etc/security") {
		return absent("/etc/security is not in the image"), nil
	}
	drops, err := s.dropIns([]string{path.Dir(limitsDropIn)}, ".conf")
	if err != nil {
		return refused(err)
	}
	seen, at := "", ""
	for _, q := range append([]string{clean(limitsMain)}, drops...) {
		lines, err := s.confLines(q)
		if err != nil {
			return refused(err)
		}
		for i, line := range lines {
			if v, ok := p.matches(line); ok {
				f := found{q, i, v}
				seen, at = v, f.at()
			}
		}
	}
	switch {
	case at == "":
		return bad(p.Item + " is not limited"), nil
	case meets(p.Accept, p.Value, nil, seen):
		return good(p.Item + " " + seen + " at " + at), nil
	}
	return bad(p.Item + " " + seen + " at " + at), nil
}

func limitApply(s *Subject, p limitParams) error {
	lines, err := s.confLines(limitsDropIn)
	if err != nil {
		return err
	}
	want := strings.Join([]string{p.Domain, p.Type, p.Item, p.Value}, " ")
	for i, line := range lines {
		if _, ok := p.matches(line); ok {
			lines[i] = want
			return s.writeLines(limitsDropIn, lines, 0o644)
		}
	}
	if len(lines) == 0 {
		lines = []string{madeByKiln}
	}
	lines = append(lines, want)
	slices.Sort(lines) // whichever objective comes first, the file is the same
	return s.writeLines(limitsDropIn, lines, 0o644)
}
