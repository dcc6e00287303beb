package main

import (
	"fmt"
	"strings"

	"kiln"
)

func parseVars(list []string) (map[string]string, error) {
	vars := map[string]string{}
	for _, s := range list {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, kiln.Misuse(fmt.Errorf("--var %q: write name=value", s))
		}
		vars[name] = value
	}
	return vars, nil
}
