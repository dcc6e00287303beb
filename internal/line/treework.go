package line

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"kiln"
	"kiln/internal/workspace"
)

// treeWork is a station's work that turns one tree into another.
type treeWork struct {
	station string
	inputs  []any
	from    *treeNote // the tree to start from; nil is an empty folder
	note    *treeNote // what is remembered of the tree made
	result  any       // what is kept: the note, or a document that holds it
	do      func(dir string) error
}

// rememberTree answers from a kept result and a kept tree, or does the work and
// keeps both. The tree before is not lost: it is kept under its own key.
func (j *journey) rememberTree(ctx context.Context, w treeWork) (cached bool, err error) {
	key, err := kiln.DigestOf(append([]any{w.station, j.Program}, w.inputs...))
	if err != nil {
		return false, fmt.Errorf("naming the inputs: %w", err)
	}
	ok, err := j.memo.get(w.station, key, w.result)
	if err != nil || (ok && w.note.Key == key && j.trees.has(key)) {
		return ok, err
	}
	dir, err := j.startingTree(ctx, w.from)
	if err != nil {
		return false, err
	}
	j.at = "" // half-made until the work is done
	if err := w.do(dir); err != nil {
		return false, err
	}
	kept, err := j.trees.save(key, dir, j.build.Lock.Epoch)
	if err != nil {
		return false, err
	}
	w.note.keptTree, w.note.Key = kept, key
	j.at, j.dir = key, dir
	return false, j.memo.put(w.station, key, w.result)
}

func (j *journey) startingTree(ctx context.Context, from *treeNote) (string, error) {
	if from != nil {
		return j.treeAt(ctx, *from)
	}
	if err := j.openWork(); err != nil {
		return "", err
	}
	dir, err := j.work.Fresh("tree")
	j.dir = dir
	return dir, err
}

// treeAt makes sure that the tree of that note lies in the workspace, and returns where.
func (j *journey) treeAt(ctx context.Context, n treeNote) (string, error) {
	if j.at == n.Key && j.dir != "" {
		return j.dir, nil
	}
	dir, err := j.startingTree(ctx, nil)
	if err != nil {
		return "", err
	}
	if err := j.trees.load(n.Key, n.Tree, dir); err != nil {
		var system syscall.Errno // a full disk says nothing about what was kept
		if errors.As(err, &system) && system != syscall.ENOENT {
			return "", err
		}
		_ = j.trees.drop(n.Key)
		return "", fmt.Errorf("%w: %w", errDamagedTree, err)
	}
	j.at = n.Key
	return dir, ctx.Err()
}

func (j *journey) openWork() error {
	if j.work != nil {
		return nil
	}
	var need int64 = 1 << 30
	for _, p := range j.build.Lock.Packages {
		need += 5 * p.Size
	}
	w, err := workspace.Open(j.path("work"), need)
	j.work = w
	return err
}
