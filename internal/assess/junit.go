package assess

import (
	"encoding/xml"
	"fmt"
	"io"

	"kiln"
)

// JUnit XML, as continuous integration reads it: a test case for each objective.
type (
	junitSuites struct {
		XMLName  xml.Name   `xml:"testsuites"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Errors   int        `xml:"errors,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Time     string     `xml:"time,attr"`
		Suite    junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name       string          `xml:"name,attr"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Errors     int             `xml:"errors,attr"`
		Skipped    int             `xml:"skipped,attr"`
		Time       string          `xml:"time,attr"`
		Timestamp  string          `xml:"timestamp,attr"`
		Hostname   string          `xml:"hostname,attr"`
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Name      string      `xml:"name,attr"`
		ClassName string      `xml:"classname,attr"`
		Time      string      `xml:"time,attr"`
		Error     *junitNote  `xml:"error"`
		Failure   *junitNote  `xml:"failure"`
		Skipped   *junitNote  `xml:"skipped"`
		Out       *junitPlain `xml:"system-out"`
	}
	junitNote struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
	junitPlain struct {
		Text string `xml:",chardata"`
	}
)

// writeJUnit writes unknown as an error and a waived objective as skipped, with the exception as the message.
func writeJUnit(w io.Writer, v *view) error {
	total := Total(v.result.Outcomes)
	seconds := fmt.Sprintf("%.3f", v.End.Sub(v.Start).Seconds())
	skipped := total.NotApplicable + total.Waived
	suite := junitSuite{
		Name: v.target, Tests: len(v.outcomes), Failures: total.Fail, Errors: total.Unknown, Skipped: skipped,
		Time: seconds, Timestamp: v.Start.UTC().Format("2006-01-02T15:04:05"), Hostname: v.host,
		Properties: []junitProperty{{"profile", v.result.Profile}, {"catalogue", string(v.result.Catalogue)}, {"image", string(v.result.Image)}},
	}
	for _, o := range v.outcomes {
		suite.Cases = append(suite.Cases, junitCaseOf(v.result.Profile, o))
	}
	return writeXML(w, junitSuites{
		Name: "kiln " + v.result.Profile, Tests: suite.Tests, Failures: total.Fail, Errors: total.Unknown, Skipped: skipped, Time: seconds, Suite: suite,
	})
}

func junitCaseOf(profile string, o outcome) junitCase {
	c := junitCase{Name: o.Objective + ": " + o.Title, ClassName: "kiln." + profile, Time: "0"}
	note := &junitNote{Message: o.reason(), Type: o.Severity, Text: o.detail()}
	switch o.State {
	case kiln.NotSatisfied:
		c.Failure = note
	case kiln.Unknown:
		c.Error = note
	case kiln.NotApplicable, kiln.Waived:
		c.Skipped = &junitNote{Message: o.reason()}
		c.Out = &junitPlain{o.detail()}
	default:
		c.Out = &junitPlain{o.detail()}
	}
	return c
}

// writeXML writes a document with its declaration.
func writeXML(w io.Writer, doc any) error {
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
