package deb

import (
	"bytes"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"kiln"
)

// Release is the index of one suite of an archive: the text that its InRelease file signs.
type Release struct {
	Origin, Label, Suite, Codename, Version string
	// Date is when the archive made the index; ValidUntil, zero if absent, when it ceases to count. UTC.
	Date, ValidUntil          time.Time
	Components, Architectures []string
	// SHA256 has every file of the suite by its path below dists/SUITE/.
	SHA256 map[string]FileSum
	// ByHash says that indexes can be fetched by their digest (Acquire-By-Hash).
	ByHash bool
	// NotAutomatic and ButAutomaticUpgrades lower the default priority of the suite's packages to 1 and 100 (apt_preferences(5)).
	NotAutomatic, ButAutomaticUpgrades bool
	// NoAll says that the indexes of each architecture also list packages for all (No-Support-for-Architecture-all: Packages).
	NoAll bool
}

// FileSum is a file's size in bytes and digest.
type FileSum struct {
	Size   int64
	Digest kiln.Digest
}

// ID names one suite of an archive without its host: "debian/bookworm-security".
// Suite is the name that was asked for.
func (r *Release) ID(suite string) string {
	origin := strings.Join(strings.Fields(strings.ToLower(r.Origin)), "-")
	if origin == "" {
		origin = "unnamed"
	}
	return origin + "/" + suite
}

// maxReleaseFiles bounds the list of a Release file; the largest public suites have about 3,000.
const maxReleaseFiles = 100_000

// ParseRelease reads the text of a Release file: one paragraph, each field at
// most once. Fields that are absent stay zero; it does not judge what the text says.
func ParseRelease(text []byte) (*Release, error) {
	fields, err := releaseFields(text)
	if err != nil {
		return nil, fmt.Errorf("reading Release: %w", err)
	}
	r := &Release{
		Origin: fields["origin"], Label: fields["label"], Suite: fields["suite"], Codename: fields["codename"], Version: fields["version"],
		Components: strings.Fields(fields["components"]), Architectures: strings.Fields(fields["architectures"]),
		ByHash:               fields["acquire-by-hash"] == "yes",
		NotAutomatic:         fields["notautomatic"] == "yes",
		ButAutomaticUpgrades: fields["butautomaticupgrades"] == "yes",
		NoAll:                fields["no-support-for-architecture-all"] == "Packages",
	}
	if r.Date, err = releaseDate(fields["date"]); err != nil {
		return nil, fmt.Errorf("reading Release: Date: %w", err)
	}
	if r.ValidUntil, err = releaseDate(fields["valid-until"]); err != nil {
		return nil, fmt.Errorf("reading Release: Valid-Until: %w", err)
	}
	if r.SHA256, err = releaseSums(fields["sha256"]); err != nil {
		return nil, fmt.Errorf("reading Release: SHA256: %w", err)
	}
	return r, nil
}

// releaseFields splits the paragraph; names are in lower case, continuation lines joined by newlines.
func releaseFields(text []byte) (map[string]string, error) {
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("is not UTF-8 text")
	}
	fields := map[string][]string{}
	name := ""
	for n, raw := range bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n")) {
		line := strings.TrimRight(string(raw), " \t\r")
		switch {
		case line == "":
			return nil, fmt.Errorf("line %d is empty; a Release file has one paragraph", n+1)
		case line[0] == ' ' || line[0] == '\t':
			if name == "" {
				return nil, fmt.Errorf("line %d continues no field", n+1)
			}
			fields[name] = append(fields[name], strings.TrimLeft(line, " \t"))
		default:
			key, value, ok := strings.Cut(line, ":")
			name = strings.ToLower(key)
			if !ok || name == "" || strings.ContainsAny(name, " \t") {
				return nil, fmt.Errorf("line %d is no field", n+1)
			}
			if _, twice := fields[name]; twice {
				return nil, fmt.Errorf("line %d: field %s stands twice", n+1, key)
			}
			fields[name] = []string{strings.TrimSpace(value)}
		}
	}
	joined := make(map[string]string, len(fields))
	for name, lines := range fields {
		joined[name] = strings.Join(lines, "\n")
	}
	return joined, nil
}

// releaseDate reads the only form that apt accepts: RFC 1123 in UTC.
func releaseDate(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, zone := range []string{" UTC", " GMT", " +0000", " Z"} {
		if date, ok := strings.CutSuffix(s, zone); ok {
			t, err := time.Parse("Mon, _2 Jan 2006 15:04:05", date)
			if err != nil {
				t, err = time.Parse("Mon, 2 Jan 2006 15:04:05", date)
			}
			if err != nil {
				return time.Time{}, fmt.Errorf("%.60q is no date", s)
			}
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%.60q is no date in UTC", s)
}

func releaseSums(list string) (map[string]FileSum, error) {
	sums := map[string]FileSum{}
	for line := range strings.Lines(list) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 {
			return nil, fmt.Errorf("%.120q is not digest, size and path", strings.TrimSpace(line))
		}
		d, err := kiln.ParseDigest(f[0])
		if err != nil {
			return nil, err
		}
		size, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil || size < 0 {
			return nil, fmt.Errorf("%.120q has no size", strings.TrimSpace(line))
		}
		p := f[2]
		if path.IsAbs(p) || path.Clean(p) != p || p == ".." || strings.HasPrefix(p, "../") || strings.ContainsRune(p, 0) {
			return nil, fmt.Errorf("path %.120q leaves the suite", p)
		}
		if old, twice := sums[p]; twice && old != (FileSum{size, d}) {
			return nil, fmt.Errorf("%.120q stands twice with different content", p)
		}
		if len(sums) >= maxReleaseFiles {
			return nil, fmt.Errorf("more than %d files", maxReleaseFiles)
		}
		sums[p] = FileSum{size, d}
	}
	return sums, nil
}
