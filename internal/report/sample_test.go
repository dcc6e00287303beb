package report_test

import (
	"fmt"

	"kiln"
)

func digest(s string) kiln.Digest { return kiln.DigestBytes([]byte(s)) }

// sample is a complete build of a small web server image.
func sample() *kiln.Build {
	b := &kiln.Build{
		Header: kiln.NewHeader("Build"), ID: "20261125-034412-7f3a", Name: "base/nginx", Recipe: digest("recipe"),
		Lock: sampleLock(), Evidence: sampleEvidence(), Tree: digest("tree"), Hardening: sampleHardening(), Trial: sampleTrial(),
		Bill: sampleBill(), Artifact: sampleArtifact(), Statements: sampleStatements(), Verdict: sampleVerdict(),
		Release: &kiln.Release{
			Header: kiln.NewHeader("Release"), Name: "base/nginx", Channel: "stable", Digest: digest("index"), Build: "20261125-034412-7f3a",
			Lock: digest("lock"), Verdict: digest("verdict"), Time: 1_764_000_000,
		},
	}
	for _, s := range []struct {
		name, result, note string
		millis             int64
	}{
		{"recipe", "done", "kiln.yaml, 2 packages requested", 4},
		{"resolve", "cached", "96 packages from 3 suites", 31},
		{"verify", "done", "3 suites signed by accepted keys", 420},
		{"assemble", "done", "96 packages unpacked, 71 configured", 2140},
		{"harden", "done", "47 of 51 objectives met, 1 waived", 610},
		{"trial", "done", "5 of 5 tests passed", 1320},
		{"scan", "done", "103 components, 1 unexplained file", 480},
		{"pack", "done", "3 layers, 31.4 MiB", 1750},
		{"attest", "done", "5 statements", 60},
		{"admit", "done", "allow", 3},
		{"publish", "done", "base/nginx@stable", 12},
	} {
		b.Stations = append(b.Stations, kiln.StationRun{Station: s.name, Result: s.result, Key: digest(s.name), Millis: s.millis, Note: s.note})
	}
	return b
}

func sampleLock() *kiln.Lock {
	l := &kiln.Lock{
		Header: kiln.NewHeader("Lock"), Name: "base/nginx", Recipe: digest("recipe"), Platform: "linux/amd64", Epoch: 1_763_900_000,
		Release: "bookworm", Distro: "debian-12", Catalogue: digest("catalogue"),
		Files: []kiln.LockedFile{{Path: "nginx.conf", Digest: digest("conf"), Size: 1432, Mode: "0644"}},
	}
	for _, s := range []string{"bookworm", "bookworm-updates", "bookworm-security"} {
		l.Archives = append(l.Archives, kiln.LockedArchive{
			ID: "debian/" + s, URI: "http://archive.example.com/debian", Suite: s, Codename: "bookworm", Components: []string{"main"},
			InRelease: digest(s), Date: 1_763_800_000, SignedBy: []string{"B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8"}, Keyring: digest("keyring"),
		})
	}
	add := func(name, version, why string, base bool) {
		l.Packages = append(l.Packages, kiln.LockedPackage{
			Name: name, Version: version, Architecture: "amd64", Archive: "debian/bookworm", Component: "main", Path: "pool/main/" + name + ".deb",
			Size: int64(20_000 + 3000*len(name)*len(version)), Digest: digest(name), Source: name, SourceVersion: version, Base: base, Why: why,
		})
	}
	add("base-files", "12.4+deb12u15", "essential", true)
	add("libc6", "2.36-9+deb12u14", "base-files", true)
	add("nginx", "1.22.1-9+deb12u11", "requested", false)
	add("nginx-common", "1.22.1-9+deb12u11", "nginx", false)
	add("libpcre2-8-0", "10.42-1+deb12u2", "nginx", false)
	add("ca-certificates", "20230311+deb12u1", "requested", false)
	for i := range 40 {
		add(fmt.Sprintf("libsample%d", i), "1.0."+fmt.Sprint(i), "required", true)
	}
	return l
}

