package kiln

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// APIVersion is the schema version of every document written by this package.
const APIVersion = "kiln/v1"

// Header begins every stored document.
type Header struct {
	APIVersion string `json:"apiVersion" yaml:"apiVersion"`
	Kind       string `json:"kind" yaml:"kind"`
}

// NewHeader returns the header of a document of this version.
func NewHeader(kind string) Header { return Header{APIVersion: APIVersion, Kind: kind} }

func (h Header) check(kind string) error {
	if h.APIVersion != APIVersion {
		return fmt.Errorf("apiVersion is %q, this program reads %q", clip(h.APIVersion, 40), APIVersion)
	}
	if h.Kind != kind {
		return fmt.Errorf("kind is %q, expected %q", clip(h.Kind, 40), kind)
	}
	return nil
}

// Document is what can be stored: it knows whether it is complete.
type Document interface{ Validate() error }

// Encode validates doc and returns its canonical encoding.
func Encode(doc Document) ([]byte, error) {
	if err := doc.Validate(); err != nil {
		return nil, err
	}
	return Canonical(doc)
}

// Decode reads one canonical or plain JSON document into doc, refuses unknown
// fields, duplicate keys and trailing data, and validates the result.
func Decode(data []byte, doc Document) error {
	if _, err := parseJSON(data); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(doc); err != nil {
		return fmt.Errorf("reading document: %w", err)
	}
	return doc.Validate()
}

// DigestOf returns the digest of v's canonical encoding.
func DigestOf(v any) (Digest, error) {
	b, err := Canonical(v)
	if err != nil {
		return "", err
	}
	return DigestBytes(b), nil
}

// Canonical encodes v as RFC 8785 (JSON Canonicalization Scheme): keys sorted
// by UTF-16 code units, no white space, numbers as ECMAScript prints them.
func Canonical(v any) ([]byte, error) {
	var plain bytes.Buffer
	enc := json.NewEncoder(&plain)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding document: %w", err)
	}
	return CanonicalJSON(plain.Bytes())
}

// CanonicalJSON rewrites any JSON text canonically; duplicate keys, invalid
// UTF-8 and trailing data are errors.
func CanonicalJSON(data []byte) ([]byte, error) {
	v, err := parseJSON(data)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := writeCanonical(&out, v); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// maxDepth bounds nesting, so that hostile input cannot exhaust the stack.
const maxDepth = 200

type member struct {
	key   string
	value any
}

func parseJSON(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("JSON text is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := parseValue(dec, 0)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // between tokens, or inside one
		return nil, errors.New("reading JSON: it ends too early")
	}
	if err != nil {
		return nil, fmt.Errorf("reading JSON: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("reading JSON: data after the document")
	}
	return v, nil
}

func parseValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch tok {
	case json.Delim('{'):
		return parseObject(dec, depth)
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := parseValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := dec.Token()
		return list, err
	}
	return tok, nil
}

func parseObject(dec *json.Decoder, depth int) (any, error) {
	seen := map[string]bool{}
	members := []member{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key := tok.(string)
		if seen[key] {
			return nil, fmt.Errorf("key %q stands twice in one object", clip(key, 60))
		}
		seen[key] = true
		v, err := parseValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		members = append(members, member{key, v})
	}
	_, err := dec.Token()
	return members, err
}

func writeCanonical(out *bytes.Buffer, v any) error {
	switch v := v.(type) {
	case nil:
		out.WriteString("null")
	case bool:
		out.WriteString(strconv.FormatBool(v))
	case string:
		writeString(out, v)
	case json.Number:
		return writeNumber(out, v)
	case []any:
		out.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				out.WriteByte(',')
			}
			if err := writeCanonical(out, e); err != nil {
				return err
			}
		}
		out.WriteByte(']')
	case []member:
		return writeObject(out, v)
	default:
		return fmt.Errorf("internal error: %T in JSON", v)
	}
	return nil
}

func writeObject(out *bytes.Buffer, members []member) error {
	slices.SortFunc(members, func(a, b member) int {
		return slices.Compare(utf16.Encode([]rune(a.key)), utf16.Encode([]rune(b.key)))
	})
	out.WriteByte('{')
	for i, m := range members {
		if i > 0 {
			out.WriteByte(',')
		}
		writeString(out, m.key)
		out.WriteByte(':')
		if err := writeCanonical(out, m.value); err != nil {
			return err
		}
	}
	out.WriteByte('}')
	return nil
}

func writeString(out *bytes.Buffer, s string) {
	const hexDigits = "0123456789abcdef"
	out.WriteByte('"')
	for _, r := range s {
		switch r {
		case '"', '\\':
			out.WriteByte('\\')
			out.WriteRune(r)
		case '\b':
			out.WriteString(`\b`)
		case '\f':
			out.WriteString(`\f`)
		case '\n':
			out.WriteString(`\n`)
		case '\r':
			out.WriteString(`\r`)
		case '\t':
			out.WriteString(`\t`)
		default:
			if r < 0x20 {
				out.WriteString(`\u00`)
				out.WriteByte(hexDigits[r>>4])
				out.WriteByte(hexDigits[r&15])
			} else {
				out.WriteRune(r)
			}
		}
	}
	out.WriteByte('"')
}

// maxExact is the largest integer that every JSON reader keeps exactly.
const maxExact = 1 << 53

func writeNumber(out *bytes.Buffer, n json.Number) error {
	if i, err := strconv.ParseInt(n.String(), 10, 64); err == nil && i <= maxExact && i >= -maxExact {
		out.WriteString(strconv.FormatInt(i, 10))
		return nil
	}
	f, err := n.Float64()
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return fmt.Errorf("number %s cannot be kept exactly; write it as a string", clip(n.String(), 40))
	}
	out.WriteString(es6Number(f))
	return nil
}

// es6Number prints f as ECMAScript's Number.prototype.toString does (RFC 8785, section 3.2.2.3).
func es6Number(f float64) string {
	if f == 0 {
		return "0"
	}
	format := byte('f')
	if abs := math.Abs(f); abs < 1e-6 || abs >= 1e21 {
		format = 'e'
	}
	s := strconv.FormatFloat(f, format, -1, 64)
	if format == 'e' {
		mantissa, exp, _ := strings.Cut(s, "e")
		sign, digits := exp[:1], strings.TrimLeft(exp[1:], "0")
		s = mantissa + "e" + sign + digits
	}
	return s
}
