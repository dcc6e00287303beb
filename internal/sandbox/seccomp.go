package sandbox

import (
	"fmt"
	"slices"
	"sync"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// deniedCalls are refused with EPERM: what reaches beyond a container, or
// widens the kernel's face for no container's benefit. ptrace and its kin stay
// allowed, as in container engines: a pid namespace shows no foreign process.
// Names that an architecture lacks are left out there.
var deniedCalls = []string{
	// kernel: modules, other kernels, programs in the kernel, its log and clock
	"init_module", "finit_module", "delete_module", "create_module", "query_module", "get_kernel_syms",
	"kexec_load", "kexec_file_load", "bpf", "perf_event_open", "syslog", "reboot", "lookup_dcookie",
	"settimeofday", "clock_settime", "clock_settime64", "clock_adjtime", "clock_adjtime64", "stime",
	// mounts and namespaces
	"mount", "umount", "umount2", "pivot_root", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount",
	"open_tree", "open_tree_attr", "mount_setattr", "listmount", "statmount", "setns", "unshare",
	// keys of the session, memory faults in user space, rings that bypass this filter
	"add_key", "keyctl", "request_key", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register",
	// other processes' memory and files by other means than ptrace
	"kcmp", "pidfd_getfd", "process_madvise", "move_pages", "migrate_pages", "set_mempolicy_home_node",
	// files by handle, quotas, swap, accounting, whole file systems
	"open_by_handle_at", "quotactl", "quotactl_fd", "swapon", "swapoff", "acct", "fanotify_init",
	"sysfs", "_sysctl", "uselib", "ustat", "nfsservctl", "vhangup",
	// hardware
	"ioperm", "iopl", "modify_ldt", "vm86", "vm86old", "pciconfig_read", "pciconfig_write", "pciconfig_iobase",
}

// Flags of clone that make a namespace.
const cloneNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// Socket families without a network namespace or with a record of kernel faults.
const (
	familyVsock = unix.AF_VSOCK
	familyAlg   = unix.AF_ALG
)

// filter is the assembled program, made once.
var filter = sync.OnceValues(func() ([]unix.SockFilter, error) {
	info, err := arch.GetInfo("")
	if err != nil {
		return nil, fmt.Errorf("assembling the seccomp filter: %w", err)
	}
	names := slices.DeleteFunc(slices.Clone(deniedCalls), func(n string) bool {
		_, known := info.SyscallNames[n]
		return !known
	})
	when := func(call string, arg uint32, op seccomp.Operation, v uint64) seccomp.NameWithConditions {
		return seccomp.NameWithConditions{Name: call, Conditions: seccomp.ArgumentConditions{{Argument: arg, Operation: op, Value: v}}}
	}
	policy := seccomp.Policy{
		DefaultAction: seccomp.ActionAllow,
		// One group only: the library's first group ends the program.
		Syscalls: []seccomp.SyscallGroup{{
			Action: seccomp.ActionErrno | seccomp.Action(unix.EPERM),
			Names:  names,
			NamesWithCondtions: []seccomp.NameWithConditions{
				when("clone", 0, seccomp.BitsSet, cloneNamespaces),
				when("socket", 0, seccomp.Equal, familyVsock),
				when("socket", 0, seccomp.Equal, familyAlg),
			},
		}},
	}
	program, err := policy.Assemble()
	if err != nil {
		return nil, fmt.Errorf("assembling the seccomp filter: %w", err)
	}
	raw, err := bpf.Assemble(append(noClone3(info), program...))
	if err != nil {
		return nil, fmt.Errorf("assembling the seccomp filter: %w", err)
	}
	out := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		out[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return out, nil
})

// noClone3 answers ENOSYS to clone3, whose flags lie in memory where a filter
// cannot see them: the C library then uses clone. It stands before the library's
// program, which has one action only.
func noClone3(info *arch.Info) []bpf.Instruction {
	const (
		offNumber, offArch = 0, 4
		clone3             = 435
		retErrno           = 0x00050000
	)
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(info.ID), SkipTrue: 3},
		bpf.LoadAbsolute{Off: offNumber, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: clone3, SkipTrue: 1},
		bpf.RetConstant{Val: retErrno | uint32(unix.ENOSYS)},
	}
}
