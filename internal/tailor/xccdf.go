package tailor

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"

	"kiln"
	"kiln/internal/scap"
)

//go:embed values.yaml
var valueData []byte

// value is a value that checks of rules take.
type value struct {
	ID        string            `yaml:"id"`
	Rules     []string          `yaml:"rules"`
	Selectors map[string]string `yaml:"selectors"`
}

var knownValues = sync.OnceValue(func() map[string]value {
	var list []value
	if err := yaml.UnmarshalWithOptions(valueData, &list, yaml.Strict()); err != nil {
		panic("internal error: values.yaml: " + err.Error())
	}
	out := map[string]value{}
	for _, v := range list {
		out[v.ID] = v
	}
	return out
})

// tailor changes what is chosen as an XCCDF profile says.
func (w *work) tailor(p *scap.Profile, file string) error {
	off := map[string]string{} // rules that are not to be judged, with the reason
	for _, c := range p.Choices {
		rule := scap.RuleID(c.ID, "")
		switch {
		case c.Kind == "select" && !c.Selected:
			off[rule] = "left out by tailoring " + file
		case c.Kind == "refine-rule" && (c.Role == "unchecked" || c.Role == "unscored"):
			off[rule] = "left out by tailoring " + file + ": role " + c.Role
		case c.Kind == "select":
			delete(off, rule)
			w.add(rule)
		}
	}
	w.leaveOut(off)
	for _, c := range p.Choices {
		switch c.Kind {
		case "refine-rule":
			w.refine(c)
		case "set-value", "refine-value":
			if err := w.setValue(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// rulesOf are the rules that an objective stands for.
func rulesOf(k kiln.Control) (all []string) {
	for _, r := range k.References {
		if r.Benchmark == "SCAP Security Guide rule" {
			all = append(all, r.ID)
		}
	}
	return all
}

// standsFor reports whether the objective is what the rule is about: by the rule's id, or by DISA's or CIS's.
func standsFor(k kiln.Control, rule string) bool {
	return slices.ContainsFunc(k.References, func(r kiln.Reference) bool {
		return r.ID == rule && (r.Benchmark == "SCAP Security Guide rule" || strings.HasPrefix(r.Benchmark, "DISA STIG"))
	})
}

// objectivesOf are those of the catalogue that stand for a rule.
func (w *work) objectivesOf(rule string) []kiln.Control {
	var out []kiln.Control
	for _, k := range w.catalogue.Objectives() {
		if standsFor(k, rule) {
			out = append(out, k)
		}
	}
	return out
}

func (w *work) note(format string, args ...any) {
	w.Notes = append(w.Notes, fmt.Sprintf(format, args...))
}

func (w *work) add(rule string) {
	list := w.objectivesOf(rule)
	if len(list) == 0 {
		w.note("tailoring selects %s, for which there is no objective: it is not judged", rule)
	}
	for _, k := range list {
		if _, there := w.chosen[k.ID]; !there {
			w.chosen[k.ID] = k
		}
	}
}

// leaveOut marks objectives of which every rule is off. One that stands for others too stays.
func (w *work) leaveOut(off map[string]string) {
	for _, rule := range slices.Sorted(maps.Keys(off)) {
		found := w.objectivesOf(rule)
		if len(found) == 0 {
			w.note("tailoring leaves out %s, for which there is no objective", rule)
		}
		for _, k := range found {
			if _, there := w.chosen[k.ID]; !there {
				continue
			}
			others := slices.DeleteFunc(rulesOf(k), func(r string) bool { return off[r] != "" })
			if len(others) > 0 && slices.Contains(rulesOf(k), rule) {
				w.note("tailoring leaves out %s, but objective %s stays: it also stands for %s", rule, k.ID, strings.Join(others, ", "))
				continue
			}
			w.LeftOut[k.ID] = off[rule]
		}
	}
}

var severities = []string{"low", "medium", "high"}

// refine raises severities; a lower one would hide what is not met.
func (w *work) refine(c scap.Choice) {
	rule := scap.RuleID(c.ID, "")
	if c.Weight != "" || c.Selector != "" {
		w.note("tailoring gives %s a weight or selector, which has no effect here", rule)
	}
	if c.Severity == "" {
		return
	}
	at := slices.Index(severities, c.Severity)
	found := false
	for id, k := range w.chosen {
		if !standsFor(k, rule) {
			continue
		}
		found = true
		if at < slices.Index(severities, k.Severity) {
			w.note("tailoring gives %s severity %s; objective %s stays %s: waive it, with owner, reason and expiry", rule, c.Severity, id, k.Severity)
			continue
		}
		k.Severity = c.Severity
		w.chosen[id] = k
	}
	if !found {
		w.note("tailoring gives %s a severity, and nothing that is chosen stands for it", rule)
	}
}

// setValue lets objectives begin with the variant that has the value.
func (w *work) setValue(c scap.Choice) error {
	id := scap.Short(c.ID)
	v, known := knownValues()[id]
	if !known {
		w.note("tailoring sets value %s, which no objective takes", id)
		return nil
	}
	want := c.Value
	if c.Kind == "refine-value" {
		var ok bool
		if want, ok = v.Selectors[c.Selector]; !ok {
			return fmt.Errorf("value %s has no selector %q that is known here; there are %s: write set-value with the value itself", id, c.Selector, strings.Join(slices.Sorted(maps.Keys(v.Selectors)), ", "))
		}
	}
	found := false
	for _, rule := range v.Rules {
		for _, k := range w.objectivesOf(rule) {
			if _, there := w.chosen[k.ID]; !there || w.LeftOut[k.ID] != "" {
				continue
			}
			found = true
			at := slices.IndexFunc(k.Variants, func(x kiln.Variant) bool { return has(x, want) })
			if at < 0 {
				return fmt.Errorf("value %s is to be %q, but objective %s (%s): %w; `kiln controls show %s` lists them", id, want, k.ID, rule, errNoValue, k.ID)
			}
			chosen := w.chosen[k.ID]
			chosen.Variants = k.Variants[at:]
			w.chosen[k.ID] = chosen
		}
	}
	if !found {
		w.note("tailoring sets value %s of %s, and nothing that is chosen stands for it", id, strings.Join(v.Rules, ", "))
	}
	return nil
}

// notValues are parameters that say where or how, not how much.
var notValues = []string{"default", "path", "key", "keyword", "separator", "file", "section", "accept"}

// has reports whether a parameter of the variant has the value.
func has(v kiln.Variant, want string) bool {
	for _, s := range v.Settings {
		for name, param := range s.Params {
			if !slices.Contains(notValues, name) && sameValue(fmt.Sprint(param), want) {
				return true
			}
		}
	}
	return false
}

// sameValue compares texts, and numbers however many zeros stand before them: masks are written 027 and 0027.
func sameValue(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := strconv.ParseInt(a, 10, 64)
	y, errY := strconv.ParseInt(b, 10, 64)
	return errX == nil && errY == nil && x == y
}
