package attest

import (
	"strings"
	"time"

	"github.com/package-url/packageurl-go"

	"kiln"
	"kiln/internal/keys"
)

// ResourceDescriptor is in-toto's: a name or place with digests.
type ResourceDescriptor struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"`
	MediaType   string            `json:"mediaType,omitempty"`
	Annotations map[string]any    `json:"annotations,omitempty"`
}

func digestSet(d kiln.Digest) map[string]string { return map[string]string{"sha256": d.Hex()} }

// provenance is the SLSA provenance v1 predicate.
type provenance struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType            string               `json:"buildType"`
	ExternalParameters   map[string]any       `json:"externalParameters"`
	InternalParameters   map[string]any       `json:"internalParameters,omitempty"`
	ResolvedDependencies []ResourceDescriptor `json:"resolvedDependencies"`
}

type runDetails struct {
	Builder    builder              `json:"builder"`
	Metadata   map[string]string    `json:"metadata,omitempty"`
	Byproducts []ResourceDescriptor `json:"byproducts,omitempty"`
}

type builder struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version,omitempty"`
}

func (in Input) provenance() provenance {
	lock := in.Build.Lock
	p := provenance{
		BuildDefinition: buildDefinition{
			BuildType:            BuildType,
			ExternalParameters:   map[string]any{"recipe": in.recipe(), "platform": lock.Platform},
			InternalParameters:   map[string]any{"epoch": lock.Epoch, "catalogue": lock.Catalogue, "variants": lock.Variants},
			ResolvedDependencies: dependencies(lock),
		},
		RunDetails: runDetails{Builder: builder{ID: in.Identity + in.Builder}, Byproducts: in.byproducts()},
	}
	if in.Build.ID != "" {
		p.RunDetails.Metadata = map[string]string{"invocationId": in.Build.ID}
	}
	if in.Version != "" {
		p.RunDetails.Builder.Version = map[string]string{"kiln": in.Version}
	}
	return p
}

// recipe is what the user asked for: whole where it is at hand, by digest always.
func (in Input) recipe() map[string]any {
	out := map[string]any{"name": in.Build.Lock.Name, "digest": digestSet(in.Build.Lock.Recipe)}
	if in.Recipe != nil {
		out["document"] = in.Recipe
	}
	return out
}

// byproducts are the documents of the build by digest.
func (in Input) byproducts() []ResourceDescriptor {
	var out []ResourceDescriptor
	add := func(name string, doc any, ok bool) {
		if d, err := kiln.DigestOf(doc); ok && err == nil {
			out = append(out, ResourceDescriptor{Name: name, Digest: digestSet(d)})
		}
	}
	b := in.Build
	add("kiln.lock", b.Lock, b.Lock != nil)
	add("hardening.json", b.Hardening, b.Hardening != nil)
	add("trial.json", b.Trial, b.Trial != nil)
	add("bill.json", b.Bill, b.Bill != nil)
	if in.Artifact.Tree != "" {
		out = append(out, ResourceDescriptor{Name: "rootfs.tar", Digest: digestSet(in.Artifact.Tree)})
	}
	return out
}

// dependencies lists every input of the lock with its digest.
func dependencies(lock *kiln.Lock) []ResourceDescriptor {
	var out []ResourceDescriptor
	if i := lock.Image; i != nil {
		out = append(out, ResourceDescriptor{Name: "base image", URI: imageURI(i.Reference), Digest: digestSet(i.Digest)})
	}
	for _, a := range lock.Archives {
		out = append(out, ResourceDescriptor{
			Name: a.ID + " InRelease", URI: join(a.URI, "dists/"+a.Suite+"/InRelease"), Digest: digestSet(a.InRelease),
			Annotations: map[string]any{"signedBy": a.SignedBy, "date": time.Unix(a.Date, 0).UTC().Format(time.RFC3339)},
		})
		for _, x := range a.Indexes {
			out = append(out, ResourceDescriptor{
				Name: a.ID + " " + x.Path, URI: join(a.URI, "dists/"+a.Suite+"/"+x.Path), Digest: digestSet(x.Digest),
			})
		}
	}
	for _, p := range lock.Packages {
		d := ResourceDescriptor{Name: purl(lock, p), Digest: digestSet(p.Digest)}
		if a := lock.Archive(p.Archive); a != nil {
			d.URI = join(a.URI, p.Path)
		}
		out = append(out, d)
	}
	for _, f := range lock.Files {
		out = append(out, ResourceDescriptor{Name: f.Path, Digest: digestSet(f.Digest)})
	}
	return out
}

func join(base, path string) string { return strings.TrimRight(base, "/") + "/" + path }

