package judged

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// params are a setting's parameters.
type params map[string]any

func (p params) text(key string) string { s, _ := p[key].(string); return s }

func (p params) list(key string) []string {
	var out []string
	if l, ok := p[key].([]any); ok {
		for _, v := range l {
			out = append(out, v.(string))
		}
	}
	return out
}

// accepts compares what a program says with what the setting wants. It is written anew here: a mistake of the kinds'
// own comparison must show.
func (p params) accepts(seen string) bool {
	want := p.text("value")
	if remove := p.list("remove"); len(remove) > 0 {
		return seen != "" && !slices.ContainsFunc(strings.Split(seen, ","), func(item string) bool {
			return slices.ContainsFunc(remove, func(pattern string) bool { ok, _ := path.Match(pattern, item); return ok })
		})
	}
	n, err := strconv.Atoi(seen)
	w, _ := strconv.Atoi(want)
	switch p.text("accept") {
	case "at-least":
		return err == nil && n >= w
	case "at-most":
		return err == nil && n >= 0 && n <= w
	case "one-to":
		return err == nil && n >= 1 && n <= w
	case "zero-or-at-least":
		return err == nil && (n == 0 || n >= w)
	case "negative":
		return err == nil && n < 0
	case "umask":
		have, _ := strconv.ParseUint(seen, 8, 32)
		bits, _ := strconv.ParseUint(want, 8, 32)
		return seen != "" && have&bits == bits
	}
	return strings.EqualFold(seen, want) || slices.ContainsFunc(p.list("others"), func(o string) bool { return strings.EqualFold(o, seen) })
}

// lines that begin with a word, without it: "key value" tables.
func table(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), " ")
		out[strings.ToLower(k)] = strings.TrimSpace(v)
	}
	return out
}
