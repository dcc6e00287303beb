package assemble

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func jks(dates ...int64) []byte {
	b := binary.BigEndian.AppendUint32(nil, jksMagic)
	b = binary.BigEndian.AppendUint32(b, jksVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(len(dates)))
	for _, d := range dates {
		b = binary.BigEndian.AppendUint32(b, jksTrusted)
		b = append(b, 0, 5, 'a', 'l', 'i', 'a', 's')
		b = binary.BigEndian.AppendUint64(b, uint64(d))
		b = append(b, 0, 5, 'X', '.', '5', '0', '9', 0, 0, 0, 3, 1, 2, 3)
	}
	return append(b, jksSum(b)...)
}

func TestClampJKS(t *testing.T) {
	got, ok := clampJKS(jks(5, 2000, 9000), 2000)
	if !ok || !bytes.Equal(got, jks(5, 2000, 2000)) {
		t.Errorf("got %x, %v", got, ok)
	}
	whole := jks(1, 2)
	for name, data := range map[string][]byte{
		"empty": nil, "another password": append(bytes.Clone(whole[:len(whole)-1]), 0), "no key store": bytes.Repeat([]byte{1}, 64),
		"truncated": func() []byte { b := whole[:len(whole)-24]; return append(bytes.Clone(b), jksSum(b)...) }(),
		"more than it says": func() []byte {
			b := append(bytes.Clone(whole[:len(whole)-20]), 1)
			return append(b, jksSum(b)...)
		}(),
	} {
		if _, ok := clampJKS(data, 1); ok {
			t.Errorf("%s: was taken for a key store", name)
		}
	}
}
