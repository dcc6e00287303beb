package line

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/line/harden"
	"kiln/internal/tailor"
)

// chosen are the objectives that a recipe asks for.
type chosen struct {
	profile string
	list    []kiln.Control
	leftOut map[string]string // as in tailor.Selection
	notes   []string
	digest  kiln.Digest // of the whole catalogue
}

// loadCatalogue reads the embedded catalogue once.
var loadCatalogue = sync.OnceValues(catalogue.Load)

func (j *journey) profile() (chosen, error) {
	all, err := loadCatalogue()
	if err != nil {
		return chosen{}, err
	}
	sel, err := tailor.Choose(all, j.req.Recipe.Hardening, j.besideOrRecipe)
	if err != nil {
		return chosen{}, kiln.Misuse(kiln.WithHint(err, "`kiln controls ls` lists the objectives, `kiln controls profiles` the profiles"))
	}
	return chosen{profile: sel.Profile, list: sel.Controls, leftOut: sel.LeftOut, notes: sel.Notes, digest: all.Digest()}, nil
}

// alsoWanted are the packages that a recipe's objectives ask for, where it lets them be added.
func alsoWanted(r *kiln.Recipe) ([]kiln.PackageRequest, error) {
	if !r.Hardening.AddPackages {
		return nil, nil
	}
	all, err := loadCatalogue()
	if err != nil {
		return nil, err
	}
	sel, err := tailor.Choose(all, r.Hardening, func(name string) ([]byte, error) { return readBeside(r.Dir, name) })
	if err != nil {
		return nil, kiln.Misuse(err)
	}
	names, err := harden.Packages(sel.Pursued(), func(name string) bool {
		return slices.ContainsFunc(r.Packages, func(q kiln.PackageRequest) bool { return q.Name == name })
	})
	var also []kiln.PackageRequest
	for _, name := range names {
		also = append(also, kiln.PackageRequest{Name: name})
	}
	return also, err
}

// withWanted is the recipe with the packages that its objectives ask for: they are needed as much as those it names.
func withWanted(r *kiln.Recipe) (*kiln.Recipe, error) {
	also, err := alsoWanted(r)
	if err != nil || len(also) == 0 {
		return r, err
	}
	more := *r
	more.Packages = slices.Concat(r.Packages, also)
	return &more, nil
}

// failedTests turns a trial that did not pass into an error that says what was expected and what was seen.
func failedTests(t *kiln.Trial) error {
	if t.Result == kiln.Pass {
		return nil
	}
	var b strings.Builder
	n, last := 0, ""
	for _, r := range t.Tests {
		if r.Result == kiln.Pass {
			continue
		}
		n++
		found := clipLines(r.Observed, 3)
		if found == last { // a service that does not start fails every test alike
			found = "the same"
		} else {
			last = found
		}
		fmt.Fprintf(&b, "\n  %s (%s): expected %s; found %s", r.Name, r.Type, r.Expected, found)
	}
	if t.Note != "" {
		fmt.Fprintf(&b, "\n  %s", t.Note)
	}
	if log := tail(t.Log, 15); log != "" {
		fmt.Fprintf(&b, "\n  the service's last lines:\n    %s", strings.ReplaceAll(log, "\n", "\n    "))
	}
	return &TestFailure{Failed: n, Total: len(t.Tests), text: b.String()}
}

func clipLines(s string, most int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	if len(lines) > most {
		lines = append(lines[:most], "…")
	}
	return strings.Join(lines, "\n    ")
}

// TestFailure is a trial that did not pass.
type TestFailure struct {
	Failed, Total int
	text          string
}

func (e *TestFailure) Error() string {
	return fmt.Sprintf("%d of %d tests failed%s", e.Failed, e.Total, e.text)
}

func tail(s string, lines int) string {
	list := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if len(list) > lines {
		list = list[len(list)-lines:]
	}
	return strings.Join(list, "\n")
}
