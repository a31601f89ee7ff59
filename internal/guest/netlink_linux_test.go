package guest

import (
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The structs of golang.org/x/sys are generated from the kernel's headers.

func TestMessageIsTheKernelsStruct(t *testing.T) {
	b := message(unix.RTM_NEWADDR, unix.NLM_F_CREATE, 7, []byte{1, 2, 3, 4})
	h := (*unix.NlMsghdr)(unsafe.Pointer(&b[0]))
	want := unix.NlMsghdr{Len: 20, Type: unix.RTM_NEWADDR, Flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK | unix.NLM_F_CREATE, Seq: 7}
	if *h != want || len(b) != 20 || b[16] != 1 {
		t.Errorf("%+v in %d bytes", *h, len(b))
	}
}

func TestLinkUp(t *testing.T) {
	b := linkUp(3)
	want := unix.IfInfomsg{Index: 3, Flags: unix.IFF_UP, Change: unix.IFF_UP}
	if got := *(*unix.IfInfomsg)(unsafe.Pointer(&b[0])); got != want || len(b) != unix.SizeofIfInfomsg {
		t.Errorf("%+v", got)
	}
}

func TestNewAddress(t *testing.T) {
	b := newAddress(3, netip.MustParsePrefix("10.0.2.15/24"))
	want := unix.IfAddrmsg{Family: unix.AF_INET, Prefixlen: 24, Index: 3}
	if got := *(*unix.IfAddrmsg)(unsafe.Pointer(&b[0])); got != want {
		t.Errorf("%+v", got)
	}
	checkAttrs(t, b[unix.SizeofIfAddrmsg:], map[uint16]string{unix.IFA_LOCAL: "\x0a\x00\x02\x0f", unix.IFA_ADDRESS: "\x0a\x00\x02\x0f"})
}

func TestDefaultRoute(t *testing.T) {
	b := defaultRoute(3, netip.MustParseAddr("10.0.2.2"))
	want := unix.RtMsg{Family: unix.AF_INET, Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC, Type: unix.RTN_UNICAST}
	if got := *(*unix.RtMsg)(unsafe.Pointer(&b[0])); got != want {
		t.Errorf("%+v", got)
	}
	checkAttrs(t, b[unix.SizeofRtMsg:], map[uint16]string{unix.RTA_GATEWAY: "\x0a\x00\x02\x02", unix.RTA_OIF: "\x03\x00\x00\x00"})
}

func checkAttrs(t *testing.T, b []byte, want map[uint16]string) {
	t.Helper()
	for len(b) > 0 {
		a := (*unix.RtAttr)(unsafe.Pointer(&b[0]))
		if value := string(b[unix.SizeofRtAttr:a.Len]); want[a.Type] != value {
			t.Errorf("attribute %d: %q, want %q", a.Type, value, want[a.Type])
		}
		delete(want, a.Type)
		b = b[(a.Len+3)&^3:]
	}
	if len(want) > 0 {
		t.Errorf("attributes missing: %v", want)
	}
}

func TestAttrPads(t *testing.T) {
	for n, want := range map[int]int{0: 4, 1: 8, 4: 8, 5: 12} {
		if b := attr(nil, 9, make([]byte, n)); len(b) != want || le.Uint16(b) != uint16(4+n) {
			t.Errorf("%d bytes: % x", n, b)
		}
	}
}
