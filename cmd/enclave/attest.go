package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

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

// errAbsent means that the machine does not have what would attest. What is there and does not work is
// another error, and final: it must not lead to something weaker.
var errAbsent = errors.New("not on this machine")

// machine is what a machine may have to attest with.
type machine struct {
	tsm func() (configfsi.Client, error)
	tpm func() (transport.TPM, error)

	certificates func() ([]byte, error) // of an Azure machine's processor
}

// thisMachine is the machine that this runs on.
func thisMachine() machine {
	return machine{tsm: linuxtsm.MakeClient, tpm: func() (transport.TPM, error) { return linuxtpm.Open("/dev/tpmrm0") }, certificates: func() ([]byte, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		return vtpm.AzureCertificates(ctx, &http.Client{Transport: new(http.Transport)}, vtpm.AzureCertificatesURL)
	}}
}

// attester returns the first of the measured configuration's attesters that the machine has. There is no
// other: a machine with none of them gets an error, not something that the image did not ask for.
func (m machine) attester(names []string) (enclave.Attester, error) {
	for _, name := range names {
		a, err := m.one(name)
		if !errors.Is(err, errAbsent) {
			return a, err
		}
	}
	return nil, fmt.Errorf("attesters: this machine has none of those that the image accepts: %s", strings.Join(names, ", "))
}

func (m machine) one(name string) (enclave.Attester, error) {
	switch name {
	case snp.Platform:
		client, err := m.provider(snp.Provider)
		if err != nil {
			return nil, err
		}
		return snp.New(client), nil
	case tdx.Platform:
		client, err := m.provider(tdx.Provider)
		if err != nil {
			return nil, err
		}
		return tdx.New(client), nil
	case vtpm.AzurePlatform:
		return m.azure()
	case vtpm.SVSMPlatform:
		return m.svsm()
	case vtpm.Platform:
		return m.unendorsed()
	case insecure.Platform:
		return insecure.Attester{}, nil
	}
	return nil, fmt.Errorf("attester %.40q: unknown", name)
}

// provider is the kernel's TSM, if it is the one of that name.
func (m machine) provider(want string) (configfsi.Client, error) {
	client, err := m.tsm()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errAbsent
	case err != nil:
		return nil, fmt.Errorf("attester: TSM: %w", err)
	}
	have, err := tsm.Provider(client)
	switch {
	case errors.Is(err, tsm.ErrNone):
		return nil, errAbsent
	case err != nil:
		return nil, fmt.Errorf("attester: %w", err)
	case have != want:
		return nil, errAbsent
	}
	return client, nil
}

func (m machine) unendorsed() (enclave.Attester, error) {
	dev, err := m.device()
	if err != nil {
		return nil, err
	}
	a, err := vtpm.New(dev)
	if err != nil {
		return nil, fmt.Errorf("attester: %w", err)
	}
	return a, nil
}

func (m machine) svsm() (enclave.Attester, error) {
	client, err := m.provider(snp.Provider)
	if err != nil {
		return nil, err
	}
	floor, err := tsm.Floor(client)
	switch {
	case err != nil:
		return nil, fmt.Errorf("attester: %w", err)
	case floor == 0: // nothing is beneath this guest
		return nil, errAbsent
	}
	dev, err := m.device()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	a, err := vtpm.NewSVSM(ctx, dev, client)
	if err != nil {
		return nil, fmt.Errorf("attester: %w", err)
	}
	return a, nil
}

func (m machine) azure() (enclave.Attester, error) {
	dev, err := m.device()
	if err != nil {
		return nil, err
	}
	a, err := vtpm.NewAzure(dev, nil)
	if errors.Is(err, vtpm.ErrNotAzure) {
		if c, ok := dev.(io.Closer); ok { // another attester may open it
			c.Close()
		}
		return nil, errAbsent
	}
	var certificates []byte
	if err == nil {
		certificates, err = m.certificates()
	}
	if err == nil {
		a, err = vtpm.NewAzure(dev, certificates)
	}
	if err != nil {
		return nil, fmt.Errorf("attester: %w", err)
	}
	return a, nil
}

func (m machine) device() (transport.TPM, error) {
	dev, err := m.tpm()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errAbsent
	case err != nil:
		return nil, fmt.Errorf("attester: TPM: %w", err)
	}
	return dev, nil
}
