package harden

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"kiln"
	"kiln/internal/secret"
)

// defaultPath is the search path of an image whose recipe sets none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// imageConfig turns the recipe into the configuration of the image. Names of users and groups are resolved in the tree.
func (s *Subject) imageConfig() (*kiln.ImageConfig, error) {
	r := s.recipe
	user, err := s.numeric(r.User)
	if err != nil {
		return nil, err
	}
	c := &kiln.ImageConfig{
		Entrypoint: slices.Clone(r.Entrypoint), Command: slices.Clone(r.Command), User: user, WorkDir: r.WorkDir,
		StopSignal: r.StopSignal, Healthcheck: r.Healthcheck, Labels: s.labels(),
	}
	env := map[string]string{"PATH": defaultPath}
	for k, v := range r.Env {
		env[k] = v
	}
	for k, v := range env {
		c.Env = append(c.Env, k+"="+v)
	}
	slices.Sort(c.Env)
	for _, p := range r.Ports {
		port, err := portText(p)
		if err != nil {
			return nil, err
		}
		c.Ports = append(c.Ports, port)
	}
	slices.Sort(c.Ports)
	c.Ports = slices.Compact(c.Ports)
	c.Volumes = slices.Clone(r.Volumes)
	slices.Sort(c.Volumes)
	return c, nil
}

