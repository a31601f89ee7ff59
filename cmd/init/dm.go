//go:build linux && amd64

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"
)

// The device-mapper ioctl interface, version 4 (Linux, include/uapi/linux/dm-ioctl.h).
const (
	dmControl = "/dev/mapper/control"

	dmDevCreate  = 0xc138fd03 // _IOWR(0xfd, n, struct dm_ioctl), whose size is 312 bytes
	dmDevSuspend = 0xc138fd06 // without the suspend flag: resume
	dmTableLoad  = 0xc138fd09

	dmReadOnly   = 1 << 0
	dmHeaderSize = 312
	dmTargetSize = 40
	dmMaxName    = 127 // DM_NAME_LEN less the NUL

	dmRoot = "tally-root" // names of devices
)

// A dmTarget is the only line of a table: the first sector is 0.
type dmTarget struct {
	Sectors uint64 // of 512 bytes
	Type    string
	Params  string
}

// dmRequest lays out struct dm_ioctl for a read-only device, with struct dm_target_spec behind it when
// there is a target.
func dmRequest(name string, t *dmTarget) []byte {
	le := binary.LittleEndian
	size := dmHeaderSize
	if t != nil {
		size += (dmTargetSize + len(t.Params) + 1 + 7) &^ 7
	}
	b := make([]byte, size)
	le.PutUint32(b[0:], 4)             // version
	le.PutUint32(b[12:], uint32(size)) // data_size
	le.PutUint32(b[16:], dmHeaderSize) // data_start
	le.PutUint32(b[28:], dmReadOnly)   // flags
	copy(b[48:48+dmMaxName], name)
	if t != nil {
		le.PutUint32(b[20:], 1) // target_count
		spec := b[dmHeaderSize:]
		le.PutUint64(spec[8:], t.Sectors)
		le.PutUint32(spec[20:], uint32(len(spec))) // next: the size of this one
		copy(spec[24:39], t.Type)
		copy(spec[dmTargetSize:], t.Params)
	}
	return b
}

func dmCall(ctl *os.File, cmd uintptr, name string, t *dmTarget) (dev uint64, err error) {
	b := dmRequest(name, t)
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, ctl.Fd(), cmd, uintptr(unsafe.Pointer(&b[0]))); e != 0 {
		return 0, e
	}
	return binary.LittleEndian.Uint64(b[40:]), nil
}

// openVerity makes the verified device of that name and returns its node. A block that is not as measured panics the
// kernel, so nothing goes on with an EIO where data should be. The same goes for blocks the disk refuses
// to deliver (panic_on_error): else a host could choose which file cannot be read. Kernels without that
// flag get the table without it; which kernel runs is measured too.
func openVerity(name string, c cmdline, data, hash string) (node string, err error) {
	ctl, err := os.OpenFile(dmControl, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer ctl.Close()
	dev, err := dmCall(ctl, dmDevCreate, name, nil)
	if err != nil {
		return "", fmt.Errorf("device-mapper: create: %w", err)
	}
	for _, flags := range [][]string{{"panic_on_corruption", "panic_on_error"}, {"panic_on_corruption"}} {
		t := &dmTarget{Sectors: c.DataBlocks * (blockSize / 512), Type: "verity", Params: c.table(data, hash, flags...)}
		if _, err = dmCall(ctl, dmTableLoad, name, t); !errors.Is(err, syscall.EINVAL) {
			break
		}
	}
	if err != nil {
		return "", fmt.Errorf("dm-verity: table for %d blocks: %w", c.DataBlocks, err)
	}
	if _, err := dmCall(ctl, dmDevSuspend, name, nil); err != nil {
		return "", fmt.Errorf("dm-verity: resume: %w", err)
	}
	return waitForNode(dev)
}

// devNumber splits a device number in the kernel's huge encoding (include/linux/kdev_t.h).
func devNumber(dev uint64) (major, minor uint64) {
	return dev >> 8 & 0xfff, dev&0xff | dev>>12&0xfff00
}

// waitForNode returns the path of a device's node: devtmpfs makes it, in its own thread.
func waitForNode(dev uint64) (string, error) {
	major, minor := devNumber(dev)
	for range 500 {
		link, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", major, minor))
		if err == nil {
			node := filepath.Join("/dev", filepath.Base(link))
			if _, err := os.Stat(node); err == nil {
				return node, nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "", fmt.Errorf("device %d:%d: no node for it", major, minor)
}
