package kiln

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	accountForm     = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	existingForm    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,63}$`) // wider: packages make accounts such as Debian-exim
	envForm         = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)
	variableForm    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)
	versionForm     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	platformForm    = regexp.MustCompile(`^linux/[a-z0-9]+(/v[0-9]+)?$`)
	modeForm        = regexp.MustCompile(`^0?[0-7]{3,4}$`)
	signalForm      = regexp.MustCompile(`^(SIG[A-Z0-9+-]+|[1-9][0-9]?)$`)
	idForm          = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)
	suiteForm       = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)
	fingerprintForm = regexp.MustCompile(`^([0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})$`)
	methodForm      = regexp.MustCompile(`^[A-Z]+$`)
)

// ValidVariable reports whether s can name a variable of a recipe.
func ValidVariable(s string) bool { return variableForm.MatchString(s) }

// maxID is the largest user or group id; the next one means "unchanged" to chown.
const maxID = 1<<32 - 2

// Validate reports every rule that the recipe breaks; each is an [Invalid] whose
// Field is the path a user would write, such as "files[2].mode".
func (r *Recipe) Validate() error {
	var list []error
	for _, problem := range r.Problems() {
		list = append(list, problem)
	}
	return errors.Join(list...)
}

// Problems returns every rule that the recipe breaks, in the order of its fields.
func (r *Recipe) Problems() []*Invalid {
	c := &recipeCheck{r: r}
	if err := r.check("Recipe"); err != nil {
		c.fail("apiVersion", err.Error())
	}
	c.identity()
	c.base()
	c.packages()
	c.accounts()
	c.files()
	c.steps()
	c.runtime()
	c.hardening()
	c.tests()
	c.outputs()
	c.shell()
	return c.problems
}

type recipeCheck struct {
	r        *Recipe
	problems []*Invalid
}

func (c *recipeCheck) fail(field, rule string) {
	c.problems = append(c.problems, &Invalid{field, rule})
}

// want records the rule when it does not hold.
func (c *recipeCheck) want(holds bool, field, rule string) {
	if !holds {
		c.fail(field, rule)
	}
}

// unique records names that stand twice in a list.
func (c *recipeCheck) unique(field string, names []string) {
	seen := map[string]int{}
	for i, name := range names {
		if first, twice := seen[name]; twice && name != "" {
			c.fail(at(field, i), fmt.Sprintf("%s stands in %s too", clip(name, 80), at(field, first)))
			continue
		}
		seen[name] = i
	}
}

func (c *recipeCheck) identity() {
	r := c.r
	c.want(validName(r.Name), "name", nameRule)
	c.want(r.Version == "" || versionForm.MatchString(r.Version), "version", "is 1 to 128 letters, digits, . _ - (it becomes an image tag)")
	c.want(r.Platform == "" || platformForm.MatchString(r.Platform), "platform", "is linux/ARCHITECTURE, such as linux/amd64 or linux/arm64")
	for _, name := range sortedKeys(r.Variables) {
		c.want(variableForm.MatchString(name), "variables."+name, "a variable's name is letters, digits, _ and -, and begins with a letter or _")
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (c *recipeCheck) base() {
	b := c.r.Base
	set := count(b.Apt != nil, b.OCI != "", b.Layout != "", b.Archive != "", b.Kiln != "")
	if set != 1 {
		c.fail("base", "is exactly one of apt, oci, layout, archive, kiln")
		return
	}
	if b.Kiln != "" {
		name, channel, ok := strings.Cut(b.Kiln, "@")
		c.want(ok && validName(name) && validName(channel), "base.kiln", "is NAME@CHANNEL of an image in the local store")
	}
	c.want(!strings.ContainsAny(b.OCI, " \t\n\x00"), "base.oci", "is an image reference, without blanks")
	if b.Apt != nil {
		c.apt(b.Apt)
	}
}

func count(conditions ...bool) int {
	n := 0
	for _, c := range conditions {
		if c {
			n++
		}
	}
	return n
}

func (c *recipeCheck) apt(a *AptBase) {
	c.want(a.Release == "" || idForm.MatchString(a.Release), "base.apt.release", "is a codename such as bookworm")
	if a.Machine {
		c.want(len(a.Archives) == 0, "base.apt.archives", "cannot stand beside machine: the archives are the machine's; remove one of the two")
		return
	}
	if len(a.Archives) == 0 {
		c.fail("base.apt", `needs archives, or write "apt: machine" for the machine's own`)
		return
	}
	c.want(a.Release != "", "base.apt.release", "is needed where archives are named")
	for i := range a.Archives {
		c.archive(at("base.apt.archives", i), &a.Archives[i])
	}
}

