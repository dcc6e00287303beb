package assemble

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"kiln"
)

const (
	// System ids that programs may take, as Debian Policy 9.2.2 has them.
	firstSystemID, lastSystemID = 100, 999
	maxID                       = 1<<32 - 2
	noShell                     = "/usr/sbin/nologin"
	noHome                      = "/nonexistent"
	homeMode                    = 0o750
)

var accountName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,30}[a-z0-9_$-]?$`)

// table is one account file: lines of fields separated by colons. Lines that
// it does not understand stay as they are.
type table struct {
	name  string
	lines []string
	there bool // the file exists
}

func readTableOf(at *place, name string) (*table, error) {
	data, err := at.read(name, maxAccounts)
	if notExist(err) {
		return &table{name: name}, nil
	}
	if err != nil {
		return nil, err
	}
	t := &table{name: name, there: true}
	if text := strings.TrimRight(string(data), "\n"); text != "" {
		t.lines = strings.Split(text, "\n")
	}
	return t, nil
}

// find returns the fields of the first line for name, or nil.
func (t *table) find(name string) []string {
	for _, l := range t.lines {
		if f := strings.Split(l, ":"); f[0] == name {
			return f
		}
	}
	return nil
}

// byID returns the fields of the first line whose third field is id, or nil.
func (t *table) byID(id int) []string {
	for _, l := range t.lines {
		if f := strings.Split(l, ":"); len(f) > 2 && f[2] == strconv.Itoa(id) {
			return f
		}
	}
	return nil
}

func (t *table) add(fields ...string) { t.lines = append(t.lines, strings.Join(fields, ":")) }

// join adds member to the list that is the last field of name's line.
func (t *table) join(name, member string) {
	for i, l := range t.lines {
		f := strings.Split(l, ":")
		if f[0] != name || len(f) < 2 {
			continue
		}
		members := strings.Split(f[len(f)-1], ",")
		if f[len(f)-1] == "" {
			members = nil
		}
		if !slices.Contains(members, member) {
			f[len(f)-1] = strings.Join(append(members, member), ",")
			t.lines[i] = strings.Join(f, ":")
		}
		return
	}
}

func (t *table) bytes() []byte {
	var b bytes.Buffer
	for _, l := range t.lines {
		b.WriteString(l + "\n")
	}
	return b.Bytes()
}

// accounts are the tree's users and groups, changed in memory and saved at once.
type accounts struct {
	at                             *place
	passwd, group, shadow, gshadow *table
	day                            string // of the last password change, as shadow counts
	homes                          []home
	changed                        bool
}

type home struct {
	path     string
	uid, gid int
}

func readAccounts(at *place, epoch int64) (*accounts, error) {
	a := &accounts{at: at, day: strconv.FormatInt(epoch/86400, 10)}
	for name, t := range map[string]**table{"passwd": &a.passwd, "group": &a.group, "shadow": &a.shadow, "gshadow": &a.gshadow} {
		var err error
		if *t, err = readTableOf(at, "etc/"+name); err != nil {
			return nil, fmt.Errorf("reading accounts: %w", err)
		}
	}
	return a, nil
}

// create adds the recipe's groups and users. One that exists already as asked
// for is no error; one that differs is.
func (a *accounts) create(r *kiln.Recipe) error {
	for i, g := range r.Groups {
		if _, err := a.addGroup(g.Name, g.GID); err != nil {
			return fmt.Errorf("groups[%d]: %w", i, err)
		}
	}
	for i, u := range r.Users {
		if err := a.addUser(u); err != nil {
			return fmt.Errorf("users[%d]: %w", i, err)
		}
	}
	return a.save()
}

func checkAccountName(what, name string) error {
	if !accountName.MatchString(name) {
		return fmt.Errorf("%s name %.40q: it is 1 to 32 of a-z 0-9 _ -, and begins with a letter or _", what, name)
	}
	return nil
}

func (a *accounts) addGroup(name string, want *int) (gid int, err error) {
	if err := checkAccountName("group", name); err != nil {
		return 0, err
	}
	if f := a.group.find(name); f != nil {
		gid, err := idOf(f)
		if err == nil && want != nil && *want != gid {
			err = fmt.Errorf("group %s exists with gid %d, the recipe wants %d", name, gid, *want)
		}
		return gid, err
	}
	if want != nil {
		gid = *want
		if f := a.group.byID(gid); f != nil {
			return 0, fmt.Errorf("gid %d of group %s belongs to group %s already", gid, name, f[0])
		}
	} else if gid, err = a.freeID(); err != nil {
		return 0, fmt.Errorf("group %s: %w", name, err)
	}
	if gid < 0 || gid > maxID {
		return 0, fmt.Errorf("gid %d of group %s is not between 0 and %d", gid, name, int64(maxID))
	}
	a.changed = true
	a.group.add(name, "x", strconv.Itoa(gid), "")
	if a.gshadow.there {
		a.gshadow.add(name, "!", "", "")
	}
	return gid, nil
}

// freeID returns the lowest system id that neither a user nor a group has.
func (a *accounts) freeID() (int, error) {
	for id := firstSystemID; id <= lastSystemID; id++ {
		if a.passwd.byID(id) == nil && a.group.byID(id) == nil {
			return id, nil
		}
	}
	return 0, fmt.Errorf("no system id between %d and %d is free", firstSystemID, lastSystemID)
}

func idOf(fields []string) (int, error) {
	if len(fields) < 3 {
		return 0, fmt.Errorf("the line of %s has no id", fields[0])
	}
	id, err := strconv.Atoi(fields[2])
	if err != nil {
		return 0, fmt.Errorf("the id of %s is %.20q", fields[0], fields[2])
	}
	return id, nil
}

func (a *accounts) addUser(u kiln.UserSpec) error {
	if err := checkAccountName("user", u.Name); err != nil {
		return err
	}
	for _, p := range []string{u.Home, u.Shell} {
		if p != "" && (!strings.HasPrefix(p, "/") || strings.ContainsAny(p, ":\n\x00")) {
			return fmt.Errorf("user %s: %.60q is not an absolute path without colons", u.Name, p)
		}
	}
	if f := a.passwd.find(u.Name); f != nil {
		if err := a.sameUser(u, f); err != nil {
			return err
		}
	} else if err := a.newUser(u); err != nil {
		return err
	}
	for _, g := range u.Groups {
		if a.group.find(g) == nil {
			return fmt.Errorf("user %s: group %.40q does not exist; add it under groups", u.Name, g)
		}
		a.changed = true
		a.group.join(g, u.Name)
		a.gshadow.join(g, u.Name)
	}
	return nil
}

// sameUser checks that an existing user is what the recipe asks for.
func (a *accounts) sameUser(u kiln.UserSpec, f []string) error {
	if len(f) < 7 {
		return fmt.Errorf("user %s exists, but its line in /etc/passwd is damaged", u.Name)
	}
	differ := func(what, is, want string) error {
		return fmt.Errorf("user %s exists with %s %s, the recipe wants %s", u.Name, what, is, want)
	}
	switch {
	case u.UID != nil && strconv.Itoa(*u.UID) != f[2]:
		return differ("uid", f[2], strconv.Itoa(*u.UID))
	case u.Home != "" && u.Home != f[5]:
		return differ("home", f[5], u.Home)
	case u.Shell != "" && u.Shell != f[6]:
		return differ("shell", f[6], u.Shell)
	case u.Group != "":
		if g := a.group.find(u.Group); len(g) < 3 || g[2] != f[3] {
			return differ("gid", f[3], "group "+u.Group)
		}
	}
	return nil
}

func (a *accounts) newUser(u kiln.UserSpec) error {
	uid, err := a.newUID(u)
	if err != nil {
		return err
	}
	gid, err := a.primaryGroup(u, uid)
	if err != nil {
		return fmt.Errorf("user %s: %w", u.Name, err)
	}
	dir, shell, password := or(u.Home, noHome), or(u.Shell, noShell), "x"
	if !a.shadow.there {
		password = "!" // no shadow file to look it up in
	} else {
		a.shadow.add(u.Name, "!", a.day, "", "", "", "", "", "")
	}
	a.changed = true
	a.passwd.add(u.Name, password, strconv.Itoa(uid), strconv.Itoa(gid), "", dir, shell)
	if u.Home != "" && u.Home != noHome {
		a.homes = append(a.homes, home{u.Home, uid, gid})
	}
	return nil
}

func (a *accounts) newUID(u kiln.UserSpec) (int, error) {
	if u.UID == nil {
		return a.freeID()
	}
	if *u.UID < 0 || *u.UID > maxID {
		return 0, fmt.Errorf("user %s: uid %d is not between 0 and %d", u.Name, *u.UID, int64(maxID))
	}
	if f := a.passwd.byID(*u.UID); f != nil {
		return 0, fmt.Errorf("uid %d of user %s belongs to user %s already", *u.UID, u.Name, f[0])
	}
	return *u.UID, nil
}

// primaryGroup is the group asked for, else one of the user's own name, made with the user's number if it is free.
func (a *accounts) primaryGroup(u kiln.UserSpec, uid int) (int, error) {
	if u.Group != "" {
		f := a.group.find(u.Group)
		if f == nil {
			return 0, fmt.Errorf("group %.40q does not exist; add it under groups", u.Group)
		}
		return idOf(f)
	}
	if f := a.group.find(u.Name); f != nil {
		return idOf(f)
	}
	if a.group.byID(uid) != nil {
		return a.addGroup(u.Name, nil)
	}
	return a.addGroup(u.Name, &uid)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// save writes the tables back, each with the mode and owner that it had, and makes missing homes.
func (a *accounts) save() error {
	if !a.changed {
		return nil
	}
	for _, t := range []*table{a.passwd, a.group, a.shadow, a.gshadow} {
		if !t.there && (t == a.shadow || t == a.gshadow) {
			continue
		}
		if err := a.at.rewrite(t.name, t.bytes(), 0o644); err != nil {
			return err
		}
	}
	for _, h := range a.homes {
		if err := makeHome(a.at, h); err != nil {
			return fmt.Errorf("making home %s: %w", h.path, err)
		}
	}
	return nil
}

// makeHome makes a home directory; one that is there already stays as it is.
func makeHome(at *place, h home) error {
	name, err := at.resolve(strings.TrimPrefix(h.path, "/"))
	if err != nil {
		return err
	}
	switch st, err := at.lstat(name); {
	case err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return errors.New("something that is no directory is there")
	case err == nil:
		return nil
	case !notExist(err):
		return err
	}
	fd, err := at.dir(name, true)
	if err != nil {
		return err
	}
	return setDir(fd, dirClaim{mode: homeMode, uid: h.uid, gid: h.gid})
}

// id returns the number of an account given by name or number.
func (t *table) id(what, s string) (int, error) {
	if f := t.find(s); f != nil {
		return idOf(f)
	}
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n <= maxID {
		return n, nil
	}
	return 0, fmt.Errorf("%s %.40q does not exist in the image; add it to the recipe or give a number", what, s)
}

// ownerOf gives the numbers for a file's owner and group. A group that is not
// given is the owner's primary one, or has the owner's number when no such user exists.
func (a *accounts) ownerOf(owner, group string) (uid, gid int, err error) {
	if owner != "" {
		if uid, err = a.passwd.id("owner", owner); err != nil {
			return 0, 0, err
		}
		gid = uid
		if f := a.passwd.byID(uid); len(f) > 3 {
			if n, err := strconv.Atoi(f[3]); err == nil {
				gid = n
			}
		}
	}
	if group != "" {
		gid, err = a.group.id("group", group)
	}
	return uid, gid, err
}
