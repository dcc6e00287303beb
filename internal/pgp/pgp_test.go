package pgp_test

import (
	"bytes"
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln/internal/pgp"
	"kiln/internal/pgp/pgptest"
)

var (
	now  = time.Now().Truncate(time.Second)
	text = []byte("Origin: Example\nSuite: stable \n\nDate: today\n")
)

func keyring(t *testing.T, data ...[]byte) *pgp.Keyring {
	t.Helper()
	k, err := pgp.ReadKeyring(bytes.Join(data, nil))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func split(t *testing.T, raw []byte) *pgp.Message {
	t.Helper()
	m, err := pgp.Split(raw)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAGoodSignatureCounts(t *testing.T) {
	for name, spec := range map[string]pgptest.KeySpec{
		"Ed25519":       {},
		"with a subkey": {Subkey: true},
		"RSA":           {RSABits: 2048},
		"expires later": {Expires: 2 * 366 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			k := pgptest.NewKey(spec)
			m := split(t, pgptest.Clearsign([]byte("a: b"), now, k))
			if string(m.Text) != "a: b\n" {
				t.Errorf("text %q", m.Text)
			}
			for _, ring := range [][]byte{k.Public(), k.Armored()} {
				for _, accept := range [][]string{nil, {k.Fingerprint()}, {k.SigningFingerprint()}} {
					good, bad := m.Verify(keyring(t, ring), accept, now)
					if len(good) != 1 || len(bad) != 0 || good[0].Primary != k.Fingerprint() || good[0].Key != k.SigningFingerprint() {
						t.Errorf("good %v, bad %v", good, bad)
					}
				}
			}
		})
	}
}

func TestSignaturesThatDoNotCount(t *testing.T) {
	year := 365 * 24 * time.Hour
	good, other := pgptest.NewKey(pgptest.KeySpec{}), pgptest.NewKey(pgptest.KeySpec{})
	expired := pgptest.NewKey(pgptest.KeySpec{Created: now.Add(-2 * year), Expires: year})
	revoked := pgptest.NewKey(pgptest.KeySpec{Revoked: true})
	short := pgptest.NewKey(pgptest.KeySpec{RSABits: 1024})
	cases := []struct {
		name   string
		raw    []byte
		ring   *pgptest.Key
		accept []string
		err    error
	}{
		{"the key is not in the keyring", pgptest.Clearsign(text, now, other), good, nil, pgp.ErrUnknownKey},
		{"the key is not expected", pgptest.Clearsign(text, now, good), good, []string{other.Fingerprint()}, pgp.ErrNotAccepted},
		{"the key expired, though it was good when it signed", pgptest.Clearsign(text, now.Add(-2*year+time.Hour), expired), expired, nil, pgp.ErrKeyExpired},
		{"the key was revoked, though it signed before", pgptest.Clearsign(text, now.Add(-year), revoked), revoked, nil, pgp.ErrKeyRevoked},
		{"RSA with 1024 bits", pgptest.Clearsign(text, now, short), short, nil, pgp.ErrWeak},
		{"SHA-224", pgptest.ClearsignHash(text, now, crypto.SHA224, good), good, nil, pgp.ErrWeak},
		{"signed tomorrow", pgptest.Clearsign(text, now.Add(24*time.Hour), good), good, nil, pgp.ErrFuture},
		{"signed before the key was made", pgptest.Clearsign(text, now.Add(-2*year), good), good, nil, pgp.ErrBad},
		{"the text was changed", bytes.Replace(pgptest.Clearsign(text, now, good), []byte("today"), []byte("never"), 1), good, nil, pgp.ErrBad},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ok, bad := split(t, c.raw).Verify(keyring(t, c.ring.Public()), c.accept, now)
			if len(ok) != 0 || len(bad) != 1 || !errors.Is(bad[0], c.err) {
				t.Errorf("good %v, bad %v, want %v", ok, bad, c.err)
			}
		})
	}
}

func TestOneGoodSignatureAmongOthersIsFound(t *testing.T) {
	a, b, unknown := pgptest.NewKey(pgptest.KeySpec{}), pgptest.NewKey(pgptest.KeySpec{}), pgptest.NewKey(pgptest.KeySpec{})
	m := split(t, pgptest.Clearsign(text, now, unknown, a, b))
	good, bad := m.Verify(keyring(t, a.Armored(), b.Armored()), nil, now)
	if len(good) != 2 || len(bad) != 1 {
		t.Errorf("good %v, bad %v", good, bad)
	}
}

