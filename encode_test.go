package kiln

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"
)

// The examples of RFC 8785: section 3.2.2 (the whole object), 3.2.3 (sorting) and appendix F's spirit.
func TestCanonicalJSON(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{
			"section 3.2.2",
			`{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}`,
			`{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`,
		},
		{
			"section 3.2.3: keys in the order of UTF-16 code units",
			`{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}`,
			"{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u0080\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\ufb33\":\"Hebrew Letter Dalet With Dagesh\"}",
		},
		{"control characters", `"\u0000\b\t\n\f\r\u001f\u007f<>&\u2028"`, "\"\\u0000\\b\\t\\n\\f\\r\\u001f\u007f<>&\u2028\""},
		{"white space goes", " { \"b\" : [ 1 , 2 ] , \"a\" : { } } ", `{"a":{},"b":[1,2]}`},
		{"minus zero", `[-0,-0.0,0e5]`, `[0,0,0]`},
		{"integers stay", `[9007199254740991,-9007199254740992,1.0,100]`, `[9007199254740991,-9007199254740992,1,100]`},
	} {
		got, err := CanonicalJSON([]byte(c.in))
		if err != nil || string(got) != c.want {
			t.Errorf("%s\n got  %s %v\n want %s", c.name, got, err, c.want)
			continue
		}
		if again, err := CanonicalJSON(got); err != nil || !bytes.Equal(again, got) {
			t.Errorf("%s: encoding again gives %s, %v", c.name, again, err)
		}
	}
}

// RFC 8785, appendix B: IEEE-754 bit patterns and their texts.
func TestNumbers(t *testing.T) {
	for bits, want := range map[uint64]string{
		0x0000000000000000: "0",
		0x8000000000000000: "0",
		0x0000000000000001: "5e-324",
		0x8000000000000001: "-5e-324",
		0x7fefffffffffffff: "1.7976931348623157e+308",
		0xffefffffffffffff: "-1.7976931348623157e+308",
		0x4340000000000000: "9007199254740992",
		0xc340000000000000: "-9007199254740992",
		0x4430000000000000: "295147905179352830000",
		0x44b52d02c7e14af5: "9.999999999999997e+22",
		0x44b52d02c7e14af6: "1e+23",
		0x44b52d02c7e14af7: "1.0000000000000001e+23",
		0x444b1ae4d6e2ef4e: "999999999999999700000",
		0x444b1ae4d6e2ef4f: "999999999999999900000",
		0x444b1ae4d6e2ef50: "1e+21",
		0x3eb0c6f7a0b5ed8c: "9.999999999999997e-7",
		0x3eb0c6f7a0b5ed8d: "0.000001",
		0x41b3de4355555553: "333333333.3333332",
		0x41b3de4355555554: "333333333.33333325",
		0x41b3de4355555555: "333333333.3333333",
		0x41b3de4355555556: "333333333.3333334",
		0x41b3de4355555557: "333333333.33333343",
		0xbecbf647612f3696: "-0.0000033333333333333333",
		0x43143ff3c1cb0959: "1424953923781206.2",
	} {
		in := strconv.FormatFloat(math.Float64frombits(bits), 'g', 17, 64)
		got, err := CanonicalJSON([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%016x: got %s, want %s (%v)", bits, got, want, err)
		}
	}
}

func TestCanonicalJSONRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"duplicate key":         `{"a":1,"a":2}`,
		"duplicate nested key":  `[{"b":{"a":1,"a":1}}]`,
		"duplicate by escape":   `{"a":1,"\u0061":2}`,
		"data after":            `{} {}`,
		"invalid UTF-8":         "\"\xff\"",
		"not a number":          `[NaN]`,
		"number beyond range":   `[1e400]`,
		"trailing comma":        `[1,]`,
		"truncated":             `{"a":`,
		"empty":                 ``,
		"nested 100,000 levels": strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000),
	} {
		if got, err := CanonicalJSON([]byte(in)); err == nil {
			t.Errorf("%s was accepted as %s", name, got)
		}
	}
}

func sampleLock() *Lock {
	d := DigestBytes([]byte("x"))
	return &Lock{
		Header: NewHeader("Lock"), Name: "nginx", Recipe: d, Platform: "linux/amd64", Epoch: 1,
		Archives: []LockedArchive{{ID: "Debian/bookworm", URI: "http://archive.example.com/debian", Suite: "bookworm", InRelease: d, SignedBy: []string{"ab"}}},
		Packages: []LockedPackage{{Name: "nginx", Version: "1<2&3", Architecture: "amd64", Archive: "Debian/bookworm", Path: "pool/n.deb", Size: 1, Digest: d}},
	}
}

