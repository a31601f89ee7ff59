package compare

import (
	"encoding/binary"
	"fmt"
)

// nvData is the GUID of a firmware volume that holds variables, as it lies in the file:
// FFF12B8D-7696-4C8B-A985-2747075B4F50 (edk2 MdeModulePkg, SystemNvDataGuid).
const nvData = "\x8d\x2b\xf1\xff\x96\x76\x8b\x4c\xa9\x85\x27\x47\x07\x5b\x4f\x50"

// variableStore is the size of the variable store that a firmware file begins with; 0 when it begins with
// something else (UEFI PI 1.8, volume 3, 3.2.1: GUID at byte 16, length at 32, signature at 40).
func variableStore(s source) int64 {
	b := make([]byte, 44)
	if _, err := s.ReadAt(b, 0); err != nil || string(b[40:]) != "_FVH" || string(b[16:32]) != nvData {
		return 0
	}
	size := binary.LittleEndian.Uint64(b[32:])
	if size > uint64(s.Size()) {
		return 0
	}
	return int64(size)
}

// firmwares compares two firmware files: code and variables are measured into different registers of TDX.
func (c *comparer) firmwares(d Difference, a, b source) error {
	store := variableStore(a)
	if store == 0 || store != variableStore(b) || a.Size() != b.Size() {
		c.part("firmware", d.Where)
		return c.content(d, a, b)
	}
	for _, r := range []struct {
		part, field, cause string
		off, size          int64
	}{
		{"firmware variables", "variable store", "variables of the firmware (an enrolled key, a boot entry, or a used store)", 0, store},
		{"firmware code", "code", "another firmware", store, a.Size() - store},
	} {
		diff, err := diffBytes(c.ctx, sub(a, r.off, r.size), sub(b, r.off, r.size), 512)
		if err != nil {
			return err
		}
		if diff.count == 0 {
			continue
		}
		c.part(r.part, d.Where+": "+r.field)
		cause := r.cause
		if diff.count == 1 {
			cause = "one byte differs (damage or tampering, hardly a build)"
		}
		c.add(d, r.field, fmt.Sprintf("0x%02x at byte %d", diff.x, r.off+diff.first), fmt.Sprintf("0x%02x, %d bytes differ", diff.y, diff.count), cause)
	}
	return nil
}
