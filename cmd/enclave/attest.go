package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/linuxtsm"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"

	"tally/enclave"
	"tally/enclave/attest/insecure"
	"tally/enclave/attest/snp"
	"tally/enclave/attest/tdx"
	"tally/enclave/attest/tsm"
	"tally/enclave/attest/vtpm"
)

// attesterFile names who attests, in one line. It lies in the verity root, so that the host cannot change it.
//
//	hardware          SNP or TDX, whichever the machine has; without either the enclave does not serve
//	vtpm-unendorsed   the machine's TPM: the host can forge this
//	insecure          nobody: the host can forge this
//
// Without the file it is the hardware that there is, and nobody where there is none.
const attesterFile = "/etc/tally/attester"

// What the file may say.
const (
	wantHardware = "hardware"
	wantAny      = "" // no file
)

// machine is what a machine may have to attest with.
type machine struct {
	tsm func() (configfsi.Client, error)
	tpm func() (transport.TPM, error)
}

// thisMachine is the machine that this runs on.
func thisMachine() machine {
	return machine{tsm: linuxtsm.MakeClient, tpm: func() (transport.TPM, error) { return linuxtpm.Open("/dev/tpmrm0") }}
}

// attester picks who attests. What the image asks for is what it gets, or an error.
func (m machine) attester(want string) (enclave.Attester, error) {
	switch want {
	case wantHardware, wantAny:
		a, err := m.hardware()
		if errors.Is(err, fs.ErrNotExist) && want == wantAny {
			return insecure.Attester{}, nil
		}
		return a, err
	case vtpm.Platform:
		dev, err := m.tpm()
		if err != nil {
			return nil, fmt.Errorf("attester %s: %w", want, err)
		}
		a, err := vtpm.New(dev)
		if err != nil {
			return nil, err
		}
		return a, nil
	case insecure.Platform:
		return insecure.Attester{}, nil
	}
	return nil, fmt.Errorf("%s: attester %.40q: want %s, %s or %s", attesterFile, want, wantHardware, vtpm.Platform, insecure.Platform)
}

// hardware is the attester of the kernel's TSM. Where there is none the error is fs.ErrNotExist; a TSM that
// does not work is never taken for none.
func (m machine) hardware() (enclave.Attester, error) {
	client, err := m.tsm()
	if err != nil {
		return nil, fmt.Errorf("attester: no TSM: %w", err)
	}
	provider, err := tsm.Provider(client)
	if err != nil {
		return nil, fmt.Errorf("attester: %w", err)
	}
	switch provider {
	case snp.Provider:
		return snp.New(client), nil
	case tdx.Provider:
		return tdx.New(client), nil
	}
	return nil, fmt.Errorf("attester: TSM %.40q: want %s or %s", provider, snp.Provider, tdx.Provider)
}

// readAttester reads the measured choice. Only its absence has a default.
func readAttester(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return wantAny, nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return "", err
	}
	name := strings.TrimSuffix(string(data), "\n")
	if name == "" {
		return "", fmt.Errorf("%s: empty", path)
	}
	return name, nil
}
