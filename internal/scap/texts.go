package scap

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"kiln/internal/smallfile"

	"kiln"
)

// Texts are titles of rules in their publisher's words, from a user's own copy.
// They are shown beside Kiln's own words, and go into no document: benchmarks such as CIS's are licensed.
type Texts struct {
	titles map[string]map[string]string // by the benchmark's name, "" for ids that only one benchmark has, then by id
}

// maxTexts bounds a file of texts.
const maxTexts = 64 << 20

// ReadFile adds the titles of a file: an XCCDF benchmark or data stream, a CSV file
// with columns id and title, or a JSON list of objects with these keys. Benchmark
// is the catalogue's name of what CSV and JSON are about; XCCDF says it itself.
func (t *Texts) ReadFile(benchmark, path string) error {
	data, err := smallfile.Regular(path, maxTexts)
	if err == nil {
		err = t.read(benchmark, bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	}
	if err != nil {
		return fmt.Errorf("reading texts from %s: %w", path, err)
	}
	return nil
}

func (t *Texts) read(benchmark string, data []byte) error {
	head := bytes.TrimSpace(data[:min(len(data), 512)])
	if bytes.HasPrefix(head, []byte("<")) {
		return t.xccdf(benchmark, data)
	}
	if benchmark == "" {
		return errors.New("say which benchmark the ids are of: BENCHMARK=FILE, such as cis-debian-12=FILE")
	}
	rows, err := jsonRows(data)
	if !bytes.HasPrefix(head, []byte("[")) {
		rows, err = csvRows(data)
	}
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return errors.New("has no row with an id and a title")
	}
	for id, title := range rows {
		t.add(benchmark, id, title)
	}
	return nil
}

func (t *Texts) add(benchmark, id, title string) {
	if t.titles == nil {
		t.titles = map[string]map[string]string{}
	}
	if t.titles[benchmark] == nil {
		t.titles[benchmark] = map[string]string{}
	}
	t.titles[benchmark][id] = clip(title, 500)
}

func (t *Texts) xccdf(benchmark string, data []byte) error {
	c, err := ReadContent(bytes.NewReader(data))
	if err != nil {
		return err
	}
	for _, b := range c.Benchmarks {
		for _, r := range b.Rules {
			id := RuleID(r.ID, r.Version)
			switch {
			case !cisRule.MatchString(r.ID):
				t.add("", id, r.Title)
			case benchmark != "":
				t.add(benchmark, id, r.Title)
			default:
				t.add(b.ID, id, r.Title)
			}
		}
	}
	return nil
}

// Of returns the titles for these references, each with its benchmark's id in front.
func (t *Texts) Of(refs []kiln.Reference) []string {
	if t == nil {
		return nil
	}
	var out []string
	for _, r := range refs {
		if title := t.title(r); title != "" {
			out = append(out, r.ID+" "+title)
		}
	}
	return out
}

func (t *Texts) title(r kiln.Reference) string {
	if title := t.titles[r.Benchmark][r.ID]; title != "" {
		return title
	}
	cis := strings.HasPrefix(r.Benchmark, "CIS ")
	if title := t.titles[""][r.ID]; title != "" && !cis {
		return title
	}
	for name, titles := range t.titles {
		if cis && titles[r.ID] != "" && strings.HasPrefix(name, "xccdf_") && benchmarkOf(name)(r.Benchmark) {
			return titles[r.ID]
		}
	}
	return ""
}

func jsonRows(data []byte) (map[string]string, error) {
	var list []struct{ ID, Title string }
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("is no list of objects with id and title: %w", err)
	}
	out := map[string]string{}
	for _, x := range list {
		if x.ID != "" && x.Title != "" {
			out[x.ID] = x.Title
		}
	}
	return out, room(len(out), "rows")
}

func csvRows(data []byte) (map[string]string, error) {
	r := csv.NewReader(bytes.NewReader(data))
	r.FieldsPerRecord = -1
	header, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("is neither XCCDF, JSON nor CSV: %w", err)
	}
	id, title := column(header, "id"), column(header, "title")
	if id < 0 || title < 0 {
		return nil, fmt.Errorf("its first line names no columns id and title: %s", clip(strings.Join(header, ", "), 200))
	}
	out := map[string]string{}
	for len(out) < maxItems {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if len(row) > max(id, title) && row[id] != "" && row[title] != "" {
			out[strings.TrimSpace(row[id])] = strings.TrimSpace(row[title])
		}
	}
	return nil, fmt.Errorf("holds more than %d rows", maxItems)
}

func column(header []string, name string) int {
	for i, h := range header {
		if strings.EqualFold(strings.TrimSpace(h), name) {
			return i
		}
	}
	return -1
}
