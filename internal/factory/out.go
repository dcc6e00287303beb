package factory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"kiln"
	"kiln/internal/atomicfile"
	"kiln/internal/keys"
	"kiln/internal/line/attest"
	"kiln/internal/line/publish"
	"kiln/internal/report"
)

// Leaving says where Leave writes, and the words with which the user would
// call this program again, for the commands that it prints.
type Leaving struct {
	Dir     string
	Program string // as typed, with the flags that choose this state directory
	Recipe  string // as typed
}

// Leave writes what a person wants to hold after a build: image layout, lock,
// reports, public keys and the commands that check the image. A build that failed leaves
// its lock and report, and no image.
func (f *Factory) Leave(ctx context.Context, b *kiln.Build, to Leaving) error {
	dir := to.Dir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("writing results: %w", err)
	}
	if b.Unchanged {
		// The report is about the build that made the image, not about finding it again.
		made, err := f.records.Build(ctx, string(b.Artifact.Index))
		if err != nil {
			return fmt.Errorf("writing results: %w", err)
		}
		b = made
	}
	var failed []error
	if b.Lock != nil {
		failed = append(failed, WriteLock(b.Lock, filepath.Join(dir, "kiln.lock")))
	}
	commands := f.commands(b, dir)
	failed = append(failed, f.leaveKeys(dir), leaveReports(b, commands, to))
	if b.Release != nil {
		_, err := publish.To(ctx, f.layout, b.Name, b.Release.Channel, b.Artifact, kiln.Output{Layout: filepath.Join(dir, "oci")}, "")
		failed = append(failed, err, atomicfile.Write(filepath.Join(dir, "verify.txt"), verifyText(b, commands, to), 0o644))
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("writing results to %s: %w", dir, err)
	}
	return nil
}

func (f *Factory) leaveKeys(dir string) error {
	for _, role := range keys.Roles() {
		path, err := keys.PublicPath(f.path("keys"), role)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := atomicfile.Write(filepath.Join(dir, "keys", filepath.Base(path)), text, 0o644); err != nil {
			return err
		}
		if role == keys.RoleRelease {
			if err := atomicfile.Write(filepath.Join(dir, "key.pub"), text, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

func leaveReports(b *kiln.Build, commands []attest.Command, to Leaving) error {
	var lines []report.Command
	for _, c := range commands {
		lines = append(lines, report.Command{Purpose: c.About, Line: c.String()})
	}
	var page bytes.Buffer
	if err := report.HTML(&page, b, report.Options{Verify: lines, Reproduce: reproduce(to)}); err != nil {
		return err
	}
	data, err := report.JSON(b)
	if err != nil {
		return err
	}
	return errors.Join(atomicfile.Write(filepath.Join(to.Dir, "report.html"), page.Bytes(), 0o644), atomicfile.Write(filepath.Join(to.Dir, "report.json"), data, 0o644))
}

func reproduce(to Leaving) []report.Command {
	lock := filepath.Join(to.Dir, "kiln.lock")
	return []report.Command{
		{Purpose: "build the same bytes from the same inputs", Line: to.Program + " build " + to.Recipe + " --lock " + lock},
		{Purpose: "keep every input, for when the archive has moved on", Line: to.Program + " lock export " + lock + " --out kiln-bundle.tar"},
	}
}

// commands are those with which cosign checks the layout in dir.
func (f *Factory) commands(b *kiln.Build, dir string) []attest.Command {
	if b.Release == nil {
		return nil
	}
	return attest.VerifyCommands(filepath.Join(dir, "oci"), true, keyFile(dir))
}

// keyFile says where Leave puts the public key of a role.
func keyFile(dir string) func(string) string {
	return func(role string) string {
		if role == keys.RoleRelease {
			return filepath.Join(dir, "key.pub")
		}
		path, err := keys.PublicPath(filepath.Join(dir, "keys"), role)
		if err != nil {
			return role
		}
		return path
	}
}

// verifyText says how strangers' tools read, run and check the image. Every
// line that is no comment is a command; e2e runs them as they stand here.
func verifyText(b *kiln.Build, commands []attest.Command, to Leaving) []byte {
	layout := "oci:" + filepath.Join(to.Dir, "oci") + ":" + b.Release.Channel
	var out strings.Builder
	fmt.Fprintf(&out, "# Read and run the image with stock tools\nskopeo inspect %s\npodman run --rm%s %s\n", layout, published(b), layout)
	fmt.Fprintf(&out, "\n# Check it with stock cosign (v3), offline, from the layout.\n# Keys sign without a transparency log; --insecure-ignore-tlog=true says that this is known.\n")
	writeCommands(&out, commands)
	place := "registry.example.com/" + b.Name
	fmt.Fprintf(&out, "\n# The same from a registry, once it is there\n%s push %s %s:%s\n", to.Program, releaseRef(b), place, b.Release.Channel)
	writeCommands(&out, attest.VerifyCommands(place+"@"+string(b.Artifact.Index), false, keyFile(to.Dir)))
	return []byte(out.String())
}

// published are podman's flags that let the machine reach the image's TCP ports.
func published(b *kiln.Build) string {
	var flags string
	if b.Hardening == nil {
		return ""
	}
	for _, port := range b.Hardening.Config.Ports {
		number, protocol, _ := strings.Cut(port, "/")
		if protocol == "" || protocol == "tcp" {
			flags += " -p " + number + ":" + number
		}
	}
	return flags
}

func writeCommands(out *strings.Builder, commands []attest.Command) {
	for _, c := range commands {
		fmt.Fprintf(out, "# %s\n%s\n", c.About, c)
	}
}

func releaseRef(b *kiln.Build) string { return b.Release.Name + "@" + b.Release.Channel }

// Push copies an admitted image with its signatures and attestations to a registry.
func (f *Factory) Push(ctx context.Context, ref, target string, plainHTTP bool) (kiln.Digest, error) {
	b, err := f.Find(ctx, ref)
	if err != nil {
		return "", err
	}
	l, err := f.line()
	if err != nil {
		return "", err
	}
	if err := l.CheckServable(b); err != nil {
		return "", kiln.Refuse(fmt.Errorf("pushing %s: %w; nothing was pushed", ref, err))
	}
	place, err := publish.To(ctx, f.layout, b.Name, b.Release.Channel, b.Artifact, kiln.Output{Registry: target, Insecure: plainHTTP}, "")
	return place.Digest, err
}
