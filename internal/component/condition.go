package component

import (
	"crypto/md5"  //nolint:gosec // named by the document format, for comparing files
	"crypto/sha1" //nolint:gosec // named by the document format, for comparing files
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/big"
	"os"
	"path"
	"regexp"
	"strings"

	"kiln/internal/strictyaml"
)

// operators name the second field of each comparison, "" for none.
var operators = map[string]string{
	"stringIsEmpty": "", "stringIsWhitespace": "",
	"stringEquals": "value", "stringLessThan": "value", "stringLessThanEquals": "value", "stringGreaterThan": "value", "stringGreaterThanEquals": "value",
	"patternMatches": "value",
	"numberEquals":   "value", "numberLessThan": "value", "numberLessThanEquals": "value", "numberGreaterThan": "value", "numberGreaterThanEquals": "value",
	"binaryExists": "", "fileExists": "", "folderExists": "",
	"fileMD5Equals": "path", "fileSHA1Equals": "path", "fileSHA256Equals": "path", "fileSHA512Equals": "path",
}

var stepActions = []string{"Execute", "Skip", "Abort"}

// condition reads an if: one operator, with then and else beside it.
func (r *reader) condition(at string, n *strictyaml.Node) *condition {
	c := &condition{then: "Execute", otherwise: "Skip"}
	if n.Kind == strictyaml.Sequence && len(n.Items) == 1 { // the guide's syntax line shows it as a list of one
		n = n.Items[0]
	}
	if n.Kind != strictyaml.Mapping {
		r.fail(n, at, "must be a mapping with one operator", "")
		return c
	}
	test := *n
	test.Pairs = nil
	for _, p := range n.Pairs {
		switch p.Key {
		case "then":
			c.then = r.oneOf(p.Value, at+".then", stepActions...)
		case "else":
			c.otherwise = r.oneOf(p.Value, at+".else", stepActions...)
		default:
			test.Pairs = append(test.Pairs, p)
		}
	}
	c.test = &test
	r.expression(at, &test, 0)
	return c
}

func (r *reader) assert(at string, n *strictyaml.Node, s *Step) {
	if s.inputs == nil {
		r.fail(n, at+".inputs", "is missing", "")
		return
	}
	if s.inputs.Kind == strictyaml.Sequence {
		r.items(s.inputs, at+".inputs", func(at string, v *strictyaml.Node) { r.expression(at, v, 0) })
		return
	}
	r.expression(at+".inputs", s.inputs, 0)
}

// expression checks one operator and what stands with it.
func (r *reader) expression(at string, n *strictyaml.Node, depth int) {
	if n.Kind != strictyaml.Mapping {
		r.fail(n, at, "must be a mapping with one operator", "")
		return
	}
	name := operatorOf(n)
	switch {
	case depth > maxCondition:
		r.fail(n, at, fmt.Sprintf("and, or and not are nested deeper than %d", maxCondition), "")
	case name == "and" || name == "or":
		r.items(n.Get(name), at+"."+name, func(at string, v *strictyaml.Node) { r.expression(at, v, depth+1) })
		r.fields(n, at, []string{name}, func(string, *strictyaml.Node) {})
	case name == "not":
		r.expression(at+".not", n.Get(name), depth+1)
		r.fields(n, at, []string{name}, func(string, *strictyaml.Node) {})
	case name == "":
		r.operator(at, n)
	default:
		r.comparison(at, n, name)
	}
}

// operatorOf returns the operator among n's keys; the guide spells some with a small letter inside, so case is ignored.
func operatorOf(n *strictyaml.Node) string {
	for _, p := range n.Pairs {
		if p.Key == "and" || p.Key == "or" || p.Key == "not" || canonical(p.Key) != "" {
			return p.Key
		}
	}
	return ""
}

func canonical(key string) string {
	for name := range operators {
		if strings.EqualFold(name, key) {
			return name
		}
	}
	return ""
}

func (r *reader) operator(at string, n *strictyaml.Node) {
	names := []string{"and", "or", "not"}
	for name := range operators {
		names = append(names, name)
	}
	hint := ""
	for _, p := range n.Pairs {
		if near := strictyaml.Nearest(p.Key, names); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
			break
		}
	}
	r.fail(n, at, "has no operator", hint)
}

