package kiln

// Recipe says what image is wanted. A user writes it as YAML (kiln.yaml);
// internal/line/recipe reads it strictly and expands its variables.
type Recipe struct {
	Header `yaml:",inline"`
	// Name is what the image is called and published under: a-z 0-9 . _ - /.
	Name string `json:"name" yaml:"name"`
	// Version becomes a tag and a label; it says nothing about packages.
	Version string `json:"version,omitempty" yaml:"version,omitempty"`
	// Description is one line for people; it becomes a label.
	Description string `json:"description,omitempty" yaml:"description,omitempty"`
	// Variables are values that --var NAME=VALUE may change.
	Variables map[string]Variable `json:"variables,omitempty" yaml:"variables,omitempty"`
	Base      Base                `json:"base" yaml:"base"`
	// Platform is os/arch; empty means the machine's own.
	Platform string `json:"platform,omitempty" yaml:"platform,omitempty"`

	// Packages are Debian packages to install, with what they depend on.
	Packages []PackageRequest `json:"packages,omitempty" yaml:"packages,omitempty"`
	// Recommends installs recommended packages too; default false.
	Recommends bool `json:"recommends,omitempty" yaml:"recommends,omitempty"`
	// Pins prefer versions, as apt_preferences(5) does.
	Pins []Pin `json:"pins,omitempty" yaml:"pins,omitempty"`
	// Groups and then users are made before files are placed and steps run.
	Groups []GroupSpec `json:"groups,omitempty" yaml:"groups,omitempty"`
	// Users are accounts to create; packages make their own.
	Users []UserSpec `json:"users,omitempty" yaml:"users,omitempty"`
	// Files are put into the image after packages are configured, in this order.
	Files []FileSpec `json:"files,omitempty" yaml:"files,omitempty"`
	// Steps run after files are placed, in this order.
	Steps []Step `json:"steps,omitempty" yaml:"steps,omitempty"`

	// Entrypoint is the program and its first arguments: a list, or one line that is split into words without a shell.
	Entrypoint []string `json:"entrypoint,omitempty" yaml:"entrypoint,omitempty"`
	// Command are further arguments, which people may replace at run time: a list, or one line as for entrypoint.
	Command []string `json:"command,omitempty" yaml:"command,omitempty"`
	// User runs the entrypoint: a name or number, or user:group. The image stores numbers.
	User string `json:"user,omitempty" yaml:"user,omitempty"`
	// WorkDir is the folder the entrypoint starts in.
	WorkDir string `json:"workdir,omitempty" yaml:"workdir,omitempty"`
	// Env are environment variables of the entrypoint.
	Env map[string]string `json:"env,omitempty" yaml:"env,omitempty"`
	// Ports that the image serves: "8080", "53/udp".
	Ports []string `json:"ports,omitempty" yaml:"ports,omitempty"`
	// Volumes are folders whose content outlives a container.
	Volumes []string `json:"volumes,omitempty" yaml:"volumes,omitempty"`
	// Labels are added to the image as they are.
	Labels map[string]string `json:"labels,omitempty" yaml:"labels,omitempty"`
	// StopSignal asks the entrypoint to end; default SIGTERM.
	StopSignal string `json:"stopSignal,omitempty" yaml:"stopSignal,omitempty"`
	// Healthcheck tells a runtime whether the container is well.
	Healthcheck *Healthcheck `json:"healthcheck,omitempty" yaml:"healthcheck,omitempty"`

	// Hardening chooses the profile, waivers, and what is removed.
	Hardening Hardening `json:"hardening,omitzero" yaml:"hardening,omitempty"`
	// Tests must pass against the image, started cold in the sandbox, or there is no image.
	Tests []Test `json:"tests,omitempty" yaml:"tests,omitempty"`
	// Outputs are places for the image besides the local store.
	Outputs []Output `json:"outputs,omitempty" yaml:"outputs,omitempty"`
	// Policy is the path of an admission policy; empty means the built-in default.
	Policy string `json:"policy,omitempty" yaml:"policy,omitempty"`

	// Dir is the folder that relative paths start from. It is never stored.
	Dir string `json:"-" yaml:"-"`
}

