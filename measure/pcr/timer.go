package pcr

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"tally/measure/internal/ffs"
)

// A Machine is a type of QEMU's, -machine.
type Machine string

// The machine types that OVMF runs on.
const (
	Q35 Machine = "q35"
	PC  Machine = "pc" // i440FX
)

// timerPorts are the I/O ports of the ACPI timer: what OVMF sets as base of power management on the machine, and 8
// (edk2 OvmfPkg/Include/OvmfPlatforms.h; ACPI 4.8.3.3).
var timerPorts = map[Machine]uint32{Q35: 0x600 + 8, PC: 0xb000 + 8}

// ParseMachine reads a machine type.
func ParseMachine(s string) (Machine, error) {
	if _, ok := timerPorts[Machine(s)]; !ok {
		return "", fmt.Errorf("machine %.40q: want one of %v", s, slices.Sorted(maps.Keys(timerPorts)))
	}
	return Machine(s), nil
}

// timerVariable finds where PeiCore keeps the port of the ACPI timer (edk2 OvmfPkg/Library/AcpiTimerLib/
// BaseAcpiTimerLib.c, mAcpiTimerIoAddr). Its constructor ends with
//
//	add r, 8; mov [rip+x], r      mAcpiTimerIoAddr = (PciRead32 (Pmba) & ~PMBA_RTE) + ACPI_TIMER_OFFSET
//
// and what asks the time reads the same place. It must be there once, of four zero bytes in PeiCore; -1 when it is not.
func timerVariable(v *ffs.Volumes) int {
	code := v.PEI[v.Core.From:v.Core.To]
	stores := map[int]int{} // how often a place is stored to in that way
	for i := 0; i+9 <= len(code); i++ {
		r := code[i+1] - 0xc0
		if code[i] != 0x83 || r > 7 || code[i+2] != 8 || code[i+3] != 0x89 || code[i+4] != 5|r<<3 {
			continue
		}
		at := i + 9 + int(int32(binary.LittleEndian.Uint32(code[i+5:])))
		if at >= 0 && at+4 <= len(code) && binary.LittleEndian.Uint32(code[at:]) == 0 {
			stores[at]++
		}
	}
	known := loaded(code, stores)
	if len(known) != 1 || stores[known[0]] != 1 {
		return -1
	}
	return v.Core.From + known[0]
}

// loaded lists those of the places that code has a load from. It passes over code once, however many there are.
func loaded(code []byte, places map[int]int) (all []int) {
	for i := 0; i+6 <= len(code); i++ {
		if code[i] != 0x8b || code[i+1]&0xc7 != 5 {
			continue
		}
		at := i + 6 + int(int32(binary.LittleEndian.Uint32(code[i+2:])))
		if places[at] > 0 && !slices.Contains(all, at) {
			if all = append(all, at); len(all) > 1 {
				return all
			}
		}
	}
	return all
}

// timed is the PEI volume as it lies in memory on a machine: with the port of the ACPI timer.
func timed(v *ffs.Volumes, at int, m Machine) []byte {
	pei := slices.Clone(v.PEI)
	binary.LittleEndian.PutUint32(pei[at:], timerPorts[m])
	return pei
}
