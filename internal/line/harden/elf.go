package harden

import (
	"bytes"
	"debug/elf"
	"path"
	"strings"
)

// libraries returns the shared libraries that the ELF program at q names, as
// paths of the tree; nothing for other files. A hostile file gives fewer, never a failure.
func (s *Subject) libraries(q string) []string {
	e := s.index[q]
	if e == nil || (e.Type != 'f' && e.Type != 'h') || !bytes.Equal(s.head(q, 4), []byte(elf.ELFMAG)) {
		return nil
	}
	f, err := s.open(q)
	if err != nil {
		return nil
	}
	defer f.Close()
	program, err := elf.NewFile(f)
	if err != nil {
		return nil
	}
	names, err := program.ImportedLibraries()
	if err != nil {
		return nil
	}
	var out []string
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < 4096 {
			buf := make([]byte, p.Filesz)
			if n, _ := p.ReadAt(buf, 0); n > 0 {
				if at, ok := s.resolve(strings.TrimRight(string(buf[:n]), "\x00")); ok {
					out = append(out, at)
				}
			}
		}
	}
	for _, name := range names {
		if at, ok := s.library(name); ok {
			out = append(out, at)
		}
	}
	return out
}

// library finds a shared library by its name in the places where the loader looks.
func (s *Subject) library(name string) (string, bool) {
	dirs := []string{"usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "usr/lib", "lib", "lib64", "usr/lib64", "usr/local/lib"}
	for _, d := range dirs {
		if at, ok := s.canonical(path.Join(d, path.Base(name))); ok {
			return at, true
		}
	}
	return "", false
}
