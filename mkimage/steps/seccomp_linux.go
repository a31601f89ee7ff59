package steps

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelRelease is what every kernel is called inside a step. Its number is one that programs know and that is
// not above that of the kernel there is.
const kernelRelease = "5.12.0-" + HostName

// utsname is the answer to uname(2) inside a step.
func utsname() (u unix.Utsname) {
	copy(u.Sysname[:], "Linux")
	copy(u.Nodename[:], HostName)
	copy(u.Release[:], kernelRelease)
	copy(u.Version[:], "#1 SMP")
	copy(u.Machine[:], "x86_64")
	copy(u.Domainname[:], "(none)")
	return u
}

// x32 marks system calls of the x32 ABI (arch/x86/include/uapi/asm/unistd.h).
const x32 = 0x40000000

// filter is a seccomp program (seccomp(2), classic BPF over struct seccomp_data): uname(2) is answered by the
// init, execve(2) held until it has set a limit, other system calls of 64-bit programs are the kernel's,
// and 32-bit programs get ENOSYS.
func filter() []unix.SockFilter {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		bits   = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret    = unix.BPF_RET | unix.BPF_K
		nr     = 0 // offsets in struct seccomp_data
		arch   = 4
		noCall = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	)
	return []unix.SockFilter{
		{Code: load, K: arch},
		{Code: equal, K: unix.AUDIT_ARCH_X86_64, Jf: 6},
		{Code: load, K: nr},
		{Code: bits, K: x32, Jt: 4},
		{Code: equal, K: unix.SYS_UNAME, Jt: 1},
		{Code: equal, K: unix.SYS_EXECVE, Jf: 1},
		{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
		{Code: ret, K: noCall},
	}
}

// A supervisor answers the system calls that the filter sends it.
type supervisor struct {
	fd     int
	memory int64 // bytes of address space of each process; 0: no limit
}

// supervise puts the filter on this thread and all it starts, and answers in the background. The thread must
// have no_new_privs; answering takes the rights of the init's other threads.
func supervise(memory int64) error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("a machine of type %s: want amd64, for which the packages are", runtime.GOARCH)
	}
	code := filter()
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	fd, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(code)
	if e != 0 {
		return fmt.Errorf("seccomp: %w", e)
	}
	go supervisor{int(fd), memory}.run() // close-on-exec by seccomp(2)
	return nil
}

// notification and response are struct seccomp_notif and struct seccomp_notif_resp.
type (
	notification struct {
		id         uint64
		pid, flags uint32
		nr         int32
		arch       uint32
		ip         uint64
		args       [6]uint64
	}
	response struct {
		id    uint64
		value int64
		errno int32
		flags uint32
	}
)

// goOn is SECCOMP_USER_NOTIF_FLAG_CONTINUE: the kernel does the call.
const goOn = 1

// run answers until no process is left that could ask.
func (s supervisor) run() {
	for {
		var n notification // the kernel wants it zero
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); e != 0 {
			if e == unix.EINTR || e == unix.ENOENT { // who asked was killed meanwhile
				continue
			}
			return
		}
		r := response{id: n.id}
		if n.nr == unix.SYS_UNAME {
			if err := s.tell(&n); err != nil {
				r.errno = -int32(unix.EFAULT)
			}
		} else if err := s.limit(&n); err != nil {
			r.errno = -int32(unix.ENOMEM)
		} else {
			r.flags = goOn
		}
		unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
	}
}

// valid says whether the process that asked still waits, so that its number is its own.
func (s supervisor) valid(n *notification) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), unix.SECCOMP_IOCTL_NOTIF_ID_VALID, uintptr(unsafe.Pointer(&n.id))); e != 0 {
		return e
	}
	return nil
}

// limit sets the limit of memory, which cannot be raised again. Between valid and prlimit only this process could
// reap the one that asked.
func (s supervisor) limit(n *notification) error {
	if s.memory == 0 {
		return nil
	}
	if err := s.valid(n); err != nil {
		return err
	}
	l := unix.Rlimit{Cur: uint64(s.memory), Max: uint64(s.memory)}
	return unix.Prlimit(int(n.pid), unix.RLIMIT_AS, &l, nil)
}

// tell writes the answer to uname where the caller wants it.
func (s supervisor) tell(n *notification) error {
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", n.pid), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	if err := s.valid(n); err != nil {
		return err
	}
	if n.args[0] > 1<<63-1 {
		return errors.New("address of the kernel")
	}
	data, err := binary.Append(nil, binary.NativeEndian, utsname())
	if err == nil {
		_, err = mem.WriteAt(data, int64(n.args[0]))
	}
	return err
}
