package assess

import "errors"

// ErrUnfit is wrapped by errors of Write that say that a form does not suit the
// target, such as a STIG checklist of a platform that has no STIG: who asks for
// every form goes on without it.
var ErrUnfit = errors.New("the form does not suit the target")
