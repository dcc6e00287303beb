package testarchive

import (
	"crypto/md5"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/internal/pgp/pgptest"
)

// Suite is one suite of an archive. Its zero value besides Name is a good one.
type Suite struct {
	Name     string // below dists/
	Suite    string // signed; default Name
	Codename string // signed; default Name
	Origin   string // default "Example"
	Date     time.Time
	// ValidUntil is left out when zero.
	ValidUntil time.Time
	// Packages by component; an empty map means component main without packages.
	Packages map[string][]Package
	// Signers default to the archive's key; an empty list that is not nil leaves the file unsigned.
	Signers []*pgptest.Key
	// SignedAt defaults to Date.
	SignedAt time.Time
	// Text changes the Release text before it is signed; InRelease changes the file afterwards.
	Text      func(string) string
	InRelease func([]byte) []byte
}

// Archive is a signed apt archive in a directory.
type Archive struct {
	Dir string
	// Key signs what names no other signer. Keyring is the path of its public half, outside Dir.
	Key     *pgptest.Key
	Keyring string
	// URI is the file URL of Dir; after Serve it is the server's.
	URI string

	suites []string
	parts  map[string]bool
}

// New builds an archive in a temporary directory of the test.
func New(t testing.TB, suites ...Suite) *Archive {
	t.Helper()
	root := t.TempDir()
	a := &Archive{
		Dir: filepath.Join(root, "archive"), Keyring: filepath.Join(root, "keyring.gpg"),
		Key: pgptest.NewKey(pgptest.KeySpec{Subkey: true}), parts: map[string]bool{},
	}
	a.URI = "file://" + a.Dir
	check(os.MkdirAll(a.Dir, 0o755))
	check(os.WriteFile(a.Keyring, a.Key.Public(), 0o644))
	a.Publish(suites...)
	return a
}

// Base describes the archive as a recipe's base; release is the codename.
func (a *Archive) Base(release string) kiln.Base {
	return kiln.Base{Apt: &kiln.AptBase{Release: release, Archives: []kiln.AptArchive{a.Apt()}}}
}

// Apt describes the archive with all its suites and components.
func (a *Archive) Apt() kiln.AptArchive {
	return kiln.AptArchive{
		URI: a.URI, Suites: slices.Clone(a.suites), Components: slices.Sorted(maps.Keys(a.parts)),
		Keyring: a.Keyring, Fingerprints: []string{a.Key.Fingerprint()},
	}
}

// Publish writes suites, or writes them again as they are now.
func (a *Archive) Publish(suites ...Suite) {
	for _, s := range suites {
		a.publish(s)
		if !slices.Contains(a.suites, s.Name) {
			a.suites = append(a.suites, s.Name)
		}
	}
}

func (a *Archive) publish(s Suite) {
	if s.Date.IsZero() {
		s.Date = time.Now().Add(-time.Hour)
	}
	if len(s.Packages) == 0 {
		s.Packages = map[string][]Package{"main": nil}
	}
	sums := map[string][]byte{}
	arches := []string{"amd64"}
	for _, component := range sortedKeys(s.Packages) {
		a.parts[component] = true
		for _, p := range s.Packages[component] {
			if p = p.filled(); p.Arch != "all" && !slices.Contains(arches, p.Arch) {
				arches = append(arches, p.Arch)
			}
		}
	}
	for _, component := range sortedKeys(s.Packages) {
		stanzas := a.pool(component, s.Packages[component])
		for _, arch := range arches {
			base := fmt.Sprintf("%s/binary-%s/Packages", component, arch)
			index := []byte(stanzas[arch] + stanzas["all"])
			sums[base] = index
			sums[base+".xz"] = Compress("xz", index)
			sums[base+".gz"] = Compress("gz", index)
		}
	}
	dir := filepath.Join(a.Dir, "dists", s.Name)
	for name, data := range sums {
		write(filepath.Join(dir, name), data)
		write(filepath.Join(dir, filepath.Dir(name), "by-hash", "SHA256", kiln.DigestBytes(data).Hex()), data)
	}
	write(filepath.Join(dir, "InRelease"), a.sign(s, s.release(arches, sums)))
}

// pool writes the .debs and returns their stanzas by architecture.
func (a *Archive) pool(component string, packages []Package) map[string]string {
	stanzas := map[string]string{}
	for _, p := range packages {
		p = p.filled()
		deb := p.Build()
		name := fmt.Sprintf("pool/%s/%s/%s_%s_%s.deb", component, p.Name, p.Name, strings.ReplaceAll(p.Version, ":", "%3a"), p.Arch)
		write(filepath.Join(a.Dir, name), deb)
		stanza := fmt.Sprintf("%sFilename: %s\nSize: %d\nMD5sum: %x\nSHA256: %s\n",
			p.Fields(), name, len(deb), md5.Sum(deb), kiln.DigestBytes(deb).Hex())
		if p.Index != nil {
			stanza = p.Index(stanza)
		}
		stanzas[p.Arch] += stanza + "\n"
	}
	return stanzas
}

func (s Suite) release(arches []string, sums map[string][]byte) string {
	def := func(v, d string) string {
		if v == "" {
			return d
		}
		return v
	}
	const form = "Mon, 02 Jan 2006 15:04:05 UTC"
	text := fmt.Sprintf("Origin: %s\nLabel: Example\nSuite: %s\nCodename: %s\nDate: %s\n",
		def(s.Origin, "Example"), def(s.Suite, s.Name), def(s.Codename, s.Name), s.Date.UTC().Format(form))
	if !s.ValidUntil.IsZero() {
		text += "Valid-Until: " + s.ValidUntil.UTC().Format(form) + "\n"
	}
	text += fmt.Sprintf("Acquire-By-Hash: yes\nArchitectures: %s\nComponents: %s\nSHA256:\n",
		strings.Join(arches, " "), strings.Join(sortedKeys(s.Packages), " "))
	for _, name := range sortedKeys(sums) {
		text += fmt.Sprintf(" %s %d %s\n", kiln.DigestBytes(sums[name]).Hex(), len(sums[name]), name)
	}
	return text
}

func (a *Archive) sign(s Suite, text string) []byte {
	if s.Text != nil {
		text = s.Text(text)
	}
	if s.Signers == nil {
		s.Signers = []*pgptest.Key{a.Key}
	}
	if s.SignedAt.IsZero() {
		s.SignedAt = s.Date
	}
	file := []byte(text)
	if len(s.Signers) > 0 {
		file = pgptest.Clearsign(file, s.SignedAt, s.Signers...)
	}
	if s.InRelease != nil {
		file = s.InRelease(file)
	}
	return file
}

// InRelease returns the file of a suite.
func (a *Archive) InRelease(suite string) []byte { return a.Read("dists/" + suite + "/InRelease") }

// Read returns a file of the archive.
func (a *Archive) Read(path string) []byte {
	b, err := os.ReadFile(filepath.Join(a.Dir, path))
	check(err)
	return b
}

func write(path string, data []byte) {
	check(os.MkdirAll(filepath.Dir(path), 0o755))
	check(os.WriteFile(path, data, 0o644))
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
