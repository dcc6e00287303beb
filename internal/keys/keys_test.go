package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAKeyIsMadeOnceLoadedAndSigns(t *testing.T) {
	dir, pass := filepath.Join(t.TempDir(), "keys"), []byte("correct horse")
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
	dir, pass := t.TempDir(), []byte("pass")
	if _, err := New(dir, RoleGate, pass); err != nil {
		t.Fatal(err)
	}
	if _, err := New(dir, RoleTester, pass); err != nil {
		t.Fatal(err)
	}
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

	gate, tester := filepath.Join(dir, "gate"), filepath.Join(dir, "tester")
	swapped, err := os.ReadFile(tester + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(gate+".pub", swapped, 0o644); err != nil {
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
	dir, pass := t.TempDir(), []byte("pass")
	if _, err := New(dir, RoleRelease, pass); err != nil {
		t.Fatal(err)
	}
	path, _ := PublicPath(dir, RoleRelease)
	before, _ := os.ReadFile(path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, RoleRelease, pass); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) || len(after) == 0 {
		t.Errorf("public key after loading: %q, before %q", after, before)
	}
}

func TestImportTakesTheKeyFileItWrote(t *testing.T) {
	from, to, pass := t.TempDir(), t.TempDir(), []byte("pass")
	made, err := New(from, RoleRelease, pass)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(from, "release.key"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Import(to, RoleGate, text, pass)
	if err != nil || got.ID() != made.ID() {
		t.Errorf("imported %v, %v; want %s", got, err, made.ID())
	}
}