// Variable is a named value that ${name} stands for anywhere in the recipe.
// In YAML it may be a plain scalar, its default.
type Variable struct {
	// Default is the value unless one is given; without it a value must be given.
	Default *string `json:"default,omitempty" yaml:"default,omitempty"`
	// Description is for people.
	Description string `json:"description,omitempty" yaml:"description,omitempty"`
}

// Base is where the image starts: exactly one field is set.
type Base struct {
	// Apt is a signed Debian-family archive. In YAML the word "machine" means the machine's own apt sources.
	Apt *AptBase `json:"apt,omitempty" yaml:"apt,omitempty"`
	// OCI is an image reference in a registry.
	OCI string `json:"oci,omitempty" yaml:"oci,omitempty"`
	// Layout is the path of an OCI image layout directory (path[:tag] or path[@digest]).
	Layout string `json:"layout,omitempty" yaml:"layout,omitempty"`
	// Archive is the path of a docker-archive tar (docker save, podman save).
	Archive string `json:"archive,omitempty" yaml:"archive,omitempty"`
	// Kiln is NAME@CHANNEL of an image in the local store.
	Kiln string `json:"kiln,omitempty" yaml:"kiln,omitempty"`
}

// AptBase is a Debian-family release and the archives it is taken from.
type AptBase struct {
	// Machine takes release, archives and keyrings from the machine's own apt sources.
	Machine bool `json:"machine,omitempty" yaml:"machine,omitempty"`
	// Release is the codename (bookworm, trixie, jammy, noble). With Machine set and Release empty it is the machine's.
	Release string `json:"release,omitempty" yaml:"release,omitempty"`
	// Archives are where packages are taken from.
	Archives []AptArchive `json:"archives,omitempty" yaml:"archives,omitempty"`
}

// AptArchive is one deb822 source: URI, suites ("pockets") and components.
type AptArchive struct {
	// URI is the archive's address: http, https or file.
	URI string `json:"uri" yaml:"uri"`
	// Suites are pockets such as bookworm, bookworm-updates, bookworm-security.
	Suites []string `json:"suites" yaml:"suites"`
	// Components default to main.
	Components []string `json:"components,omitempty" yaml:"components,omitempty"`
	// Keyring is the path of an OpenPGP keyring, binary or armored.
	Keyring string `json:"keyring" yaml:"keyring"`
	// Fingerprints narrow the keyring to these primary or signing-subkey fingerprints (40 or 64 hex digits).
	Fingerprints []string `json:"fingerprints,omitempty" yaml:"fingerprints,omitempty"`
	// Expired lets a suite whose Valid-Until has passed be used; the exception shows in the evidence.
	Expired *Exception `json:"expired,omitempty" yaml:"expired,omitempty"`
}

// PackageRequest is a package by name, "name=version" (with * as in apt) or "name/suite". In YAML a plain string.
type PackageRequest struct {
	// Name is the package's.
	Name string `json:"name" yaml:"name"`
	// Version is exact, or with * for any text.
	Version string `json:"version,omitempty" yaml:"version,omitempty"`
	// Suite takes the package from that suite.
	Suite string `json:"suite,omitempty" yaml:"suite,omitempty"`
	// Recommends overrides the recipe's for this package.
	Recommends *bool `json:"recommends,omitempty" yaml:"recommends,omitempty"`
}

// Pin is one apt_preferences(5) entry: of the packages that Package matches (glob),
// versions from Release (suite or codename) or matching Version get Priority.
type Pin struct {
	// Package is a name, with * for any text.
	Package string `json:"package" yaml:"package"`
	// Version matches versions, with * for any text.
	Version string `json:"version,omitempty" yaml:"version,omitempty"`
	// Release is a suite or codename.
	Release string `json:"release,omitempty" yaml:"release,omitempty"`
	// Priority is -32768 to 32767, not 0; negative forbids, above 1000 allows a downgrade.
	Priority int `json:"priority" yaml:"priority"`
}

