package verify

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/internal/fetch"
)

// stanza is a deb822 source of this machine.
type stanza map[string]string

// machineSources reads the machine's deb822 sources that name a keyring file.
func machineSources(t *testing.T) []stanza {
	t.Helper()
	files, _ := filepath.Glob("/etc/apt/sources.list.d/*.sources")
	var found []stanza
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for _, text := range bytes.Split(data, []byte("\n\n")) {
			s := stanza{}
			for line := range strings.Lines(string(text)) {
				if k, v, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, "#") {
					s[k] = strings.TrimSpace(v)
				}
			}
			if filepath.IsAbs(s["Signed-By"]) && s["URIs"] != "" && s["Suites"] != "" {
				found = append(found, s)
			}
		}
	}
	return found
}

// absent skips the test, or fails it in CI.
func absent(t *testing.T, format string, a ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, a...)
	}
	t.Skipf(format, a...)
}

// The real archives of this machine, and those of the next Debian release beside them.
func TestRealArchivesAreAccepted(t *testing.T) {
	sources := machineSources(t)
	if len(sources) == 0 {
		absent(t, "this machine has no deb822 apt source with a keyring file")
	}
	client := fetch.New(fetch.Config{Attempts: 2})
	for _, s := range sources {
		keyring, err := os.ReadFile(s["Signed-By"])
		if err != nil {
			t.Fatal(err)
		}
		uri := strings.TrimSuffix(strings.Fields(s["URIs"])[0], "/")
		for _, suite := range strings.Fields(s["Suites"]) {
			for _, suite := range []string{suite, strings.Replace(suite, "bookworm", "trixie", 1)} {
				realInRelease(t, client, uri, suite, keyring)
			}
		}
	}
}

func realInRelease(t *testing.T, client *fetch.Client, uri, suite string, keyring []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	raw, err := client.Get(ctx, uri+"/dists/"+suite+"/InRelease", 1<<20)
	if err != nil {
		absent(t, "the archive cannot be reached: %v", err)
	}
	r := Request{Archive: kiln.AptArchive{URI: uri}, Suite: suite, Keyring: keyring, Now: time.Now()}
	rel, e, err := InRelease(raw, r)
	if err != nil {
		t.Error(err)
		return
	}
	if err := e.Validate(); err != nil {
		t.Error(err)
	}
	if len(e.Signers) == 0 || len(rel.SHA256) == 0 || e.SignedAt != rel.Date.Unix() {
		t.Errorf("evidence %+v", e)
	}
	t.Logf("%s: suite %s, codename %s, %v", e.Archive, rel.Suite, rel.Codename, e.Signers)
	r.LastSeen = e.SignedAt + 1
	if _, _, err := InRelease(raw, r); err == nil {
		t.Error("an older file than seen before is accepted")
	}
}
