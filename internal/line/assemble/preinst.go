package assemble

import "strings"

// helperCalls are the subcommands of dpkg-maintscript-helper. Each does nothing
// in "preinst install" without an old version: its manual page says when it acts.
var helperCalls = []string{"rm_conffile ", "mv_conffile ", "symlink_to_dir ", "dir_to_symlink "}

// inert reports whether a preinst does nothing on a first installation, where
// it is called with "install" and no old version. It reads only the few forms
// that packaging tools generate, line by line, and answers false to all others:
//
//   - comments, "set -e", "exit 0", ":" and calls of dpkg-maintscript-helper;
//   - "if" with a condition of tests joined by && one of which is false on a
//     first installation ([ "$1" = "upgrade" ], [ -n "$2" ]), up to its "fi",
//     with no other branch and nothing nested.
func inert(script []byte) bool {
	lines := strings.Split(strings.ReplaceAll(string(script), "\\\n", " "), "\n")
	if !strings.HasPrefix(lines[0], "#!") || !strings.Contains(lines[0], "sh") {
		return false
	}
	skipping := false
	for _, line := range lines[1:] {
		line = strings.TrimSpace(line)
		switch {
		case skipping && line == "fi":
			skipping = false
		case skipping:
			if branches(line) {
				return false
			}
		case idle(line):
		case falseHere(line):
			skipping = true
		default:
			return false
		}
	}
	return !skipping
}

// idle are lines without effect on a first installation.
func idle(line string) bool {
	switch line {
	case "", "set -e", "set -eu", "set +e", "set +eu", "exit 0", ":":
		return true
	}
	if strings.HasPrefix(line, "#") {
		return true
	}
	rest, ok := strings.CutPrefix(line, "dpkg-maintscript-helper ")
	if !ok || !strings.HasSuffix(rest, ` -- "$@"`) || strings.ContainsAny(rest, ";&|<>`(") {
		return false
	}
	for _, call := range helperCalls {
		if strings.HasPrefix(rest, call) {
			return true
		}
	}
	return false
}

// branches reports whether a line inside a skipped block could end it early or hide where it ends.
func branches(line string) bool {
	for _, word := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t;&|(){}", r) }) {
		switch word {
		case "if", "elif", "else", "fi", "case", "esac", "for", "while", "until", "do", "done":
			return true
		}
	}
	return strings.Contains(line, "<<")
}

// falseHere reports whether line is "if TEST && TEST ...; then", made of plain
// tests without substitutions, of which one is false on a first installation.
func falseHere(line string) bool {
	cond, ok := strings.CutPrefix(line, "if ")
	if !ok {
		return false
	}
	if cond, ok = strings.CutSuffix(cond, "then"); !ok {
		return false
	}
	cond, ok = strings.CutSuffix(strings.TrimSpace(cond), ";")
	if !ok || strings.ContainsAny(cond, "`|;<>!") || strings.Contains(cond, "$(") {
		return false
	}
	never := false
	for test := range strings.SplitSeq(cond, "&&") {
		test = strings.TrimSpace(test)
		if strings.HasPrefix(test, "dpkg --compare-versions ") {
			continue // has no effect, whatever it answers
		}
		inner, open := strings.CutPrefix(test, "[ ")
		inner, closed := strings.CutSuffix(inner, " ]")
		if !open || !closed || strings.ContainsAny(inner, "[]&()") {
			return false
		}
		switch strings.ReplaceAll(strings.TrimSpace(inner), `"`, "") {
		case "$1 = upgrade", "-n $2":
			never = true
		}
	}
	return never
}
