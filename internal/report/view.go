package report

import (
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"kiln"
)

// maxListed bounds a list of paths on the page; the record has all of them.
const maxListed = 400

// view is the record arranged for the page.
type view struct {
	*kiln.Build
	Options
	Dress
	Headline headline
	Proofs   []proof
	Facts    []fact
	Contents []content
	Timeline []bar
	Total    int64
	Packages []packageRow
	// PackageText counts the packages by why they are there.
	PackageText string
	// Notable outcomes need attention or changed something; Quiet ones held already or do not apply.
	Notable  []kiln.Outcome
	Quiet    []kiln.Outcome
	States   []stateCount
	Waivers  []kiln.Outcome
	Kinds    []kindCount
	Licences []kindCount
	Findings []pathList
	Layers   []layerRow
}

// headline is the answer on top of the page.
type headline struct{ State, Word, Text string }

// fact is one figure below the headline.
type fact struct{ Value, Label, State string }

// content is one entry of the table of contents.
type content struct{ ID, Title, Note, State string }

// bar is one station in the timeline; Start and Width are thousandths of the whole.
type bar struct {
	kiln.StationRun
	State        string
	Start, Width float64
}

// proof is one signature and everything that it vouches for.
type proof struct {
	kiln.Evidence
	Also []kiln.Subject // further inputs with the same proof
}

type packageRow struct {
	kiln.LockedPackage
	Group  string
	Reason string
}

type stateCount struct {
	State        string
	Count        int
	Start, Width float64
}

type kindCount struct {
	Name  string
	Count int
}

type pathList struct {
	Title, Meaning, State string
	Paths                 []string
	More                  int
	Open                  bool
}

type layerRow struct {
	kiln.Layer
	Width float64
}

func newView(b *kiln.Build, o Options) *view {
	v := &view{Build: b, Options: o, Dress: NewDress()}
	v.Headline = newHeadline(b)
	v.Proofs = proofs(b.Evidence)
	v.Timeline, v.Total = timeline(b.Stations)
	v.Packages = packageRows(b.Lock)
	v.PackageText = packageText(v.Packages)
	v.hardening()
	v.bill()
	v.layers()
	v.Facts = facts(b, v)
	v.Contents = contents(v)
	return v
}

func newHeadline(b *kiln.Build) headline {
	for _, s := range b.Stations {
		if s.Result == "failed" {
			return headline{kiln.Fail, "Stopped", fmt.Sprintf("The build stopped at %s: %s", s.Station, cmp.Or(head(s.Note), "no reason was recorded"))}
		}
	}
	if b.Verdict == nil {
		return headline{kiln.Unknown, "Not decided", "No policy has decided about this image; nothing may serve it."}
	}
	refused := 0
	for _, c := range b.Verdict.Checks {
		if c.Decision != kiln.Allow {
			refused++
		}
	}
	switch b.Verdict.Decision {
	case kiln.Allow:
		text := fmt.Sprintf("All %d rules of the policy hold.", len(b.Verdict.Checks))
		if n := len(b.Verdict.Exceptions); n > 0 {
			text += fmt.Sprintf(" %d of them by an exception that somebody answers for.", n)
		}
		return headline{kiln.Pass, "Admitted", text}
	case kiln.Deny:
		return headline{kiln.Fail, "Refused", served(b.Verdict, fmt.Sprintf("%d of %d rules do not hold.", refused, len(b.Verdict.Checks)))}
	}
	return headline{kiln.Unknown, "Unknown", served(b.Verdict, fmt.Sprintf("%d of %d rules could not be answered; unknown is never a yes.", refused, len(b.Verdict.Checks)))}
}

// served adds what a policy that does not enforce lets happen all the same.
func served(v *kiln.Verdict, text string) string {
	if v.Serves() {
		return text + " The policy is in " + v.Mode + " mode: the image is served all the same."
	}
	return text
}

// proofs joins the inputs that one signature vouches for: a signed release file
// stands once, with the packages that its indexes name.
func proofs(all []kiln.Evidence) []proof {
	var out []proof
	at := map[string]int{}
	for _, e := range all {
		key := fmt.Sprintf("%q", append([]string{e.Type, e.Root, e.Archive, e.Suite, fmt.Sprint(e.SignedAt, e.ValidUntil), fmt.Sprint(e.Exception != nil)}, e.Signers...))
		i, ok := at[key]
		switch {
		case !ok || e.Exception != nil:
			at[key] = len(out)
			out = append(out, proof{Evidence: e})
		case len(e.Checks) > len(out[i].Checks):
			out[i].Also = append(out[i].Also, out[i].Subject)
			out[i].Evidence = e
		default:
			out[i].Also = append(out[i].Also, e.Subject)
		}
	}
	return out
}

