package trial

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"kiln"
	"kiln/internal/sandbox"
)

// maxOutput is what is kept of a command's output, each stream.
const maxOutput = 1 << 20

// expressions compiles RE2 expressions; a dot matches a line only, ^ and $ are its ends.
func expressions(list []string) ([]*regexp.Regexp, error) {
	var out []*regexp.Regexp
	for _, s := range list {
		re, err := regexp.Compile("(?m:" + s + ")")
		if err != nil {
			return nil, fmt.Errorf("the expression %q: %w", s, err)
		}
		out = append(out, re)
	}
	return out, nil
}

func allMatch(list []*regexp.Regexp, b []byte) bool {
	for _, re := range list {
		if !re.Match(b) {
			return false
		}
	}
	return true
}

// run runs a command in the candidate.
func (t *trial) run(ctx context.Context, r kiln.RunTest) outcome {
	expected := expectedRun(r)
	stdout, err1 := expressions(r.Stdout)
	stderr, err2 := expressions(r.Stderr)
	if err := errors.Join(err1, err2); err != nil {
		return broken(expected, err)
	}
	who := t.who
	if r.User != "" {
		var err error
		if who, err = t.people.resolve(r.User); err != nil {
			return broken(expected, err)
		}
	}
	out, errs := &tail{max: maxOutput}, &tail{max: maxOutput}
	s := sandbox.ExecSpec{
		Args: r.Command, Env: merge(t.environment(t.in.Config.Env, who), r.Env), Dir: t.in.Config.WorkDir,
		UID: who.uid, GID: who.gid, Groups: who.groups, Stdout: out, Stderr: errs,
	}
	if r.Stdin != "" {
		s.Stdin = strings.NewReader(r.Stdin)
	}
	b, err := t.box(ctx)
	if err != nil {
		return outcome{kiln.Fail, expected, err.Error(), true}
	}
	result, err := b.Exec(ctx, s)
	if err != nil {
		return failed(expected, causeOf(ctx, err))
	}
	observed := ending(result)
	if result.ExitCode != r.Exit {
		return failed(expected, observed+said(out, errs))
	}
	for _, c := range []struct {
		name string
		want []*regexp.Regexp
		got  *tail
	}{{"standard output", stdout, out}, {"standard error", stderr, errs}} {
		for _, re := range c.want {
			if !re.MatchString(c.got.String()) {
				return failed(expected, fmt.Sprintf("%s, nothing in %s matches %s%s", observed, c.name, bare(re), said(out, errs)))
			}
		}
	}
	return passed(expected, observed)
}

// bare is an expression as its author wrote it.
func bare(re *regexp.Regexp) string {
	return strings.TrimSuffix(strings.TrimPrefix(re.String(), "(?m:"), ")")
}

func expectedRun(r kiln.RunTest) string {
	s := fmt.Sprintf("%s ends with exit code %d", strings.Join(r.Command, " "), r.Exit)
	for _, m := range r.Stdout {
		s += fmt.Sprintf(", output matching %q", m)
	}
	for _, m := range r.Stderr {
		s += fmt.Sprintf(", errors matching %q", m)
	}
	return s
}

// said shows the ends of what a command wrote.
func said(out, errs *tail) string {
	var s string
	for _, c := range []struct {
		name string
		t    *tail
	}{{"output", out}, {"errors", errs}} {
		text := strings.TrimSpace(c.t.String())
		if len(text) > 1000 {
			text = "..." + strings.ToValidUTF8(text[len(text)-1000:], "")
		}
		if text != "" {
			s += "; " + c.name + ": " + text
		}
	}
	return s
}

// merge sets variables in an environment.
func merge(env []string, set map[string]string) []string {
	out := make([]string, 0, len(env)+len(set))
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if _, replaced := set[name]; !replaced {
			out = append(out, e)
		}
	}
	for _, n := range sortedNames(set) {
		out = append(out, n+"="+set[n])
	}
	return out
}

// process counts processes by the name of their program.
func (t *trial) process(p kiln.ProcessTest) outcome {
	expected := expectedProcess(p)
	b, err := t.box(context.Background())
	if err != nil {
		return outcome{kiln.Fail, expected, err.Error(), true}
	}
	list, err := b.Processes()
	if err != nil {
		return failed(expected, err.Error())
	}
	var found, others []string
	n := 0
	for _, q := range list {
		s := fmt.Sprintf("%s (%d, user %s)", programName(q), q.PID, t.people.userName(q.UID))
		if !called(q, p.Name) {
			others = append(others, s)
			continue
		}
		found = append(found, s)
		if p.User == "" || t.isUser(q.UID, p.User) {
			n++
		}
	}
	observed := strings.Join(found, ", ")
	if len(found) == 0 {
		observed = "none; running: " + orElseString(strings.Join(others, ", "), "nothing")
	}
	ok := n > 0 && n == len(found)
	if p.Absent {
		ok = n == 0
	} else if p.Count > 0 {
		ok = n == p.Count && n == len(found)
	}
	if ok {
		return passed(expected, observed)
	}
	return failed(expected, observed)
}

func expectedProcess(p kiln.ProcessTest) string {
	s := "a process " + p.Name
	if p.Count > 0 {
		s = fmt.Sprintf("%d processes %s", p.Count, p.Name)
	}
	if p.Absent {
		s = "no process " + p.Name
	}
	if p.User != "" {
		s += ", all as user " + p.User
	}
	return s
}

