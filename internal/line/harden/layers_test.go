package harden

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln"
	"kiln/catalogue"
)

// packed makes a layer of nodes: a mode of "" is a whiteout or an opaque mark by its name alone.
func packed(t testing.TB, nodes ...node) Layer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, n := range nodes {
		h := &tar.Header{Name: n.path, Mode: 0o644, Size: int64(len(n.content)), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		if n.mode != "" {
			h.Mode = int64(mustOctal(n.mode))
		}
		switch {
		case strings.HasSuffix(n.path, "/"):
			h.Typeflag = tar.TypeDir
		case n.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, n.link
		}
		must(t, w.WriteHeader(h))
		_, err := w.Write([]byte(n.content))
		must(t, err)
	}
	must(t, w.Close())
	return Layer{Digest: kiln.DigestBytes(buf.Bytes()), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }}
}

// rsaKey is a private key by its form; the letters are no key's.
var rsaKey = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEowIBAAKCAQEAvXyz0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJ\n-----END RSA " + "PRIVATE KEY-----\n"

func gone(path string) node { return node{path: path} }

// history is an image whose layers were made by these commands.
func history(steps ...string) Input {
	return Input{Config: &kiln.ImageConfig{History: append([]string{"/bin/sh -c #(nop) ADD file:0123456789abcdef in / "}, steps...)}}
}

func based(labels ...string) Input {
	in := history()
	in.Config.Labels = map[string]string{}
	for i := 0; i < len(labels); i += 2 {
		in.Config.Labels[labels[i]] = labels[i+1]
	}
	return in
}

// ofImages are the objectives that are about images as they are found: each with inputs that offend and some that do not.
func ofImages(t testing.TB) map[string]struct{ bad, good []Input } {
	layers := func(l ...Layer) Input { return Input{Config: &kiln.ImageConfig{}, Layers: l} }
	return map[string]struct{ bad, good []Input }{
		"layers-no-secrets": {
			bad: []Input{
				layers(packed(t, f("root/.ssh/id_rsa", "0600", rsaKey)), packed(t, gone("root/.ssh/.wh.id_rsa"))),
				layers(packed(t, f("srv/app/key.pem", "0600", rsaKey)), packed(t, gone("srv/app/.wh..wh..opq"), f("srv/app/x", "0644", "x"))),
				layers(packed(t, f("srv/key", "0600", rsaKey)), packed(t, f("srv/key", "0600", ""))),
				layers(packed(t, f("root/.npmrc", "0600", "//registry.example.com/:_authToken=abcdefgh-0123\n"))),
				layers(packed(t, f("usr/lib/app/key.pem", "0644", rsaKey))), // below /usr, but of no package
			},
			good: []Input{
				layers(packed(t, f("etc/ssl/cert.pem", "0644", "-----BEGIN CERTIFICATE-----\n")), packed(t, f("usr/bin/openssl", "0755", "\x7fELF\x00-----BEGIN RSA PRIVATE KEY-----\x00"))),
				layers(packed(t, f("usr/bin/app", "0755", rsaKey))), // the package's own: everybody has it
			},
		},
		"layers-no-hidden-setid": {
			bad: []Input{
				layers(packed(t, f("usr/bin/su", "4755", "su")), packed(t, gone("usr/bin/.wh.su"))),
				layers(packed(t, f("usr/bin/su", "4755", "su")), packed(t, f("usr/bin/su", "0755", "su"))),
				layers(packed(t, f("opt/x/bin/su", "2755", "su")), packed(t, gone("opt/.wh.x"))),
				layers(packed(t, f("opt/x/bin/su", "2755", "su")), packed(t, l("opt/x", "/tmp"))),
			},
			good: []Input{layers(packed(t, f("usr/bin/su", "4755", "su")), packed(t, f("usr/bin/x", "0755", "x")))},
		},
		"history-copy-only": {
			bad:  []Input{history("ADD https://archive.example.com/x.tgz /opt/ # buildkit"), history("RUN x", "ADD --chown=1 git@git.example.com:x.git /opt/")},
			good: []Input{history("COPY x /x # buildkit"), history("/bin/sh -c #(nop) COPY file:00ff in /x", "RUN useradd add")},
		},
		"history-no-upgrade": {
			bad:  []Input{history("RUN /bin/sh -c apt-get update && apt-get -y dist-upgrade # buildkit"), history("RUN apk upgrade --no-cache"), history("RUN dnf -y update && dnf clean all")},
			good: []Input{history("RUN apt-get update && apt-get install -y nginx"), history("RUN pip install --upgrade pip"), history("RUN yum update-minimal"), history("RUN apt-get install --only-upgrade openssl")},
		},
		"history-update-with-install": {
			bad:  []Input{history("RUN /bin/sh -c apt-get update # buildkit", "RUN apt-get install nginx")},
			good: []Input{history("RUN apt-get update && apt-get install -y nginx"), history("RUN apk add --no-cache x")},
		},
		"history-no-sudo": {
			bad:  []Input{history("RUN sudo apt-get install x"), history("RUN true && doas -u x true")},
			good: []Input{history("RUN apt-get install -y sudo git"), history("ENV X=sudo"), history("COPY sudoers /etc/")},
		},
		"history-verified": {
			bad: []Input{
				history("RUN apt-get install --allow-unauthenticated x"), history("RUN curl -fsSLk https://x"), history("RUN apk add --allow-untrusted x.apk"),
				history("RUN echo 'deb [trusted=yes] http://archive.example.com x main' > /etc/apt/sources.list"), history("ENV NODE_TLS_REJECT_UNAUTHORIZED=0"),
			},
			good: []Input{history("RUN curl -fsSL https://x -o y"), history("RUN apt-get install -y x")},
		},
		"history-no-piped-script": {
			bad:  []Input{history("RUN curl -sSL https://x.example.com/install | sh"), history("RUN wget -qO- https://x.example.com | sudo bash -s")},
			good: []Input{history("RUN curl https://x.example.com | tar x"), history("RUN curl https://x.example.com -o a && sh a"), history("RUN cat x | sh")},
		},
		"image-base-digest": {
			bad:  []Input{based(baseName, "registry.example.com/base:1")},
			good: []Input{based(baseName, "registry.example.com/base:1", baseDigest, string(kiln.DigestBytes(nil)))},
		},
		"image-base-tag": {
			bad:  []Input{based(baseName, "registry.example.com:5000/base"), based(baseName, "registry.example.com/base:latest")},
			good: []Input{based(baseName, "registry.example.com:5000/base:1.2"), based(baseName, "registry.example.com/base@sha256:00")},
		},
	}
}

