package harden

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// keyParams: a key of a configuration file has a value.
type keyParams struct {
	Path string `json:"path"`
	Key  string `json:"key"`
	// Value is what Apply writes.
	Value string `json:"value"`
	// Accept is how Value is compared: "equals" (default), "at-most", "at-least" (numbers), "one-of" (Others too),
	// "umask" (forbids at least the same bits).
	Accept string   `json:"accept"`
	Others []string `json:"others"`
	// Separator is "space" (login.defs) or "equals" (KEY=value).
	Separator string `json:"separator"`
}

func (p keyParams) check() error {
	if p.Key == "" || p.Value == "" || strings.ContainsAny(p.Key+p.Value, "\n") {
		return errors.New("key and value are one line each")
	}
	if !slices.Contains([]string{"space", "equals"}, p.Separator) {
		return errors.New("separator is space or equals")
	}
	if err := checkAccept(p.Accept, p.Value); err != nil {
		return err
	}
	return checkGlobs([]string{p.Path})
}

func checkAccept(accept, value string) error {
	switch accept {
	case "", "equals", "one-of":
		return nil
	case "at-most", "at-least":
		if _, err := strconv.Atoi(value); err != nil {
			return fmt.Errorf("accept %s needs a number, not %q", accept, value)
		}
		return nil
	case "umask":
		_, err := octal(value)
		return err
	}
	return fmt.Errorf("accept is equals, one-of, at-most, at-least or umask, not %q", accept)
}

// accepts compares a value seen with the one wanted.
func accepts(accept, want string, others []string, seen string) bool {
	switch accept {
	case "at-most", "at-least":
		n, err := strconv.Atoi(seen)
		w, _ := strconv.Atoi(want)
		if err != nil {
			return false
		}
		if accept == "at-most" {
			return n <= w && n >= 0
		}
		return n >= w
	case "umask":
		have, err := octal(seen)
		bits, _ := octal(want)
		return err == nil && have&bits == bits
	}
	return strings.EqualFold(seen, want) || slices.ContainsFunc(others, func(o string) bool { return strings.EqualFold(o, seen) })
}

// keyLine splits one line; ok is false for comments, empty lines and other keys.
func (p keyParams) keyLine(line string) (value string, ok bool) {
	text := strings.TrimSpace(line)
	if text == "" || strings.HasPrefix(text, "#") {
		return "", false
	}
	if p.Separator == "equals" {
		k, v, found := strings.Cut(text, "=")
		return strings.Trim(strings.TrimSpace(v), `"'`), found && strings.TrimSpace(k) == p.Key
	}
	f := strings.Fields(text)
	if f[0] != p.Key {
		return "", false
	}
	if len(f) == 1 {
		return "", true
	}
	return strings.Trim(f[1], `"`), true
}

// value is the one that holds: the last of its lines, as login.defs and shell files are read.
func (p keyParams) value(data string) (string, bool) {
	seen, found := "", false
	for line := range strings.Lines(data) {
		if v, ok := p.keyLine(line); ok {
			seen, found = v, true
		}
	}
	return seen, found
}

func keyState(s *Subject, p keyParams) (Observation, error) {
	if !s.isFile(p.Path) {
		return absent(p.Path + " is not in the image"), nil
	}
	data, err := s.text(p.Path)
	if err != nil {
		return refused(err)
	}
	v, found := p.value(string(data))
	switch {
	case !found:
		return bad(p.Key + " is not set"), nil
	case accepts(p.Accept, p.Value, p.Others, v):
		return good(p.Key + " " + v), nil
	}
	return bad(p.Key + " " + v), nil
}

// keyApply replaces the first line that sets the key, removes the others, and appends where there is none. Comments stay.
func keyApply(s *Subject, p keyParams) error {
	data, err := s.text(p.Path)
	if err != nil {
		return err
	}
	sep := " "
	if p.Separator == "equals" {
		sep = "="
	}
	return s.write(p.Path, []byte(replaceLine(string(data), p.Key+sep+p.Value, func(line string) bool {
		_, ok := p.keyLine(line)
		return ok
	})), 0o644)
}

