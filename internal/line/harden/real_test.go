package harden

import (
	"bytes"
	"cmp"
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/catalogue"

	"golang.org/x/sys/unix"
)

// realTree copies the Debian tree that KILN_HARDEN_TREE names, made for example by
// mmdebstrap --variant=minbase --include=nginx; KILN_HARDEN_PACKAGES are the packages that a recipe asks for, default nginx.
func realTree(t testing.TB) string {
	t.Helper()
	from := os.Getenv("KILN_HARDEN_TREE")
	if from == "" {
		t.Skip("KILN_HARDEN_TREE names no Debian tree")
	}
	dir := filepath.Join(t.TempDir(), "tree")
	if out, err := exec.Command("cp", "-a", from, dir).CombinedOutput(); err != nil {
		t.Fatalf("copying the tree: %v: %s", err, out)
	}
	return dir
}

func size(t testing.TB, dir string) (bytes int64, files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += info.Size()
			files++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes, files
}

func realInput(t testing.TB, profile string, r kiln.Removal) Input {
	t.Helper()
	c, err := catalogue.Load()
	if err != nil {
		t.Fatal(err)
	}
	recipe := &kiln.Recipe{
		Name: "nginx", Version: "1", User: "www-data", Ports: []string{"8080"}, Hardening: kiln.Hardening{Profile: profile, Remove: r},
	}
	for name := range strings.SplitSeq(cmp.Or(os.Getenv("KILN_HARDEN_PACKAGES"), "nginx"), ",") {
		recipe.Packages = append(recipe.Packages, kiln.PackageRequest{Name: name})
	}
	list, err := c.Select(recipe.Hardening)
	if err != nil {
		t.Fatal(err)
	}
	return Input{Recipe: recipe, Controls: list, Profile: profile, Catalogue: c.Digest(), Now: time.Now(), Lock: &kiln.Lock{Epoch: 1750000000}}
}

// used is the processor time of this process so far.
func used(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// missingLibraries lists what programs and libraries of the tree name and the tree no longer has.
func missingLibraries(t testing.TB, dir string) []string {
	t.Helper()
	s, err := newSubject(dir, Input{})
	must(t, err)
	defer s.close()
	there := map[string]bool{} // by base name: some programs name places of their own
	for _, q := range s.paths() {
		there[filepath.Base(q)] = true
	}
	var out []string
	for _, q := range s.paths() {
		if e := s.index[q]; e.Type != 'f' || !bytes.Equal(s.head(q, 4), []byte(elf.ELFMAG)) {
			continue
		}
		f, err := elf.Open(filepath.Join(dir, q))
		must(t, err)
		names, _ := f.ImportedLibraries()
		f.Close()
		for _, name := range names {
			if !there[name] {
				out = append(out, q+" needs "+name)
			}
		}
	}
	return out
}

func TestRealTree(t *testing.T) {
	for _, c := range []struct {
		name, profile string
		remove        kiln.Removal
	}{
		{"baseline", "container-baseline", kiln.Removal{}},
		{"strict", "container-strict", kiln.Removal{PackageManager: true, Unused: true, Shell: true, Docs: true}},
		{"unused with shell", "container-strict", kiln.Removal{PackageManager: true, Unused: true, Docs: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := realTree(t)
			before, _ := size(t, dir)
			lacked := missingLibraries(t, dir)
			in := realInput(t, c.profile, c.remove)
			start, cpu := time.Now(), used(t)
			res, err := Apply(t.Context(), dir, in)
			if err != nil {
				t.Fatal(err)
			}
			took, cpu := time.Since(start), used(t)-cpu
			after, files := size(t, dir)
			t.Logf("%v (%v of processor time), %d objectives: %d satisfied, %d not, %d n/a; %d -> %d bytes (%.1f %%) in %d files; %d packages removed", took, cpu, len(res.Outcomes),
				res.Count(kiln.Satisfied), res.Count(kiln.NotSatisfied), res.Count(kiln.NotApplicable), before, after, 100*float64(after)/float64(before), files, len(res.Removed))
			for _, o := range res.Outcomes {
				if o.State != kiln.NotApplicable && (o.Before != kiln.Satisfied || o.State != kiln.Satisfied) {
					t.Logf("%-28s %-14s -> %-14s %s | %s | %s", o.Objective, o.Before, o.State, o.Variant, o.Observed, o.Reason)
				}
			}
			again, err := Apply(t.Context(), dir, in)
			if err != nil {
				t.Fatal(err)
			}
			if again.Before != res.After || again.After != res.After {
				t.Errorf("applied again: %s, then %s, then %s", res.After, again.Before, again.After)
			}
			for _, miss := range missingLibraries(t, dir) {
				if !slices.Contains(lacked, miss) {
					t.Errorf("a program lost a library: %s", miss)
				}
			}
			if keep := os.Getenv("KILN_HARDEN_KEEP"); keep != "" {
				if out, err := exec.Command("cp", "-a", dir, filepath.Join(keep, c.profile+c.name)).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
		})
	}
}
