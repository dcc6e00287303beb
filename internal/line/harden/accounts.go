package harden

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// table is one of the account files: lines of fields with colons between.
// Lines of another form (comments, NIS entries) are kept as they are.
type table struct {
	file   string
	fields int
	rows   [][]string // a row of another form has one field
}

// Field positions that several rules use.
const (
	fName, fPassword            = 0, 1
	fUID, fGID, fHome, fShell   = 2, 3, 5, 6 // passwd
	fGroupID, fMembers          = 2, 3       // group
	fChanged, fMin, fMax, fIdle = 2, 3, 4, 6 // shadow
)

var tableFields = map[string]int{"etc/passwd": 7, "etc/shadow": 9, "etc/group": 4, "etc/gshadow": 4}

// table reads an account file; a file that is missing is an empty table.
func (s *Subject) table(file string) *table {
	t := &table{file: file, fields: tableFields[file]}
	data, err := s.read(file)
	if err != nil {
		return t
	}
	for line := range strings.Lines(string(data)) {
		t.rows = append(t.rows, strings.Split(strings.TrimRight(line, "\n"), ":"))
	}
	return t
}

// entries returns the rows of the file's form; changes to their fields are the table's.
func (t *table) entries() [][]string {
	out := make([][]string, 0, len(t.rows))
	for _, r := range t.rows {
		if len(r) == t.fields && r[fName] != "" && !strings.HasPrefix(r[fName], "#") {
			out = append(out, r)
		}
	}
	return out
}

func (t *table) find(name string) []string {
	for _, r := range t.entries() {
		if r[fName] == name {
			return r
		}
	}
	return nil
}

func (t *table) drop(gone func(row []string) bool) {
	t.rows = slices.DeleteFunc(t.rows, func(r []string) bool { return len(r) == t.fields && gone(r) })
}

// saveAll writes tables that belong together, once it is sure that each can be written.
func (s *Subject) saveAll(tables ...*table) error {
	for _, t := range tables {
		if err := s.editable(t.file); err != nil {
			return err
		}
	}
	for _, t := range tables {
		if err := s.save(t); err != nil {
			return err
		}
	}
	return nil
}

func (s *Subject) save(t *table) error {
	if s.lookup(t.file) == nil {
		return s.editable(t.file)
	}
	var b strings.Builder
	for _, r := range t.rows {
		b.WriteString(strings.Join(r, ":") + "\n")
	}
	mode := uint32(0o644)
	if strings.HasSuffix(t.file, "shadow") {
		mode = 0o640
	}
	return s.write(t.file, []byte(b.String()), mode)
}

// register is an account file as it is looked up: by name, and which ids it has. It is read once until the tree changes.
type register struct {
	byName map[string][]string
	ids    map[int]bool
}

func (s *Subject) register(file string) *register {
	if r := s.registers[file]; r != nil {
		return r
	}
	r := &register{map[string][]string{}, map[int]bool{}}
	for _, row := range s.table(file).entries() {
		if r.byName[row[fName]] == nil { // the first entry of a name counts
			r.byName[row[fName]] = row
		}
		if id, err := strconv.Atoi(row[2]); err == nil {
			r.ids[id] = true
		}
	}
	if s.registers == nil {
		s.registers = map[string]*register{}
	}
	s.registers[file] = r
	return r
}

// ids turns names into the ids they have in file (passwd or group); names without an entry are left out, "root" is always 0.
func (s *Subject) ids(file string, list []string) []int {
	if len(list) == 0 {
		return nil
	}
	var out []int
	known := s.register(file).byName
	for _, name := range list {
		if name == "root" {
			out = append(out, 0)
		} else if r := known[name]; r != nil {
			if id, err := strconv.Atoi(r[2]); err == nil {
				out = append(out, id)
			}
		}
	}
	return out
}

func (s *Subject) idSet(file string) map[int]bool { return maps.Clone(s.register(file).ids) }

