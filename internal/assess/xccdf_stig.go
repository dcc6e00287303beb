package assess

import (
	"fmt"
	"io"
)

const disaPrefix = "xccdf_mil.disa.stig_"

// writeXCCDFSTIG writes a result under the STIG's own identifiers, as STIG tools import it: the root is the TestResult. A
// derived one has identifiers of our own, so that no tool takes it for DISA's.
func writeXCCDFSTIG(w io.Writer, v *view) error {
	c, err := v.checklist()
	if err != nil {
		return err
	}
	if c.known && !c.derived {
		return fmt.Errorf("%w: results under DISA's rule ids need their revisions, which are in DISA's document only; give it (the file named *Manual-xccdf.xml of the STIG), or take ckl, cklb or xccdf", ErrUnfit)
	}
	id := disaPrefix + "benchmark_" + c.ID
	if c.derived {
		id = v.xccdfID("benchmark", c.ID)
	}
	r := v.xccdfResult(xccdfBenchmarkRef{HRef: c.ID, ID: id})
	r.Space = xccdfSpace
	r.Title = c.Title
	if c.derived {
		r.Remarks = append(r.Remarks, "Derived by Kiln: there is no STIG for "+v.Platform+", and this is not DISA's.")
	}
	var score Score
	for _, i := range c.items {
		rule := disaPrefix + "rule_" + i.ruleID() + "_rule"
		if c.derived {
			rule = v.xccdfID("rule", i.Version)
		}
		result := v.xccdfRuleResult(rule, i.state, i.Severity, i.outcomes...)
		result.Version, result.Weight = i.Version, orElse(i.Weight, "10.0")
		result.Idents = nil
		for _, cci := range i.CCIs {
			result.Idents = append(result.Idents, xccdfIdent{cciSystem, cci})
		}
		if i.state == "" {
			result.Result = "notchecked"
			result.Messages = []xccdfMessage{{"info", i.comments(v)}}
		} else {
			score.count(i.state)
		}
		r.Results = append(r.Results, result)
	}
	r.Score = xccdfScoreOf(score)
	return writeXML(w, r)
}
