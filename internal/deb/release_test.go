package deb

import (
	"strings"
	"testing"
	"time"
)

const releaseText = `Origin: Example
Label: Example
Suite: stable
Codename: ember
Date: Sat, 03 Jan 2026 10:16:37 UTC
Valid-Until: Sat, 10 Jan 2026 10:16:37 UTC
Acquire-By-Hash: yes
NotAutomatic: yes
Components: main contrib
Architectures: amd64 arm64
MD5Sum:
 d41d8cd98f00b204e9800998ecf8427e 0 main/binary-amd64/Packages
SHA256:
 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-amd64/Packages
`

func TestParseRelease(t *testing.T) {
	r, err := ParseRelease([]byte(releaseText))
	if err != nil {
		t.Fatal(err)
	}
	if r.Suite != "stable" || r.Codename != "ember" || !r.ByHash || !r.NotAutomatic || len(r.Components) != 2 || len(r.SHA256) != 1 {
		t.Errorf("read %+v", r)
	}
	if want := time.Date(2026, 1, 3, 10, 16, 37, 0, time.UTC); !r.Date.Equal(want) || !r.ValidUntil.Equal(want.AddDate(0, 0, 7)) {
		t.Errorf("dates %v, %v", r.Date, r.ValidUntil)
	}
}

func TestParseReleaseRefuses(t *testing.T) {
	for name, change := range map[string][2]string{
		"is no date in UTC":         {"10:16:37 UTC", "10:16:37 EST"},
		"is no date":                {"03 Jan", "33 Jan"},
		"stands twice":              {"Label:", "Suite:"},
		"leaves the suite":          {"0 main/binary-amd64/Packages\n", "0 ../../Packages\n"},
		"one paragraph":             {"Label:", "\nLabel:"},
		"is no field":               {"Label: Example", "Label"},
		"continues no field":        {"Origin:", " Origin:"},
		"not sha256: and 64":        {"e3b0c442", "zzzzzzzz"},
		"is not digest, size, path": {"b855 0 main", "b855 main"},
		"has no size":               {"b855 0 main", "b855 -1 main"},
		"twice with different":      {"b855 0 main/binary-amd64/Packages\n", "b855 0 a\n e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 1 a\n"},
		"is not UTF-8":              {"Example", "\xff"},
	} {
		_, err := ParseRelease([]byte(strings.ReplaceAll(releaseText, change[0], change[1])))
		if err == nil || !strings.Contains(err.Error(), strings.Replace(name, "size, path", "size and path", 1)) {
			t.Errorf("error = %v, want %q", err, name)
		}
	}
}

func FuzzParseRelease(f *testing.F) {
	f.Add([]byte(releaseText))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRelease(text)
		if err != nil {
			return
		}
		for p, sum := range r.SHA256 {
			if strings.HasPrefix(p, "/") || strings.HasPrefix(p, "../") || sum.Digest.Validate() != nil || sum.Size < 0 {
				t.Errorf("accepted %q %+v", p, sum)
			}
		}
	})
}
