package tree

import (
	"archive/tar"
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sample makes a small tree with every kind of entry that an image holds.
func sample(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(dir+"/usr/bin", 0o755))
	must(os.MkdirAll(dir+"/var/tmp", 0o755))
	must(os.Chmod(dir+"/var/tmp", 0o777|os.ModeSticky))
	must(os.WriteFile(dir+"/usr/bin/tool", []byte("#!/bin/sh\n"), 0o755))
	must(os.Chmod(dir+"/usr/bin/tool", 0o755|os.ModeSetuid))
	must(os.Link(dir+"/usr/bin/tool", dir+"/usr/bin/zweit"))
	must(os.Symlink("../tool", dir+"/usr/bin/link"))
	must(os.WriteFile(dir+"/usr/bin/"+strings.Repeat("lang", 40), []byte("x"), 0o644))
	return dir
}

func pack(t *testing.T, dir string, o TarOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := WriteTar(&b, dir, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestTarRoundTripKeepsTheTree(t *testing.T) {
	src := sample(t)
	before, err := Dump(src)
	if err != nil {
		t.Fatal(err)
	}
	if before["usr/bin/tool"][:6] != "f 4755" || before["usr/bin/zweit"] != "h -> usr/bin/tool" || before["var/tmp"][:6] != "d 1777" {
		t.Fatalf("dump misses set-id, hard link or sticky bit: %v", before)
	}
	data := pack(t, src, TarOptions{Epoch: 1700000000})
	dst := t.TempDir()
	if _, err := ReadTar(bytes.NewReader(data), dst, Limits{}); err != nil {
		t.Fatal(err)
	}
	after, err := Dump(dst)
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(before, after) {
		t.Errorf("tree changed on the way:\n%v\n%v", before, after)
	}
	if again := pack(t, dst, TarOptions{Epoch: 1700000000}); !bytes.Equal(data, again) {
		t.Error("packing the unpacked tree gives other bytes")
	}
}

func TestTarForgetsTheClock(t *testing.T) {
	src := sample(t)
	first := pack(t, src, TarOptions{Epoch: 1700000000})
	later := time.Now().Add(48 * time.Hour)
	if err := os.Chtimes(src+"/usr/bin/tool", later, later); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, pack(t, src, TarOptions{Epoch: 1700000000})) {
		t.Error("a later modification time changed the bytes")
	}
}

func TestKeepPromotesAHardLink(t *testing.T) {
	src := sample(t)
	data := pack(t, src, TarOptions{Keep: func(e Entry) bool { return e.Path != "usr/bin/tool" }})
	tr := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := tr.Next()
		if err != nil {
			t.Fatal("the second name is missing: ", err)
		}
		if h.Name == "usr/bin/zweit" {
			if h.Typeflag != tar.TypeReg || h.Size != 10 {
				t.Errorf("want the file itself, got type %q size %d", h.Typeflag, h.Size)
			}
			return
		}
	}
}

func hostile(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range headers {
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReadTarRefusesHostileMembers(t *testing.T) {
	for name, c := range map[string]struct {
		members []tar.Header
		want    string
	}{
		"parent":        {[]tar.Header{{Name: "../evil", Typeflag: tar.TypeReg, Size: 1}}, "leaves the tree"},
		"inner parent":  {[]tar.Header{{Name: "a/../../evil", Typeflag: tar.TypeReg, Size: 1}}, "leaves the tree"},
		"link out":      {[]tar.Header{{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "/"}, {Name: "a/evil", Typeflag: tar.TypeReg, Size: 1}}, "escapes"},
		"hard link out": {[]tar.Header{{Name: "a", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"}}, "leaves the tree"},
		"device":        {[]tar.Header{{Name: "sda", Typeflag: tar.TypeBlock, Devmajor: 8}}, "no device nodes"},
		"too large":     {[]tar.Header{{Name: "big", Typeflag: tar.TypeReg, Size: 2000}}, "more than 1000 bytes"},
		"too many":      {[]tar.Header{{Name: "a", Typeflag: tar.TypeDir}, {Name: "b", Typeflag: tar.TypeDir}, {Name: "c", Typeflag: tar.TypeDir}, {Name: "d", Typeflag: tar.TypeDir}}, "more than 3 entries"},
	} {
		t.Run(name, func(t *testing.T) {
			outer := t.TempDir()
			dir := filepath.Join(outer, "tree")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			_, err := ReadTar(bytes.NewReader(hostile(t, c.members...)), dir, Limits{Entries: 3, Bytes: 1000})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want an error about %q, got %v", c.want, err)
			}
			if names, _ := os.ReadDir(outer); len(names) != 1 {
				t.Error("something was written beside the tree")
			}
		})
	}
}
