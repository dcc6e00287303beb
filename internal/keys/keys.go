// Package keys keeps the signing keys of a factory: one ECDSA P-256 key a role,
// encrypted at rest in the format that cosign writes, so that a user can take
// a key to cosign and bring cosign's here.
//
// What the folder is trusted with: who reads a .key file and knows its pass
// phrase can sign in that role; who replaces a .pub file is noticed when the
// key is next loaded, but until then can make verification here fail or accept
// another signer.
package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"

	"kiln"
	"kiln/internal/smallfile"
)

// The roles that sign. Stock verifiers take any signed statement for "signed",
// so only RoleRelease may ever mean "good".
const (
	RoleRelease     = "release"
	RoleWorkstation = "builder/workstation"
	RoleScanner     = "scanner"
	RoleTester      = "tester"
	RoleGate        = "gate"
)

// Roles are the roles that a build on a workstation signs with, in the order of the line.
func Roles() []string {
	return []string{RoleWorkstation, RoleScanner, RoleTester, RoleGate, RoleRelease}
}

var roleForm = regexp.MustCompile(`^(release|scanner|tester|gate|builder/[a-z0-9]{1,32}(-[a-z0-9]{1,32}){0,3})$`)

// PEM types: what cosign writes today and what it wrote before version 2.
const (
	pemSigstore = "ENCRYPTED SIGSTORE PRIVATE KEY"
	pemCosign   = "ENCRYPTED COSIGN PRIVATE KEY"
	pemPublic   = "PUBLIC KEY"
)

// maxFile bounds key files: a real one has about 700 bytes.
const maxFile = 64 << 10

// ErrPassphrase says that the pass phrase does not open the key.
var ErrPassphrase = errors.New("wrong pass phrase")

// ErrExists says that a role already has a key; keys are never overwritten.
var ErrExists = errors.New("the role already has a key")

// Key signs in one role. It is safe for concurrent use.
type Key struct {
	role    string
	private *ecdsa.PrivateKey
	der     []byte // PKIX
}

// New makes a key for role in dir (created with mode 0700) and stores it as
// <role>.key, mode 0600, encrypted with pass, beside <role>.pub. A slash in the
// role becomes a hyphen in the file name.
func New(dir, role string, pass []byte) (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the %s key: %w", role, err)
	}
	return store(dir, role, private, pass)
}

// Import stores a key that cosign made (its encrypted PEM) as the key of role,
// under the same pass phrase.
func Import(dir, role string, text, pass []byte) (*Key, error) {
	private, err := decrypt(text, pass)
	if err != nil {
		return nil, fmt.Errorf("importing a key for the role %s: %w", role, err)
	}
	return store(dir, role, private, pass)
}

// Load opens the key of role in dir. It refuses a key file that others can
// read and one that does not belong to the public key beside it; a missing
// public key file is written again.
func Load(dir, role string, pass []byte) (*Key, error) {
	path, err := Path(dir, role)
	if err != nil {
		return nil, err
	}
	text, err := readSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no key for the role %s in %s; make one with: kiln key new %s: %w", role, dir, role, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the %s key: %w", role, err)
	}
	private, err := decrypt(text, pass)
	if err != nil {
		return nil, fmt.Errorf("opening the %s key %s: %w", role, path, err)
	}
	k, err := newKey(role, private)
	if err != nil {
		return nil, err
	}
	return k, k.matchPublic(publicPath(path))
}

// LoadPublic reads the public key of role in dir; it needs no pass phrase.
func LoadPublic(dir, role string) (*ecdsa.PublicKey, error) {
	path, err := Path(dir, role)
	if err != nil {
		return nil, err
	}
	text, err := smallfile.Read(publicPath(path), maxFile)
	if err != nil {
		return nil, fmt.Errorf("reading the public key of the role %s: %w", role, err)
	}
	return ParsePublic(text)
}

// ParsePublic reads a PEM public key (PKIX) on the curve P-256.
func ParsePublic(text []byte) (*ecdsa.PublicKey, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != pemPublic || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, fmt.Errorf("expected exactly one PEM block of type %s", pemPublic)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing public key: %w", err)
	}
	public, ok := parsed.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, errors.New("the public key is not ECDSA on P-256")
	}
	return public, nil
}

// ID returns the SHA-256 of a public key's PKIX DER.
func ID(public *ecdsa.PublicKey) (kiln.Digest, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("encoding public key: %w", err)
	}
	return kiln.DigestBytes(der), nil
}