func TestObjectivesOfImagesBothWays(t *testing.T) {
	for id, c := range ofImages(t) {
		for want, list := range map[string][]Input{kiln.NotSatisfied: c.bad, kiln.Satisfied: c.good} {
			for i, in := range list {
				o := outcomes(t, plant(t, debian...), in, id)[id]
				if o.State != want {
					t.Errorf("%s, case %d: %s (%s | %s), want %s", id, i, o.State, o.Observed, o.Reason, want)
				}
				if strings.Contains(o.Observed+o.Reason, "MIIEo") || strings.Contains(o.Observed, "abcdefgh-") {
					t.Errorf("%s shows the secret: %s", id, o.Observed)
				}
			}
		}
	}
}

// TestAnArchiveOfTheBuildIsTheWeakerForm: ADD of a local file is no copy, but fetches nothing.
func TestAnArchiveOfTheBuildIsTheWeakerForm(t *testing.T) {
	for step, variant := range map[string]string{"ADD app.tgz /opt/ # buildkit": "no-address", "/bin/sh -c #(nop) ADD file:00ff in /app.tgz ": "no-address", "COPY x /x": "copy"} {
		o := outcomes(t, plant(t, debian...), history(step), "history-copy-only")["history-copy-only"]
		if o.State != kiln.Satisfied || o.Variant != variant {
			t.Errorf("%s: %s by %q, want %s", step, o.State, o.Variant, variant)
		}
	}
}

func TestAFindingSaysWhereTheSecretIs(t *testing.T) {
	first := packed(t, f("srv/x", "0644", "x"))
	second := packed(t, f("root/.ssh/id_rsa", "0600", "# my key\n"+rsaKey))
	in := Input{Config: &kiln.ImageConfig{}, Layers: []Layer{first, second, packed(t, gone("root/.wh..ssh"))}}
	o := outcomes(t, plant(t, debian...), in, "layers-no-secrets")["layers-no-secrets"]
	want := fmt.Sprintf("/root/.ssh/id_rsa in layer 2 (%s), hidden by layer 3: private key MIIE*** (line 2)", second.Digest.Short())
	if o.Observed != want {
		t.Errorf("observed %q, want %q", o.Observed, want)
	}
}

