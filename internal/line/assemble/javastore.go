package assemble

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the format's own checksum
	"encoding/binary"
	"fmt"
	"unicode/utf16"
)

// javaStore is where ca-certificates-java collects the system's certificates,
// each with the time at which it was added.
const javaStore = "etc/ssl/certs/java/cacerts"

const (
	jksMagic    = 0xfeedfeed
	jksVersion  = 2
	jksTrusted  = 2 // tag of an entry that is a certificate, not a key
	jksPassword = "changeit"
	// jksWhitening is mixed into the checksum by every implementation of the format.
	jksWhitening = "Mighty Aphrodite"
	maxJavaStore = 16 << 20
)

// clampJavaStore gives certificates that were added after epoch that time. A
// store in another format or with another password is somebody's own and stays.
func clampJavaStore(at *place, epoch int64) error {
	data, err := at.read(javaStore, maxJavaStore)
	if err != nil {
		return nil // none, or a link to the user's own
	}
	fixed, ok := clampJKS(data, epoch*1000)
	if !ok || bytes.Equal(fixed, data) {
		return nil
	}
	if err := at.rewrite(javaStore, fixed, 0o644); err != nil {
		return fmt.Errorf("setting times in the Java key store: %w", err)
	}
	return nil
}

// clampJKS returns the store with no date after latest (milliseconds); false if it cannot be read.
func clampJKS(data []byte, latest int64) ([]byte, bool) {
	if len(data) < 12+sha1.Size {
		return nil, false
	}
	body, sum := data[:len(data)-sha1.Size], data[len(data)-sha1.Size:]
	if !bytes.Equal(jksSum(body), sum) {
		return nil, false
	}
	body = bytes.Clone(body)
	r := jksReader{data: body}
	if r.number(4) != jksMagic || r.number(4) != jksVersion {
		return nil, false
	}
	for n := r.number(4); n > 0 && !r.bad; n-- {
		if r.number(4) != jksTrusted {
			return nil, false
		}
		r.skip(r.number(2)) // alias
		date := r.at
		if ms := r.number(8); !r.bad && int64(ms) > latest {
			binary.BigEndian.PutUint64(body[date:], uint64(latest))
		}
		r.skip(r.number(2)) // certificate type
		r.skip(r.number(4)) // certificate
	}
	if r.bad || r.at != len(body) {
		return nil, false
	}
	return append(body, jksSum(body)...), true
}

// jksSum is the checksum at the end: of password, whitening and content.
func jksSum(body []byte) []byte {
	h := sha1.New() //nolint:gosec // see the import
	for _, c := range utf16.Encode([]rune(jksPassword)) {
		h.Write([]byte{byte(c >> 8), byte(c)})
	}
	h.Write([]byte(jksWhitening))
	h.Write(body)
	return h.Sum(nil)
}

// jksReader reads big-endian numbers; past the end everything is bad.
type jksReader struct {
	data []byte
	at   int
	bad  bool
}

func (r *jksReader) number(size int) uint64 {
	start := r.at
	r.skip(uint64(size))
	var n uint64
	if !r.bad {
		for _, b := range r.data[start:r.at] {
			n = n<<8 | uint64(b)
		}
	}
	return n
}

func (r *jksReader) skip(n uint64) {
	if r.bad || n > uint64(len(r.data)-r.at) {
		r.bad = true
		return
	}
	r.at += int(n)
}
