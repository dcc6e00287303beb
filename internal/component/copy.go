package component

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

func (x *run) copyFile(in input) error   { return x.transfer(in, false, false) }
func (x *run) moveFile(in input) error   { return x.transfer(in, false, true) }
func (x *run) copyFolder(in input) error { return x.transfer(in, true, false) }
func (x *run) moveFolder(in input) error { return x.transfer(in, true, true) }

// transfer copies or moves files or folders. A destination that ends with /
// is the folder to put them into, any other is the new name.
func (x *run) transfer(in input, folders, move bool) error {
	source, destination := in.text("source"), in.text("destination")
	list, err := x.expand(source, func(m fs.FileMode) bool { return m.IsDir() == folders })
	if err != nil {
		return err
	}
	into := strings.HasSuffix(destination, "/")
	switch {
	case len(list) == 0:
		return fmt.Errorf("nothing matches %s", source)
	case strings.Contains(path.Base(source), "*") && !into:
		return fmt.Errorf("the source has *, so the destination %s must end with /", destination)
	}
	for _, from := range list {
		to := destination
		if into {
			to = path.Join(destination, path.Base(from))
		}
		if err := x.transferOne(from, to, in.flag("overwrite", true), folders, move); err != nil {
			return err
		}
	}
	return nil
}

func (x *run) transferOne(from, destination string, overwrite, folders, move bool) error {
	if !move { // a copy takes what a link stands for; a move takes the link
		at, err := x.follow("/"+from, true)
		if err != nil {
			return err
		}
		from = at
	}
	to, err := x.follow(destination, !move)
	if err != nil {
		return err
	}
	info, err := x.root.Lstat(from)
	switch {
	case err != nil:
		return err
	case info.IsDir() && !folders:
		return fmt.Errorf("/%s is a folder", from)
	case !info.IsDir() && folders:
		return fmt.Errorf("/%s is no folder", from)
	case from == to:
		return fmt.Errorf("/%s is source and destination", from)
	case strings.HasPrefix(to+"/", from+"/") || from == ".":
		return fmt.Errorf("/%s cannot go into itself", from)
	}
	if there, err := x.root.Lstat(to); err == nil {
		switch {
		case !overwrite:
			return fmt.Errorf("/%s is already there, and overwrite is false", to)
		case there.IsDir() != folders:
			return fmt.Errorf("/%s is there and of another kind", to)
		}
	}
	if err := x.parents(to); err != nil {
		return err
	}
	if move {
		return x.move(from, to)
	}
	return x.copyTree(from, to)
}

func (x *run) move(from, to string) error {
	if info, err := x.root.Lstat(to); err == nil && info.IsDir() {
		if err := x.root.RemoveAll(to); err != nil {
			return err
		}
	}
	err := x.root.Rename(from, to)
	if err == nil || !crossDevice(err) {
		return err
	}
	// The file systems of an overlay cannot rename a lower folder.
	if err := x.copyTree(from, to); err != nil {
		return err
	}
	return x.root.RemoveAll(from)
}

// copyTree copies a file, link or folder; in a folder that is there, other files stay.
func (x *run) copyTree(from, to string) error {
	if err := x.ctx.Err(); err != nil {
		return err
	}
	info, err := x.root.Lstat(from)
	if err != nil {
		return err
	}
	switch {
	case info.Mode().IsRegular():
		return x.copyContent(from, to, info)
	case info.Mode()&fs.ModeSymlink != 0:
		return x.copyLink(from, to)
	case !info.IsDir():
		return fmt.Errorf("/%s is no file, folder or link", from)
	}
	if err := x.root.Mkdir(to, 0o700); err == nil {
		if err := x.root.Chmod(to, info.Mode().Perm()); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	entries, err := fs.ReadDir(x.root.FS(), from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := x.copyTree(path.Join(from, e.Name()), path.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (x *run) copyLink(from, to string) error {
	target, err := x.root.Readlink(from)
	if err != nil {
		return err
	}
	if err := x.root.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return x.root.Symlink(target, to)
}

// copyContent copies a regular file with its permissions, without set-id bits, as cp does.
func (x *run) copyContent(from, to string, info fs.FileInfo) error {
	if there, err := x.root.Lstat(to); err == nil && !there.Mode().IsRegular() {
		return fmt.Errorf("/%s is there and no regular file", to)
	}
	in, err := x.root.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := x.root.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return x.root.Chmod(to, info.Mode().Perm())
}
