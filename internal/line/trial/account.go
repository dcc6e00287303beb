package trial

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// identity is whom a program runs as.
type identity struct {
	uid, gid int
	groups   []int
	home     string
}

// accounts are the users and groups of a tree.
type accounts struct {
	users  map[string]identity
	groups map[string]int
	member map[string][]int // groups that list a user
}

// maxAccountFile bounds passwd and group.
const maxAccountFile = 4 << 20

// readAccounts reads etc/passwd and etc/group of the topmost layer that has
// them. A tree without them has numbers only.
func readAccounts(layers []string) (*accounts, error) {
	a := &accounts{users: map[string]identity{}, groups: map[string]int{}, member: map[string][]int{}}
	err := readLines(layers, "etc/group", func(f []string) {
		gid, err := strconv.Atoi(f[2])
		if len(f) < 4 || err != nil {
			return
		}
		a.groups[f[0]] = gid
		for m := range strings.SplitSeq(f[3], ",") {
			a.member[m] = append(a.member[m], gid)
		}
	})
	if err != nil {
		return nil, err
	}
	return a, readLines(layers, "etc/passwd", func(f []string) {
		uid, err1 := strconv.Atoi(f[2])
		if len(f) < 6 || err1 != nil {
			return
		}
		gid, err2 := strconv.Atoi(f[3])
		if _, twice := a.users[f[0]]; err2 == nil && !twice {
			a.users[f[0]] = identity{uid: uid, gid: gid, groups: a.member[f[0]], home: f[5]}
		}
	})
}

// readLines calls fn with the fields of each line that has at least three.
func readLines(layers []string, name string, fn func([]string)) error {
	for _, l := range layers {
		root, err := os.OpenRoot(l)
		if err != nil {
			return err
		}
		data, err := readRegular(root, name)
		_ = root.Close()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading /%s of the tree: %w", name, err)
		}
		s := bufio.NewScanner(strings.NewReader(string(data)))
		for s.Scan() {
			if f := strings.Split(s.Text(), ":"); len(f) >= 3 {
				fn(f)
			}
		}
		return nil
	}
	return nil
}

// readRegular reads a file of a tree, if it is one: a pipe would block.
func readRegular(root *os.Root, name string) ([]byte, error) {
	st, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxAccountFile {
		return nil, errors.New("not a regular file of at most 4 MiB")
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxAccountFile))
}

// resolve reads "user", "uid", "user:group" in any mixture; empty is root.
func (a *accounts) resolve(spec string) (identity, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	who, err := a.user(name)
	if err != nil {
		return identity{}, err
	}
	if hasGroup {
		if who.gid, err = a.group(group); err != nil {
			return identity{}, err
		}
		who.groups = nil
	}
	return who, nil
}

func (a *accounts) user(name string) (identity, error) {
	if name == "" {
		name = "0"
	}
	if who, ok := a.users[name]; ok {
		return who, nil
	}
	uid, err := strconv.Atoi(name)
	if err != nil || uid < 0 {
		return identity{}, fmt.Errorf("no user %q in /etc/passwd of the image", name)
	}
	for _, n := range sortedNames(a.users) {
		if who := a.users[n]; who.uid == uid {
			return who, nil
		}
	}
	return identity{uid: uid, home: "/"}, nil
}

func (a *accounts) group(name string) (int, error) {
	if gid, ok := a.groups[name]; ok {
		return gid, nil
	}
	gid, err := strconv.Atoi(name)
	if err != nil || gid < 0 {
		return 0, fmt.Errorf("no group %q in /etc/group of the image", name)
	}
	return gid, nil
}

// userName names a uid; the number if nobody has it.
func (a *accounts) userName(uid int) string {
	for _, n := range sortedNames(a.users) {
		if a.users[n].uid == uid {
			return n
		}
	}
	return strconv.Itoa(uid)
}

func (a *accounts) groupName(gid int) string {
	for _, n := range sortedNames(a.groups) {
		if a.groups[n] == gid {
			return n
		}
	}
	return strconv.Itoa(gid)
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
