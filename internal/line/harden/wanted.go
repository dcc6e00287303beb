package harden

import (
	"slices"
	"strconv"
	"strings"

	"kiln"
)

// wanted says what a variant asks for: the values of its settings, or its title.
// Where a kind has no value, such as "no two accounts share a number", it may be
// empty: the objective's title says it.
func wanted(v kiln.Variant) string {
	var parts []string
	for _, set := range v.Settings {
		say, ok := wants[set.Kind]
		if !ok {
			continue
		}
		if text := say(set.Params); text != "" && !slices.Contains(parts, text) {
			parts = append(parts, text)
		}
	}
	if len(parts) == 0 {
		return v.Title
	}
	return list(parts)
}

// want makes a kind's way to say what its parameters ask for.
func want[P any](say func(P) string) func(map[string]any) string {
	return func(m map[string]any) string {
		p, err := params[P](m)
		if err != nil { // it was checked before anything was judged
			return ""
		}
		return say(p)
	}
}

// wants are the kinds whose parameters are values to be seen.
var wants = map[string]func(map[string]any) string{
	"sysctl":       want(func(p sysctlParams) string { return valueWanted(p.Key+" =", p.Accept, p.Value, p.Others) }),
	"config":       want(func(p configParams) string { return valueWanted(p.Key, p.Accept, p.Value, p.Others) }),
	"key-value":    want(func(p keyParams) string { return valueWanted(p.Key, p.Accept, p.Value, p.Others) }),
	"sudo-default": want(func(p sudoParams) string { return valueWanted("Defaults "+p.Name, p.Accept, p.Value, nil) }),
	"apt-setting":  want(func(p aptParams) string { return p.Key + " " + p.Value }),
	"limit":        want(func(p limitParams) string { return valueWanted(p.Domain+" "+p.Type+" "+p.Item, p.Accept, p.Value, nil) }),
	"sshd":         want(sshdWanted),
	"shell-umask":  want(func(p shellUmaskParams) string { return "umask " + p.Value + " or stricter" }),
	"mount": want(func(p mountParams) string {
		if len(p.Options) == 0 {
			return p.Path + " is a file system of its own"
		}
		return p.Path + " mounted with " + strings.Join(p.Options, ",")
	}),
	"kernel-module":   want(func(p moduleParams) string { return p.Name + " cannot be loaded" }),
	"kernel-argument": want(argumentWanted),
	"audit-rules":     want(func(p auditParams) string { return list(p.Rules) }),
	"pam": want(func(p pamParams) string {
		return p.File + ": " + strings.Join(append([]string{p.Type, p.Control, p.Module}, p.Options...), " ")
	}),
	"nftables":             want(func(p nftablesParams) string { return ruleWanted("nftables", p.Need, p.Hooks) }),
	"iptables":             want(func(p iptablesParams) string { return ruleWanted("iptables", p.Need, p.Hooks) }),
	"ufw":                  want(ufwWanted),
	"dconf":                want(func(p dconfParams) string { return p.Key + " " + p.Value + ", locked" }),
	"own-unit":             want(func(p ownUnitParams) string { return "enabled: " + p.Name }),
	"packages-absent":      want(func(p packageParams) string { return "not installed: " + list(p.Packages) }),
	"packages-present":     want(func(p presentPackages) string { return "installed: " + strings.Join(p.Packages, " or ") }),
	"unit-masked":          want(func(p unitParams) string { return "masked: " + list(p.Names) }),
	"unit-enabled":         want(func(p unitParams) string { return "enabled: " + list(p.Names) }),
	"file-mode":            want(modeWanted),
	"file-created":         want(func(p createdParams) string { return p.Path + " with mode " + p.Mode }),
	"line-present":         want(func(p presentParams) string { return "in " + p.Path + ": " + p.Line }),
	"line-absent":          want(func(p lineParams) string { return "no line like " + p.Match + " in " + list(p.Paths) }),
	"setid-cleared":        want(setidWanted),
	"account-password-age": want(ageWanted),
}

func valueWanted(key, accept, value string, others []string) string {
	switch accept {
	case "at-most":
		value += " or less"
	case "at-least":
		value += " or more"
	case "umask":
		value += " or stricter"
	default:
		value = strings.Join(append([]string{value}, others...), " or ")
	}
	return key + " " + value
}

func sshdWanted(p sshdParams) string {
	if len(p.Remove) > 0 {
		return p.Keyword + " without " + list(p.Remove)
	}
	return valueWanted(p.Keyword, p.Accept, p.Value, p.Others)
}

func argumentWanted(p argumentParams) string {
	if p.Absent {
		return "the kernel's command line without " + p.Argument
	}
	return p.Argument + " on the kernel's command line"
}

func modeWanted(p modeParams) string {
	text := list(p.Paths)
	if p.Mode != "" {
		text += " mode " + p.Mode + " or stricter"
	}
	if len(p.Owners) > 0 {
		text += ", owner " + strings.Join(p.Owners, " or ")
	}
	if len(p.Groups) > 0 {
		text += ", group " + strings.Join(p.Groups, " or ")
	}
	return text
}

func setidWanted(p setidParams) string {
	bits := map[string]string{"4000": "setuid", "2000": "setgid"}[p.Bits]
	if bits == "" {
		bits = "setuid or setgid"
	}
	if len(p.Keep) == 0 {
		return "no " + bits + " programs"
	}
	return "no " + bits + " programs but " + list(p.Keep)
}

func ageWanted(p ageParams) string {
	var parts []string
	if p.Least > 0 {
		parts = append(parts, strconv.Itoa(p.Least)+" or more")
	}
	if p.Most > 0 {
		parts = append(parts, strconv.Itoa(p.Most)+" or less")
	}
	return p.Field + " days " + strings.Join(parts, ", ")
}

// ruleWanted says in words what the rules of a firewall must do.
func ruleWanted(program, need string, hooks []string) string {
	switch need {
	case "default-deny":
		return program + " drops what no rule accepts: " + list(hooks)
	case "loopback":
		return program + " takes the machine's own addresses from lo alone"
	case "base-chains":
		return program + " has chains at " + list(filterHooks)
	case "served":
		return program + " opens the ports of the recipe and SSH"
	}
	return program + " has a " + need
}

func ufwWanted(p ufwParams) string {
	switch p.Need {
	case "asked":
		return "ufw opens no port but those of the recipe and SSH"
	case "limited":
		return "ufw limits connections to " + map[string]string{"": "every open port", "ssh": "SSH"}[p.Only]
	case "outgoing":
		return "ufw lets the machine reach " + list(p.Ports)
	}
	return ruleWanted("ufw", p.Need, nil)
}
