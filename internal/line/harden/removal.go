package harden

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"kiln"
)

// removalAsked maps the kinds that the recipe's hardening.remove drives to whether it asks for them.
func removalAsked(r *kiln.Removal) map[string]bool {
	return map[string]bool{
		"unused-packages-absent": r.Unused,
		"asked-packages-absent":  len(r.Packages) > 0,
		"package-manager-absent": r.PackageManager,
		"shells-absent":          r.Shell,
		"documentation-absent":   r.Docs,
	}
}

// notAsked is the observation of a removal that only the recipe may decide.
func notAsked(observed, field string) Observation {
	return blocked(observed, "a build takes it out where the recipe sets hardening.remove."+field)
}

// requested reports whether the recipe names the package.
func (s *Subject) requested(name string) bool {
	return slices.ContainsFunc(s.recipe.Packages, func(r kiln.PackageRequest) bool { return r.Name == name })
}

func (s *Subject) kept(name string) bool {
	return slices.Contains(s.recipe.Hardening.Remove.Keep, name) || s.requested(name)
}

// unusedParams are the rules of which dependencies count at run time.
type unusedParams struct {
	// Always are packages without programs that every image keeps: base files, accounts, the C library.
	Always []string `json:"always"`
	// Tools are packages on which others depend for their installation scripts only: those have already run.
	Tools []string `json:"tools"`
	// Interpreters are followed as a dependency only where the depending package has programs or modules for them: name of the package to signs.
	Interpreters map[string]interpreter `json:"interpreters"`
	// ShellPackages stay unless the recipe asks for shells to be removed; Utilities stay with them where a program that stays is a shell script.
	ShellPackages []string `json:"shellPackages"`
	Utilities     []string `json:"utilities"`
}

// interpreter says how a use of it shows.
type interpreter struct {
	Names []string `json:"names"` // programs after #!
	Paths []string `json:"paths"` // a file of the package below one of these is a module of it
}

// closure is what must stay, each with the name of the package that first needed it.
type closure struct {
	s     *Subject
	p     unusedParams
	why   map[*pkg]string
	queue []*pkg
}

// needed computes the packages that stay.
func (p unusedParams) needed(s *Subject) *closure {
	c := &closure{s: s, p: p, why: map[*pkg]string{}}
	for _, name := range p.Always {
		c.name(name, "base")
	}
	for _, k := range s.packages().order {
		if s.kept(k.name) || s.lockedRequest(k.name) {
			c.keep(k, "requested")
		}
	}
	for _, q := range s.ownPrograms() {
		c.program(q)
	}
	c.run()
	c.scripts()
	return c
}

// program keeps what a program needs that no dependency names: its own package, its interpreter's, its libraries'.
func (c *closure) program(q string) {
	for _, k := range c.s.packages().owners[q] {
		c.keep(k, "started by the image")
	}
	if in := c.s.interpreterPath(q); in != "" && !shellNames[path.Base(in)] {
		if at, ok := c.s.program(in); ok {
			for _, k := range c.s.packages().owners[at] {
				c.keep(k, "/"+q)
			}
		}
	}
	for _, lib := range c.s.libraries(q) {
		real, _ := c.s.resolve(lib)
		for _, at := range []string{lib, real} { // the link may be ldconfig's, owned by nobody
			for _, k := range c.s.packages().owners[at] {
				c.keep(k, "/"+q)
			}
		}
	}
}

func (s *Subject) lockedRequest(name string) bool {
	if s.lock == nil {
		return false
	}
	p := s.lock.Package(name)
	return p != nil && p.Why == "requested"
}

func (c *closure) keep(k *pkg, why string) {
	if _, ok := c.why[k]; ok {
		return
	}
	c.why[k] = why
	c.queue = append(c.queue, k)
}

func (c *closure) name(name, why string) {
	for _, k := range c.s.packages().byName[name] {
		c.keep(k, why)
	}
}

func (c *closure) run() {
	for len(c.queue) > 0 {
		k := c.queue[0]
		c.queue = c.queue[1:]
		for _, alts := range k.needs {
			c.follow(k, alts)
		}
		if c.s.wantsRecommends(k.name) {
			for _, alts := range k.recommends {
				c.follow(k, alts)
			}
		}
	}
}

