package gpu

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// A DriverState is what the driver said about the machine's GPUs when the enclave asked for their evidence. The vendor signs no such
// thing. It is believed because measured code asked, and bound what it heard into its own evidence ([SetDigest]).
type DriverState struct {
	ConfidentialCompute bool `json:"confidential_compute"` // on for all of them
	DeveloperTools      bool `json:"developer_tools"`      // on: memory can be read from outside
	GPUs                int  `json:"gpus"`                 // as many as the driver sees
	Switches            int  `json:"switches"`             // likewise
	SwitchesUnlocked    int  `json:"switches_unlocked"`    // of them: whose NVLink traffic may be watched from outside
}

// Check refuses what no policy may allow, and evidence of other devices than the driver sees.
func (s DriverState) Check(all []Device) error {
	gpus, switches := counts(all)
	switch {
	case s.GPUs == 0:
		return refuse(NoDevices, "the driver sees no GPU: a GPU release does not serve without")
	case !s.ConfidentialCompute: // first: GPUs without it give no evidence
		return refuse(BadMode, "confidential computing is off")
	case s.DeveloperTools:
		return refuse(BadMode, "developer tools are on")
	case gpus != s.GPUs:
		return refuse(NoDevices, "the driver sees %d GPUs, %d gave evidence", s.GPUs, gpus)
	case switches != s.Switches:
		return refuse(NoDevices, "the driver sees %d switches, %d gave evidence", s.Switches, switches)
	case s.SwitchesUnlocked != 0:
		return refuse(BadMode, "%d switches are not locked", s.SwitchesUnlocked)
	}
	return nil
}

// driverCheck says whose word it is. The state itself was checked.
func driverCheck(in Input) Check {
	c := Check{Name: "driver-state", Status: NotChecked, Got: "the file is not an enclave's: nobody asked the driver whether confidential computing is on and developer tools are off"}
	if in.Driver == nil {
		return c
	}
	c.Got = fmt.Sprintf("confidential computing on, developer tools off, %d GPUs and %d switches, all in evidence and none unlocked", in.Driver.GPUs, in.Driver.Switches)
	if !in.bound {
		c.Got += ": as the file says, which only the enclave's own evidence proves"
		return c
	}
	c.Status, c.From = OK, "driver, to the enclave"
	return c
}

func counts(all []Device) (gpus, switches int) {
	for _, d := range all {
		if d.Arch.Switch() {
			switches++
		} else {
			gpus++
		}
	}
	return gpus, switches
}

// A Set is the document that an enclave's claims bind:
//
//	{"driver": {…}, "devices": […]}
//
// driver is a [DriverState] with all its fields in their order, devices is in the form that the vendor's tools write ([ParseEvidence]).
type Set struct {
	Driver  DriverState
	Devices []Device
}

type setJSON struct {
	Driver  json.RawMessage `json:"driver"`
	Devices json.RawMessage `json:"devices"`
}

// Marshal writes s.
func (s *Set) Marshal() ([]byte, error) {
	driver, err := json.Marshal(s.Driver)
	if err != nil {
		return nil, err
	}
	devices, err := MarshalEvidence(s.Devices)
	if err != nil {
		return nil, err
	}
	return json.Marshal(setJSON{driver, devices})
}

// ParseSet reads a set of at least one device.
func ParseSet(document []byte) (*Set, error) {
	d := json.NewDecoder(bytes.NewReader(document))
	d.DisallowUnknownFields()
	var raw setJSON
	if err := d.Decode(&raw); err != nil {
		return nil, fmt.Errorf("GPU set: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("GPU set: more than one JSON value")
	}
	s := new(Set)
	if err := json.Unmarshal(raw.Driver, &s.Driver); err != nil {
		return nil, fmt.Errorf("GPU set: driver: %w", err)
	}
	// Written again it must be the same: a field that is missing, twice or unknown would say something without saying it.
	if again, err := json.Marshal(s.Driver); err != nil || !bytes.Equal(again, raw.Driver) {
		return nil, fmt.Errorf("GPU set: driver: %.200s: want each of its fields once, in order", raw.Driver)
	}
	var err error
	if len(raw.Devices) == 0 || raw.Devices[0] != '[' {
		return nil, errors.New("GPU set: devices: want an array")
	}
	s.Devices, err = ParseEvidence(raw.Devices, nil)
	return s, err
}
