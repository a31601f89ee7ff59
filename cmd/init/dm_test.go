//go:build linux && amd64

package main

import (
	"bytes"
	"encoding/binary"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The oracle is golang.org/x/sys, whose structs and numbers are generated from the kernel's headers.
func TestDMRequestIsTheKernelsStruct(t *testing.T) {
	for cmd, want := range map[uintptr]uintptr{dmDevCreate: unix.DM_DEV_CREATE, dmDevSuspend: unix.DM_DEV_SUSPEND, dmTableLoad: unix.DM_TABLE_LOAD} {
		if cmd != want {
			t.Errorf("ioctl 0x%x, want 0x%x", cmd, want)
		}
	}
	if dmHeaderSize != unsafe.Sizeof(unix.DmIoctl{}) || dmTargetSize != unsafe.Sizeof(unix.DmTargetSpec{}) {
		t.Fatalf("sizes %d and %d", dmHeaderSize, dmTargetSize)
	}
	for _, params := range []string{"", "1234567", "12345678", "1 254:2 254:3"} {
		b := dmRequest(dmRoot, &dmTarget{Sectors: 7632, Type: "verity", Params: params})
		h := (*unix.DmIoctl)(unsafe.Pointer(&b[0]))
		if h.Version != [3]uint32{4, 0, 0} || int(h.Data_size) != len(b) || h.Data_start != dmHeaderSize || h.Target_count != 1 || h.Flags != unix.DM_READONLY_FLAG {
			t.Errorf("header %+v", h)
		}
		if got := string(bytes.TrimRight(b[unsafe.Offsetof(h.Name):unsafe.Offsetof(h.Uuid)], "\x00")); got != dmRoot {
			t.Errorf("name %q", got)
		}
		s := (*unix.DmTargetSpec)(unsafe.Pointer(&b[dmHeaderSize]))
		if s.Sector_start != 0 || s.Length != 7632 || int(s.Next) != len(b)-dmHeaderSize || s.Next%8 != 0 {
			t.Errorf("target %+v", s)
		}
		if got := b[dmHeaderSize+dmTargetSize:]; !bytes.HasPrefix(got, append([]byte(params), 0)) {
			t.Errorf("parameters %q", got)
		}
	}
	if b := dmRequest(dmRoot, nil); len(b) != dmHeaderSize || binary.LittleEndian.Uint32(b[20:]) != 0 {
		t.Errorf("request without target: %d bytes", len(b))
	}
}

func TestDevNumber(t *testing.T) {
	for _, n := range [][2]uint32{{254, 0}, {253, 7}, {8, 255}, {259, 256}, {0xfff, 0xfffff}} {
		dev := unix.Mkdev(n[0], n[1]) // the same bits as the kernel's encoding, below 2^12 and 2^20
		if major, minor := devNumber(dev); major != uint64(n[0]) || minor != uint64(n[1]) {
			t.Errorf("%v: %d:%d", n, major, minor)
		}
	}
}