// imageURI gives registry references the scheme that SLSA uses for them.
func imageURI(ref string) string {
	if strings.HasPrefix(ref, "oci:") || strings.HasPrefix(ref, "docker-archive:") || strings.HasPrefix(ref, "kiln:") {
		return ref
	}
	return "oci://" + ref
}

// purl is the package URL of a .deb, as the SBOM writes it (without the source package).
func purl(lock *kiln.Lock, p kiln.LockedPackage) string {
	vendor, _, _ := strings.Cut(lock.Distro, "-")
	if vendor == "" {
		vendor = "debian"
	}
	qualifiers := map[string]string{"arch": p.Architecture}
	if lock.Distro != "" {
		qualifiers["distro"] = lock.Distro
	}
	return packageurl.NewPackageURL(packageurl.TypeDebian, vendor, p.Name, p.Version, packageurl.QualifiersFromMap(qualifiers), "").ToString()
}

// testResultPredicate is in-toto's test-result v0.1.
type testResultPredicate struct {
	Result        string               `json:"result"` // PASSED, WARNED, FAILED
	Configuration []ResourceDescriptor `json:"configuration"`
	PassedTests   []string             `json:"passedTests"`
	WarnedTests   []string             `json:"warnedTests"`
	FailedTests   []string             `json:"failedTests"`
}

func newTestResult(name string, doc any) testResultPredicate {
	p := testResultPredicate{Result: "PASSED", PassedTests: []string{}, WarnedTests: []string{}, FailedTests: []string{}}
	c := ResourceDescriptor{Name: name}
	if d, err := kiln.DigestOf(doc); err == nil {
		c.Digest = digestSet(d)
	}
	p.Configuration = []ResourceDescriptor{c}
	return p
}

// testResult states a trial: one entry a test; a test that could not run has failed.
func testResult(t *kiln.Trial) testResultPredicate {
	p := newTestResult("trial.json", t)
	for _, r := range t.Tests {
		if r.Result == kiln.Pass {
			p.PassedTests = append(p.PassedTests, r.Name)
		} else {
			p.FailedTests = append(p.FailedTests, r.Name)
		}
	}
	if t.Result != kiln.Pass || len(p.FailedTests) > 0 {
		p.Result = "FAILED"
	}
	p.Configuration[0].Annotations = map[string]any{"runner": t.Runner, "candidate": t.Candidate}
	return p
}

// hardeningResult states every objective that applies: waived ones and ones
// whose state could not be found out are warnings, never passes.
func hardeningResult(h *kiln.HardeningResult) testResultPredicate {
	p := newTestResult("hardening.json", h)
	for _, o := range h.Outcomes {
		switch o.State {
		case kiln.Satisfied:
			p.PassedTests = append(p.PassedTests, o.Objective)
		case kiln.Waived, kiln.Unknown:
			p.WarnedTests = append(p.WarnedTests, o.Objective)
		case kiln.NotSatisfied:
			p.FailedTests = append(p.FailedTests, o.Objective)
		}
	}
	switch {
	case len(p.FailedTests) > 0:
		p.Result = "FAILED"
	case len(p.WarnedTests) > 0:
		p.Result = "WARNED"
	}
	p.Configuration[0].Annotations = map[string]any{"profile": h.Profile, "catalogue": h.Catalogue}
	return p
}

// verification is SLSA's verification summary v1.
type verification struct {
	Verifier          builder              `json:"verifier"`
	TimeVerified      string               `json:"timeVerified"`
	ResourceURI       string               `json:"resourceUri"`
	Policy            ResourceDescriptor   `json:"policy"`
	InputAttestations []ResourceDescriptor `json:"inputAttestations,omitempty"`
	Result            string               `json:"verificationResult"`
	Levels            []string             `json:"verifiedLevels"`
	SLSAVersion       string               `json:"slsaVersion"`
}

// verification states the decision itself: a verdict that only warns or
// observes is still FAILED when it did not allow.
func (in Input) verification(v *kiln.Verdict, statements []kiln.Statement) verification {
	out := verification{
		Verifier: builder{ID: in.Identity + keys.RoleGate}, TimeVerified: time.Unix(v.Time, 0).UTC().Format(time.RFC3339),
		ResourceURI: v.Match, Policy: ResourceDescriptor{Name: v.Rule, Digest: digestSet(v.Policy)},
		Result: "FAILED", Levels: []string{"FAILED"}, SLSAVersion: "1.2",
	}
	if v.Decision == kiln.Allow {
		out.Result, out.Levels = "PASSED", []string{"SLSA_BUILD_LEVEL_1"}
	}
	for _, s := range statements {
		out.InputAttestations = append(out.InputAttestations, ResourceDescriptor{Name: s.PredicateType, Digest: digestSet(s.Bundle)})
	}
	return out
}
