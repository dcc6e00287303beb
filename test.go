package kiln

// Test is one thing the running candidate must show. Exactly one of Run, HTTP,
// TCP, File, Process, Listening, Goss, Component is set.
type Test struct {
	// Name says what the test shows; unique in the recipe.
	Name string `json:"name,omitempty" yaml:"name,omitempty"`
	// Run runs a command inside the candidate.
	Run *RunTest `json:"run,omitempty" yaml:"run,omitempty"`
	// HTTP asks a URL.
	HTTP *HTTPTest `json:"http,omitempty" yaml:"http,omitempty"`
	// TCP connects to a port.
	TCP *TCPTest `json:"tcp,omitempty" yaml:"tcp,omitempty"`
	// File looks at a path.
	File *FileTest `json:"file,omitempty" yaml:"file,omitempty"`
	// Process looks for a process.
	Process *ProcessTest `json:"process,omitempty" yaml:"process,omitempty"`
	// Listening names exactly the ports that may listen.
	Listening *PortsTest `json:"listening,omitempty" yaml:"listening,omitempty"`
	// Goss is the path of a goss.yaml.
	Goss string `json:"goss,omitempty" yaml:"goss,omitempty"`
	// Component is the path of an EC2 Image Builder component whose test phase runs.
	Component string `json:"component,omitempty" yaml:"component,omitempty"`
	// Parameters are the component's.
	Parameters map[string]string `json:"parameters,omitempty" yaml:"parameters,omitempty"`
	// Timeout bounds one attempt; default 10s.
	Timeout Duration `json:"timeout,omitempty" yaml:"timeout,omitempty"`
	// Wait is how long to keep retrying until the service is ready; default 15s for network tests, 0 otherwise.
	Wait Duration `json:"wait,omitempty" yaml:"wait,omitempty"`
	// Retries is the number of further attempts after a failure; default 0.
	Retries int `json:"retries,omitempty" yaml:"retries,omitempty"`
}

// RunTest runs a command inside the candidate. Command is a list, or in YAML a string for /bin/sh -c.
type RunTest struct {
	// Command is a list, or a text for /bin/sh -c.
	Command []string `json:"command" yaml:"command"`
	// Exit is the status expected; default 0.
	Exit   int      `json:"exit,omitempty" yaml:"exit,omitempty"`
	Stdout []string `json:"stdout,omitempty" yaml:"stdout,omitempty"` // RE2 expressions, all must match
	// Stderr is like stdout, for the standard error.
	Stderr []string `json:"stderr,omitempty" yaml:"stderr,omitempty"`
	// Stdin is given to the command.
	Stdin string `json:"stdin,omitempty" yaml:"stdin,omitempty"`
	User  string `json:"user,omitempty" yaml:"user,omitempty"` // default: the image's user
	// Env are environment variables beside the image's.
	Env map[string]string `json:"env,omitempty" yaml:"env,omitempty"`
}

// HTTPTest asks a URL from inside the candidate's network. In YAML it may be the URL alone.
type HTTPTest struct {
	// URL is http or https; 127.0.0.1 is the candidate itself.
	URL string `json:"url" yaml:"url"`
	// Method defaults to GET.
	Method string `json:"method,omitempty" yaml:"method,omitempty"`
	// Headers are sent.
	Headers map[string]string `json:"headers,omitempty" yaml:"headers,omitempty"`
	// Body is sent.
	Body   string   `json:"body,omitempty" yaml:"body,omitempty"`
	Status int      `json:"status,omitempty" yaml:"status,omitempty"` // default 200
	Match  []string `json:"match,omitempty" yaml:"match,omitempty"`   // RE2 over the body
	// Response are headers that must match, each an RE2 expression.
	Response map[string]string `json:"response,omitempty" yaml:"response,omitempty"`
	Insecure bool              `json:"insecure,omitempty" yaml:"insecure,omitempty"` // do not verify TLS
}

