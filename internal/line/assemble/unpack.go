package assemble

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/md5" //nolint:gosec // dpkg's database wants MD5 of configuration files
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"kiln/internal/tree"
)

// maxMembers bounds the entries of one package; the largest in a public archive has about 100,000.
const maxMembers = 1_000_000

// unpacker puts packages into the tree, one after the other. Several share claims.
type unpacker struct {
	at        *place
	claims    *claims
	owners    *owners
	diverted  map[string]diversion // by path as packages ship it
	buf       []byte
	sum       hash.Hash
	interests []string // paths whose changes a package wants to hear of
	dirTimes  bool     // directories get the times of the archive
	tolerant  bool     // a clash with another package is noted in claims instead of an error
}

type link struct{ name, target string }

// unpack puts the files of p into the tree and notes in p what dpkg's database needs.
func (u *unpacker) unpack(ctx context.Context, p *pkg, data io.Reader) error {
	tr := tar.NewReader(bufio.NewReaderSize(data, 128<<10))
	var links []link
	for n := 0; ; n++ {
		if n%256 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("reading data.tar: %w", err)
		}
		if n >= maxMembers {
			return fmt.Errorf("more than %d members", maxMembers)
		}
		l, err := u.member(p, h, tr)
		if err != nil {
			return err
		}
		if l.name != "" {
			links = append(links, l)
		}
	}
	for _, l := range links {
		if err := u.tolerate(p, u.link(p, l)); err != nil {
			return fmt.Errorf("/%s: %w", l.name, err)
		}
	}
	return nil
}

// errClash is what two packages in each other's way give.
type errClash struct{ error }

func (u *unpacker) tolerate(p *pkg, err error) error {
	var clash errClash
	if err != nil && u.tolerant && (errors.As(err, &clash) || errors.Is(err, errThroughLink)) {
		u.claims.refuse(p, err)
		return nil
	}
	return err
}

// member unpacks one entry; a hard link is returned for later.
func (u *unpacker) member(p *pkg, h *tar.Header, body io.Reader) (link, error) {
	name, err := checkMember(h)
	if err != nil {
		return link{}, err
	}
	p.list = append(p.list, name)
	u.watch(p, name)
	dest := u.destination(p, name)
	switch h.Typeflag {
	case tar.TypeDir:
		err = u.directory(p, name, h)
	case tar.TypeReg:
		err = u.file(p, name, dest, h, body)
	case tar.TypeSymlink:
		err = u.symlink(p, dest, h)
	case tar.TypeFifo:
		err = u.fifo(p, dest, h)
	case tar.TypeLink:
		target, err := checkName(h.Linkname)
		if err != nil {
			return link{}, fmt.Errorf("target of hard link /%s: %w", name, err)
		}
		return link{dest, u.destination(p, target)}, nil
	}
	if err := u.tolerate(p, err); err != nil {
		return link{}, fmt.Errorf("/%s: %w", name, err)
	}
	return link{}, nil
}

// checkMember refuses what no package may hold.
func checkMember(h *tar.Header) (string, error) {
	name, err := checkName(h.Name)
	if err != nil {
		return "", err
	}
	if err := tree.CheckDense(h); err != nil {
		return "", fmt.Errorf("/%s: %w", name, err)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeFifo:
		return name, nil
	case tar.TypeChar, tar.TypeBlock:
		return "", fmt.Errorf("/%s is a device node, which is refused", name)
	}
	return "", fmt.Errorf("/%s is of the unknown type %q, which is refused", name, h.Typeflag)
}

func (u *unpacker) destination(p *pkg, name string) string {
	if d, ok := u.diverted[name]; ok && d.by != p.Name {
		name = d.to
	}
	return canonical(name)
}

// watch notes the directories and files whose changes somebody wants to hear of.
func (u *unpacker) watch(p *pkg, name string) {
	for _, path := range u.interests {
		if name == path || strings.HasPrefix(name, path) && name[len(path)] == '/' {
			p.fires[path] = true
		}
	}
}

func (u *unpacker) directory(p *pkg, name string, h *tar.Header) error {
	if merged[name] {
		name = "usr/" + name
	}
	name = canonical(name)
	if _, err := u.at.dir(name, true); err != nil {
		return err
	}
	uid, gid := u.owners.of(h)
	d := dirClaim{index: p.index, mode: uint32(h.Mode & 0o7777), uid: uid, gid: gid}
	if u.dirTimes {
		d.mtime = h.ModTime.Unix()
	}
	u.claims.dir(name, d)
	return nil
}

// claim makes sure that p may have the path, and that nothing of another package is in the way.
func (u *unpacker) claim(p *pkg, dest string) (mine bool, err error) {
	mine, err = u.claims.take(dest, p)
	if err != nil {
		return false, errClash{err}
	}
	return mine, nil
}

// occupied decides what to do about something that is already at dest: the
// file of a package that p replaces makes room.
func (u *unpacker) occupied(p *pkg, dest string, again func() error) error {
	if u.claims.owner(dest) != p {
		return nil // a package that replaces p came in between
	}
	if !p.won[dest] {
		u.claims.release(dest)
		return errClash{errors.New("something else is already there")}
	}
	if err := u.at.remove(dest); err != nil {
		return err
	}
	return again()
}

