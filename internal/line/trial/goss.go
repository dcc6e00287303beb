package trial

import (
	"context"
	"errors"

	"kiln"
)

func (t *trial) goss(context.Context, kiln.Test) outcome {
	return broken("goss file", errors.New("goss files cannot be run yet"))
}