// replaceLine puts line in the place of the first line that matches, drops the other ones, or appends it.
func replaceLine(data, line string, matches func(string) bool) string {
	var b strings.Builder
	done := false
	for l := range strings.Lines(data) {
		if !matches(l) {
			b.WriteString(l)
			continue
		}
		if !done {
			b.WriteString(line + "\n")
			done = true
		}
	}
	out := b.String()
	if done {
		return out
	}
	if out != "" && !strings.HasSuffix(out, "\n") {
		out += "\n"
	}
	return out + line + "\n"
}

// lineParams: no line of the files matches an expression (comments left out); Apply replaces the match.
type lineParams struct {
	Paths   []string `json:"paths"`
	Match   string   `json:"match"`
	Replace string   `json:"replace"` // of the match, ${1} allowed; empty removes the match
	Whole   bool     `json:"whole"`   // the whole line goes
	// Report only: what Match finds is for the recipe to change.
	Report string `json:"report"`
}

func (p lineParams) check() error {
	if _, err := regexp.Compile(p.Match); err != nil || p.Match == "" {
		return fmt.Errorf("match: %q is no expression", p.Match)
	}
	return checkGlobs(p.Paths)
}

func comment(line string) bool {
	t := strings.TrimSpace(line)
	return strings.HasPrefix(t, "#") && !strings.HasPrefix(t, "#include")
}

func lineState(s *Subject, p lineParams) (Observation, error) {
	re := regexp.MustCompile(p.Match)
	files := s.filesOf(p.Paths)
	if len(files) == 0 {
		return absent(strings.Join(p.Paths, ", ") + ": not in the image"), nil
	}
	var off []string
	for _, q := range files {
		data, err := s.text(q)
		if err != nil {
			return refused(err)
		}
		for line := range strings.Lines(string(data)) {
			if !comment(line) && re.MatchString(line) {
				off = append(off, "/"+q+": "+strings.TrimSpace(re.FindString(line)))
			}
		}
	}
	if len(off) > 0 && p.Report != "" {
		return blocked(list(off), p.Report), nil
	}
	return judge(off, "none"), nil
}

func (s *Subject) filesOf(patterns []string) []string {
	return slices.DeleteFunc(s.glob(patterns), func(q string) bool { return !s.isFile(q) })
}

