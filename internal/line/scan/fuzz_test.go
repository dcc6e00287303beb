package scan

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// What is accepted as an expression is written so that reading it again changes nothing.
func FuzzSPDXExpression(f *testing.F) {
	for _, seed := range []string{"GPL-2+ or Artistic", "(MIT OR Apache-2.0) AND ISC", "GPL-3+ with font exception", "perl", "Apache-2.0+", "((((", "and/or,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		once, ok := spdxExpression(text)
		if !ok {
			return
		}
		if twice, ok := spdxExpression(once); !ok || twice != once {
			t.Errorf("%q gives %q, which gives %q, %v", text, once, twice, ok)
		}
	})
}

// No metadata, however broken, stops the scan or puts something into the bill that breaks a document or a line.
func FuzzMetadata(f *testing.F) {
	f.Add("x.dist-info/METADATA", []byte("Name: a\nVersion: 1\nLicense: MIT\n"))
	f.Add("package.json", []byte(`{"name":"@a/b","version":"1","license":{"type":"MIT"}}`))
	f.Add("a-1.jar", []byte("PK\x05\x06"+strings.Repeat("\x00", 18)))
	f.Add("program", []byte("\x7fELF\x02\x01\x01"+strings.Repeat("\x00", 64)))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		read := metadataOf(name)
		if read == nil {
			read = program
		}
		found, _ := read(bytes.NewReader(content), name, int64(len(content)))
		for _, c := range found {
			for _, s := range append([]string{c.Name, c.Version, c.PURL}, c.Licenses...) {
				if printable(s) != s {
					t.Errorf("%q is not printable", s)
				}
			}
			if c.Name == "" || !strings.HasPrefix(c.PURL, "pkg:"+c.Type+"/") {
				t.Errorf("component %+v has no name or no package URL", c)
			}
			if _, err := json.Marshal(c); err != nil {
				t.Error(err)
			}
		}
	})
}
