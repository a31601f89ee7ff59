package qtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// The fw_cfg device's DMA interface (QEMU docs/specs/fw_cfg.rst): a 16-byte big-endian request in guest
// memory, whose address is written to two ports, high half first.
const (
	portDMAHigh = 0x514
	portDMALow  = 0x518

	dmaRead   = 0x2
	dmaSelect = 0x8

	keySignature = 0x0
	keyDirectory = 0x19

	requestAt = 0x1000 // in guest RAM that nothing else uses
	dataAt    = 0x10000

	fileEntry = 64
	maxFiles  = 1024
	maxFile   = 4 << 20 // bytes
)

// Keys of fw_cfg items that are no files.
const (
	KeyKernelSetupSize = 0x17
	KeyKernelSetup     = 0x18
)

// Item reads size bytes of the fw_cfg item with a key.
func (m *Machine) Item(key uint16, size int) ([]byte, error) {
	if size < 0 || size > maxFile {
		return nil, fmt.Errorf("QEMU: fw_cfg item %#x of %d bytes, want at most %d", key, size, maxFile)
	}
	if size == 0 {
		return nil, nil
	}
	be := binary.BigEndian
	request := be.AppendUint32(nil, uint32(key)<<16|dmaSelect|dmaRead)
	request = be.AppendUint32(request, uint32(size))
	request = be.AppendUint64(request, dataAt)
	if err := m.Write(requestAt, request); err != nil {
		return nil, err
	}
	if err := m.OutL(portDMAHigh, 0); err != nil {
		return nil, err
	}
	if err := m.OutL(portDMALow, bits.ReverseBytes32(requestAt)); err != nil {
		return nil, err
	}
	control, err := m.Read(requestAt, 4)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(control, make([]byte, 4)) {
		return nil, fmt.Errorf("QEMU: fw_cfg item %#x: request ended with %#x, want 0", key, control)
	}
	return m.Read(dataAt, size)
}

// A File is an entry of fw_cfg's directory.
type File struct {
	Name string
	Key  uint16
	Size int
}

// Files reads fw_cfg's directory.
func (m *Machine) Files() ([]File, error) {
	sig, err := m.Item(keySignature, 4)
	if err != nil {
		return nil, err
	}
	if string(sig) != "QEMU" {
		return nil, fmt.Errorf("QEMU: fw_cfg signature %.8q, want %q: a machine without fw_cfg", sig, "QEMU")
	}
	head, err := m.Item(keyDirectory, 4)
	if err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head)
	if n > maxFiles {
		return nil, fmt.Errorf("QEMU: fw_cfg directory of %d files, want at most %d", n, maxFiles)
	}
	all, err := m.Item(keyDirectory, 4+fileEntry*int(n))
	if err != nil {
		return nil, err
	}
	return directory(all[4:]), nil
}

// directory splits entries of u32 size, u16 key, u16 reserved and 56 bytes of name, big-endian.
func directory(b []byte) []File {
	be := binary.BigEndian
	var files []File
	for ; len(b) >= fileEntry; b = b[fileEntry:] {
		name, _, _ := bytes.Cut(b[8:fileEntry], []byte{0})
		files = append(files, File{string(name), be.Uint16(b[4:]), int(be.Uint32(b))})
	}
	return files
}

// ReadFile reads the fw_cfg file called name; nil when there is none.
func (m *Machine) ReadFile(name string) ([]byte, error) {
	files, err := m.Files()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.Name == name {
			return m.Item(f.Key, f.Size)
		}
	}
	return nil, nil
}