// wantsRecommends: where the recipe took recommended packages in, they count as needed.
func (s *Subject) wantsRecommends(name string) bool {
	for _, r := range s.recipe.Packages {
		if r.Name == name && r.Recommends != nil {
			return *r.Recommends
		}
	}
	return s.recipe.Recommends
}

// follow keeps every installed alternative of one dependency that counts at run time.
func (c *closure) follow(k *pkg, alts []string) {
	db := c.s.packages()
	for _, name := range alts {
		targets := db.byName[name]
		if len(targets) == 0 {
			targets = db.virt[name]
		}
		for _, t := range targets {
			if c.counts(k, t) {
				c.keep(t, k.name)
			}
		}
	}
}

// counts reports whether k needs t at run time.
func (c *closure) counts(k, t *pkg) bool {
	if slices.Contains(c.p.Tools, t.name) {
		return false
	}
	in, ok := c.p.Interpreters[t.name]
	if !ok || c.p.Interpreters[k.name].Names != nil {
		return true // interpreters need their own parts
	}
	for _, f := range k.files {
		if slices.ContainsFunc(in.Paths, func(dir string) bool { return strings.HasPrefix(f, clean(dir)+"/") }) && c.s.isFile(f) {
			return true
		}
		if slices.Contains(in.Names, c.s.interpreterOf(f)) {
			return true
		}
	}
	return false
}

// interpreterOf returns the base name of the program that runs the script at q ("env" looked through), or nothing.
// Init scripts do not count: they belong to machines.
func (s *Subject) interpreterOf(q string) string {
	e := s.index[q]
	if e == nil || (e.Type != 'f' && e.Type != 'h') || e.Mode&0o111 == 0 || strings.HasPrefix(q, "etc/") || strings.HasPrefix(q, "usr/share/doc/") {
		return ""
	}
	head := string(s.head(q, 256))
	if !strings.HasPrefix(head, "#!") {
		return ""
	}
	line, _, _ := strings.Cut(head[2:], "\n")
	f := strings.Fields(line)
	if len(f) > 1 && path.Base(f[0]) == "env" {
		f = f[1:]
	}
	if len(f) == 0 {
		return ""
	}
	return path.Base(f[0])
}

// scripts keeps the shells, and what shell scripts that stay may call, unless shells go too.
func (c *closure) scripts() {
	if c.s.recipe.Hardening.Remove.Shell {
		return
	}
	for _, name := range c.p.ShellPackages {
		c.name(name, "shell")
	}
	c.run()
	if script := c.shellScript(); script != "" {
		for _, name := range c.p.Utilities {
			c.name(name, script)
		}
		c.run()
	}
}

// shellScript returns a shell script that the image can be expected to run: the recipe's own, or a program of a requested package.
func (c *closure) shellScript() string {
	for _, q := range c.s.ownPrograms() {
		if shellNames[c.s.interpreterOf(q)] {
			return "/" + q
		}
	}
	for k, why := range c.why {
		if why != "requested" {
			continue
		}
		for _, f := range k.files {
			if strings.Contains("/"+path.Dir(f), "bin") && shellNames[c.s.interpreterOf(f)] {
				return k.name
			}
		}
	}
	return ""
}

var shellNames = map[string]bool{"sh": true, "bash": true, "dash": true}

// ownPrograms are programs that no package owns, the recipe's files among them, and what the image starts.
func (s *Subject) ownPrograms() []string {
	var out []string
	for _, f := range s.recipe.Files {
		if q, ok := s.resolve(f.Path); ok {
			out = append(out, q)
		}
	}
	for _, dir := range []string{"usr/local", "opt", "srv", "app"} {
		if real, ok := s.resolve(dir); ok {
			out = append(out, s.below(real)...)
		}
	}
	for _, args := range s.commands() {
		if q, ok := s.program(args[0]); ok {
			out = append(out, q)
		}
	}
	return out
}

