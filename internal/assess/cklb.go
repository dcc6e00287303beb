package assess

import (
	"io"
	"strings"

	"kiln"
)

// CKLB, the checklist of STIG Viewer 3: JSON with its keys in the order that the viewer writes.
type (
	cklb struct {
		Title       string     `json:"title"`
		ID          string     `json:"id"`
		STIGs       []cklbSTIG `json:"stigs"`
		Active      bool       `json:"active"`
		Mode        int        `json:"mode"`
		HasPath     bool       `json:"has_path"`
		TargetData  cklbTarget `json:"target_data"`
		CKLBVersion string     `json:"cklb_version"`
	}
	cklbTarget struct {
		TargetType     string  `json:"target_type"`
		HostName       string  `json:"host_name"`
		IPAddress      string  `json:"ip_address"`
		MACAddress     string  `json:"mac_address"`
		FQDN           string  `json:"fqdn"`
		Comments       string  `json:"comments"`
		Role           string  `json:"role"`
		IsWebDatabase  bool    `json:"is_web_database"`
		TechnologyArea string  `json:"technology_area"`
		WebDBSite      string  `json:"web_db_site"`
		WebDBInstance  string  `json:"web_db_instance"`
		Classification *string `json:"classification"`
	}
	cklbSTIG struct {
		STIGName            string     `json:"stig_name"`
		DisplayName         string     `json:"display_name"`
		STIGID              string     `json:"stig_id"`
		ReleaseInfo         string     `json:"release_info"`
		Version             string     `json:"version"`
		UUID                string     `json:"uuid"`
		ReferenceIdentifier string     `json:"reference_identifier"`
		Size                int        `json:"size"`
		Rules               []cklbRule `json:"rules"`
	}
	cklbRule struct {
		GroupIDSrc               string         `json:"group_id_src"`
		GroupTree                []cklbGroup    `json:"group_tree"`
		GroupID                  string         `json:"group_id"`
		Severity                 string         `json:"severity"`
		GroupTitle               string         `json:"group_title"`
		RuleIDSrc                string         `json:"rule_id_src"`
		RuleID                   string         `json:"rule_id"`
		RuleVersion              string         `json:"rule_version"`
		RuleTitle                string         `json:"rule_title"`
		FixText                  string         `json:"fix_text"`
		Weight                   string         `json:"weight"`
		CheckContent             string         `json:"check_content"`
		CheckContentRef          cklbCheckRef   `json:"check_content_ref"`
		Classification           string         `json:"classification"`
		Discussion               string         `json:"discussion"`
		FalsePositives           string         `json:"false_positives"`
		FalseNegatives           string         `json:"false_negatives"`
		Documentable             string         `json:"documentable"`
		SecurityOverrideGuidance string         `json:"security_override_guidance"`
		PotentialImpacts         string         `json:"potential_impacts"`
		ThirdPartyTools          string         `json:"third_party_tools"`
		IAControls               string         `json:"ia_controls"`
		Responsibility           string         `json:"responsibility"`
		Mitigations              string         `json:"mitigations"`
		MitigationControl        string         `json:"mitigation_control"`
		LegacyIDs                []string       `json:"legacy_ids"`
		CCIs                     []string       `json:"ccis"`
		ReferenceIdentifier      string         `json:"reference_identifier"`
		UUID                     string         `json:"uuid"`
		STIGUUID                 string         `json:"stig_uuid"`
		Status                   string         `json:"status"`
		Overrides                map[string]any `json:"overrides"`
		Comments                 string         `json:"comments"`
		FindingDetails           string         `json:"finding_details"`
		SRGID                    string         `json:"srg_id"`
	}
	cklbGroup struct {
		ID          string `json:"id"`
		Title       string `json:"title"`
		Description string `json:"description"`
	}
	cklbCheckRef struct {
		HRef string `json:"href"`
		Name string `json:"name"`
	}
)

func writeCKLB(w io.Writer, v *view) error {
	c, err := v.checklist()
	if err != nil {
		return err
	}
	stig := cklbSTIG{
		STIGName: c.Title, DisplayName: displayName(c), STIGID: c.ID, ReleaseInfo: c.ReleaseInfo, Version: c.Version,
		UUID: v.id("stig", c.ID), ReferenceIdentifier: c.targetKey(), Size: len(c.items), Rules: []cklbRule{},
	}
	for _, i := range c.items {
		stig.Rules = append(stig.Rules, v.cklbRule(c, i))
	}
	doc := cklb{
		Title: clipAt(v.host, maxTarget) + " " + c.ID, ID: v.id("cklb"), STIGs: []cklbSTIG{stig}, Active: true, Mode: 2, CKLBVersion: "1.0",
		TargetData: cklbTarget{
			TargetType: "Computing", HostName: clipAt(v.host, maxTarget), Comments: v.targetComment(c), Role: "None", TechnologyArea: "UNIX OS",
		},
	}
	if hostName(v.host) {
		doc.TargetData.FQDN = v.host
	}
	return writeIndented(w, doc)
}

func displayName(c *checklist) string {
	return strings.TrimSuffix(c.Title, " Security Technical Implementation Guide")
}

func (v *view) cklbRule(c *checklist, i checklistItem) cklbRule {
	return cklbRule{
		GroupIDSrc: i.Group, GroupTree: []cklbGroup{{i.Group, i.GroupTitle, "<GroupDescription></GroupDescription>"}},
		GroupID: i.Group, Severity: stigSeverity(i.Severity), GroupTitle: i.GroupTitle, RuleIDSrc: i.ruleID() + "_rule", RuleID: i.ruleID(),
		RuleVersion: i.Version, RuleTitle: i.Title, FixText: i.Fix, Weight: orElse(i.Weight, "10.0"), CheckContent: i.Check,
		CheckContentRef: cklbCheckRef{i.CheckHRef, orElse(i.CheckName, "M")}, Classification: "Unclassified", Discussion: i.discussion(),
		Documentable: "false", LegacyIDs: orEmpty(i.Legacy), CCIs: orEmpty(i.CCIs), ReferenceIdentifier: i.Reference,
		UUID: v.id("rule", i.Version), STIGUUID: v.id("stig", c.ID), Status: cklbStatus(i.state), Overrides: map[string]any{},
		Comments: i.comments(v), FindingDetails: i.details(), SRGID: i.srg(),
	}
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// discussion is the text of a rule out of the description, in which DISA writes elements as text.
func (i checklistItem) discussion() string {
	if _, rest, ok := strings.Cut(i.Discussion, "<VulnDiscussion>"); ok {
		text, _, _ := strings.Cut(rest, "</VulnDiscussion>")
		return text
	}
	if i.Discussion != "" || len(i.outcomes) == 0 {
		return i.Discussion
	}
	return orElse(i.outcomes[0].control.Rationale, i.outcomes[0].Title)
}

// cklbStatus is as cklStatus, in the words of STIG Viewer 3.
func cklbStatus(state string) string {
	switch state {
	case kiln.Satisfied:
		return "not_a_finding"
	case kiln.NotSatisfied, kiln.Waived:
		return "open"
	case kiln.NotApplicable:
		return "not_applicable"
	}
	return "not_reviewed"
}

// srg is the requirement that the rule stems from, where it is known.
func (i checklistItem) srg() string {
	if strings.HasPrefix(i.GroupTitle, "SRG-") {
		return i.GroupTitle
	}
	return ""
}