// Exists reports whether role has a key in dir.
func Exists(dir, role string) bool {
	path, err := Path(dir, role)
	if err != nil {
		return false
	}
	_, err = os.Lstat(path)
	return err == nil
}

// Path returns the key file of role in dir.
func Path(dir, role string) (string, error) {
	if !roleForm.MatchString(role) {
		return "", fmt.Errorf("role %q is none of release, scanner, tester, gate, builder/CLASS", role)
	}
	return filepath.Join(dir, strings.ReplaceAll(role, "/", "-")+".key"), nil
}

// PublicPath returns the public key file of role in dir.
func PublicPath(dir, role string) (string, error) {
	path, err := Path(dir, role)
	return publicPath(path), err
}

func publicPath(key string) string { return strings.TrimSuffix(key, ".key") + ".pub" }

// Role returns the role the key signs in.
func (k *Key) Role() string { return k.role }

// ID returns the SHA-256 of the public key's PKIX DER.
func (k *Key) ID() kiln.Digest { return kiln.DigestBytes(k.der) }

// Public returns an *ecdsa.PublicKey; with Sign it makes Key a crypto.Signer.
func (k *Key) Public() crypto.PublicKey { return k.private.Public() }

// Sign signs a SHA-256 digest; the signature is ASN.1 DER.
func (k *Key) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.private.Sign(random, digest, opts)
}

// PublicPEM returns the public key as `cosign --key` reads it.
func (k *Key) PublicPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: k.der})
}

func newKey(role string, private *ecdsa.PrivateKey) (*Key, error) {
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return nil, fmt.Errorf("encoding the public key of %s: %w", role, err)
	}
	return &Key{role: role, private: private, der: der}, nil
}

// matchPublic compares the stored public key with this key, or writes it where it is missing.
func (k *Key) matchPublic(path string) error {
	text, err := smallfile.Read(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return writeNew(path, k.PublicPEM(), 0o644)
	}
	if err != nil {
		return fmt.Errorf("reading the public key of the role %s: %w", k.role, err)
	}
	public, err := ParsePublic(text)
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if !public.Equal(k.private.Public()) {
		return fmt.Errorf("%s is not the public half of the %s key beside it; somebody exchanged one of them: "+
			"restore the right file, or delete the .pub file if you trust the .key file", path, k.role)
	}
	return nil
}

func store(dir, role string, private *ecdsa.PrivateKey, pass []byte) (*Key, error) {
	path, err := Path(dir, role)
	if err != nil {
		return nil, err
	}
	k, err := newKey(role, private)
	if err != nil {
		return nil, err
	}
	for _, file := range []string{path, publicPath(path)} {
		if _, err := os.Lstat(file); err == nil {
			return nil, fmt.Errorf("%s: %w; nothing was changed, move it away first if you want a new one", file, ErrExists)
		}
	}
	text, err := encrypt(private, pass)
	if err != nil {
		return nil, fmt.Errorf("encrypting the %s key: %w", role, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the key folder: %w", err)
	}
	if err := writeNew(path, text, 0o600); err != nil {
		return nil, fmt.Errorf("storing the %s key: %w", role, err)
	}
	if err := writeNew(publicPath(path), k.PublicPEM(), 0o644); err != nil {
		return nil, fmt.Errorf("storing the public key of %s: %w", role, err)
	}
	return k, nil
}

func encrypt(private *ecdsa.PrivateKey, pass []byte) ([]byte, error) {
	if len(pass) == 0 {
		return nil, errors.New("the pass phrase is empty; give one with --passphrase-file or KILN_KEY_PASSPHRASE")
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	box, err := encrypted.Encrypt(der, pass)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemSigstore, Bytes: box}), nil
}

func decrypt(text, pass []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || (block.Type != pemSigstore && block.Type != pemCosign) {
		return nil, fmt.Errorf("no PEM block of type %q; a plain key is imported with: cosign import-key-pair", pemSigstore)
	}
	der, err := encrypted.Decrypt(block.Bytes, pass)
	if err != nil && strings.Contains(err.Error(), "decryption failed") {
		return nil, ErrPassphrase
	}
	if err != nil {
		return nil, fmt.Errorf("decrypting: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("parsing private key: %w", err)
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || private.Curve != elliptic.P256() {
		return nil, errors.New("the key is not ECDSA on P-256, the only kind that signs here")
	}
	return private, nil
}