func (c *recipeCheck) archive(field string, a *AptArchive) {
	u, err := url.Parse(a.URI)
	c.want(err == nil && oneOf(u.Scheme, "http", "https", "file") && (u.Host != "" || u.Scheme == "file"), field+".uri", "is an http, https or file address")
	c.want(len(a.Suites) > 0, field+".suites", "needs at least one suite, such as bookworm or bookworm-security")
	for i, s := range a.Suites {
		c.want(suiteForm.MatchString(s) && !strings.Contains(s, "..") && !strings.HasSuffix(s, "/"), at(field+".suites", i), "is a suite's name; one item for each suite")
	}
	c.unique(field+".suites", a.Suites)
	for i, s := range a.Components {
		c.want(suiteForm.MatchString(s) && !strings.Contains(s, ".."), at(field+".components", i), "is a component such as main")
	}
	c.want(a.Keyring != "", field+".keyring", "is the path of the keyring that signs this archive; without one nothing can be verified")
	for i, f := range a.Fingerprints {
		c.want(fingerprintForm.MatchString(f), at(field+".fingerprints", i), "is 40 or 64 hexadecimal digits without blanks")
	}
	if a.Expired != nil {
		c.exception(field+".expired", *a.Expired)
	}
}

func (c *recipeCheck) exception(field string, e Exception) {
	var broken *Invalid
	if errors.As(e.Validate(), &broken) {
		c.fail(field+"."+broken.Field, broken.Rule)
	}
}

func (c *recipeCheck) packages() {
	r := c.r
	c.want(len(r.Packages) == 0 || r.Base.Apt != nil, "packages", "need an apt base: packages are taken from its signed archives only")
	c.want(len(r.Pins) == 0 || r.Base.Apt != nil, "pins", "need an apt base")
	names := make([]string, len(r.Packages))
	for i, p := range r.Packages {
		field := at("packages", i)
		names[i] = p.Name
		c.want(validPackage(p.Name), field+".name", "is a package's name: a-z 0-9 + - . (a version follows as name=version)")
		c.want(p.Version == "" || p.Suite == "", field, "has a version or a suite, not both")
		c.want(!strings.ContainsAny(p.Version, " \t\n/"), field+".version", "is a version as in name=version, with * for any text")
		c.want(p.Suite == "" || suiteForm.MatchString(p.Suite), field+".suite", "is a suite's name, as in name/bookworm-backports")
	}
	c.unique("packages", names)
	for i, p := range r.Pins {
		field := at("pins", i)
		c.want(p.Package != "", field+".package", "is a package's name, with * for any text")
		c.want((p.Version == "") != (p.Release == ""), field, "has exactly one of version and release")
		c.want(p.Priority >= -32768 && p.Priority <= 32767 && p.Priority != 0, field+".priority", "is a number from -32768 to 32767, not 0")
	}
}

func (c *recipeCheck) accounts() {
	const form = "is 1 to 32 of a-z 0-9 _ -, begins with a letter or _"
	var groups, users []string
	for i, g := range c.r.Groups {
		field := at("groups", i)
		groups = append(groups, g.Name)
		c.want(accountForm.MatchString(g.Name), field+".name", form)
		c.want(g.GID == nil || *g.GID > 0 && *g.GID <= maxID, field+".gid", "is a number from 1 to 4294967294")
	}
	c.unique("groups", groups)
	for i, u := range c.r.Users {
		field := at("users", i)
		users = append(users, u.Name)
		c.want(accountForm.MatchString(u.Name), field+".name", form)
		c.want(u.UID == nil || *u.UID > 0 && *u.UID <= maxID, field+".uid", "is a number from 1 to 4294967294; 0 would be another root")
		c.want(u.Group == "" || account(u.Group), field+".group", "is a group's name or number")
		for j, g := range u.Groups {
			c.want(account(g), at(field+".groups", j), "is a group's name or number")
		}
		c.want(u.Home == "" || absolute(u.Home), field+".home", "is an absolute path")
		c.want(u.Shell == "" || absolute(u.Shell), field+".shell", "is an absolute path such as /usr/sbin/nologin")
	}
	c.unique("users", users)
}

// account reports whether s can name an existing user or group, by name or number.
func account(s string) bool {
	if id, err := strconv.ParseInt(s, 10, 64); err == nil {
		return id >= 0 && id <= maxID && strconv.FormatInt(id, 10) == s
	}
	return existingForm.MatchString(s)
}

// absolute reports whether p is an absolute, clean path without a NUL or line break.
func absolute(p string) bool {
	return strings.HasPrefix(p, "/") && (path.Clean(p) == p || path.Clean(p)+"/" == p) && !strings.ContainsAny(p, "\x00\n")
}

