// Command audit times an audit of a Debian machine's tree with every objective
// against oscap at rest, with three profiles of Debian's own content, and lynis
// on the same tree, in one run. It prints medians and ratios and judges nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"kiln/internal/sandbox"
	"kiln/internal/scap"
)

const (
	rounds   = 7
	packages = "systemd,openssh-server,sudo,libpam-pwquality,auditd,rsyslog,cron,nftables,nginx,linux-base"
	content  = "/usr/share/xml/scap/ssg/content/"
)

// rivals are oscap's profiles: the content's file and the profile's name.
var rivals = []struct{ file, profile string }{
	{"ssg-ubuntu2204-ds.xml", "cis_level1_server"}, {"ssg-ubuntu2204-ds.xml", "cis_level2_server"}, {"ssg-ubuntu2004-ds.xml", "stig"},
}

func main() {
	sandbox.Init()
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: audit KILN")
		os.Exit(2)
	}
	if err := bench(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "bench: "+err.Error())
		os.Exit(1)
	}
}

func bench(ctx context.Context, kiln string) error {
	if err := sandbox.Enter(); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "kiln-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	tree := filepath.Join(work, "tree")
	out, err := exec.CommandContext(ctx, "mmdebstrap", "--quiet", "--variant=minbase", "--include="+packages, "bookworm", tree).CombinedOutput()
	if err != nil {
		return fmt.Errorf("making the tree: %w: %s", err, out)
	}
	own, err := audits(ctx, kiln, tree)
	if err != nil {
		return err
	}
	for _, r := range rivals {
		if err := oscap(ctx, work, tree, r.file, r.profile, own); err != nil {
			return err
		}
	}
	return lynis(ctx, tree, own)
}

// audits times kiln, process start included, and returns the median.
func audits(ctx context.Context, kiln, tree string) (time.Duration, error) {
	var times []time.Duration
	var peak int64
	for range rounds {
		cmd := exec.CommandContext(ctx, kiln, "audit", tree, "--profile", "all", "--quiet")
		start := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("kiln audit: %w: %s", err, out)
		}
		times = append(times, time.Since(start))
		peak = max(peak, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
	}
	slices.Sort(times)
	own := times[rounds/2]
	fmt.Printf("%-28s %8.3f s  %4d MiB\n", "kiln audit, all objectives", own.Seconds(), peak>>10)
	return own, nil
}

// oscap evaluates one profile. Its probes write into the tree, so it gets a copy.
func oscap(ctx context.Context, work, tree, file, profile string, own time.Duration) error {
	parsed, err := scap.ReadContentFile(content + file)
	if err != nil {
		return err
	}
	bound, fork := filepath.Join(work, file), filepath.Join(work, "fork")
	if err := bind(parsed, content+file, bound); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "cp", "-a", "--reflink=auto", tree, fork).CombinedOutput(); err != nil {
		return fmt.Errorf("copying the tree: %w: %s", err, out)
	}
	defer os.RemoveAll(fork)
	cmd := exec.CommandContext(ctx, "oscap", "xccdf", "eval", "--profile", "xccdf_org.ssgproject.content_profile_"+profile, bound)
	cmd.Env = append(os.Environ(), "OSCAP_PROBE_ROOT="+fork, "APT_CONFIG=/dev/null")
	start := time.Now()
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 0 && cmd.ProcessState.ExitCode() != 2 { // 2: some rules fail
		return fmt.Errorf("oscap %s: %w: %s", profile, err, out[max(0, len(out)-500):])
	}
	took := time.Since(start)
	rules := strings.Count(string(out), "\nResult")
	fmt.Printf("%-28s %8.3f s  %4d MiB  %5.1f x, %d rules\n", "oscap "+profile, took.Seconds(), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss>>10, took.Seconds()/own.Seconds(), rules)
	return nil
}

// bind writes content that is evaluated on any platform.
func bind(c *scap.Content, from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	return errors.Join(c.Bind(out, in), out.Close())
}

// lynis runs once inside the tree: it takes most of a minute.
func lynis(ctx context.Context, tree string, own time.Duration) error {
	if _, err := os.Stat("/usr/share/lynis"); err != nil {
		return fmt.Errorf("lynis is not installed: %w", err)
	}
	mounts := []sandbox.Mount{}
	for _, p := range []string{"/usr/share/lynis", "/usr/sbin/lynis", "/etc/lynis"} {
		mounts = append(mounts, sandbox.Mount{Type: "bind", Source: p, Target: p, ReadOnly: true})
	}
	var out strings.Builder
	start := time.Now()
	_, err := sandbox.Run(ctx, sandbox.Spec{
		Layers: []string{tree}, Mounts: mounts, Stdout: &out, Dir: "/root",
		Args: []string{"/bin/sh", "/usr/sbin/lynis", "audit", "system", "--quick", "--no-colors", "--nolog"},
	})
	if err != nil {
		return fmt.Errorf("lynis: %w", err)
	}
	took := time.Since(start)
	if !strings.Contains(out.String(), "Hardening index") {
		return fmt.Errorf("lynis gave no index: %s", out.String()[max(0, out.Len()-500):])
	}
	fmt.Printf("%-28s %8.3f s            %5.1f x\n", "lynis", took.Seconds(), took.Seconds()/own.Seconds())
	return nil
}
