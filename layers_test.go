package kiln

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// layer ranks the packages of this module: imports point to a lower rank only.
// The first prefix that fits counts.
var layers = []struct {
	prefix string
	rank   int
}{
	{"kiln/cmd/", 6},
	{"kiln/e2e", 6},
	{"kiln/bench/", 6},
	{"kiln/internal/factory", 5},
	{"kiln/internal/line/", 3}, // a station
	{"kiln/internal/line", 4},
	{"kiln/catalogue", 1},
	{"kiln/internal/", 2}, // the ground
	{"kiln", 0},
}

// single names the only packages that may import a heavy library.
var single = map[string][]string{
	"modernc.org/sqlite":                     {"kiln/internal/store", "kiln/internal/pkgdb"},
	"github.com/google/go-containerregistry": {"kiln/internal/image"},
	"github.com/google/osv-scalibr":          {"kiln/internal/line/scan"},
	"github.com/CycloneDX/cyclonedx-go":      {"kiln/internal/line/scan"},
	"github.com/spdx/tools-golang":           {"kiln/internal/line/scan"},
	"github.com/ProtonMail/go-crypto":        {"kiln/internal/pgp", "kiln/internal/pgp/pgptest"},
	"github.com/goss-org/goss":               {"kiln/internal/goss"},
	"github.com/google/cel-go":               {"kiln/internal/line/admit"},
	"github.com/elastic/go-seccomp-bpf":      {"kiln/internal/sandbox"},
	"github.com/therootcompany/xz":           {"kiln/internal/deb"},
	"github.com/ulikunitz/xz":                {"kiln/internal/deb", "kiln/internal/testarchive"},
	"github.com/spf13/cobra":                 {"kiln/cmd/kiln"},
}

type listed struct {
	ImportPath string
	Imports    []string
}

func listPackages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("listing packages: %v", err)
	}
	var list []listed
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func rank(path string) (int, bool) {
	for _, l := range layers {
		if path == l.prefix || strings.HasPrefix(path, l.prefix) {
			return l.rank, true
		}
	}
	return 0, false
}

func TestImportsPointDown(t *testing.T) {
	packages := listPackages(t)
	if len(packages) < 10 {
		t.Fatalf("only %d packages were listed: this check looked at nothing", len(packages))
	}
	for _, p := range packages {
		from, ok := rank(p.ImportPath)
		if !ok {
			t.Errorf("%s has no layer", p.ImportPath)
		}
		for _, imp := range p.Imports {
			to, inside := rank(imp)
			if !inside || !strings.HasPrefix(imp, "kiln") {
				continue
			}
			sameGround := from == to && from == 2
			if to >= from && !sameGround && !(from == 6 && to == 6) {
				t.Errorf("%s (layer %d) imports %s (layer %d)", p.ImportPath, from, imp, to)
			}
		}
	}
}

// Whoever reads ARCHITECTURE.md finds every package of the ground in its table.
func TestTheTableOfLayersNamesTheGround(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, row, _ := strings.Cut(string(text), "| the ground | `internal/{")
	row, _, ok := strings.Cut(row, "}`")
	if !ok {
		t.Fatal("ARCHITECTURE.md has no row of the ground")
	}
	named := strings.Split(row, ",")
	var there []string
	for _, p := range listPackages(t) {
		if r, _ := rank(p.ImportPath); r != 2 || strings.HasSuffix(p.ImportPath, "test") {
			continue
		}
		there = append(there, strings.TrimPrefix(p.ImportPath, "kiln/internal/"))
	}
	slices.Sort(named)
	slices.Sort(there)
	if !slices.Equal(named, there) {
		t.Errorf("ARCHITECTURE.md has the ground\n%v, there is\n%v", named, there)
	}
}

func TestDocumentsUseTheStandardLibraryOnly(t *testing.T) {
	for _, p := range listPackages(t) {
		if p.ImportPath != "kiln" {
			continue
		}
		for _, imp := range p.Imports {
			if strings.Contains(imp, ".") || strings.HasPrefix(imp, "kiln") || slices.Contains([]string{"os", "net", "net/http"}, imp) {
				t.Errorf("the documents import %s", imp)
			}
		}
	}
}

func TestHeavyLibrariesHaveOneImporter(t *testing.T) {
	for _, p := range listPackages(t) {
		for _, imp := range p.Imports {
			for library, importers := range single {
				if (imp == library || strings.HasPrefix(imp, library+"/")) && !slices.Contains(importers, p.ImportPath) {
					t.Errorf("%s imports %s, which only %v may", p.ImportPath, imp, importers)
				}
			}
		}
	}
}