func sampleEvidence() []kiln.Evidence {
	var out []kiln.Evidence
	for _, s := range []string{"bookworm", "bookworm-updates", "bookworm-security"} {
		out = append(out, kiln.Evidence{
			Header: kiln.NewHeader("Evidence"), Subject: kiln.Subject{Name: "InRelease of debian/" + s, Digest: digest(s)}, Type: "openpgp-apt",
			Root: "debian", Archive: "debian/" + s, Suite: s, Signers: []string{"B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8", "4CB50190207B4758A3F73A796ED0E7B82643E131"},
			SignedAt: 1_763_800_000, ValidUntil: 1_764_400_000,
			Checks: []string{"2 good signatures by accepted keys", "the signature covers the whole text", "the suite is the one asked for", "not older than the newest seen", "not past Valid-Until"},
		})
	}
	return out
}

func sampleHardening() *kiln.HardeningResult {
	h := &kiln.HardeningResult{
		Header: kiln.NewHeader("HardeningResult"), Profile: "container-baseline", Catalogue: digest("catalogue"), Before: digest("tree"), After: digest("hardened"),
		Removed: []string{"apt", "dpkg", "perl-base"},
		Config: kiln.ImageConfig{
			Entrypoint: []string{"/usr/sbin/nginx", "-g", "daemon off;"}, User: "101:101", Env: []string{"PATH=/usr/sbin:/usr/bin"}, Ports: []string{"8080/tcp"},
			StopSignal: "SIGQUIT", Healthcheck: &kiln.Healthcheck{Command: []string{"/usr/bin/curl", "-f", "http://127.0.0.1:8080/"}},
		},
	}
	cis := []kiln.Reference{{Benchmark: "CIS Debian Linux 12", Version: "1.1.0", ID: "7.1.11", Level: "L1"}}
	h.Outcomes = []kiln.Outcome{
		{Objective: "files/no-world-writable", Title: "No file can be written by everybody", Severity: "high", Before: "not-satisfied", State: "satisfied", Variant: "remove-bit", Observed: "2 world-writable files", Changed: []string{"var/lib/nginx/a", "var/lib/nginx/b"}, Effective: "file", References: cis},
		{Objective: "files/no-setuid", Title: "No program runs with another user's rights", Severity: "high", Before: "not-satisfied", State: "satisfied", Variant: "strip-all", Observed: "usr/bin/su 4755", Changed: []string{"usr/bin/su", "usr/bin/mount"}, References: cis},
		{Objective: "image/non-root-user", Title: "The service does not run as root", Severity: "high", Before: "satisfied", State: "satisfied", Variant: "numeric", Observed: "101:101"},
		{Objective: "image/read-only-root", Title: "The root file system can be mounted read-only", Severity: "medium", Before: "not-satisfied", State: "waived", Observed: "writes below /var/lib/nginx", Reason: "waived", Waiver: &kiln.Waiver{Objective: "image/read-only-root", Exception: kiln.Exception{Owner: "web-team@example.com", Reason: "the proxy cache lies in the image until the volume exists", Expires: "2027-01-31"}}},
		{Objective: "accounts/password-aging", Title: "Passwords expire", Severity: "low", Before: "not-satisfied", State: "not-satisfied", Observed: "PASS_MAX_DAYS 99999", Reason: "the recipe sets its own login.defs"},
		{Objective: "ssh/protocol", Title: "Remote logins use modern ciphers only", Severity: "medium", Before: "not-applicable", State: "not-applicable", Reason: "package openssh-server is not installed"},
		{Objective: "crypto/policy", Title: "Old TLS versions are refused", Severity: "medium", Before: "unknown", State: "unknown", Reason: "the program could not be asked"},
	}
	for i := range 40 {
		h.Outcomes = append(h.Outcomes, kiln.Outcome{Objective: fmt.Sprintf("files/mode-%02d", i), Title: fmt.Sprintf("Owner and mode of system file %d are as shipped or stricter", i), Severity: "medium", Before: "satisfied", State: "satisfied", Variant: "strict", Observed: "0644 root:root", References: cis})
	}
	return h
}

func sampleTrial() *kiln.Trial {
	return &kiln.Trial{
		Header: kiln.NewHeader("Trial"), Candidate: digest("hardened"), Runner: "kiln sandbox (root)", Result: "pass", StartMillis: 84, Millis: 1320,
		Tests: []kiln.TestResult{
			{Name: "welcome page", Type: "http", Result: "pass", Attempts: 3, Millis: 84, Expected: "GET http://127.0.0.1:8080/ gives 200 and matches Welcome", Observed: "200, 615 bytes"},
			{Name: "exactly these ports", Type: "listening", Result: "pass", Attempts: 1, Millis: 3, Expected: "8080/tcp", Observed: "8080/tcp"},
			{Name: "not root", Type: "process", Result: "pass", Attempts: 1, Millis: 5, Expected: "nginx as uid 101", Observed: "5 processes, uid 101"},
		},
		Log: "2026/11/25 03:44:20 [notice] 1#1: nginx/1.22.1\n2026/11/25 03:44:20 [notice] 1#1: start worker processes",
	}
}

