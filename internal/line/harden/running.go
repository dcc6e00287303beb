package harden

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"kiln"
	"kiln/internal/mountinfo"
	"kiln/internal/smallfile"
)

// kernel is what the running system's kernel says of itself in its proc file
// system: an audit of the machine it runs on judges what is in effect as well as
// what is configured. Dir is empty for a tree at rest. What is there and cannot
// be read is noted, so that no objective holds by what is configured alone.
type kernel struct {
	dir   string
	sight *sight
}

// maxProc bounds a file of proc.
const maxProc = 4 << 20

// read returns a file of proc; known is false where there is none.
func (k kernel) read(name string) (text string, known bool) {
	if k.dir == "" {
		return "", false
	}
	data, err := smallfile.Read(filepath.Join(k.dir, name), maxProc)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.sight.failed(fmt.Errorf("what is in effect: %w", err))
	}
	return strings.TrimRight(string(data), "\n"), err == nil
}

// sysctl is a setting in effect; known is false where the kernel does not have it.
func (k kernel) sysctl(key string) (value string, known bool) {
	value, known = k.read("sys/" + strings.ReplaceAll(key, ".", "/"))
	return strings.Join(strings.Fields(value), " "), known
}

// loaded tells whether a module is; known is false where the kernel does not say.
func (k kernel) loaded(module string) (yes, known bool) {
	text, known := k.read("modules")
	for line := range strings.Lines(text) {
		if name, _, _ := strings.Cut(line, " "); sameModule(name, module) {
			yes = true
		}
	}
	return yes, known
}

// argument tells whether the kernel was started with an argument.
func (k kernel) argument(arg string) (yes, known bool) {
	text, known := k.read("cmdline")
	return slices.Contains(strings.Fields(text), arg), known
}

// mounted are the options of what is mounted at a place, "" where nothing is; the last mount covers those before it.
func (k kernel) mounted(place string) (options string, known bool) {
	text, known := k.read("self/mountinfo")
	for _, m := range mountinfo.Parse(text) {
		if m.Point == place {
			options = strings.TrimSuffix(m.Options+","+m.Super, ",")
		}
	}
	return options, known
}

// inEffect adds to what is configured what is in effect: both must be as wanted.
func (o Observation) inEffect(seen string, wanted bool) Observation {
	if o.State != kiln.Satisfied && o.State != kiln.NotSatisfied {
		return o
	}
	o.Observed += "; in effect: " + seen
	o.Source = "file and running kernel"
	if !wanted {
		o.State = kiln.NotSatisfied
	}
	return o
}
