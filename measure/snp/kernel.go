package snp

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// tableSize is the size in bytes of the kernel-hashes table, padding included.
const tableSize = 176

// KernelHashes are what QEMU puts into the guest with `kernel-hashes=on` (target/i386/sev.c,
// sev_add_kernel_loader_hashes), SHA-256 each (32 bytes).
type KernelHashes struct {
	Kernel  [32]byte // of the kernel file as it is: QEMU does not patch its header under SEV
	Initrd  [32]byte // of the initrd file; of nothing when there is none
	Cmdline [32]byte // of the command line and a NUL
}

// NoInitrd is the hash that stands for a missing initrd.
func NoInitrd() [32]byte { return sha256.Sum256(nil) }

// HashCmdline returns the hash of a kernel command line, to which QEMU adds a NUL.
func HashCmdline(cmdline string) [32]byte { return sha256.Sum256(append([]byte(cmdline), 0)) }

// Table returns the 176 bytes that the VMM puts where the firmware says: a header and three entries, each
// GUID, u16 length, data.
func (k *KernelHashes) Table() []byte {
	b := make([]byte, 0, tableSize)
	b = appendGUID(b, "06d63894 224f c94c b479a793d411fd21") // 9438d606-4f22-4cc9-b479-a793d411fd21
	b = binary.LittleEndian.AppendUint16(b, 168)
	for _, e := range []struct {
		guid string
		hash [32]byte
	}{
		{"d82dd097 20bd 944c aa78e7714d36ab2a", k.Cmdline}, // 97d02dd8-bd20-4c94-aa78-e7714d36ab2a
		{"31f7ba44 2f3a d74b 9af141e29169781d", k.Initrd},  // 44baf731-3a2f-4bd7-9af1-41e29169781d
		{"3794e74d d2ab 7f42 b835d5b172d2045b", k.Kernel},  // 4de79437-abd2-427f-b835-d5b172d2045b
	} {
		b = appendGUID(b, e.guid)
		b = binary.LittleEndian.AppendUint16(b, 16+2+32)
		b = append(b, e.hash[:]...)
	}
	return append(b, make([]byte, tableSize-len(b))...)
}

// appendGUID appends a GUID given in the byte order of memory, spaces between groups.
func appendGUID(b []byte, groups string) []byte {
	for i := 0; i < len(groups); {
		if groups[i] == ' ' {
			i++
			continue
		}
		n, err := hex.DecodeString(groups[i : i+2])
		if err != nil {
			panic("snp: bad GUID constant " + groups)
		}
		b, i = append(b, n...), i+2
	}
	return b
}

// page returns the 4096-byte page that holds the table at its address gpa.
func (k *KernelHashes) page(gpa uint32) []byte {
	p := make([]byte, pageSize)
	copy(p[gpa%pageSize:], k.Table())
	return p
}
