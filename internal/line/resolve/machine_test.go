package resolve

import (
	"bytes"
	"fmt"
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

// TestMachineSkipsThirdParties builds from the machine's sources and leaves out what is not the distribution's.
func TestMachineSkipsThirdParties(t *testing.T) {
	own, other := newTestArchive(t), newTestArchive(t)
	own.suite("stable", world, "")
	own.suite("stable-security", "Package: python\nVersion: 3+deb1", "")
	other.suite("nodistro", "Package: python\nVersion: 9", "")
	third := kiln.AptArchive{URI: "file://" + other.dir, Suites: []string{"nodistro"}, Components: []string{"main"}, Keyring: other.keyring}
	source := func(dir, suites, keyring string) string {
		return fmt.Sprintf("Types: deb\nURIs: file://%s\nSuites: %s\nComponents: main\nSigned-By: %s\n\n", dir, suites, keyring)
	}
	for _, c := range []struct {
		what, sources string
		add           []kiln.AptArchive
		python, says  string // the version chosen and a note; or, without a version, the error
	}{
		{"signed by another party", source(own.dir, "stable stable-security", "/own.gpg") + source(other.dir, "nodistro", "/other.gpg"), nil, "3+deb1", `"Third Party"`},
		{"named in the recipe, too", source(own.dir, "stable", "/own.gpg"), []kiln.AptArchive{third}, "9", ""},
		{"another party's that is not there", source(own.dir, "stable", "/own.gpg") + source("/nonexistent", "tool", "/other.gpg"), nil, "3", "/nonexistent tool"},
		{"another party's without its keyring", source(own.dir, "stable", "/own.gpg") + source(other.dir, "nodistro", "/none.gpg"), nil, "3", "none.gpg"},
		{"the distribution's that is not there", source(own.dir, "stable stable-updates", "/own.gpg"), nil, "", "stable-updates"},
		{"a pocket with a wrong key", source(own.dir, "stable", "/own.gpg") + source(own.dir, "stable-security", "/other.gpg"), nil, "", "verifying InRelease of stable-security"},
		{"no source of the distribution", source(other.dir, "nodistro", "/other.gpg"), nil, "", "none of the machine's apt sources"},
	} {
		t.Run(c.what, func(t *testing.T) {
			o := testOptions(t)
			o.Root = machineDir(t, map[string]string{
				"etc/os-release": "VERSION_CODENAME=stable\n", "etc/apt/sources.list.d/all.sources": c.sources,
				"own.gpg": readString(t, own.keyring), "other.gpg": armoredKey(t, other.key),
			})
			o.Verify = func(raw []byte, a kiln.AptArchive, suite string, keyring []byte) (*deb.Release, kiln.Evidence, error) {
				r, e, err := verifySignature(raw, a, suite, keyring)
				if err == nil && suite == "nodistro" {
					r.Origin = "Third Party"
				}
				return r, e, err
			}
			var notes strings.Builder
			o.Report = func(e kiln.Event) { notes.WriteString(e.Message + "\n") }
			r := recipeOn(kiln.Base{Apt: &kiln.AptBase{Machine: true, Archives: c.add}}, "python")
			lock, _, err := Apt(t.Context(), r, o)
			if c.python == "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("want an error about %q, got %v", c.says, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err, notes.String())
			}
			if v := lock.Package("python").Version; v != c.python || lock.Release != "stable" || !strings.Contains(notes.String(), c.says) {
				t.Errorf("python %s, notes %s", v, notes.String())
			}
		})
	}
}

// TestKeyrings: several files and directories are one ring, armored or not.
func TestKeyrings(t *testing.T) {
	one, two := newTestArchive(t), newTestArchive(t)
	one.suite("stable", world, "")
	two.suite("stable", world, "")
	dir := machineDir(t, map[string]string{"d/one.gpg": readString(t, one.keyring), "d/two.asc": armoredKey(t, two.key), "d/README": "no key"})
	for what, spec := range map[string]string{
		"a directory": dir + "/d/", "two files": dir + "/d/one.gpg," + dir + "/d/two.asc", "the key itself": armoredKey(t, two.key), "a relative path": "d/two.asc",
	} {
		r := recipeOn(two.base("stable"))
		r.Dir = dir
		r.Base.Apt.Archives[0].Keyring = spec
		if _, _, err := Apt(t.Context(), r, testOptions(t)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, spec := range map[string]string{"an empty directory": t.TempDir() + "/", "a device": "/dev/null,/dev/zero"} {
		if _, err := loadKeyring(spec, dir); err == nil {
			t.Errorf("%s: accepted", what)
		}
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
