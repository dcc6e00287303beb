package attest

import (
	"strings"

	"kiln"
	"kiln/internal/keys"
)

// Command is one command line that checks an image with stock cosign.
type Command struct {
	// About says what it proves, for people.
	About string
	Role  string
	Args  []string
}

// String returns the command line quoted for a POSIX shell.
func (c Command) String() string {
	quoted := make([]string, len(c.Args))
	for i, a := range c.Args {
		quoted[i] = a
		if a == "" || strings.Trim(a, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+./:@%,") != "" {
			quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// VerifyCommands returns the commands with which cosign v3 checks every
// statement of an image, offline: keys sign without a transparency log, which
// --insecure-ignore-tlog=true accepts. ref is a registry reference, best with
// a digest, or the directory of an OCI layout whose image was published last;
// key gives the public key file of a role.
func VerifyCommands(ref string, layout bool, key func(role string) string) []Command {
	list := []struct{ about, role, predicateType string }{
		{"the release key says that the image may be used", keys.RoleRelease, ""},
		{"the gate admitted it", keys.RoleGate, kiln.PredicateVerification},
		{"what it was built from, and by whom", keys.RoleWorkstation, kiln.PredicateProvenance},
		{"what is in it (CycloneDX)", keys.RoleScanner, kiln.PredicateCycloneDX},
		{"what is in it (SPDX)", keys.RoleScanner, kiln.PredicateSPDX},
		{"the results of tests and hardening", keys.RoleTester, kiln.PredicateTestResult},
	}
	var out []Command
	for _, x := range list {
		args := []string{"cosign", "verify", "--key", key(x.role), "--insecure-ignore-tlog=true"}
		if x.predicateType != "" {
			args = []string{"cosign", "verify-attestation", "--key", key(x.role), "--insecure-ignore-tlog=true", "--type", cosignType(x.predicateType)}
		}
		if layout {
			args = append(args, "--local-image")
		}
		out = append(out, Command{x.about, x.role, append(args, ref)})
	}
	return out
}

// cosignType is cosign's short name of a predicate type where it has one.
func cosignType(predicateType string) string {
	switch predicateType {
	case kiln.PredicateProvenance:
		return "slsaprovenance1"
	case kiln.PredicateCycloneDX:
		return "cyclonedx"
	case kiln.PredicateSPDX:
		return "spdxjson"
	}
	return predicateType
}
