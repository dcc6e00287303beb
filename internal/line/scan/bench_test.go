package scan_test

import (
	"os"
	"testing"

	"kiln"
	"kiln/internal/line/scan"
)

// BenchmarkTree scans the root file system that KILN_TREE names.
func BenchmarkTree(b *testing.B) {
	dir := os.Getenv("KILN_TREE")
	if dir == "" {
		b.Skip("KILN_TREE names no root file system to scan")
	}
	var bill *kiln.Bill
	for b.Loop() {
		var err error
		if bill, err = scan.Tree(b.Context(), dir, scan.Input{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(bill.Files), "files")
	b.ReportMetric(float64(len(bill.Components)), "components")
	if out := os.Getenv("KILN_TREE_BILL"); out != "" {
		text, err := kiln.Encode(bill)
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(out, text, 0o644); err != nil {
			b.Fatal(err)
		}
	}
}
