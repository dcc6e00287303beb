package mountinfo

import (
	"os"
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	got := Parse("36 35 98:0 /mnt1 /mnt/a\\040b\\134 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n" +
		"25 1 0:5 / / ro - overlay overlay rw\n" +
		"26 1 0:6 / /cut rw - tmpfs\n28 1 0:8 / /no/source rw - tmpfs  rw,size=1k\n" +
		"no mount at all\n27 1 0:7 / /no/type rw -\n- - - - - -\n")
	want := []Mount{
		{`/mnt/a b\`, "ext3", "rw,noatime", "rw,errors=continue"},
		{"/", "overlay", "ro", "rw"},
		{"/cut", "tmpfs", "rw", ""},
		{"/no/source", "tmpfs", "rw", "rw,size=1k"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestThisMachinesMountsAreRead(t *testing.T) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Skipf("no proc file system: %v", err)
	}
	list := Parse(string(text))
	if !slices.ContainsFunc(list, func(m Mount) bool { return m.Point == "/" && m.Type != "" && m.Options != "" }) {
		t.Errorf("no root among %d mounts", len(list))
	}
}
