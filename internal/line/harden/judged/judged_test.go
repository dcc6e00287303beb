package judged

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/line/harden"
)

// leastJudged is the number of objectives that a program must have judged both ways.
const leastJudged = 120

func load(t testing.TB) *catalogue.Catalogue {
	t.Helper()
	cat, err := catalogue.Load()
	must(t, err)
	return cat
}

// catalogueValues lists a text parameter of every setting of a kind.
func catalogueValues(t testing.TB, kind, key string) []string {
	var out []string
	for _, k := range load(t).Objectives() {
		for _, v := range k.Variants {
			for _, s := range v.Settings {
				if s.Kind == kind {
					out = append(out, params(s.Params).text(key))
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// judgedBy are the programs that judge a variant; nothing where one of its settings has no judge.
func judgedBy(v kiln.Variant) []string {
	var out []string
	for _, s := range v.Settings {
		j, ok := judges[s.Kind]
		if !ok || s.Params["report"] != nil {
			return nil
		}
		out = append(out, j.program)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ask joins the verdicts on a variant: it holds when every setting does.
func ask(r *room, v kiln.Variant) verdict {
	joined := verdict{holds: true}
	for _, s := range v.Settings {
		one := judges[s.Kind].ask(r, s.Params)
		joined.holds = joined.holds && one.holds
		joined.none = joined.none || one.none
		joined.seen = strings.TrimSpace(joined.seen + " " + one.seen)
	}
	return joined
}

// row is one line of the table.
type row struct{ objective, variant, program, before, after string }

// TestProgramsJudgeTheObjectives violates every objective that a program can judge, in a real tree; the program must see
// it. Then Apply, once for each place in the order of variants; the program must see that it holds.
func TestProgramsJudgeTheObjectives(t *testing.T) {
	t.Parallel()
	start := time.Now()
	lower := base(t)
	t.Logf("the tree is there after %v", time.Since(start).Round(time.Millisecond))
	both := map[string]bool{}
	var rows []row
	for _, group := range []string{"settings", "modes", "apart"} {
		wrong := violated(t, lower, group)
		for at := 0; ; at++ {
			list := variantsAt(t, at, group)
			if len(list) == 0 {
				break
			}
			rows = append(rows, judgeRound(t, wrong, list, fmt.Sprintf("apply-%s-%d", group, at), both)...)
		}
	}
	report(t, rows)
	t.Logf("%d objectives judged both ways, %d variants, in %v", len(both), len(rows), time.Since(start).Round(time.Millisecond))
	if len(both) < leastJudged {
		t.Errorf("%d objectives are judged by a program before and after; %d are wanted: add a judge of a kind to judges, and what it must find wrong to violations", len(both), leastJudged)
	}
}

// apart are objectives that exclude another one.
var apart = []string{"rsyslog-forwarded"}

// groupOf says which tree an objective is tried in: modes apart, since no program trusts a configuration that all may write.
func groupOf(k kiln.Control) string {
	if slices.Contains(apart, k.ID) {
		return "apart"
	}
	if !slices.ContainsFunc(k.Variants[0].Settings, func(s kiln.Setting) bool { return s.Kind != "file-mode" }) {
		return "modes"
	}
	return "settings"
}

// variantsAt are the objectives that have a variant in that place and a judge for it, reduced to the variant.
func variantsAt(t testing.TB, at int, group string) []kiln.Control {
	var out []kiln.Control
	for _, k := range load(t).Objectives() {
		if at >= len(k.Variants) || k.Scope == "container" {
			continue
		}
		k.Variants = k.Variants[at : at+1]
		if len(judgedBy(k.Variants[0])) > 0 && groupOf(k) == group {
			out = append(out, k)
		}
	}
	return out
}

// violated makes the tree in which every judged variant is violated.
func violated(t testing.TB, lower, group string) *room {
	r := fork(t, "violated-"+group, lower)
	must(t, os.RemoveAll(filepath.Join(r.dir, "dev"))) // an image has no device nodes
	must(t, os.Mkdir(filepath.Join(r.dir, "dev"), 0o755))
	for at := range 5 {
		for _, k := range variantsAt(t, at, group) {
			for _, s := range k.Variants[0].Settings {
				if plant := violations[s.Kind]; plant != nil {
					plant(yard{t, r.dir}, s.Params)
				}
			}
		}
	}
	return r
}

func judgeRound(t *testing.T, wrong *room, list []kiln.Control, name string, both map[string]bool) []row {
	r := fork(t, name, wrong.layers...)
	in := harden.Input{
		Scope: "machine", Controls: list, Profile: "judged", Recipe: &kiln.Recipe{Name: "judged"}, Lock: &kiln.Lock{Epoch: 1750000000, Distro: "debian-12"}, Now: time.Now(), Before: kiln.DigestBytes(nil),
	}
	found, err := harden.Audit(t.Context(), r.dir, in)
	must(t, err)
	start := time.Now()
	res, err := harden.Apply(t.Context(), r.dir, in)
	must(t, err)
	t.Logf("%s: %d objectives applied in %v", name, len(list), time.Since(start).Round(time.Millisecond))
	was, is := byID(found), byID(res)
	var rows []row
	for _, k := range list {
		v, o := k.Variants[0], is[k.ID]
		before, after := ask(wrong, v), ask(r, v)
		if before.none || after.none {
			continue
		}
		agree(t, k.ID+"/"+v.ID, "before", before, was[k.ID])
		agree(t, k.ID+"/"+v.ID, "after", after, o)
		if !before.holds && after.holds && was[k.ID].State == kiln.NotSatisfied && o.State == kiln.Satisfied {
			both[k.ID] = true
		}
		rows = append(rows, row{k.ID, v.ID, strings.Join(judgedBy(v), "; "), show(before), show(after)})
	}
	return rows
}

// opposite are variants that are satisfied where another variant of the objective is violated.
var opposite = []string{"journal-one-place/journal"}

func byID(r *kiln.HardeningResult) map[string]kiln.Outcome {
	out := map[string]kiln.Outcome{}
	for _, o := range r.Outcomes {
		out[o.Objective] = o
	}
	return out
}

func show(v verdict) string { return fmt.Sprintf("%t (%.60s)", v.holds, v.seen) }

// agree compares a program's verdict with the state that was reported.
func agree(t *testing.T, what, when string, v verdict, o kiln.Outcome) {
	t.Helper()
	state := o.State
	if want := map[bool]string{true: kiln.Satisfied, false: kiln.NotSatisfied}[v.holds]; state != want && state != kiln.NotApplicable {
		t.Errorf("%s, %s: the program says %s, but the state is %s (%s; %s)", what, when, show(v), state, o.Observed, o.Reason)
	}
	if when == "after" && !v.holds && state != kiln.NotApplicable {
		t.Errorf("%s: applied, the program still sees %s", what, v.seen)
	}
	if when == "before" && v.holds && !slices.Contains(opposite, what) && state != kiln.NotApplicable {
		t.Errorf("%s: the violation is none for the program: %s", what, v.seen)
	}
}

// report prints the table, one line a variant, and how many objectives each program judged.
func report(t *testing.T, rows []row) {
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a.objective+a.variant, b.objective+b.variant) })
	count := map[string]map[string]bool{}
	for _, r := range rows {
		t.Logf("%-34s %-14s %-34s %s -> %s", r.objective, r.variant, r.program, r.before, r.after)
		if count[r.program] == nil {
			count[r.program] = map[string]bool{}
		}
		count[r.program][r.objective] = true
	}
	for _, p := range slices.Sorted(maps.Keys(count)) {
		t.Logf("%3d objectives by %s", len(count[p]), p)
	}
}
