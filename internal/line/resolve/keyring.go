package resolve

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"kiln"
)

// maxKeyring bounds a keyring; Debian's own has 60 kB.
const maxKeyring = 4 << 20

const armorHead = "-----BEGIN PGP PUBLIC KEY BLOCK-----"

func isArmor(s string) bool { return strings.HasPrefix(strings.TrimSpace(s), armorHead) }

// loadKeyring returns the keys that spec names, as OpenPGP bytes: an armored
// key itself; or paths separated by commas, where one that ends in "/" is a
// directory whose *.gpg and *.asc files count. A single file is returned as
// it is, several are joined without their armor, in order of name.
func loadKeyring(spec, dir string) ([]byte, error) {
	if isArmor(spec) {
		return []byte(spec), nil
	}
	if strings.TrimSpace(spec) == "" {
		return nil, errors.New("the archive names no keyring; set keyring to the path of an OpenPGP keyring")
	}
	paths := strings.Split(spec, ",")
	if whole := inDir(dir, spec); len(paths) > 1 {
		if _, err := os.Stat(whole); err == nil { // a comma in a name
			paths = []string{spec}
		}
	}
	var files []string
	for _, p := range paths {
		p = inDir(dir, p)
		found, err := keyFiles(p)
		if err != nil {
			return nil, fmt.Errorf("keyring %s: %w", p, err)
		}
		files = append(files, found...)
	}
	var all []byte
	for _, name := range files {
		data, err := readKey(name)
		if err != nil {
			return nil, fmt.Errorf("keyring %s: %w", name, err)
		}
		if len(files) == 1 {
			return data, nil
		}
		if data, err = withoutArmor(data); err != nil {
			return nil, fmt.Errorf("keyring %s: %w", name, err)
		}
		if all = append(all, data...); len(all) > maxKeyring {
			return nil, fmt.Errorf("keyrings %s are larger than %d bytes", spec, maxKeyring)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("keyring %s holds no keys", spec)
	}
	return all, nil
}

func inDir(dir, p string) string {
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(dir, p)
}

// Keyrings stores the keyrings of a recipe's archives with o.Put, for a lock that
// was made elsewhere: it names them by digest. One that is not here is left
// out; who needs it will miss it.
func Keyrings(r *kiln.Recipe, o Options) error {
	if r.Base.Apt == nil {
		return nil
	}
	base, _, err := aptBase(r.Base.Apt, o)
	if err != nil {
		return nil //nolint:nilerr // this machine has none
	}
	for _, a := range base.Archives {
		keyring, err := loadKeyring(a.Keyring, r.Dir)
		if err != nil {
			continue
		}
		if _, err := o.Put(keyring); err != nil {
			return fmt.Errorf("storing the keyring: %w", err)
		}
	}
	return nil
}

// keyFiles lists a file itself, or a directory's key files in order of name.
func keyFiles(p string) ([]string, error) {
	fi, err := os.Stat(p)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errors.New("does not exist; install the distribution's keyring package or correct the path")
		}
		return nil, err
	}
	if !fi.IsDir() {
		return []string{p}, nil
	}
	entries, err := os.ReadDir(p)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if slices.Contains([]string{".gpg", ".asc"}, filepath.Ext(e.Name())) {
			files = append(files, filepath.Join(p, e.Name()))
		}
	}
	return files, nil
}

func readKey(name string) ([]byte, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxKeyring {
		return nil, fmt.Errorf("is no regular file of at most %d bytes", maxKeyring)
	}
	return os.ReadFile(name)
}

// withoutArmor decodes every armored block; binary keys stay as they are. The
// armor's checksum is not judged: OpenPGP's own structure is, by the verifier.
func withoutArmor(data []byte) ([]byte, error) {
	text := string(data)
	if !strings.Contains(text, armorHead) {
		return data, nil
	}
	var out []byte
	for {
		_, rest, ok := strings.Cut(text, armorHead)
		if !ok {
			return out, nil
		}
		block, after, ok := strings.Cut(rest, "-----END PGP PUBLIC KEY BLOCK-----")
		if !ok {
			return nil, errors.New("the armored key has no end")
		}
		raw, err := armorBody(block)
		if err != nil {
			return nil, err
		}
		out, text = append(out, raw...), after
	}
}

func armorBody(block string) ([]byte, error) {
	var body strings.Builder
	headers := true
	for i, l := range strings.Split(block, "\n") {
		l = strings.TrimSpace(l)
		switch {
		case i == 0:
		case headers && l == "":
			headers = false
		case headers && strings.Contains(l, ": "):
		case strings.HasPrefix(l, "="):
		default:
			headers = false
			body.WriteString(l)
		}
	}
	raw, err := base64.StdEncoding.DecodeString(body.String())
	if err != nil {
		return nil, fmt.Errorf("decoding the armored key: %w", err)
	}
	return raw, nil
}
