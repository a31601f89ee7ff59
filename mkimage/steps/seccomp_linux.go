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
// init, other system calls of 64-bit programs by the kernel, and 32-bit programs get ENOSYS. What a child
// calls between fork and exec must not be among those for the init: the Go runtime waits there with more than
// one thread.
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
		{Code: equal, K: unix.AUDIT_ARCH_X86_64, Jf: 5},
		{Code: load, K: nr},
		{Code: bits, K: x32, Jt: 3},
		{Code: equal, K: unix.SYS_UNAME, Jf: 1},
		{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
		{Code: ret, K: noCall},
	}
}

// fixUname puts the filter on this thread and all it starts, and answers in the background. The thread must
// have no_new_privs; answering takes the rights of the init's other threads.
func fixUname() error {
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
	go listener(fd).answer() // close-on-exec by seccomp(2)
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

// A listener is the descriptor on which the filter asks.
type listener uintptr

// answer answers until no process is left that could ask.
func (l listener) answer() {
	for {
		ask := []unix.PollFd{{Fd: int32(l), Events: unix.POLLIN}}
		if _, err := unix.Poll(ask, -1); err != nil && !errors.Is(err, unix.EINTR) || ask[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0 {
			return
		}
		if ask[0].Revents&unix.POLLIN == 0 {
			continue
		}
		var n notification // the kernel wants it zero
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(l), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); e != 0 {
			continue // who asked was killed meanwhile
		}
		r := response{id: n.id}
		if err := l.tell(&n); err != nil {
			r.errno = -int32(unix.EFAULT)
		}
		unix.Syscall(unix.SYS_IOCTL, uintptr(l), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
	}
}

// tell writes the answer to uname where the caller wants it.
func (l listener) tell(n *notification) error {
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", n.pid), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	// Only now is it sure that the file is the caller's, and not another's who got its number.
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(l), unix.SECCOMP_IOCTL_NOTIF_ID_VALID, uintptr(unsafe.Pointer(&n.id))); e != 0 {
		return e
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
