package harden

import (
	"slices"
	"strings"
	"testing"

	"kiln"
	"kiln/catalogue"
)

// weaker are the trees that violate a variant after the first, where the objective's own case does not: what is enough
// for the weaker variant is a violation of the stricter one.
var weaker = map[string][]node{
	"ssh-forwarding/x11":         {sshd("X11Forwarding yes\n")},
	"ssh-root-login/root-locked": {hashes("root:$6$a$b:19000:0:99999:7:::\n")},
	"account-no-shell/locked":    {hashes("root:*:19000:0:99999:7:::\nsvc:$6$a$b:19000:0:99999:7:::\n")},
	"account-locked/system":      {hashes("root:*:19000:0:99999:7:::\nwww-data:$6$a$b:19000:0:99999:7:::\n")},
}

// unviolated are variants that no tree violates, with why.
var unviolated = map[string]string{
	"certificates-known/known": "its cases are in foreign_test.go",
	"image-ports/asked":        "accepts every port that the recipe asks for",
}

// TestEveryVariantOnATree: each variant of the objectives of containers is violated by a tree, seen so, applied, seen to
// hold, and applied again without a change. (Machines: TestEveryMachineVariantOnATree.)
func TestEveryVariantOnATree(t *testing.T) {
	needRoot(t)
	cat, err := catalogue.Load()
	must(t, err)
	tested := map[string]bool{}
	for _, c := range append(slices.Clone(domains), generated(cat)...) {
		k, ok := cat.Objective(c.objective)
		if !ok {
			continue
		}
		for i, v := range k.Variants {
			name := k.ID + "/" + v.ID
			if tested[name] {
				continue
			}
			tested[name] = true
			t.Run(name, func(t *testing.T) { t.Parallel(); c.variantHolds(t, k, i) })
		}
	}
	images := ofImages(t) // TestObjectivesOfImagesBothWays
	for _, k := range cat.Objectives() {
		if _, ok := images[k.ID]; ok {
			continue
		}
		for _, v := range k.Variants {
			if name := k.ID + "/" + v.ID; k.Scope != "machine" && !tested[name] && unviolated[name] == "" && k.ID != "device-files-absent" {
				t.Errorf("variant %s has no tree that violates it: add a case of %s to domains", name, k.ID)
			}
		}
	}
}

func (c domain) variantHolds(t *testing.T, k kiln.Control, at int) {
	v := k.Variants[at]
	k.Variants = k.Variants[at : at+1]
	before := c.before
	if more, ok := weaker[k.ID+"/"+v.ID]; ok {
		before = append(slices.Clone(before), more...)
	}
	dir := plant(t, debianWith(before...)...)
	in := c.input(t, k, c.newRecipe())
	in.Before = kiln.DigestBytes(nil)
	audit, err := Audit(t.Context(), dir, in)
	must(t, err)
	if o := audit.Outcomes[0]; o.State != kiln.NotSatisfied {
		if unviolated[k.ID+"/"+v.ID] == "" {
			t.Errorf("the tree does not violate it: %s (%s %s); add to weaker what does", o.State, o.Observed, o.Reason)
		}
		return
	}
	was := dump(t, dir)
	res, err := Apply(t.Context(), dir, in)
	must(t, err)
	o, is := res.Outcomes[0], dump(t, dir)
	if c.unfixable != "" || strings.HasPrefix(v.Settings[0].Kind, "image-") && o.State == kiln.NotSatisfied {
		if o.State != kiln.NotSatisfied || o.Reason == "" || len(differences(was, is)) > 0 {
			t.Errorf("it can only report, but: %s %q\n%s", o.State, o.Reason, show(differences(was, is)))
		}
		return
	}
	if o.State != kiln.Satisfied {
		t.Fatalf("applied: %s (%s) %s", o.State, o.Observed, o.Reason)
	}
	again, err := Apply(t.Context(), dir, in)
	must(t, err)
	if diff := differences(is, dump(t, dir)); len(diff) > 0 || again.Outcomes[0].Before != kiln.Satisfied {
		t.Errorf("applied again: %s, and it changed:\n%s", again.Outcomes[0].Before, show(diff))
	}
}
