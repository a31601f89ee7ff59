//go:build linux

// Package vsock carries tally/1 over AF_VSOCK (vsock(7)), which leads from a guest to its host without a
// network. It is carrier 1, a stream, like TCP.
package vsock

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// AnyCID listens for every peer; HostCID is the host seen from a guest; LocalCID is this machine.
const (
	AnyCID   = unix.VMADDR_CID_ANY
	HostCID  = unix.VMADDR_CID_HOST
	LocalCID = unix.VMADDR_CID_LOCAL
)

// An Addr is an address of AF_VSOCK.
type Addr struct{ CID, Port uint32 }

// Network returns "vsock".
func (Addr) Network() string { return "vsock" }

// String returns CID:PORT in decimal.
func (a Addr) String() string { return fmt.Sprintf("%d:%d", a.CID, a.Port) }

// ParseAddr reads CID:PORT.
func ParseAddr(s string) (Addr, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return Addr{}, fmt.Errorf("vsock: address %q, want CID:PORT", s)
	}
	cid, err1 := strconv.ParseUint(host, 10, 32)
	p, err2 := strconv.ParseUint(port, 10, 32)
	if err1 != nil || err2 != nil {
		return Addr{}, fmt.Errorf("vsock: address %q, want CID:PORT in decimal", s)
	}
	return Addr{uint32(cid), uint32(p)}, nil
}

// A Listener accepts connections.
type Listener struct {
	f    *os.File
	addr Addr
}

// Listen listens on a; port 0xffffffff takes a free one.
func Listen(a Addr) (*Listener, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("vsock: socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrVM{CID: a.CID, Port: a.Port})
	if err == nil {
		err = unix.Listen(fd, unix.SOMAXCONN)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("vsock: listen on %v: %w", a, err)
	}
	return &Listener{os.NewFile(uintptr(fd), "vsock"), local(fd)}, nil
}

// Accept waits for a connection.
func (l *Listener) Accept() (net.Conn, error) {
	raw, err := l.f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var from unix.Sockaddr
	var aerr error
	if err := raw.Read(func(s uintptr) bool {
		fd, from, aerr = unix.Accept4(int(s), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return aerr != unix.EAGAIN && aerr != unix.EINTR && aerr != unix.ECONNABORTED
	}); err != nil {
		return nil, fmt.Errorf("vsock: %w: %w", net.ErrClosed, err)
	}
	if aerr != nil {
		return nil, fmt.Errorf("vsock: accept: %w", aerr)
	}
	return newConn(fd, remote(from)), nil
}

// Close ends Accept.
func (l *Listener) Close() error { return l.f.Close() }

// Addr is the address listened on.
func (l *Listener) Addr() net.Addr { return l.addr }

// A Dialer connects; it is a client.Dialer whose addresses are CID:PORT.
type Dialer struct{}

// DialContext connects to address, which is CID:PORT; network is not looked at.
func (Dialer) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	a, err := ParseAddr(address)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("vsock: socket: %w", err)
	}
	switch err = unix.Connect(fd, &unix.SockaddrVM{CID: a.CID, Port: a.Port}); err {
	case nil, unix.EINPROGRESS:
	default:
		unix.Close(fd)
		return nil, fmt.Errorf("vsock: connect to %v: %w", a, err)
	}
	c := newConn(fd, a)
	if err == nil {
		return c, nil
	}
	if err := c.connected(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("vsock: connect to %v: %w", a, err)
	}
	return c, nil
}

type conn struct {
	*os.File
	local, remote Addr
}

func newConn(fd int, remote Addr) *conn {
	return &conn{os.NewFile(uintptr(fd), "vsock"), local(fd), remote}
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// connected waits for the end of a connect in progress.
func (c *conn) connected(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cerr error
	err = raw.Write(func(s uintptr) bool {
		p := []unix.PollFd{{Fd: int32(s), Events: unix.POLLOUT}}
		if n, perr := unix.Poll(p, 0); n == 0 && perr == nil {
			return false
		}
		var code int
		if code, cerr = unix.GetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_ERROR); cerr == nil && code != 0 {
			cerr = unix.Errno(code)
		}
		return true
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	return cerr
}

func local(fd int) Addr {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return Addr{}
	}
	return remote(sa)
}

func remote(sa unix.Sockaddr) Addr {
	if vm, ok := sa.(*unix.SockaddrVM); ok {
		return Addr{vm.CID, vm.Port}
	}
	return Addr{}
}