// commands are the argument lists that the image configuration starts.
func (s *Subject) commands() [][]string {
	out := [][]string{s.recipe.Entrypoint, s.recipe.Command}
	if s.recipe.Healthcheck != nil {
		out = append(out, s.recipe.Healthcheck.Command)
	}
	return slices.DeleteFunc(out, func(a []string) bool { return len(a) == 0 })
}

// program finds what a command's first word starts: a path, or a name looked up in the image's PATH.
func (s *Subject) program(name string) (string, bool) {
	if strings.Contains(name, "/") {
		return s.resolve(name)
	}
	for _, dir := range strings.Split(searchPath(s.config), ":") {
		if q, ok := s.resolve(path.Join(dir, name)); ok {
			return q, true
		}
	}
	return "", false
}

func (p unusedParams) unneeded(s *Subject) []*pkg {
	c := p.needed(s)
	return slices.DeleteFunc(slices.Clone(s.packages().order), func(k *pkg) bool { _, ok := c.why[k]; return ok })
}

func names(list []*pkg) []string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = p.name
	}
	slices.Sort(out)
	return out
}

func unusedState(s *Subject, p unusedParams) (Observation, error) {
	db := s.packages()
	switch {
	case db.broken != nil:
		return unknown(db.broken.Error()), nil
	case len(db.order) == 0:
		return absent("the image has no package database"), nil
	case db.order[0].manager != "":
		return unknown("its packages are those of " + db.order[0].manager + ", which do not say what a program needs when it runs"), nil
	}
	off := names(p.unneeded(s))
	if len(off) == 0 {
		return good(fmt.Sprintf("%d packages, all needed", len(db.order))), nil
	}
	seen := fmt.Sprintf("%d of %d packages are not needed: %s", len(off), len(db.order), list(off))
	if len(s.recipe.Packages) == 0 && len(s.commands()) == 0 {
		return blocked(seen, "the recipe names neither packages nor a program, so that nothing says what is needed"), nil
	}
	if !s.recipe.Hardening.Remove.Unused {
		return notAsked(seen, "unused"), nil
	}
	return bad(seen), nil
}

func unusedApply(s *Subject, p unusedParams) error { return s.erase(p.unneeded(s)) }

// askedState is about the packages that the recipe names under hardening.remove.packages.
func askedState(s *Subject, _ none) (Observation, error) {
	var there []string
	for _, name := range s.recipe.Hardening.Remove.Packages {
		if s.packages().has(name) {
			there = append(there, name)
		}
	}
	if len(s.recipe.Hardening.Remove.Packages) == 0 {
		return absent("the recipe names no package to remove"), nil
	}
	if err := s.packages().broken; err != nil {
		return unknown(err.Error()), nil
	}
	return judge(there, "none of them is installed"), nil
}

func askedApply(s *Subject, _ none) error {
	var going []*pkg
	for _, name := range s.recipe.Hardening.Remove.Packages {
		going = append(going, s.packages().byName[name]...)
	}
	return s.erase(going)
}

// bundleParams is a group of packages and files that go together.
type bundleParams struct {
	Packages []string `json:"packages"`
	// Libraries go when no package that stays depends on them.
	Libraries []string `json:"libraries"`
	// Paths and directories beside the packages; patterns.
	Paths []string `json:"paths"`
	// Programs are looked for by their names (patterns) wherever programs are: other distributions have others.
	Programs []string `json:"programs"`
	// KeepInfo keeps of dpkg's info files only those with these extensions; empty leaves all.
	KeepInfo []string `json:"keepInfo"`
}

func (p bundleParams) check() error {
	if len(p.Packages) == 0 {
		return errors.New("packages: needs at least one")
	}
	if err := checkNames(p.Programs); err != nil || len(p.Paths) == 0 {
		return err
	}
	return checkGlobs(p.Paths)
}

func (p bundleParams) installed(s *Subject) []*pkg {
	db := s.packages()
	going := map[*pkg]bool{}
	var out []*pkg
	for _, name := range p.Packages {
		for _, k := range db.byName[name] {
			if !slices.Contains(s.recipe.Hardening.Remove.Keep, name) {
				going[k], out = true, append(out, k)
			}
		}
	}
	for again := true; again; {
		again = false
		for _, name := range p.Libraries {
			for _, k := range db.byName[name] {
				if !going[k] && !s.kept(name) && !s.neededBeyond(k, going) {
					going[k], again, out = true, true, append(out, k)
				}
			}
		}
	}
	return out
}

