// Package assess writes what an audit found for people and for auditors' tools.
//
// An Assessment is the document of an audit, or of a build's hardening, together
// with what it does not hold: the objectives' texts, the time, the platform. Write
// turns it into one of the forms that Formats lists. The same Assessment gives the
// same bytes: identifiers are derived from the content, time is an argument.
//
// What nobody looked at is never a pass, and neither is what was waived: in every
// form an exception stays a finding that names its owner, reason and last day.
//
// The strings of a result come from the tree that was audited, so from strangers.
// Before anything is written, control characters are made visible, what is no
// UTF-8 is replaced, and each text is cut at maxText bytes; the JSON document alone
// keeps them whole.
package assess

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"kiln"
)

// Assessment is one look at one target.
type Assessment struct {
	// Result says what became of every objective. It is required.
	Result *kiln.HardeningResult
	// Controls are the catalogue's objectives; those that the result does not name are ignored, and an outcome whose
	// objective is not here is written without its rationale.
	Controls []kiln.Control
	// Earlier is a result to compare with; nil means none.
	Earlier *kiln.HardeningResult
	// Version is the version of the program that looked.
	Version string
	// Start and End are when it looked; formats that must state a time need both.
	Start, End time.Time
	// Platform is the target's distribution as ID-VERSION_ID of its os-release, such as "debian-12"; empty where it is not known.
	Platform string
	// Host is the name by which the target is known to asset management; empty means the result's Target.
	Host string
	// STIG is DISA's own document for the platform, read by ReadSTIG; nil where the user has none.
	STIG *STIG
	// Derived allows checklists of a STIG that was not made for the platform, marked as derived.
	Derived bool
}

// A Format is one form of an assessment.
type Format struct {
	Name      string // as given on the command line
	Extension string // of a file of this form, with its dot
	Purpose   string // in one line
	write     func(io.Writer, *view) error
}

var formats = []Format{
	{"html", ".html", "a page for people, in one file", writeHTML},
	{"json", ".json", "the document itself", writeJSON},
	{"sarif", ".sarif", "SARIF 2.1.0, for code scanning", writeSARIF},
	{"junit", ".junit.xml", "JUnit XML, for continuous integration", writeJUnit},
	{"xccdf", ".xccdf.xml", "XCCDF 1.2, our objectives as a benchmark with its result", writeXCCDF},
	{"arf", ".arf.xml", "ARF 1.1, the XCCDF result with the asset it is about", writeARF},
	{"xccdf-stig", ".stig.xccdf.xml", "XCCDF 1.2 result under the STIG's own rule ids, for STIG tools", writeXCCDFSTIG},
	{"ckl", ".ckl", "checklist of STIG Viewer 2", writeCKL},
	{"cklb", ".cklb", "checklist of STIG Viewer 3", writeCKLB},
	{"oscal", ".oscal.json", "OSCAL assessment results", writeOSCAL},
	{"gpos", ".gpos.xccdf.xml", "XCCDF 1.2 answers to DISA's operating system SRG, for images", writeGPOS},
}

// Formats lists the forms that Write knows, in a fixed order.
func Formats() []Format { return slices.Clone(formats) }

// Write writes the assessment in one of the forms that Formats names. Nothing is
// written when the assessment is incomplete or the form does not fit it.
func Write(w io.Writer, format string, a *Assessment) error {
	at := slices.IndexFunc(formats, func(f Format) bool { return f.Name == format })
	if at < 0 {
		return fmt.Errorf("no format %q; there are %s", format, strings.Join(names(), ", "))
	}
	v, err := newView(a)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := formats[at].write(&out, v); err != nil {
		return fmt.Errorf("writing %s: %w", format, err)
	}
	if _, err := w.Write(out.Bytes()); err != nil {
		return fmt.Errorf("writing %s: %w", format, err)
	}
	return nil
}

func names() []string {
	out := make([]string, len(formats))
	for i, f := range formats {
		out[i] = f.Name
	}
	return out
}

func writeJSON(w io.Writer, v *view) error {
	text, err := kiln.Encode(v.Assessment.Result)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// view is an assessment prepared for writing: its strings are harmless, its outcomes sorted by objective.
type view struct {
	Assessment // but for Result and Earlier, which are as given: what is written comes from the fields below
	result     *kiln.HardeningResult
	earlier    *kiln.HardeningResult
	outcomes   []outcome
	// seed is a digest of everything that is written: identifiers are derived from it.
	seed kiln.Digest
	// target names what was looked at, and host the asset.
	target, host string
}

// outcome is an outcome and the objective it is of; without one in the catalogue, control has its id and title only.
type outcome struct {
	kiln.Outcome
	control kiln.Control
}

func newView(a *Assessment) (*view, error) {
	if a == nil || a.Result == nil {
		return nil, errors.New("internal error: an assessment without a result")
	}
	if err := a.Result.Validate(); err != nil {
		return nil, fmt.Errorf("the result cannot be written: %w", err)
	}
	if a.Start.IsZero() || a.End.Before(a.Start) {
		return nil, errors.New("internal error: an assessment needs its start and an end that is not before it")
	}
	if a.Earlier != nil {
		if err := a.Earlier.Validate(); err != nil {
			return nil, fmt.Errorf("the earlier result cannot be compared with: %w", err)
		}
	}
	v := &view{Assessment: *a}
	v.Version, v.Platform = harmlessText(a.Version), harmlessText(a.Platform)
	v.Controls = harmless(a.Controls)
	v.result, v.earlier = harmless(a.Result), harmless(a.Earlier)
	v.target = orElse(v.result.Target, "target")
	v.host = orElse(harmlessText(a.Host), v.target)
	v.outcomes = join(v.result.Outcomes, v.Controls)
	everything, err := json.Marshal([]any{v.result, v.Version, v.host, v.Platform, a.Start.UnixNano(), a.End.UnixNano()})
	if err != nil {
		return nil, fmt.Errorf("digesting the result: %w", err)
	}
	v.seed = kiln.DigestBytes(everything)
	return v, nil
}

// join gives every outcome its objective and sorts them by id.
func join(outcomes []kiln.Outcome, controls []kiln.Control) []outcome {
	byID := map[string]kiln.Control{}
	for _, c := range controls {
		byID[c.ID] = c
	}
	out := make([]outcome, 0, len(outcomes))
	for _, o := range outcomes {
		c, ok := byID[o.Objective]
		if !ok {
			c = kiln.Control{ID: o.Objective, Title: o.Title}
		}
		o.Title = orElse(orElse(o.Title, c.Title), o.Objective)
		out = append(out, outcome{o, c})
	}
	slices.SortStableFunc(out, func(a, b outcome) int { return strings.Compare(a.Objective, b.Objective) })
	return out
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
