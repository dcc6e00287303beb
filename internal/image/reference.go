package image

import (
	"errors"

	"kiln"
)

// LockedReference returns what a lock calls an image base: Resolve writes it
// as LockedImage.Reference. Nothing is looked up.
func LockedReference(base kiln.Base) (string, error) {
	switch {
	case base.OCI != "":
		parsed, err := parseRemote(base.OCI, false)
		if err != nil {
			return "", err
		}
		return parsed.Name(), nil
	case base.Layout != "":
		return "oci:" + base.Layout, nil
	case base.Archive != "":
		return "docker-archive:" + base.Archive, nil
	case base.Kiln != "":
		return "kiln:" + base.Kiln, nil
	}
	return "", errors.New("the base is no image: set one of oci, layout, archive, kiln")
}