// GroupSpec is a group to create; GID -1 is not allowed, nil means the next free system id.
type GroupSpec struct {
	// Name is 1 to 32 of a-z 0-9 _ -.
	Name string `json:"name" yaml:"name"`
	// GID is the number; default the next free one of the system range.
	GID *int `json:"gid,omitempty" yaml:"gid,omitempty"`
}

// UserSpec is an account to create. It never gets a password.
type UserSpec struct {
	// Name is 1 to 32 of a-z 0-9 _ -.
	Name string `json:"name" yaml:"name"`
	// UID is the number, not 0; default the next free one of the system range.
	UID *int `json:"uid,omitempty" yaml:"uid,omitempty"`
	// Group is the primary group; default one of the user's own name.
	Group string `json:"group,omitempty" yaml:"group,omitempty"`
	// Groups are further groups.
	Groups []string `json:"groups,omitempty" yaml:"groups,omitempty"`
	// Home is an absolute path; default /nonexistent.
	Home string `json:"home,omitempty" yaml:"home,omitempty"`
	// Shell is an absolute path; default /usr/sbin/nologin.
	Shell string `json:"shell,omitempty" yaml:"shell,omitempty"`
}

// FileSpec is a file, directory tree or symbolic link to put into the image.
// Exactly one of Content, Source, Directory, Symlink is set.
type FileSpec struct {
	// Path is where it goes: absolute.
	Path string `json:"path" yaml:"path"`
	// Content is the file's text.
	Content *string `json:"content,omitempty" yaml:"content,omitempty"`
	// Source is a file or directory beside the recipe, copied whole.
	Source string `json:"source,omitempty" yaml:"source,omitempty"`
	// Directory makes an empty directory.
	Directory bool `json:"directory,omitempty" yaml:"directory,omitempty"`
	// Symlink makes a symbolic link to this text.
	Symlink string `json:"symlink,omitempty" yaml:"symlink,omitempty"`
	// Mode is octal text such as "0644"; default 0644 for files (0755 where the source is executable), 0755 for directories.
	Mode string `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Owner is a user's name or number; default root.
	Owner string `json:"owner,omitempty" yaml:"owner,omitempty"`
	// Group is a group's name or number; default root.
	Group string `json:"group,omitempty" yaml:"group,omitempty"`
}

// Step is one thing to do in the tree, in order: exactly one of Run or Component is set.
type Step struct {
	// Name says what the step is for.
	Name string `json:"name,omitempty" yaml:"name,omitempty"`
	// Run is a shell script, executed by /bin/sh -eu in the sandbox as root.
	Run string `json:"run,omitempty" yaml:"run,omitempty"`
	// Component is the path of an EC2 Image Builder component document; its build and validate phases run here, its test phase with the tests.
	Component string `json:"component,omitempty" yaml:"component,omitempty"`
	// Parameters are the component's parameters.
	Parameters map[string]string `json:"parameters,omitempty" yaml:"parameters,omitempty"`
	// Network lets this step reach the network; default is none.
	Network bool `json:"network,omitempty" yaml:"network,omitempty"`
	// Env are environment variables of the step.
	Env map[string]string `json:"env,omitempty" yaml:"env,omitempty"`
	// Timeout is a Go duration; default 10m.
	Timeout Duration `json:"timeout,omitempty" yaml:"timeout,omitempty"`
}

// Healthcheck is the image's own check (OCI: docker's Healthcheck extension).
type Healthcheck struct {
	// Command exits with 0 while all is well: a list, or one line as for entrypoint. It must exist in the image.
	Command []string `json:"command" yaml:"command"`
	// Interval is the time between two checks; default 30s.
	Interval Duration `json:"interval,omitempty" yaml:"interval,omitempty"`
	// Timeout is how long one check may take; default 30s.
	Timeout Duration `json:"timeout,omitempty" yaml:"timeout,omitempty"`
	// Retries is how many failures in a row make the container unhealthy; default 3.
	Retries int `json:"retries,omitempty" yaml:"retries,omitempty"`
}

// Hardening chooses objectives and what may be taken away.
type Hardening struct {
	// Profile is a name in the catalogue; default "container-baseline"; "none" applies nothing.
	Profile string `json:"profile,omitempty" yaml:"profile,omitempty"`
	// Profiles are several names in the catalogue, instead of profile: every objective of any of them, each by the
	// variant that meets all of them. All are for containers, or all for machines.
	Profiles []string `json:"profiles,omitempty" yaml:"profiles,omitempty"`
	// ProfileFile is the path of a profile of your own beside the recipe, instead of profile: what it inherits, adds and removes.
	ProfileFile string `json:"profileFile,omitempty" yaml:"profileFile,omitempty"`
	// Tailoring is the path of an XCCDF tailoring file beside the recipe, which changes the profile.
	Tailoring string `json:"tailoring,omitempty" yaml:"tailoring,omitempty"`
	// TailoringProfile is the id of the tailoring's profile, where it has several.
	TailoringProfile string `json:"tailoringProfile,omitempty" yaml:"tailoringProfile,omitempty"`
	// AddPackages installs the packages that the objectives ask for (a time daemon, auditd, a firewall ...) and that the
	// recipe does not name. Without it such an objective stays unmet, and its outcome names the package.
	AddPackages bool `json:"addPackages,omitempty" yaml:"addPackages,omitempty"`
	// Include are further objectives, by id.
	Include []string `json:"include,omitempty" yaml:"include,omitempty"`
	// Waivers are objectives not to be met, each with an owner, a reason and an expiry.
	Waivers []Waiver `json:"waivers,omitempty" yaml:"waivers,omitempty"`
	// Remove lists what the finished image must not contain.
	Remove Removal `json:"remove,omitzero" yaml:"remove,omitempty"`
}

// Removal lists what the finished image must not contain.
type Removal struct {
	// PackageManager removes dpkg's and apt's programs; the package database stays, so that scanners see.
	PackageManager bool `json:"packageManager,omitempty" yaml:"packageManager,omitempty"`
	// Shell removes every shell.
	Shell bool `json:"shell,omitempty" yaml:"shell,omitempty"`
	// Docs removes manual pages, documentation (copyright files stay) and locales.
	Docs bool `json:"docs,omitempty" yaml:"docs,omitempty"`
	// Unused removes every package that neither the recipe's packages nor their dependencies need, Essential ones too.
	Unused bool `json:"unused,omitempty" yaml:"unused,omitempty"`
	// Packages are removed by name, with the reason being the user's.
	Packages []string `json:"packages,omitempty" yaml:"packages,omitempty"`
	// Keep are packages that Unused leaves alone.
	Keep []string `json:"keep,omitempty" yaml:"keep,omitempty"`
}

// Exception is a named departure from a rule. All fields but ID are mandatory.
type Exception struct {
	ID      string `json:"id,omitempty" yaml:"id,omitempty"`
	Owner   string `json:"owner" yaml:"owner"`
	Reason  string `json:"reason" yaml:"reason"`
	Expires string `json:"expires" yaml:"expires"` // YYYY-MM-DD, the last day it holds
	// ApprovedBy is who agreed besides the owner; admission policies demand it, recipes do not have it.
	ApprovedBy string `json:"approvedBy,omitempty" yaml:"-"`
}

// Waiver is an exception for one objective.
type Waiver struct {
	// Objective is the id of what is not met.
	Objective string `json:"objective" yaml:"objective"`
	Exception `yaml:",inline"`
}

// Output is where the finished image goes besides the local store; exactly one of Layout, Archive, Registry is set.
type Output struct {
	// Layout is an OCI image layout directory.
	Layout string `json:"layout,omitempty" yaml:"layout,omitempty"`
	// Archive is a docker-archive tar file.
	Archive string `json:"archive,omitempty" yaml:"archive,omitempty"`
	// Registry is a reference to push to, for example registry.example.com/base/nginx:stable.
	Registry string `json:"registry,omitempty" yaml:"registry,omitempty"`
	// Insecure speaks plain http; only to a registry on this machine.
	Insecure bool `json:"insecure,omitempty" yaml:"insecure,omitempty"`
}
