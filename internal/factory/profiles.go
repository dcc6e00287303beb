package factory

import (
	"fmt"
	"slices"
	"strings"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/strictyaml"
)

// AllObjectives stands for the whole catalogue where profiles are named.
const AllObjectives = "all"

// seeProfiles is the advice where profiles do not fit.
const seeProfiles = "`kiln controls profiles` lists them"

// ProfileNames takes apart what a user gives as one profile and means as
// several: cis-l2,stig-cat1, or cis-l2+stig-cat1 as results have it.
func ProfileNames(given []string) []string {
	var out []string
	for _, g := range given {
		for name := range strings.SplitSeq(strings.ReplaceAll(g, ",", "+"), "+") {
			out = append(out, strings.TrimSpace(name))
		}
	}
	return out
}

// Profiles returns the objectives of several profiles together, or every one of
// the catalogue where AllObjectives is among them, and the profiles' names,
// sorted. A name that the catalogue has not is misuse; the hint has the nearest one.
func Profiles(cat *catalogue.Catalogue, given []string) ([]kiln.Control, []string, error) {
	names := ProfileNames(given)
	slices.Sort(names)
	names = slices.Compact(names)
	for _, n := range names {
		if err := checkProfile(cat, n); err != nil {
			return nil, nil, err
		}
	}
	if slices.Contains(names, AllObjectives) {
		return cat.Objectives(), []string{AllObjectives}, nil
	}
	controls, err := cat.Union(names...)
	if err != nil {
		return nil, nil, kiln.Misuse(kiln.WithHint(err, seeProfiles))
	}
	return controls, names, nil
}

func checkProfile(cat *catalogue.Catalogue, name string) error {
	known, _ := cat.Profiles()
	if name == AllObjectives || slices.Contains(known, name) {
		return nil
	}
	hint := seeProfiles
	if near := strictyaml.Nearest(name, known); near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	return kiln.Misuse(kiln.WithHint(fmt.Errorf("no profile %q; there are %s, and all", strictyaml.Clip(name, 60), strings.Join(known, ", ")), hint))
}
