package capture

import "testing"

func TestHeadKeepsTheBeginningAndSaysWhatIsLost(t *testing.T) {
	for _, c := range []struct {
		writes []string
		kept   string
		lost   bool
	}{
		{nil, "", false},
		{[]string{"ab", "cd"}, "abcd", false},
		{[]string{"abc", "def"}, "abcd", true},
		{[]string{"abcd", ""}, "abcd", false},
		{[]string{"abcd", "e", "f"}, "abcd", true},
	} {
		h := &Head{Max: 4}
		for _, w := range c.writes {
			if n, err := h.Write([]byte(w)); n != len(w) || err != nil {
				t.Errorf("writing %q: %d, %v: the program would be stopped", w, n, err)
			}
		}
		if h.String() != c.kept || string(h.Bytes()) != c.kept || h.Lost != c.lost {
			t.Errorf("%q: kept %q, lost %v", c.writes, h.String(), h.Lost)
		}
	}
}
