package component

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"kiln/internal/strictyaml"
)

// field is one input of an action.
type field struct {
	required bool
	kind     fieldKind
}

type fieldKind int

const (
	anyText fieldKind = iota
	aBool
	texts      // a list of texts
	parameters // a list of {name, value}
)

// action is what one action module takes. run is called with resolved inputs:
// one mapping, or for file actions one for each item of the list.
type action struct {
	fields map[string]field
	list   bool // inputs is a list of mappings
	run    func(*run, input) error
}

// actions are all that run here. The map is filled in init order by the files
// that implement them, so it is a function rather than a variable.
func actions() map[string]action {
	required, optional, flag := field{required: true}, field{}, field{kind: aBool}
	owned := map[string]field{"path": required, "owner": required, "group": optional}
	moved := map[string]field{"source": required, "destination": required, "overwrite": flag}
	return map[string]action{
		"ExecuteBash":   {fields: map[string]field{"commands": {true, texts}}, run: (*run).executeBash},
		"ExecuteBinary": {fields: map[string]field{"path": required, "arguments": {false, texts}}, run: (*run).executeBinary},
		"ExecuteDocument": {fields: map[string]field{
			"document": required, "document-s3-bucket-owner": optional, "phases": optional, "parameters": {false, parameters},
		}, run: (*run).executeDocument},
		"CreateFile": {list: true, fields: map[string]field{
			"path": required, "content": optional, "encoding": optional, "owner": optional, "group": optional, "permissions": optional, "overwrite": flag,
		}, run: (*run).createFile},
		"AppendFile":           {list: true, fields: map[string]field{"path": required, "content": optional, "encoding": optional}, run: (*run).appendFile},
		"CreateFolder":         {list: true, fields: map[string]field{"path": required, "owner": optional, "group": optional, "permissions": optional, "overwrite": flag}, run: (*run).createFolder},
		"CreateSymlink":        {list: true, fields: map[string]field{"path": required, "target": required, "force": flag}, run: (*run).createSymlink},
		"CopyFile":             {list: true, fields: moved, run: (*run).copyFile},
		"CopyFolder":           {list: true, fields: moved, run: (*run).copyFolder},
		"MoveFile":             {list: true, fields: moved, run: (*run).moveFile},
		"MoveFolder":           {list: true, fields: moved, run: (*run).moveFolder},
		"DeleteFile":           {list: true, fields: map[string]field{"path": required}, run: (*run).deleteFile},
		"DeleteFolder":         {list: true, fields: map[string]field{"path": required, "force": flag}, run: (*run).deleteFolder},
		"ListFiles":            {list: true, fields: map[string]field{"path": required, "fileNamePattern": optional, "recursive": flag}, run: (*run).listFiles},
		"ReadFile":             {list: true, fields: map[string]field{"path": required, "encoding": optional, "printFileContent": flag}, run: (*run).readFile},
		"SetFileEncoding":      {list: true, fields: map[string]field{"path": required, "encoding": optional}, run: (*run).setFileEncoding},
		"SetFileOwner":         {list: true, fields: owned, run: (*run).setFileOwner},
		"SetFolderOwner":       {list: true, fields: map[string]field{"path": required, "owner": required, "group": optional, "recursive": flag}, run: (*run).setFolderOwner},
		"SetFilePermissions":   {list: true, fields: map[string]field{"path": required, "permissions": required}, run: (*run).setFilePermissions},
		"SetFolderPermissions": {list: true, fields: map[string]field{"path": required, "permissions": required, "recursive": flag}, run: (*run).setFolderPermissions},
	}
}

// refused are the actions that make no sense in an image, with the reason and the remedy.
var refused = map[string][2]string{
	"Reboot":            {"a container image is never booted, so it cannot reboot", "remove the step; what comes after a reboot belongs to the test phase"},
	"UpdateOS":          {"packages are taken from signed archives and locked, never updated inside a build", "remove the step; kiln update takes the newest versions into the lock"},
	"S3Download":        {"a build has no cloud credentials", "put the file beside the recipe and use files: {source: ...}"},
	"S3Upload":          {"a build has no cloud credentials", "name where the image goes under outputs:"},
	"WebDownload":       {"a build has no network, and what is downloaded is not in the lock", "put the file beside the recipe and use files: {source: ...}, or a run step with network: true"},
	"ExecutePowerShell": {"PowerShell runs on Windows, and images here are Linux", "use ExecuteBash"},
	"SetRegistry":       {"the registry is a part of Windows, and images here are Linux", "remove the step"},
	"InstallMSI":        {"MSI packages are for Windows, and images here are Linux", "name a Debian package under packages:"},
	"UninstallMSI":      {"MSI packages are for Windows, and images here are Linux", "name a Debian package under hardening.remove.packages:"},
}

