package resolve

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"kiln"
	"kiln/internal/deb"
	"kiln/internal/osrelease"
	"kiln/internal/smallfile"
)

// Machine reads the apt sources of the system whose root directory is root:
// every enabled binary source, one-line and deb822, with its keyring, and the
// codename of os-release. Which of them are the distribution's own is decided
// later, by what their signed InRelease says. A relative Signed-By and options
// that weaken verification (trusted=yes) are not taken over: the result always
// names a keyring.
func Machine(root string) (*kiln.AptBase, error) {
	m := &machine{dir: root}
	base := &kiln.AptBase{Machine: true, Release: m.codename()}
	var err error
	if base.Archives, err = m.archives(); err != nil {
		return nil, fmt.Errorf("reading the machine's apt sources: %w", err)
	}
	if len(base.Archives) == 0 {
		return nil, errors.New("the machine has no apt sources (looked in etc/apt/sources.list and etc/apt/sources.list.d); " +
			"name the archives in the recipe: base: {apt: {release: ..., archives: [...]}}")
	}
	return base, nil
}

type machine struct{ dir string }

// maxSources bounds one sources file.
const maxSources = 4 << 20

func (m *machine) read(name string) (string, error) {
	data, err := smallfile.Read(filepath.Join(m.dir, name), maxSources)
	return string(data), err
}

// codename is the variable of an os-release that names the release; Debian unstable has none.
const codename = "VERSION_CODENAME"

// Codename is the release that os-release names in the tree below dir; "" where it names none. No link leads out of the tree.
func Codename(dir string) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("reading os-release: %w", err)
	}
	defer root.Close()
	for _, name := range osrelease.Paths() {
		f, err := root.Open(name)
		if err != nil {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(f, maxSources))
		f.Close()
		if err != nil {
			return "", fmt.Errorf("reading %s: %w", name, err)
		}
		if v := osrelease.Parse(string(text))[codename]; v != "" {
			return v, nil
		}
	}
	return "", nil
}

func (m *machine) codename() string {
	for _, name := range osrelease.Paths() {
		text, err := m.read(name)
		if err != nil {
			continue
		}
		if v := osrelease.Parse(text)[codename]; v != "" {
			return v
		}
	}
	return ""
}

