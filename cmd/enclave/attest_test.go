//go:build linux

package main

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/faketsm"
	"github.com/google/go-tpm/tpm2/transport"

	"tally/enclave/attest/insecure"
	"tally/enclave/attest/snp"
	"tally/enclave/attest/tdx"
	"tally/enclave/attest/vtpm"
	"tally/internal/guest"
)

// withTSM is a machine whose kernel says that its TSM is provider; fail makes it answer nothing.
func withTSM(provider string, fail error) machine { return above(provider, "0", fail) }

// above is withTSM for a guest whose VMPL is floor.
func above(provider, floor string, fail error) machine {
	return machine{tsm: func() (configfsi.Client, error) {
		return &faketsm.Client{Subsystems: map[string]configfsi.Client{"report": &faketsm.ReportSubsystem{
			MakeEntry: func() *faketsm.ReportEntry { return &faketsm.ReportEntry{ReadGeneration: 1} },
			ReadAttr: func(_ *faketsm.ReportEntry, attr string) ([]byte, error) {
				if attr == "privlevel_floor" {
					return []byte(floor + "\n"), nil
				}
				return []byte(provider + "\n"), fail
			},
			Random: rand.Reader,
		}}}, nil
	}, tpm: noTPM}
}

func noTPM() (transport.TPM, error) {
	return nil, &os.PathError{Op: "stat", Path: "/dev/tpmrm0", Err: fs.ErrNotExist}
}

// noProvider is a kernel with configfs-tsm and nobody behind it, as a module for other hardware leaves it.
type noProvider struct{ configfsi.Client }

func (noProvider) MkdirTemp(string, string) (string, error) {
	return "", &os.PathError{Op: "mkdir", Path: "report", Err: syscall.ENXIO}
}

func TestAttester(t *testing.T) {
	bare := machine{tsm: func() (configfsi.Client, error) { return nil, fs.ErrNotExist }, tpm: noTPM}
	idle := machine{tsm: func() (configfsi.Client, error) { return noProvider{}, nil }, tpm: noTPM}
	badTPM := machine{tsm: bare.tsm, tpm: func() (transport.TPM, error) { return nil, syscall.EIO }}
	all := guest.Attesters()
	for name, c := range map[string]struct {
		m        machine
		want     []string
		platform string // "": refused
		words    string
	}{
		"SNP":                      {withTSM("sev_guest", nil), all, "snp", ""},
		"TDX":                      {withTSM("tdx_guest", nil), all, "tdx", ""},
		"TDX, SNP asked":           {withTSM("tdx_guest", nil), []string{"snp"}, "", "none of those that the image accepts: snp"},
		"nothing":                  {bare, all, "insecure", ""},
		"a TSM without provider":   {idle, all, "insecure", ""},
		"nothing, hardware asked":  {bare, []string{"snp", "tdx"}, "", "none of those that the image accepts: snp, tdx"},
		"nothing, TPM asked":       {bare, []string{"vtpm-unendorsed"}, "", "none of those"},
		"nobody asked":             {withTSM("sev_guest", nil), nil, "", "none of those"},
		"insecure asked first":     {withTSM("sev_guest", nil), []string{"insecure", "snp"}, "insecure", ""},
		"a TSM that fails":         {withTSM("sev_guest", syscall.EIO), all, "", "input/output"},
		"a TSM of another machine": {withTSM("arm_cca_guest", nil), []string{"snp", "tdx"}, "", "none of those"},
		"SNP, SVSM asked":          {withTSM("sev_guest", nil), []string{"vtpm-svsm"}, "", "none of those that the image accepts: vtpm-svsm"},
		"TDX, SVSM asked":          {above("tdx_guest", "2", nil), []string{"vtpm-svsm"}, "", "none of those"},
		"an SVSM without a TPM":    {above("sev_guest", "2", nil), []string{"vtpm-svsm"}, "", "none of those"},
		"no VMPL":                  {above("sev_guest", "low", nil), []string{"vtpm-svsm"}, "", `privlevel_floor "low": want a number`},
		"an SVSM's TPM fails":      {machine{tsm: above("sev_guest", "2", nil).tsm, tpm: badTPM.tpm}, []string{"vtpm-svsm", "insecure"}, "", "input/output"},
		"a TPM that fails":         {badTPM, all, "", "input/output"},
		"another word":             {bare, []string{"snp2"}, "", `attester "snp2": unknown`},
	} {
		a, err := c.m.attester(c.want)
		switch {
		case c.platform == "" && (err == nil || !strings.Contains(err.Error(), c.words)):
			t.Errorf("%s: %v, want %q", name, err, c.words)
		case c.platform == "" && errors.Is(err, errAbsent):
			t.Errorf("%s: %v", name, err)
		case c.platform != "" && (err != nil || a.Platform() != c.platform):
			t.Errorf("%s: %v, %v; want %s", name, a, err, c.platform)
		}
	}
}

// The names of the configuration are the platforms of the evidence.
func TestAttesterNames(t *testing.T) {
	if want := []string{snp.Platform, tdx.Platform, vtpm.AzurePlatform, vtpm.SVSMPlatform, vtpm.Platform, insecure.Platform}; !slices.Equal(guest.Attesters(), want) {
		t.Errorf("%q, want %q", guest.Attesters(), want)
	}
}
