package line

import (
	"context"
	"errors"
	"fmt"

	"kiln"
	"kiln/internal/blob/dir"
	"kiln/internal/line/verify"
)

// A cache can be damaged: a bad disk, a copy cut short, a curious hand. Nothing
// damaged is ever used, and what is damaged is of no use to anybody: it is
// dropped, said, and made or fetched again.

// dropDamaged removes the cached blobs whose content is not what their digest says and returns how many there were.
func (l *Line) dropDamaged(digests []kiln.Digest) int {
	n := 0
	for _, d := range digests {
		if err := l.Blobs.Verify(d); errors.Is(err, dir.ErrDigest) && l.Blobs.Remove(d) == nil {
			n++
		}
	}
	return n
}

// Prove brings every input of the lock into the cache and checks the whole
// chain from there: signature, index, package.
func (l *Line) Prove(ctx context.Context, lock *kiln.Lock) ([]kiln.Evidence, error) {
	return l.prove(ctx, lock, nil)
}

// prove is Prove for the build of a recipe, which may demand certain signers; nil demands none.
func (l *Line) prove(ctx context.Context, lock *kiln.Lock, r *kiln.Recipe) ([]kiln.Evidence, error) {
	evidence, err := l.fetchAndVerify(ctx, lock, r)
	var failed *verify.LockError
	if errors.As(err, &failed) {
		if n := l.dropDamaged(Inputs(lock)); n > 0 {
			l.Report.Warn(kiln.StationVerify, fmt.Sprintf("%d inputs were damaged in the cache; they were dropped and are fetched again", n))
			return l.fetchAndVerify(ctx, lock, r)
		}
	}
	return evidence, err
}

func (l *Line) fetchAndVerify(ctx context.Context, lock *kiln.Lock, r *kiln.Recipe) ([]kiln.Evidence, error) {
	if err := l.FetchInputs(ctx, lock); err != nil {
		return nil, err
	}
	return l.verifyLock(ctx, lock, r)
}

// Inputs lists the blobs that a lock needs, some perhaps twice.
func Inputs(lock *kiln.Lock) []kiln.Digest {
	var list []kiln.Digest
	for _, a := range lock.Archives {
		list = append(list, a.InRelease, a.Keyring)
		for _, x := range a.Indexes {
			list = append(list, x.Digest)
		}
	}
	for _, p := range lock.Packages {
		list = append(list, p.Digest)
	}
	return list
}

// errDamagedTree says that a kept tree is not the one that was kept.
var errDamagedTree = errors.New("the kept tree is damaged")