// neededBeyond reports whether a package outside going depends on k.
func (s *Subject) neededBeyond(k *pkg, going map[*pkg]bool) bool {
	for _, o := range s.packages().order {
		if going[o] || o == k {
			continue
		}
		for _, alts := range o.needs {
			for _, name := range alts {
				if name == k.name || (slices.Contains(k.provides, name) && !s.packages().has(name)) {
					return true
				}
			}
		}
	}
	return false
}

func (p bundleParams) leftovers(s *Subject) []string {
	loose, _ := s.loosePrograms(p.Programs, func(k *pkg) bool { return slices.Contains(p.Packages, k.name) })
	out := append(absentParams{Paths: p.Paths}.found(s), loose...)
	slices.Sort(out)
	out = slices.Compact(out)
	if len(p.KeepInfo) > 0 {
		for _, q := range s.below(dpkgInfo) {
			if !slices.Contains(p.KeepInfo, strings.TrimPrefix(path.Ext(q), ".")) {
				out = append(out, q)
			}
		}
	}
	return slices.DeleteFunc(out, s.fromRecipe)
}

func (p bundleParams) observe(s *Subject, asked bool, field string) Observation {
	if err := s.packages().broken; err != nil {
		return unknown(err.Error())
	}
	var seen []string
	if pk := p.installed(s); len(pk) > 0 {
		seen = append(seen, "packages "+list(names(pk)))
	}
	if left := p.leftovers(s); len(left) > 0 {
		seen = append(seen, "files "+list(slash(left)))
	}
	switch {
	case len(seen) == 0:
		return good("none")
	case !asked:
		return notAsked(strings.Join(seen, "; "), field)
	}
	return bad(strings.Join(seen, "; "))
}

func (p bundleParams) take(s *Subject) error {
	if err := s.erase(p.installed(s)); err != nil {
		return err
	}
	gone := map[string]bool{}
	for _, q := range p.leftovers(s) {
		if err := s.remove(q); err != nil {
			return err
		}
		gone[q] = true
	}
	if len(gone) == 0 {
		return nil
	}
	return s.eraseDangling(gone)
}

func managerState(s *Subject, p bundleParams) (Observation, error) {
	return p.observe(s, s.recipe.Hardening.Remove.PackageManager, "packageManager"), nil
}

func shellsState(s *Subject, p bundleParams) (Observation, error) {
	return p.observe(s, s.recipe.Hardening.Remove.Shell, "shell"), nil
}

func bundleApply(s *Subject, p bundleParams) error { return p.take(s) }

// docsParams: documentation below these directories goes, but for files with these names.
type docsParams struct {
	Directories []string `json:"directories"`
	Keep        []string `json:"keep"` // base names, such as copyright
	// Except are directories below that stay whole.
	Except []string `json:"except"`
}

func (p docsParams) check() error { return checkGlobs(p.Directories) }

func (p docsParams) found(s *Subject) []string {
	var out []string
	for _, dir := range p.Directories {
		real, ok := s.resolve(dir)
		if !ok {
			continue
		}
		for _, q := range s.below(real) {
			if s.index[q].Type == 'd' || slices.Contains(p.Keep, path.Base(q)) || s.fromRecipe(q) ||
				slices.ContainsFunc(p.Except, func(x string) bool { return strings.HasPrefix("/"+q, x+"/") }) {
				continue
			}
			if s.leadsToKept(q, p.Keep) {
				continue
			}
			out = append(out, q)
		}
	}
	return out
}

// leadsToKept: /usr/share/doc/PKG is often a link to the directory with the copyright file.
func (s *Subject) leadsToKept(q string, keep []string) bool {
	if s.index[q].Type != 'l' {
		return false
	}
	return slices.ContainsFunc(keep, func(name string) bool { return s.lookup(q+"/"+name) != nil })
}

