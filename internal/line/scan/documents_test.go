package scan_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"kiln"
	"kiln/internal/line/scan"
	"kiln/internal/testneeds"
)

// sharedSchemas returns the folder of published schemas; a test without it is skipped, or fails where CI is true.
func sharedSchemas(t *testing.T) string {
	t.Helper()
	return testneeds.Shared(t, "schemas")
}

type schemas struct{ cyclonedx, spdx *jsonschema.Schema }

var compiled = sync.OnceValues(func() (schemas, error) {
	var out schemas
	base := os.Getenv("KILN_SHARED")
	if base == "" {
		base = filepath.Join("..", "..", "..", "..", "shared")
	}
	compiler := jsonschema.NewCompiler()
	for url, file := range map[string]string{
		"http://cyclonedx.org/schema/bom-1.6.schema.json":  "cyclonedx-bom-1.6.schema.json",
		"http://cyclonedx.org/schema/spdx.schema.json":     "cyclonedx-spdx.schema.json",
		"http://cyclonedx.org/schema/jsf-0.82.schema.json": "cyclonedx-jsf-0.82.schema.json",
		"urn:spdx": "spdx-2.3.schema.json",
	} {
		f, err := os.Open(filepath.Join(base, "schemas", file))
		if err != nil {
			return out, err
		}
		doc, err := jsonschema.UnmarshalJSON(f)
		f.Close()
		if err != nil {
			return out, err
		}
		if err := compiler.AddResource(url, doc); err != nil {
			return out, err
		}
	}
	var err error
	if out.cyclonedx, err = compiler.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json"); err != nil {
		return out, err
	}
	out.spdx, err = compiler.Compile("urn:spdx")
	return out, err
})

const epoch = 1_700_000_000

// checkDocuments writes both formats twice and checks that they are valid and equal.
func checkDocuments(t *testing.T, bill *kiln.Bill) (cyclonedx, spdx []byte) {
	t.Helper()
	for _, format := range []struct {
		write func(*kiln.Bill, int64) ([]byte, error)
		out   *[]byte
	}{{scan.CycloneDX, &cyclonedx}, {scan.SPDX, &spdx}} {
		text, err := format.write(bill, epoch)
		if err != nil {
			t.Fatal(err)
		}
		again, err := format.write(bill, epoch)
		if err != nil || !bytes.Equal(text, again) {
			t.Fatalf("the same bill gives two documents (%v)", err)
		}
		*format.out = text
	}
	return cyclonedx, spdx
}

func validate(t *testing.T, schema *jsonschema.Schema, text []byte) {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(doc); err != nil {
		t.Errorf("not valid: %v\n%.4000s", err, text)
	}
}

func TestDocumentsAreValid(t *testing.T) {
	sharedSchemas(t)
	s, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	files := debianTree(t)
	files["opt/app/node_modules/@scope/left/package.json"] = `{"name":"@scope/left","version":"1.2.3","license":"(MIT OR Apache-2.0)"}`
	files["opt/a.dist-info/METADATA"] = "Name: twice\nVersion: 1\nLicense: a text, not an identifier\n"
	files["usr/lib/b.dist-info/METADATA"] = "Name: twice\nVersion: 1\n"
	files["var/lib/dpkg/info/foo.list"] += "/usr/lib/b.dist-info/METADATA\n"
	full, err := scan.Tree(t.Context(), plant(t, files), scan.Input{
		Subject: kiln.Subject{Name: "demo", Digest: kiln.DigestBytes([]byte("tree"))},
		Lock:    &kiln.Lock{Packages: []kiln.LockedPackage{{Name: "foo", Version: "1.2-3", Architecture: "all", Digest: kiln.DigestBytes([]byte("deb"))}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	empty := &kiln.Bill{Header: kiln.NewHeader("Bill")}
	bills := []*kiln.Bill{full, empty}
	if dir := os.Getenv("KILN_TREE"); dir != "" {
		bill, err := scan.Tree(t.Context(), dir, scan.Input{})
		if err != nil {
			t.Fatal(err)
		}
		bills = append(bills, bill)
	}
	for _, bill := range bills {
		cyclonedx, spdx := checkDocuments(t, bill)
		validate(t, s.cyclonedx, cyclonedx)
		validate(t, s.spdx, spdx)
	}
}

// What a reader of the documents looks for must be where the formats put it.
func TestDocumentsSayWhatTheBillSays(t *testing.T) {
	bill, err := scan.Tree(t.Context(), plant(t, debianTree(t)), scan.Input{
		Subject: kiln.Subject{Name: "demo"},
		Lock:    &kiln.Lock{Packages: []kiln.LockedPackage{{Name: "foo", Version: "1.2-3", Architecture: "all", Digest: kiln.DigestBytes([]byte("deb"))}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	cyclonedx, spdx := checkDocuments(t, bill)
	hash := kiln.DigestBytes([]byte("deb")).Hex()
	for _, want := range []string{
		`"specVersion": "1.6"`, `"timestamp": "2023-11-14T22:13:20Z"`, `upstream=foo%401.2-3`, hash, `"Homegrown"`,
		`"kiln:unowned"`, `"opt/stranger"`, `"expression": "GPL-2.0-or-later OR MIT"`,
	} {
		if want == `"expression": "GPL-2.0-or-later OR MIT"` {
			want = `"name": "GPL-2.0-or-later OR MIT"` // beside another licence the format takes no expression
		}
		if !bytes.Contains(cyclonedx, []byte(want)) {
			t.Errorf("CycloneDX lacks %s", want)
		}
	}
	for _, want := range []string{
		`"SPDX-2.3"`, `"created": "2023-11-14T22:13:20Z"`, hash, "(GPL-2.0-or-later OR MIT) AND LicenseRef-Homegrown",
		"built from source package foo 1.2-3", "unowned: opt/stranger", `"DEPENDS_ON"`,
	} {
		if !bytes.Contains(spdx, []byte(want)) {
			t.Errorf("SPDX lacks %s", want)
		}
	}
	var doc struct {
		Dependencies []struct {
			Ref       string
			DependsOn []string
		}
	}
	if err := json.Unmarshal(cyclonedx, &doc); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(doc.Dependencies, func(d struct {
		Ref       string
		DependsOn []string
	},
	) bool {
		return strings.HasPrefix(d.Ref, "pkg:deb/debian/foo@")
	})
	if i < 0 || len(doc.Dependencies[i].DependsOn) != 1 || !strings.HasPrefix(doc.Dependencies[i].DependsOn[0], "pkg:deb/debian/libfoo1@") {
		t.Errorf("foo's dependency on libfoo1 is not in the document: %+v", doc.Dependencies)
	}
}
