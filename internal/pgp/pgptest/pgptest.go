// Package pgptest makes OpenPGP keys and signs with them, for tests only.
package pgptest

import (
	"bytes"
	"crypto"
	"fmt"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// KeySpec says what key is wanted; its zero value is a fresh Ed25519 key without expiry.
type KeySpec struct {
	Created time.Time     // default: a year before now
	Expires time.Duration // after Created; 0 is never
	Revoked bool
	RSABits int  // 0 means Ed25519
	Subkey  bool // sign with a subkey
}

// Key is a private key with its public half.
type Key struct{ entity *openpgp.Entity }

// NewKey makes a key; it panics where that fails, since only tests call it.
func NewKey(s KeySpec) *Key {
	if s.Created.IsZero() {
		s.Created = time.Now().AddDate(-1, 0, 0)
	}
	c := config(s.Created)
	c.KeyLifetimeSecs = uint32(s.Expires / time.Second)
	c.Algorithm = packet.PubKeyAlgoEdDSA
	if s.RSABits > 0 {
		c.Algorithm, c.RSABits, c.MinRSABits = packet.PubKeyAlgoRSA, s.RSABits, 1024
	}
	e, err := openpgp.NewEntity("Archive", "test", "archive@example.com", c)
	must(err)
	if s.Subkey {
		must(e.AddSigningSubkey(c))
	}
	if s.Revoked {
		must(e.Revoke(packet.KeyRetired, "no longer used", config(s.Created.Add(time.Hour))))
	}
	return &Key{e}
}

func config(now time.Time) *packet.Config {
	return &packet.Config{Time: func() time.Time { return now }, DefaultHash: crypto.SHA256}
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("making a test key: %v", err))
	}
}

// Fingerprint returns the primary key's fingerprint in upper-case hex.
func (k *Key) Fingerprint() string { return fmt.Sprintf("%X", k.entity.PrimaryKey.Fingerprint) }

// SigningFingerprint returns that of the key that signs.
func (k *Key) SigningFingerprint() string {
	return fmt.Sprintf("%X", k.signer().PublicKey.Fingerprint)
}

func (k *Key) signer() *packet.PrivateKey {
	for _, s := range k.entity.Subkeys {
		if b := s.Bindings; len(b) > 0 && b[0].Packet.FlagSign {
			return s.PrivateKey
		}
	}
	return k.entity.PrivateKey
}

// Public returns the public key as OpenPGP packets.
func (k *Key) Public() []byte {
	var b bytes.Buffer
	must(k.entity.Serialize(&b))
	return b.Bytes()
}

// Private returns the private key as OpenPGP packets.
func (k *Key) Private() []byte {
	var b bytes.Buffer
	must(k.entity.SerializePrivateWithoutSigning(&b, nil))
	return b.Bytes()
}

// Armored returns the public key as an armored block.
func (k *Key) Armored() []byte {
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	must(err)
	_, err = w.Write(k.Public())
	must(err)
	must(w.Close())
	return append(b.Bytes(), '\n')
}

// Clearsign signs text at the given time with every key.
func Clearsign(text []byte, at time.Time, keys ...*Key) []byte {
	return ClearsignHash(text, at, crypto.SHA256, keys...)
}

// ClearsignHash is Clearsign with a SHA-2 hash of choice.
func ClearsignHash(text []byte, at time.Time, h crypto.Hash, keys ...*Key) []byte {
	text = bytes.TrimRight(text, "\n")
	var sigs bytes.Buffer
	w, err := armor.Encode(&sigs, openpgp.SignatureType, nil)
	must(err)
	for _, k := range keys {
		must(k.sign(text, at, h).Serialize(w))
	}
	must(w.Close())
	head := fmt.Sprintf("-----BEGIN PGP SIGNED MESSAGE-----\nHash: %s\n\n", strings.ReplaceAll(h.String(), "-", ""))
	return []byte(head + string(text) + "\n" + sigs.String() + "\n")
}

func (k *Key) sign(text []byte, at time.Time, h crypto.Hash) *packet.Signature {
	priv := k.signer()
	sig := &packet.Signature{
		Version: priv.Version, SigType: packet.SigTypeText, PubKeyAlgo: priv.PubKeyAlgo, Hash: h,
		CreationTime: at, IssuerKeyId: &priv.KeyId, IssuerFingerprint: priv.Fingerprint,
	}
	hash, err := sig.PrepareSign(config(at))
	must(err)
	for i, line := range bytes.Split(text, []byte("\n")) {
		if i > 0 {
			hash.Write([]byte("\r\n"))
		}
		hash.Write(bytes.TrimRight(line, " \t"))
	}
	must(sig.Sign(hash, priv, config(at)))
	return sig
}

// Revoke revokes the key at that time.
func (k *Key) Revoke(at time.Time) {
	must(k.entity.Revoke(packet.KeyRetired, "no longer used", config(at)))
}
