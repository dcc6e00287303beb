//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kiln"
	"kiln/internal/image"
	"kiln/internal/keys"
	"kiln/internal/line/attest"
	"kiln/internal/line/pack"
)

var passphrase = []byte("e2e pass phrase")

// signed is a small image with every statement, and the keys that made them.
type signed struct {
	layout   *image.Layout
	artifact *kiln.Artifact
	keys     string // folder
	all      []kiln.Statement
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// program builds a static program that prints a line, the only file that runs in the image.
func program(t *testing.T, dir string) {
	t.Helper()
	source := t.TempDir()
	must(t, os.WriteFile(filepath.Join(source, "main.go"), []byte("package main\n\nfunc main() { println(\"hello from the image\") }\n"), 0o600))
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "usr/bin/hello"), "main.go")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
}

func (s *signed) key(role string) (*keys.Key, error) { return keys.Load(s.keys, role, passphrase) }

func (s *signed) public(role string) string {
	path, _ := keys.PublicPath(s.keys, role)
	return path
}

func signedImage(t *testing.T, decision string) *signed {
	t.Helper()
	s := &signed{keys: filepath.Join(t.TempDir(), "keys")}
	for _, role := range keys.Roles() {
		_, err := keys.New(s.keys, role, passphrase)
		must(t, err)
	}
	tree := t.TempDir()
	for _, dir := range []string{"etc", "usr/bin", "proc", "dev", "sys", "tmp"} {
		must(t, os.MkdirAll(filepath.Join(tree, dir), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(tree, "etc/passwd"), []byte("root:x:0:0:root:/:/usr/sbin/nologin\n"), 0o644))
	program(t, tree)
	var err error
	s.layout, err = image.CreateLayout(filepath.Join(t.TempDir(), "oci"))
	must(t, err)
	digest := kiln.DigestBytes([]byte("x"))
	lock := &kiln.Lock{
		Header: kiln.NewHeader("Lock"), Name: "demo/hello", Recipe: digest, Platform: "linux/amd64", Epoch: 1_700_000_000, Distro: "debian-12",
		Archives: []kiln.LockedArchive{{
			ID: "Debian/bookworm", URI: "https://archive.example.com/debian", Suite: "bookworm", SignedBy: []string{"ABCD"}, InRelease: digest,
			Date: 1_700_000_000, Indexes: []kiln.LockedIndex{{Path: "main/binary-amd64/Packages.xz", Digest: digest}},
		}},
		Packages: []kiln.LockedPackage{{
			Name: "hello", Version: "1:2.10-3+b1", Architecture: "amd64", Archive: "Debian/bookworm", Path: "pool/main/h/hello/hello_2.10-3_amd64.deb", Size: 1, Digest: digest,
		}},
	}
	s.artifact, err = pack.Image(t.Context(), pack.Input{
		Dir: tree, Lock: lock, Recipe: &kiln.Recipe{Name: "demo/hello", Version: "1"}, Config: kiln.ImageConfig{Entrypoint: []string{"/usr/bin/hello"}, User: "65532:65532"},
		Role: func(p string) string {
			if strings.HasPrefix(p, "usr") {
				return pack.RoleApplication
			}
			return pack.RoleBase
		},
	}, s.layout)
	must(t, err)
	s.attest(t, lock, decision)
	desc, err := s.layout.Find(string(s.artifact.Index))
	must(t, err)
	must(t, s.layout.Tag("stable", desc))
	return s
}

func (s *signed) attest(t *testing.T, lock *kiln.Lock, decided string) {
	t.Helper()
	in := attest.Input{
		Build: &kiln.Build{
			ID: "build-1", Name: lock.Name, Lock: lock, Artifact: s.artifact,
			Trial:     &kiln.Trial{Result: kiln.Pass, Candidate: s.artifact.Tree, Tests: []kiln.TestResult{{Name: "starts", Result: kiln.Pass}}},
			Hardening: &kiln.HardeningResult{Profile: "container-baseline", Outcomes: []kiln.Outcome{{Objective: "no-setuid", State: kiln.Satisfied}}},
		},
		CycloneDX: []byte(`{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"components":[]}`),
		SPDX:      []byte(`{"spdxVersion":"SPDX-2.3","dataLicense":"CC0-1.0","SPDXID":"SPDXRef-DOCUMENT","name":"hello","documentNamespace":"urn:x","creationInfo":{"created":"2023-11-14T22:13:20Z","creators":["Tool: kiln"]}}`),
	}
	evidence, err := attest.Attest(t.Context(), in, s.key, s.layout)
	must(t, err)
	verdict := &kiln.Verdict{
		Header: kiln.NewHeader("Verdict"), Subject: kiln.Subject{Name: lock.Name, Digest: s.artifact.Index}, Match: "image:demo/hello",
		Decision: decided, Mode: "enforce", Policy: kiln.DigestBytes([]byte("policy")), Rule: "rules[0]", Time: lock.Epoch,
	}
	decision, err := attest.Decision(t.Context(), in, verdict, evidence, s.key, s.layout)
	must(t, err)
	s.all = append(evidence, decision...)
}

// verify runs the commands that Kiln prints, with the role's key, and again
// with a key that must fail: another role's for an attestation, a stranger's
// for the release, because cosign's verify takes any statement by the key.
func (s *signed) verify(t *testing.T, cosign, ref string, layout bool) {
	t.Helper()
	stranger := filepath.Join(t.TempDir(), "keys")
	_, err := keys.New(stranger, keys.RoleRelease, passphrase)
	must(t, err)
	for i, c := range attest.VerifyCommands(ref, layout, s.public) {
		other := s.public(keys.RoleRelease)
		if c.Role == keys.RoleRelease {
			other, _ = keys.PublicPath(stranger, keys.RoleRelease)
		}
		c.Args[0] = cosign
		if out, err := run(t, c.Args...); err != nil {
			t.Errorf("%s: %v\n%s", c, err, tail([]byte(out)))
		}
		wrong := attest.VerifyCommands(ref, layout, func(string) string { return other })[i]
		wrong.Args[0] = cosign
		if out, err := run(t, wrong.Args...); err == nil {
			t.Errorf("with another key it must fail: %s\n%s", wrong, tail([]byte(out)))
		}
	}
}

func TestStockCosignVerifiesEveryStatementFromARegistry(t *testing.T) {
	cosign, host := cosignTool.build(t), startRegistry(t)
	s := signedImage(t, kiln.Allow)
	index, err := s.layout.Find("stable")
	must(t, err)
	ref := host + "/demo/hello:stable"
	got, err := image.Push(t.Context(), s.layout, index, ref, false)
	must(t, err)
	if got != s.artifact.Index {
		t.Fatalf("pushed %s, want %s", got, s.artifact.Index)
	}
	s.verify(t, cosign, ref, false)
	s.verify(t, cosign, host+"/demo/hello@"+string(s.artifact.Index), false)
	s.verify(t, cosign, host+"/demo/hello@"+string(s.artifact.Manifest), false)
}

func TestStockCosignVerifiesEveryStatementFromALayout(t *testing.T) {
	cosign := cosignTool.build(t)
	s := signedImage(t, kiln.Allow)
	s.verify(t, cosign, s.layout.Dir(), true)
}

func TestAnImageThatWasNotAdmittedHasNoReleaseSignature(t *testing.T) {
	cosign := cosignTool.build(t)
	s := signedImage(t, kiln.Deny)
	list := attest.VerifyCommands(s.layout.Dir(), true, s.public)
	for _, c := range list[:2] {
		c.Args[0] = cosign
		out, err := run(t, c.Args...)
		if c.Role == keys.RoleRelease && err == nil {
			t.Errorf("cosign accepts a denied image: %s\n%s", c, tail([]byte(out)))
		}
		if c.Role == keys.RoleGate && err != nil {
			t.Errorf("the signed refusal cannot be read: %v\n%s", err, tail([]byte(out)))
		}
	}
}

func TestCosignSignsWithOurKeysAndWeLoadIts(t *testing.T) {
	cosign := cosignTool.build(t)
	s := signedImage(t, kiln.Allow)
	t.Setenv("COSIGN_PASSWORD", string(passphrase))
	path, err := keys.Path(s.keys, keys.RoleRelease)
	must(t, err)
	out := mustRun(t, cosign, "public-key", "--key", path)
	want, err := os.ReadFile(s.public(keys.RoleRelease))
	must(t, err)
	if !strings.Contains(out, strings.TrimSpace(string(want))) {
		t.Errorf("cosign reads our key as\n%s\nwant\n%s", out, want)
	}
	dir := t.TempDir()
	mustRun(t, cosign, "generate-key-pair", "--output-key-prefix", filepath.Join(dir, "theirs"))
	text, err := os.ReadFile(filepath.Join(dir, "theirs.key"))
	must(t, err)
	k, err := keys.Import(filepath.Join(dir, "keys"), keys.RoleRelease, text, passphrase)
	must(t, err)
	theirs, err := os.ReadFile(filepath.Join(dir, "theirs.pub"))
	must(t, err)
	if string(k.PublicPEM()) != string(theirs) {
		t.Errorf("imported public key\n%s\nwant\n%s", k.PublicPEM(), theirs)
	}
}
