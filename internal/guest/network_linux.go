package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Messages of rtnetlink(7). Integers are in host order, which on the architectures of a TEE is little.
var le = binary.LittleEndian

// attr appends one attribute: length, type, value, padded to 4.
func attr(b []byte, typ uint16, value []byte) []byte {
	b = le.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = le.AppendUint16(b, typ)
	b = append(b, value...)
	return append(b, make([]byte, -len(value)&3)...)
}

// message puts the header before a body and asks for an acknowledgement.
func message(typ, flags uint16, seq uint32, body []byte) []byte {
	b := le.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	b = le.AppendUint16(b, typ)
	b = le.AppendUint16(b, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b = le.AppendUint32(b, seq)
	return append(append(b, 0, 0, 0, 0), body...)
}

// linkUp is the body of RTM_NEWLINK (struct ifinfomsg) that sets IFF_UP.
func linkUp(index int) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	le.PutUint32(b[4:], uint32(index))
	le.PutUint32(b[8:], unix.IFF_UP)
	le.PutUint32(b[12:], unix.IFF_UP)
	return b
}

// newAddress is the body of RTM_NEWADDR (struct ifaddrmsg).
func newAddress(index int, p netip.Prefix) []byte {
	b := make([]byte, unix.SizeofIfAddrmsg)
	b[0], b[1] = unix.AF_INET, byte(p.Bits())
	le.PutUint32(b[4:], uint32(index))
	a := p.Addr().As4()
	return attr(attr(b, unix.IFA_LOCAL, a[:]), unix.IFA_ADDRESS, a[:])
}

// defaultRoute is the body of RTM_NEWROUTE (struct rtmsg) through gateway.
func defaultRoute(index int, gateway netip.Addr) []byte {
	b := make([]byte, unix.SizeofRtMsg)
	b[0] = unix.AF_INET
	b[4], b[5], b[6], b[7] = unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST
	g := gateway.As4()
	return attr(attr(b, unix.RTA_GATEWAY, g[:]), unix.RTA_OIF, le.AppendUint32(nil, uint32(index)))
}

// A netlinkConn is a NETLINK_ROUTE socket.
type netlinkConn struct {
	fd  int
	seq uint32
}

func openNetlink() (*netlinkConn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return &netlinkConn{fd: fd}, nil
}

func (c *netlinkConn) close() { unix.Close(c.fd) }

// do sends one request and waits for its acknowledgement (struct nlmsgerr).
func (c *netlinkConn) do(typ, flags uint16, body []byte) error {
	c.seq++
	if err := unix.Sendto(c.fd, message(typ, flags, c.seq, body), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	b := make([]byte, 8192)
	n, _, err := unix.Recvfrom(c.fd, b, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || le.Uint16(b[4:]) != unix.NLMSG_ERROR || le.Uint32(b[8:]) != c.seq {
		return errors.New("netlink: answer is no acknowledgement")
	}
	if code := int32(le.Uint32(b[16:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// configureNetwork brings up loopback and, when n is given, its interface with address and route.
func configureNetwork(n *Network, wait time.Duration) error {
	c, err := openNetlink()
	if err != nil {
		return err
	}
	defer c.close()
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return fmt.Errorf("interface lo: %w", err)
	}
	if err := c.do(unix.RTM_NEWLINK, 0, linkUp(lo.Index)); err != nil {
		return fmt.Errorf("interface lo: %w", err)
	}
	if n == nil {
		return nil
	}
	if err := c.configure(n, wait); err != nil {
		return fmt.Errorf("interface %s: %w", n.Interface, err)
	}
	return nil
}

func (c *netlinkConn) configure(n *Network, wait time.Duration) error {
	link, err := waitForInterface(n.Interface, wait)
	if err != nil {
		return err
	}
	if err := c.do(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, newAddress(link.Index, n.Address)); err != nil {
		return fmt.Errorf("address %s: %w", n.Address, err)
	}
	if err := c.do(unix.RTM_NEWLINK, 0, linkUp(link.Index)); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	if !n.Gateway.IsValid() {
		return nil
	}
	if err := c.do(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, defaultRoute(link.Index, n.Gateway)); err != nil {
		return fmt.Errorf("route through %s: %w", n.Gateway, err)
	}
	return nil
}

// waitForInterface waits for a driver that is still looking for its hardware.
func waitForInterface(name string, wait time.Duration) (*net.Interface, error) {
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		link, err := net.InterfaceByName(name)
		if err == nil || time.Since(start) > wait {
			return link, err
		}
	}
}
