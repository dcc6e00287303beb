package admit

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kiln"
	"kiln/internal/pgp"
	"kiln/internal/strictyaml"
)

// rootSpec is a trust root as it is written: exactly one of OpenPGP (or
// Fingerprints alone), PublicKey, Self and Digest.
type rootSpec struct {
	// OpenPGP is "builtin" or the path of a keyring.
	OpenPGP string `yaml:"openpgp"`
	// Fingerprints are primary keys; they narrow a keyring, or stand alone.
	Fingerprints []string `yaml:"fingerprints"`
	// PublicKey is the path of a PEM file (PKIX); Valid its first and last day as FROM..UNTIL.
	PublicKey string `yaml:"public_key"`
	Valid     string `yaml:"valid"`
	// Self is a role of this factory, "release".
	Self string `yaml:"self"`
	// Digest is "pinned": accepts inputs of which only the digest is known.
	Digest string `yaml:"digest"`
}

// root is a trust root ready for use.
type root struct {
	fingerprints []string // OpenPGP, primary keys
	key          kiln.Digest
	from, until  time.Time // of key; zero means without end
	self         string
	pinned       bool
}

// builtin are the primary keys that sign a distribution's archives. A root has
// the distribution's name.
var builtin = map[string][]string{
	"debian": {
		"B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8", // archive, 12
		"05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0", // security archive, 12
		"4D64FEC119C2029067D6E791F8D2585B8783D481", // stable release, 12
		"04B54C3CDCA79751B16BC6B5225629DF75B188BD", // archive, 13
		"5E04A1E3223A19A20706E20F9904613D4CCE68C6", // security archive, 13
		"41587F7DB8C774BCCF131416762F67A0B2C39DE4", // stable release, 13
	},
	"ubuntu": {
		"790BC7277767219C42C86F933B4FE6ACC0B21F32", // archive, 2012
		"F6ECB3762474EDA9D21B7022871920D1991BC93C", // archive, 2018
	},
}

func (c *linter) root(name string) {
	path, spec := "roots."+name, c.doc.Roots[name]
	kinds := 0
	for _, set := range []bool{spec.OpenPGP != "" || len(spec.Fingerprints) > 0, spec.PublicKey != "", spec.Self != "", spec.Digest != ""} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		c.fail(path, "a root is exactly one kind", "give openpgp (or fingerprints), public_key, self, or digest")
		return
	}
	if spec.Valid != "" && spec.PublicKey == "" {
		c.fail(path+".valid", "belongs to public_key", "")
	}
	var r root
	switch {
	case spec.PublicKey != "":
		r = c.publicKey(path, spec)
	case spec.Self != "":
		c.oneOf(path+".self", spec.Self, "release")
		r.self = spec.Self
	case spec.Digest != "":
		c.oneOf(path+".digest", spec.Digest, "pinned")
		r.pinned = true
	default:
		r.fingerprints = c.openPGP(path, name, spec)
	}
	c.roots[name] = r
}

func (c *linter) openPGP(path, name string, spec rootSpec) []string {
	var wanted []string
	for i, s := range spec.Fingerprints {
		f, err := pgp.ParseFingerprint(s)
		if err != nil {
			c.fail(fmt.Sprintf("%s.fingerprints[%d]", path, i), err.Error(), "gpg --show-keys --with-fingerprint FILE prints it")
		}
		wanted = append(wanted, f)
	}
	var have []string
	switch spec.OpenPGP {
	case "":
		return wanted
	case "builtin":
		if have = builtin[name]; have == nil {
			c.fail(path+".openpgp", fmt.Sprintf("no keys are built in under the name %q", strictyaml.Clip(name, 40)), "built in are debian and ubuntu; for others give a keyring's path or fingerprints")
			return nil
		}
	default:
		data, err := c.read(spec.OpenPGP, pgp.MaxKeyring)
		if err != nil {
			c.fail(path+".openpgp", err.Error(), "")
			return nil
		}
		ring, err := pgp.ReadKeyring(data)
		if err != nil {
			c.fail(path+".openpgp", err.Error(), "")
			return nil
		}
		have = ring.Fingerprints()
	}
	if len(wanted) == 0 {
		return have
	}
	for i, f := range wanted {
		if !slices.Contains(have, f) {
			c.fail(fmt.Sprintf("%s.fingerprints[%d]", path, i), "the keyring has no primary key "+f, "")
		}
	}
	return wanted
}

func (c *linter) publicKey(path string, spec rootSpec) root {
	data, err := c.read(spec.PublicKey, 64<<10)
	if err != nil {
		c.fail(path+".public_key", err.Error(), "")
		return root{}
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" {
		c.fail(path+".public_key", "the file holds no PEM public key", "it begins with -----BEGIN PUBLIC KEY-----")
		return root{}
	}
	if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
		c.fail(path+".public_key", "the key cannot be read: "+err.Error(), "")
		return root{}
	}
	r := root{key: kiln.DigestBytes(block.Bytes)}
	if spec.Valid == "" {
		return r
	}
	from, until, ok := strings.Cut(spec.Valid, "..")
	if r.from, err = time.Parse(time.DateOnly, from); err == nil {
		r.until, err = time.Parse(time.DateOnly, until)
	}
	if !ok || err != nil || r.until.Before(r.from) {
		c.fail(path+".valid", fmt.Sprintf("%q is no span of days", strictyaml.Clip(spec.Valid, 40)), "write 2026-01-01..2027-06-30")
	}
	return r
}

// read reads a key file beside the policy.
func (c *linter) read(path string, max int64) ([]byte, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(c.file), path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > max {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", path, max)
	}
	return os.ReadFile(path)
}

// valid reports whether a key root counts at now.
func (r root) valid(now time.Time) bool {
	return r.from.IsZero() || !now.Before(r.from) && now.Before(r.until.AddDate(0, 0, 1))
}