// accountRule makes State and Apply of a rule about rows of one account file:
// wrong says what is wrong with a row, or nothing; mend changes the row.
func accountRule[P any](file string, wrong func(*Subject, P, []string) string, mend func(*Subject, P, []string)) (func(*Subject, P) (Observation, error), func(*Subject, P) error) {
	state := func(s *Subject, p P) (Observation, error) {
		if s.lookup(file) == nil {
			return absent("/" + file + " is not in the image"), nil
		}
		if _, err := s.text(file); err != nil {
			return refused(err)
		}
		var off []string
		for _, r := range s.table(file).entries() {
			if why := wrong(s, p, r); why != "" {
				off = append(off, r[fName]+": "+why)
			}
		}
		return judge(off, "every line of /"+file), nil
	}
	apply := func(s *Subject, p P) error {
		t := s.table(file)
		for _, r := range t.entries() {
			if wrong(s, p, r) != "" {
				mend(s, p, r)
			}
		}
		return s.save(t)
	}
	return state, apply
}

// usable reports whether a shadow field lets anybody log in with a password.
func usable(field string) bool {
	return field == "" || !strings.HasPrefix(field, "!") && !strings.HasPrefix(field, "*")
}

// scopeParams: which accounts a rule is about.
type scopeParams struct {
	// Scope is "system" (ids below 1000 but root's, and 65534), "root", or "all".
	Scope  string   `json:"scope"`
	Except []string `json:"except"`
}

func (p scopeParams) check() error {
	if !slices.Contains([]string{"system", "root", "all"}, p.Scope) {
		return fmt.Errorf("scope is system, root or all, not %q", p.Scope)
	}
	return nil
}

func (p scopeParams) covers(s *Subject, name string) bool {
	if slices.Contains(p.Except, name) {
		return false
	}
	r := s.register("etc/passwd").byName[name]
	if r == nil {
		return p.Scope == "all" // a shadow line without an account
	}
	id, err := strconv.Atoi(r[fUID])
	switch {
	case p.Scope == "all":
		return true
	case p.Scope == "root":
		return name == "root"
	case err != nil:
		return true
	}
	return id != 0 && (id < 1000 || id == 65534)
}

func emptyPassword(_ *Subject, _ none, r []string) string {
	if r[fPassword] == "" {
		return "empty password"
	}
	return ""
}

func lockRow(_ *Subject, _ none, r []string) { r[fPassword] = "!" }

func passwordOpen(s *Subject, p scopeParams, r []string) string {
	if usable(r[fPassword]) && p.covers(s, r[fName]) {
		return "has a password"
	}
	return ""
}

func lockPassword(_ *Subject, _ scopeParams, r []string) { r[fPassword] = "!" + r[fPassword] }

const noLogin = "/usr/sbin/nologin"

func hasShell(s *Subject, p scopeParams, r []string) string {
	shell := r[fShell]
	if strings.HasSuffix(shell, "/nologin") || strings.HasSuffix(shell, "/false") || !p.covers(s, r[fName]) {
		return ""
	}
	if shell == "" {
		shell = "the default shell"
	}
	return shell
}

func takeShell(_ *Subject, _ scopeParams, r []string) { r[fShell] = noLogin }

// notShadowed: the hash stands in passwd, where everybody reads it.
func shadowedState(s *Subject, _ none) (Observation, error) {
	if s.lookup("etc/passwd") == nil {
		return absent("/etc/passwd is not in the image"), nil
	}
	if _, err := s.text("etc/passwd"); err != nil {
		return refused(err)
	}
	var off []string
	for _, r := range s.table("etc/passwd").entries() {
		if r[fPassword] != "x" {
			off = append(off, r[fName])
		}
	}
	if len(off) > 0 && s.lookup("etc/shadow") == nil {
		return blocked(list(off), "/etc/shadow is not in the image"), nil
	}
	return judge(off, "every account"), nil
}

