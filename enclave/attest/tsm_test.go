// Package attest_test runs the attesters of configfs-tsm over the fake one of its library, fed by fake hardware.
package attest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/faketsm"

	"tally/enclave"
	"tally/enclave/appraise/amd"
	"tally/enclave/appraise/intel"
	"tally/enclave/attest/snp"
	"tally/enclave/attest/tdx"
	"tally/enclave/attesttest"
)

var now = time.Unix(1767225600, 0)

// A kernel is a fake TSM: answer makes the report for an inblob.
type kernel struct {
	provider string
	answer   func(in [64]byte) (out, aux []byte, err error)
	busy     int // so many times first
	entries  int // made so far
}

func (k *kernel) client() configfsi.Client {
	return &faketsm.Client{Subsystems: map[string]configfsi.Client{"report": &faketsm.ReportSubsystem{
		MakeEntry: func() *faketsm.ReportEntry {
			k.entries++
			return &faketsm.ReportEntry{InAttrs: map[string]*faketsm.ReportAttributeState{"inblob": {}}}
		},
		CheckInAttr: func(*faketsm.ReportEntry, string, []byte) error { return nil },
		ReadAttr:    k.read, Random: rand.Reader,
	}}}
}

func (k *kernel) read(e *faketsm.ReportEntry, attr string) ([]byte, error) {
	if attr == "provider" {
		return []byte(k.provider + "\n"), nil
	}
	if k.busy > 0 {
		k.busy--
		return nil, syscall.EBUSY
	}
	in := e.InAttrs["inblob"].Value
	if len(in) != 64 {
		return nil, syscall.EINVAL
	}
	out, aux, err := k.answer([64]byte(in))
	if attr == "auxblob" {
		if aux == nil {
			return nil, syscall.ENOENT
		}
		return aux, err
	}
	return out, err
}

func TestSNP(t *testing.T) {
	m, err := attesttest.NewAMD(now)
	if err != nil {
		t.Fatal(err)
	}
	k := &kernel{provider: "sev_guest", busy: 2, answer: func(in [64]byte) ([]byte, []byte, error) { return m.Attest(t.Context(), in) }}
	var a enclave.Attester = snp.New(k.client())
	report, end, err := a.Attest(t.Context(), [64]byte{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	r, err := amd.Verify(report, end, m.Roots(), now)
	if err != nil || !bytes.HasPrefix(r.GetReportData(), []byte{1, 2, 0}) || a.Platform() != "snp" {
		t.Fatalf("%v", err)
	}
	if k.entries != 3 {
		t.Errorf("%d requests, want 2 busy ones and a third", k.entries)
	}
	k.answer = func(in [64]byte) ([]byte, []byte, error) { r, err := m.Report(in); return r, nil, err }
	if report, end, err = a.Attest(t.Context(), [64]byte{3}); err != nil || len(report) != 1184 || end != nil {
		t.Errorf("host without certificates: %d bytes and %d, %v", len(report), len(end), err)
	}
}

func TestTDX(t *testing.T) {
	m, err := attesttest.NewIntel(now)
	if err != nil {
		t.Fatal(err)
	}
	k := &kernel{provider: "tdx_guest", answer: func(in [64]byte) ([]byte, []byte, error) { q, err := m.Quote(in); return q, nil, err }}
	var a enclave.Attester = tdx.New(k.client())
	quote, end, err := a.Attest(t.Context(), [64]byte{1, 2})
	if err != nil || end != nil || a.Platform() != "tdx" {
		t.Fatal(err)
	}
	if q, err := intel.Verify(t.Context(), quote, nil, m.Root(), now); err != nil || !bytes.HasPrefix(q.ReportData, []byte{1, 2, 0}) {
		t.Error(err)
	}
}

func TestRefuses(t *testing.T) {
	ok := func(in [64]byte) ([]byte, []byte, error) { return in[:], nil, nil }
	for name, c := range map[string]struct {
		k    kernel
		want string
	}{
		"another provider": {kernel{provider: "tdx_guest", answer: ok}, `provider "tdx_guest", want "sev_guest"`},
		"empty report":     {kernel{provider: "sev_guest", answer: func([64]byte) ([]byte, []byte, error) { return nil, nil, nil }}, "report of 0 bytes"},
		"long report":      {kernel{provider: "sev_guest", answer: func([64]byte) ([]byte, []byte, error) { return make([]byte, 1<<16), nil, nil }}, "report of 65536 bytes"},
		"refusal":          {kernel{provider: "sev_guest", answer: func([64]byte) ([]byte, []byte, error) { return nil, nil, syscall.EIO }}, "input/output"},
	} {
		out, aux, err := snp.New(c.k.client()).Attest(t.Context(), [64]byte{})
		if err == nil || out != nil || aux != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, errors.New("no longer"))
	defer cancel()
	k := kernel{provider: "sev_guest", answer: ok, busy: 1000}
	if _, _, err := snp.New(k.client()).Attest(ctx, [64]byte{}); err == nil || err.Error() != "no longer" {
		t.Errorf("busy for ever: %v", err)
	}
}
