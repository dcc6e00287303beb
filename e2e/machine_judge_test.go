//go:build e2e

package e2e

import (
	"encoding/csv"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kiln/internal/scap"
)

// machinePackages are what the machine that is judged is made of, beside a minimal system. linux-base tells the judge
// that it is a machine and no container.
const machinePackages = "systemd-sysv,openssh-server,sudo,libpam-pwquality,auditd,rsyslog,cron,nftables,nginx,linux-base"

// judgement is one profile of the independent judge, with the least share of its comparable rules that must pass.
type judgement struct {
	content, profile string
	floor            float64
}

var judgements = []judgement{
	{"ssg-ubuntu2204-ds.xml", "cis_level1_server", 0.97},
	{"ssg-ubuntu2204-ds.xml", "cis_level2_server", 0.96},
	{"ssg-ubuntu2004-ds.xml", "stig", 0.90},
}

// machineTree makes the fresh machine's tree; KILN_E2E_MACHINE names one that exists already and is copied.
func machineTree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "machine")
	if from := os.Getenv("KILN_E2E_MACHINE"); from != "" {
		mustRun(t, "cp", "-a", from, dir)
	} else {
		mustRun(t, installed(t, "mmdebstrap"), "--quiet", "--variant=minbase", "--include="+machinePackages, "bookworm", dir)
	}
	devices, err := filepath.Glob(dir + "/dev/*")
	must(t, err)
	for _, d := range devices {
		must(t, os.RemoveAll(d))
	}
	return dir
}

// reviewed reads the disagreements that were looked into: the rule, whose it is ("judge": its content is older or for
// another distribution; "limit": it does not hold, and why), and the reason.
func reviewed(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open("testdata/machine-judge.csv")
	must(t, err)
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	must(t, err)
	out := map[string]string{}
	for _, row := range rows[1:] {
		rule, side, reason := row[0], row[1], row[2]
		if out[rule] != "" || reason == "" || side != "judge" && side != "limit" {
			t.Errorf("machine-judge.csv: %v is twice there, or has no side and reason", row)
		}
		out[rule] = side
	}
	return out
}

// TestIndependentJudgeOfTheMachine: a machine's tree with every benchmark profile applied together, judged at rest by
// OpenSCAP with the content that Debian ships. Every rule that fails has been looked into, and none that passes is
// still in that list.
func TestIndependentJudgeOfTheMachine(t *testing.T) {
	installed(t, "oscap")
	const dir = "/usr/share/xml/scap/ssg/content/"
	for _, j := range judgements {
		if _, err := os.Stat(dir + j.content); err != nil {
			missing(t, "ssg-debderived is not installed: "+err.Error())
		}
	}
	why := reviewed(t)
	f := newFactory(t)
	tree := machineTree(t)
	out, errText, err := f.run("controls", "apply", tree, "--add-packages", "--profile", "cis-l2", "--profile", "stig-cat1", "--profile", "stig-cat2", "--profile", "stig-cat3")
	if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() != 3) { // 3: some do not hold, which the judge says too
		t.Fatalf("applying: %v\n%s\n%s", err, out, errText)
	}
	results := map[string]bool{} // rule -> whether it passed everywhere
	for _, j := range judgements {
		judge(t, j, dir+j.content, tree, why, results)
	}
	for _, rule := range slices.Sorted(maps.Keys(why)) {
		if passed, seen := results[rule]; passed || !seen {
			t.Errorf("%s is in machine-judge.csv, but it passes or is not judged any more: take it out", rule)
		}
	}
}

// judge runs one profile on a fork of the tree, since the judge writes into what it looks at.
func judge(t *testing.T, j judgement, content, tree string, why map[string]string, results map[string]bool) {
	t.Helper()
	base := t.TempDir()
	work, fork := filepath.Join(base, "work"), filepath.Join(base, "fork")
	must(t, os.Mkdir(work, 0o700))
	mustRun(t, "cp", "-a", tree, fork)
	got, err := scap.Evaluation{Content: content, Profile: j.profile, Tree: fork, Distro: "debian-12", Work: work}.Run(t.Context())
	must(t, err)
	pass, fail, others := 0, 0, 0
	for _, r := range got.Results.Rules {
		rule := strings.TrimPrefix(r.Rule, "xccdf_org.ssgproject.content_rule_")
		switch before, seen := results[rule]; {
		case r.Result == "pass":
			pass++
			results[rule] = before || !seen
		case r.Result == "fail" || r.Result == "error":
			results[rule] = false
			switch why[rule] {
			case "judge":
				others++
			case "limit":
				fail++
			default:
				fail++
				t.Errorf("%s: %s: %s, and nobody has looked into it", j.profile, rule, r.Result)
			}
		}
	}
	share := float64(pass) / float64(pass+fail)
	t.Logf("%s: %d pass, %d do not, %.1f %%; %d more are the content's own", j.profile, pass, fail, 100*share, others)
	if share < j.floor || pass < 100 {
		t.Errorf("%s: %.1f %% of %d rules pass, want %.0f %%", j.profile, 100*share, pass+fail, 100*j.floor)
	}
}
