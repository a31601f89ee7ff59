package snp

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// varsSize is the variable store of the firmware that COCONUT's fixtures were run with, in bytes.
const varsSize = 540672

func svsmImage(t testing.TB) []byte {
	return unxz(t, "testdata/vectors/svsm.bin.xz", "287fcee67b501b072e4953b5006059d088b454e9197bc318885385acb233d5d1")
}

// TestSVSM replays sev-snp-measure's SVSM cases. Their firmware stands here as its digest, which the same
// tool computes (calc_snp_ovmf_hash).
func TestSVSM(t *testing.T) {
	image := svsmImage(t)
	coconut := &Firmware{Size: 3653632}
	if err := coconut.Digest.UnmarshalText([]byte("d6e9418b28aaf60734ea40a3bc0d422450010b288679a6a9ce8cef868476cb57252ae843f4220d7f7b2cbe91fc0ee131")); err != nil {
		t.Fatal(err)
	}
	debian := firmware(t, unxz(t, "testdata/vectors/ovmf/OVMF.fd.xz", "14954040cc754ade0c625ac3470ea46d4c14318b5b1396de4ef77090203d76db"))
	for _, c := range []struct {
		fw    *Firmware
		vcpus int
		cpu   string
		want  string
	}{
		// tests/test_guest.py, test_snp_svsm_4_vcpus and test_snp_svsm_2_vcpus; read from hardware.
		{coconut, 4, "EPYC-v4", "27d154c27b7b359c935e250ec6fee72aa0ae8c1225e3b0e1cf46a9567e938066d7d6f94bbdc4a857818bdb79277a44b2"},
		{coconut, 2, "EPYC-v4", "9b94745036aafddf4f7f8b00c7513abb5b7703178cb95aaa57928bd963d68d3bfcb715d6019b9167ee2517b11b0d9be7"},
		// sev-snp-measure 0.0.13 (8f2b337) --mode snp:svsm --vars-size 540672 over Debian's OVMF.fd.
		{debian, 1, "EPYC-Milan", "572d61ac70f84de6af34be48f0738816a1be6eb2b0d2926689350eb3272e1563d2d64dbc78a8f8eab2a1b719b7409398"},
		{debian, 5, "EPYC-Milan", "93c5e5d4c6442ddb3048515db19acf0c8b0a555227b14c36d19ef276c05734b942825a437dc0f248f462b8821350939e"},
	} {
		s, err := ReadSVSM(bytes.NewReader(image), int64(len(image)), c.fw, varsSize)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := VCPUSignature(c.cpu)
		if err != nil {
			t.Fatal(err)
		}
		l, err := MeasureSVSM(s, c.vcpus, sig, 1)
		if err != nil || l.Digest.String() != c.want {
			t.Errorf("%d vcpus, %s: %v, %v; want %s", c.vcpus, c.cpu, l, err, c.want)
			continue
		}
		if last := l.Events[len(l.Events)-1]; last.Digest != l.Digest || len(l.Covers()) != 1 {
			t.Errorf("last event %v, covers %v", last, l.Covers())
		}
		other, err := MeasureSVSM(s, c.vcpus, sig, 0x21)
		if err != nil || other.Digest == l.Digest {
			t.Errorf("features do not move the digest: %v", err)
		}
	}
}

func TestSVSMRefusals(t *testing.T) {
	image, fw := svsmImage(t), &Firmware{Size: 3653632}
	read := func(b []byte, fw *Firmware, vars int64) error {
		_, err := ReadSVSM(bytes.NewReader(b), int64(len(b)), fw, vars)
		return err
	}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"odd store":      {read(image, fw, 1), "variable store: 1 bytes"},
		"negative store": {read(image, fw, -4096), "variable store"},
		"huge store":     {read(image, fw, 1<<31), "variable store"},
		"no firmware":    {read(image, &Firmware{}, varsSize), "size 0"},
		"no table":       {read(image[:len(image)-4096], fw, varsSize), "no GUIDed table"},
		"plain firmware": {read(amdsev(t), fw, varsSize), "not an SVSM"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, c.err, c.want)
		}
	}
	s, err := ReadSVSM(bytes.NewReader(image), int64(len(image)), fw, varsSize)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		vcpus    int
		sig      uint32
		features uint64
	}{"no vcpu": {0, 1, 1}, "many": {513, 1, 1}, "no cpu": {1, 0, 1}, "not active": {1, 1, 2}} {
		if l, err := MeasureSVSM(s, c.vcpus, c.sig, c.features); err == nil {
			t.Errorf("%s: %v, want an error", name, l)
		}
	}
	// One that was stored and edited.
	for name, c := range map[string]struct {
		change func(*SVSM)
		want   string
	}{
		"as it is":            {func(*SVSM) {}, ""},
		"up to the SVSM":      {func(s *SVSM) { s.Own.Sections[0].GPA, s.Own.Sections[0].Size = uint32(s.GPA)-pageSize, pageSize }, ""},
		"section in the SVSM": {func(s *SVSM) { s.Own.Sections[0].GPA, s.Own.Sections[0].Size = uint32(s.GPA), pageSize }, "want whole pages below"},
		"section behind it": {func(s *SVSM) {
			s.Own.Sections[0].GPA, s.Own.Sections[0].Size = uint32(s.GPA+uint64(s.Own.Size)), pageSize
		}, "want whole pages below"},
		"odd place":         {func(s *SVSM) { s.GPA++ }, "want whole pages below"},
		"over the firmware": {func(s *SVSM) { s.GPA = 1<<32 - uint64(s.Above.Size) - uint64(s.Own.Size) + pageSize }, "want whole pages below"},
		"wraps":             {func(s *SVSM) { s.GPA = 1<<64 - pageSize }, "want whole pages below"},
		"entry below":       {func(s *SVSM) { s.Entry = uint32(s.GPA) - 1 }, "the entry in them"},
		"entry behind":      {func(s *SVSM) { s.Entry = uint32(s.GPA + uint64(s.Own.Size)) }, "the entry in them"},
	} {
		edited := *s
		edited.Own.Sections = slices.Clone(s.Own.Sections)
		c.change(&edited)
		if l, err := MeasureSVSM(&edited, 1, 1, 1); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want %q", name, l, err, c.want)
		}
	}
}