// shadowedApply moves hashes to shadow; an account without one is locked there.
func shadowedApply(s *Subject, _ none) error {
	users, shadow := s.table("etc/passwd"), s.table("etc/shadow")
	rows := map[string][]string{}
	for _, r := range slices.Backward(shadow.entries()) {
		rows[r[fName]] = r
	}
	for _, r := range users.entries() {
		if r[fPassword] == "x" {
			continue
		}
		hash := r[fPassword]
		if hash == "" {
			hash = "!"
		}
		r[fPassword] = "x"
		if row := rows[r[fName]]; row != nil {
			if usable(hash) || row[fPassword] == "" {
				row[fPassword] = hash
			}
			continue
		}
		rows[r[fName]] = []string{r[fName], hash, strconv.Itoa(s.day()), "0", "99999", "7", "", "", ""}
		shadow.rows = append(shadow.rows, rows[r[fName]])
	}
	return s.saveAll(shadow, users)
}

// day is the lock's date in days, as shadow counts.
func (s *Subject) day() int { return int(s.epoch / 86400) }

// zeroParams: an id of 0 belongs to root alone.
func zeroUser(_ *Subject, _ none, r []string) string {
	if id, err := strconv.Atoi(r[fUID]); err == nil && id == 0 && r[fName] != "root" {
		return "uid 0"
	}
	return ""
}

func zeroGroup(_ *Subject, _ none, r []string) string {
	if id, err := strconv.Atoi(r[fGroupID]); err == nil && id == 0 && r[fName] != "root" {
		return "gid 0"
	}
	return ""
}

// dropRows makes State and Apply of a rule whose remedy is to remove the entry, from its shadow file too.
func dropRows(file string, wrong func(*Subject, none, []string) string) (func(*Subject, none) (Observation, error), func(*Subject, none) error) {
	state, _ := accountRule(file, wrong, nil)
	apply := func(s *Subject, p none) error {
		var gone []string
		for _, r := range s.table(file).entries() {
			if wrong(s, p, r) != "" {
				gone = append(gone, r[fName])
			}
		}
		return s.dropEntries(file, gone)
	}
	return state, apply
}

func (s *Subject) dropEntries(file string, gone []string) error {
	shadow := map[string]string{"etc/passwd": "etc/shadow", "etc/group": "etc/gshadow"}[file]
	var changed []*table
	drop := map[string]bool{}
	for _, name := range gone {
		drop[name] = true
	}
	for _, f := range []string{file, shadow} {
		t := s.table(f)
		n := len(t.rows)
		t.drop(func(r []string) bool { return drop[r[fName]] })
		if len(t.rows) != n {
			changed = append(changed, t)
		}
	}
	return s.saveAll(changed...)
}

// rootGroup: root's group is 0 and no other account's is.
func rootGroup(s *Subject, _ none, r []string) string {
	id, err := strconv.Atoi(r[fGID])
	switch {
	case err != nil:
		return ""
	case r[fName] == "root" && id != 0:
		return "gid " + r[fGID]
	case r[fName] != "root" && id == 0 && !slices.Contains([]string{"sync", "shutdown", "halt", "operator"}, r[fName]) && !s.recipeUser(r[fName]):
		return "gid 0"
	}
	return ""
}

func setGroup(_ *Subject, _ none, r []string) {
	r[fGID] = "65534"
	if r[fName] == "root" {
		r[fGID] = "0"
	}
}

func (s *Subject) recipeUser(name string) bool {
	for _, u := range s.recipe.Users {
		if u.Name == name {
			return true
		}
	}
	user, _, _ := strings.Cut(s.recipe.User, ":")
	return user == name
}

// uniqueParams: a field has every value once in a file.
type uniqueParams struct {
	File  string `json:"file"`  // /etc/passwd or /etc/group
	Field string `json:"field"` // name or id
}

