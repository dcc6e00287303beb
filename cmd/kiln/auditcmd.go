package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"kiln"
	"kiln/internal/assess"
	"kiln/internal/atomicfile"
	"kiln/internal/factory"
)

const longAudit = `Audit says of an image, a tree of files, a disk or the running system which
objectives hold. It changes nothing.

TARGET is
  host                       the running system: its local file systems, and what is in effect
  DIRECTORY                  a root file system
  DIRECTORY[:NAME|@DIGEST]   an OCI layout
  FILE                       an image archive (docker or OCI), or a disk image (raw or qcow2)
  registry.example.com/X:1   an image in a registry
  NAME[@CHANNEL]             an image in the local store, also a build's id or a digest
  podman:NAME, docker:NAME   an image in the local store of podman or docker
What a name means can be said: registry:, kiln:, oci:, archive:, dir:, disk:.

What could not be looked at is unknown, never met. Exit status: 0 done, 1
broken, 2 misuse, 3 below --fail-under.`

type auditFlags struct {
	req              factory.AuditRequest
	waivers, compare string
	failUnder        string
	out              []string
	verbose          bool
	threshold        float64
	earlier          *kiln.HardeningResult
	outputs          []output
	scap             scapFlags
	auditor          auditorFlags
}

func newAudit(a *app) *cobra.Command {
	var b auditFlags
	cmd := &cobra.Command{
		Use: "audit TARGET", Short: "say which hardening objectives an image, a tree, a disk or this host meets", Long: longAudit,
		Example: "  kiln audit registry.example.com/app:1.2\n  kiln audit host --profile cis-l2 --profile stig-cat1 --fail-under 90\n" +
			"  kiln audit /srv/tree --profile all --json > now.json\n  kiln audit nginx@stable --compare earlier.json --out audit/",
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b.req.Target = args[0]
			return a.audit(cmd, &b)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&b.req.Profiles, "profile", nil, "`profile` to audit, several by commas (repeatable), or all objectives: all (default container-baseline, of machines cis-l1)")
	f.StringVar(&b.req.Scope, "scope", "", "judge it as a `container|machine` (default: what the profiles are for, or what it looks like)")
	f.StringVar(&b.waivers, "waivers", "", "`file` with exceptions: a recipe, or a list under waivers:")
	f.StringVar(&b.compare, "compare", "", "earlier audit's `file` (--json): say what got better and worse")
	f.StringVar(&b.failUnder, "fail-under", "", "exit with 3 when fewer `percent` of the objectives that apply are met")
	f.StringArrayVarP(&b.out, "out", "o", nil, "also write every format into this `directory`, or one: FORMAT=FILE (repeatable)")
	f.StringVar(&b.req.Platform, "platform", "", "of an image with several: `os/arch` (default this machine's)")
	f.BoolVar(&b.req.PlainHTTP, "plain-http", false, "speak http to a registry without TLS; loopback ones may always")
	f.BoolVar(&b.req.AtRest, "at-rest", false, "run none of the target's programs: judge files only")
	b.auditor.flags(f)
	b.scap.flags(f, &b.req)
	f.BoolVar(&b.verbose, "verbose", false, "show what is met and what does not apply, too")
	return cmd
}

// lateHeap is where an audit begins to collect garbage, in bytes; one of a machine's tree seldom gets there.
const lateHeap = 64 << 20

func (a *app) audit(cmd *cobra.Command, b *auditFlags) error {
	collectLate(lateHeap)
	if err := b.read(); err != nil {
		return err
	}
	mounts, err := factory.NeedsMounts(b.req.Target)
	if err == nil && (mounts || b.req.ForksTree()) {
		err = a.enter()
	}
	if err != nil {
		return err
	}
	found, err := factory.Audit(cmd.Context(), factory.Config{State: a.state, Passphrase: a.passphrase, Report: a.warningsOnly()}, b.req)
	if err != nil {
		return err
	}
	found.Earlier, found.Version = b.earlier, version
	b.auditor.apply(found)
	if err := writeOutputs(b.outputs, found); err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(found.Result)
	} else {
		err = (&auditTable{found: found, quiet: a.quiet, all: b.verbose, colour: a.colourOn(a.out), texts: b.scap.known}).print(a.out)
	}
	if err != nil {
		return err
	}
	return b.verdict(found.Result)
}

// read checks what the flags name before anything is looked at.
func (b *auditFlags) read() (err error) {
	if b.failUnder != "" {
		if b.threshold, err = strconv.ParseFloat(strings.TrimSuffix(b.failUnder, "%"), 64); err != nil || !(b.threshold >= 0 && b.threshold <= 100) {
			return kiln.Misuse(fmt.Errorf("--fail-under %q: write a number from 0 to 100", b.failUnder))
		}
	}
	if err := checkScope(b.req.Scope); err != nil {
		return err
	}
	if b.waivers != "" {
		if b.req.Waivers, err = factory.ReadWaivers(b.waivers); err != nil {
			return err
		}
	}
	if b.compare != "" {
		if b.earlier, err = factory.ReadHardening(b.compare); err != nil {
			return err
		}
	}
	if err := b.scap.read(); err != nil {
		return err
	}
	if err := b.auditor.read(); err != nil {
		return err
	}
	b.outputs, err = outputs(b.out)
	return err
}

// output is a file to write, in a format.
type output struct{ format, file string }

// outputs reads --out: FORMAT=FILE, or a directory for every format.
func outputs(given []string) ([]output, error) {
	var list []output
	for _, g := range given {
		format, file, one := strings.Cut(g, "=")
		known := slices.ContainsFunc(assess.Formats(), func(f assess.Format) bool { return f.Name == format })
		switch {
		case !one:
			list = append(list, output{"", g})
		case !known:
			return nil, kiln.Misuse(kiln.WithHint(fmt.Errorf("--out %q: no format %q", g, format), "there are "+formatNames()))
		case file == "":
			return nil, kiln.Misuse(fmt.Errorf("--out %q: write FORMAT=FILE, or a directory", g))
		default:
			list = append(list, output{format, file})
		}
	}
	return list, nil
}

func formatNames() string {
	var names []string
	for _, f := range assess.Formats() {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

// writeOutputs leaves the files asked for. Into a directory goes every format that fits the target: a checklist needs a STIG.
func writeOutputs(outputs []output, found *assess.Assessment) error {
	for _, o := range outputs {
		if o.format != "" {
			if err := writeFormat(o.file, o.format, found); err != nil {
				return err
			}
			continue
		}
		for _, f := range assess.Formats() {
			err := writeFormat(filepath.Join(o.file, "audit"+f.Extension), f.Name, found)
			if err != nil && !errors.Is(err, assess.ErrUnfit) {
				return err
			}
		}
	}
	return nil
}

func writeFormat(file, format string, found *assess.Assessment) error {
	var text bytes.Buffer
	if err := assess.Write(&text, format, found); err != nil {
		return err
	}
	if err := atomicfile.Write(file, text.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return nil
}

// verdict compares the share of objectives met with the threshold: waived and unknown ones apply and are not met.
func (b *auditFlags) verdict(h *kiln.HardeningResult) error {
	if b.failUnder == "" {
		return nil
	}
	share, ok := assess.Total(h.Outcomes).Share()
	switch share *= 100; {
	case !ok:
		return kiln.Refuse(fmt.Errorf("no objective of %s applies to %s, so that none could be met", h.Profile, h.Target))
	case share < b.threshold:
		return kiln.Refuse(fmt.Errorf("%s meets %.1f %% of the objectives of %s that apply, less than --fail-under %g", h.Target, share, h.Profile, b.threshold))
	}
	return nil
}
