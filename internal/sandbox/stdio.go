package sandbox

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stdio connects a program's three streams with the caller's readers and
// writers: an *os.File is handed over as it is, anything else by a pipe.
type stdio struct {
	child  [3]int     // descriptors for the child, above 2
	pipes  []int      // those of child that are pipes of ours for output
	ends   []*os.File // our ends of pipes that the program writes to
	in     *os.File   // our end of the pipe that it reads from
	copies sync.WaitGroup
	once   sync.Once
}

func (w *builder) openStdio() error {
	var err error
	if w.stdio, err = openStdio(w.spec.Stdin, w.spec.Stdout, w.spec.Stderr); err != nil {
		return err
	}
	return w.stdio.own(w.spec.UID, w.spec.GID)
}

// own gives the pipes to the user that the program runs as: programs open
// /dev/stdout and /dev/stderr by name, as container images commonly make them do.
func (s *stdio) own(uid, gid int) error {
	for _, fd := range s.pipes {
		if err := unix.Fchown(fd, uid, gid); err != nil {
			return fmt.Errorf("giving a pipe to user %d: %w", uid, err)
		}
	}
	return nil
}

func openStdio(in io.Reader, out, errs io.Writer) (*stdio, error) {
	s := &stdio{child: [3]int{-1, -1, -1}}
	if err := s.input(in); err != nil {
		s.abandon()
		return nil, fmt.Errorf("standard input: %w", err)
	}
	if err := s.output(1, out); err != nil {
		s.abandon()
		return nil, fmt.Errorf("standard output: %w", err)
	}
	if errs != nil && same(out, errs) {
		var err error
		if s.child[2], err = dup(s.child[1]); err != nil {
			s.abandon()
			return nil, fmt.Errorf("standard error: %w", err)
		}
		return s, nil
	}
	if err := s.output(2, errs); err != nil {
		s.abandon()
		return nil, fmt.Errorf("standard error: %w", err)
	}
	return s, nil
}

// same tells whether two writers are one, so that their output stays in order.
func same(a, b io.Writer) (is bool) {
	defer func() { _ = recover() }() // types that cannot be compared
	return a == b
}

func (s *stdio) input(in io.Reader) (err error) {
	switch in := in.(type) {
	case nil:
		s.child[0], err = null(unix.O_RDONLY)
	case *os.File:
		s.child[0], err = blocking(in)
	default:
		r, w, pipeErr := os.Pipe()
		if pipeErr != nil {
			return pipeErr
		}
		defer func() { _ = r.Close() }()
		if s.child[0], err = blocking(r); err != nil {
			_ = w.Close()
			return err
		}
		s.in = w
		go func() {
			_, _ = io.Copy(w, in) // the program may stop reading
			_ = w.Close()
		}()
	}
	return err
}

func (s *stdio) output(i int, out io.Writer) (err error) {
	switch out := out.(type) {
	case nil:
		s.child[i], err = null(unix.O_WRONLY)
	case *os.File:
		s.child[i], err = blocking(out)
	default:
		r, w, pipeErr := os.Pipe()
		if pipeErr != nil {
			return pipeErr
		}
		defer func() { _ = w.Close() }()
		if s.child[i], err = blocking(w); err != nil {
			_ = r.Close()
			return err
		}
		s.ends, s.pipes = append(s.ends, r), append(s.pipes, s.child[i])
		s.copies.Add(1)
		go func() {
			defer s.copies.Done()
			if _, err := io.Copy(out, r); err != nil {
				_, _ = io.Copy(io.Discard, r) // the program must not block on our writer's error
			}
		}()
	}
	return err
}

// null opens what nothing comes from and everything vanishes in.
func null(mode int) (int, error) {
	fd, err := unix.Open("/dev/null", mode|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(fd) }()
	return dup(fd)
}

// blocking copies a file's descriptor for a program, which does not expect that
// its streams answer "try again" as Go's own pipes do.
func blocking(f *os.File) (int, error) {
	fd, err := dup(int(f.Fd()))
	if err != nil {
		return -1, err
	}
	return fd, unix.SetNonblock(fd, false)
}

// dup copies a descriptor to one above the three that it will become.
func dup(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 10) }

// closeChild closes our copies of the program's ends.
func (s *stdio) closeChild() {
	s.once.Do(func() {
		for _, fd := range s.child {
			if fd >= 0 {
				_ = unix.Close(fd)
			}
		}
	})
}

// leftovers is how long output of processes that outlive their parent is read.
const leftovers = 2 * time.Second

// finish waits until all output is copied. A process that the program left
// behind may hold a pipe: then it ends after a while.
func (s *stdio) finish() {
	done := make(chan struct{})
	go func() { s.copies.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(leftovers):
		for _, f := range s.ends {
			_ = f.SetReadDeadline(time.Now())
		}
		<-done
	}
	s.abandon()
}

// abandon closes everything.
func (s *stdio) abandon() {
	s.closeChild()
	for _, f := range s.ends {
		_ = f.Close()
	}
	if s.in != nil {
		_ = s.in.Close()
	}
}
