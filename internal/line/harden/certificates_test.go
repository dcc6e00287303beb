package harden

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"kiln"
)

// authorityPEM makes a certificate of an authority with that name.
func authorityPEM(t testing.TB, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestOnlyAuthoritiesOfThePackageAreTrusted(t *testing.T) {
	one, two, own := authorityPEM(t, "One"), authorityPEM(t, "Two"), authorityPEM(t, "Somebody's own")
	shipped := pack("ca-certificates", "", f("usr/share/ca-certificates/mozilla/One.crt", "0644", one), f("usr/share/ca-certificates/mozilla/Two.crt", "0644", two))
	const bundle = "etc/ssl/certs/ca-certificates.crt"
	for _, c := range []struct {
		name, state, seen string
		nodes             []node
	}{
		{"all shipped", kiln.Satisfied, "2 certificates", append(shipped, f(bundle, "0644", one+two))},
		{"one added", kiln.NotSatisfied, "CN=Somebody's own in /" + bundle, append(shipped, f(bundle, "0644", one+own+two))},
		{"one added below /usr/local", kiln.NotSatisfied, "CN=Somebody's own in /" + bundle, append(shipped, f(bundle, "0644", one+own), f("usr/local/share/ca-certificates/own.crt", "0644", own))},
		{"added where the package's are", kiln.NotSatisfied, "CN=Somebody's own", append(shipped, f(bundle, "0644", one+own), f("usr/share/ca-certificates/mozilla/own.crt", "0644", own))},
		{"none", kiln.NotApplicable, "", nil},
		{"no package", kiln.Unknown, "", []node{f(bundle, "0644", one)}},
		{"rubbish", kiln.Unknown, "", append(shipped, f(bundle, "0644", "rubbish"))},
		{"a damaged certificate", kiln.NotSatisfied, "cannot be read", append(shipped, f(bundle, "0644", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))},
	} {
		o := outcomes(t, plant(t, debianWith(c.nodes...)...), Input{Config: &kiln.ImageConfig{}}, "certificates-known")["certificates-known"]
		if o.State != c.state || !strings.Contains(o.Observed, c.seen) {
			t.Errorf("%s: %s %q (%s), want %s with %q", c.name, o.State, o.Observed, o.Reason, c.state, c.seen)
		}
	}
}

// TestTheRecipesOwnAuthorityIsKnown: what the recipe puts below /usr/local/share/ca-certificates is no surprise.
func TestTheRecipesOwnAuthorityIsKnown(t *testing.T) {
	needRoot(t)
	one, own := authorityPEM(t, "One"), authorityPEM(t, "Own")
	nodes := append(pack("ca-certificates", "", f("usr/share/ca-certificates/mozilla/One.crt", "0644", one)),
		f("etc/ssl/certs/ca-certificates.crt", "0644", one+own), f("usr/local/share/ca-certificates/own.crt", "0644", own))
	recipe := &kiln.Recipe{Name: "app", Files: []kiln.FileSpec{{Path: "/usr/local/share/ca-certificates/own.crt", Content: &own}}}
	o := outcomes(t, plant(t, debianWith(nodes...)...), Input{Recipe: recipe}, "certificates-known")["certificates-known"]
	if o.State != kiln.Satisfied {
		t.Errorf("%s %s %s", o.State, o.Observed, o.Reason)
	}
}