func (p uniqueParams) check() error {
	if (p.File != "/etc/passwd" && p.File != "/etc/group") || (p.Field != "name" && p.Field != "id") {
		return errors.New("file is /etc/passwd or /etc/group, field is name or id")
	}
	return nil
}

func (p uniqueParams) column() int {
	if p.Field == "id" {
		return 2
	}
	return fName
}

func uniqueState(s *Subject, p uniqueParams) (Observation, error) {
	if s.lookup(p.File) == nil {
		return absent(p.File + " is not in the image"), nil
	}
	if _, err := s.text(clean(p.File)); err != nil {
		return refused(err)
	}
	seen := map[string]string{}
	var off []string
	for _, r := range s.table(clean(p.File)).entries() {
		v := r[p.column()]
		if first, ok := seen[v]; ok {
			off = append(off, fmt.Sprintf("%s: %s and %s", v, first, r[fName]))
			continue
		}
		seen[v] = r[fName]
	}
	if len(off) > 0 && p.Field == "id" {
		return blocked(list(off), "which of two accounts owns the files cannot be known: give one another id"), nil
	}
	return judge(off, "all unique"), nil
}

// uniqueApply removes later lines of the same name: no look-up by name or id ever reached their password or shell first.
func uniqueApply(s *Subject, p uniqueParams) error {
	t := s.table(clean(p.File))
	seen := map[string]bool{}
	t.drop(func(r []string) bool {
		again := seen[r[fName]]
		seen[r[fName]] = true
		return again
	})
	return s.save(t)
}

// groupMissing: an account's group has no entry.
func groupMissing(s *Subject, _ none, r []string) string {
	id, err := strconv.Atoi(r[fGID])
	if err != nil || !s.register("etc/group").ids[id] {
		return "no group " + r[fGID]
	}
	return ""
}

func groupExistsApply(s *Subject, _ none) error {
	if _, err := s.text("etc/group"); err != nil && s.lookup("etc/group") != nil {
		return err
	}
	users, groups, shadow := s.table("etc/passwd"), s.table("etc/group"), s.table("etc/gshadow")
	have, taken := s.idSet("etc/group"), map[string]bool{}
	for _, r := range groups.entries() {
		taken[r[fName]] = true
	}
	for _, r := range users.entries() {
		id, err := strconv.Atoi(r[fGID])
		if err != nil || have[id] {
			continue
		}
		have[id] = true
		name := r[fName]
		for taken[name] {
			name += "-group"
		}
		taken[name] = true
		groups.rows = append(groups.rows, []string{name, "x", r[fGID], ""})
		shadow.rows = append(shadow.rows, []string{name, "!", "", ""})
	}
	return s.saveAll(shadow, groups)
}

// membersParams: a group has no members.
type membersParams struct {
	Group string `json:"group"`
}

func membersState(s *Subject, p membersParams) (Observation, error) {
	if s.lookup("etc/group") == nil {
		return absent("/etc/group is not in the image"), nil
	}
	if _, err := s.text("etc/group"); err != nil {
		return refused(err)
	}
	r := s.table("etc/group").find(p.Group)
	if r == nil {
		return absent("no group " + p.Group), nil
	}
	for _, u := range s.table("etc/passwd").entries() {
		if u[fGID] == r[fGroupID] {
			return blocked(u[fName], "it is the primary group of "+u[fName]+": give that account a group of its own"), nil
		}
	}
	if r[fMembers] != "" {
		return bad("members: " + r[fMembers]), nil
	}
	return good("no members"), nil
}

func membersApply(s *Subject, p membersParams) error {
	var changed []*table
	for _, f := range []string{"etc/group", "etc/gshadow"} {
		t := s.table(f)
		if r := t.find(p.Group); r != nil && r[fMembers] != "" {
			r[fMembers] = ""
			changed = append(changed, t)
		}
	}
	return s.saveAll(changed...)
}

// emptyGroupParams: a group is there, without members: nobody is let in by it.
type emptyGroupParams struct {
	Group string `json:"group"`
}

