package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"kiln"
	"kiln/catalogue"
	"kiln/internal/factory"
	"kiln/internal/scap"
)

// scapFlags are an audit's flags for other people's content.
type scapFlags struct {
	texts []string
	known *scap.Texts
}

func (s *scapFlags) flags(f *pflag.FlagSet, req *factory.AuditRequest) {
	f.StringVar(&req.ProfileFile, "profile-file", "", "audit a profile of your own, from this `file`, instead of --profile")
	f.StringVar(&req.Tailoring, "tailoring", "", "change the profile by this XCCDF tailoring `file`")
	f.StringVar(&req.Opinion.Content, "scap-content", "", "let the program oscap evaluate this data stream `file` on a copy of the target, and compare rule by rule")
	f.StringVar(&req.Opinion.Profile, "scap-profile", "", "`profile` of that content: its id, or the id's last part")
	f.StringArrayVar(&req.Opinion.Results, "scap-results", nil, "compare with the XCCDF results or ARF report in this `file` (repeatable)")
	f.StringArrayVar(&s.texts, "texts", nil, "show a benchmark's own titles from your copy: an XCCDF `file`, or BENCHMARK=FILE with columns id and title (repeatable)")
}

// read takes the user's texts: they are shown, and stored nowhere.
func (s *scapFlags) read() error {
	cat, err := catalogue.Load()
	if err != nil || len(s.texts) == 0 {
		return err
	}
	s.known = &scap.Texts{}
	for _, given := range s.texts {
		key, file, both := strings.Cut(given, "=")
		if !both {
			key, file = "", given
		}
		name := ""
		if key != "" {
			b, err := cat.Benchmark(key)
			if err != nil {
				return kiln.Misuse(fmt.Errorf("--texts: %w", err))
			}
			name = b.Name
		}
		if err := s.known.ReadFile(name, file); err != nil {
			return kiln.Misuse(fmt.Errorf("--texts: %w", err))
		}
	}
	return nil
}

// opinion shows how another program's results compare: each disagreement, and sums.
func (t *auditTable) opinion(c kiln.Comparison) {
	t.printf("\ncompared with %s", flat(c.By, maxCell))
	if c.Profile != "" {
		t.printf(", %s", flat(scap.Short(c.Profile), maxCell))
	}
	t.printf(": %d agree, %d disagree, %d undecided, %d only theirs, %d objectives only ours\n",
		c.Count(kiln.Agree), c.Count(kiln.Disagree), c.Count(kiln.Undecided), c.Count(kiln.OnlyThem), c.Count(kiln.OnlyUs))
	t.line("note", c.Bound)
	for _, r := range c.Rules {
		if r.Relation != kiln.Disagree && !(t.all && r.Relation == kiln.Undecided) || t.quiet {
			continue
		}
		t.printf("  %s  %s: they say %s, Kiln %s\n", t.paint("33", r.Relation), t.paint("1", flat(r.Rule, maxCell)), r.Theirs, r.Ours)
		t.line("since", r.Reason)
	}
}
