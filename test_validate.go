package kiln

import (
	"net/url"
	"regexp"
	"strings"
)

func (c *recipeCheck) tests() {
	var names []string
	for i := range c.r.Tests {
		t := &c.r.Tests[i]
		field := at("tests", i)
		names = append(names, t.Name)
		set := count(t.Run != nil, t.HTTP != nil, t.TCP != nil, t.File != nil, t.Process != nil, t.Listening != nil, t.Goss != "", t.Component != "")
		if set != 1 {
			c.fail(field, "has exactly one of run, http, tcp, file, process, listening, goss, component")
		}
		c.component(field, t.Component, t.Parameters)
		c.want(t.Goss == "" || localPath(t.Goss), field+".goss", besideRule)
		c.want(t.Retries >= 0 && t.Retries <= 1000, field+".retries", "is a number from 0 to 1000")
		c.test(field, t)
	}
	c.unique("tests", names)
	c.service()
}

// service finds tests that ask for a running service where nothing would start one.
func (c *recipeCheck) service() {
	r := c.r
	if r.Base.Apt == nil || len(r.Entrypoint)+len(r.Command) > 0 {
		return
	}
	for i, t := range r.Tests {
		needs := t.HTTP != nil || t.TCP != nil && !t.TCP.Refused || t.Process != nil && !t.Process.Absent || t.Listening != nil && len(t.Listening.Ports) > 0
		c.want(!needs, at("tests", i), "needs a running service, and the recipe starts none: set entrypoint or command")
	}
}

func (c *recipeCheck) test(field string, t *Test) {
	switch {
	case t.Run != nil:
		c.runTest(field+".run", t.Run)
	case t.HTTP != nil:
		c.httpTest(field+".http", t.HTTP)
	case t.TCP != nil:
		c.tcpTest(field+".tcp", t.TCP)
	case t.File != nil:
		c.fileTest(field+".file", t.File)
	case t.Process != nil:
		p := t.Process
		c.want(p.Name != "" && !strings.ContainsAny(p.Name, "/\x00"), field+".process.name", "is a program's name without its folder, such as nginx")
		c.want(p.Count >= 0, field+".process.count", "is not negative; 0 means at least one")
		c.want(!p.Absent || p.Count == 0 && p.User == "", field+".process", "absent stands alone: a process that is not there has no user and no number")
		c.want(p.User == "" || account(p.User), field+".process.user", "is a user's name or number")
	case t.Listening != nil:
		for i, port := range t.Listening.Ports {
			_, ok := NormalPort(port)
			c.want(ok, at(field+".listening.ports", i), "is a port from 1 to 65535 with /tcp, /udp or /sctp, or nothing, behind it")
		}
	}
}

func (c *recipeCheck) patterns(field string, list []string) {
	for i, p := range list {
		if _, err := regexp.Compile(p); err != nil {
			c.fail(at(field, i), "is no regular expression (RE2): "+strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		}
	}
}

func (c *recipeCheck) runTest(field string, t *RunTest) {
	c.want(len(t.Command) > 0, field+".command", "is missing")
	c.command(field+".command", t.Command)
	c.want(t.Exit >= 0 && t.Exit <= 255, field+".exit", "is an exit status from 0 to 255")
	c.patterns(field+".stdout", t.Stdout)
	c.patterns(field+".stderr", t.Stderr)
	c.want(t.User == "" || userSpec(t.User), field+".user", "is a name or number, or user:group")
	c.environment(field+".env", t.Env)
}

func (c *recipeCheck) httpTest(field string, t *HTTPTest) {
	u, err := url.Parse(t.URL)
	c.want(err == nil && oneOf(u.Scheme, "http", "https") && u.Host != "", field+".url", "is an address such as http://127.0.0.1:8080/")
	c.want(t.Method == "" || methodForm.MatchString(t.Method), field+".method", "is a method such as GET or POST")
	c.want(t.Status == 0 || t.Status >= 100 && t.Status <= 599, field+".status", "is a status from 100 to 599")
	c.patterns(field+".match", t.Match)
	for _, name := range sortedKeys(t.Response) {
		if _, err := regexp.Compile(t.Response[name]); err != nil {
			c.fail(field+".response."+name, "is no regular expression (RE2)")
		}
	}
	for _, name := range sortedKeys(t.Headers) {
		c.want(!strings.ContainsAny(name+t.Headers[name], "\r\n"), field+".headers."+name, "a header stands on one line")
	}
}

func (c *recipeCheck) tcpTest(field string, t *TCPTest) {
	u, err := url.Parse("tcp://" + t.Address)
	bare := strings.Count(t.Address, ":") > 1 && !strings.HasPrefix(t.Address, "[") // an IPv6 address without brackets
	ok := err == nil && u.Host == t.Address && u.Hostname() != "" && !bare
	if ok {
		_, ok = NormalPort(u.Port())
	}
	c.want(ok, field+".address", "is host:port such as 127.0.0.1:6379, or a port alone")
	c.patterns(field+".match", t.Match)
	c.want(!t.Refused || t.Send == "" && len(t.Match) == 0, field, "refused stands alone: nothing is sent to a port that must be closed")
}

func (c *recipeCheck) fileTest(field string, t *FileTest) {
	c.want(absolute(t.Path), field+".path", absoluteRule)
	c.want(t.Type == "" || oneOf(t.Type, "file", "directory", "symlink", "socket", "fifo"), field+".type", "is file, directory, symlink, socket or fifo")
	c.want(t.Mode == "" || validMode(t.Mode), field+".mode", modeRule)
	c.want(t.Owner == "" || account(t.Owner), field+".owner", "is a user's name or number")
	c.want(t.Group == "" || account(t.Group), field+".group", "is a group's name or number")
	c.patterns(field+".match", t.Match)
	c.want(t.SHA256 == "" || Digest(digestPrefix+t.SHA256).Validate() == nil, field+".sha256", "is 64 lower-case hexadecimal digits")
	if t.Absent {
		c.want(t.Type == "" && t.Mode == "" && t.Owner == "" && t.Group == "" && len(t.Match) == 0 && t.SHA256 == "", field, "absent stands alone: a file that is not there has no other property")
	}
}
