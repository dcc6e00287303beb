package main

import (
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"kiln"
	"kiln/internal/assess"
)

// auditorFlags say what auditors' tools need to know and no tree says.
type auditorFlags struct {
	asset, stigFile string
	derived         bool
	stig            *assess.STIG
}

func (b *auditorFlags) flags(f *pflag.FlagSet) {
	f.StringVar(&b.asset, "asset", "", "`name` by which asset management knows the target, for auditors' tools (default the target as given)")
	f.StringVar(&b.stigFile, "stig", "", "DISA's own document of the platform's STIG, the `file` named *Manual-xccdf.xml: its rule ids and texts go into ckl, cklb and xccdf-stig")
	f.BoolVar(&b.derived, "derived", false, "write ckl, cklb and xccdf-stig also for a platform without a STIG, marked as derived and not DISA's")
}

// read reads DISA's document before anything is looked at.
func (b *auditorFlags) read() error {
	if b.stigFile == "" {
		return nil
	}
	file, err := os.Open(b.stigFile)
	if err != nil {
		return kiln.Misuse(fmt.Errorf("--stig: %w", err))
	}
	defer file.Close()
	if b.stig, err = assess.ReadSTIG(file); err != nil {
		return kiln.Misuse(fmt.Errorf("--stig %s: %w", b.stigFile, err))
	}
	return nil
}

func (b *auditorFlags) apply(found *assess.Assessment) {
	found.Host, found.STIG, found.Derived = b.asset, b.stig, b.derived
}
