package kiln

// ImageConfig is the run-time configuration of an image: what the recipe asked
// for, as hardening may have narrowed it (a numeric non-root user, a health
// check, labels).
type ImageConfig struct {
	Entrypoint  []string          `json:"entrypoint,omitempty"`
	Command     []string          `json:"command,omitempty"`
	User        string            `json:"user,omitempty"` // uid[:gid], numeric
	WorkDir     string            `json:"workdir,omitempty"`
	Env         []string          `json:"env,omitempty"` // NAME=value, sorted
	Ports       []string          `json:"ports,omitempty"`
	Volumes     []string          `json:"volumes,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	StopSignal  string            `json:"stopSignal,omitempty"`
	Healthcheck *Healthcheck      `json:"healthcheck,omitempty"`
	// History are the commands that made an image's layers, as an image that was not built here records them.
	History []string `json:"history,omitempty"`
}
