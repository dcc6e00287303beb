package strictyaml

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Kind is what a node is.
type Kind int

// Kinds of nodes. Text is a string, quoted or not; Number and Bool keep their
// text as it was written, so that a version 1.10 given for a text stays 1.10.
const (
	Mapping Kind = iota
	Sequence
	Text
	Number
	Bool
	Null
)

var kindNames = [...]string{"a mapping", "a list", "text", "a number", "true or false", "nothing"}

// String names the kind for a message.
func (k Kind) String() string { return kindNames[k] }

// Node is one value of a file with its place. Aliases are already replaced by
// copies of what they stand for.
type Node struct {
	Kind   Kind
	Line   int
	Column int
	Text   string // of Text, Number and Bool, as written
	Pairs  []Pair // of a mapping, in the file's order
	Items  []*Node
	// Expanded says that Text came from a variable, so that it may stand for a number too.
	Expanded bool
}

// Pair is one entry of a mapping.
type Pair struct {
	Key          string
	Line, Column int
	Value        *Node
}

// Get returns the value of key, or nil.
func (n *Node) Get(key string) *Node {
	for i := range n.Pairs {
		if n.Pairs[i].Key == key {
			return n.Pairs[i].Value
		}
	}
	return nil
}

// Scalar reports whether n is a text, number or bool.
func (n *Node) Scalar() bool { return n.Kind == Text || n.Kind == Number || n.Kind == Bool }

// Limits of a file.
const (
	MaxSize   = 1 << 20 // bytes
	maxDepth  = 64      // of nesting
	maxNodes  = 50_000  // after aliases are replaced
	maxMarks  = 100     // block indicators, tags or anchors on one line
	maxKeys   = 10_000  // in the whole file: the parser's time grows with their square
	maxTokens = 200_000
)

// Parse reads one YAML document of at most MaxSize bytes. name is the file's
// name in errors. Duplicate keys are all reported, so a returned node may come
// with an error.
func Parse(data []byte, name string) (*Node, error) {
	whole := func(format string, args ...any) (*Node, error) {
		return nil, Errors{{File: name, Message: fmt.Sprintf(format, args...)}}
	}
	switch {
	case len(data) > MaxSize:
		return whole("is larger than %d KiB", MaxSize>>10)
	case !utf8.Valid(data):
		return whole("is not UTF-8 text")
	case strings.ContainsRune(string(data), 0):
		return whole("contains a NUL byte, so it is no text file")
	}
	file, err := parseAST(data, name)
	if err != nil {
		return nil, err
	}
	if len(file.Docs) > 1 {
		return whole("holds %d documents; keep one (remove the --- between them)", len(file.Docs))
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return whole("is empty")
	}
	c := &converter{file: name, anchors: map[string]ast.Node{}}
	root := c.convert(file.Docs[0].Body, 0)
	return root, c.errs.Sorted()
}

// parseAST guards the parser: nesting is bounded before it recurses, and a
// panic on input it does not expect becomes an error of the file.
func parseAST(data []byte, name string) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			file, err = nil, Errors{{File: name, Message: fmt.Sprintf("cannot be read as YAML (%v)", p)}}
		}
	}()
	tokens := lexer.Tokenize(string(data))
	if err := boundTokens(tokens, name); err != nil {
		return nil, err
	}
	file, err = parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, Errors{syntaxError(err, name)}
	}
	return file, nil
}

func boundTokens(tokens token.Tokens, name string) error {
	depth, line, marks, keys := 0, 0, 0, 0
	for i, t := range tokens {
		switch t.Type {
		case token.MappingValueType:
			keys++
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType:
			if t.Position.Line != line {
				line, marks = t.Position.Line, 0
			}
			marks++
		}
		message := ""
		switch {
		case depth > maxDepth || marks > maxMarks:
			message = "is nested too deeply"
		case keys > maxKeys || i > maxTokens:
			message = "holds too many values"
		default:
			continue
		}
		return Errors{{File: name, Line: t.Position.Line, Column: t.Position.Column, Message: message}}
	}
	return nil
}

func syntaxError(err error, name string) *Error {
	e := &Error{File: name, Message: err.Error()}
	var located yaml.Error
	if errors.As(err, &located) {
		e.Message = located.GetMessage()
		if t := located.GetToken(); t != nil && t.Position != nil {
			e.Line, e.Column = t.Position.Line, t.Position.Column
		}
	}
	if strings.Contains(e.Message, "tab") || strings.Contains(e.Message, "'\t'") {
		e.Hint = "indent with spaces; YAML does not allow tabs"
	}
	return e
}

type converter struct {
	file    string
	anchors map[string]ast.Node
	open    []string // aliases being replaced, to refuse one within itself
	nodes   int
	errs    Errors
}