func timeline(runs []kiln.StationRun) ([]bar, int64) {
	var total int64
	for _, r := range runs {
		total += max(r.Millis, 0)
	}
	var out []bar
	var at int64
	for _, r := range runs {
		b := bar{StationRun: r, State: stationState(r.Result)}
		if total > 0 {
			b.Start = 1000 * float64(at) / float64(total)
			b.Width = max(1000*float64(max(r.Millis, 0))/float64(total), 4)
			b.Start = min(b.Start, 1000-b.Width)
		}
		at += max(r.Millis, 0)
		out = append(out, b)
	}
	return out, total
}

func stationState(result string) string {
	switch result {
	case "done":
		return kiln.Pass
	case "cached":
		return "cached"
	}
	return kiln.Fail
}

// packageRows lists what was asked for first, then what that needs, then the base.
func packageRows(l *kiln.Lock) []packageRow {
	if l == nil {
		return nil
	}
	var out []packageRow
	for _, p := range l.Packages {
		r := packageRow{LockedPackage: p, Group: "needed", Reason: p.Why}
		switch {
		case p.Why == "requested":
			r.Group, r.Reason = "requested", "asked for by the recipe"
		case p.Base:
			r.Group = "base"
		}
		switch p.Why {
		case "requested":
		case "essential", "required":
			r.Reason = p.Why + " in every system"
		default:
			r.Reason = "needed by " + p.Why
		}
		out = append(out, r)
	}
	order := []string{"requested", "needed", "base"}
	slices.SortStableFunc(out, func(a, b packageRow) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Group), slices.Index(order, b.Group)), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func packageText(rows []packageRow) string {
	count := map[string]int{}
	var size int64
	for _, r := range rows {
		count[r.Group]++
		size += r.Size
	}
	return fmt.Sprintf("%d requested by the recipe, %d that those need, %d of the base: %s to download.",
		count["requested"], count["needed"], count["base"], bytesText(size))
}

// stateOrder puts what needs attention first.
var stateOrder = []string{kiln.NotSatisfied, kiln.Unknown, kiln.Waived, kiln.Satisfied, kiln.NotApplicable}

func (v *view) hardening() {
	h := v.Hardening
	if h == nil {
		return
	}
	outcomes := slices.Clone(h.Outcomes)
	severity := []string{"high", "medium", "low"}
	slices.SortStableFunc(outcomes, func(a, b kiln.Outcome) int {
		return cmp.Or(
			cmp.Compare(slices.Index(stateOrder, a.State), slices.Index(stateOrder, b.State)),
			cmp.Compare(slices.Index(severity, a.Severity), slices.Index(severity, b.Severity)),
			cmp.Compare(a.Objective, b.Objective))
	})
	for _, o := range outcomes {
		if quiet := o.State == kiln.NotApplicable || o.State == kiln.Satisfied && !changed(o); quiet {
			v.Quiet = append(v.Quiet, o)
		} else {
			v.Notable = append(v.Notable, o)
		}
	}
	at := 0
	for _, state := range stateOrder {
		n := h.Count(state)
		if n == 0 {
			continue
		}
		all := float64(len(h.Outcomes))
		v.States = append(v.States, stateCount{state, n, 1000 * float64(at) / all, 1000 * float64(n) / all})
		at += n
	}
	for _, o := range h.Outcomes {
		if o.Waiver != nil {
			v.Waivers = append(v.Waivers, o)
		}
	}
}

// changed reports whether hardening had to do something for the objective.
func changed(o kiln.Outcome) bool {
	return len(o.Changed) > 0 || o.State == kiln.Satisfied && o.Before != o.State
}

