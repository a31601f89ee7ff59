package guest

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// refused are the system calls that an engine has no use for and that reach far into the kernel or into
// other processes. They fail with EPERM.
var refused = []uint32{
	// other processes
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KCMP, unix.SYS_PIDFD_GETFD, unix.SYS_PIDFD_OPEN,
	unix.SYS_PROCESS_MADVISE, unix.SYS_PROCESS_MRELEASE,
	// name spaces and mounts
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_OPEN_TREE,
	unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_FANOTIFY_INIT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD,
	// the kernel's own programs, keys and counters
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
	unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_SYSLOG, unix.SYS_LOOKUP_DCOOKIE, unix.SYS_VHANGUP,
	// the machine
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME,
	unix.SYS_ADJTIMEX, unix.SYS_ACCT, unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_MODIFY_LDT, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
}

// newNamespaces are the flags of clone that would make namespaces, CLONE_NEWUSER before all.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// Offsets in struct seccomp_data (linux/seccomp.h), and the first number of the x32 calls.
const (
	dataNr   = 0
	dataArch = 4
	dataArg0 = 16 // its low half
	firstX32 = 0x40000000
)

// filter is the program of classic BPF: another architecture's call or an x32 one kills, so that every
// number below means what it says; clone3, whose flags a filter cannot see, does not exist (the C library
// then uses clone); sockets are UNIX sockets, and with ip those of IP, in a namespace that leads nowhere.
func filter(ip bool) []unix.SockFilter {
	load := func(off uint32) unix.SockFilter { return stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, off) }
	ret := func(v uint32) unix.SockFilter { return stmt(unix.BPF_RET|unix.BPF_K, v) }
	eq := func(v uint32, yes, no uint8) unix.SockFilter { return jump(unix.BPF_JEQ, v, yes, no) }
	fail := func(e unix.Errno) unix.SockFilter { return ret(unix.SECCOMP_RET_ERRNO | uint32(e)) }
	p := []unix.SockFilter{
		load(dataArch), eq(unix.AUDIT_ARCH_X86_64, 1, 0), ret(unix.SECCOMP_RET_KILL_PROCESS),
		load(dataNr), jump(unix.BPF_JGE, firstX32, 0, 1), ret(unix.SECCOMP_RET_KILL_PROCESS),
		eq(unix.SYS_CLONE3, 0, 1), fail(unix.ENOSYS),
		eq(unix.SYS_CLONE, 0, 4), load(dataArg0), jump(unix.BPF_JSET, newNamespaces, 0, 1), fail(unix.EPERM), ret(unix.SECCOMP_RET_ALLOW),
	}
	families := []uint32{unix.AF_UNIX}
	if ip {
		families = append(families, unix.AF_INET, unix.AF_INET6)
	}
	for _, nr := range []uint32{unix.SYS_SOCKET, unix.SYS_SOCKETPAIR} {
		n := uint8(len(families))
		p = append(p, eq(nr, 0, n+3), load(dataArg0))
		for i, f := range families {
			p = append(p, eq(f, n-uint8(i), 0)) // to the end of these four or more: allowed
		}
		p = append(p, fail(unix.EAFNOSUPPORT), ret(unix.SECCOMP_RET_ALLOW))
	}
	for _, nr := range refused {
		p = append(p, eq(nr, 0, 1), fail(unix.EPERM))
	}
	return append(p, ret(unix.SECCOMP_RET_ALLOW))
}

func stmt(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }

func jump(op uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, K: k, Jt: yes, Jf: no}
}

// seccomp puts the filter on this thread, for good. It wants no-new-privileges set.
func seccomp(ip bool) error {
	p := filter(ip)
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
}
