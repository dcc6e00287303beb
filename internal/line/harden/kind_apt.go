package harden

import (
	"errors"
	"path"
	"slices"
	"strings"
)

// aptParams: the apt option Key, written A::B::C, has Value.
type aptParams struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	// Default is apt's own value.
	Default string `json:"default"`
}

func (p aptParams) check() error {
	if !strings.Contains(p.Key, "::") || p.Value == "" || strings.ContainsAny(p.Key+p.Value, " \n\"{};") {
		return errors.New("key is written A::B, and value is one word")
	}
	return nil
}

const (
	aptDir    = "/etc/apt/apt.conf.d"
	aptDropIn = aptDir + "/zz-kiln"
)

// aptTokens splits a file into words, quoted texts, and the signs { } ; with comments left out.
func aptTokens(file, text string) ([]string, error) {
	var out []string
	for line := 1; text != ""; {
		switch c := text[0]; {
		case c == '\n':
			line, text = line+1, text[1:]
		case c == ' ' || c == '\t' || c == '\r':
			text = text[1:]
		case strings.HasPrefix(text, "//"), c == '#':
			_, text, _ = strings.Cut(text, "\n")
			line++
		case strings.HasPrefix(text, "/*"):
			body, rest, ok := strings.Cut(text, "*/")
			if !ok {
				return nil, &refusal{file, line, "opens a comment that does not end"}
			}
			line, text = line+strings.Count(body, "\n"), rest
		case c == '{' || c == '}' || c == ';':
			out, text = append(out, text[:1]), text[1:]
		case c == '"':
			end := strings.IndexAny(text[1:], "\"\n")
			if end < 0 || text[1+end] == '\n' {
				return nil, &refusal{file, line, "opens a quotation that it does not close"}
			}
			out, text = append(out, text[:end+2]), text[end+2:]
		default:
			end := strings.IndexAny(text, " \t\r\n{};\"")
			if end < 0 {
				end = len(text)
			}
			out, text = append(out, text[:end]), text[end:]
		}
	}
	return out, nil
}

// aptValue returns the last value that a file gives the key, compared without case as apt does.
func aptValue(file, text, key string) (value string, ok bool, err error) {
	tokens, err := aptTokens(file, text)
	if err != nil {
		return "", false, err
	}
	var scope, words []string
	for _, t := range tokens {
		switch t {
		case "{":
			if len(scope) > 50 {
				return "", false, &refusal{file, 0, "nests deeper than 50"}
			}
			scope, words = append(scope, strings.Join(words, "")), nil
		case "}":
			if len(scope) == 0 {
				return "", false, &refusal{file, 0, "closes a brace that it did not open"}
			}
			scope, words = scope[:len(scope)-1], nil
		case ";":
			if len(words) == 2 && strings.EqualFold(strings.Join(append(slices.Clone(scope), words[0]), "::"), key) {
				value, ok = strings.Trim(words[1], `"`), true
			}
			words = nil
		default:
			words = append(words, t)
		}
	}
	if len(scope) > 0 {
		return "", false, &refusal{file, 0, "does not close a brace"}
	}
	return value, ok, nil
}

// value is the one that holds: files of the directory by name, then /etc/apt/apt.conf.
func (p aptParams) value(s *Subject) (value, at string, err error) {
	value, at = p.Default, "default"
	files := slices.DeleteFunc(s.filesOf([]string{aptDir + "/*"}), func(q string) bool {
		ext := path.Ext(q)
		return ext != "" && ext != ".conf"
	})
	if main, ok := s.resolve("/etc/apt/apt.conf"); ok {
		files = append(files, main)
	}
	for _, q := range files {
		lines, err := s.confLines(q)
		if err != nil {
			return "", "", err
		}
		v, ok, err := aptValue(q, strings.Join(lines, "\n"), p.Key)
		if err != nil {
			return "", "", err
		}
		if ok {
			value, at = v, "/"+q
		}
	}
	return value, at, nil
}

func aptState(s *Subject, p aptParams) (Observation, error) {
	if !s.isDir(aptDir) {
		return absent("apt is not in the image"), nil
	}
	v, at, err := p.value(s)
	if err != nil {
		return refused(err)
	}
	if truth(v) == truth(p.Value) {
		return good(p.Key + " " + v + " at " + at), nil
	}
	return bad(strings.TrimSpace(p.Key+" "+v) + " at " + at), nil
}

// truth gives apt's ways to write yes and no one form.
func truth(v string) string {
	switch strings.ToLower(v) {
	case "1", "yes", "true", "on", "with", "enable":
		return "true"
	case "0", "no", "false", "off", "without", "disable":
		return "false"
	}
	return v
}

func aptApply(s *Subject, p aptParams) error {
	lines, err := s.confLines(aptDropIn)
	if err != nil {
		return err
	}
	if len(lines) == 0 {
		lines = []string{"// Hardening; made by kiln."}
	}
	return s.writeLines(aptDropIn, append(lines, p.Key+` "`+p.Value+`";`), 0o644)
}
