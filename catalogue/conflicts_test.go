package catalogue

import (
	"cmp"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"kiln"
)

// casesWithoutRule name the objective of cases whose control is none of the benchmarks' machine-checkable rules.
var casesWithoutRule = map[string]string{
	"sudo from a service user": "setuid-cleared", "crontab as www-data": "setgid-cleared", "local mail submission": "setuid-cleared",
	"ping as nobody": "setuid-cleared", "nginx as uid www-data": "image-user", "random numeric uid": "image-user",
	"non-root PAM client checks the user's own password": "setuid-cleared", "rootless id mapping": "setuid-cleared",
	"web port from another host": "firewall-deny-incoming",
}

// casesOutside are cases of controls that no objective asks for, with the reason.
var casesOutside = map[string]string{
	"maintainer scripts": "perl goes only where nothing in the image needs it", "dpkg-reconfigure": "perl goes only where nothing in the image needs it",
	"local time in a report": "time zones are wanted, not removed", "read-only root": "how a container is started, not what is in its image",
	"sudo under no_new_privs": "how a container is started", "nginx without capabilities": "how a container is started",
	"monitoring plugin counts processes": "no benchmark of these distributions asks for it", "service bound to ::1": "no benchmark asks for it any more",
	"sandbox as a user": "only the STIG of another distribution asks for it",
}

var (
	caseHead     = regexp.MustCompile(`^\d+\. (.+)`)
	casePackages = regexp.MustCompile(`(?m)^- id: .*packages: (.*)$`)
	caseControl  = regexp.MustCompile(`(?m)^- control: (.*)$`)
	ruleWord     = regexp.MustCompile(`[a-z][a-z0-9-]*(?:_[a-z0-9-]+)+`)
)

func conflictCases(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(cmp.Or(os.Getenv("KILN_SHARED"), "../../shared") + "/facts/conflicts.md")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("the facts are not here: %v", err)
	}
	return strings.Split(string(data), "\n## ")[1:]
}

// TestEveryConflictIsKnown: what was seen to break is a conflict of the objective that breaks it, with a package of the case and its probability.
func TestEveryConflictIsKnown(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	have, counts := covered(c), map[string]int{}
	for _, text := range conflictCases(t) {
		head, packages, control := caseHead.FindStringSubmatch(text), casePackages.FindStringSubmatch(text), caseControl.FindStringSubmatch(text)
		if head == nil || control == nil {
			continue // the lists at the end
		}
		title := head[1]
		counts["cases"]++
		if casesOutside[title] != "" {
			counts["outside"]++
			continue
		}
		ids := []string{}
		for _, rule := range ruleWord.FindAllString(control[1], -1) {
			ids = append(ids, have[rule]...)
		}
		if id := casesWithoutRule[title]; id != "" {
			ids = append(ids, id)
		}
		known := slices.ContainsFunc(ids, func(id string) bool {
			k, ok := c.Objective(id)
			return ok && slices.ContainsFunc(k.Conflicts, func(f kiln.Conflict) bool { return f.Percent > 0 && f.Percent <= 100 })
		})
		if !known {
			t.Errorf("%s (%s; packages %v): objectives %v know no conflict", title, control[1], packages, ids)
			continue
		}
		counts["known"]++
	}
	t.Logf("%v", counts)
	if counts["cases"] < 54 || counts["known"]+counts["outside"] != counts["cases"] {
		t.Errorf("%v: want all of 54", counts)
	}
}
