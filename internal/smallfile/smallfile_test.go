package smallfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestWhatIsReadAndWhatIsRefused(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{"empty": "", "fits": "12345678", "long": "123456789"} {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for read, f := range map[string]func(string, int64) ([]byte, error){"Read": Read, "Regular": Regular} {
		for name, want := range map[string]string{"empty": "", "fits": "12345678"} {
			if got, err := f(at(name), 8); err != nil || string(got) != want {
				t.Errorf("%s, %s: %q, %v", read, name, got, err)
			}
		}
		if got, err := f(at("long"), 8); got != nil || err == nil || !strings.Contains(err.Error(), "long is larger than 8 bytes") {
			t.Errorf("%s of a file that is too long: %q, %v", read, got, err)
		}
		if _, err := f(at("none"), 8); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of no file: %v", read, err)
		}
	}
	for _, name := range []string{"pipe", "."} {
		if _, err := Regular(at(name), 8); err == nil || !strings.Contains(err.Error(), "no regular file") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := Read("/dev/zero", 8); got != nil || err == nil {
		t.Errorf("an endless device: %q, %v", got, err)
	}
}