func validMode(s string) bool { return modeForm.MatchString(s) }

const (
	absoluteRule = "is an absolute path without . or .. in it"
	modeRule     = `is octal text such as "0644"`
	besideRule   = "is a path beside the recipe: relative, and not above its folder"
)

func (c *recipeCheck) files() {
	var paths []string
	for i, f := range c.r.Files {
		field := at("files", i)
		paths = append(paths, strings.TrimSuffix(f.Path, "/"))
		c.want(absolute(f.Path) && f.Path != "/", field+".path", absoluteRule)
		for _, kernel := range []string{"/proc", "/sys", "/dev"} {
			c.want(f.Path != kernel && !strings.HasPrefix(f.Path, kernel+"/"), field+".path", kernel+" belongs to the kernel; nothing can be stored there")
		}
		if count(f.Content != nil, f.Source != "", f.Directory, f.Symlink != "") != 1 {
			c.fail(field, `has exactly one of content, source, directory, symlink (for an empty file: content: "")`)
		}
		c.want(f.Source == "" || localPath(strings.TrimSuffix(f.Source, "/")), field+".source", besideRule)
		c.want(!strings.ContainsAny(f.Symlink, "\x00\n"), field+".symlink", "is a path on one line")
		c.want(f.Mode == "" || validMode(f.Mode), field+".mode", modeRule)
		c.want(f.Mode == "" || f.Symlink == "", field+".mode", "a symbolic link has no mode of its own")
		c.want(f.Owner == "" || account(f.Owner), field+".owner", "is a user's name or number")
		c.want(f.Group == "" || account(f.Group), field+".group", "is a group's name or number")
	}
	c.unique("files", paths)
}

func (c *recipeCheck) steps() {
	for i, s := range c.r.Steps {
		field := at("steps", i)
		if count(s.Run != "", s.Component != "") != 1 {
			c.fail(field, "has exactly one of run and component")
		}
		c.component(field, s.Component, s.Parameters)
		c.environment(field+".env", s.Env)
	}
}

func (c *recipeCheck) component(field, file string, parameters map[string]string) {
	c.want(file == "" || localPath(file), field+".component", besideRule)
	c.want(file != "" || len(parameters) == 0, field+".parameters", "are for a component")
}

func (c *recipeCheck) environment(field string, env map[string]string) {
	for _, name := range sortedKeys(env) {
		c.want(envForm.MatchString(name), field+"."+name, "an environment variable's name is letters, digits and _")
		c.want(!strings.ContainsRune(env[name], 0), field+"."+name, "contains a NUL")
	}
}

func (c *recipeCheck) runtime() {
	r := c.r
	c.command("entrypoint", r.Entrypoint)
	c.command("command", r.Command)
	c.want(r.User == "" || userSpec(r.User), "user", "is a name or number, or user:group")
	c.want(r.WorkDir == "" || absolute(r.WorkDir), "workdir", absoluteRule)
	c.environment("env", r.Env)
	var ports []string
	for i, p := range r.Ports {
		normal, ok := NormalPort(p)
		c.want(ok, at("ports", i), "is a port from 1 to 65535 with /tcp, /udp or /sctp, or nothing, behind it")
		ports = append(ports, normal)
	}
	c.unique("ports", ports)
	for i, v := range r.Volumes {
		c.want(absolute(v) && v != "/", at("volumes", i), absoluteRule)
	}
	c.unique("volumes", r.Volumes)
	for _, key := range sortedKeys(r.Labels) {
		c.want(key != "" && !strings.ContainsAny(key, " \t\n"), "labels."+key, "a label's key has no blanks")
	}
	c.want(r.StopSignal == "" || signalForm.MatchString(r.StopSignal), "stopSignal", "is a signal such as SIGTERM")
	if h := r.Healthcheck; h != nil {
		c.want(len(h.Command) > 0, "healthcheck.command", "is missing")
		c.command("healthcheck.command", h.Command)
		c.want(h.Retries >= 0 && h.Retries <= 1000, "healthcheck.retries", "is a number from 0 to 1000")
	}
}

func (c *recipeCheck) command(field string, args []string) {
	for i, a := range args {
		c.want(!strings.ContainsRune(a, 0), at(field, i), "contains a NUL")
	}
	if len(args) > 0 {
		c.want(args[0] != "" && strings.TrimSpace(args[0]) == args[0], at(field, 0), "is the program to run: a path, or a name in PATH")
	}
}

func userSpec(s string) bool {
	user, group, both := strings.Cut(s, ":")
	return account(user) && (!both || account(group))
}

