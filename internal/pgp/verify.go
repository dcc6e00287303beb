package pgp

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"time"

	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Skew is how far in the future a signature or a signed date may lie: clocks differ.
const Skew = 5 * time.Minute

// MinRSABits is the shortest RSA key whose signature counts.
const MinRSABits = 2048

// Why a signature does not count, to be tested with errors.Is.
var (
	ErrUnknownKey  = errors.New("the keyring has no such key")
	ErrNotAccepted = errors.New("the key is not one of the expected fingerprints")
	ErrKeyExpired  = errors.New("the key has expired")
	ErrKeyRevoked  = errors.New("the key is revoked")
	ErrWeak        = errors.New("weak algorithm")
	ErrFuture      = errors.New("the signature is from the future")
	ErrSigExpired  = errors.New("the signature has expired")
	ErrBad         = errors.New("the signature does not fit the text")
	ErrNotSigning  = errors.New("the key may not sign")
)

// Signature is one that is good and accepted.
type Signature struct {
	Primary string // fingerprint of the primary key, upper-case hex
	Key     string // of the key that signed: the primary or a subkey of it
	Time    time.Time
}

// Verify judges every signature of the message at the time now and returns the
// good ones and one error for each of the others. Where accept is not empty, a
// signature counts only if the primary or the signing key's fingerprint is in
// it (upper-case hex).
func (m *Message) Verify(k *Keyring, accept []string, now time.Time) (good []Signature, bad []error) {
	for _, sig := range m.signatures {
		s, err := m.judge(sig, k, accept, now)
		if err != nil {
			bad = append(bad, fmt.Errorf("signature by %s: %w", issuer(sig), err))
			continue
		}
		if !slices.ContainsFunc(good, func(g Signature) bool { return g.Key == s.Key }) {
			good = append(good, s)
		}
	}
	for range m.unread {
		bad = append(bad, errors.New("signature of a kind that is not supported"))
	}
	return good, bad
}

func issuer(sig *packet.Signature) string {
	switch {
	case len(sig.IssuerFingerprint) > 0:
		return fingerprint(sig.IssuerFingerprint)
	case sig.IssuerKeyId != nil:
		return fmt.Sprintf("key id %016X", *sig.IssuerKeyId)
	}
	return "an unnamed key"
}

func (m *Message) judge(sig *packet.Signature, k *Keyring, accept []string, now time.Time) (Signature, error) {
	if err := judgePacket(sig, now); err != nil {
		return Signature{}, err
	}
	entity, key := k.find(sig)
	if key == nil {
		return Signature{}, ErrUnknownKey
	}
	s := Signature{fingerprint(entity.PrimaryKey.Fingerprint), fingerprint(key.Fingerprint), sig.CreationTime.UTC()}
	if len(accept) > 0 && !slices.Contains(accept, s.Primary) && !slices.Contains(accept, s.Key) {
		return s, fmt.Errorf("%w (primary key %s)", ErrNotAccepted, s.Primary)
	}
	if err := judgeKey(entity, key, now); err != nil {
		return s, err
	}
	if sig.CreationTime.Before(key.CreationTime) {
		return s, fmt.Errorf("%w: it is older than its key", ErrBad)
	}
	h, err := sig.PrepareVerify()
	if err != nil {
		return s, fmt.Errorf("%w: %w", ErrBad, err)
	}
	h.Write(m.canonical)
	if err := key.VerifySignature(h, sig); err != nil {
		return s, fmt.Errorf("%w: %w", ErrBad, err)
	}
	return s, nil
}

// judgePacket looks at what the signature says about itself.
func judgePacket(sig *packet.Signature, now time.Time) error {
	if sig.SigType != packet.SigTypeText && sig.SigType != packet.SigTypeBinary {
		return fmt.Errorf("%w: it is of type %#x, not over a text", ErrBad, sig.SigType)
	}
	if !slices.Contains([]crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512}, sig.Hash) {
		return fmt.Errorf("%w: %s", ErrWeak, sig.Hash)
	}
	if sig.CreationTime.After(now.Add(Skew)) {
		return fmt.Errorf("%w: made %s", ErrFuture, sig.CreationTime.UTC().Format(time.RFC3339))
	}
	if life := sig.SigLifetimeSecs; life != nil && *life != 0 && now.After(sig.CreationTime.Add(time.Duration(*life)*time.Second)) {
		return ErrSigExpired
	}
	for _, n := range sig.Notations {
		if n.IsCritical {
			return fmt.Errorf("%w: critical notation %.60q is not known", ErrBad, n.Name)
		}
	}
	return nil
}

// find returns the key that the signature names, by fingerprint where it has one.
func (k *Keyring) find(sig *packet.Signature) (*openpgp.Entity, *packet.PublicKey) {
	matches := func(p *packet.PublicKey) bool {
		if len(sig.IssuerFingerprint) > 0 {
			return bytes.Equal(p.Fingerprint, sig.IssuerFingerprint)
		}
		return sig.IssuerKeyId != nil && p.KeyId == *sig.IssuerKeyId
	}
	for _, e := range k.keys {
		if matches(e.PrimaryKey) {
			return e, e.PrimaryKey
		}
		for i := range e.Subkeys {
			if matches(e.Subkeys[i].PublicKey) {
				return e, e.Subkeys[i].PublicKey
			}
		}
	}
	return nil, nil
}

// judgeKey reports whether the key, and the primary key that vouches for it, may sign now.
func judgeKey(e *openpgp.Entity, key *packet.PublicKey, now time.Time) error {
	config := &packet.Config{Time: func() time.Time { return now }, MinRSABits: MinRSABits}
	for _, p := range []*packet.PublicKey{e.PrimaryKey, key} {
		if err := judgeStrength(p, config); err != nil {
			return err
		}
	}
	if _, err := e.VerifyPrimaryKey(now, config); err != nil {
		return judgeState(e.PrimaryKey, err)
	}
	for i := range e.Subkeys {
		sub := &e.Subkeys[i]
		if sub.PublicKey != key {
			continue
		}
		if _, err := sub.Verify(now, config); err != nil {
			return judgeState(key, err)
		}
	}
	// The library repeats these checks and adds its own: flags, cross-signatures.
	chosen, ok := e.SigningKeyById(now, key.KeyId, config)
	if !ok || !bytes.Equal(chosen.PublicKey.Fingerprint, key.Fingerprint) {
		return ErrNotSigning
	}
	return nil
}

func judgeStrength(p *packet.PublicKey, config *packet.Config) error {
	if config.RejectPublicKeyAlgorithm(p.PubKeyAlgo) {
		return fmt.Errorf("%w: key %s is of an algorithm that is no longer trusted", ErrWeak, fingerprint(p.Fingerprint))
	}
	if p.PubKeyAlgo != packet.PubKeyAlgoRSA && p.PubKeyAlgo != packet.PubKeyAlgoRSASignOnly {
		return nil
	}
	if n, err := p.BitLength(); err != nil || n < MinRSABits {
		return fmt.Errorf("%w: key %s is RSA with %d bits, fewer than %d", ErrWeak, fingerprint(p.Fingerprint), n, MinRSABits)
	}
	return nil
}

// judgeState puts the library's reason in this package's terms.
func judgeState(p *packet.PublicKey, err error) error {
	name := fingerprint(p.Fingerprint)
	switch {
	case errors.Is(err, pgperrors.ErrKeyExpired):
		return fmt.Errorf("%w (%s)", ErrKeyExpired, name)
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		return fmt.Errorf("%w (%s)", ErrKeyRevoked, name)
	}
	return fmt.Errorf("%w: %s: %w", ErrNotSigning, name, err)
}
