package admit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"kiln"
)

// releaseAge asks whether others have had time to notice what is wrong with a
// fresh release. The default does not apply to what this factory built.
func (d *decision) releaseAge(r *rule, path string) {
	wanted := d.doc.Defaults.MinReleaseAge
	where := "defaults.min_release_age"
	if strings.HasPrefix(d.r.Match, "image:") {
		wanted = 0
	}
	if r.MinReleaseAge != nil {
		wanted, where = *r.MinReleaseAge, path+".min_release_age"
	}
	if wanted == 0 {
		return
	}
	a := answer{decision: kiln.Allow, expected: "published at least " + wanted.String() + " ago"}
	published := time.Unix(d.r.PublishedAt, 0)
	ready := published.Add(time.Duration(wanted))
	switch {
	case d.r.PublishedAt == 0:
		a.decision, a.found, a.remedy = kiln.Unknown, "when it was published is not known", "use an upstream that says when it published"
	case d.now.Before(ready):
		a.decision, a.found, a.remedy = kiln.Deny, "published "+stamp(published), "wait until "+stamp(ready)
	default:
		a.found = "published " + stamp(published)
	}
	d.add(condReleaseAge, where, a)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// findings compares known vulnerabilities with the highest severity that may pass.
func (d *decision) findings(v *vulnerabilities, path string) {
	a := answer{decision: kiln.Allow, expected: "no vulnerability above severity " + v.Max, remedy: "update what is vulnerable"}
	if !d.r.Scanned {
		a.decision, a.found, a.remedy = kiln.Unknown, "vulnerabilities were not looked for", "scan the artefact"
		d.add(condVulnerabilities, path, a)
		return
	}
	var bad []string
	passed := 0
	for _, f := range d.r.Findings {
		if f.Type != "vulnerability" {
			continue
		}
		switch {
		case d.tolerable(f, v):
			passed++
		case d.vulnerabilityExcepted(f.ID, &a):
		default:
			bad = append(bad, fmt.Sprintf("%s (%s) in %s", f.ID, f.Severity, f.Subject))
		}
	}
	a.found = fmt.Sprintf("%d above, %d others", len(bad), passed)
	if len(bad) > 0 {
		a.decision = kiln.Deny
		a.found = fmt.Sprintf("%d above: %s", len(bad), shorten(bad))
	}
	d.add(condVulnerabilities, path, a)
}

func (d *decision) tolerable(f kiln.Finding, v *vulnerabilities) bool {
	if v.IgnoreUnfixed && f.FixedIn == "" {
		return true
	}
	i := slices.Index(severities, f.Severity)
	if i < 0 {
		return d.doc.Defaults.UnknownSeverity == kiln.Allow
	}
	return i <= slices.Index(severities, v.Max) // "none" is -1: nothing passes
}

func (d *decision) vulnerabilityExcepted(id string, a *answer) bool {
	e := d.excepted(func(e exception) bool { return e.Vulnerability == id })
	if e == nil {
		return false
	}
	a.used = append(a.used, *e)
	return true
}