// portText reads "8080" or "53/udp" and returns the form with the protocol.
func portText(p string) (string, error) {
	number, proto, ok := strings.Cut(p, "/")
	if !ok {
		proto = "tcp"
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > 65535 || !slices.Contains([]string{"tcp", "udp", "sctp"}, proto) {
		return "", fmt.Errorf("port %q of the recipe is not a number up to 65535 with /tcp, /udp or /sctp", p)
	}
	return fmt.Sprintf("%d/%s", n, proto), nil
}

// labels are those of the recipe, and what can be said of every build of the same lock.
func (s *Subject) labels() map[string]string {
	r := s.recipe
	out := map[string]string{}
	set := func(key, value string) {
		if value != "" {
			out["org.opencontainers.image."+key] = value
		}
	}
	set("title", r.Name)
	set("version", r.Version)
	set("description", r.Description)
	if l := s.lock; l != nil {
		if l.Epoch > 0 {
			set("created", time.Unix(l.Epoch, 0).UTC().Format(time.RFC3339))
		}
		if l.Image != nil {
			set("base.name", l.Image.Reference)
			set("base.digest", string(l.Image.Digest))
		}
	}
	for k, v := range r.Labels {
		out[k] = v
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// numeric resolves user[:group] through the tree's account files. An account's group is its primary one.
func (s *Subject) numeric(user string) (string, error) {
	if user == "" {
		return "", nil
	}
	name, group, hasGroup := strings.Cut(user, ":")
	uid, gid := name, ""
	row := s.table("etc/passwd").find(name)
	if row == nil {
		for _, r := range s.table("etc/passwd").entries() {
			if r[fUID] == name {
				row = r
			}
		}
	}
	switch {
	case row != nil:
		uid, gid = row[fUID], row[fGID]
	case !isNumber(name):
		return "", kiln.Misuse(fmt.Errorf("user %q of the recipe has no entry in the image's /etc/passwd; add it under users, or name one that a package makes", name))
	}
	if hasGroup {
		gid = group
		if !isNumber(group) {
			g := s.table("etc/group").find(group)
			if g == nil {
				return "", kiln.Misuse(fmt.Errorf("group %q of the recipe's user has no entry in the image's /etc/group; add it under groups", group))
			}
			gid = g[fGroupID]
		}
	}
	if gid == "" {
		return uid, nil
	}
	return uid + ":" + gid, nil
}

func isNumber(t string) bool {
	n, err := strconv.ParseUint(t, 10, 32)
	return err == nil && strconv.FormatUint(n, 10) == t
}

// numericUser reads uid[:gid].
func numericUser(user string) (uid, gid int, ok bool) {
	u, g, _ := strings.Cut(user, ":")
	if !isNumber(u) || (g != "" && !isNumber(g)) {
		return 0, 0, false
	}
	uid, _ = strconv.Atoi(u)
	gid, _ = strconv.Atoi(g)
	return uid, gid, true
}

// userParams: Form is nonroot or account (the id has an entry in /etc/passwd).
type userParams struct {
	Form string `json:"form"`
}

func (p userParams) check() error {
	if p.Form != "nonroot" && p.Form != "account" {
		return errors.New("form is nonroot or account")
	}
	return nil
}

func userState(s *Subject, p userParams) (Observation, error) {
	uid, _, ok := numericUser(s.config.User)
	switch {
	case s.config.User == "":
		return blocked("no user, so root", "whom the software may run as only its maker can say: set user in the recipe, USER in a Dockerfile"), nil
	case !ok:
		return blocked(s.config.User, "the user is not numeric"), nil
	case p.Form == "nonroot" && uid == 0:
		return blocked(s.config.User, "the image runs as root: set user to another account"), nil
	case p.Form == "account" && !s.idSet("etc/passwd")[uid]:
		return blocked(s.config.User, fmt.Sprintf("uid %d has no entry in /etc/passwd: add it under users", uid)), nil
	}
	return good(s.config.User), nil
}

// cannot is the Apply of kinds that judge what only the recipe can change: their State is always Blocked when it is not satisfied.
func cannot[P any](*Subject, P) error { return errors.New("internal error: nothing to apply") }

func healthState(s *Subject, _ none) (Observation, error) {
	h := s.config.Healthcheck
	if h == nil || len(h.Command) == 0 {
		return blocked("none", "nothing says how to see that it works: healthcheck.command in a recipe, HEALTHCHECK in a Dockerfile"), nil
	}
	if _, ok := s.program(h.Command[0]); !ok && h.Command[0] != "CMD-SHELL" {
		return blocked(strings.Join(h.Command, " "), h.Command[0]+" is not in the image"), nil
	}
	return good(strings.Join(h.Command, " ")), nil
}

// portParams: exposed ports are the recipe's; Privileged says whether those below 1024 are accepted.
type portParams struct {
	Privileged bool `json:"privileged"`
}

func portState(s *Subject, p portParams) (Observation, error) {
	var low []string
	for _, port := range s.config.Ports {
		n, _, _ := strings.Cut(port, "/")
		if v, _ := strconv.Atoi(n); v < 1024 && !p.Privileged {
			low = append(low, port)
		}
	}
	if len(low) > 0 {
		return blocked(list(low), "ports below 1024 are exposed: let the software listen on a higher one"), nil
	}
	if len(s.config.Ports) == 0 {
		return good("none exposed"), nil
	}
	return good(strings.Join(s.config.Ports, ", ")), nil
}

func secretsState(s *Subject, _ none) (Observation, error) {
	var off []string
	note := func(place string, found ...secret.Finding) {
		for _, f := range found {
			off = append(off, strings.TrimSuffix(place+": "+f.Title+" "+f.Masked, " ")) // the value is never repeated
		}
	}
	for _, kv := range s.config.Env {
		k, v, _ := strings.Cut(kv, "=")
		if f, ok := secret.Variable(k, v); ok {
			note("environment", f)
		}
	}
	for k, v := range s.config.Labels {
		if f, ok := secret.Variable(labelVariable.Replace(k), v); ok {
			note("label "+k, f)
		}
	}
	for _, args := range s.started() {
		note("command line", secret.Command(strings.Join(args, " "))...)
	}
	for i, step := range s.config.History {
		note(fmt.Sprintf("step %d of the history", i+1), secret.Command(step)...)
	}
	if len(off) == 0 {
		return good("none"), nil
	}
	slices.Sort(off)
	return blocked(list(off), "what looks like a secret is in the image's settings: give it at run time instead"), nil
}

// labelVariable makes a label's key comparable with a variable's name.
var labelVariable = strings.NewReplacer(".", "_", "-", "_", "/", "_")

// started are the argument lists of the image's configuration.
func (s *Subject) started() [][]string {
	out := [][]string{s.config.Entrypoint, s.config.Command}
	if h := s.config.Healthcheck; h != nil {
		out = append(out, h.Command)
	}
	return out
}

func searchPath(c *kiln.ImageConfig) string {
	if c != nil {
		for _, kv := range c.Env {
			if v, ok := strings.CutPrefix(kv, "PATH="); ok {
				return v
			}
		}
	}
	return defaultPath
}

// pathParams: Rule "absolute" is about the text of PATH, "protected" about its directories in the tree.
type pathParams struct {
	Rule string `json:"rule"`
}

func (p pathParams) check() error {
	if p.Rule != "absolute" && p.Rule != "protected" {
		return errors.New("rule is absolute or protected")
	}
	return nil
}

func pathState(s *Subject, p pathParams) (Observation, error) {
	var off []string
	for dir := range strings.SplitSeq(searchPath(s.config), ":") {
		if !strings.HasPrefix(dir, "/") {
			off = append(off, fmt.Sprintf("%q", dir))
		} else if e := s.lookup(dir); p.Rule == "protected" && e != nil && (e.Type != 'd' || e.UID != 0 || e.Mode&0o022 != 0) {
			off = append(off, describe(e))
		}
	}
	if p.Rule == "absolute" && len(off) > 0 {
		return blocked(list(off), "PATH has places that are not absolute"), nil
	}
	return judge(off, searchPath(s.config)), nil
}

func pathApply(s *Subject, _ pathParams) error {
	for dir := range strings.SplitSeq(searchPath(s.config), ":") {
		q, ok := s.resolve(dir)
		if !strings.HasPrefix(dir, "/") || !ok || s.index[q].Type != 'd' {
			continue
		}
		e := s.index[q]
		if err := s.chown(q, 0, e.GID); err != nil {
			return err
		}
		if err := s.chmod(q, e.Mode&^0o022); err != nil {
			return err
		}
	}
	return nil
}

func entryState(s *Subject, _ none) (Observation, error) {
	args := append(slices.Clone(s.config.Entrypoint), s.config.Command...)
	if len(args) == 0 {
		return absent("nothing is started: neither an entrypoint nor a command is set"), nil
	}
	if len(args) > 1 && shellNames[path.Base(args[0])] && args[1] == "-c" {
		return blocked(strings.Join(args, " "), "a shell is started: write the program and its arguments as a list"), nil
	}
	return good(args[0]), nil
}

func entryExists(s *Subject, _ none) (Observation, error) {
	args := append(slices.Clone(s.config.Entrypoint), s.config.Command...)
	if len(args) == 0 {
		return absent("nothing is started: neither an entrypoint nor a command is set"), nil
	}
	q, ok := s.program(args[0])
	if !ok || s.index[q].Mode&0o111 == 0 {
		return blocked(args[0], args[0]+" is not a program in the image"), nil
	}
	if in := s.interpreterPath(q); in != "" {
		if _, ok := s.program(in); !ok {
			return blocked(args[0], args[0]+" is a script for "+in+", which is not in the image"), nil
		}
	}
	return good("/" + q), nil
}

// interpreterPath returns the program that a script names after #!, or nothing.
func (s *Subject) interpreterPath(q string) string {
	head := string(s.head(q, 256))
	if !strings.HasPrefix(head, "#!") {
		return ""
	}
	line, _, _ := strings.Cut(head[2:], "\n")
	f := strings.Fields(line)
	if len(f) > 1 && path.Base(f[0]) == "env" {
		return f[1]
	}
	if len(f) == 0 {
		return ""
	}
	return f[0]
}

func workdirState(s *Subject, _ none) (Observation, error) {
	d := s.config.WorkDir
	if d == "" {
		return good("the root"), nil
	}
	if !strings.HasPrefix(d, "/") {
		return blocked(d, "the workdir is not absolute"), nil
	}
	return good(d), nil
}

// volumeParams: no volume lies over one of these directories.
type volumeParams struct {
	Sensitive []string `json:"sensitive"`
}

func (p volumeParams) check() error { return checkGlobs(p.Sensitive) }

func volumeState(s *Subject, p volumeParams) (Observation, error) {
	var off []string
	for _, v := range s.config.Volumes {
		if !strings.HasPrefix(v, "/") || slices.Contains(p.Sensitive, path.Clean(v)) {
			off = append(off, v)
		}
	}
	if len(off) > 0 {
		return blocked(list(off), "a volume is declared over a directory of the system"), nil
	}
	return good(fmt.Sprintf("%d volumes", len(s.config.Volumes))), nil
}

// labelParams: labels that must be there.
type labelParams struct {
	Required []string `json:"required"`
}

func labelState(s *Subject, p labelParams) (Observation, error) {
	var missing []string
	for _, l := range p.Required {
		if s.config.Labels[l] == "" {
			missing = append(missing, l)
		}
	}
	if len(missing) > 0 {
		return blocked("missing: "+list(missing), "no value for "+list(missing)), nil
	}
	return good(fmt.Sprintf("%d labels", len(s.config.Labels))), nil
}

func baseState(s *Subject, _ none) (Observation, error) {
	l := s.lock
	switch {
	case l == nil:
		return unknown("no lock was given"), nil
	case l.Image != nil && l.Image.Digest.Validate() != nil:
		return blocked(l.Image.Reference, "the base image is not locked to a digest"), nil
	case l.Image != nil:
		return good(string(l.Image.Digest)), nil
	}
	for _, p := range l.Packages {
		if p.Digest.Validate() != nil {
			return blocked(p.Name, "package "+p.Name+" is not locked to a digest"), nil
		}
	}
	return good(fmt.Sprintf("%d packages by digest", len(l.Packages))), nil
}

func signedState(s *Subject, _ none) (Observation, error) {
	l := s.lock
	switch {
	case l == nil:
		return unknown("no lock was given"), nil
	case len(l.Archives) == 0:
		return absent("no packages come from an archive"), nil
	}
	var by []string
	for _, a := range l.Archives {
		if len(a.SignedBy) == 0 {
			return blocked(a.ID, "archive "+a.ID+" has no good signature"), nil
		}
		by = append(by, a.SignedBy...)
	}
	slices.Sort(by)
	return good("signed by " + list(slices.Compact(by))), nil
}
