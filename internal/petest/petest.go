// Package petest makes small PE32+ images and unified kernel images for tests.
package petest

import "encoding/binary"

// Image is a PE32+ image of the sections given as name and content in turn, each padded to 512 bytes.
func Image(parts ...string) []byte {
	le := binary.LittleEndian
	const opt, headers = 0x80 + 24, 0x400
	b := make([]byte, headers)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x80)
	copy(b[0x80:], "PE\x00\x00")
	le.PutUint16(b[0x84:], 0x8664)
	le.PutUint16(b[0x86:], uint16(len(parts)/2))
	le.PutUint16(b[0x94:], 240)
	le.PutUint16(b[opt:], 0x20b)
	le.PutUint32(b[opt+60:], headers)
	le.PutUint32(b[opt+108:], 16)
	for i := 0; i < len(parts); i += 2 {
		h, data := b[opt+240+i/2*40:], parts[i+1]
		copy(h, parts[i])
		raw := (len(data) + 511) &^ 511
		le.PutUint32(h[8:], uint32(len(data)))
		le.PutUint32(h[12:], uint32(len(b)+4096)) // apart, in memory as in the file
		le.PutUint32(h[16:], uint32(raw))
		le.PutUint32(h[20:], uint32(len(b)))
		b = append(append(b, data...), make([]byte, raw-len(data))...)
	}
	return b
}

// UKI is a unified kernel image in form, whose stub says that it is of the release given.
func UKI(stub, cmdline, kernel, initrd string) []byte {
	return Image(".sdmagic", "#### LoaderInfo: systemd-stub "+stub+" ####\x00", ".osrel", "ID=x\n", ".cmdline", cmdline,
		".linux", string(Image(".text", kernel)), ".initrd", initrd)
}

// EFI is Image as an EFI application whose sections have addresses: a stub or a kernel that an image builder takes.
func EFI(parts ...string) []byte {
	le := binary.LittleEndian
	const opt, align = 0x80 + 24, 4096
	b := Image(parts...)
	le.PutUint32(b[opt+32:], align)
	le.PutUint32(b[opt+36:], 512)
	le.PutUint16(b[opt+68:], 10) // EFI application
	addr := align
	for i := range len(parts) / 2 {
		le.PutUint32(b[opt+240+i*40+12:], uint32(addr))
		addr += (len(parts[2*i+1]) + align - 1) &^ (align - 1)
	}
	le.PutUint32(b[opt+56:], uint32(addr))
	return b
}
