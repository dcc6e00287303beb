package assess

import (
	"encoding/xml"
	"io"

	"kiln"
)

// CKL, the checklist of STIG Viewer 2: the order of elements is that of its schema, version 2.5.
type (
	ckl struct {
		XMLName xml.Name `xml:"CHECKLIST"`
		Asset   cklAsset `xml:"ASSET"`
		STIG    cklSTIG  `xml:"STIGS>iSTIG"`
	}
	cklAsset struct {
		Role          string `xml:"ROLE"`
		AssetType     string `xml:"ASSET_TYPE"`
		HostName      string `xml:"HOST_NAME"`
		HostIP        string `xml:"HOST_IP"`
		HostMAC       string `xml:"HOST_MAC"`
		HostFQDN      string `xml:"HOST_FQDN"`
		Comment       string `xml:"TARGET_COMMENT"`
		TechArea      string `xml:"TECH_AREA"`
		TargetKey     string `xml:"TARGET_KEY"`
		WebOrDatabase bool   `xml:"WEB_OR_DATABASE"`
		WebDBSite     string `xml:"WEB_DB_SITE"`
		WebDBInstance string `xml:"WEB_DB_INSTANCE"`
	}
	cklSTIG struct {
		Info  []cklInfo `xml:"STIG_INFO>SI_DATA"`
		Vulns []cklVuln `xml:"VULN"`
	}
	cklInfo struct {
		Name string `xml:"SID_NAME"`
		Data string `xml:"SID_DATA,omitempty"`
	}
	cklVuln struct {
		Data                  []cklData `xml:"STIG_DATA"`
		Status                string    `xml:"STATUS"`
		FindingDetails        string    `xml:"FINDING_DETAILS"`
		Comments              string    `xml:"COMMENTS"`
		SeverityOverride      string    `xml:"SEVERITY_OVERRIDE"`
		SeverityJustification string    `xml:"SEVERITY_JUSTIFICATION"`
	}
	cklData struct {
		Attribute string `xml:"VULN_ATTRIBUTE"`
		Data      string `xml:"ATTRIBUTE_DATA"`
	}
)

func writeCKL(w io.Writer, v *view) error {
	c, err := v.checklist()
	if err != nil {
		return err
	}
	doc := ckl{
		Asset: cklAsset{
			Role: "None", AssetType: "Computing", HostName: clipAt(v.host, maxTarget), Comment: v.targetComment(c), TechArea: "UNIX OS",
			TargetKey: c.targetKey(),
		},
		STIG: cklSTIG{Info: v.cklInfo(c)},
	}
	if hostName(v.host) {
		doc.Asset.HostFQDN = v.host
	}
	for _, i := range c.items {
		doc.STIG.Vulns = append(doc.STIG.Vulns, cklVuln{
			Data: v.cklData(c, i), Status: cklStatus(i.state), FindingDetails: i.details(), Comments: i.comments(v),
		})
	}
	return writeXML(w, doc)
}

// targetKey is DISA's number of the product.
func (c *checklist) targetKey() string {
	for _, r := range c.Rules {
		if r.Reference != "" {
			return r.Reference
		}
	}
	return ""
}

func (v *view) cklInfo(c *checklist) []cklInfo {
	return []cklInfo{
		{"version", c.Version},
		{"classification", "UNCLASSIFIED"},
		{"customname", ""},
		{"stigid", c.ID},
		{"description", c.Description},
		{"filename", ""},
		{"releaseinfo", c.ReleaseInfo},
		{"title", c.Title},
		{"uuid", v.id("stig", c.ID)},
		{"notice", ""},
		{"source", "Kiln " + v.Version},
	}
}

// cklStatus maps a state to a status: what nobody looked at or could judge is not reviewed, and an exception stays open.
func cklStatus(state string) string {
	switch state {
	case kiln.Satisfied:
		return "NotAFinding"
	case kiln.NotSatisfied, kiln.Waived:
		return "Open"
	case kiln.NotApplicable:
		return "Not_Applicable"
	}
	return "Not_Reviewed"
}

// cklData lists a rule's attributes in the order of STIG Viewer.
func (v *view) cklData(c *checklist, i checklistItem) []cklData {
	out := []cklData{
		{"Vuln_Num", i.Group},
		{"Severity", stigSeverity(i.Severity)},
		{"Group_Title", i.GroupTitle},
		{"Rule_ID", i.ruleID() + "_rule"},
		{"Rule_Ver", i.Version},
		{"Rule_Title", i.Title},
		{"Vuln_Discuss", i.discussion()},
		{"IA_Controls", ""},
		{"Check_Content", i.Check},
		{"Fix_Text", i.Fix},
		{"False_Positives", ""},
		{"False_Negatives", ""},
		{"Documentable", "false"},
		{"Mitigations", ""},
		{"Potential_Impact", ""},
		{"Third_Party_Tools", ""},
		{"Mitigation_Control", ""},
		{"Responsibility", ""},
		{"Security_Override_Guidance", ""},
		{"Check_Content_Ref", orElse(i.CheckName, "M")},
		{"Weight", orElse(i.Weight, "10.0")},
		{"Class", "Unclass"},
		{"STIGRef", c.Title + " :: Version " + c.Version + ", " + c.ReleaseInfo},
		{"TargetKey", i.Reference},
		{"STIG_UUID", v.id("stig", c.ID)},
	}
	for _, id := range i.Legacy {
		out = append(out, cklData{"LEGACY_ID", id})
	}
	for _, id := range i.CCIs {
		out = append(out, cklData{"CCI_REF", id})
	}
	return out
}

func stigSeverity(s string) string {
	if s == "high" || s == "low" {
		return s
	}
	return "medium"
}