func FuzzReadSVSM(f *testing.F) {
	image := svsmImage(f)
	f.Add(image[len(image)-4096:])
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadSVSM(bytes.NewReader(b), int64(len(b)), &Firmware{Size: 3653632}, varsSize)
		if err != nil {
			return
		}
		if _, err := MeasureSVSM(s, 1, 1, 1); err != nil {
			t.Error(err)
		}
	})
}

// TestSVSMOfAFile: what was written down earlier is held to what ReadSVSM gives.
func TestSVSMOfAFile(t *testing.T) {
	image := svsmImage(t)
	s, err := ReadSVSM(bytes.NewReader(image), int64(len(image)), &Firmware{Size: 3653632}, varsSize)
	if err != nil {
		t.Fatal(err)
	}
	end := uint64(1<<32 - 3653632) // of what lies below the firmware
	for name, c := range map[string]struct {
		change func(*SVSM)
		good   bool
	}{
		"as read":              {func(*SVSM) {}, true},
		"right below":          {func(s *SVSM) { s.GPA, s.Entry = end-uint64(s.Own.Size), uint32(end)-1 }, true},
		"a page higher":        {func(s *SVSM) { s.GPA, s.Entry = end-uint64(s.Own.Size)+4096, uint32(end) }, false},
		"no whole page":        {func(s *SVSM) { s.GPA++; s.Entry++ }, false},
		"far above":            {func(s *SVSM) { s.GPA = 1<<64 - 4096; s.Entry = 4096 }, false},
		"entry on first byte":  {func(s *SVSM) { s.Entry = uint32(s.GPA) }, true},
		"entry before":         {func(s *SVSM) { s.Entry = uint32(s.GPA) - 1 }, false},
		"entry on last byte":   {func(s *SVSM) { s.Entry = uint32(s.GPA) + uint32(s.Own.Size) - 1 }, true},
		"entry behind":         {func(s *SVSM) { s.Entry = uint32(s.GPA) + uint32(s.Own.Size) }, false},
		"size of the firmware": {func(s *SVSM) { s.Above = &Firmware{Size: 1} }, false},
		"its own size":         {func(s *SVSM) { s.Own.Size++ }, false},
	} {
		changed := *s
		c.change(&changed)
		if _, err := MeasureSVSM(&changed, 1, 1, 1); (err == nil) != c.good {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestSVSMEntry: the start is counted from the first byte.
func TestSVSMEntry(t *testing.T) {
	image := bytes.Clone(svsmImage(t))
	guid := []byte{0x12, 0xa6, 0x89, 0xa7, 0x97, 0x05, 0x4b, 0x4c, 0xa4, 0x9f, 0xcb, 0xb1, 0xfe, 0x9d, 0x1d, 0xdd}
	at := bytes.LastIndex(image, guid)
	if at < 0 {
		t.Fatal("no SVSM_INFO")
	}
	data := at - 2 - (int(image[at-2]) | int(image[at-1])<<8 - 18)
	image[data+1] = 0x20
	s, err := ReadSVSM(bytes.NewReader(image), int64(len(image)), &Firmware{Size: 3653632}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if want := uint32(1<<32-3653632-len(image)) + 0x2000; s.Entry != want || s.GPA != uint64(want-0x2000) {
		t.Errorf("entry %#x, at %#x; want %#x", s.Entry, s.GPA, want)
	}
}
