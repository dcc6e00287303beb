package sandbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pauseCode waits for ever. It is the first process of a box without a service:
// with SIGCHLD ignored the kernel itself reaps what is orphaned in the box.
var pauseCode = map[string][]byte{
	"amd64": {
		0xb8, 0x22, 0, 0, 0, // mov  $34, %eax     (pause)
		0x0f, 0x05, //          syscall
		0xeb, 0xf7, //          jmp  back
	},
	"arm64": {
		0x00, 0x00, 0x80, 0xd2, // mov x0, #0
		0x01, 0x00, 0x80, 0xd2, // mov x1, #0
		0x02, 0x00, 0x80, 0xd2, // mov x2, #0
		0x03, 0x00, 0x80, 0xd2, // mov x3, #0
		0x04, 0x00, 0x80, 0xd2, // mov x4, #0
		0x28, 0x09, 0x80, 0xd2, // mov x8, #73     (ppoll)
		0x01, 0x00, 0x00, 0xd4, // svc #0
		0xf9, 0xff, 0xff, 0x17, // b   back
	},
}

var elfMachine = map[string]uint16{"amd64": 62, "arm64": 183}

// pauseFile is an executable in memory holding pauseCode, kept open.
var pauseFile = sync.OnceValues(func() (int, error) {
	fd, err := unix.MemfdCreate("pause", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	if _, err := unix.Write(fd, pauseELF()); err != nil {
		return -1, err
	}
	// A file open for writing cannot run; a second descriptor for reading can.
	ro, err := unix.Open(fmt.Sprintf("/proc/thread-self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	_ = unix.Close(fd)
	return ro, err
})

// pauseELF is a static program of one page: header, one segment, the code.
func pauseELF() []byte {
	const base, headers = 0x10000, 64 + 56
	code := pauseCode[runtime.GOARCH]
	size := uint64(headers + len(code))
	var b bytes.Buffer
	le := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	b.WriteString("\x7fELF\x02\x01\x01")
	b.Write(make([]byte, 9))
	le([]uint16{2, elfMachine[runtime.GOARCH]}) // executable
	le(uint32(1))
	le([]uint64{base + headers, 64, 0}) // entry, program headers, no sections
	le(uint32(0))
	le([]uint16{64, 56, 1, 0, 0, 0})
	le([]uint32{1, 5}) // load; read and execute
	le([]uint64{0, base, base, size, size, 0x1000})
	b.Write(code)
	return b.Bytes()
}

// kernelSigaction is the kernel's struct sigaction.
type kernelSigaction struct {
	handler uint64
	_       [3]uint64 // flags, restorer, mask
}

// pause makes the process wait for ever.
func (p *plan) pause() error {
	fd, err := pauseFile()
	if err != nil {
		return fmt.Errorf("sandbox: making the first process: %w", err)
	}
	const ignore = 1
	p.add("ignoring ended children", unix.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), ptr(p, kernelSigaction{handler: ignore}), 0, unsafe.Sizeof(allSignals))
	p.add("running the first process", unix.SYS_EXECVEAT, uintptr(fd), p.str(""), p.strs([]string{pauseName}), p.strs(nil), unix.AT_EMPTY_PATH)
	return nil
}

// pauseName is what the first process of a box without a service is called.
const pauseName = "kiln-pause"
