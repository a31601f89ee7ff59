package tdx

import (
	"bytes"
	"crypto/sha512"
	"fmt"
	"sync"

	"tally/measure/internal/fw"
)

// A Measured is a firmware, reduced to what the registers take from it beside events: with it MRTD and the TD HOB
// are computed again without the firmware.
type Measured struct {
	SinglePass Digest   `json:"mrtd_single_pass"`
	TwoPass    Digest   `json:"mrtd_two_pass"`
	CFV        Digest   `json:"cfv"`      // SHA-384 of the configuration firmware volume
	Memory     []Region `json:"sections"` // TD_HOB and TEMP_MEM, in table order
}

// A Region is a section of the firmware's metadata that is memory.
type Region struct {
	Type string `json:"type"` // TD_HOB or TEMP_MEM
	GPA  uint64 `json:"gpa"`
	Size uint64 `json:"size"` // bytes
}

// ReadFirmware measures a firmware given whole.
func ReadFirmware(b []byte) (*Measured, error) {
	sections, err := fw.ReadTDVF(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	m := new(Measured)
	var wg sync.WaitGroup
	passes := Passes()
	errs := make([]error, len(passes))
	for i, pass := range passes {
		wg.Go(func() {
			var r *MRTD
			if r, errs[i] = Measure(bytes.NewReader(b), int64(len(b)), pass); errs[i] == nil {
				*m.of(pass) = r.Digest
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	cfv, err := configuration(bytes.NewReader(b), sections)
	if err != nil {
		return nil, err
	}
	m.CFV = sha512.Sum384(cfv)
	for _, s := range sections {
		if s.Type == fw.TDHandOff || s.Type == fw.TDTempMemory {
			m.Memory = append(m.Memory, Region{s.Type.String(), s.GPA, s.Size})
		}
	}
	return m, nil
}

func (m *Measured) of(p Pass) *Digest {
	if p == TwoPass {
		return &m.TwoPass
	}
	return &m.SinglePass
}

// MRTD is the firmware's MRTD under a pass.
func (m *Measured) MRTD(p Pass) Digest { return *m.of(p) }

// HandOff is the digest of the TD HOB on a machine with so many bytes of memory.
func (m *Measured) HandOff(memory uint64) (Digest, error) {
	var sections []fw.TDSection
	if len(m.Memory) > fw.MaxSections {
		return Digest{}, fmt.Errorf("%d sections, want at most %d", len(m.Memory), fw.MaxSections)
	}
	for i, r := range m.Memory {
		s := fw.TDSection{GPA: r.GPA, Size: r.Size, Type: fw.TDTempMemory}
		if r.Type == fw.TDHandOff.String() {
			s.Type = fw.TDHandOff
		} else if r.Type != fw.TDTempMemory.String() {
			return Digest{}, fmt.Errorf("section %d: type %.20q, want TD_HOB or TEMP_MEM", i, r.Type)
		}
		if r.GPA%fw.PageSize != 0 || r.Size%fw.PageSize != 0 || r.GPA > maxMemory || r.Size > maxMemory {
			return Digest{}, fmt.Errorf("section %d: %#x bytes at %#x: want whole pages", i, r.Size, r.GPA)
		}
		sections = append(sections, s)
	}
	hob, err := tdHOB(sections, memory)
	if err != nil {
		return Digest{}, err
	}
	return sha512.Sum384(hob), nil
}

// LoadOptions is the digest of what a kernel with an initrd gets as load options: from QEMU by way of a firmware
// of the release, or (release 0) from a UKI's stub.
func LoadOptions(release int, cmdline string) Digest {
	switch {
	case release >= 202508:
		cmdline = "initrd=initrd " + cmdline
	case release > 0:
		cmdline += " initrd=initrd"
	}
	return sha512.Sum384(utf16le(cmdline + "\x00"))
}
