package component

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// encoding is a way to write text: the width of its units and their order.
type encoding struct {
	width int
	order binary.ByteOrder
}

// parseEncoding knows utf8, utf16 and utf32 with -LE and -BE, in any case and with or without the dash; little-endian unless said.
func parseEncoding(name string) (encoding, error) {
	s := strings.ReplaceAll(strings.ToLower(name), "-", "")
	order := binary.ByteOrder(binary.LittleEndian)
	if base, ok := strings.CutSuffix(s, "be"); ok {
		s, order = base, binary.BigEndian
	} else {
		s = strings.TrimSuffix(s, "le")
	}
	switch s {
	case "", "utf8":
		return encoding{1, order}, nil
	case "utf16":
		return encoding{2, order}, nil
	case "utf32":
		return encoding{4, order}, nil
	}
	return encoding{}, fmt.Errorf("unknown encoding %q; utf-8, utf-16 and utf-32 are known, with -LE or -BE", name)
}

func encodeText(text, name string) ([]byte, error) {
	e, err := parseEncoding(name)
	if err != nil {
		return nil, err
	}
	var out []byte
	switch e.width {
	case 1:
		return []byte(text), nil
	case 2:
		for _, u := range utf16.Encode([]rune(text)) {
			out = append16(out, e.order, u)
		}
	case 4:
		for _, r := range text {
			out = append32(out, e.order, uint32(r))
		}
	}
	return out, nil
}

func append16(out []byte, order binary.ByteOrder, u uint16) []byte {
	var b [2]byte
	order.PutUint16(b[:], u)
	return append(out, b[:]...)
}

func append32(out []byte, order binary.ByteOrder, u uint32) []byte {
	var b [4]byte
	order.PutUint32(b[:], u)
	return append(out, b[:]...)
}

// decodeText reads text; a byte order mark is dropped.
func decodeText(data []byte, name string) (string, error) {
	e, err := parseEncoding(name)
	if err != nil {
		return "", err
	}
	if len(data)%e.width != 0 {
		return "", fmt.Errorf("its size is no multiple of %d bytes, so it is not %s", e.width, name)
	}
	var runes []rune
	switch e.width {
	case 1:
		if !utf8.Valid(data) {
			return "", errors.New("it is not UTF-8 text")
		}
		return strings.TrimPrefix(string(data), "\uFEFF"), nil
	case 2:
		units := make([]uint16, len(data)/2)
		for i := range units {
			units[i] = e.order.Uint16(data[2*i:])
		}
		runes = utf16.Decode(units)
	case 4:
		for i := 0; i < len(data); i += 4 {
			u := e.order.Uint32(data[i:])
			if u > utf8.MaxRune {
				return "", fmt.Errorf("it is not %s text", name)
			}
			runes = append(runes, rune(u))
		}
	}
	return strings.TrimPrefix(string(runes), "\uFEFF"), nil
}
