package fw

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"
)

// A GUID is 16 bytes as they lie in memory: the first three groups of its text little-endian.
type GUID [16]byte

// ParseGUID reads the text form of a constant; it panics on anything else.
func ParseGUID(s string) GUID { return GUID(parseGUID(s)) }

// String returns the text form.
func (g GUID) String() string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(g[:]), le.Uint16(g[4:]), le.Uint16(g[6:]), g[8:10], g[10:])
}

// GUIDs of a variable store (edk2 MdeModulePkg/Include/Guid/VariableFormat.h and
// MdePkg/Include/Guid/SystemNvDataGuid.h).
const (
	guidNVData        = "fff12b8d-7696-4c8b-a985-2747075b4f50"
	guidAuthVariables = "aaf32c78-947b-439a-a180-2e144ec37792"
)

// Sizes and marks of a variable store, in bytes.
const (
	volumeHeader   = 48 // of a firmware volume without its block map
	storeHeader    = 28
	variableHeader = 60
	storeFormatted = 0x5a
	storeHealthy   = 0xfe
	variableStart  = 0x55aa

	stateAdded    = 0x3f // a live variable
	stateMoving   = 0x3e // live, about to be replaced (added, in deleted transition)
	maxVariables  = 4096
	maxName       = 1024 // bytes of UTF-16
	attrAuthWrite = 0x10 // deprecated count-based authentication
)

// A Variable is one UEFI variable of a firmware's variable store.
type Variable struct {
	Vendor     GUID
	Name       string
	Attributes uint32
	Data       []byte
}

// ReadVariables reads the live variables of the variable store that a configuration firmware volume holds:
// a firmware volume header, the header of an authenticated variable store, and variables, each at a multiple
// of four bytes (edk2 VariableFormat.h). A volume that is all 0xff or is of another kind is an error: what a
// firmware would make of it is not known.
func ReadVariables(b []byte) ([]Variable, error) {
	store, base, err := variableStore(b)
	if err != nil {
		return nil, fmt.Errorf("variable store: %w", err)
	}
	var vars []Variable
	for off := 0; ; {
		v, next, err := readVariable(store, off)
		if err != nil {
			return nil, fmt.Errorf("variable store: byte %#x: %w", base+off, err)
		}
		if next == 0 {
			return vars, nil
		}
		if v != nil {
			for _, o := range vars {
				if o.Vendor == v.Vendor && o.Name == v.Name {
					return nil, fmt.Errorf("variable store: byte %#x: variable %q twice", base+off, v.Name)
				}
			}
			if vars = append(vars, *v); len(vars) > maxVariables {
				return nil, fmt.Errorf("variable store: more than %d variables", maxVariables)
			}
		}
		off = next
	}
}

// variableStore finds the variables of a volume: the bytes they lie in, and where those start.
func variableStore(b []byte) (store []byte, base int, err error) {
	le := binary.LittleEndian
	if len(b) < volumeHeader+storeHeader {
		return nil, 0, fmt.Errorf("%d bytes, want at least %d", len(b), volumeHeader+storeHeader)
	}
	if GUID(b[16:]) != ParseGUID(guidNVData) || string(b[40:44]) != "_FVH" {
		return nil, 0, errors.New("no firmware volume of variables at byte 0")
	}
	if size := le.Uint64(b[32:]); size > uint64(len(b)) {
		return nil, 0, fmt.Errorf("volume of %d bytes in %d", size, len(b))
	}
	start := int(le.Uint16(b[48:]))
	if start < volumeHeader || start%8 != 0 || start+storeHeader > len(b) {
		return nil, 0, fmt.Errorf("volume header of %d bytes, want %d to %d", start, volumeHeader, len(b)-storeHeader)
	}
	h := b[start:]
	size := le.Uint32(h[16:])
	switch {
	case GUID(h) != ParseGUID(guidAuthVariables):
		return nil, 0, fmt.Errorf("at byte %#x: not an authenticated variable store", start)
	case h[20] != storeFormatted || h[21] != storeHealthy:
		return nil, 0, fmt.Errorf("at byte %#x: format %#x, state %#x, want %#x, %#x", start, h[20], h[21], storeFormatted, storeHealthy)
	case size < storeHeader || uint64(start)+uint64(size) > uint64(len(b)):
		return nil, 0, fmt.Errorf("at byte %#x: %d bytes, want %d to %d", start, size, storeHeader, len(b)-start)
	}
	return h[storeHeader:size], start + storeHeader, nil
}

// readVariable reads what is at off: a live variable, none when it is deleted. next is where the next one
// is, 0 at the end of the list.
func readVariable(store []byte, off int) (v *Variable, next int, err error) {
	le := binary.LittleEndian
	if off+variableHeader > len(store) || le.Uint16(store[off:]) != variableStart {
		return nil, 0, nil
	}
	h := store[off:]
	state, attrs, nameSize, dataSize := h[2], le.Uint32(h[4:]), le.Uint32(h[36:]), le.Uint32(h[40:])
	room := uint64(len(h) - variableHeader)
	switch {
	case nameSize < 4 || nameSize%2 != 0 || nameSize > maxName:
		return nil, 0, fmt.Errorf("variable name of %d bytes, want an even number from 4 to %d", nameSize, maxName)
	case uint64(nameSize)+uint64(dataSize) > room:
		return nil, 0, fmt.Errorf("variable of %d and %d bytes, but %d are left", nameSize, dataSize, room)
	}
	next = (off + variableHeader + int(nameSize) + int(dataSize) + 3) &^ 3
	if state != stateAdded && state != stateMoving {
		return nil, next, nil
	}
	name, err := variableName(h[variableHeader:][:nameSize])
	if err != nil {
		return nil, 0, err
	}
	if attrs&attrAuthWrite != 0 {
		return nil, 0, fmt.Errorf("variable %q: attributes %#x: count-based authentication is not known here", name, attrs)
	}
	data := h[variableHeader+int(nameSize):][:dataSize]
	return &Variable{Vendor: GUID(h[44:]), Name: name, Attributes: attrs, Data: data}, next, nil
}

func variableName(b []byte) (string, error) {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	for i, u := range units {
		if last := i == len(units)-1; (u == 0) != last {
			return "", errors.New("variable name: want one NUL, at its end")
		}
	}
	return string(utf16.Decode(units[:len(units)-1])), nil
}

// SecureBootDisabled reads edk2's switch SecureBootEnable: one byte, 0 or 1. What edk2 makes of another value is not
// known here.
func SecureBootDisabled(v Variable) (bool, error) {
	if len(v.Data) != 1 || v.Data[0] > 1 {
		return false, fmt.Errorf("variable store: SecureBootEnable: %d bytes, %#.8x: want one byte, 0 or 1", len(v.Data), v.Data)
	}
	return v.Data[0] == 0, nil
}
