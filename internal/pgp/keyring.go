// Package pgp verifies OpenPGP clearsigned messages against keyrings. It is the
// one importer of the OpenPGP library besides its test helper.
//
// It is stricter than the format: a message has nothing around it, and a key
// must be good now, not only when it signed.
package pgp

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// MaxKeyring bounds a keyring file, in bytes; Debian's own has 56,000.
const MaxKeyring = 8 << 20

// Keyring is a set of public keys.
type Keyring struct{ keys openpgp.EntityList }

// ReadKeyring reads a keyring as apt accepts it: OpenPGP packets, or one or
// more armored public key blocks. Keys of a kind that is not supported are left
// out; a file without a single usable key is an error.
func ReadKeyring(data []byte) (*Keyring, error) {
	if len(data) > MaxKeyring {
		return nil, fmt.Errorf("reading keyring: larger than %d bytes", MaxKeyring)
	}
	keys, err := readKeys(data)
	if err != nil {
		return nil, fmt.Errorf("reading keyring: %w", err)
	}
	if len(keys) == 0 {
		return nil, errors.New("reading keyring: it holds no key")
	}
	for _, k := range keys {
		if k.PrivateKey != nil {
			return nil, errors.New("reading keyring: it holds a private key; use one with public keys only")
		}
	}
	return &Keyring{merge(keys)}, nil
}

func readKeys(data []byte) (openpgp.EntityList, error) {
	// A keybox begins with a record length, type 1, version 1, and the letters KBXf at 8.
	if len(data) > 12 && string(data[8:12]) == "KBXf" {
		return nil, errors.New("this is a GnuPG keybox; write an OpenPGP keyring with: gpg --export")
	}
	if !bytes.Contains(data, []byte("-----BEGIN PGP")) {
		return openpgp.ReadKeyRing(bytes.NewReader(data))
	}
	var all openpgp.EntityList
	for bytes.Contains(data, []byte("-----BEGIN PGP")) {
		block, err := armor.Decode(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		if block.Type != openpgp.PublicKeyType {
			return nil, fmt.Errorf("it holds a %s, not only public keys", strings.ToLower(block.Type))
		}
		keys, err := openpgp.ReadKeyRing(block.Body)
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
		// The decoder reads ahead: where the block ends is seen from its last line.
		_, rest, ok := bytes.Cut(data, []byte("-----END PGP PUBLIC KEY BLOCK-----"))
		if !ok {
			return nil, errors.New("an armored block has no end")
		}
		data = rest
	}
	return all, nil
}

// merge joins copies of one key, so that a revocation or a new expiry in any of them counts.
func merge(keys openpgp.EntityList) openpgp.EntityList {
	var merged openpgp.EntityList
	byPrint := map[string]*openpgp.Entity{}
	for _, k := range keys {
		first, twice := byPrint[fingerprint(k.PrimaryKey.Fingerprint)]
		if !twice {
			byPrint[fingerprint(k.PrimaryKey.Fingerprint)] = k
			merged = append(merged, k)
			continue
		}
		first.Revocations = append(first.Revocations, k.Revocations...)
		first.DirectSignatures = append(first.DirectSignatures, k.DirectSignatures...)
		mergeIdentities(first, k)
		mergeSubkeys(first, k)
	}
	return merged
}

func mergeIdentities(into, from *openpgp.Entity) {
	for name, id := range from.Identities {
		old, ok := into.Identities[name]
		if !ok {
			id.Primary = into
			into.Identities[name] = id
			continue
		}
		old.SelfCertifications = append(old.SelfCertifications, id.SelfCertifications...)
		old.Revocations = append(old.Revocations, id.Revocations...)
	}
}

func mergeSubkeys(into, from *openpgp.Entity) {
	for _, sub := range from.Subkeys {
		i := slices.IndexFunc(into.Subkeys, func(s openpgp.Subkey) bool {
			return bytes.Equal(s.PublicKey.Fingerprint, sub.PublicKey.Fingerprint)
		})
		if i < 0 {
			sub.Primary = into
			into.Subkeys = append(into.Subkeys, sub)
			continue
		}
		into.Subkeys[i].Bindings = append(into.Subkeys[i].Bindings, sub.Bindings...)
		into.Subkeys[i].Revocations = append(into.Subkeys[i].Revocations, sub.Revocations...)
	}
}

// Fingerprints returns the primary keys' fingerprints, upper-case hex, in the file's order.
func (k *Keyring) Fingerprints() []string {
	var list []string
	for _, e := range k.keys {
		list = append(list, fingerprint(e.PrimaryKey.Fingerprint))
	}
	return list
}

func fingerprint(b []byte) string { return fmt.Sprintf("%X", b) }

// ParseFingerprint accepts 40 or 64 hex digits, with or without spaces and a leading 0x, and returns them in upper case.
func ParseFingerprint(s string) (string, error) {
	f := strings.ToUpper(strings.Join(strings.Fields(s), ""))
	f = strings.TrimPrefix(f, "0X")
	if (len(f) != 40 && len(f) != 64) || strings.Trim(f, "0123456789ABCDEF") != "" {
		return "", fmt.Errorf("%.80q is no fingerprint: write all 40 or 64 hex digits (a short key id can be forged)", s)
	}
	return f, nil
}
