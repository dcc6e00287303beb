package secret

import (
	"bytes"
	"path"
	"regexp"
	"strings"
)

// placeholders are what stands where documentation and templates have a secret.
var placeholders = regexp.MustCompile(`(?i)^(?:x{3,}|\*{3,}|\.{3,}|-+|_+|your[-_ ]?.*|my[-_]?(?:password|secret|token)|<.*>|\[.*\]|\{.*\}|\$.*|%.*%?|example.*|.*EXAMPLE(?:KEY)?|redacted|placeholder|insert.*|replace.*|todo|none|null|nil|undefined)$`)

// wellKnown are pairs of words that examples of addresses are made of.
var wellKnown = regexp.MustCompile(`(?i)^(?:pass|passwd|password|passw0rd|pw|pwd|secret|user|username|name|login|token|key|host|port|foo|bar|baz|abc|test|guest|anonymous|bob|alice|[0-9]{1,5})$`)

// exampleHost is an address that is reserved for examples.
var exampleHost = regexp.MustCompile(`(?i)@(?:[a-z0-9-]+\.)*(?:example(?:\.(?:com|org|net))?|invalid|localhost\.localdomain|host(?:name)?|server|domain\.tld)(?:[:/\s"'` + "`" + `]|$)`)

// harmless says that a match is a placeholder, an example, or too regular to be a secret.
func (s *search) harmless(r *rule, value, line string) bool {
	switch {
	case r.ID == "shadow" || r.ID == "password-file":
		return false
	case placeholders.MatchString(value):
		return true
	case r.Entropy > 0 && entropy(value) < r.Entropy:
		return true
	case strings.Contains(strings.ToUpper(value), "EXAMPLE"):
		return true
	case r.ID == "address-password":
		return !s.plain && wellKnown.MatchString(value) || exampleHost.MatchString(line)
	case r.ID == "private-key":
		return entropy(value) < 3 || strings.Count(value, value[:1]) == len(value)
	}
	return false
}

// examples says that a path is where documentation and tests lie, which loose rules are not for.
func examples(file string) bool {
	for _, part := range strings.Split(strings.ToLower(path.Dir(file)), "/") {
		switch part {
		case "doc", "docs", "man", "info", "help", "locale", "test", "tests", "testdata", "testing", "__tests__", "spec", "example", "examples", "sample", "samples", "demo", "gtk-doc", "lintian":
			return true
		}
	}
	switch strings.ToLower(path.Ext(file)) {
	case ".md", ".rst", ".pod", ".html", ".htm", ".pyc", ".map", ".1", ".5", ".8":
		return true
	}
	return false
}

// environmentFile says that a file holds variables, one a line.
func environmentFile(file string) bool {
	base := path.Base(file)
	return base == ".env" || strings.HasPrefix(base, ".env.") && !strings.Contains(base, "example") && !strings.Contains(base, "sample") && !strings.Contains(base, "template") ||
		strings.HasSuffix(base, ".env") || file == "etc/environment"
}

var secretName = regexp.MustCompile(`(?i)(^|_)(PASS|PASSWD|PASSWORD|PASSPHRASE|TOKEN|SECRET|APIKEY|API_KEY|ACCESS_KEY|SECRET_KEY|PRIVATE_KEY|CREDENTIALS?)(_|$)`)

// Variable looks at a variable's name and value: a name that says secret with a
// value of its own, or a value that has the form of one.
func Variable(name, value string) (Finding, bool) {
	value = strings.TrimSpace(value)
	if len(value) > 1 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
		value = value[1 : len(value)-1]
	}
	if secretName.MatchString(name) && ownValue(name, value) {
		return Finding{Rule: "variable", Title: "value of " + printable(name), Line: 1, Masked: Mask(value)}, true
	}
	if found := valueOf(value); len(found) > 0 {
		return found[0], true
	}
	return Finding{}, false
}

