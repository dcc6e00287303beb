package assess

import (
	_ "embed"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// STIG is a benchmark of DISA: its rules with the identifiers that DISA's tools
// match, and, where it was read from DISA's document, their texts.
type STIG struct {
	ID          string // CAN_Ubuntu_24-04_LTS_STIG
	Title       string
	Version     string // "1"
	ReleaseInfo string // "Release: 5 Benchmark Date: 01 Apr 2026"
	Description string
	Rules       []STIGRule
	// known is set where only identifiers are known, without texts and without the revisions of rule ids.
	known bool
}

// STIGRule is one rule of a STIG.
type STIGRule struct {
	Group      string // V-270708
	GroupTitle string // the requirement guide's id: SRG-OS-000480-GPOS-00227
	ID         string // SV-270708r1066613_rule
	Version    string // UBTU-24-300022
	Severity   string // high, medium, low
	Weight     string
	Title      string
	Discussion string // as DISA writes it: a text with elements of its own inside
	Check      string
	CheckName  string
	CheckHRef  string
	Fix        string
	CCIs       []string
	Legacy     []string
	Reference  string // the target key
}

// maxSTIG bounds DISA's documents in bytes; the largest have some 5 MB.
const maxSTIG = 32 << 20

// stigDocument is what is read of an XCCDF benchmark, 1.1 or 1.2; names match in any name space.
type stigDocument struct {
	ID          string `xml:"id,attr"`
	Title       string `xml:"title"`
	Description string `xml:"description"`
	Version     string `xml:"version"`
	PlainTexts  []struct {
		ID   string `xml:"id,attr"`
		Text string `xml:",chardata"`
	} `xml:"plain-text"`
	Groups []struct {
		ID    string `xml:"id,attr"`
		Title string `xml:"title"`
		Rule  struct {
			ID          string `xml:"id,attr"`
			Severity    string `xml:"severity,attr"`
			Weight      string `xml:"weight,attr"`
			Version     string `xml:"version"`
			Title       string `xml:"title"`
			Description string `xml:"description"`
			Reference   struct {
				Identifier string `xml:"identifier"`
			} `xml:"reference"`
			Idents []struct {
				System string `xml:"system,attr"`
				Text   string `xml:",chardata"`
			} `xml:"ident"`
			Fix   string `xml:"fixtext"`
			Check struct {
				Content    string `xml:"check-content"`
				ContentRef struct {
					HRef string `xml:"href,attr"`
					Name string `xml:"name,attr"`
				} `xml:"check-content-ref"`
			} `xml:"check"`
		} `xml:"Rule"`
	} `xml:"Group"`
}

// ReadSTIG reads a benchmark as DISA publishes it for people, the "Manual" XCCDF document. A document type declaration is
// refused, and so is what has more than 32 MiB, no rules, or rules without their identifiers.
func ReadSTIG(r io.Reader) (*STIG, error) {
	limited := &io.LimitedReader{R: r, N: maxSTIG + 1}
	dec := xml.NewTokenDecoder(strictTokens{xml.NewDecoder(limited)})
	var d stigDocument
	err := dec.Decode(&d)
	switch {
	case limited.N <= 0:
		return nil, fmt.Errorf("the STIG has more than %d MiB; give the document named *Manual-xccdf.xml", maxSTIG>>20)
	case err != nil:
		return nil, fmt.Errorf("reading the STIG: %w", err)
	case !strings.Contains(d.ID, "_"):
		return nil, errors.New("this is not a STIG: its root has no id such as CAN_Ubuntu_24-04_LTS_STIG; give the document named *Manual-xccdf.xml")
	case len(d.Groups) == 0:
		return nil, errors.New("the STIG has no rules; give the document named *Manual-xccdf.xml")
	}
	return d.stig()
}

// strictTokens refuses declarations, so that no entity is ever defined.
type strictTokens struct{ *xml.Decoder }

func (s strictTokens) Token() (xml.Token, error) {
	t, err := s.RawToken()
	if _, ok := t.(xml.Directive); ok {
		return nil, errors.New("it has a document type declaration")
	}
	return t, err
}

func (d *stigDocument) stig() (*STIG, error) {
	_, id, prefixed := strings.Cut(d.ID, "_benchmark_")
	if !prefixed {
		id = d.ID
	}
	s := &STIG{ID: harmlessText(id), Title: harmlessText(d.Title), Version: harmlessText(d.Version), Description: harmlessText(d.Description)}
	for _, p := range d.PlainTexts {
		if p.ID == "release-info" {
			s.ReleaseInfo = harmlessText(p.Text)
		}
	}
	for _, g := range d.Groups {
		r := g.Rule
		rule := STIGRule{
			Group: afterMark(g.ID, "_group_"), GroupTitle: g.Title, ID: afterMark(r.ID, "_rule_"), Version: r.Version, Severity: r.Severity, Weight: r.Weight,
			Title: r.Title, Discussion: r.Description, Check: r.Check.Content, CheckName: r.Check.ContentRef.Name,
			CheckHRef: r.Check.ContentRef.HRef, Fix: r.Fix, Reference: r.Reference.Identifier,
		}
		for _, i := range r.Idents {
			switch {
			case strings.HasPrefix(i.Text, "CCI-"):
				rule.CCIs = append(rule.CCIs, i.Text)
			case strings.Contains(i.System, "legacy"):
				rule.Legacy = append(rule.Legacy, i.Text)
			}
		}
		rule = harmless(rule)
		if !strings.HasPrefix(rule.Group, "V-") || !strings.HasPrefix(rule.ID, "SV-") || rule.Version == "" {
			return nil, fmt.Errorf("group %q of the STIG has no rule with ids of the forms V-…, SV-… and a version", clipAt(rule.Group, 80))
		}
		s.Rules = append(s.Rules, rule)
	}
	return s, nil
}

// afterMark drops the prefix that XCCDF 1.2 demands of identifiers.
func afterMark(id, mark string) string {
	if _, rest, ok := strings.Cut(id, mark); ok {
		return rest
	}
	return id
}

// stigTable lists rule, release of Ubuntu, group, severity and requirement of DISA's STIGs for Ubuntu: identifiers only.
//
//go:embed stig.csv
var stigTable string

var knownRules = sync.OnceValue(func() map[string][]STIGRule {
	rows, err := csv.NewReader(strings.NewReader(stigTable)).ReadAll()
	if err != nil {
		panic("internal error: stig.csv: " + err.Error())
	}
	out := map[string][]STIGRule{}
	for _, r := range rows[1:] {
		out[r[1]] = append(out[r[1]], STIGRule{
			Version: r[0], Group: r[2], Severity: r[3], GroupTitle: orElse(r[4], r[2]), ID: "S" + r[2], Weight: "10.0",
		})
	}
	return out
})

// stigReleases are the releases that stig.csv and the catalogue know.
var stigReleases = map[string][2]string{"22.04": {"2", "Release: 8"}, "24.04": {"1", "Release: 5"}}

// knownSTIG is what is known of the STIG of one version of Ubuntu without DISA's document.
func knownSTIG(version string) (*STIG, bool) {
	rules := knownRules()[version]
	release, ok := stigReleases[version]
	return &STIG{
		ID:    "CAN_Ubuntu_" + strings.ReplaceAll(version, ".", "-") + "_LTS_STIG",
		Title: "Canonical Ubuntu " + version + " LTS Security Technical Implementation Guide", Version: release[0], ReleaseInfo: release[1],
		Description: "Identifiers only: the texts are in DISA's document.", Rules: slices.Clone(rules), known: true,
	}, ok && len(rules) > 0
}
