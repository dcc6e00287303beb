package line

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"kiln"
	"kiln/internal/image"
)

// fits refuses a lock that was given and does not belong to the recipe beyond
// what its digest of the recipe says: anybody can write that digest into a
// file. What the recipe says about where inputs come from holds for a lock as
// well. Which versions were chosen is the lock's to say; that each is signed
// for is verified afterwards, and that the signer is trusted is the policy's.
func fits(lock *kiln.Lock, r *kiln.Recipe) error {
	for _, rule := range []func(*kiln.Lock, *kiln.Recipe) error{fitsRecipe, fitsImage, fitsArchives} {
		if err := rule(lock, r); err != nil {
			return kiln.Misuse(kiln.WithHint(fmt.Errorf("the lock does not fit the recipe: %w", err), "make it again with `kiln lock`; a lock is not to be edited by hand"))
		}
	}
	return nil
}

func fitsRecipe(lock *kiln.Lock, r *kiln.Recipe) error {
	switch {
	case lock.Name != r.Name:
		return fmt.Errorf("it is for %s, the recipe for %s", lock.Name, r.Name)
	case r.Platform != "" && lock.Platform != r.Platform:
		return fmt.Errorf("it is for platform %s, the recipe for %s", lock.Platform, r.Platform)
	}
	return nil
}

// fitsImage lets a base image be the recipe's only, and nothing stand on it.
func fitsImage(lock *kiln.Lock, r *kiln.Recipe) error {
	if (lock.Image != nil) != (r.Base.Apt == nil) {
		return errors.New("one of them starts from an image, the other from an archive")
	}
	if lock.Image == nil {
		return nil
	}
	if len(lock.Archives) > 0 || len(lock.Packages) > 0 {
		return errors.New("it adds packages to a base image")
	}
	want, err := image.LockedReference(r.Base)
	if err != nil {
		return err
	}
	if lock.Image.Reference != want {
		return fmt.Errorf("its base image is %s, the recipe's %s", lock.Image.Reference, want)
	}
	return nil
}

// fitsArchives compares archives with those that the recipe names. Those of
// the machine cannot be compared: a lock may come from another one.
func fitsArchives(lock *kiln.Lock, r *kiln.Recipe) error {
	if r.Base.Apt == nil {
		return nil
	}
	for i := range lock.Archives {
		a := &lock.Archives[i]
		named := namedArchive(r.Base.Apt, a)
		switch {
		case named == nil && !r.Base.Apt.Machine:
			return fmt.Errorf("the recipe names no archive %s with suite %s", a.URI, a.Suite)
		case named == nil && a.Exception != nil, named != nil && a.Exception != nil && !reflect.DeepEqual(a.Exception, named.Expired):
			return fmt.Errorf("its exception for archive %s, by %s, is not the recipe's", a.ID, a.Exception.Owner)
		}
	}
	return nil
}

// fitsProfile refuses variants that the profile does not have: they would be passed over in silence.
func fitsProfile(lock *kiln.Lock, controls []kiln.Control) error {
	for _, v := range lock.Variants {
		i := slices.IndexFunc(controls, func(c kiln.Control) bool { return c.ID == v.Objective })
		if i < 0 || !slices.ContainsFunc(controls[i].Variants, func(k kiln.Variant) bool { return k.ID == v.Variant }) {
			return kiln.Misuse(fmt.Errorf("the lock wants variant %s of objective %s, which the recipe's profile does not have; make it again with `kiln lock`", v.Variant, v.Objective))
		}
	}
	return nil
}

// namedArchive is what the recipe says about a locked archive; nil if nothing.
func namedArchive(b *kiln.AptBase, a *kiln.LockedArchive) *kiln.AptArchive {
	i := slices.IndexFunc(b.Archives, func(n kiln.AptArchive) bool {
		return strings.TrimRight(n.URI, "/") == strings.TrimRight(a.URI, "/") && slices.Contains(n.Suites, a.Suite)
	})
	if i < 0 {
		return nil
	}
	return &b.Archives[i]
}

// pinnedKeys are the fingerprints by which the recipe wants an archive to be signed; empty means any key of its keyring.
func pinnedKeys(r *kiln.Recipe) func(*kiln.LockedArchive) []string {
	return func(a *kiln.LockedArchive) []string {
		if r == nil || r.Base.Apt == nil {
			return nil
		}
		if named := namedArchive(r.Base.Apt, a); named != nil {
			return named.Fingerprints
		}
		return nil
	}
}