// A stored document decodes and encodes to the same bytes, and its digest does not move.
func TestStoredDocumentsKeepTheirBytes(t *testing.T) {
	first, err := Encode(sampleLock())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(first, []byte(`"1<2&3"`)) {
		t.Errorf("characters were escaped that RFC 8785 leaves alone: %s", first)
	}
	var l Lock
	if err := Decode(first, &l); err != nil {
		t.Fatal(err)
	}
	second, err := Encode(&l)
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("got\n%s\nwant\n%s\n%v", second, first, err)
	}
	var spaced bytes.Buffer
	if err := json.Indent(&spaced, first, "", "\t"); err != nil {
		t.Fatal(err)
	}
	if err := Decode(spaced.Bytes(), &l); err != nil {
		t.Fatal(err)
	}
	if got, err := DigestOf(&l); err != nil || got != DigestBytes(first) {
		t.Errorf("digest %s, want %s (%v)", got, DigestBytes(first), err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good, err := Encode(sampleLock())
	if err != nil {
		t.Fatal(err)
	}
	for name, replace := range map[string][2]string{
		"unknown field":                {`"name":"nginx"`, `"name":"nginx","colour":"red"`},
		"duplicate key":                {`"epoch":1`, `"epoch":1,"epoch":2`},
		"other version":                {APIVersion, "kiln/v9"},
		"other kind":                   {`"kind":"Lock"`, `"kind":"Build"`},
		"wrong type":                   {`"epoch":1`, `"epoch":"1"`},
		"bad digest":                   {`"inRelease":"sha256:`, `"inRelease":"md5:`},
		"path that leaves the archive": {"pool/n.deb", "../n.deb"},
		"package of no archive":        {`"archive":"Debian/bookworm"`, `"archive":"other"`},
	} {
		bad := strings.Replace(string(good), replace[0], replace[1], 1)
		if bad == string(good) {
			t.Fatalf("%s: nothing was replaced", name)
		}
		if err := Decode([]byte(bad), new(Lock)); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, err := Encode(&Lock{}); err == nil {
		t.Error("an empty lock was encoded")
	}
}

func FuzzCanonicalJSON(f *testing.F) {
	for _, s := range []string{`{"b":1.5e3,"a":[null,"\u20ac"]}`, `-0`, `"\ud800"`, `[1e21,1e-7]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		first, err := CanonicalJSON([]byte(in))
		if err != nil {
			return
		}
		if !json.Valid(first) {
			t.Fatalf("%q became %q, which is no JSON", in, first)
		}
		second, err := CanonicalJSON(first)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%q, then %q (%v)", first, second, err)
		}
	})
}

func TestDigest(t *testing.T) {
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	d := DigestBytes(nil)
	if d != Digest("sha256:"+empty) || d.Hex() != empty || d.Short() != empty[:12] {
		t.Errorf("digest of nothing is %s", d)
	}
	if got, err := ParseDigest(empty); err != nil || got != d {
		t.Errorf("bare hex gives %s, %v", got, err)
	}
	for _, bad := range []string{"", "sha256:", "sha256:" + empty[1:], "sha256:" + strings.ToUpper(empty), "sha512:" + empty, empty + "0", strings.Repeat("z", 64)} {
		if _, err := ParseDigest(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestInvalidNamesFieldAndRule(t *testing.T) {
	r := &Recipe{Header: NewHeader("Recipe"), Name: "Nginx", Base: Base{OCI: "a", Layout: "b"}}
	err := r.Validate()
	var first *Invalid
	if !errors.As(err, &first) || first.Field != "name" || first.Rule != nameRule {
		t.Errorf("first problem is %v", first)
	}
	if n := len(r.Problems()); n != 2 {
		t.Errorf("%d problems: %v", n, err)
	}
	if err := (&Recipe{Header: NewHeader("Recipe"), Name: "nginx", Base: Base{OCI: "a"}}).Validate(); err != nil {
		t.Errorf("a small recipe is refused: %v", err)
	}
}

// Wherever a document is cut short, the error says that, not how a decoder calls it.
func TestACutDocumentEndsTooEarly(t *testing.T) {
	whole := `{"name":"x","list":[1,{"a":"b"},true]}`
	for n := range len(whole) {
		_, err := parseJSON([]byte(whole[:n]))
		if err == nil || !strings.Contains(err.Error(), "it ends too early") {
			t.Errorf("cut to %q: %v", whole[:n], err)
		}
	}
}
