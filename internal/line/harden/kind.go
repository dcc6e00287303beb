package harden

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"kiln"
)

// Observation is what a kind saw.
type Observation struct {
	State    string // kiln.Satisfied, NotSatisfied, NotApplicable or Unknown
	Observed string // the value seen, for people
	Source   string // "file" unless a program was asked for its effective value
	Reason   string // for not applicable and unknown
	// Blocked says why Apply must not be tried; the next variant is.
	Blocked string
}

func good(observed string) Observation {
	return Observation{State: kiln.Satisfied, Observed: observed, Source: "file"}
}

func bad(observed string) Observation {
	return Observation{State: kiln.NotSatisfied, Observed: observed, Source: "file"}
}

func blocked(observed, why string) Observation {
	return Observation{State: kiln.NotSatisfied, Observed: observed, Source: "file", Blocked: why}
}

func absent(reason string) Observation {
	return Observation{State: kiln.NotApplicable, Reason: reason, Source: "file"}
}

func unknown(reason string) Observation {
	return Observation{State: kiln.Unknown, Reason: reason, Blocked: reason, Source: "file"}
}

// judge is good(fine) when nothing offends, else bad with the offenders listed.
func judge(offenders []string, fine string) Observation {
	if len(offenders) == 0 {
		return good(fine)
	}
	return bad(list(offenders))
}

// list names the first few of many.
func list(items []string) string {
	const show = 5
	if len(items) <= show {
		return strings.Join(items, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(items[:show], ", "), len(items)-show)
}

// Phases order kinds, since packages take files and accounts with them: what is removed first need not be changed.
const (
	phaseAsked   = iota // packages the recipe names, unused packages
	phaseRemoval        // shells, package manager, documentation
	phaseTraces         // leftovers, secrets, logs
	phaseContent        // accounts and configuration files
	phaseModes          // owners and modes of what is left
	phaseConfig         // the image configuration
)

// Kind is a mechanism with parameters as data: State looks, Apply changes. A
// kind's Apply is only called after a State of kiln.NotSatisfied that is not
// Blocked, and a second Apply changes nothing.
type Kind struct {
	Name  string
	phase int
	check func(map[string]any) error
	state func(*Subject, map[string]any) (Observation, error)
	apply func(*Subject, map[string]any) error
	// params is the type of its parameters: the reference of kinds is checked against it.
	params reflect.Type
}

// define makes a Kind whose parameters are the fields of P.
func define[P any](name string, phase int, state func(*Subject, P) (Observation, error), apply func(*Subject, P) error) Kind {
	return Kind{
		Name: name, phase: phase, params: reflect.TypeFor[P](),
		check: func(m map[string]any) error { _, err := params[P](m); return err },
		state: func(s *Subject, m map[string]any) (Observation, error) {
			p, err := params[P](m)
			if err != nil {
				return Observation{}, err
			}
			return state(s, p)
		},
		apply: func(s *Subject, m map[string]any) error {
			p, err := params[P](m)
			if err != nil {
				return err
			}
			return apply(s, p)
		},
	}
}

// checker is implemented by parameters that have rules of their own.
type checker interface{ check() error }

func params[P any](m map[string]any) (P, error) {
	var p P
	data, err := json.Marshal(m)
	if err != nil {
		return p, fmt.Errorf("parameters: %w", err)
	}
	if len(m) > 0 {
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&p); err != nil {
			return p, fmt.Errorf("parameters: %w", err)
		}
	}
	if c, ok := any(p).(checker); ok {
		if err := c.check(); err != nil {
			return p, fmt.Errorf("parameters: %w", err)
		}
	}
	return p, nil
}

// Kinds returns the names of all kinds, sorted.
func Kinds() []string {
	out := make([]string, 0, len(kinds))
	for name := range kinds {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Check reports whether a setting names a kind that exists and gives it parameters that it takes.
func Check(s kiln.Setting) error {
	k, ok := kinds[s.Kind]
	if !ok {
		return fmt.Errorf("no kind %q; there are %s", s.Kind, strings.Join(Kinds(), ", "))
	}
	if err := k.check(s.Params); err != nil {
		return fmt.Errorf("kind %s: %w", s.Kind, err)
	}
	return nil
}

// octal reads a mode such as "0644".
func octal(text string) (uint32, error) {
	var mode uint32
	if text == "" || len(text) > 5 {
		return 0, fmt.Errorf("mode %q is not octal text such as 0644", text)
	}
	for _, c := range text {
		if c < '0' || c > '7' {
			return 0, fmt.Errorf("mode %q is not octal text such as 0644", text)
		}
		mode = mode<<3 | uint32(c-'0')
	}
	return mode, nil
}
