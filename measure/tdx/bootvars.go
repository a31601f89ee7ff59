package tdx

import (
	"encoding/binary"
	"fmt"
	"slices"

	"tally/measure/eventlog"
	"tally/measure/internal/fw"
)

// Attributes of a load option (UEFI 2.10, section 3.1.3).
const (
	loadActive = 0x1
	loadHidden = 0x8
	loadApp    = 0x100
)

// Applications in OVMF's DXE volume that its boot manager registers, with their file names.
var (
	dxeVolume = fw.ParseGUID("7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1")
	uiApp     = fw.ParseGUID("462caa21-7614-4503-836e-8ab6f4662331")
	bootMenu  = fw.ParseGUID("eec25bdc-67f2-4d95-b1d5-f81b2039d11d")
	shellApp  = fw.ParseGUID("7c04a583-9e3e-4f1c-ad65-e05268d0b4d1")

	// autoCreated marks an option that the boot manager made for a device it found.
	autoCreated = fw.ParseGUID("8108ac4e-9f11-4d59-850e-e21a522c59b2")
)

// A bootOption is one Boot#### variable.
type bootOption struct {
	what  string
	value []byte
}

// loadOption encodes an EFI_LOAD_OPTION.
func loadOption(attributes uint32, description string, path []byte, optional []byte) bootOption {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, attributes)
	b = le.AppendUint16(b, uint16(len(path)))
	b = append(b, utf16le(description+"\x00")...)
	return bootOption{description, slices.Concat(b, path, optional)}
}

// endOfPath ends a device path (UEFI 2.10, section 10.3).
var endOfPath = []byte{0x7f, 0xff, 4, 0}

// volumePath is the device path of a file in the DXE volume: Fv(…)/FvFile(…).
func volumePath(file fw.GUID) []byte {
	return slices.Concat([]byte{4, 7, 20, 0}, dxeVolume[:], []byte{4, 6, 20, 0}, file[:], endOfPath)
}

// The options of OVMF's own applications, by description.
func uiOption(description string, attributes uint32) bootOption {
	return loadOption(attributes, description, volumePath(uiApp), nil)
}

func menuOption() bootOption {
	return loadOption(loadActive|loadHidden|loadApp, "BootManagerMenuApp", volumePath(bootMenu), nil)
}

func shellOption() bootOption {
	return loadOption(loadActive, "EFI Internal Shell", volumePath(shellApp), nil)
}

// diskOption is what the boot manager makes for a virtio block device at PCI slot.function of bus 0:
// PciRoot(0)/Pci(slot,function). Its name does not depend on the disk.
func diskOption(p PCIAddress) bootOption {
	path := slices.Concat([]byte{2, 1, 12, 0, 0xd0, 0x41, 0x03, 0x0a, 0, 0, 0, 0}, []byte{1, 1, 6, 0, p.Function, p.Slot}, endOfPath)
	return loadOption(loadActive, "UEFI Misc Device", path, autoCreated[:])
}

// A PCIAddress is a slot (0 to 31) and function (0 to 7) of bus 0.
type PCIAddress struct{ Slot, Function byte }

// ParsePCIAddress reads SLOT.FUNCTION in hex, as QEMU's addr= and lspci write it (2.0, 1f.3).
func ParsePCIAddress(s string) (PCIAddress, error) {
	var slot, function uint
	if n, err := fmt.Sscanf(s, "%x.%x", &slot, &function); n != 2 || err != nil || slot > 31 || function > 7 || fmt.Sprintf("%x.%x", slot, function) != s {
		return PCIAddress{}, fmt.Errorf("PCI address %.20q: want SLOT.FUNCTION, in hex: 0.0 to 1f.7", s)
	}
	return PCIAddress{byte(slot), byte(function)}, nil
}

// options lists the boot options of a firmware, in order of registration, when it measures them. A direct
// boot leaves before devices and the shell are registered.
func (f Firmware) options(disk *PCIAddress) []bootOption {
	var all []bootOption
	switch {
	case f.Release < 202505:
		all = append(all, uiOption("UiApp", loadActive|loadHidden|loadApp))
	case f.Build == BuildOVMF || f.Release < 202605:
		all = append(all, menuOption(), uiOption("EFI Firmware Setup", loadActive|loadApp))
	case f.Release >= 202608:
		all = append(all, menuOption())
	}
	if disk != nil {
		all = append(all, diskOption(*disk))
		if f.Build == BuildOVMF {
			all = append(all, shellOption())
		}
	}
	return all
}

// bootVariables are the events of BootOrder and Boot####, whose values alone are hashed; none when there
// is no option.
func bootVariables(options []bootOption) []eventlog.Event {
	if len(options) == 0 {
		return nil
	}
	var order []byte
	var events []eventlog.Event
	for i, o := range options {
		order = binary.LittleEndian.AppendUint16(order, uint16(i))
		events = append(events, event(fmt.Sprintf("Boot%04X (%s)", i, o.what), o.value))
	}
	return slices.Insert(events, 0, event("BootOrder", order))
}
