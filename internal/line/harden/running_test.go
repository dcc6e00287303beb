package harden

import (
	"strings"
	"testing"

	"kiln"
)

// On the running machine both count: the file, which the next start reads, and what the kernel does now.
func TestWhatIsConfiguredAndWhatIsInEffect(t *testing.T) {
	const (
		sysctl = "kernel.randomize_va_space = 2\n"
		line   = "/dev/vdb /var ext4 defaults,nodev 0 2\n"
		grub   = "GRUB_CMDLINE_LINUX=\"audit=1\"\n"
		mounts = "22 1 254:0 / / rw,relatime - ext4 /dev/vda1 rw\n25 22 254:16 / /var rw,nodev,relatime shared:2 - ext4 /dev/vdb rw\n26 22 0:5 / /odd\\040place rw,nosuid - tmpfs tmpfs rw\n"
	)
	setting := func(kind string, params map[string]any) kiln.Setting { return kiln.Setting{Kind: kind, Params: params} }
	aslr := setting("sysctl", map[string]any{"key": "kernel.randomize_va_space", "value": "2"})
	module := setting("kernel-module", map[string]any{"name": "usb-storage"})
	nodev := setting("mount", map[string]any{"path": "/var", "options": []any{"nodev"}})
	odd := setting("mount", map[string]any{"path": "/odd place", "options": []any{"nosuid"}})
	own := setting("mount", map[string]any{"path": "/var"})
	audit := setting("kernel-argument", map[string]any{"argument": "audit=1"})
	quiet := setting("kernel-argument", map[string]any{"argument": "quiet", "absent": true})
	denied := f("etc/modprobe.d/usb.conf", "0644", "install usb-storage /bin/false\nblacklist usb-storage\n")
	for name, c := range map[string]struct {
		set  kiln.Setting
		tree []node
		proc []node
		want string
		seen string
	}{
		"sysctl, both":              {aslr, []node{f("etc/sysctl.d/a.conf", "0644", sysctl)}, []node{f("sys/kernel/randomize_va_space", "0644", "2\n")}, kiln.Satisfied, "in effect: kernel.randomize_va_space=2"},
		"sysctl, the file only":     {aslr, []node{f("etc/sysctl.d/a.conf", "0644", sysctl)}, []node{f("sys/kernel/randomize_va_space", "0644", "0\n")}, kiln.NotSatisfied, "in effect: kernel.randomize_va_space=0"},
		"sysctl, the kernel only":   {aslr, nil, []node{f("sys/kernel/randomize_va_space", "0644", "2\n")}, kiln.NotSatisfied, "is not set; in effect: kernel.randomize_va_space=2"},
		"sysctl unknown to it":      {aslr, []node{f("etc/sysctl.d/a.conf", "0644", sysctl)}, nil, kiln.Satisfied, "kernel.randomize_va_space=2 at"},
		"sysctl that is not told":   {aslr, []node{f("etc/sysctl.d/a.conf", "0644", sysctl)}, []node{d("sys/kernel/randomize_va_space", "0755")}, kiln.Unknown, ""},
		"sysctl, neither":           {aslr, nil, []node{d("sys/kernel/randomize_va_space", "0755")}, kiln.NotSatisfied, "is not set"},
		"modules that are not told": {module, []node{denied}, []node{d("modules", "0755")}, kiln.Unknown, ""},
		"module denied":             {module, []node{denied}, []node{f("modules", "0444", "ext4 1 1 - Live 0x0\n")}, kiln.Satisfied, "not loaded"},
		"module denied and loaded":  {module, []node{denied}, []node{f("modules", "0444", "usb_storage 1 1 - Live 0x0\n")}, kiln.NotSatisfied, "usb-storage is loaded"},
		"mount, both":               {nodev, []node{f("etc/fstab", "0644", line)}, []node{f("self/mountinfo", "0444", mounts)}, kiln.Satisfied, "/var rw,nodev,relatime,rw"},
		"mount, the file only":      {nodev, []node{f("etc/fstab", "0644", line)}, []node{f("self/mountinfo", "0444", strings.ReplaceAll(mounts, ",nodev", ""))}, kiln.NotSatisfied, "/var rw,relatime"},
		"mount, not there":          {nodev, []node{f("etc/fstab", "0644", line)}, []node{f("self/mountinfo", "0444", "")}, kiln.NotSatisfied, "nothing is mounted at /var"},
		"mount by a unit":           {nodev, []node{f("etc/fstab", "0644", "")}, []node{f("self/mountinfo", "0444", mounts)}, kiln.Satisfied, "not in /etc/fstab; in effect: /var"},
		"mount by a unit, open":     {nodev, []node{f("etc/fstab", "0644", "")}, []node{f("self/mountinfo", "0444", strings.ReplaceAll(mounts, ",nodev", ""))}, kiln.NotSatisfied, "in effect: /var rw,relatime"},
		"mount with a blank":        {odd, nil, []node{f("self/mountinfo", "0444", mounts)}, kiln.Satisfied, "/odd place rw,nosuid"},
		"no file system of its own": {nodev, []node{f("etc/fstab", "0644", "")}, []node{f("self/mountinfo", "0444", "")}, kiln.NotApplicable, ""},
		"a file system of its own":  {own, []node{f("etc/fstab", "0644", "")}, []node{f("self/mountinfo", "0444", mounts)}, kiln.Satisfied, "in effect: /var"},
		"argument, both":            {audit, []node{f("etc/default/grub", "0644", grub)}, []node{f("cmdline", "0444", "root=/dev/vda1 audit=1\n")}, kiln.Satisfied, "started with audit=1"},
		"argument since last start": {audit, []node{f("etc/default/grub", "0644", grub)}, []node{f("cmdline", "0444", "root=/dev/vda1\n")}, kiln.NotSatisfied, "started without audit=1"},
		"unwanted argument":         {quiet, []node{f("etc/default/grub", "0644", grub)}, []node{f("cmdline", "0444", "quiet\n")}, kiln.NotSatisfied, "started with quiet"},
		"no unwanted argument":      {quiet, []node{f("etc/default/grub", "0644", grub)}, []node{f("cmdline", "0444", "audit=1\n")}, kiln.Satisfied, "started without quiet"},
	} {
		control := kiln.Control{ID: "x", Title: "t", Rationale: "r", Severity: "low", Scope: "machine", Variants: []kiln.Variant{{ID: "a", Settings: []kiln.Setting{c.set}}}}
		in := Input{Controls: []kiln.Control{control}, Profile: "p", Scope: "machine", Proc: plant(t, c.proc...)}
		res, err := Audit(t.Context(), plant(t, c.tree...), in)
		must(t, err)
		o := res.Outcomes[0]
		if o.State != c.want || !strings.Contains(o.Observed, c.seen) {
			t.Errorf("%s: %s, seen %q, reason %q; want %s with %q", name, o.State, o.Observed, o.Reason, c.want, c.seen)
		}
	}
}
