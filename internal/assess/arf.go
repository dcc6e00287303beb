package assess

import (
	"encoding/xml"
	"io"
	"strings"
)

// ARF 1.1 (NIST IR 7694): an asset, a report about it and what the report answers. The names carry their prefixes, because
// consumers look for the usual ones.
type (
	arfCollection struct {
		XMLName       xml.Name          `xml:"arf:asset-report-collection"`
		ARF           string            `xml:"xmlns:arf,attr"`
		Core          string            `xml:"xmlns:core,attr"`
		AI            string            `xml:"xmlns:ai,attr"`
		Vocabulary    string            `xml:"xmlns:arfvocab,attr"`
		Relationships []arfRelationship `xml:"core:relationships>core:relationship"`
		Request       arfRequest        `xml:"arf:report-requests>arf:report-request"`
		Asset         arfAsset          `xml:"arf:assets>arf:asset"`
		Report        arfReport         `xml:"arf:reports>arf:report"`
	}
	arfRelationship struct {
		Type    string `xml:"type,attr"`
		Subject string `xml:"subject,attr"`
		Ref     string `xml:"core:ref"`
	}
	arfRequest struct {
		ID        string         `xml:"id,attr"`
		Benchmark arfRequestBody `xml:"arf:content"`
	}
	arfRequestBody struct {
		Benchmark arfBenchmark
	}
	// arfBenchmark is the benchmark without its result, which is the report.
	arfBenchmark struct {
		XMLName xml.Name `xml:"Benchmark"`
		xccdfBenchmark
		Result *struct{} `xml:"TestResult"`
	}
	arfAsset struct {
		ID     string    `xml:"id,attr"`
		Device arfDevice `xml:"ai:computing-device"`
	}
	arfDevice struct {
		IDs      []arfSyntheticID `xml:"ai:synthetic-id"`
		CPE      string           `xml:"ai:cpe,omitempty"`
		HostName string           `xml:"ai:hostname,omitempty"`
	}
	arfSyntheticID struct {
		Resource string `xml:"resource,attr"`
		ID       string `xml:"id,attr"`
	}
	arfReport struct {
		ID     string          `xml:"id,attr"`
		Result xccdfTestResult `xml:"arf:content>TestResult"`
	}
)

func writeARF(w io.Writer, v *view) error {
	b := v.xccdfBenchmark()
	result := b.Result
	result.Space = xccdfSpace
	const asset, request, report = "asset", "request", "report"
	return writeXML(w, arfCollection{
		ARF:        "http://scap.nist.gov/schema/asset-reporting-format/1.1",
		Core:       "http://scap.nist.gov/schema/reporting-core/1.1",
		AI:         "http://scap.nist.gov/schema/asset-identification/1.1",
		Vocabulary: "http://scap.nist.gov/specifications/arf/vocabulary/relationships/1.0#",
		Relationships: []arfRelationship{
			{"arfvocab:isAbout", report, asset},
			{"arfvocab:createdFor", report, request},
		},
		Request: arfRequest{ID: request, Benchmark: arfRequestBody{arfBenchmark{xccdfBenchmark: b}}},
		Asset:   arfAsset{ID: asset, Device: v.arfDevice()},
		Report:  arfReport{ID: report, Result: result},
	})
}

func (v *view) arfDevice() arfDevice {
	d := arfDevice{IDs: []arfSyntheticID{{"urn:kiln:target", clipAt(v.target, maxTarget)}}, CPE: platformCPE(v.Platform)}
	if v.result.Image != "" {
		d.IDs = append(d.IDs, arfSyntheticID{"urn:oci:digest", string(v.result.Image)})
	}
	if hostName(v.host) {
		d.HostName = v.host
	}
	return d
}

// platformCPE is the operating system's CPE 2.2 URI; empty where it is not one that has a known one.
func platformCPE(platform string) string {
	distro, version, _ := strings.Cut(platform, "-")
	if strings.Trim(version, "0123456789.") != "" || version == "" {
		return ""
	}
	switch distro {
	case "debian":
		return "cpe:/o:debian:debian_linux:" + version
	case "ubuntu":
		return "cpe:/o:canonical:ubuntu_linux:" + version
	}
	return ""
}

// hostName reports whether s has the form of a host's name (RFC 1123).
func hostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.ToLower(s), ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}
