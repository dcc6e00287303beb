package assess

import (
	"fmt"
	"slices"
	"strings"

	"kiln"
)

// checklist is an assessment seen as the rules of one STIG: what XCCDF results for STIG tools, CKL and CKLB have in common.
type checklist struct {
	STIG
	derived bool // not made for the platform
	items   []checklistItem
}

// checklistItem is one rule of the STIG; without outcomes nobody looked at it.
type checklistItem struct {
	STIGRule
	state    string // of all outcomes together; empty where nobody looked
	outcomes []outcome
}

// nearest is the STIG that objectives on Debian are derived from: that of the Ubuntu with the packages of the same years.
var nearest = map[string]string{"debian-12": "22.04", "debian-13": "24.04"}

// checklist chooses the STIG for the platform. There is none for Debian: a derived one is made on request only.
func (v *view) checklist() (*checklist, error) {
	if v.Platform == "" {
		return nil, fmt.Errorf("%w: its distribution is not known (it has no os-release that says so), so there is no STIG to answer", ErrUnfit)
	}
	distro, version, _ := strings.Cut(v.Platform, "-")
	c := &checklist{derived: distro != "ubuntu"}
	if c.derived {
		if !v.Derived {
			return nil, fmt.Errorf("%w: there is no STIG for %s, so a checklist of one would not be DISA's; ask for a derived one if you want it all the same, or take xccdf", ErrUnfit, v.Platform)
		}
		if version = nearest[v.Platform]; version == "" {
			return nil, fmt.Errorf("%w: no STIG is near enough to %s to derive a checklist from", ErrUnfit, v.Platform)
		}
	}
	known, ok := knownSTIG(version)
	switch {
	case v.STIG != nil && !strings.Contains(v.STIG.ID, strings.ReplaceAll(version, ".", "-")):
		return nil, fmt.Errorf("the STIG that was given is %s; for %s it is %s", v.STIG.ID, v.Platform, known.ID)
	case v.STIG != nil:
		c.STIG = *v.STIG
	case !ok:
		return nil, fmt.Errorf("%w: no STIG for %s is known here; give DISA's own document", ErrUnfit, v.Platform)
	default:
		c.STIG = *known
	}
	if c.derived {
		c.deriveFrom(v.Platform)
	}
	c.fill(v.outcomes, version)
	return c, nil
}

// deriveFrom gives the checklist an identity of our own.
func (c *checklist) deriveFrom(platform string) {
	c.Title = fmt.Sprintf("Derived by Kiln for %s from: %s. Not DISA's", platform, c.Title)
	c.Description = "Derived by Kiln, for a platform that DISA has no STIG for. " + c.Description
	c.ID = "Kiln_derived_" + strings.ReplaceAll(platform, ".", "-") + "_from_" + c.ID
}

// fill answers every rule of the STIG by the outcomes that refer to it.
func (c *checklist) fill(outcomes []outcome, version string) {
	answered := map[string]rule{}
	for _, b := range byBenchmark(outcomes, "ubuntu-"+version) {
		if strings.HasPrefix(b.name, stigUbuntu) {
			for _, r := range b.rules {
				answered[r.id] = r
			}
		}
	}
	for _, r := range c.Rules {
		a := answered[r.Version]
		item := checklistItem{STIGRule: r, state: a.state, outcomes: a.outcomes}
		if c.known {
			item.describe()
		}
		c.items = append(c.items, item)
	}
}

// describe fills in our own words where DISA's are not at hand.
func (i *checklistItem) describe() {
	const see = "See DISA's document for the text of this rule."
	i.Title, i.Check, i.Fix = i.Version, see, see
	var titles, checks, fixes []string
	for _, o := range i.outcomes {
		titles = append(titles, o.Title)
		checks = append(checks, "Kiln's objective "+o.Objective+" wants: "+o.wanted())
		fixes = append(fixes, help(o))
		i.CCIs = append(i.CCIs, ccis(o.References)...)
	}
	if len(titles) > 0 {
		i.Title = strings.Join(titles, "; ")
		i.Check = strings.Join(append(checks, see), "\n")
		i.Fix = strings.Join(append(fixes, see), "\n")
	}
	slices.Sort(i.CCIs)
	i.CCIs = slices.Compact(i.CCIs)
}

// ruleID is the rule's id without the suffix that XCCDF and CKL have and CKLB has not.
func (i checklistItem) ruleID() string { return strings.TrimSuffix(i.ID, "_rule") }

// details is the text of a finding. It is never empty where somebody looked: a rule that does not apply needs its reason.
func (i checklistItem) details() string {
	if len(i.outcomes) == 0 {
		return ""
	}
	parts := make([]string, len(i.outcomes))
	for n, o := range i.outcomes {
		parts[n] = o.detail()
		if o.Reason == "" && o.State != kiln.Satisfied {
			parts[n] += "\nReason: " + o.reason()
		}
	}
	return clip(strings.Join(parts, "\n\n"))
}

// comments says who looked, and for an exception who answers for it.
func (i checklistItem) comments(v *view) string {
	if len(i.outcomes) == 0 {
		return "Not assessed: no objective of profile " + v.result.Profile + " covers this rule."
	}
	text := "Assessed by Kiln " + v.Version + ", profile " + v.result.Profile + ", " + stamp(v.End) + "."
	for _, o := range i.outcomes {
		if o.Waiver != nil {
			text += "\nOpen by an exception, for objective " + o.Objective + ": " + exception(o.Waiver)
		}
	}
	return clip(text)
}

// targetComment is the identity of what was looked at, and what the reader must know of the checklist.
func (v *view) targetComment(c *checklist) string {
	parts := []string{"Target: " + v.target}
	if v.result.Image != "" {
		parts = append(parts, "Image digest: "+string(v.result.Image))
	}
	if c.derived {
		parts = append(parts, "Derived by Kiln: there is no STIG for "+v.Platform+", and this is not DISA's.")
	}
	if c.known {
		parts = append(parts, "Made without DISA's document: rule ids are without their revisions, texts are Kiln's.")
	}
	for _, left := range v.result.LeftOut {
		parts = append(parts, "Not looked into: "+left)
	}
	return clip(strings.Join(parts, "\n"))
}