// ownValue says that a value is neither empty, a switch, nor a reference to where the secret is.
func ownValue(name, value string) bool {
	upper := strings.ToUpper(name)
	for _, suffix := range []string{"_FILE", "_PATH", "_DIR", "_NAME", "_ID", "_TTL", "_TYPE", "_LENGTH", "_URL", "_ENDPOINT", "_TIMEOUT"} {
		if strings.HasSuffix(upper, suffix) {
			return false
		}
	}
	switch strings.ToLower(value) {
	case "", "yes", "no", "true", "false", "on", "off", "0", "1", "none", "null":
		return false
	}
	return !strings.HasPrefix(value, "$") && !strings.HasPrefix(value, "/") && !placeholders.MatchString(value)
}

var assignment = regexp.MustCompile(`(?m)^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=[ \t]*([^\r\n]*)$`)

// assignments looks at a file of variables.
func (s *search) assignments() {
	for _, m := range assignment.FindAllSubmatchIndex(s.data[:min(len(s.data), 1<<20)], 10_000) {
		name, value := string(s.data[m[2]:m[3]]), string(s.data[m[4]:m[5]])
		if !secretName.MatchString(name) || len(s.found) >= maxFindings {
			continue
		}
		if f, ok := Variable(name, value); ok {
			f.Line = 1 + bytes.Count(s.data[:m[0]], []byte{'\n'})
			s.found = append(s.found, f)
		}
	}
}

var (
	flag     = regexp.MustCompile(`(?i)--?(?:[a-z]+[-_])*(?:pass|passwd|password|passphrase|token|secret|api-?key|access-?key|secret-?key)(?:=|\s+)["']?([^\s"'$<|;&-][^\s"'$|;&]*)`)
	userPass = regexp.MustCompile(`\b(?:curl|wget|http)\b[^|;&\n]*\s(?:-u|--user)[= ]?["']?[^\s:"'$]+:([^\s"'$]+)`)
	chpasswd = regexp.MustCompile(`\becho\s+(?:-[ne]+\s+)?["']?[A-Za-z_][\w.-]*:([^\s"'|$]+)["']?\s*\|\s*(?:sudo\s+)?chpasswd\b`)
	netrc    = regexp.MustCompile(`\bmachine\s+\S+\s+login\s+\S+\s+password\s+([^\s"'$]+)`)
)

// maxCommand bounds the text of a command that is looked at; longer ones are cut.
const maxCommand = 256 << 10

// Command looks at a command of an image's history or a program's argument
// list: variables that are set in it, options that take passwords, and values
// that have the form of a secret. Lines are not counted.
func Command(text string) []Finding {
	text = text[:min(len(text), maxCommand)]
	var out []Finding
	add := func(f Finding) {
		f.Line = 1
		for _, have := range out {
			if have.Title == f.Title && have.Masked == f.Masked {
				return
			}
		}
		if len(out) < maxFindings {
			out = append(out, f)
		}
	}
	for _, word := range strings.Fields(text) {
		name, value, _ := strings.Cut(strings.TrimLeft(word, `'"(`), "=")
		if value != "" && !strings.HasPrefix(name, "-") && secretName.MatchString(name) && ownValue(name, strings.Trim(value, `'";)`)) {
			add(Finding{Rule: "variable", Title: "value of " + printable(name), Masked: Mask(strings.Trim(value, `'";)`))})
		}
	}
	for _, form := range []struct {
		match *regexp.Regexp
		title string
	}{{flag, "password given to a command"}, {userPass, "password given to a command"}, {chpasswd, "password set for an account"}, {netrc, "password of .netrc"}} {
		for _, m := range form.match.FindAllStringSubmatch(text, maxFindings) {
			if value := m[1]; ownValue("", value) && !strings.HasPrefix(value, "id=") && !strings.HasPrefix(value, "type=") {
				add(Finding{Rule: "command", Title: form.title, Masked: Mask(value)})
			}
		}
	}
	for _, f := range valueOf(text) {
		add(f)
	}
	return out
}

// printable bounds a name that a stranger chose.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, name[:min(len(name), 80)])
}