func (v *view) bill() {
	b := v.Bill
	if b == nil {
		return
	}
	kinds, licences := map[string]int{}, map[string]int{}
	for _, c := range b.Components {
		kinds[c.Type]++
		for _, l := range c.Licenses {
			licences[l]++
		}
	}
	v.Kinds, v.Licences = counts(kinds, 20), counts(licences, 12)
	for _, f := range []pathList{
		{Title: "Unaccounted", Meaning: "belong to no package and no step of the recipe", State: kiln.Fail, Paths: b.Unowned, Open: true},
		{Title: "Modified", Meaning: "differ from what their package shipped, and no step or objective says why", State: kiln.Fail, Paths: b.Modified, Open: true},
		{Title: "Missing", Meaning: "are listed by the package database, absent from the image, and were not removed on purpose", State: kiln.Fail, Paths: b.Missing, Open: true},
		{Title: "Unreadable", Meaning: "look like package metadata and could not be read; what they describe is unknown", State: kiln.Unknown, Paths: b.Unreadable, Open: true},
		{Title: "Replaced", Meaning: "packaged files that the recipe or hardening changed on purpose", Paths: b.Replaced},
		{Title: "Generated", Meaning: "made by package scripts, by a known rule or as a copy of a packaged file", Paths: b.Generated},
	} {
		if len(f.Paths) == 0 {
			f.State = cmp.Or(map[bool]string{true: kiln.Pass}[f.State != ""], "")
		}
		f.More = max(len(f.Paths)-maxListed, 0)
		f.Paths = f.Paths[:len(f.Paths)-f.More]
		v.Findings = append(v.Findings, f)
	}
}

func counts(m map[string]int, most int) []kindCount {
	var out []kindCount
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, kindCount{name, m[name]})
	}
	slices.SortStableFunc(out, func(a, b kindCount) int { return cmp.Compare(b.Count, a.Count) })
	if len(out) > most {
		rest := 0
		for _, k := range out[most:] {
			rest += k.Count
		}
		out = append(out[:most:most], kindCount{"others", rest})
	}
	return out
}

func (v *view) layers() {
	if v.Artifact == nil {
		return
	}
	for _, l := range v.Artifact.Layers {
		r := layerRow{Layer: l}
		if v.Artifact.Size > 0 {
			r.Width = min(1000*float64(l.Size)/float64(v.Artifact.Size), 1000)
		}
		v.Layers = append(v.Layers, r)
	}
}

func facts(b *kiln.Build, v *view) []fact {
	var out []fact
	if h := b.Hardening; h != nil {
		applicable := len(h.Outcomes) - h.Count(kiln.NotApplicable)
		state := kiln.Pass
		if h.Count(kiln.Satisfied)+h.Count(kiln.Waived) < applicable {
			state = kiln.Fail
		}
		out = append(out, fact{fmt.Sprintf("%d of %d", h.Count(kiln.Satisfied), applicable), "objectives met", state})
	}
	if t := b.Trial; t != nil {
		out = append(out, fact{fmt.Sprintf("%d of %d", passed(t), len(t.Tests)), "tests passed", t.Result})
	}
	if b.Lock != nil && len(b.Lock.Packages) > 0 {
		out = append(out, fact{fmt.Sprint(len(b.Lock.Packages)), "packages", ""})
	}
	if b.Bill != nil {
		n := len(b.Bill.Unowned) + len(b.Bill.Missing) + len(b.Bill.Modified)
		out = append(out, fact{fmt.Sprint(n), "unexplained files", map[bool]string{true: kiln.Pass, false: kiln.Fail}[n == 0]})
	}
	if a := b.Artifact; a != nil {
		out = append(out, fact{bytesText(a.Size), fmt.Sprintf("to pull, %s unpacked", bytesText(a.Unpacked)), ""})
	}
	if v.Total > 0 {
		out = append(out, fact{millisText(v.Total), "to build", ""})
	}
	return out
}

func passed(t *kiln.Trial) int {
	n := 0
	for _, r := range t.Tests {
		if r.Result == kiln.Pass {
			n++
		}
	}
	return n
}

// contents lists the sections that the page has, each with its outcome.
func contents(v *view) []content {
	out := []content{{"verdict", "Verdict", v.Headline.Word, v.Headline.State}, {"stations", "Stations", millisText(v.Total), ""}}
	add := func(there bool, c content) {
		if there {
			out = append(out, c)
		}
	}
	add(v.Lock != nil || len(v.Evidence) > 0, content{"inputs", "Inputs", plural(len(v.Evidence), "proof", "proofs"), ""})
	add(len(v.Packages) > 0, content{"packages", "Packages", fmt.Sprint(len(v.Packages)), ""})
	if h := v.Hardening; h != nil {
		add(true, content{"hardening", "Hardening", fmt.Sprintf("%d objectives", len(h.Outcomes)), ""})
	}
	if t := v.Trial; t != nil {
		add(true, content{"tests", "Tests", fmt.Sprintf("%d of %d", passed(t), len(t.Tests)), t.Result})
	}
	if b := v.Bill; b != nil {
		add(true, content{"contents", "Contents", fmt.Sprintf("%d components", len(b.Components)), ""})
	}
	if a := v.Artifact; a != nil {
		add(true, content{"image", "Image", fmt.Sprintf("%d layers", len(a.Layers)), ""})
	}
	add(len(v.Statements) > 0 || len(v.Verify) > 0, content{"statements", "Statements", fmt.Sprint(len(v.Statements)), ""})
	add(true, content{"reproduce", "Reproduce", "", ""})
	return out
}

