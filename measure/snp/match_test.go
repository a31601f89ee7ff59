package snp

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"testing"
)

// variantsOf is what a caller who knows all three files would try.
func variantsOf(h *KernelHashes) []Variant {
	noInitrd, noCmdline := *h, *h
	noInitrd.Initrd, noCmdline.Cmdline = NoInitrd(), HashCmdline("")
	return []Variant{{"as given", h}, {"no kernel", nil}, {"no initrd", &noInitrd}, {"no command line", &noCmdline}}
}

// TestMatchNamesWhatWasPlanted launches with one thing wrong and wants Match to say which.
func TestMatchNamesWhatWasPlanted(t *testing.T) {
	base := good(t)
	for name, c := range map[string]struct {
		plant  func(*Input)
		inputs string
	}{
		"as planned":    {func(in *Input) {}, "as given"},
		"vcpus":         {func(in *Input) { in.VCPUs = 511 }, "as given"},
		"cpu":           {func(in *Input) { in.Signature, _ = VCPUSignature("EPYC-Turin") }, "as given"},
		"host cpu":      {func(in *Input) { in.Signature = 0xa10f11 }, "as given"},
		"debug swap":    {func(in *Input) { in.Features = 0x21 }, "as given"},
		"odd features":  {func(in *Input) { in.Features = 0x219 }, "as given"},
		"old host":      {func(in *Input) { in.VMM = QEMUNoFPUInit }, "as given"},
		"initrd":        {func(in *Input) { in.Hashes.Initrd = NoInitrd() }, "no initrd"},
		"command line":  {func(in *Input) { in.Hashes.Cmdline = HashCmdline("") }, "no command line"},
		"kernel hashes": {func(in *Input) { in.Hashes = nil }, "no kernel"},
		"cloud":         {func(in *Input) { in.Hashes, in.VMM, in.Signature = nil, EC2, 0 }, "no kernel"},
	} {
		in := base
		h := *base.Hashes
		in.Hashes = &h
		c.plant(&in)
		l, err := Measure(in)
		if err != nil {
			t.Fatal(err)
		}
		found, tried, err := Match(t.Context(), l.Digest, in.Firmware, variantsOf(base.Hashes), 0xa10f11)
		if err != nil || len(found) != 1 || tried == 0 {
			t.Errorf("%s: %+v of %d tried, %v; want one", name, found, tried, err)
			continue
		}
		f := found[0]
		if f.VMM != in.VMM || f.VCPUs != in.VCPUs || f.Signature != in.Signature || f.Features != in.Features || f.Inputs != c.inputs {
			t.Errorf("%s: found %+v", name, f)
		}
	}
}

// TestMatchFindsNothing for a launch that no known inputs explain.
func TestMatchFindsNothing(t *testing.T) {
	in := good(t)
	want := in.Hashes
	other := *in.Hashes
	other.Kernel[5] ^= 1
	in.Hashes = &other
	l, err := Measure(in)
	if err != nil {
		t.Fatal(err)
	}
	if found, tried, err := Match(t.Context(), l.Digest, in.Firmware, variantsOf(want)); err != nil || len(found) != 0 || tried < 200_000 {
		t.Errorf("%+v of %d tried, %v; want none", found, tried, err)
	}
}

func TestMatchRefusals(t *testing.T) {
	in := good(t)
	if _, _, err := Match(t.Context(), Digest{}, nil, nil); err == nil {
		t.Error("no firmware: no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Match(ctx, Digest{}, in.Firmware, variantsOf(in.Hashes)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: error %v", err)
	}
	plain := *in.Firmware
	plain.HashGPA = 0
	if _, _, err := Match(t.Context(), Digest{}, &plain, variantsOf(in.Hashes)); !errors.Is(err, ErrNoHashTable) {
		t.Errorf("plain firmware: error %v, want %v", err, ErrNoHashTable)
	}
	plain.Sections = []Section{{GPA: 1}}
	if _, _, err := Match(t.Context(), Digest{}, &plain, nil); err == nil {
		t.Error("bad section: no error")
	}
}

// TestParseReport reads a report that a Milan machine signed.
func TestParseReport(t *testing.T) {
	var v struct {
		Digest string `json:"launch_digest"`
		Report string `json:"report_base64"`
	}
	readJSON(t, "snp-dstack-milan-report.json", &v)
	b, err := base64.StdEncoding.DecodeString(v.Report)
	if err != nil {
		t.Fatal(err)
	}
	b = b[:ReportSize]
	r, err := ParseReport(b)
	if err != nil || r.Measurement.String() != v.Digest || r.Version != 3 || r.Signature != 0xa00f11 {
		t.Errorf("%+v, %v; want %s of a Milan", r, err, v.Digest)
	}
	for name, bad := range map[string][]byte{"empty": nil, "short": b[:ReportSize-1], "long": append(bytes.Clone(b), 0),
		"version": append([]byte{6}, b[1:]...), "stepping": replaced(b, 0x18a, 0x10)} {
		if r, err := ParseReport(bad); err == nil {
			t.Errorf("%s: %+v, want an error", name, r)
		}
	}
}

func replaced(b []byte, off int, v byte) []byte {
	c := bytes.Clone(b)
	c[off] = v
	return c
}

func FuzzParseReport(f *testing.F) {
	f.Add(make([]byte, ReportSize))
	f.Add(append([]byte{3}, make([]byte, ReportSize-1)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseReport(b); err == nil && !bytes.Equal(r.Measurement[:], b[0x90:0xc0]) {
			t.Error("another measurement than the report's")
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	in := good(b)
	for b.Loop() {
		if _, _, err := Match(b.Context(), Digest{}, in.Firmware, variantsOf(in.Hashes)); err != nil {
			b.Fatal(err)
		}
	}
}
