package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"kiln"
)

// save runs `podman save` or `docker save`. The name is one argument and cannot be an option.
func save(ctx context.Context, program, name, file string) error {
	if strings.HasPrefix(name, "-") {
		return kiln.Misuse(fmt.Errorf("%q is no image name", name))
	}
	args := []string{"save", "-o", file, name}
	if program == "podman" {
		args = []string{"save", "--format", "docker-archive", "-o", file, name}
	}
	var complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stderr = &complaint
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return kiln.Misuse(kiln.WithHint(fmt.Errorf("%s is not installed", program), "save the image where it is, and audit the archive"))
	case err != nil:
		return kiln.WithHint(fmt.Errorf("%s save %s: %w: %s", program, name, err, lastLine(complaint.String())), "`"+program+" images` says whether it runs, and lists what there is")
	}
	return nil
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	const most = 300
	if len(text) > most {
		text = text[:most]
	}
	return text
}
