package measure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"tally/measure/eventlog"
	"tally/measure/snp"
)

// An SVSM is one under a firmware, reduced to what the launch digest depends on beside the firmware.
type SVSM struct {
	Firmware string        `json:"firmware"`  // name of the firmware above it
	VarsSize int64         `json:"vars_size"` // bytes of that firmware's variable store
	Digest   snp.Digest    `json:"digest"`    // launch digest after the pages of both
	Size     int64         `json:"size"`      // bytes of the SVSM
	Entry    uint32        `json:"entry"`     // guest physical address where each vCPU starts
	Sections []snp.Section `json:"sections"`  // its SEV metadata, in table order
}

// An IGVM is an IGVM file: its launch digest, and for how many vCPUs it holds save areas.
type IGVM struct {
	Digest snp.Digest `json:"digest"`
	VCPUs  int        `json:"vcpus"`
}

// Keys of platforms that start in an SVSM, and from an IGVM file.
var (
	svsmKeys = keySet{append([]string{"svsm", "vars-size"}, keys["snp"].all...), append([]string{"svsm", "vars-size"}, keys["snp"].wanted...)}
	igvmKeys = keySet{[]string{"name", "tee", "vmm", "igvm", "vcpus"}, []string{"igvm", "vcpus"}}
)

// checkSVSM holds what goes with an SVSM to its rules; without one the rest must be absent.
func (p *Platform) checkSVSM() error {
	switch {
	case p.SVSM == "" && p.VarsSize != nil:
		return errors.New("vars-size: goes with svsm")
	case p.SVSM == "":
		return nil
	case p.VarsSize == nil:
		return errors.New("vars-size: missing: with svsm it says where the SVSM lies")
	case *p.VarsSize < 0 || *p.VarsSize%4096 != 0 || *p.VarsSize > maxFirmware:
		return fmt.Errorf("vars-size %d: want whole pages up to %d bytes", *p.VarsSize, maxFirmware)
	case p.VMM != snp.QEMU:
		return fmt.Errorf("svsm: vmm %.40q: an SVSM is known on %s alone", p.VMM, snp.QEMU)
	case p.SVSM == p.Firmware:
		return fmt.Errorf("svsm %.40q: is the firmware above it", p.SVSM)
	case p.KernelHashes || p.Boot != "":
		return errors.New("svsm: goes with kernel-hashes: false and without boot: its value covers SVSM and firmware alone")
	}
	return nil
}

// checkIGVM holds a platform that starts from an IGVM file to its rules.
func (p *Platform) checkIGVM() error {
	switch {
	case p.VMM != snp.QEMU:
		return fmt.Errorf("igvm: vmm %.40q: IGVM files are known on %s alone", p.VMM, snp.QEMU)
	case p.Firmware != "" || p.KernelHashes || p.VCPUType != "" || p.GuestFeatures != 0 || p.Boot != "" || p.SVSM != "" || p.VarsSize != nil:
		return errors.New("igvm: goes with name, tee, vmm and vcpus alone: the file says the rest")
	case len(p.VCPUs) != 1:
		return fmt.Errorf("vcpus: %d shapes, want the one number that the IGVM file has save areas for", len(p.VCPUs))
	}
	return p.checkVCPUs()
}

// guestFirmware measures the SVSM or the IGVM file that p names.
func (im *image) guestFirmware(ctx context.Context, s *Static, p Platform) error {
	name, limit := p.SVSM, int64(maxFirmware)
	if p.IGVM != "" {
		name, limit = p.IGVM, snp.MaxIGVM
	}
	if name == "" {
		return nil
	}
	f, data, err := im.firmwareFile(ctx, name, limit)
	if err != nil {
		return err
	}
	at := s.firmware(name)
	if at == nil {
		s.Firmware = append(s.Firmware, Firmware{Name: f.name, SHA256: f.sum})
		at = &s.Firmware[len(s.Firmware)-1]
	}
	if p.IGVM != "" {
		err = at.measureIGVM(data)
	} else {
		err = at.measureSVSM(data, p, s.firmware(p.Firmware).SNP)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.file, err)
	}
	return nil
}

func (f *Firmware) measureIGVM(data []byte) error {
	if f.IGVM != nil {
		return nil
	}
	l, err := snp.MeasureIGVM(data)
	if err != nil {
		return err
	}
	f.IGVM = &IGVM{Digest: l.Digest}
	for _, e := range l.Events {
		if e.Type == "vmsa" {
			f.IGVM.VCPUs += e.Pages
		}
	}
	return nil
}

// measureSVSM adds the SVSM under the firmware that p names, if it is not there.
func (f *Firmware) measureSVSM(data []byte, p Platform, above *snp.Firmware) error {
	if f.svsm(p) != nil {
		return nil
	}
	s, err := snp.ReadSVSM(bytes.NewReader(data), int64(len(data)), above, *p.VarsSize)
	if err != nil {
		return err
	}
	f.SVSM = append(f.SVSM, SVSM{p.Firmware, *p.VarsSize, s.Own.Digest, s.Own.Size, s.Entry, s.Own.Sections})
	return nil
}

// svsm returns f as p starts it; nil when it was not measured so.
func (f *Firmware) svsm(p Platform) *SVSM {
	i := slices.IndexFunc(f.SVSM, func(s SVSM) bool { return s.Firmware == p.Firmware && s.VarsSize == *p.VarsSize })
	if i < 0 {
		return nil
	}
	return &f.SVSM[i]
}

// svsmLaunches computes the launch of each shape of p, whose firmware is above.
func (s *Static) svsmLaunches(p Platform, above *snp.Firmware) ([]*snp.Launch, error) {
	f := s.firmware(p.SVSM)
	if f == nil || f.svsm(p) == nil {
		return nil, fmt.Errorf("svsm %.40q: not measured under firmware %.40q with %d bytes of variables", p.SVSM, p.Firmware, *p.VarsSize)
	}
	v := f.svsm(p)
	sig, err := snp.VCPUSignature(p.VCPUType)
	if err != nil {
		return nil, err
	}
	own := snp.Firmware{Digest: v.Digest, Size: v.Size, Sections: v.Sections}
	gpa := 1<<32 - above.Size - v.VarsSize - v.Size // its last byte is below the variable store, which is below the firmware
	return snp.MeasureSVSMShapes(&snp.SVSM{Above: above, Own: own, GPA: uint64(gpa), Entry: v.Entry}, p.VCPUs, sig, p.GuestFeatures)
}

// igvmLaunches is the launch that the file of p gives.
func (s *Static) igvmLaunches(p Platform) ([]*snp.Launch, error) {
	f := s.firmware(p.IGVM)
	if f == nil || f.IGVM == nil {
		return nil, fmt.Errorf("igvm %.40q: not measured", p.IGVM)
	}
	if p.VCPUs[0] != f.IGVM.VCPUs {
		return nil, fmt.Errorf("vcpus %d: igvm %.40q has save areas for %d", p.VCPUs[0], p.IGVM, f.IGVM.VCPUs)
	}
	all := snp.Event{What: "IGVM file", Digest: f.IGVM.Digest, Covers: []eventlog.Part{PartFirmware}}
	return []*snp.Launch{{Digest: f.IGVM.Digest, Events: []snp.Event{all}}}, nil
}