func (u *unpacker) file(p *pkg, name, dest string, h *tar.Header, body io.Reader) error {
	if mine, err := u.claim(p, dest); err != nil || !mine {
		return err
	}
	var sum hash.Hash
	if p.wantsSum(name) {
		u.sum.Reset()
		sum = u.sum
	}
	fd, err := u.at.create(dest)
	if errors.Is(err, unix.EEXIST) {
		fd = -1
		err = u.occupied(p, dest, func() (err error) { fd, err = u.at.create(dest); return err })
		if err == nil && fd < 0 {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("creating the file: %w", err)
	}
	defer unix.Close(fd)
	if err := u.copy(fd, body, h.Size, sum); err != nil {
		return err
	}
	if sum != nil {
		p.sums[name] = hex.EncodeToString(sum.Sum(nil))
	}
	return u.dress(fd, h)
}

func (u *unpacker) copy(fd int, body io.Reader, size int64, sum hash.Hash) error {
	for left := size; left > 0; {
		n, err := io.ReadFull(body, u.buf[:min(left, int64(len(u.buf)))])
		if err != nil {
			return fmt.Errorf("reading data.tar: %w", err)
		}
		if sum != nil {
			sum.Write(u.buf[:n])
		}
		if err := writeAll(fd, u.buf[:n]); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		left -= int64(n)
	}
	return nil
}

const paxXattr = "SCHILY.xattr."

// dress sets owner, mode, attributes and time, in the order that keeps set-id bits and capabilities.
func (u *unpacker) dress(fd int, h *tar.Header) error {
	uid, gid := u.owners.of(h)
	if err := unix.Fchown(fd, uid, gid); err != nil {
		return fmt.Errorf("setting owner %d:%d: %w", uid, gid, err)
	}
	if err := unix.Fchmod(fd, uint32(h.Mode&0o7777)); err != nil {
		return fmt.Errorf("setting mode: %w", err)
	}
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, paxXattr)
		if !ok || attr != "security.capability" && !strings.HasPrefix(attr, "user.") {
			continue
		}
		if err := unix.Fsetxattr(fd, attr, []byte(value), 0); err != nil {
			return fmt.Errorf("setting %s: %w", attr, err)
		}
	}
	tv := unix.NsecToTimeval(h.ModTime.UnixNano())
	return unix.Futimes(fd, []unix.Timeval{tv, tv})
}

func (u *unpacker) symlink(p *pkg, dest string, h *tar.Header) error {
	if h.Linkname == "" || strings.ContainsRune(h.Linkname, 0) {
		return errors.New("a symbolic link to nothing")
	}
	if mine, err := u.claim(p, dest); err != nil || !mine {
		return err
	}
	make := func() error { return u.at.symlink(h.Linkname, dest) }
	err := make()
	if errors.Is(err, unix.EEXIST) {
		if target, linkErr := u.at.readlink(dest); linkErr == nil && target == h.Linkname {
			u.claims.release(dest) // it was there before, so undo must leave it
			return nil
		}
		err = u.occupied(p, dest, make)
	}
	if err != nil {
		return fmt.Errorf("making the symbolic link: %w", err)
	}
	return u.dressLink(dest, h)
}

func (u *unpacker) dressLink(dest string, h *tar.Header) error {
	uid, gid := u.owners.of(h)
	return u.at.in(dest, func(dir int, base string) error {
		if err := unix.Fchownat(dir, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("setting owner %d:%d: %w", uid, gid, err)
		}
		ts := unix.NsecToTimespec(h.ModTime.UnixNano())
		return unix.UtimesNanoAt(dir, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (u *unpacker) fifo(p *pkg, dest string, h *tar.Header) error {
	if mine, err := u.claim(p, dest); err != nil || !mine {
		return err
	}
	err := u.at.in(dest, func(dir int, base string) error {
		if err := unix.Mknodat(dir, base, unix.S_IFIFO|0o600, 0); err != nil {
			return err
		}
		return unix.Fchmodat(dir, base, uint32(h.Mode&0o7777), 0)
	})
	if errors.Is(err, unix.EEXIST) {
		return errClash{err}
	}
	if err != nil {
		return fmt.Errorf("making the fifo: %w", err)
	}
	return u.dressLink(dest, h)
}

func (u *unpacker) link(p *pkg, l link) error {
	if mine, err := u.claim(p, l.name); err != nil || !mine {
		return err
	}
	if u.claims.owner(l.target) != p {
		return errClash{fmt.Errorf("a hard link to /%s, which is not this package's", l.target)}
	}
	from, err := u.at.dir(path.Dir(l.target), false)
	if err != nil {
		return err
	}
	// The second call of dir may close the first descriptor, so keep our own.
	if from, err = unix.Dup(from); err != nil {
		return err
	}
	defer unix.Close(from)
	make := func() error {
		return u.at.in(l.name, func(dir int, base string) error {
			return unix.Linkat(from, path.Base(l.target), dir, base, 0)
		})
	}
	err = make()
	if errors.Is(err, unix.EEXIST) {
		err = u.occupied(p, l.name, make)
	}
	if err != nil {
		return fmt.Errorf("making the hard link to /%s: %w", l.target, err)
	}
	return nil
}

func newSum() hash.Hash { return md5.New() } //nolint:gosec // see the import
