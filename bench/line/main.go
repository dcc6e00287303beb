// Command line measures whole builds of examples/nginx: the first, one with
// nothing changed, peak memory, and the size of the image's files against minbase
// plus nginx as mmdebstrap leaves it. It prints figures and judges nothing.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"kiln"
)

const runs = 5

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: line KILN RECIPE")
		os.Exit(2)
	}
	if err := bench(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "bench: "+err.Error())
		os.Exit(1)
	}
}

type usage struct {
	wall, cpu time.Duration
	maxRSS    int64 // KiB
	build     *kiln.Build
}

func bench(program, recipe string) error {
	dir, err := os.MkdirTemp("", "kiln-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	first, err := build(program, recipe, filepath.Join(dir, "state"), true)
	if err != nil {
		return err
	}
	fmt.Printf("first build       %6.2f s wall  %6.2f s CPU  peak %d MiB\n", first.wall.Seconds(), first.cpu.Seconds(), first.maxRSS>>10)
	var again []usage
	for range runs {
		u, err := build(program, recipe, filepath.Join(dir, "state"), false)
		if err != nil {
			return err
		}
		if !u.build.Unchanged {
			return errors.New("a build with nothing changed did not say so")
		}
		again = append(again, u)
	}
	slices.SortFunc(again, func(a, b usage) int { return int(a.cpu - b.cpu) })
	m := again[runs/2]
	fmt.Printf("nothing changed   %6.2f s wall  %6.2f s CPU  peak %d MiB  (median of %d; limit 2 s CPU)\n", m.wall.Seconds(), m.cpu.Seconds(), m.maxRSS>>10, runs)
	return sizes(first.build, filepath.Join(dir, "rival"))
}

func build(program, recipe, state string, keys bool) (usage, error) {
	env := append(os.Environ(), "KILN_STATE="+state, "KILN_KEY_PASSPHRASE=bench")
	if keys {
		cmd := exec.Command(program, "--quiet", "key", "new")
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			return usage{}, fmt.Errorf("making keys: %w: %s", err, out)
		}
	}
	cmd := exec.Command(program, "build", recipe, "--json")
	cmd.Env = env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		return usage{}, fmt.Errorf("building: %w", err)
	}
	u := usage{wall: time.Since(begin), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	u.maxRSS = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var e kiln.Event
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &e); err != nil || e.Result == nil {
		return u, fmt.Errorf("reading the result: %w", err)
	}
	u.build = e.Result
	return u, nil
}

// sizes compares bytes of regular files with what mmdebstrap leaves for the same software.
func sizes(b *kiln.Build, rival string) error {
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		fmt.Println("size              mmdebstrap is not installed: no comparison")
		return nil
	}
	out, err := exec.Command("mmdebstrap", "--variant=minbase", "--include=nginx", b.Lock.Release, rival).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mmdebstrap: %w: %s", err, out)
	}
	var total int64
	seen := map[uint64]bool{}
	err = filepath.WalkDir(rival, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st := info.Sys().(*syscall.Stat_t); !seen[st.Ino] {
			seen[st.Ino] = true
			total += info.Size()
		}
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Printf("size of files     %6.1f MiB  against %.1f MiB as mmdebstrap leaves minbase + nginx: %.2f x\n",
		float64(b.Artifact.Unpacked)/(1<<20), float64(total)/(1<<20), float64(b.Artifact.Unpacked)/float64(total))
	return nil
}