func (m *machine) archives() ([]kiln.AptArchive, error) {
	var all []kiln.AptArchive
	names := []string{"etc/apt/sources.list"}
	parts, err := os.ReadDir(filepath.Join(m.dir, "etc/apt/sources.list.d"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range parts { // ReadDir sorts
		names = append(names, "etc/apt/sources.list.d/"+e.Name())
	}
	for _, name := range names {
		parse := parseOneLine
		switch path.Ext(name) {
		case ".list":
		case ".sources":
			parse = parseDeb822
		default:
			continue // apt ignores other endings
		}
		text, err := m.read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, found...)
	}
	for i := range all {
		if err := m.finish(&all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// finish gives a source without Signed-By the machine's trusted keyrings.
func (m *machine) finish(a *kiln.AptArchive) error {
	if a.Keyring == "" {
		if _, err := os.Stat(filepath.Join(m.dir, "etc/apt/trusted.gpg.d")); err != nil {
			return fmt.Errorf("source %s has no Signed-By, and the machine has no etc/apt/trusted.gpg.d", a.URI)
		}
		a.Keyring = path.Join(m.dir, "etc/apt/trusted.gpg.d") + "/"
		if fi, err := os.Stat(filepath.Join(m.dir, "etc/apt/trusted.gpg")); err == nil && fi.Mode().IsRegular() && fi.Size() > 0 {
			a.Keyring += "," + path.Join(m.dir, "etc/apt/trusted.gpg")
		}
		return nil
	}
	if isArmor(a.Keyring) {
		return nil
	}
	var paths []string
	for p := range strings.SplitSeq(a.Keyring, ",") {
		paths = append(paths, path.Join(m.dir, p))
	}
	a.Keyring = strings.Join(paths, ",")
	return nil
}

// parseDeb822 reads the .sources form.
func parseDeb822(text string) ([]kiln.AptArchive, error) {
	paragraphs, err := deb.ParseControl([]byte(text))
	if err != nil {
		return nil, err
	}
	var all []kiln.AptArchive
	for _, p := range paragraphs {
		if !slices.Contains(strings.Fields(p.Get("Types")), "deb") || isNo(p.Get("Enabled")) {
			continue
		}
		if !servesMachine(p.Get("Architectures")) {
			continue
		}
		uris, suites := strings.Fields(p.Get("URIs")), strings.Fields(p.Get("Suites"))
		if len(uris) == 0 || len(suites) == 0 {
			return nil, errors.New("a source needs URIs and Suites")
		}
		for _, u := range uris {
			a := kiln.AptArchive{URI: u, Suites: suites, Components: strings.Fields(p.Get("Components"))}
			if err := signedBy(&a, p.Get("Signed-By")); err != nil {
				return nil, err
			}
			if all, err = appendArchive(all, a); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

func isNo(s string) bool {
	return slices.Contains([]string{"no", "false", "0", "off", "without", "disable"}, strings.ToLower(s))
}

// parseOneLine reads the sources.list form: deb [options] uri suite component...
func parseOneLine(text string) ([]kiln.AptArchive, error) {
	var all []kiln.AptArchive
	n := 0
	for l := range strings.Lines(text) {
		n++
		l, _, _ = strings.Cut(l, "#")
		words := strings.Fields(l)
		if len(words) == 0 || words[0] != "deb" {
			continue
		}
		options, words, err := oneLineOptions(words[1:])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if len(words) < 2 {
			return nil, fmt.Errorf("line %d: a source needs a URI and a suite", n)
		}
		if !servesMachine(strings.ReplaceAll(options["arch"], ",", " ")) {
			continue
		}
		a := kiln.AptArchive{URI: words[0], Suites: words[1:2], Components: words[2:]}
		if err := signedBy(&a, strings.ReplaceAll(options["signed-by"], ",", " ")); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if all, err = appendArchive(all, a); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return all, nil
}

func oneLineOptions(words []string) (map[string]string, []string, error) {
	options := map[string]string{}
	if len(words) == 0 || !strings.HasPrefix(words[0], "[") {
		return options, words, nil
	}
	for i, w := range words {
		last := strings.HasSuffix(w, "]")
		if key, value, ok := strings.Cut(strings.Trim(w, "[]"), "="); ok {
			options[strings.ToLower(strings.TrimRight(key, "+-"))] = value
		}
		if last {
			return options, words[i+1:], nil
		}
	}
	return nil, nil, errors.New("the options' bracket is not closed")
}

// servesMachine reports whether a source's architecture list, empty for all, includes the machine's.
func servesMachine(list string) bool {
	archs := strings.Fields(list)
	return len(archs) == 0 || slices.Contains(archs, debArch(machinePlatform()))
}

// signedBy reads apt's Signed-By: key files, an embedded key, or fingerprints.
func signedBy(a *kiln.AptArchive, value string) error {
	if strings.Contains(value, "-----BEGIN PGP PUBLIC KEY BLOCK-----") {
		a.Keyring = embeddedKey(value)
		return nil
	}
	var files []string
	for w := range strings.FieldsSeq(value) {
		switch fpr := strings.TrimSuffix(w, "!"); {
		case strings.HasPrefix(w, "/"):
			files = append(files, path.Clean(w))
		case isFingerprint(fpr):
			a.Fingerprints = append(a.Fingerprints, strings.ToUpper(fpr))
		default:
			return fmt.Errorf("Signed-By %.80q is neither an absolute path nor a fingerprint", w)
		}
	}
	a.Keyring = strings.Join(files, ",")
	return nil
}

// embeddedKey undoes deb822: a line of "." stands for an empty one.
func embeddedKey(value string) string {
	var out strings.Builder
	for l := range strings.Lines(value) {
		l = strings.TrimSpace(l)
		if l == "." {
			l = ""
		}
		if l != "" || out.Len() > 0 {
			out.WriteString(l + "\n")
		}
	}
	return out.String()
}

func isFingerprint(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

// appendArchive adds a source, or joins it with one of the same address and
// keys. Flat archives and media that are not there (cdrom:) are left out, as
// are methods that cannot be read here.
func appendArchive(all []kiln.AptArchive, a kiln.AptArchive) ([]kiln.AptArchive, error) {
	u, err := url.Parse(a.URI)
	if err != nil {
		return nil, fmt.Errorf("address %.120q: %w", a.URI, err)
	}
	if !slices.Contains([]string{"http", "https", "file", "copy", "mirror+file"}, u.Scheme) || u.Scheme == "mirror+file" {
		return all, nil
	}
	if u.Scheme == "copy" {
		a.URI = "file" + strings.TrimPrefix(a.URI, "copy")
	}
	a.URI = strings.TrimRight(a.URI, "/")
	if slices.ContainsFunc(a.Suites, func(s string) bool { return strings.HasSuffix(s, "/") }) {
		return all, nil
	}
	for i := range all {
		b := &all[i]
		if b.URI == a.URI && slices.Equal(b.Components, a.Components) && b.Keyring == a.Keyring && slices.Equal(b.Fingerprints, a.Fingerprints) {
			for _, s := range a.Suites {
				if !slices.Contains(b.Suites, s) {
					b.Suites = append(slices.Clip(b.Suites), s)
				}
			}
			return all, nil
		}
	}
	return append(all, a), nil
}
