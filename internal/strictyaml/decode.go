package strictyaml

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Position is a place in a file, from 1.
type Position struct{ Line, Column int }

// Decoder fills Go values from nodes by their yaml tags, and remembers where
// every field stood, so that rules checked later can name the place too.
type Decoder struct {
	File string
	// Hooks read the shorthand forms of a type; a hook that returns false leaves the node to the usual rules.
	Hooks map[reflect.Type]Hook

	errs  Errors
	where map[string]Position
}

// Hook fills v from n when n has a shorthand form.
type Hook func(d *Decoder, n *Node, v reflect.Value, path string) bool

// Decode fills into, a pointer to a struct. Errors are collected; see Err.
func (d *Decoder) Decode(n *Node, into any) {
	d.where = map[string]Position{}
	d.Value(n, reflect.ValueOf(into).Elem(), "")
}

// Err returns all errors so far in the order of their places, or nil.
func (d *Decoder) Err() error { return d.errs.Sorted() }

// Fail records an error at a node.
func (d *Decoder) Fail(n *Node, path, message, hint string) {
	d.errs = append(d.errs, &Error{File: d.File, Line: n.Line, Column: n.Column, Field: path, Message: message, Hint: hint})
}

// FailAt records an error about a field by its path; the place is the field's, or that of the nearest field around it.
func (d *Decoder) FailAt(path, message, hint string) {
	at := d.Where(path)
	d.errs = append(d.errs, &Error{File: d.File, Line: at.Line, Column: at.Column, Field: path, Message: message, Hint: hint})
}

// Where returns the place of the field with that path, or of the nearest one around it.
func (d *Decoder) Where(path string) Position {
	for p := path; ; {
		if at, ok := d.where[p]; ok {
			return at
		}
		cut := strings.LastIndexAny(p, ".[")
		if cut < 0 {
			return d.where[""]
		}
		p = p[:cut]
	}
}

// Value fills v from n; path names it in errors.
func (d *Decoder) Value(n *Node, v reflect.Value, path string) {
	if _, seen := d.where[path]; !seen {
		d.where[path] = Position{n.Line, n.Column}
	}
	if n.Kind == Null {
		d.Fail(n, path, "has no value", "give it one, or remove the line")
		return
	}
	if hook := d.Hooks[v.Type()]; hook != nil && hook(d, n, v, path) {
		return
	}
	if v.Kind() == reflect.Pointer {
		target := reflect.New(v.Type().Elem())
		d.Value(n, target.Elem(), path)
		v.Set(target)
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(n, u, path)
		return
	}
	d.kind(n, v, path)
}

func (d *Decoder) kind(n *Node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	case reflect.String:
		if !n.Scalar() {
			d.wrong(n, path, "text")
			return
		}
		v.SetString(n.Text)
	case reflect.Int, reflect.Int64:
		d.integer(n, v, path)
	case reflect.Bool:
		d.boolean(n, v, path)
	default:
		d.Fail(n, path, "internal error: no way to read "+v.Type().String(), "")
	}
}

func (d *Decoder) wrong(n *Node, path, want string) {
	found := n.Kind.String()
	if n.Scalar() {
		found = fmt.Sprintf("%s (%s)", found, Clip(strings.SplitN(n.Text, "\n", 2)[0], 40))
	}
	d.Fail(n, path, fmt.Sprintf("must be %s, found %s", want, found), "")
}

func (d *Decoder) text(n *Node, u encoding.TextUnmarshaler, path string) {
	if !n.Scalar() {
		d.wrong(n, path, "text")
		return
	}
	if err := u.UnmarshalText([]byte(n.Text)); err != nil {
		d.Fail(n, path, err.Error(), "")
	}
}

func (d *Decoder) integer(n *Node, v reflect.Value, path string) {
	i, err := strconv.ParseInt(n.Text, 10, 64)
	if n.Kind != Number && !n.Expanded || err != nil {
		d.wrong(n, path, "a whole number")
		return
	}
	if v.OverflowInt(i) {
		d.Fail(n, path, "is too large a number", "")
		return
	}
	v.SetInt(i)
}

func (d *Decoder) boolean(n *Node, v reflect.Value, path string) {
	if n.Kind != Bool && !n.Expanded || n.Text != "true" && n.Text != "false" {
		d.wrong(n, path, "true or false")
		return
	}
	v.SetBool(n.Text == "true")
}

// list accepts a single text where a list of texts is wanted: match: "OK" is match: ["OK"].
func (d *Decoder) list(n *Node, v reflect.Value, path string) {
	if n.Scalar() && v.Type().Elem().Kind() == reflect.String {
		v.Set(reflect.ValueOf([]string{n.Text}))
		return
	}
	if n.Kind != Sequence {
		d.wrong(n, path, "a list")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Items), len(n.Items))
	for i, item := range n.Items {
		d.Value(item, out.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(out)
}

func (d *Decoder) mapping(n *Node, v reflect.Value, path string) {
	if n.Kind != Mapping {
		d.wrong(n, path, "a mapping")
		return
	}
	out := reflect.MakeMap(v.Type())
	for _, p := range n.Pairs {
		value := reflect.New(v.Type().Elem()).Elem()
		at := Join(path, p.Key)
		d.where[at] = Position{p.Line, p.Column}
		d.Value(p.Value, value, at)
		out.SetMapIndex(reflect.ValueOf(p.Key), value)
	}
	v.Set(out)
}

func (d *Decoder) structure(n *Node, v reflect.Value, path string) {
	if n.Kind != Mapping {
		d.wrong(n, path, "a mapping")
		return
	}
	fields := map[string]reflect.Value{}
	collect(v, fields)
	for _, p := range n.Pairs {
		at := Join(path, p.Key)
		field, ok := fields[p.Key]
		if !ok {
			names := make([]string, 0, len(fields))
			for name := range fields {
				names = append(names, name)
			}
			d.errs = append(d.errs, &Error{File: d.File, Line: p.Line, Column: p.Column, Field: at, Message: "unknown field", Hint: didYouMean(p.Key, names)})
			continue
		}
		d.where[at] = Position{p.Line, p.Column}
		d.Value(p.Value, field, at)
	}
}

func collect(v reflect.Value, into map[string]reflect.Value) {
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			collect(v.Field(i), into)
		case name != "" && name != "-":
			into[name] = v.Field(i)
		}
	}
}

// Join appends a key to a path.
func Join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