func (r *reader) comparison(at string, n *strictyaml.Node, key string) {
	name := canonical(key)
	known := []string{key}
	second := operators[name]
	if second != "" {
		known = append(known, second)
		if n.Get(second) == nil {
			r.fail(n, at+"."+second, "is missing", "")
		}
	}
	r.fields(n, at, known, func(k string, v *strictyaml.Node) { r.text(v, at+"."+k) })
	if pattern := n.Get(key); name == "patternMatches" && !strings.Contains(pattern.Text, "{{") {
		if _, err := regexp.Compile(pattern.Text); err != nil {
			r.fail(pattern, at+"."+key, "is no regular expression (RE2)", "")
		}
	}
}

// holds evaluates an expression. An error means that it could not be evaluated.
func (x *run) holds(n *strictyaml.Node) (bool, error) {
	name := operatorOf(n)
	switch name {
	case "and", "or":
		for _, item := range n.Get(name).Items {
			ok, err := x.holds(item)
			if err != nil || ok == (name == "or") {
				return ok, err
			}
		}
		return name == "and", nil
	case "not":
		ok, err := x.holds(n.Get(name))
		return !ok && err == nil, err
	}
	want, err := x.resolve(n.Get(name).Text)
	if err != nil {
		return false, err
	}
	second := ""
	if key := operators[canonical(name)]; key != "" {
		if second, err = x.resolve(n.Get(key).Text); err != nil {
			return false, err
		}
	}
	return x.compare(canonical(name), want, second)
}

func (x *run) compare(name, want, second string) (bool, error) {
	switch {
	case name == "stringIsEmpty":
		return want == "", nil
	case name == "stringIsWhitespace":
		return want != "" && strings.TrimSpace(want) == "", nil
	case name == "stringEquals": // exact, as the guide's examples show
		return second == want, nil
	case name == "patternMatches":
		re, err := regexp.Compile(want)
		if err != nil {
			return false, fmt.Errorf("patternMatches: %w", err)
		}
		return re.MatchString(second), nil
	case strings.HasPrefix(name, "string"):
		return ordered(strings.TrimPrefix(name, "string"), strings.Compare(strings.ToLower(second), strings.ToLower(want))), nil
	case strings.HasPrefix(name, "number"):
		a, okA := number(second)
		b, okB := number(want)
		return okA && okB && ordered(strings.TrimPrefix(name, "number"), a.Cmp(b)), nil
	case name == "binaryExists":
		return x.binaryExists(want), nil
	case name == "fileExists":
		info, err := x.stat(want)
		return err == nil && info.Mode().IsRegular(), nil
	case name == "folderExists":
		info, err := x.stat(want)
		return err == nil && info.IsDir(), nil
	}
	return x.hashEquals(name, want, second)
}

// ordered says whether the variable value, compared with the baseline, has the order that the operator asks for.
func ordered(operator string, order int) bool {
	switch operator {
	case "Equals":
		return order == 0
	case "LessThan":
		return order < 0
	case "LessThanEquals":
		return order <= 0
	case "GreaterThan":
		return order > 0
	}
	return order >= 0
}

var numberForm = regexp.MustCompile(`^[-+]?([0-9]+[.])?[0-9]+$`)

func number(s string) (*big.Float, bool) {
	if !numberForm.MatchString(s) || len(s) > 400 {
		return nil, false
	}
	f, ok := new(big.Float).SetString(s)
	return f, ok
}

// searchPath is where binaryExists looks, and the PATH of commands.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func (x *run) binaryExists(name string) bool {
	if strings.Contains(name, "/") {
		info, err := x.stat(name)
		return err == nil && executable(info)
	}
	for _, dir := range strings.Split(searchPath, ":") {
		if info, err := x.stat(path.Join(dir, name)); err == nil && executable(info) {
			return true
		}
	}
	return false
}

func executable(info os.FileInfo) bool { return info.Mode().IsRegular() && info.Mode()&0o111 != 0 }

func (x *run) hashEquals(name, want, file string) (bool, error) {
	sums := map[string]func() hash.Hash{"fileMD5Equals": md5.New, "fileSHA1Equals": sha1.New, "fileSHA256Equals": sha256.New, "fileSHA512Equals": sha512.New}
	f, err := x.open(file)
	if err != nil {
		return false, nil // no file, no equal content
	}
	defer f.Close()
	sum := sums[name]()
	if _, err := io.Copy(sum, f); err != nil {
		return false, fmt.Errorf("reading %s: %w", file, err)
	}
	return strings.EqualFold(hex.EncodeToString(sum.Sum(nil)), want), nil
}
