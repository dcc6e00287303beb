package harden

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
)

// bundleOfCAs: the certificate authorities that programs trust are those of the distribution.
type bundleOfCAs struct {
	// Bundles are files of many certificates that libraries read.
	Bundles []string `json:"bundles"`
	// Known are directories with the certificates that the distribution's package brings, one a file.
	Known []string `json:"known"`
}

func (p bundleOfCAs) check() error {
	return checkGlobs(append(slices.Clone(p.Bundles), p.Known...))
}

// maxCertificates bounds a bundle; real ones have some 150.
const maxCertificates = 10_000

// certificates are the certificates of a PEM file, in its order.
func certificates(data []byte) ([][]byte, error) {
	var out [][]byte
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return out, nil
		}
		if block.Type == "CERTIFICATE" || block.Type == "TRUSTED CERTIFICATE" {
			out = append(out, block.Bytes)
		}
		if data = rest; len(out) > maxCertificates {
			return nil, fmt.Errorf("more than %d certificates", maxCertificates)
		}
	}
}

// known are the certificates that packages, or the recipe itself, brought.
func (p bundleOfCAs) known(s *Subject) (map[string]bool, error) {
	out := map[string]bool{}
	dirs := append(slices.Clone(p.Known), "/usr/local/share/ca-certificates")
	for _, dir := range dirs {
		real, ok := s.resolve(dir)
		if !ok {
			continue
		}
		for _, q := range slices.Clone(s.below(real)) {
			if !s.isFile(q) || !s.packages().owns(q) && !s.fromRecipe(q) {
				continue
			}
			data, err := s.read(q)
			if err != nil {
				return nil, err
			}
			list, err := certificates(data)
			if err != nil {
				return nil, fmt.Errorf("reading /%s: %w", q, err)
			}
			for _, der := range list {
				out[string(der)] = true
			}
		}
	}
	return out, nil
}

func bundleState(s *Subject, p bundleOfCAs) (Observation, error) {
	if err := s.packages().broken; err != nil {
		return unknown(err.Error()), nil
	}
	bundles := slices.DeleteFunc(s.glob(p.Bundles), func(q string) bool { return !s.isFile(q) })
	if len(bundles) == 0 {
		return absent("the image has no bundle of certificate authorities"), nil
	}
	known, err := p.known(s)
	if err != nil {
		return unknown(err.Error()), nil
	}
	if len(known) == 0 {
		return unknown("no package keeps the certificates of /" + bundles[0] + " one by one, to compare it with"), nil
	}
	var added []string
	count := 0
	for _, q := range bundles {
		data, err := s.read(q)
		if err != nil {
			return unknown(err.Error()), nil
		}
		list, err := certificates(data)
		if err != nil {
			return unknown(fmt.Sprintf("reading /%s: %v", q, err)), nil
		}
		if len(list) == 0 && len(bytes.TrimSpace(data)) > 0 {
			return unknown("/" + q + " holds no certificate that can be read"), nil
		}
		count += len(list)
		for _, der := range list {
			if !known[string(der)] {
				added = append(added, authority(der)+" in /"+q)
			}
		}
	}
	if len(added) > 0 {
		slices.Sort(added)
		return blocked(list(slices.Compact(added)), "no package and no file of the recipe brings it: remove it from the bundle, or put it below /usr/local/share/ca-certificates under files"), nil
	}
	return good(fmt.Sprintf("%d certificates, all of the package", count)), nil
}

// authority names whose a certificate is, for people.
func authority(der []byte) string {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return "a certificate that cannot be read"
	}
	name := c.Subject.String()
	return strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, name[:min(len(name), 120)]), "?")
}
