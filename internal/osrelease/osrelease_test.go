package osrelease

import (
	"maps"
	"testing"
)

func TestParse(t *testing.T) {
	got := Parse("# a comment=1\nID=debian\nVERSION_ID=\"12\"\r\n  VERSION_CODENAME='bookworm'\nnothing\nID=other\nEMPTY=\nURL=\"https://example.com/?a=b\"")
	want := map[string]string{"ID": "other", "VERSION_ID": "12", "VERSION_CODENAME": "bookworm", "EMPTY": "", "URL": "https://example.com/?a=b"}
	if !maps.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
