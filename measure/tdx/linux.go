package tdx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Offsets in the setup header of a Linux kernel (Documentation/arch/x86/boot.rst).
const (
	setupVideoMode  = 0x1fa
	setupMagic      = 0x202 // "HdrS"
	setupProtocol   = 0x206
	setupLoader     = 0x210
	setupFlags      = 0x211
	setupInitrd     = 0x218
	setupInitrdSize = 0x21c
	setupHeapEnd    = 0x224
	setupCmdline    = 0x228
	setupInitrdMax  = 0x22c
	setupXFlags     = 0x236
	setupEnd        = 0x238

	above4G = 0x2 // XLF_CAN_BE_LOADED_ABOVE_4G

	acpiReserve = 0x28000 // bytes below the end of low RAM that QEMU keeps for ACPI data
)

// A kernelLoad is what QEMU's changes to a kernel's setup header depend on beside the kernel.
type kernelLoad struct {
	memory     uint64 // bytes
	initrdSize uint64 // 0: none
	cmdline    string
}

// patch is patchKernel, or errLacks when that needs the memory size and it was not given.
func (l kernelLoad) patch(b []byte) error {
	if l.memory == 0 && l.initrdSize > 0 {
		return errLacks("the memory size")
	}
	return patchKernel(b, l)
}

// patchKernel changes the setup header in b, the start of a kernel, as QEMU does before it hands the kernel
// to the firmware (hw/i386/x86-common.c, x86_load_linux). What is not a Linux kernel by its header, such
// as a UKI, it leaves as it is.
func patchKernel(b []byte, l kernelLoad) error {
	if len(b) < setupEnd {
		return fmt.Errorf("kernel: %d bytes, want at least %d", len(b), setupEnd)
	}
	le := binary.LittleEndian
	if string(b[setupMagic:][:4]) != "HdrS" {
		if l.initrdSize > 0 {
			return errors.New("kernel: no setup header: an initrd does not go with it")
		}
		return nil
	}
	protocol := le.Uint16(b[setupProtocol:])
	realMode, cmdline := uint32(0x90000), 0x9a000-uint32((len(l.cmdline)+16)&^15)
	if protocol >= 0x202 && b[setupFlags]&1 != 0 {
		realMode, cmdline = 0x10000, 0x20000
	}
	initrd, err := l.initrdAddress(b, protocol)
	if err != nil {
		return err
	}
	if protocol >= 0x202 {
		le.PutUint32(b[setupCmdline:], cmdline)
	} else {
		le.PutUint16(b[0x20:], 0xa33f)
		le.PutUint16(b[0x22:], uint16(cmdline-realMode))
	}
	if err := patchVideo(b, l.cmdline); err != nil {
		return err
	}
	if protocol >= 0x200 {
		b[setupLoader] = 0xb0
	}
	if protocol >= 0x201 {
		b[setupFlags] |= 0x80
		le.PutUint16(b[setupHeapEnd:], uint16(cmdline-realMode-0x200))
	}
	if l.initrdSize > 0 {
		le.PutUint32(b[setupInitrd:], initrd)
		le.PutUint32(b[setupInitrdSize:], uint32(l.initrdSize))
	}
	return nil
}

// initrdAddress is where QEMU puts the initrd: page-aligned, as high as the kernel and low RAM allow.
func (l kernelLoad) initrdAddress(b []byte, protocol uint16) (uint32, error) {
	if l.initrdSize == 0 {
		return 0, nil
	}
	le := binary.LittleEndian
	highest := uint64(0x37ffffff)
	switch {
	case protocol < 0x200:
		return 0, fmt.Errorf("kernel: boot protocol %#x takes no initrd", protocol)
	case protocol >= 0x20c && le.Uint16(b[setupXFlags:])&above4G != 0:
		highest = 0xffffffff
	case protocol >= 0x203:
		highest = uint64(le.Uint32(b[setupInitrdMax:]))
	}
	low := below4G(l.memory)
	if low <= acpiReserve {
		return 0, fmt.Errorf("memory of %d bytes: want more than %d", l.memory, acpiReserve)
	}
	if highest >= low-acpiReserve {
		highest = low - acpiReserve - 1
	}
	if l.initrdSize >= highest {
		return 0, fmt.Errorf("initrd of %d bytes does not fit below %#x", l.initrdSize, highest)
	}
	return uint32((highest - l.initrdSize) &^ 4095), nil
}

// patchVideo obeys vga= on the command line.
func patchVideo(b []byte, cmdline string) error {
	_, mode, ok := strings.Cut(cmdline, "vga=")
	if !ok {
		return nil
	}
	mode, _, _ = strings.Cut(mode, " ")
	var n uint64
	switch {
	case strings.HasPrefix(mode, "normal"):
		n = 0xffff
	case strings.HasPrefix(mode, "ext"):
		n = 0xfffe
	case strings.HasPrefix(mode, "ask"):
		n = 0xfffd
	default:
		var err error
		if n, err = strconv.ParseUint(mode, 0, 16); err != nil {
			return fmt.Errorf("command line: vga=%.20s: want normal, ext, ask or a number", mode)
		}
	}
	binary.LittleEndian.PutUint16(b[setupVideoMode:], uint16(n))
	return nil
}
