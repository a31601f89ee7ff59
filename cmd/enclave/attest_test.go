//go:build linux

package main

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/faketsm"
	"github.com/google/go-tpm/tpm2/transport"
)

// withTSM is a machine whose kernel says that its TSM is provider; fail makes it answer nothing.
func withTSM(provider string, fail error) machine {
	return machine{tsm: func() (configfsi.Client, error) {
		return &faketsm.Client{Subsystems: map[string]configfsi.Client{"report": &faketsm.ReportSubsystem{
			MakeEntry: func() *faketsm.ReportEntry { return &faketsm.ReportEntry{ReadGeneration: 1} },
			ReadAttr:  func(*faketsm.ReportEntry, string) ([]byte, error) { return []byte(provider + "\n"), fail },
			Random:    rand.Reader,
		}}}, nil
	}, tpm: func() (transport.TPM, error) { return nil, errors.New("no TPM here") }}
}

func TestAttester(t *testing.T) {
	bare := withTSM("", nil)
	bare.tsm = func() (configfsi.Client, error) { return nil, fs.ErrNotExist }
	for name, c := range map[string]struct {
		m              machine
		want, platform string // platform "": refused
		words          string
	}{
		"SNP":                     {withTSM("sev_guest", nil), wantAny, "snp", ""},
		"TDX":                     {withTSM("tdx_guest", nil), wantHardware, "tdx", ""},
		"nothing":                 {bare, wantAny, "insecure", ""},
		"nothing, hardware asked": {bare, wantHardware, "", "no TSM"},
		"insecure asked":          {withTSM("sev_guest", nil), "insecure", "insecure", ""},
		"a TSM that fails":        {withTSM("sev_guest", syscall.EIO), wantAny, "", "input/output"},
		"another TSM":             {withTSM("arm_cca_guest", nil), wantAny, "", `"arm_cca_guest"`},
		"no TPM":                  {bare, "vtpm-unendorsed", "", "no TPM here"},
		"another word":            {bare, "snp2", "", `attester "snp2": want hardware`},
	} {
		a, err := c.m.attester(c.want)
		switch {
		case c.platform == "" && (err == nil || !strings.Contains(err.Error(), c.words)):
			t.Errorf("%s: %v, want %q", name, err, c.words)
		case c.platform != "" && (err != nil || a.Platform() != c.platform):
			t.Errorf("%s: %v, %v; want %s", name, a, err, c.platform)
		}
	}
}

func TestReadAttester(t *testing.T) {
	path := filepath.Join(t.TempDir(), "attester")
	if got, err := readAttester(path); got != wantAny || err != nil {
		t.Errorf("no file: %q, %v", got, err)
	}
	for text, want := range map[string]string{"hardware\n": "hardware", "insecure": "insecure"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := readAttester(path); got != want || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readAttester(path); err == nil {
		t.Error("an empty file has a default")
	}
}
