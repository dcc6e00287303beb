package line

import (
	"strings"
	"testing"

	"kiln"
)

// Anybody can write the recipe's digest into a lock: what the recipe says
// about where inputs come from must hold for a lock that was edited by hand.
func TestALockThatDoesNotFitItsRecipe(t *testing.T) {
	mine := &kiln.Exception{ID: "E1", Owner: "me", Reason: "snapshot", Expires: "2030-01-01"}
	apt := func() (*kiln.Recipe, *kiln.Lock) {
		r := &kiln.Recipe{Name: "web", Platform: "linux/amd64", Base: kiln.Base{Apt: &kiln.AptBase{Archives: []kiln.AptArchive{
			{URI: "https://archive.example.com/debian/", Suites: []string{"stone", "stone-updates"}, Expired: mine},
		}}}}
		return r, &kiln.Lock{Name: "web", Platform: "linux/amd64", Archives: []kiln.LockedArchive{
			{ID: "a/stone", URI: "https://archive.example.com/debian", Suite: "stone", Exception: mine},
		}}
	}
	machine := func() (*kiln.Recipe, *kiln.Lock) {
		r, l := apt()
		r.Base.Apt = &kiln.AptBase{Machine: true}
		l.Archives[0].Exception = nil
		return r, l
	}
	image := func() (*kiln.Recipe, *kiln.Lock) {
		return &kiln.Recipe{Name: "web", Base: kiln.Base{OCI: "registry.example.com/base:1"}},
			&kiln.Lock{Name: "web", Image: &kiln.LockedImage{Reference: "registry.example.com/base:1"}}
	}
	for _, c := range []struct {
		name string
		from func() (*kiln.Recipe, *kiln.Lock)
		edit func(*kiln.Lock)
		want string // "" fits
	}{
		{"as made", apt, func(*kiln.Lock) {}, ""},
		{"as made on a machine", machine, func(*kiln.Lock) {}, ""},
		{"as made from an image", image, func(*kiln.Lock) {}, ""},
		{"another name", apt, func(l *kiln.Lock) { l.Name = "db" }, "it is for db"},
		{"another platform", apt, func(l *kiln.Lock) { l.Platform = "linux/arm64" }, "platform linux/arm64"},
		{"another archive", apt, func(l *kiln.Lock) { l.Archives[0].URI = "https://evil.example.com" }, "names no archive https://evil.example.com"},
		{"another suite", apt, func(l *kiln.Lock) { l.Archives[0].Suite = "sand" }, "with suite sand"},
		{"an exception of its own", apt, func(l *kiln.Lock) {
			own := *mine
			own.Expires = "2099-01-01"
			l.Archives[0].Exception = &own
		}, "is not the recipe's"},
		{"an exception for the machine's archive", machine, func(l *kiln.Lock) { l.Archives[0].Exception = mine }, "is not the recipe's"},
		{"an image instead of an archive", apt, func(l *kiln.Lock) { l.Image = &kiln.LockedImage{Reference: "x"} }, "starts from an image"},
		{"an archive instead of an image", image, func(l *kiln.Lock) { l.Image = nil }, "starts from an image"},
		{"another image", image, func(l *kiln.Lock) { l.Image.Reference = "evil.example.com/base:1" }, "its base image is evil.example.com/base:1"},
		{"packages on an image", image, func(l *kiln.Lock) { l.Packages = []kiln.LockedPackage{{Name: "x"}} }, "adds packages"},
		{"archives on an image", image, func(l *kiln.Lock) { l.Archives = []kiln.LockedArchive{{ID: "x"}} }, "adds packages"},
	} {
		r, l := c.from()
		c.edit(l)
		err := fits(l, r)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestVariantsOfALockMustBeTheProfiles(t *testing.T) {
	controls := []kiln.Control{{ID: "O", Variants: []kiln.Variant{{ID: "strict"}, {ID: "lax"}}}}
	for v, fits := range map[kiln.LockedVariant]bool{{Objective: "O", Variant: "lax"}: true, {Objective: "O", Variant: "none"}: false, {Objective: "P", Variant: "lax"}: false} {
		if err := fitsProfile(&kiln.Lock{Variants: []kiln.LockedVariant{v}}, controls); (err == nil) != fits {
			t.Errorf("%v: %v", v, err)
		}
	}
}

func TestARecipesFingerprintsAreThoseOfItsArchive(t *testing.T) {
	r := &kiln.Recipe{Base: kiln.Base{Apt: &kiln.AptBase{Archives: []kiln.AptArchive{{URI: "http://a", Suites: []string{"s"}, Fingerprints: []string{"F"}}}}}}
	pinned := pinnedKeys(r)
	if got := pinned(&kiln.LockedArchive{URI: "http://a/", Suite: "s"}); len(got) != 1 || got[0] != "F" {
		t.Errorf("got %v", got)
	}
	if got := pinned(&kiln.LockedArchive{URI: "http://b", Suite: "s"}); got != nil {
		t.Errorf("another archive: %v", got)
	}
}