// TCPTest connects to an address. In YAML it may be the address alone ("127.0.0.1:6379" or a port).
type TCPTest struct {
	// Address is host:port, or a port of 127.0.0.1.
	Address string `json:"address" yaml:"address"`
	// Send is written after connecting.
	Send string `json:"send,omitempty" yaml:"send,omitempty"`
	// Match are RE2 expressions over what comes back, all must match.
	Match   []string `json:"match,omitempty" yaml:"match,omitempty"`
	Refused bool     `json:"refused,omitempty" yaml:"refused,omitempty"` // the connection must fail
}

// FileTest looks at a path in the candidate.
type FileTest struct {
	// Path is absolute.
	Path string `json:"path" yaml:"path"`
	// Absent means that nothing may be there.
	Absent bool   `json:"absent,omitempty" yaml:"absent,omitempty"`
	Type   string `json:"type,omitempty" yaml:"type,omitempty"` // file, directory, symlink, socket, fifo
	// Mode is octal text such as "0644".
	Mode string `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Owner is a user's name or number.
	Owner string `json:"owner,omitempty" yaml:"owner,omitempty"`
	// Group is a group's name or number.
	Group string `json:"group,omitempty" yaml:"group,omitempty"`
	// Match are RE2 expressions over the content, all must match.
	Match []string `json:"match,omitempty" yaml:"match,omitempty"`
	// SHA256 of the content, 64 hexadecimal digits.
	SHA256 string `json:"sha256,omitempty" yaml:"sha256,omitempty"`
}

// ProcessTest looks for processes by program name (the base name of the executable or argv[0]). In YAML it may be the name alone.
type ProcessTest struct {
	// Name is the program's, without its folder.
	Name string `json:"name" yaml:"name"`
	// Absent means that no such process may run.
	Absent bool `json:"absent,omitempty" yaml:"absent,omitempty"`
	// User must own every such process.
	User  string `json:"user,omitempty" yaml:"user,omitempty"`
	Count int    `json:"count,omitempty" yaml:"count,omitempty"` // exact number; 0 means at least one
}

// PortsTest names exactly the ports that may listen. In YAML it may be a list such as [80/tcp, "8443"].
type PortsTest struct {
	// Ports such as "80/tcp"; an empty list means that none may listen.
	Ports []string `json:"ports" yaml:"ports"`
}

// Trial is one cold start of a candidate with all tests.
type Trial struct {
	Header
	Candidate Digest       `json:"candidate"` // tree digest
	Runner    string       `json:"runner"`    // sandbox engine and its mode
	Result    string       `json:"result"`    // pass, fail, error
	Tests     []TestResult `json:"tests"`
	// StartMillis is the time from start to the first test passing its wait.
	StartMillis int64  `json:"startMillis"`
	Millis      int64  `json:"millis"`
	Log         string `json:"log,omitempty"` // the service's output, bounded
	Note        string `json:"note,omitempty"`
}

// TestResult is one test's outcome.
type TestResult struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Result   string `json:"result"` // pass, fail, error
	Attempts int    `json:"attempts"`
	Millis   int64  `json:"millis"`
	Expected string `json:"expected,omitempty"`
	Observed string `json:"observed,omitempty"`
}

// Results of tests and trials.
const (
	Pass  = "pass"
	Fail  = "fail"
	Error = "error"
)

// Validate reports what is missing.
func (t *Trial) Validate() error {
	if err := t.check("Trial"); err != nil {
		return err
	}
	if err := t.Candidate.Validate(); err != nil {
		return invalid("candidate", err.Error())
	}
	for i, r := range t.Tests {
		if !oneOf(r.Result, Pass, Fail, Error) {
			return invalid(at("tests", i), "result is pass, fail or error")
		}
		if r.Result != Pass && t.Result == Pass {
			return invalid("result", "pass, but test "+r.Name+" did not")
		}
	}
	if !oneOf(t.Result, Pass, Fail, Error) {
		return invalid("result", "is pass, fail or error")
	}
	return nil
}
