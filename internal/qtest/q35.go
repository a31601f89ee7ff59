package qtest

import (
	"errors"
	"fmt"
)

// Ports and registers of the q35 machine's PCI host bridge and of the ICH9 (Intel's data sheets 316966 and 316972).
const (
	portConfigAddress = 0xcf8
	portConfigData    = 0xcfc

	hostID      = 0x29c08086
	pciexbar    = 0x60
	pciexbarLow = 0xe000_0001 // base and enable, as edk2 sets them
	lpcDevice   = 0x1f
	pmBase      = 0x40
	pmBaseValue = 0x600
	acpiControl = 0x44
	acpiEnable  = 0x80

	command       = 0x04
	commandMemory = 0x6 // memory space and bus master
	bar0          = 0x10
	bars          = 6
	bar64         = 0x4 // memory BAR of 64 bits, in bits 0 to 2
	barKind       = 0x7
)

// config selects a register of a function on bus 0.
func (m *Machine) config(device, reg uint32) error {
	return m.OutL(portConfigAddress, 1<<31|device<<11|reg)
}

func (m *Machine) readConfig(device, reg uint32) (uint32, error) {
	if err := m.config(device, reg); err != nil {
		return 0, err
	}
	return m.InL(portConfigData)
}

func (m *Machine) writeConfig(device, reg, v uint32) error {
	if err := m.config(device, reg); err != nil {
		return err
	}
	return m.OutL(portConfigData, v)
}

// ProgramQ35 does to a q35 machine what of edk2's work QEMU's ACPI tables depend on: the base of PCI Express
// configuration space, that of the power management ports, and one 64-bit BAR where the 64-bit window of a
// machine with physBits address bits starts: at seven eighths of the address space. It says whether there was a
// device with such a BAR; without one the tables have no 64-bit window.
func (m *Machine) ProgramQ35(physBits int) (window bool, err error) {
	if physBits < 36 || physBits > 52 {
		return false, fmt.Errorf("physical address bits %d: want 36 to 52", physBits)
	}
	if id, err := m.readConfig(0, 0); err != nil {
		return false, err
	} else if id != hostID {
		return false, errors.New("QEMU: not a q35 machine: want -machine q35")
	}
	for _, w := range []struct{ device, reg, v uint32 }{
		{0, pciexbar + 4, 0}, {0, pciexbar, pciexbarLow}, {lpcDevice, pmBase, pmBaseValue}, {lpcDevice, acpiControl, acpiEnable},
	} {
		if err := m.writeConfig(w.device, w.reg, w.v); err != nil {
			return false, err
		}
	}
	return m.programBAR(uint64(7) << (physBits - 3))
}

// programBAR puts the first 64-bit BAR of the machine at an address.
func (m *Machine) programBAR(addr uint64) (bool, error) {
	for device := range uint32(32) {
		id, err := m.readConfig(device, 0)
		if err != nil {
			return false, err
		}
		if id == 0xffffffff || id == hostID {
			continue
		}
		for i := range uint32(bars - 1) {
			reg := bar0 + 4*i
			v, err := m.readConfig(device, reg)
			if err != nil {
				return false, err
			}
			if v&barKind != bar64 {
				continue
			}
			for _, w := range []struct{ reg, v uint32 }{{reg, uint32(addr)}, {reg + 4, uint32(addr >> 32)}, {command, commandMemory}} {
				if err := m.writeConfig(device, w.reg, w.v); err != nil {
					return false, err
				}
			}
			return true, nil
		}
	}
	return false, nil
}
