package sandbox

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs fn on an operating system thread of its own, which ends with
// fn: fn may move the thread into other namespaces. It is never the process's
// first thread, because /proc/self speaks of that one.
func onThread(fn func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			fn() // returning locked ends the thread
			return
		}
		// Hold the first thread until another one has taken the work.
		taken := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(taken)
			fn()
		}()
		<-taken
		runtime.UnlockOSThread()
	}()
}
