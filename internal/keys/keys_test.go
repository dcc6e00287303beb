package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var pass = []byte("correct horse")

// shared is one key pair's files, made once: encrypting takes a good part of a second.
var shared = sync.OnceValue(func() (files struct{ key, pub []byte }) {
	dir, err := os.MkdirTemp("", "keys-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if _, err := New(dir, RoleRelease, pass); err != nil {
		panic(err)
	}
	files.key, _ = os.ReadFile(filepath.Join(dir, "release.key"))
	files.pub, _ = os.ReadFile(filepath.Join(dir, "release.pub"))
	return files
})

// place puts the shared key into dir as the key of role.
func place(t *testing.T, dir, role string) {
	t.Helper()
	path, err := Path(dir, role)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path, shared().key, 0o600), os.WriteFile(publicPath(path), shared().pub, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestAKeyIsMadeOnceLoadedAndSigns(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	made, err := New(dir, RoleWorkstation, pass)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "builder-workstation.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key file: %v, %v; want mode 0600", info, err)
	}
	if _, err := New(dir, RoleWorkstation, pass); !errors.Is(err, ErrExists) {
		t.Errorf("making it again: %v, want ErrExists", err)
	}
	loaded, err := Load(dir, RoleWorkstation, pass)
	if err != nil {
		t.Fatal(err)
	}
	if loaded.ID() != made.ID() {
		t.Errorf("loaded %s, made %s", loaded.ID(), made.ID())
	}
	sum := sha256.Sum256([]byte("message"))
	sig, err := loaded.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	public, err := LoadPublic(dir, RoleWorkstation)
	if err != nil || !ecdsa.VerifyASN1(public, sum[:], sig) {
		t.Errorf("the stored public key does not verify the signature (%v)", err)
	}
	if id, _ := ID(public); id != made.ID() {
		t.Errorf("ID of the public key %s, of the key %s", id, made.ID())
	}
}

func TestKeyErrorsSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	place(t, dir, RoleGate)
	place(t, dir, RoleTester)
	fails := func(name, want string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want an error with %q", name, err, want)
		}
	}
	_, err := Load(dir, RoleGate, []byte("other"))
	fails("wrong pass phrase", "wrong pass phrase", err)
	_, err = Load(dir, RoleScanner, pass)
	fails("missing key", "kiln key new scanner", err)
	_, err = New(dir, RoleScanner, nil)
	fails("empty pass phrase", "pass phrase is empty", err)
	_, err = New(dir, "../release", pass)
	fails("hostile role", "is none of", err)
	_, err = New(dir, "builder/../x", pass)
	fails("hostile class", "is none of", err)
	_, err = Import(dir, RoleScanner, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), pass)
	fails("plain key", "import-key-pair", err)

	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := newKey(RoleGate, other)
	if err != nil {
		t.Fatal(err)
	}
	gate, tester := filepath.Join(dir, "gate"), filepath.Join(dir, "tester")
	if err := os.WriteFile(gate+".pub", k.PublicPEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Load(dir, RoleGate, pass)
	fails("exchanged public key", "not the public half", err)
	if err := os.Chmod(tester+".key", 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Load(dir, RoleTester, pass)
	fails("open key file", "chmod 600", err)
}

func TestALostPublicKeyIsWrittenAgain(t *testing.T) {
	dir := t.TempDir()
	place(t, dir, RoleRelease)
	path, _ := PublicPath(dir, RoleRelease)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, RoleRelease, pass); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(path); string(after) != string(shared().pub) {
		t.Errorf("public key after loading: %q, before %q", after, shared().pub)
	}
}

func TestImportTakesAKeyFileAndNeverOverwrites(t *testing.T) {
	dir := t.TempDir()
	got, err := Import(dir, RoleGate, shared().key, pass)
	if err != nil || string(got.PublicPEM()) != string(shared().pub) {
		t.Fatalf("imported %v, %v", got, err)
	}
	before, _ := os.ReadFile(filepath.Join(dir, "gate.key"))
	if _, err := New(dir, RoleGate, pass); !errors.Is(err, ErrExists) {
		t.Errorf("making a key where one is: %v", err)
	}
	if after, _ := os.ReadFile(filepath.Join(dir, "gate.key")); string(after) != string(before) {
		t.Error("the old key was overwritten")
	}
	if err := os.WriteFile(filepath.Join(dir, "tester.pub"), shared().pub, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := New(dir, RoleTester, pass); !errors.Is(err, ErrExists) || Exists(dir, RoleTester) {
		t.Errorf("making a key where a public half is: %v", err)
	}
}