// called tells whether a process is known by a name: that of its executable,
// of its first argument, or the kernel's short one.
func called(p sandbox.Process, name string) bool {
	if p.Name == name || filepath.Base(p.Exe) == name {
		return true
	}
	return len(p.Args) > 0 && path.Base(strings.TrimSuffix(firstWord(p.Args[0]), ":")) == name
}

// firstWord serves programs that write a title over their arguments ("nginx: master process").
func firstWord(s string) string {
	w, _, _ := strings.Cut(s, " ")
	return w
}

func programName(p sandbox.Process) string {
	if p.Exe != "" {
		return filepath.Base(p.Exe)
	}
	return p.Name
}

func (t *trial) isUser(uid int, name string) bool {
	who, err := t.people.user(name)
	return err == nil && who.uid == uid
}

// openInside opens a path as a program in the box would see it: absolute
// symbolic links are taken from the box's root, nothing leads outside.
func openInside(root, name string, flags uint64) (*os.File, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the candidate's root: %w", err)
	}
	defer func() { _ = unix.Close(dir) }()
	how := &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(dir, name, how)
	if err != nil {
		return nil, &os.PathError{Op: "opening", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// readInside reads a regular file of the box.
func readInside(root, name string, limit int64) ([]byte, error) {
	f, err := openInside(root, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	return data, err
}

var fileTypes = map[uint32]string{
	unix.S_IFREG: "file", unix.S_IFDIR: "directory", unix.S_IFLNK: "symlink", unix.S_IFSOCK: "socket", unix.S_IFIFO: "fifo",
	unix.S_IFCHR: "character device", unix.S_IFBLK: "block device",
}

// maxMatched is the largest file whose content is looked at.
const maxMatched = 64 << 20

// file looks at a path. With type symlink it is the link itself, else what it leads to.
func (t *trial) file(f kiln.FileTest) outcome {
	expected := expectedFile(f)
	match, err := expressions(f.Match)
	if err != nil {
		return broken(expected, err)
	}
	b, err := t.box(context.Background())
	if err != nil {
		return outcome{kiln.Fail, expected, err.Error(), true}
	}
	flags := uint64(unix.O_PATH)
	if f.Type == "symlink" || f.Absent {
		flags |= unix.O_NOFOLLOW
	}
	h, err := openInside(b.Root(), f.Path, flags)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		if f.Absent {
			return passed(expected, "absent")
		}
		return failed(expected, "no such file")
	}
	if err != nil {
		return failed(expected, err.Error())
	}
	defer func() { _ = h.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(h.Fd()), &st); err != nil {
		return failed(expected, err.Error())
	}
	observed := t.describeFile(&st)
	if f.Absent {
		return failed(expected, "there: "+observed)
	}
	if bad, err := t.attributesDiffer(f, &st); err != nil {
		return broken(expected, err)
	} else if bad {
		return failed(expected, observed)
	}
	return t.content(b, f, match, expected, observed)
}

// content compares what is in a file.
func (t *trial) content(b *sandbox.Box, f kiln.FileTest, match []*regexp.Regexp, expected, observed string) outcome {
	if len(match) == 0 && f.SHA256 == "" {
		return passed(expected, observed)
	}
	data, err := readInside(b.Root(), f.Path, maxMatched)
	if err != nil {
		return failed(expected, observed+"; reading it: "+err.Error())
	}
	if f.SHA256 != "" {
		sum := sha256.Sum256(data)
		want := strings.ToLower(strings.TrimPrefix(f.SHA256, "sha256:"))
		if got := hex.EncodeToString(sum[:]); got != want {
			return failed(expected, observed+", sha256 "+got)
		}
	}
	for _, re := range match {
		if !re.Match(data) {
			return failed(expected, observed+", in which nothing matches "+bare(re)+excerpt(bytes.TrimSpace(data)))
		}
	}
	return passed(expected, observed)
}

func (t *trial) describeFile(st *unix.Stat_t) string {
	return fmt.Sprintf("%s %04o %s:%s", fileTypes[st.Mode&unix.S_IFMT], st.Mode&0o7777, t.people.userName(int(st.Uid)), t.people.groupName(int(st.Gid)))
}

// attributesDiffer compares type, mode and owners.
func (t *trial) attributesDiffer(f kiln.FileTest, st *unix.Stat_t) (bool, error) {
	if f.Type != "" && fileTypes[st.Mode&unix.S_IFMT] != f.Type {
		return true, nil
	}
	if f.Mode != "" {
		mode, err := strconv.ParseUint(f.Mode, 8, 32)
		if err != nil || mode > 0o7777 {
			return false, fmt.Errorf("%q is no mode; modes look like 0644", f.Mode)
		}
		if uint32(mode) != st.Mode&0o7777 {
			return true, nil
		}
	}
	if f.Owner != "" {
		who, err := t.people.user(f.Owner)
		if err != nil {
			return false, err
		}
		if who.uid != int(st.Uid) {
			return true, nil
		}
	}
	if f.Group != "" {
		gid, err := t.people.group(f.Group)
		if err != nil {
			return false, err
		}
		if gid != int(st.Gid) {
			return true, nil
		}
	}
	return false, nil
}

func expectedFile(f kiln.FileTest) string {
	if f.Absent {
		return f.Path + " is absent"
	}
	s := []string{f.Path + " exists"}
	for _, c := range []struct{ what, value string }{
		{"type ", f.Type}, {"mode ", f.Mode}, {"owner ", f.Owner}, {"group ", f.Group}, {"sha256 ", f.SHA256},
	} {
		if c.value != "" {
			s = append(s, c.what+c.value)
		}
	}
	for _, m := range f.Match {
		s = append(s, fmt.Sprintf("content matching %q", m))
	}
	return strings.Join(s, ", ")
}