func (p emptyGroupParams) check() error {
	if !groupName.MatchString(p.Group) {
		return fmt.Errorf("group %q is no name such as sugroup", p.Group)
	}
	return nil
}

var groupName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

func emptyGroupState(s *Subject, p emptyGroupParams) (Observation, error) {
	groups := s.table("etc/group")
	switch {
	case len(groups.entries()) == 0:
		return absent("the image has no groups"), nil
	case groups.find(p.Group) == nil:
		return bad("no group " + p.Group), nil
	}
	return membersState(s, membersParams(p))
}

// emptyGroupApply takes its members from the group, or makes it with the highest free number of the system's range.
func emptyGroupApply(s *Subject, p emptyGroupParams) error {
	groups, shadow := s.table("etc/group"), s.table("etc/gshadow")
	if groups.find(p.Group) != nil {
		return membersApply(s, membersParams(p))
	}
	used := s.idSet("etc/group")
	for id := 999; id >= 100; id-- {
		if used[id] {
			continue
		}
		groups.rows = append(groups.rows, []string{p.Group, "x", strconv.Itoa(id), ""})
		if s.isFile("etc/gshadow") && shadow.find(p.Group) == nil {
			shadow.rows = append(shadow.rows, []string{p.Group, "!", "", ""})
			if err := s.save(shadow); err != nil {
				return err
			}
		}
		return s.save(groups)
	}
	return &refusal{"/etc/group", 0, "has no free number from 100 to 999"}
}

// ageParams: a number of shadow for accounts with a password, locked ones too: unlocking must not bring an old one back.
type ageParams struct {
	Field string `json:"field"` // min, max, inactive
	Most  int    `json:"most"`
	Least int    `json:"least"`
}

func (p ageParams) column() int {
	return map[string]int{"min": fMin, "max": fMax, "inactive": fIdle}[p.Field]
}

func (p ageParams) check() error {
	if p.column() == 0 || (p.Most == 0 && p.Least == 0) {
		return errors.New("field is min, max or inactive; most or least is a number of days")
	}
	return nil
}

func (p ageParams) ok(text string) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n >= p.Least && (p.Most == 0 || n <= p.Most)
}

func ageWrong(_ *Subject, p ageParams, r []string) string {
	if hash := strings.TrimLeft(r[fPassword], "!"); hash == "" || hash == "*" || p.ok(r[p.column()]) {
		return ""
	}
	return fmt.Sprintf("%s is %q", p.Field, r[p.column()])
}

func ageMend(_ *Subject, p ageParams, r []string) {
	n := p.Most
	if n == 0 {
		n = p.Least
	}
	r[p.column()] = strconv.Itoa(n)
}

func changedInFuture(s *Subject, _ none, r []string) string {
	n, err := strconv.Atoi(r[fChanged])
	if err == nil && s.epoch > 0 && n > s.day() {
		return "changed on day " + r[fChanged] + ", after the image's date"
	}
	return ""
}

func changedNow(s *Subject, _ none, r []string) { r[fChanged] = strconv.Itoa(s.day()) }

// defaultsParams: accounts that distributions create and nothing here uses.
type defaultsParams struct {
	Names []string `json:"names"`
}

// unused are those of the names that no file belongs to and that the recipe does not know.
func (p defaultsParams) unused(s *Subject) (gone, stay []string) {
	users, groups := map[int]bool{}, map[int]bool{}
	for _, q := range s.paths() {
		e := s.index[q]
		users[e.UID], groups[e.GID] = true, true
	}
	for _, r := range s.table("etc/passwd").entries() {
		if !slices.Contains(p.Names, r[fName]) {
			continue
		}
		id, err := strconv.Atoi(r[fUID])
		if err != nil || users[id] || s.recipeUser(r[fName]) || s.namedInConfig(r[fName]) {
			stay = append(stay, r[fName])
			continue
		}
		gone = append(gone, r[fName])
	}
	return gone, stay
}

