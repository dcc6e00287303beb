package assemble

import "context"

func (a *assembly) add(ctx context.Context, rest []*pkg) error {
	_ = ctx
	if len(rest) > 0 {
		panic("todo")
	}
	return nil
}
