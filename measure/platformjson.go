package measure

import (
	"encoding/json"

	"tally/measure/pcr"
	"tally/measure/snp"
	"tally/measure/tdx"
)

// MarshalJSON writes the fields of p's kind, in the order above.
func (p Platform) MarshalJSON() ([]byte, error) {
	switch {
	case p.TEE == "vtpm":
		return p.marshalVTPM()
	case p.TEE == "tdx":
		return p.marshalTDX()
	case p.IGVM != "":
		return p.marshalIGVM()
	}
	return p.marshalSNP()
}

func (p Platform) marshalVTPM() ([]byte, error) {
	return json.Marshal(struct {
		Name       string             `json:"name"`
		TEE        string             `json:"tee"`
		Bank       pcr.Bank           `json:"bank"`
		SecureBoot pcr.SecureBootForm `json:"secure-boot"`
		Firmware   string             `json:"firmware,omitempty"`
		Machine    pcr.Machine        `json:"machine,omitempty"`
		Phases     []string           `json:"phases,omitempty"`
	}{p.Name, p.TEE, p.Bank, p.SecureBoot, p.Firmware, p.Machine, p.Phases})
}

func (p Platform) marshalTDX() ([]byte, error) {
	return json.Marshal(struct {
		Name     string       `json:"name"`
		TEE      string       `json:"tee"`
		Rules    string       `json:"profile"`
		Firmware string       `json:"firmware"`
		Boot     string       `json:"boot"`
		DiskSlot string       `json:"disk-slot,omitempty"`
		Shapes   []TDXShape   `json:"shapes"`
		Events   []tdx.Digest `json:"rtmr3,omitempty"`
	}{p.Name, p.TEE, p.Rules, p.Firmware, p.Boot, p.DiskSlot, p.Shapes, p.Events})
}

func (p Platform) marshalIGVM() ([]byte, error) {
	return json.Marshal(struct {
		Name  string  `json:"name"`
		TEE   string  `json:"tee"`
		VMM   snp.VMM `json:"vmm"`
		IGVM  string  `json:"igvm"`
		VCPUs []int   `json:"vcpus"`
	}{p.Name, p.TEE, p.VMM, p.IGVM, p.VCPUs})
}

func (p Platform) marshalSNP() ([]byte, error) {
	return json.Marshal(struct {
		Name          string  `json:"name"`
		TEE           string  `json:"tee"`
		VMM           snp.VMM `json:"vmm"`
		Firmware      string  `json:"firmware"`
		SVSM          string  `json:"svsm,omitempty"`
		VarsSize      *int64  `json:"vars-size,omitempty"`
		KernelHashes  bool    `json:"kernel-hashes"`
		VCPUType      string  `json:"vcpu-type,omitempty"`
		VCPUs         []int   `json:"vcpus"`
		GuestFeatures uint64  `json:"guest-features"`
		Boot          string  `json:"boot,omitempty"`
	}{p.Name, p.TEE, p.VMM, p.Firmware, p.SVSM, p.VarsSize, p.KernelHashes, p.VCPUType, p.VCPUs, p.GuestFeatures, p.Boot})
}