func docsState(s *Subject, p docsParams) (Observation, error) {
	found := p.found(s)
	if len(found) == 0 {
		return good("none"), nil
	}
	seen := fmt.Sprintf("%d files: %s", len(found), list(slash(found)))
	if !s.recipe.Hardening.Remove.Docs {
		return notAsked(seen, "docs"), nil
	}
	return bad(seen), nil
}

func docsApply(s *Subject, p docsParams) error {
	gone := map[string]bool{}
	for _, q := range p.found(s) {
		if err := s.remove(q); err != nil {
			return err
		}
		gone[q] = true
	}
	for _, dir := range p.Directories {
		real, ok := s.resolve(dir)
		if !ok {
			continue
		}
		for _, q := range slices.Backward(slices.Clone(s.below(real))) {
			if s.index[q].Type == 'd' && s.inside[q] == 0 {
				if err := s.remove(q); err != nil {
					return err
				}
				gone[q] = true
			}
		}
	}
	return s.eraseDangling(gone)
}

// packageParams: none of the packages is installed, unless it is the image's purpose.
type packageParams struct {
	Packages []string `json:"packages"` // patterns
	// Programs are what the packages bring, by their names (patterns): other distributions call the packages
	// differently, and some programs come from none.
	Programs []string `json:"programs"`
}

func (p packageParams) check() error {
	if len(p.Packages) == 0 {
		return errors.New("packages: needs at least one")
	}
	return checkNames(append(slices.Clone(p.Packages), p.Programs...))
}

func checkNames(patterns []string) error {
	for _, n := range patterns {
		if _, err := path.Match(n, ""); err != nil || strings.Contains(n, "/") {
			return fmt.Errorf("%q is no pattern of a name", n)
		}
	}
	return nil
}

// split sorts what is installed into what can go and what stays, with why.
func (p packageParams) split(s *Subject) (going []*pkg, stays []string) {
	for _, k := range s.packages().order {
		if !p.names(k) {
			continue
		}
		going = append(going, k)
	}
	set := map[*pkg]bool{}
	for _, k := range going {
		set[k] = true
	}
	for again := true; again; { // what something else needs stays, and then what that needs
		again = false
		for _, k := range going {
			if !set[k] {
				continue
			}
			why := ""
			if s.kept(k.name) || s.lockedRequest(k.name) {
				why = "the recipe asks for it"
			} else if s.neededBeyond(k, set) {
				why = "another package depends on it"
			}
			if why != "" {
				set[k], again = false, true
				stays = append(stays, k.name+" stays: "+why)
			}
		}
	}
	return slices.DeleteFunc(going, func(k *pkg) bool { return !set[k] }), stays
}

func packageState(s *Subject, p packageParams) (Observation, error) {
	if err := s.packages().broken; err != nil {
		return unknown(err.Error()), nil
	}
	going, stays := p.split(s)
	slices.Sort(stays)
	loose, taken := s.loosePrograms(p.Programs, p.names)
	var seen []string
	if len(going) > 0 {
		seen = append(seen, "installed: "+list(names(going)))
	}
	if len(loose) > 0 {
		seen = append(seen, "programs: "+list(slash(loose)))
	}
	for _, q := range loose {
		if own := taken[q]; own != "" {
			return blocked(strings.Join(seen, "; "), fmt.Sprintf("/%s belongs to package %s: remove that", q, own)), nil
		}
	}
	switch {
	case len(seen) > 0:
		return bad(strings.Join(seen, "; ")), nil
	case len(stays) > 0:
		return absent(strings.Join(stays, ", ")), nil
	}
	return good("not installed"), nil
}

// names says that a package is one of those that are not wanted.
func (p packageParams) names(k *pkg) bool {
	return slices.ContainsFunc(p.Packages, func(n string) bool { ok, _ := path.Match(n, k.name); return ok })
}

func packageApply(s *Subject, p packageParams) error {
	going, _ := p.split(s)
	if err := s.erase(going); err != nil {
		return err
	}
	loose, _ := s.loosePrograms(p.Programs, p.names)
	for _, q := range loose {
		if err := s.remove(q); err != nil {
			return err
		}
	}
	return nil
}
