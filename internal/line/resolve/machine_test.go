package resolve

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"kiln"
	"kiln/internal/deb"
)

func machineDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestMachine(t *testing.T) {
	armored := "-----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEY\n -----END PGP PUBLIC KEY BLOCK-----"
	dir := machineDir(t, map[string]string{
		"etc/os-release":                "ID=debian\nVERSION_CODENAME=\"bookworm\"\n",
		"etc/apt/trusted.gpg.d/one.gpg": "key",
		"etc/apt/sources.list": `# a comment
deb http://archive.example.com/debian/ bookworm main contrib # and another
deb-src http://archive.example.com/debian bookworm main
deb [arch=s390x] http://other.example.com/debian bookworm main
deb [ signed-by=/usr/share/keyrings/a.gpg trusted=yes ] http://archive.example.com/security bookworm-security main
deb cdrom:[Debian]/ bookworm main
deb http://flat.example.com/ ./
`,
		"etc/apt/sources.list.d/debian.sources": `Types: deb deb-src
# a comment between fields
URIs: https://archive.example.com/two
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/b.gpg
 0123456789ABCDEF0123456789ABCDEF01234567

Enabled: no
Types: deb
URIs: https://disabled.example.com/x
Suites: bookworm
Components: main

Types: deb
URIs: https://archive.example.com/inline
Suites: bookworm
Components: main
Signed-By:
 ` + armored + "\n",
		"etc/apt/sources.list.d/old.sources.disabled": "Types: deb\nURIs: http://never.example.com\nSuites: x\n",
	})
	base, err := Machine(dir)
	if err != nil {
		t.Fatal(err)
	}
	if base.Release != "bookworm" || len(base.Archives) != 4 {
		t.Fatalf("%+v", base)
	}
	trusted := filepath.Join(dir, "etc/apt/trusted.gpg.d") + "/"
	for i, want := range []kiln.AptArchive{
		{URI: "http://archive.example.com/debian", Suites: []string{"bookworm"}, Components: []string{"main", "contrib"}, Keyring: trusted},
		{URI: "http://archive.example.com/security", Suites: []string{"bookworm-security"}, Components: []string{"main"}, Keyring: filepath.Join(dir, "usr/share/keyrings/a.gpg")},
		{URI: "https://archive.example.com/two", Suites: []string{"bookworm", "bookworm-updates"}, Components: []string{"main"}, Keyring: filepath.Join(dir, "usr/share/keyrings/b.gpg"), Fingerprints: []string{"0123456789ABCDEF0123456789ABCDEF01234567"}},
		{URI: "https://archive.example.com/inline", Suites: []string{"bookworm"}, Components: []string{"main"}, Keyring: "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEY\n-----END PGP PUBLIC KEY BLOCK-----\n"},
	} {
		got := base.Archives[i]
		if got.URI != want.URI || strings.Join(got.Suites, " ") != strings.Join(want.Suites, " ") || strings.Join(got.Components, " ") != strings.Join(want.Components, " ") ||
			got.Keyring != want.Keyring || strings.Join(got.Fingerprints, " ") != strings.Join(want.Fingerprints, " ") {
			t.Errorf("source %d: %+v, want %+v", i, got, want)
		}
	}
}

func TestMachineRefuses(t *testing.T) {
	for what, list := range map[string]string{
		"no sources":           "",
		"an unclosed bracket":  "deb [arch=amd64 http://archive.example.com x main\n",
		"no suite":             "deb http://archive.example.com\n",
		"no keyring anywhere":  "deb http://archive.example.com x main\n",
		"a relative Signed-By": "deb [signed-by=keys/a.gpg] http://archive.example.com x main\n",
	} {
		if base, err := Machine(machineDir(t, map[string]string{"etc/apt/sources.list": list})); err == nil {
			t.Errorf("%s: %+v", what, base)
		}
	}
}

func TestOtherRelease(t *testing.T) {
	for in, want := range map[string]string{"bookworm": "trixie", "bookworm-security": "trixie-security", "stable-updates": "trixie-updates", "nodistro": "nodistro"} {
		if got := otherRelease([]string{in}, "bookworm", "trixie"); got[0] != want {
			t.Errorf("%s becomes %s, want %s", in, got[0], want)
		}
	}
}

// TestMachineSkipsThirdParties builds from the machine's sources and leaves out what another party signs.
func TestMachineSkipsThirdParties(t *testing.T) {
	own, other := newTestArchive(t), newTestArchive(t)
	own.suite("stable", world, "")
	other.suite("nodistro", "Package: aa\nVersion: 9", "Label2: x\n")
	o := testOptions(t)
	verify := o.Verify
	o.Root = machineDir(t, map[string]string{
		"etc/os-release":                       "VERSION_CODENAME=stable\n",
		"etc/apt/trusted.gpg.d/own.gpg":        readString(t, own.keyring),
		"etc/apt/trusted.gpg.d/zz.asc":         armoredKey(t, other.key),
		"etc/apt/sources.list.d/own.list":      "deb file://" + own.dir + " stable main\n",
		"etc/apt/sources.list.d/other.sources": "Types: deb\nURIs: file://" + other.dir + "\nSuites: nodistro\nComponents: main\n",
	})
	o.Verify = func(raw []byte, a kiln.AptArchive, suite string, keyring []byte) (r *deb.Release, e kiln.Evidence, err error) {
		r, e, err = verify(raw, a, suite, keyring)
		if err == nil && suite == "nodistro" {
			r.Origin = "Third Party"
		}
		return r, e, err
	}
	var notes strings.Builder
	o.Report = func(e kiln.Event) { notes.WriteString(e.Message + "\n") }
	r := recipeOn(kiln.Base{Apt: &kiln.AptBase{Machine: true}}, "python")
	lock, evidence, err := Apt(t.Context(), r, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(lock.Archives) != 1 || len(evidence) != 1 || lock.Release != "stable" || !strings.Contains(notes.String(), `"Third Party"`) {
		t.Errorf("archives %+v, notes %s", lock.Archives, notes.String())
	}
}

func readString(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func armoredKey(t *testing.T, key *openpgp.Entity) string {
	t.Helper()
	var out bytes.Buffer
	w, err := armor.Encode(&out, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := key.Serialize(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