func sampleBill() *kiln.Bill {
	b := &kiln.Bill{
		Header: kiln.NewHeader("Bill"), Subject: kiln.Subject{Name: "base/nginx", Digest: digest("hardened")}, Distro: "debian-12",
		Unowned: []string{"opt/stranger"}, Modified: []string{"usr/sbin/nginx"}, Replaced: []string{"etc/nginx/nginx.conf"}, Removed: 4211, Files: 3120, Bytes: 81_000_000,
	}
	for i := range 96 {
		b.Components = append(b.Components, kiln.Component{Type: "deb", Name: fmt.Sprintf("p%d", i), Version: "1", PURL: fmt.Sprintf("pkg:deb/debian/p%d@1", i), Licenses: []string{"GPL-2.0-or-later", "MIT"}})
	}
	b.Components = append(b.Components, kiln.Component{Type: "pypi", Name: "x", Version: "1", PURL: "pkg:pypi/x@1", Licenses: []string{"MIT"}})
	for i := range 60 {
		b.Generated = append(b.Generated, fmt.Sprintf("var/lib/dpkg/info/p%d.list", i))
	}
	return b
}

func sampleArtifact() *kiln.Artifact {
	return &kiln.Artifact{
		Header: kiln.NewHeader("Artifact"), Name: "base/nginx", Platform: "linux/amd64", Index: digest("index"), Manifest: digest("manifest"), Config: digest("config"), Tree: digest("hardened"),
		Size: 32_900_000, Unpacked: 81_000_000, Files: 3120,
		Layers: []kiln.Layer{
			{Role: "base", Digest: digest("l1"), DiffID: digest("d1"), Size: 24_100_000, Files: 2310},
			{Role: "packages", Digest: digest("l2"), DiffID: digest("d2"), Size: 8_700_000, Files: 790},
			{Role: "application", Digest: digest("l3"), DiffID: digest("d3"), Size: 100_000, Files: 20},
		},
	}
}

func sampleStatements() []kiln.Statement {
	var out []kiln.Statement
	for _, s := range [][2]string{
		{kiln.PredicateProvenance, "builder/workstation"},
		{kiln.PredicateCycloneDX, "scanner"},
		{kiln.PredicateSPDX, "scanner"},
		{kiln.PredicateTestResult, "tester"},
		{kiln.PredicateRelease, "release"},
	} {
		out = append(out, kiln.Statement{
			Header: kiln.NewHeader("Statement"), PredicateType: s[0], Subject: []kiln.Subject{{Name: "base/nginx", Digest: digest("index")}}, Role: s[1],
			KeyID: digest("key " + s[1]), Bundle: digest("bundle " + s[0]), Referrer: digest("referrer " + s[0]),
		})
	}
	return out
}

func sampleVerdict() *kiln.Verdict {
	return &kiln.Verdict{
		Header: kiln.NewHeader("Verdict"), Subject: kiln.Subject{Name: "base/nginx", Digest: digest("index")}, Match: "image:base/nginx", Decision: "allow", Mode: "enforce", Policy: digest("policy"),
		Rule: "rules[1] (line 12)", Time: 1_764_000_000,
		Checks: []kiln.Check{
			{Rule: "inputs are signed by accepted keys", Decision: "allow", Expected: "evidence for every input", Found: "3 suites, 96 packages", Evidence: []string{string(digest("bookworm")), string(digest("bookworm-updates"))}},
			{Rule: "hardening", Decision: "allow", Expected: "every high objective met or waived", Found: "1 waived", Exception: "waiver-1"},
			{Rule: "tests", Decision: "allow", Expected: "all pass", Found: "3 of 3"},
			{Rule: "vulnerabilities", Decision: "allow", Expected: "no critical one with a fix", Found: "none"},
		},
		Exceptions: []kiln.Exception{{ID: "waiver-1", Owner: "web-team@example.com", Reason: "the proxy cache lies in the image until the volume exists", Expires: "2027-01-31"}},
	}
}