// Actions returns the names of the actions that run here, sorted.
func Actions() []string {
	names := []string{"Assert"}
	for name := range actions() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// action checks a step's action and inputs as far as they can be known now.
func (r *reader) action(path string, n *strictyaml.Node, s *Step) {
	at := n
	if v := n.Get("action"); v != nil {
		at = v
	}
	if why, is := refused[s.Action]; is {
		r.fail(at, path+".action", s.Action+" is refused: "+why[0], why[1])
		return
	}
	a, known := actions()[s.Action]
	switch {
	case s.Action == "Assert":
		r.assert(path, n, s)
		return
	case !known:
		hint := "known are " + strings.Join(Actions(), ", ")
		if near := strictyaml.Nearest(s.Action, Actions()); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		}
		r.fail(at, path+".action", fmt.Sprintf("unknown action %q", strictyaml.Clip(s.Action, 60)), hint)
		return
	case s.inputs == nil:
		r.fail(n, path+".inputs", "is missing", "")
		return
	}
	if s.Action == "ExecuteDocument" {
		r.nested(path, n, s)
	}
	if !a.list {
		r.inputs(path+".inputs", s.inputs, a)
		return
	}
	if s.inputs.Kind == strictyaml.Mapping { // one item, written without the dash
		s.inputs = &strictyaml.Node{Kind: strictyaml.Sequence, Line: s.inputs.Line, Column: s.inputs.Column, Items: []*strictyaml.Node{s.inputs}}
	}
	if s.inputs.Kind == strictyaml.Sequence && len(s.inputs.Items) == 0 {
		r.fail(s.inputs, path+".inputs", "is empty", "")
	}
	r.items(s.inputs, path+".inputs", func(at string, v *strictyaml.Node) { r.inputs(at, v, a) })
}

// nested keeps the limits of ExecuteDocument: it runs once, and without a time limit of its own.
func (r *reader) nested(path string, n *strictyaml.Node, s *Step) {
	if s.MaxAttempts != 1 {
		r.fail(n, path+".maxAttempts", "ExecuteDocument runs once", "remove maxAttempts")
	}
	if n.Get("timeoutSeconds") != nil && s.Timeout >= 0 {
		r.fail(n, path+".timeoutSeconds", "ExecuteDocument has no time limit of its own", "remove timeoutSeconds")
	}
	s.Timeout = -1
	document := s.inputs.Get("document")
	if document == nil || strings.Contains(document.Text, "{{") {
		return
	}
	if err := checkDocument(document.Text); err != nil {
		r.fail(document, path+".inputs.document", err.Error(), "put the document beside this one and name it by its path")
	}
}

// localDocument takes the file:// off a document's path.
func localDocument(p string) string { return strings.TrimPrefix(p, "file://") }

func checkDocument(p string) error {
	local := localDocument(p)
	switch {
	case strings.Contains(local, "://") || strings.HasPrefix(local, "arn:"):
		return fmt.Errorf("%s is not a local file; a build has no cloud credentials", strictyaml.Clip(p, 80))
	case local == "" || path.IsAbs(local) || path.Clean(local) == ".." || strings.HasPrefix(path.Clean(local), "../"):
		return fmt.Errorf("%s is not beside this document", strictyaml.Clip(p, 80))
	}
	return nil
}

func (r *reader) inputs(path string, n *strictyaml.Node, a action) {
	known := make([]string, 0, len(a.fields))
	for name := range a.fields {
		known = append(known, name)
	}
	slices.Sort(known)
	r.fields(n, path, known, func(key string, v *strictyaml.Node) { r.input(path+"."+key, v, a.fields[key].kind) })
	for _, name := range known {
		if a.fields[name].required && n.Kind == strictyaml.Mapping && n.Get(name) == nil {
			r.fail(n, path+"."+name, "is missing", "")
		}
	}
}

func (r *reader) input(path string, v *strictyaml.Node, kind fieldKind) {
	switch kind {
	case texts:
		if v.Scalar() { // one command written without the dash
			return
		}
		r.items(v, path, func(at string, item *strictyaml.Node) { r.text(item, at) })
	case parameters:
		r.items(v, path, func(at string, item *strictyaml.Node) {
			r.fields(item, at, []string{"name", "value"}, func(key string, v *strictyaml.Node) { r.text(v, at+"."+key) })
		})
	case aBool:
		if v.Kind != strictyaml.Bool && !strings.Contains(v.Text, "{{") && v.Text != "true" && v.Text != "false" {
			r.fail(v, path, "must be true or false", "")
		}
	default:
		r.text(v, path)
		windows := len(v.Text) > 2 && v.Text[1] == ':' && v.Text[2] == '\\'
		if windows && (strings.HasSuffix(path, ".path") || strings.HasSuffix(path, ".source") || strings.HasSuffix(path, ".destination")) {
			r.fail(v, path, "is a Windows path, and images here are Linux", "")
		}
	}
}
