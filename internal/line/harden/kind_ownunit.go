package harden

import (
	"errors"
	"path"
	"strings"
)

// ownUnitParams: a systemd unit that the distribution does not have is written and enabled.
type ownUnitParams struct {
	// Name with the type, such as sysctl-reapply-network.service.
	Name string `json:"name"`
	// Content is the whole unit; its [Install] section says what starts it.
	Content string `json:"content"`
	// Needs is the program that the unit starts.
	Needs string `json:"needs"`
	// Package is what Needs comes in; it is named where that is missing.
	Package string `json:"package"`
}

func (p ownUnitParams) check() error {
	if err := (unitParams{Names: []string{p.Name}}).check(); err != nil {
		return err
	}
	if !strings.Contains(p.Content, "[Install]\nWantedBy=") || !strings.HasSuffix(p.Content, "\n") {
		return errors.New("content is a unit that ends with an [Install] section")
	}
	if (p.Needs == "") != (p.Package == "") {
		return errors.New("needs and package go together")
	}
	return nil
}

func (p ownUnitParams) path() string { return "/" + unitConfig + "/" + p.Name }

func ownUnitState(s *Subject, p ownUnitParams) (Observation, error) {
	if !s.hasInit("systemd") {
		return absent("no systemd is in the image"), nil
	}
	if err := s.editable(p.path()); err != nil {
		return refused(err)
	}
	if s.lookup(p.path()) == nil {
		if p.Needs != "" && s.lookup(p.Needs) == nil {
			return blocked(p.Name+" is not there", p.Needs+" is missing: add the package "+p.Package+" to the recipe"), nil
		}
		return bad(p.Name + " is not there"), nil
	}
	if _, err := s.text(p.path()); err != nil {
		return refused(err)
	}
	return enabledState(s, unitParams{Names: []string{p.Name}}) // one of the site's own by this name is as good
}

func ownUnitApply(s *Subject, p ownUnitParams) error {
	if s.lookup(p.path()) == nil {
		if err := s.mkdirs(path.Dir(clean(p.path()))); err != nil {
			return err
		}
		if err := s.write(p.path(), []byte(p.Content), 0o644); err != nil {
			return err
		}
	}
	return enabledApply(s, unitParams{Names: []string{p.Name}})
}
