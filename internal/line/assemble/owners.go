package assemble

import (
	"archive/tar"
	"strconv"
	"strings"
)

// maxAccounts bounds passwd and group files.
const maxAccounts = 8 << 20

// owners maps the names in a package to the tree's numbers, as dpkg does; a
// name that the tree does not have keeps the number in the package.
type owners struct {
	users, groups map[string]int
}

// readOwners reads etc/passwd and etc/group; missing files give no names.
func readOwners(at *place) (*owners, error) {
	o := &owners{}
	var err error
	if o.users, err = readIDs(at, "etc/passwd"); err != nil {
		return nil, err
	}
	o.groups, err = readIDs(at, "etc/group")
	return o, err
}

func readIDs(at *place, name string) (map[string]int, error) {
	ids := map[string]int{}
	data, err := at.read(name, maxAccounts)
	if notExist(err) {
		return ids, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 3 {
			continue
		}
		if id, err := strconv.Atoi(f[2]); err == nil && id >= 0 {
			if _, twice := ids[f[0]]; !twice {
				ids[f[0]] = id
			}
		}
	}
	return ids, nil
}

func (o *owners) of(h *tar.Header) (uid, gid int) {
	uid, gid = h.Uid, h.Gid
	if id, ok := o.users[h.Uname]; ok && h.Uname != "" {
		uid = id
	}
	if id, ok := o.groups[h.Gname]; ok && h.Gname != "" {
		gid = id
	}
	return uid, gid
}