func TestARevocationInAnyCopyOfAKeyCounts(t *testing.T) {
	k := pgptest.NewKey(pgptest.KeySpec{})
	before := k.Public()
	k.Revoke(now.Add(-time.Hour))
	m := split(t, pgptest.Clearsign(text, now, k))
	for _, ring := range [][][]byte{{before, k.Public()}, {k.Public(), before}} {
		if good, _ := m.Verify(keyring(t, ring...), nil, now); len(good) != 0 {
			t.Errorf("good %v", good)
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	signed := string(pgptest.Clearsign([]byte("Suite: stable"), now, pgptest.NewKey(pgptest.KeySpec{})))
	replace := func(old, with string) string { return strings.Replace(signed, old, with, 1) }
	for name, raw := range map[string]string{
		"nothing":                          "",
		"plain text":                       "Suite: stable\n",
		"text before the message":          "Suite: evil\n" + signed,
		"an empty line before":             "\n" + signed,
		"text after the message":           signed + "Suite: evil\n",
		"a second message":                 signed + signed,
		"text in the head":                 replace("Hash: SHA256\n", "Hash: SHA256\nSuite: evil\n"),
		"a comment header":                 replace("Hash: SHA256\n", "Comment: x\n"),
		"blanks instead of the empty line": replace("\n\n", "\n \n"),
		"a line with an escape":            replace("Suite", "- Suite"),
		"a nested begin line":              replace("Suite: stable", "-----BEGIN PGP SIGNED MESSAGE-----"),
		"an escaped begin line":            replace("Suite: stable", "- -----BEGIN PGP SIGNATURE-----\nSuite: stable"),
		"carriage returns":                 strings.ReplaceAll(signed, "\n", "\r\n"),
		"a NUL":                            replace("stable", "st\x00able"),
		"no signature":                     signed[:strings.Index(signed, "-----BEGIN PGP SIG")],
		"an empty signature":               signed[:strings.Index(signed, "-----BEGIN PGP SIG")] + "-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n",
		"a cut signature":                  signed[:len(signed)-40],
		"a damaged signature":              replace("-----BEGIN PGP SIGNATURE-----\n\n", "-----BEGIN PGP SIGNATURE-----\n\n!!!!"),
		"two signature blocks in one":      replace("\n-----END PGP SIG", "\n-----BEGIN PGP SIGNATURE-----\n-----END PGP SIG"),
	} {
		if m, err := pgp.Split([]byte(raw)); !errors.Is(err, pgp.ErrUnsigned) {
			t.Errorf("%s: accepted or wrong error: %v (%v)", name, err, m)
		}
	}
}

func TestKeyringsThatAreNone(t *testing.T) {
	k := pgptest.NewKey(pgptest.KeySpec{})
	for name, data := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "cut": k.Public()[:40], "private": k.Private(),
		"keybox":    append([]byte("\x00\x00\x00\x20\x01\x01\x00\x02KBXf"), make([]byte, 20)...),
		"signature": pgptest.Clearsign(text, now, k),
	} {
		if ring, err := pgp.ReadKeyring(data); err == nil {
			t.Errorf("%s: read as %v", name, ring.Fingerprints())
		}
	}
}

func TestParseFingerprint(t *testing.T) {
	if f, err := pgp.ParseFingerprint("0x" + strings.Repeat("ab cd ", 10)); err != nil || f != strings.Repeat("ABCD", 10) {
		t.Errorf("%s, %v", f, err)
	}
	for _, s := range []string{"", "DEADBEEF", strings.Repeat("G", 40)} {
		if _, err := pgp.ParseFingerprint(s); err == nil {
			t.Errorf("%q accepted", s)
		}
	}
}

// The files were written by GnuPG: one key, one text, two hashes.
func TestGnuPGsSignatures(t *testing.T) {
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ring := keyring(t, read("gnupg.gpg"))
	if good, bad := split(t, read("sha512.asc")).Verify(ring, ring.Fingerprints(), now); len(good) != 1 {
		t.Errorf("SHA-512: good %v, bad %v", good, bad)
	}
	if good, bad := split(t, read("sha1.asc")).Verify(ring, nil, now); len(good) != 0 || !errors.Is(bad[0], pgp.ErrWeak) {
		t.Errorf("SHA-1: good %v, bad %v", good, bad)
	}
}

// What Split accepts has no second reading: the signed text is the file's lines between head and signature, and nothing else.
func FuzzSplit(f *testing.F) {
	signed := pgptest.Clearsign(text, now, pgptest.NewKey(pgptest.KeySpec{}))
	f.Add(signed)
	f.Add([]byte("-----BEGIN PGP SIGNED MESSAGE-----\n\n-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := pgp.Split(raw)
		if err != nil {
			return
		}
		for _, mark := range []string{"-----BEGIN PGP SIGNED MESSAGE-----", "-----BEGIN PGP SIGNATURE-----", "-----END PGP SIGNATURE-----"} {
			if bytes.Count(raw, []byte(mark)) != 1 || bytes.Contains(m.Text, []byte(mark)) {
				t.Errorf("accepted with %q not exactly once", mark)
			}
		}
	})
}
