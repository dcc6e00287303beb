package catalogue

import (
	"fmt"
	"slices"
	"sync"
)

// RequirementReason says why requirements of the General Purpose Operating
// System SRG are not judged on a container image. The reasons are Kiln's, not DISA's.
type RequirementReason struct {
	Reason string `yaml:"reason"`
	// State is "not-applicable" or "not-assessed".
	State string `yaml:"state"`
	// When are objectives that must hold on an image for the reason to be true of it; where one does not, nothing is said.
	When []string `yaml:"when"`
	// IDs are requirements ("SRG-OS-000021-GPOS-00005"), each in one list only.
	IDs []string `yaml:"ids"`
}

// GPOSReasons returns the reasons for container images. A requirement that is
// neither here nor referred to by an objective is one of which nothing is known.
func GPOSReasons() ([]RequirementReason, error) { return gposReasons() }

var gposReasons = sync.OnceValues(func() ([]RequirementReason, error) {
	var list []RequirementReason
	if err := readFile(data, "gpos-srg.yaml", &list); err != nil {
		return nil, fmt.Errorf("internal error: catalogue: %w", err)
	}
	seen := map[string]bool{}
	for _, r := range list {
		if r.Reason == "" || !slices.Contains([]string{"not-applicable", "not-assessed"}, r.State) || len(r.IDs) == 0 {
			return nil, fmt.Errorf("internal error: catalogue: gpos-srg.yaml: %q has no reason, state or ids", r.Reason)
		}
		for _, id := range r.IDs {
			if seen[id] {
				return nil, fmt.Errorf("internal error: catalogue: gpos-srg.yaml: %s stands twice", id)
			}
			seen[id] = true
		}
	}
	return list, nil
})
