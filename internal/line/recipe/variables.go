package recipe

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"kiln"
	"kiln/internal/strictyaml"
)

// variables returns the value of every variable of the recipe: the one given,
// else the default. It reports unknown and missing ones.
func variables(d *strictyaml.Decoder, root *strictyaml.Node, given map[string]string) map[string]string {
	values := map[string]string{}
	declared := &strictyaml.Node{Kind: strictyaml.Mapping}
	if n := root.Get("variables"); n != nil && n.Kind == strictyaml.Mapping {
		declared = n
	}
	for _, p := range declared.Pairs {
		value, ok := given[p.Key]
		if !ok {
			value, ok = defaultOf(d, p)
		}
		values[p.Key] = value
		if !ok {
			d.Fail(p.Value, "variables."+p.Key, "has no default and was not given a value", "give one with --var "+p.Key+"=VALUE, or add a default")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if declared.Get(name) == nil {
			d.Fail(root, "", fmt.Sprintf("--var %s: the recipe has no such variable", strictyaml.Clip(name, 60)), known(declared, name))
		}
	}
	return values
}

func known(declared *strictyaml.Node, name string) string {
	var names []string
	for _, p := range declared.Pairs {
		names = append(names, p.Key)
	}
	if near := strictyaml.Nearest(name, names); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	if len(names) == 0 {
		return "the recipe declares no variables; add it under variables:"
	}
	slices.Sort(names)
	return "its variables are " + strings.Join(names, ", ")
}

// defaultOf returns the default as written; variables do not refer to each other.
func defaultOf(d *strictyaml.Decoder, p strictyaml.Pair) (string, bool) {
	n := p.Value
	if n.Kind == strictyaml.Mapping {
		if n = n.Get("default"); n == nil {
			return "", false
		}
	}
	if !n.Scalar() {
		return "", true // the decoder says what is wrong with it
	}
	if strings.Contains(n.Text, "${") {
		d.Fail(n, "variables."+p.Key, "a default cannot use another variable", "write its value out")
	}
	return n.Text, true
}

// shellText are the places whose text is commonly shell or a program's
// configuration, where ${NAME} has a meaning of its own: there only declared
// variables are replaced and everything else is left as it stands.
var shellText = regexp.MustCompile(`^(steps\[\]\.run|files\[\]\.content|entrypoint|command|healthcheck\.command|tests\[\]\.run)([.\[].*)?$`)

var index = regexp.MustCompile(`\[\d+\]`)

// expand replaces variables in every text below n. Keys and the variables'
// own declarations are left alone.
func expand(d *strictyaml.Decoder, n *strictyaml.Node, path string, values map[string]string) {
	switch n.Kind {
	case strictyaml.Mapping:
		for _, p := range n.Pairs {
			if at := strictyaml.Join(path, p.Key); at != "variables" {
				expand(d, p.Value, at, values)
			}
		}
	case strictyaml.Sequence:
		for i, item := range n.Items {
			expand(d, item, fmt.Sprintf("%s[%d]", path, i), values)
		}
	case strictyaml.Text:
		if strings.Contains(n.Text, "${") {
			expandText(d, n, path, values)
		}
	}
}

func expandText(d *strictyaml.Decoder, n *strictyaml.Node, path string, values map[string]string) {
	lenient := shellText.MatchString(index.ReplaceAllString(path, "[]"))
	var out strings.Builder
	rest := n.Text
	for {
		i := strings.Index(rest, "${")
		if i < 0 {
			break
		}
		if i > 0 && rest[i-1] == '$' { // $${ is a literal ${
			out.WriteString(rest[:i-1] + "${")
			rest = rest[i+2:]
			continue
		}
		out.WriteString(rest[:i])
		rest = rest[i:]
		name, _, closed := strings.Cut(rest[2:], "}")
		value, declared := values[name]
		switch {
		case closed && declared:
			out.WriteString(value)
			rest = rest[len(name)+3:]
			n.Expanded = true
			continue
		case !lenient:
			undefined(d, n, path, name, closed, values)
		}
		out.WriteString("${")
		rest = rest[2:]
	}
	out.WriteString(rest)
	if n.Text = out.String(); len(n.Text) > strictyaml.MaxSize {
		d.Fail(n, path, "is larger than 1 MiB with its variables replaced", "")
		n.Text = ""
	}
}

func undefined(d *strictyaml.Decoder, n *strictyaml.Node, path, name string, closed bool, values map[string]string) {
	if !closed || !kiln.ValidVariable(name) {
		d.Fail(n, path, "${ does not begin a variable here", "write ${NAME} for a variable, $${ for the two characters themselves")
		return
	}
	hint := "declare it under variables:, or write $${" + name + "} for the text itself"
	if names := slices.Sorted(maps.Keys(values)); len(names) > 0 {
		hint = "the recipe's variables are " + strings.Join(names, ", ") + "; write $${" + name + "} for the text itself"
		if near := strictyaml.Nearest(name, names); near != "" {
			hint = fmt.Sprintf("did you mean ${%s}?", near)
		}
	}
	d.Fail(n, path, fmt.Sprintf("variable %s is not defined", strictyaml.Clip(name, 60)), hint)
}