// TestATreeThatBecomesALayerHoldsNoSecret: what is built is looked at before it is a layer.
func TestATreeThatBecomesALayerHoldsNoSecret(t *testing.T) {
	needRoot(t)
	cat, err := catalogue.Load()
	must(t, err)
	k, _ := cat.Objective("layers-no-secrets")
	in := Input{Recipe: &kiln.Recipe{Name: "app"}, Lock: &kiln.Lock{Epoch: 1}, Controls: []kiln.Control{k}, Now: time.Now()}
	for state, nodes := range map[string][]node{
		kiln.Satisfied:    debianWith(f("srv/cert.pem", "0644", "-----BEGIN CERTIFICATE-----\n")),
		kiln.NotSatisfied: debianWith(f("srv/key.pem", "0644", rsaKey)),
	} {
		dir := plant(t, nodes...)
		before := dump(t, dir)
		res, err := Apply(t.Context(), dir, in)
		must(t, err)
		if res.Outcomes[0].State != state || len(differences(before, dump(t, dir))) > 0 {
			t.Errorf("%s: %+v", state, res.Outcomes[0])
		}
	}
}

func TestAnImageWithoutHistoryIsNotJudgedByIt(t *testing.T) {
	dir := plant(t, debian...)
	for _, c := range []struct {
		steps         []string
		state, reason string
	}{
		{nil, kiln.Unknown, "does not record"},
		{[]string{"kiln", "kiln"}, kiln.NotApplicable, "made of a tree"},
	} {
		got := outcomes(t, dir, Input{Config: &kiln.ImageConfig{History: c.steps}}, "history-no-sudo")
		expect(t, got, "history-no-sudo", c.state, c.reason)
	}
	expect(t, outcomes(t, dir, based(baseName, "scratch"), "image-base-tag"), "image-base-tag", kiln.NotApplicable, "from nothing")
	expect(t, outcomes(t, dir, history(), "image-base-tag"), "image-base-tag", kiln.Unknown, "does not say")
	expect(t, outcomes(t, dir, Input{Config: &kiln.ImageConfig{History: []string{"kiln"}}}, "image-base-tag"), "image-base-tag", kiln.NotApplicable, "packages")
}

func TestHostileLayersMakeAnUnknownState(t *testing.T) {
	cut := packed(t, f("srv/a", "0644", strings.Repeat("x", 4000)))
	whole := cut.Open
	cut.Open = func() (io.ReadCloser, error) {
		r, err := whole()
		return io.NopCloser(io.LimitReader(r, 2000)), err
	}
	damaged := Layer{Digest: kiln.DigestBytes(nil), Open: func() (io.ReadCloser, error) { return nil, errors.New("is damaged") }}
	bomb := bombLayer()
	dense := packed(t, f("srv/dense", "0644", strings.Repeat("ghp_glpat-npm_eyJ-----BEGIN PRIVATE KEY-----", 150_000)))
	for _, c := range []struct {
		name, reason string
		layer        Layer
	}{
		{"cut", "unexpected EOF", cut},
		{"damaged", "is damaged", damaged},
		{"a bomb", "more than the limit", bomb},
		{"dense", "look like the beginning", dense},
	} {
		in := Input{Config: &kiln.ImageConfig{}, Layers: []Layer{c.layer}}
		got := outcomes(t, plant(t, debian...), in, "layers-no-secrets")
		expect(t, got, "layers-no-secrets", kiln.Unknown, c.reason)
	}
	// Whiteouts of what is not there, of the root, and of everything reach nothing and hide no finding.
	odd := packed(t, gone(".wh..wh..opq"), gone(".wh.."), gone("../../.wh.x"), gone(".wh."), gone("a/.wh..wh.aufs"))
	in := Input{Config: &kiln.ImageConfig{}, Layers: []Layer{packed(t, f("srv/key", "0600", rsaKey)), odd}}
	expect(t, outcomes(t, plant(t, debian...), in, "layers-no-secrets"), "layers-no-secrets", kiln.NotSatisfied, "known to everybody")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Audit(ctx, plant(t, debian...), in); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// bombLayer says that it holds a file of 2^50 bytes.
func bombLayer() Layer {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "srv/bomb", Size: 1 << 50, Typeflag: tar.TypeReg, Format: tar.FormatGNU}); err != nil {
		panic(err)
	}
	return Layer{Open: func() (io.ReadCloser, error) { return io.NopCloser(&buf), nil }}
}

func TestHistoryRulesThatAreMistakes(t *testing.T) {
	for _, p := range []map[string]any{{"match": "x"}, {"remedy": "x"}, {"match": "(", "remedy": "x"}, {"match": "x", "unless": "(", "remedy": "x"}} {
		if err := Check(kiln.Setting{Kind: "image-history", Params: p}); err == nil {
			t.Errorf("%v is taken", p)
		}
	}
	if err := Check(kiln.Setting{Kind: "image-base", Params: map[string]any{"rule": "any"}}); err == nil {
		t.Error("an unknown rule of bases is taken")
	}
	names := Kinds()
	for _, k := range []string{"image-history", "image-base", "layer-secrets", "layer-setid"} {
		if !slices.Contains(names, k) {
			t.Errorf("no kind %s", k)
		}
	}
}
