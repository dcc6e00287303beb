package resolve

import (
	"bytes"
	"testing"

	"kiln/internal/deb"
)

// FuzzIndex: whatever a cached index holds, it is refused or every record can be asked for.
func FuzzIndex(f *testing.F) {
	x, err := buildIndex(bytes.NewReader([]byte("Package: aa\nVersion: 1\nArchitecture: all\nFilename: a\nSize: 1\nSHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\nProvides: bb\nDepends: cc | dd\n")), "", nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(x.encode()[len(indexMagic)+4:])
	f.Fuzz(func(t *testing.T, body []byte) {
		x, err := decodeIndex(sealIndex(append([]byte(indexMagic+"\x00\x00\x00\x00"), body...)))
		if err != nil {
			return
		}
		for rec := range x.pkgName {
			if p, err := x.record(uint32(rec)); err == nil && p.SHA256.Validate() != nil {
				t.Errorf("record %d has digest %q", rec, p.SHA256)
			}
		}
	})
}

// FuzzPackages: any text is refused or gives an index that survives the cache.
func FuzzPackages(f *testing.F) {
	f.Add("Package: aa\nVersion: 1\nArchitecture: all\nFilename: a\nSize: 1\nSHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\nProvides: bb (= 1), cc\n\n# x\nPackage: bb\nVersion: 2\n")
	f.Fuzz(func(t *testing.T, text string) {
		x, err := buildIndex(bytes.NewReader([]byte(text)), "", nil)
		if err != nil {
			return
		}
		y, err := decodeIndex(x.encode())
		if err != nil {
			t.Fatal(err)
		}
		var want []*deb.Package
		_ = deb.ParsePackages(bytes.NewReader([]byte(text)), func(p *deb.Package) error { want = append(want, p); return nil })
		for rec, p := range want {
			got, err := y.record(uint32(rec))
			if err != nil || got.Name != p.Name || got.Version != p.Version || got.Depends != p.Depends || got.Source != p.Source || got.SHA256 != p.SHA256 || got.Size != p.Size {
				t.Fatalf("%+v became %+v, %v", p, got, err)
			}
		}
	})
}
