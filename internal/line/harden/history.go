package harden

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// historyParams is a rule about the commands that made an image's layers.
type historyParams struct {
	// Match is an expression for commands that offend, Unless one for those that do not although they match.
	Match  string `json:"match"`
	Unless string `json:"unless"`
	// First says that the first command, which brings the root file system, may match.
	First  bool   `json:"first"`
	Remedy string `json:"remedy"`
}

func (p historyParams) check() error {
	if p.Match == "" || p.Remedy == "" {
		return errors.New("match and remedy: say what offends and what to do")
	}
	_, err := regexp.Compile(p.Match)
	if err == nil {
		_, err = regexp.Compile(p.Unless)
	}
	return err
}

// ownHistory is what Kiln's images have as their commands: they are made of a tree, by none.
func ownHistory(steps []string) bool {
	return !slices.ContainsFunc(steps, func(step string) bool { return step != "kiln" })
}

func historyState(s *Subject, p historyParams) (Observation, error) {
	steps := s.config.History
	switch {
	case s.sight != nil && len(steps) == 0:
		return unknown("the image does not record the commands that made it"), nil
	case ownHistory(steps):
		return absent("the image is made of a tree, not by commands"), nil
	}
	match, unless := regexp.MustCompile(p.Match), regexp.MustCompile(p.Unless)
	var off []string
	for i, step := range steps {
		step = step[:min(len(step), maxStep)]
		if p.First && i == 0 || !match.MatchString(step) || p.Unless != "" && unless.MatchString(step) {
			continue
		}
		off = append(off, fmt.Sprintf("step %d", i+1)) // the command may hold a secret and is not repeated
	}
	if len(off) > 0 {
		return blocked(list(off), p.Remedy), nil
	}
	return good(fmt.Sprintf("%d steps", len(steps))), nil
}

// maxStep bounds the text of one command.
const maxStep = 256 << 10

// baseParams: Rule "digest" wants the base image to be named by digest, "tag" that its tag is a version and not latest.
type baseParams struct {
	Rule string `json:"rule"`
}

func (p baseParams) check() error {
	if p.Rule != "digest" && p.Rule != "tag" {
		return errors.New("rule is digest or tag")
	}
	return nil
}

const (
	baseName   = "org.opencontainers.image.base.name"
	baseDigest = "org.opencontainers.image.base.digest"
)

// imageBaseState judges what an image says of the image it was made from.
func imageBaseState(s *Subject, p baseParams) (Observation, error) {
	name, digest := s.config.Labels[baseName], s.config.Labels[baseDigest]
	if l := s.lock; l != nil && l.Image != nil {
		name, digest = l.Image.Reference, string(l.Image.Digest)
	} else if l != nil {
		return absent("it is made of packages, not from another image"), nil
	}
	if name == "" && digest == "" {
		if ownHistory(s.config.History) && len(s.config.History) > 0 {
			return absent("it is made of packages, not from another image"), nil
		}
		return unknown("the image does not say what it was made from: it has no label " + baseName), nil
	}
	if name == "scratch" {
		return absent("it is made from nothing"), nil
	}
	if p.Rule == "digest" {
		if digest == "" && !strings.Contains(name, "@sha256:") {
			return blocked(name, "the base image is named by a tag that moves: name it by digest, and record it in the label "+baseDigest), nil
		}
		return good(strings.TrimSpace(name + " " + digest)), nil
	}
	return tagState(name), nil
}

func tagState(name string) Observation {
	if name == "" {
		return good("named by digest alone")
	}
	plain, _, _ := strings.Cut(name, "@")
	last := plain[strings.LastIndexByte(plain, '/')+1:]
	_, tag, tagged := strings.Cut(last, ":")
	switch {
	case tag == "latest", !tagged && plain == name && !strings.Contains(name, ":/"):
		return blocked(name, "the base image's tag is latest, which is something else tomorrow: take a version's")
	}
	return good(name)
}
