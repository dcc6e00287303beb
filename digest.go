package kiln

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Digest names content by its SHA-256: "sha256:" and 64 lower-case hex digits.
type Digest string

const digestPrefix = "sha256:"

// DigestBytes returns the digest of b.
func DigestBytes(b []byte) Digest {
	sum := sha256.Sum256(b)
	return DigestSum(sum[:])
}

// DigestSum returns the digest for a finished SHA-256 sum of 32 bytes.
func DigestSum(sum []byte) Digest { return Digest(digestPrefix + hex.EncodeToString(sum)) }

// ParseDigest accepts "sha256:hex" or bare hex of 64 digits.
func ParseDigest(s string) (Digest, error) {
	d := Digest(s)
	if !strings.HasPrefix(s, digestPrefix) {
		d = Digest(digestPrefix + s)
	}
	if err := d.Validate(); err != nil {
		return "", err
	}
	return d, nil
}

// Validate reports whether d has the form of a SHA-256 digest.
func (d Digest) Validate() error {
	hexPart, ok := strings.CutPrefix(string(d), digestPrefix)
	if !ok || len(hexPart) != 64 || strings.Trim(hexPart, "0123456789abcdef") != "" {
		return fmt.Errorf("digest %q is not sha256: and 64 lower-case hex digits", clip(string(d), 90))
	}
	return nil
}

// Hex returns the digits after the algorithm.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), digestPrefix) }

// Short returns the first twelve digits, for people.
func (d Digest) Short() string { return clip(d.Hex(), 12) }

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
