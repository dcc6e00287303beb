package pack

import (
	"maps"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"kiln"
)

const rfc3339 = time.RFC3339

// configFile is the OCI image configuration with docker's Healthcheck, which
// the specification allows as a further field.
type configFile struct {
	Created *time.Time `json:"created"`
	ocispec.Platform
	Config  runConfig         `json:"config"`
	RootFS  ocispec.RootFS    `json:"rootfs"`
	History []ocispec.History `json:"history"`
}

type runConfig struct {
	ocispec.ImageConfig
	Healthcheck *healthcheck `json:"Healthcheck,omitempty"`
}

// healthcheck is in docker's form: durations in nanoseconds.
type healthcheck struct {
	Test     []string      `json:"Test"`
	Interval time.Duration `json:"Interval,omitempty"`
	Timeout  time.Duration `json:"Timeout,omitempty"`
	Retries  int           `json:"Retries,omitempty"`
}

func created(in Input) time.Time { return time.Unix(in.Lock.Epoch, 0).UTC() }

func imageConfig(in Input, platform ocispec.Platform, layers []kiln.Layer) configFile {
	when := created(in)
	c := configFile{Created: &when, Platform: platform, Config: run(in), RootFS: ocispec.RootFS{Type: "layers"}}
	for _, layer := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.Digest(layer.DiffID))
		c.History = append(c.History, ocispec.History{Created: &when, CreatedBy: "kiln", Comment: layer.Role})
	}
	return c
}

func run(in Input) runConfig {
	c := in.Config
	out := runConfig{ImageConfig: ocispec.ImageConfig{
		User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Command, WorkingDir: c.WorkDir,
		Labels: labels(in), StopSignal: c.StopSignal, ExposedPorts: set(c.Ports, withProtocol), Volumes: set(c.Volumes, nil),
	}}
	if h := c.Healthcheck; h != nil {
		out.Healthcheck = &healthcheck{
			Test: append([]string{"CMD"}, h.Command...), Interval: time.Duration(h.Interval), Timeout: time.Duration(h.Timeout), Retries: h.Retries,
		}
	}
	return out
}

// labels are the configuration's, with the annotations for tools that read labels only.
func labels(in Input) map[string]string {
	out := annotations(in)
	maps.Copy(out, in.Config.Labels)
	return out
}

func set(list []string, form func(string) string) map[string]struct{} {
	if len(list) == 0 {
		return nil
	}
	out := map[string]struct{}{}
	for _, s := range list {
		if form != nil {
			s = form(s)
		}
		out[s] = struct{}{}
	}
	return out
}

func withProtocol(port string) string {
	if strings.Contains(port, "/") {
		return port
	}
	return port + "/tcp"
}