// NormalPort returns a port with its protocol ("8080" is "8080/tcp") and whether s is one.
func NormalPort(s string) (string, bool) {
	number, protocol, both := strings.Cut(s, "/")
	if !both {
		protocol = "tcp"
	}
	n, err := strconv.Atoi(number)
	ok := err == nil && n > 0 && n < 65536 && strconv.Itoa(n) == number && oneOf(protocol, "tcp", "udp", "sctp")
	return number + "/" + protocol, ok
}

func (c *recipeCheck) hardening() {
	h := c.r.Hardening
	c.want(h.Profile == "" || idForm.MatchString(h.Profile), "hardening.profile", "is a profile's name, such as container-baseline, or none")
	c.want(h.Profile == "" || len(h.Profiles) == 0, "hardening.profiles", "stands instead of profile, not beside it")
	for i, name := range h.Profiles {
		c.want(idForm.MatchString(name), at("hardening.profiles", i), "is a profile's name, such as cis-l2")
	}
	c.unique("hardening.profiles", h.Profiles)
	c.want(h.ProfileFile == "" || localPath(h.ProfileFile), "hardening.profileFile", besideRule)
	c.want(h.ProfileFile == "" || h.Profile == "" && len(h.Profiles) == 0, "hardening.profileFile", "stands instead of profile and profiles, not beside them")
	c.want(h.Tailoring == "" || localPath(h.Tailoring), "hardening.tailoring", besideRule)
	c.want(h.TailoringProfile == "" || h.Tailoring != "", "hardening.tailoringProfile", "needs tailoring")
	for i, id := range h.Include {
		c.want(idForm.MatchString(id), at("hardening.include", i), "is an objective's id")
	}
	var waived []string
	for i, w := range h.Waivers {
		field := at("hardening.waivers", i)
		waived = append(waived, w.Objective)
		c.want(idForm.MatchString(w.Objective), field+".objective", "is an objective's id")
		c.exception(field, w.Exception)
	}
	c.unique("hardening.waivers", waived)
	for i, name := range h.Remove.Packages {
		c.want(validPackage(name), at("hardening.remove.packages", i), "is a package's name")
		c.want(!slices.Contains(h.Remove.Keep, name), at("hardening.remove.packages", i), name+" stands in keep too")
		for j, p := range c.r.Packages {
			c.want(p.Name != name, at("hardening.remove.packages", i), fmt.Sprintf("%s is asked for by %s", name, at("packages", j)))
		}
	}
	for i, name := range h.Remove.Keep {
		c.want(validPackage(name), at("hardening.remove.keep", i), "is a package's name")
	}
}

func (c *recipeCheck) outputs() {
	for i, o := range c.r.Outputs {
		field := at("outputs", i)
		if count(o.Layout != "", o.Archive != "", o.Registry != "") != 1 {
			c.fail(field, "has exactly one of layout, archive, registry")
		}
		c.want(!strings.ContainsAny(o.Registry, " \t\n"), field+".registry", "is a reference such as registry.example.com/base/nginx:stable")
		c.want(!o.Insecure || o.Registry != "" && loopback(o.Registry), field+".insecure", "is for a registry on this machine only (localhost, 127.0.0.1)")
	}
}

func loopback(reference string) bool {
	host, _, _ := strings.Cut(reference, "/")
	if ap, err := netip.ParseAddrPort(host); err == nil {
		return ap.Addr().IsLoopback()
	}
	name, _, _ := strings.Cut(host, ":")
	addr, err := netip.ParseAddr(name)
	return name == "localhost" || err == nil && addr.IsLoopback()
}

// shells are programs that hardening.remove.shell takes away.
var shells = []string{"sh", "bash", "dash", "rbash"}

func needsShell(args []string) bool {
	return len(args) > 0 && slices.Contains(shells, path.Base(args[0])) && (!strings.Contains(args[0], "/") || oneOf(path.Dir(args[0]), "/bin", "/usr/bin"))
}

// shell finds what would fail once the shell is gone: better here than minutes later in the trial.
func (c *recipeCheck) shell() {
	r := c.r
	if !r.Hardening.Remove.Shell {
		return
	}
	const rule = "starts a shell, and hardening.remove.shell takes every shell away; name the program itself, as a list"
	c.want(!needsShell(r.Entrypoint), "entrypoint", rule)
	c.want(len(r.Entrypoint) > 0 || !needsShell(r.Command), "command", rule)
	c.want(r.Healthcheck == nil || !needsShell(r.Healthcheck.Command), "healthcheck.command", rule)
	for i, t := range r.Tests {
		c.want(t.Run == nil || !needsShell(t.Run.Command), at("tests", i)+".run", rule)
	}
}