func lineApply(s *Subject, p lineParams) error {
	re := regexp.MustCompile(p.Match)
	for _, q := range s.filesOf(p.Paths) {
		data, err := s.text(q)
		if err != nil {
			return err
		}
		var b strings.Builder
		for line := range strings.Lines(string(data)) {
			switch {
			case comment(line) || !re.MatchString(line):
			case p.Whole:
				continue
			default:
				line = re.ReplaceAllString(line, p.Replace)
			}
			b.WriteString(line)
		}
		if b.String() != string(data) {
			if err := s.write(q, []byte(b.String()), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// presentParams: a file has a line; Match says which lines count as it.
type presentParams struct {
	Path  string `json:"path"`
	Line  string `json:"line"`
	Match string `json:"match"`
	// Before puts a new line in front of the first line that matches this; empty appends.
	Before string `json:"before"`
	// Create makes the file where it is missing, with Mode; otherwise the rule does not apply.
	Create bool   `json:"create"`
	Mode   string `json:"mode"`
	// With makes Create depend on a directory or file that is there.
	With string `json:"with"`
}

func (p presentParams) check() error {
	for _, e := range []string{p.Match, p.Before} {
		if _, err := regexp.Compile(e); err != nil {
			return err
		}
	}
	re := regexp.MustCompile(p.Match)
	if p.Line == "" || p.Match == "" || !re.MatchString(p.Line) {
		return errors.New("line is one line that match matches")
	}
	if p.Create {
		if _, err := octal(p.Mode); err != nil {
			return err
		}
	}
	return checkGlobs([]string{p.Path})
}

func presentState(s *Subject, p presentParams) (Observation, error) {
	if !s.isFile(p.Path) {
		if p.Create && (p.With == "" || s.lookup(p.With) != nil) {
			return bad(p.Path + " is missing"), nil
		}
		if p.Create {
			return absent(p.With + " is not in the image"), nil
		}
		return absent(p.Path + " is not in the image"), nil
	}
	data, err := s.text(p.Path)
	if err != nil {
		return refused(err)
	}
	re := regexp.MustCompile(p.Match)
	for line := range strings.Lines(string(data)) {
		if !comment(line) && re.MatchString(strings.TrimRight(line, "\n")) {
			return good(strings.TrimSpace(line)), nil
		}
	}
	return bad("no such line in " + p.Path), nil
}

func presentApply(s *Subject, p presentParams) error {
	data := []byte{}
	if s.isFile(p.Path) {
		var err error
		if data, err = s.text(p.Path); err != nil {
			return err
		}
	}
	mode := uint32(0o644)
	if p.Mode != "" {
		mode, _ = octal(p.Mode)
	}
	text := string(data)
	if p.Before != "" {
		re := regexp.MustCompile(p.Before)
		var b strings.Builder
		done := false
		for line := range strings.Lines(text) {
			if !done && !comment(line) && re.MatchString(line) {
				b.WriteString(p.Line + "\n")
				done = true
			}
			b.WriteString(line)
		}
		if done {
			return s.write(p.Path, []byte(b.String()), mode)
		}
	}
	return s.write(p.Path, []byte(replaceLine(text, p.Line, func(string) bool { return false })), mode)
}

// shellUmaskParams: no shell start-up file sets a umask that allows more than Value, and Path sets it.
type shellUmaskParams struct {
	Files []string `json:"files"` // patterns looked at
	Path  string   `json:"path"`  // where Apply writes it when none does
	With  string   `json:"with"`  // only in images that have this: without a shell nothing reads these files
	Value string   `json:"value"`
}

func (p shellUmaskParams) check() error {
	if _, err := octal(p.Value); err != nil {
		return err
	}
	return checkGlobs(append([]string{p.Path, p.With}, p.Files...))
}

var umaskLine = regexp.MustCompile(`^(\s*umask\s+)([0-7]{3,4})(\s|;|$)`)

func (p shellUmaskParams) look(s *Subject) (weak []string, set bool, err error) {
	for _, q := range s.filesOf(append([]string{p.Path}, p.Files...)) {
		data, err := s.text(q)
		if err != nil {
			return nil, false, err
		}
		for line := range strings.Lines(string(data)) {
			m := umaskLine.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			if accepts("umask", p.Value, nil, m[2]) {
				set = true
			} else {
				weak = append(weak, "/"+q+": "+strings.TrimSpace(line))
			}
		}
	}
	return weak, set, nil
}

func shellUmaskState(s *Subject, p shellUmaskParams) (Observation, error) {
	if s.lookup(p.With) == nil {
		return absent(p.With + " is not in the image"), nil
	}
	weak, set, err := p.look(s)
	switch {
	case err != nil:
		return refused(err)
	case len(weak) > 0:
		return bad(list(weak)), nil
	case !set:
		return bad("no umask is set"), nil
	}
	return good("umask " + p.Value), nil
}

func shellUmaskApply(s *Subject, p shellUmaskParams) error {
	for _, q := range s.filesOf(append([]string{p.Path}, p.Files...)) {
		data, err := s.text(q)
		if err != nil {
			return err
		}
		var b strings.Builder
		for line := range strings.Lines(string(data)) {
			if m := umaskLine.FindStringSubmatch(line); m != nil && !accepts("umask", p.Value, nil, m[2]) {
				line = m[1] + p.Value + line[len(m[1])+len(m[2]):]
			}
			b.WriteString(line)
		}
		if b.String() != string(data) {
			if err := s.write(q, []byte(b.String()), 0o644); err != nil {
				return err
			}
		}
	}
	if _, set, err := p.look(s); err != nil || set {
		return err
	}
	data := []byte{}
	if s.isFile(p.Path) {
		var err error
		if data, err = s.text(p.Path); err != nil {
			return err
		}
	}
	return s.write(p.Path, []byte(replaceLine(string(data), "umask "+p.Value, func(string) bool { return false })), 0o644)
}

// sshdParams: a keyword of the SSH server's global section.
type sshdParams struct {
	Keyword string   `json:"keyword"`
	Value   string   `json:"value"`
	Accept  string   `json:"accept"`
	Others  []string `json:"others"`
	// Default is the server's own value, which holds where no line sets the keyword.
	Default string `json:"default"`
	// Remove are entries that a comma-separated list must not have; then Value is the list that Apply writes.
	Remove []string `json:"remove"`
}

func (p sshdParams) check() error {
	if p.Keyword == "" || p.Value == "" || strings.ContainsAny(p.Keyword+p.Value, "\n#") {
		return errors.New("keyword and value are needed")
	}
	return checkMeets(p.Accept, p.Value)
}

const sshdConfig = "/etc/ssh/sshd_config"

// sshdValue asks the program where it can be run, and reads the files as it would otherwise: the first line of the global section wins.
func (p sshdParams) seen(s *Subject) (value, source string, err error) {
	for line := range strings.Lines(s.effective("etc/ssh", "/usr/sbin/sshd", "-T", "-f", sshdConfig)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.EqualFold(k, p.Keyword) {
			return v, "sshd -T", nil
		}
	}
	v, _, err := p.first(s, sshdConfig, 0)
	if err == nil && v == "" {
		v = p.Default
	}
	return v, "file", err
}

// first returns the value that wins and the file that sets it.
func (p sshdParams) first(s *Subject, file string, depth int) (value, at string, err error) {
	if depth > 16 {
		return "", "", &refusal{file, 0, "includes nest deeper than 16, or go round in a circle"}
	}
	data, err := s.text(file)
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(data)) {
		k, v := sshdLine(line)
		switch {
		case strings.EqualFold(k, "match"):
			return "", "", nil
		case strings.EqualFold(k, "include"):
			for pat := range strings.FieldsSeq(v) {
				for _, inc := range s.filesOf([]string{sshdPath(pat)}) {
					if v, at, err := p.first(s, inc, depth+1); err != nil || v != "" {
						return v, at, err
					}
				}
			}
		case strings.EqualFold(k, p.Keyword) && v != "":
			return v, file, nil
		}
	}
	return "", "", nil
}

func sshdPath(p string) string {
	p = strings.Trim(p, `"`)
	if !strings.HasPrefix(p, "/") {
		return "/etc/ssh/" + p
	}
	return p
}

// sshdLine splits "Keyword value" and "Keyword=value", with quotes and a comment behind the value; a comment has no keyword.
func sshdLine(line string) (keyword, value string) {
	t := strings.TrimSpace(line)
	if t == "" || strings.HasPrefix(t, "#") {
		return "", ""
	}
	i := strings.IndexAny(t, " \t=")
	if i < 0 {
		return t, ""
	}
	return t[:i], sshdValue(strings.TrimLeft(t[i:], " \t="))
}

// sshdValue ends a value where a word begins with #, outside of quotes, and takes the quotes from a single word.
func sshdValue(v string) string {
	quoted := false
	for i := range len(v) {
		if v[i] == '"' {
			quoted = !quoted
		}
		if v[i] == '#' && !quoted && (i == 0 || v[i-1] == ' ' || v[i-1] == '\t') {
			v = v[:i]
			break
		}
	}
	v = strings.TrimSpace(v)
	if len(v) > 1 && strings.HasPrefix(v, `"`) && strings.Index(v[1:], `"`) == len(v)-2 {
		return v[1 : len(v)-1]
	}
	return v
}

func (p sshdParams) holds(v string) bool {
	if len(p.Remove) == 0 {
		return meets(p.Accept, p.Value, p.Others, v) || meets(p.Accept, p.Value, p.Others, sshdSeconds(v))
	}
	for item := range strings.SplitSeq(v, ",") {
		if slices.ContainsFunc(p.Remove, func(pat string) bool { ok, _ := path.Match(pat, item); return ok }) {
			return false
		}
	}
	return v != ""
}

// sshdSpan is a time as the server reads it: numbers, each with its unit, such as 1h30m.
var sshdSpan = regexp.MustCompile(`^([0-9]{1,6}[sSmMhHdDwW])+$`)

// sshdSeconds is a span of time in seconds, as `sshd -T` prints it; what is no span stays as it is.
func sshdSeconds(v string) string {
	if !sshdSpan.MatchString(v) {
		return v
	}
	units := map[byte]int{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 7 * 86400}
	sum, n := 0, 0
	for _, c := range []byte(strings.ToLower(v)) {
		if unit, ok := units[c]; ok {
			sum, n = sum+n*unit, 0
		} else {
			n = 10*n + int(c-'0')
		}
	}
	return strconv.Itoa(sum)
}

func sshdState(s *Subject, p sshdParams) (Observation, error) {
	if !s.isFile(sshdConfig) {
		return absent(sshdConfig + " is not in the image"), nil
	}
	v, source, err := p.seen(s)
	if err != nil {
		return refused(err)
	}
	obs := bad(p.Keyword + " " + v)
	if p.holds(v) {
		obs = good(p.Keyword + " " + v)
		if s.machine { // benchmarks of machines want a line: the program's own value may change with its version
			if _, at, err := p.first(s, sshdConfig, 0); err != nil || at == "" {
				obs = bad(p.Keyword + " " + v + ", by default only")
			} else if line := p.contrary(s); line != "" {
				obs = bad(line + " stands in the file too: only the first line counts, but readers and auditors see both")
			}
		}
	}
	obs.Source = source
	return obs, nil
}

// contrary returns a line of the main file that says something else than is wanted, where it has no effect.
func (p sshdParams) contrary(s *Subject) string {
	data, err := s.text(sshdConfig)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		k, v := sshdLine(line)
		if strings.EqualFold(k, "match") {
			return ""
		}
		if strings.EqualFold(k, p.Keyword) && v != "" && !p.holds(v) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// withoutContrary drops the lines of the global section that contrary would find.
func (p sshdParams) withoutContrary(text string) string {
	var b strings.Builder
	global := true
	for line := range strings.Lines(text) {
		k, v := sshdLine(line)
		global = global && !strings.EqualFold(k, "match")
		if !global || !strings.EqualFold(k, p.Keyword) || v == "" || p.holds(v) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// sshdApply changes the line that wins, or puts one at the top of the main file: the first one counts. On machines,
// lines of that file without effect that say otherwise go.
func sshdApply(s *Subject, p sshdParams) error {
	v, at, err := p.first(s, sshdConfig, 0)
	if err != nil {
		return err
	}
	if at != "" && !p.holds(v) {
		if err := p.replace(s, at); err != nil {
			return err
		}
	}
	data, err := s.text(sshdConfig)
	if err != nil {
		return err
	}
	text := string(data)
	if s.machine {
		text = p.withoutContrary(text)
	}
	if at == "" {
		text = p.Keyword + " " + p.Value + "\n" + text
	}
	if text == string(data) {
		return nil
	}
	return s.write(sshdConfig, []byte(text), 0o644)
}

// replace gives the first line of the file that sets the keyword the wanted value.
func (p sshdParams) replace(s *Subject, file string) error {
	data, err := s.text(file)
	if err != nil {
		return err
	}
	var b strings.Builder
	done := false
	for line := range strings.Lines(string(data)) {
		if k, _ := sshdLine(line); !done && strings.EqualFold(k, p.Keyword) {
			line, done = p.Keyword+" "+p.Value+"\n", true
		}
		b.WriteString(line)
	}
	return s.write(file, []byte(b.String()), 0o644)
}

// presenceParams: at least one of the paths is there where the image needs it.
type presenceParams struct {
	Paths []string `json:"paths"`
	// WhenPackages are packages of the recipe that make the rule apply; empty means always.
	WhenPackages []string `json:"whenPackages"`
	// WhenEnv is an environment variable that does.
	WhenEnv string `json:"whenEnv"`
	Least   int64  `json:"least"` // bytes
	Remedy  string `json:"remedy"`
}

func (p presenceParams) check() error {
	if p.Remedy == "" {
		return errors.New("remedy: says what to do")
	}
	return checkGlobs(p.Paths)
}

func (p presenceParams) applies(s *Subject) bool {
	if len(p.WhenPackages) == 0 && p.WhenEnv == "" {
		return true
	}
	for _, kv := range s.config.Env {
		if p.WhenEnv != "" && strings.HasPrefix(kv, p.WhenEnv+"=") {
			return true
		}
	}
	return slices.ContainsFunc(p.WhenPackages, func(n string) bool {
		return s.requested(n) || s.lockedRequest(n) || s.asFound() && s.packages().has(n)
	})
}

// asFound says that no recipe tells what the image is for: what is installed stands for what was asked for.
func (s *Subject) asFound() bool { return s.sight != nil && len(s.recipe.Packages) == 0 }

func presenceState(s *Subject, p presenceParams) (Observation, error) {
	if !p.applies(s) {
		return absent("nothing in the recipe asks for it"), nil
	}
	for _, q := range p.Paths {
		if e := s.lookup(q); e != nil && (e.Type == 'd' || s.size(e) >= p.Least) {
			return good(q), nil
		}
	}
	return blocked("missing: "+list(p.Paths), p.Remedy), nil
}
