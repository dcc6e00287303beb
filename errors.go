package kiln

import "errors"

// Exit codes are a contract: 0 done, 1 broken, 2 misuse, 3 refused by policy
// or found something. An error that wraps ErrMisuse or ErrRefused gives 2 or 3.
var (
	// ErrMisuse marks errors that the user mends: a recipe, a flag, a missing file.
	ErrMisuse = errors.New("misuse")
	// ErrRefused marks inputs or images that a check did not let pass.
	ErrRefused = errors.New("refused")
)

type marked struct{ err, mark error }

func (m marked) Error() string   { return m.err.Error() }
func (m marked) Unwrap() []error { return []error{m.err, m.mark} }

// Misuse marks err as the user's to mend.
func Misuse(err error) error { return mark(err, ErrMisuse) }

// Refuse marks err as a refusal.
func Refuse(err error) error { return mark(err, ErrRefused) }

func mark(err, as error) error {
	if err == nil || errors.Is(err, as) {
		return err
	}
	return marked{err, as}
}

// Hinted is an error with what to do about it.
type Hinted struct {
	Err  error
	Hint string
}

func (h *Hinted) Error() string { return h.Err.Error() }
func (h *Hinted) Unwrap() error { return h.Err }

// WithHint adds what the user can do.
func WithHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &Hinted{err, hint}
}
