package scan

import (
	"bytes"
	"compress/zlib"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"kiln"
)

const maxAuditable = 8 << 20

// program reads what Go and cargo-auditable leave in executables.
func program(f io.ReaderAt, _ string, _ int64) (found []kiln.Component, err error) {
	var magic [4]byte
	if _, err := f.ReadAt(magic[:], 0); err != nil || string(magic[:]) != elf.ELFMAG {
		return nil, errNotMine
	}
	e, err := elf.NewFile(f)
	if err != nil {
		return nil, errNotMine // the kernel would not run it either
	}
	for _, s := range e.Sections {
		switch s.Name {
		case ".go.buildinfo":
			return goProgram(f)
		case ".dep-v0":
			return rustProgram(s)
		}
	}
	return nil, errNotMine
}

func goProgram(f io.ReaderAt) ([]kiln.Component, error) {
	info, err := buildinfo.Read(f)
	if err != nil {
		return nil, fmt.Errorf("reading Go build information: %w", err)
	}
	version, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ")
	var out, needs []kiln.Component
	if plain(version) {
		needs = append(needs, component("golang", "", "stdlib", "stdlib", version, nil))
	}
	for _, m := range info.Deps {
		if c, ok := goModule(m); ok {
			needs = append(needs, c)
		}
	}
	if c, ok := goModule(&info.Main); ok {
		for _, n := range needs {
			c.DependsOn = append(c.DependsOn, n.PURL)
		}
		c.DependsOn = union(c.DependsOn, nil)
		out = append(out, c)
	}
	return append(out, needs...), nil
}

// goModule names a module as it was built: a replacement counts unless it is a directory, which has no version.
func goModule(m *debug.Module) (kiln.Component, bool) {
	if m.Replace != nil && m.Replace.Version != "" {
		m = m.Replace
	}
	if !plain(m.Path) {
		return kiln.Component{}, false
	}
	version := m.Version
	if version == "(devel)" || !plain(version) {
		version = ""
	}
	namespace, name := "", m.Path
	if i := strings.LastIndexByte(m.Path, '/'); i >= 0 {
		namespace, name = m.Path[:i], m.Path[i+1:]
	}
	return component("golang", namespace, name, m.Path, version, nil), true
}

// rustProgram reads the dependency list that cargo-auditable stores.
func rustProgram(s *elf.Section) ([]kiln.Component, error) {
	z, err := zlib.NewReader(s.Open())
	if err != nil {
		return nil, fmt.Errorf("reading Rust dependency list: %w", err)
	}
	text, err := readAll(z, maxAuditable)
	if err != nil {
		return nil, fmt.Errorf("reading Rust dependency list: %w", err)
	}
	var list struct {
		Packages []struct {
			Name         string `json:"name"`
			Version      string `json:"version"`
			Kind         string `json:"kind"`
			Root         bool   `json:"root"`
			Dependencies []int  `json:"dependencies"`
		} `json:"packages"`
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&list); err != nil {
		return nil, fmt.Errorf("reading Rust dependency list: %w", err)
	}
	all := make([]kiln.Component, len(list.Packages))
	for i, p := range list.Packages {
		if !plain(p.Name) || !plain(p.Version) {
			return nil, errors.New("reading Rust dependency list: a crate has no proper name and version")
		}
		all[i] = component("cargo", "", p.Name, p.Name, p.Version, nil)
	}
	var out []kiln.Component
	for i, p := range list.Packages {
		if p.Kind == "build" {
			continue
		}
		for _, d := range p.Dependencies {
			if d >= 0 && d < len(all) {
				all[i].DependsOn = append(all[i].DependsOn, all[d].PURL)
			}
		}
		all[i].DependsOn = union(all[i].DependsOn, nil)
		out = append(out, all[i])
	}
	return out, nil
}