var functions = template.FuncMap{
	"bytes": bytesText, "millis": millisText, "date": dateText, "day": dayText, "short": shortText, "fingerprint": fingerprintText,
	"mark": markText, "state": stateText, "stateWord": stateWord, "join": strings.Join, "predicate": predicateText,
	"base": path.Base, "plural": plural, "command": commandText, "changed": changed, "head": head, "folded": folded, "some": some, "few": few,
}

// maxShown is how much of a text stands in a table before the rest is folded.
const maxShown = 240

// head is the first line of a text, as much of it as a table takes.
func head(s string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	if r := []rune(first); len(r) > maxShown {
		return string(r[:maxShown]) + "…"
	}
	return first
}

// folded reports whether a text has more than its head.
func folded(s string) bool { return head(s) != strings.TrimSpace(s) }

// some returns the first of many paths; the record has all of them.
func some(paths []string) []string { return paths[:min(len(paths), maxListed/4)] }

// few returns the first references; the rest is folded.
func few(all []kiln.Reference) []kiln.Reference { return all[:min(len(all), 2)] }

func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

func millisText(ms int64) string {
	switch {
	case ms >= 60_000:
		return fmt.Sprintf("%d min %02d s", ms/60_000, ms/1000%60)
	case ms >= 1000:
		return fmt.Sprintf("%.1f s", float64(ms)/1000)
	}
	return fmt.Sprintf("%d ms", ms)
}

func dateText(unix int64) string {
	if unix == 0 {
		return "not stated"
	}
	return time.Unix(unix, 0).UTC().Format("2006-01-02 15:04 UTC")
}

func dayText(unix int64) string {
	if unix == 0 {
		return "no end"
	}
	return time.Unix(unix, 0).UTC().Format(time.DateOnly)
}

// shortText shortens a digest for people; anything else stays whole.
func shortText(d kiln.Digest) string {
	if d.Validate() != nil {
		return string(d)
	}
	return d.Short()
}

// fingerprintText shows the last 16 digits of a long fingerprint, as key tools do.
func fingerprintText(s string) string {
	if len(s) > 24 && strings.Trim(strings.ToLower(s), "0123456789abcdef") == "" {
		return "…" + s[len(s)-16:]
	}
	return s
}

// stateText maps every word for an outcome to one of five looks.
func stateText(s string) string {
	switch s {
	case kiln.Pass, kiln.Allow, kiln.Satisfied, "done":
		return "good"
	case kiln.Fail, kiln.Deny, kiln.NotSatisfied, kiln.Error, "failed":
		return "bad"
	case kiln.Unknown, kiln.Waived:
		return "warn"
	}
	return "plain"
}

// markText is the sign that says the same as the colour.
func markText(s string) string {
	return map[string]string{"good": "✓", "bad": "✗", "warn": "!", "plain": "·"}[stateText(s)]
}

func stateWord(s string) string {
	switch s {
	case kiln.Satisfied:
		return "met"
	case kiln.NotSatisfied:
		return "not met"
	case kiln.NotApplicable:
		return "not applicable"
	case kiln.Allow:
		return "holds"
	case kiln.Deny:
		return "refused"
	}
	return s
}

// predicateText names a predicate type for people.
func predicateText(t string) string {
	switch t {
	case kiln.PredicateProvenance:
		return "Provenance"
	case kiln.PredicateCycloneDX:
		return "Bill of materials (CycloneDX)"
	case kiln.PredicateSPDX:
		return "Bill of materials (SPDX)"
	case kiln.PredicateTestResult:
		return "Test result"
	case kiln.PredicateVerification:
		return "Verification summary"
	case kiln.PredicateRelease:
		return "Release signature"
	}
	return path.Base(path.Dir(t)) + " " + path.Base(t)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// commandText writes an argument list as a shell would take it.
func commandText(args []string) string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = a
		if a == "" || strings.ContainsAny(a, " \t\n\"'`$&|;<>()*?[]#~\\!{}") {
			out[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(out, " ")
}