func (c *converter) fail(n ast.Node, message, hint string) *Node {
	line, column := position(n)
	c.errs = append(c.errs, &Error{File: c.file, Line: line, Column: column, Message: message, Hint: hint})
	return &Node{Kind: Null, Line: line, Column: column}
}

func position(n ast.Node) (line, column int) {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
		return position(m.Values[0].Key)
	}
	if m, ok := n.(*ast.MappingValueNode); ok {
		return position(m.Key)
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line, t.Position.Column
	}
	return 1, 1
}

func (c *converter) convert(n ast.Node, depth int) *Node {
	if c.nodes++; c.nodes > maxNodes || depth > maxDepth {
		if c.nodes == maxNodes+1 || depth > maxDepth {
			return c.fail(n, "holds too many values, counting what its aliases repeat", "write fewer aliases, or split the file")
		}
		return &Node{Kind: Null}
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return c.mapping(n, n.Values, depth)
	case *ast.MappingValueNode:
		return c.mapping(n, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		return c.sequence(n, depth)
	case *ast.AnchorNode:
		c.anchors[n.Name.GetToken().Value] = n.Value
		return c.convert(n.Value, depth+1)
	case *ast.AliasNode:
		return c.alias(n, depth)
	case *ast.TagNode, *ast.DirectiveNode:
		return c.fail(n, "tags and directives are not read here", "quote the value if it begins with ! or %")
	}
	return c.scalar(n)
}

func (c *converter) scalar(n ast.Node) *Node {
	line, column := position(n)
	out := &Node{Line: line, Column: column}
	switch n := n.(type) {
	case *ast.StringNode:
		out.Kind, out.Text = Text, n.Value
	case *ast.LiteralNode:
		out.Kind, out.Text = Text, n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		out.Kind, out.Text = Number, n.GetToken().Value
	case *ast.BoolNode:
		out.Kind, out.Text = Bool, n.GetToken().Value
	case *ast.NullNode:
		out.Kind = Null
	case *ast.MergeKeyNode:
		return c.fail(n, "merge keys (<<) are not read here", "write the fields out")
	default:
		return c.fail(n, "is a kind of YAML value that is not read here", "")
	}
	return out
}

func (c *converter) mapping(n ast.Node, values []*ast.MappingValueNode, depth int) *Node {
	line, column := position(n)
	out := &Node{Kind: Mapping, Line: line, Column: column}
	seen := map[string]int{}
	for _, v := range values {
		if v == nil || v.Key == nil {
			continue
		}
		key, ok := c.key(v.Key)
		if !ok {
			continue
		}
		keyLine, keyColumn := position(v.Key)
		if first, twice := seen[key]; twice {
			c.fail(v.Key, fmt.Sprintf("key %q stands twice in one mapping", Clip(key, 60)), fmt.Sprintf("the first is in line %d; keep one of them", first))
			continue
		}
		seen[key] = keyLine
		out.Pairs = append(out.Pairs, Pair{Key: key, Line: keyLine, Column: keyColumn, Value: c.child(v.Value, v.Key, depth)})
	}
	return out
}

func (c *converter) child(value, at ast.Node, depth int) *Node {
	if value == nil {
		line, column := position(at)
		return &Node{Kind: Null, Line: line, Column: column}
	}
	out := c.convert(value, depth+1)
	if out.Kind == Null { // an empty value has no place of its own
		out.Line, out.Column = position(at)
	}
	return out
}

func (c *converter) key(n ast.MapKeyNode) (string, bool) {
	switch k := ast.Node(n).(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return k.GetToken().Value, true
	case *ast.MergeKeyNode:
		c.fail(k, "merge keys (<<) are not read here", "write the fields out")
	default:
		c.fail(k, "a key must be plain text", "")
	}
	return "", false
}

func (c *converter) sequence(n *ast.SequenceNode, depth int) *Node {
	line, column := position(n)
	out := &Node{Kind: Sequence, Line: line, Column: column}
	for _, v := range n.Values {
		out.Items = append(out.Items, c.child(v, n, depth))
	}
	return out
}

func (c *converter) alias(n *ast.AliasNode, depth int) *Node {
	name := n.Value.GetToken().Value
	target, ok := c.anchors[name]
	if !ok {
		return c.fail(n, fmt.Sprintf("alias *%s has no anchor before it", Clip(name, 40)), fmt.Sprintf("quote the value if it should begin with *, or write &%s at the value meant", Clip(name, 40)))
	}
	for _, o := range c.open {
		if o == name {
			return c.fail(n, fmt.Sprintf("alias *%s stands within itself", Clip(name, 40)), "")
		}
	}
	c.open = append(c.open, name)
	defer func() { c.open = c.open[:len(c.open)-1] }()
	return c.convert(target, depth+1)
}