// namedInConfig: the image runs as that account.
func (s *Subject) namedInConfig(name string) bool {
	r := s.table("etc/passwd").find(name)
	uid, _, ok := numericUser(s.config.User)
	return ok && r != nil && r[fUID] == strconv.Itoa(uid)
}

func defaultsState(s *Subject, p defaultsParams) (Observation, error) {
	gone, stay := p.unused(s)
	fine := "none"
	if len(stay) > 0 {
		fine = "in use: " + list(stay)
	}
	return judge(gone, fine), nil
}

func defaultsApply(s *Subject, p defaultsParams) error {
	gone, _ := p.unused(s)
	return s.dropEntries("etc/passwd", gone)
}

// people returns the accounts of persons: ids from 1000, not nobody, with a home.
func (s *Subject) people() [][]string {
	var out [][]string
	for _, r := range s.table("etc/passwd").entries() {
		id, err := strconv.Atoi(r[fUID])
		if err == nil && id >= 1000 && id < 65534 && strings.HasPrefix(r[fHome], "/") && path.Clean(r[fHome]) != "/" && !strings.HasPrefix(r[fHome], "/nonexistent") {
			out = append(out, r)
		}
	}
	return out
}

// homeParams: every person's home exists, is theirs, and is at most Mode.
type homeParams struct {
	Mode  string `json:"mode"`
	Files string `json:"files"` // at most this for dot files in it; empty leaves them alone
}

func (p homeParams) check() error {
	for _, m := range []string{p.Mode, p.Files} {
		if m == "" {
			continue
		}
		if _, err := octal(m); err != nil {
			return err
		}
	}
	return nil
}

type homeFix struct {
	path     string
	mode     uint32
	uid, gid int
}

func (p homeParams) fixes(s *Subject) (fix []homeFix, missing [][]string) {
	for _, r := range s.people() {
		q, ok := s.resolve(r[fHome])
		if !ok || s.index[q].Type != 'd' {
			missing = append(missing, r)
			continue
		}
		uid, _ := strconv.Atoi(r[fUID])
		gid, _ := strconv.Atoi(r[fGID])
		fix = p.add(s, fix, q, p.Mode, uid, gid)
		if p.Files == "" {
			continue
		}
		for _, f := range s.below(q) {
			if path.Dir(f) == q && strings.HasPrefix(path.Base(f), ".") && s.isFile(f) && s.index[f].Type != 'l' {
				fix = p.add(s, fix, f, p.Files, uid, gid)
			}
		}
	}
	return fix, missing
}

func (p homeParams) add(s *Subject, fix []homeFix, q, limit string, uid, gid int) []homeFix {
	e := s.index[q]
	mode := e.Mode
	if limit != "" {
		most, _ := octal(limit)
		mode &= most
	}
	if mode == e.Mode && uid == e.UID && gid == e.GID {
		return fix
	}
	return append(fix, homeFix{q, mode, uid, gid})
}

func homeState(s *Subject, p homeParams) (Observation, error) {
	if len(s.people()) == 0 {
		return absent("the image has no accounts of persons"), nil
	}
	fix, missing := p.fixes(s)
	var off []string
	for _, r := range missing {
		off = append(off, r[fHome]+" is missing")
	}
	for _, f := range fix {
		off = append(off, describe(s.index[f.path]))
	}
	return judge(off, "every home"), nil
}

func homeApply(s *Subject, p homeParams) error {
	_, missing := p.fixes(s)
	for _, r := range missing {
		if e := s.lookup(r[fHome]); e != nil {
			continue
		}
		q, _ := s.resolve(r[fHome])
		if err := s.mkdirs(q); err != nil {
			return err
		}
	}
	fix, _ := p.fixes(s)
	for _, f := range fix {
		if err := s.chown(f.path, f.uid, f.gid); err != nil {
			return err
		}
		if err := s.chmod(f.path, f.mode); err != nil {
			return err
		}
	}
	return nil
}
