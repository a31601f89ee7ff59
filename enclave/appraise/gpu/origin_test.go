package gpu_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	. "tally/enclave/appraise/gpu"
	"tally/enclave/evidence"
)

// TestOrigin: who signed, and nothing about whether that is good.
func TestOrigin(t *testing.T) {
	roots, err := NVIDIA()
	fatal(t, err)
	good := newFixture(t).in
	real, err := ParseEvidence(vector(t, "nvtrust/gpu_evidence.json"), nil)
	fatal(t, err)
	forged := vectorEvidence(t, "attestation-sdk/gpu/hopperAttestationReportInvalidSignature.txt", "attestation-sdk/gpu/hopperCertChain.txt")
	other := [32]byte{9}
	for name, c := range map[string]struct {
		in      Input
		want    Reason
		devices int
	}{
		"eight":             {Input{Devices: real, Roots: roots, Now: good.Now}, "", 8},
		"fakes, their root": {Input{Devices: good.Devices, Roots: good.Roots, Now: good.Now, Nonce: good.Nonce}, "", 2},
		"none":              {Input{Roots: roots, Now: good.Now}, NoDevices, 0},
		"as many as may be": {Input{Devices: slices.Repeat(real[:1], MaxDevices), Roots: roots, Now: good.Now}, "", MaxDevices},
		"too many":          {Input{Devices: slices.Repeat(real[:1], MaxDevices+1), Roots: roots, Now: good.Now}, NoDevices, 0},
		"other nonce":       {Input{Devices: real, Roots: roots, Now: good.Now, Nonce: &other}, BadNonce, 1},
		"fakes":             {Input{Devices: good.Devices, Roots: roots, Now: good.Now}, BadChain, 1},
		"no roots":          {Input{Devices: real, Now: good.Now}, BadChain, 1},
		"the last forged":   {Input{Devices: slices.Concat(real[:2], forged), Roots: roots, Now: good.Now}, BadSignature, 3},
		"another family's":  {Input{Devices: []Device{{Arch: Blackwell, Report: real[0].Report, Chain: real[0].Chain}}, Roots: roots, Now: good.Now}, BadArch, 1},
	} {
		res, err := Origin(c.in)
		if (err == nil) != (c.want == "") || res == nil || res.Accepted || res.Reason != c.want || len(res.Devices) != c.devices {
			t.Errorf("%s: %v, %+v; want %q", name, err, res, c.want)
			continue
		}
		if name == "eight" && (res.Devices[7].Driver != "590.12" || res.Devices[7].Mode != ModePPCIE || res.Devices[7].VBIOS == "" || res.Devices[7].Chip != "GH100") {
			t.Errorf("%+v", res.Devices[7])
		}
		if name == "fakes, their root" && (res.Devices[1].Driver != "" || res.Devices[1].Mode != "" || res.Devices[1].VBIOS == "") {
			t.Errorf("a switch: %+v", res.Devices[1])
		}
	}
}

// TestChecksSay: the Result says where an expectation came from, and what was not looked at.
func TestChecksSay(t *testing.T) {
	for name, c := range map[string]struct {
		change func(f *fixture)
		check  string
		status Status
		from   string
	}{
		"pinned":       {func(*fixture) {}, "rim-driver", OK, "release"},
		"any":          {func(f *fixture) { f.in.Policy.RIMs, f.in.Policy.UnpinnedRIM = nil, true }, "rim-driver", OK, "vendor"},
		"responses":    {func(*fixture) {}, "ocsp", OK, "policy"},
		"no responses": {func(f *fixture) { f.in.OCSP, f.in.Policy.NoOCSP = nil, true }, "ocsp", NotChecked, "policy"},
		"nonce":        {func(*fixture) {}, "nonce", OK, "caller"},
		"no nonce":     {func(f *fixture) { f.in.Nonce = nil }, "nonce", NotChecked, ""},
		"firmware":     {func(*fixture) {}, "fwid", OK, "certificate"},
		"no firmware":  {func(f *fixture) { delete(f.gpu.Fields, FieldFWID); f.collect(t) }, "fwid", NotChecked, "certificate"},
	} {
		f := newFixture(t)
		c.change(f)
		res, err := Verify(f.in)
		fatal(t, err)
		i := slices.IndexFunc(res.Devices[0].Checks, func(k Check) bool { return k.Name == c.check })
		if i < 0 || res.Devices[0].Checks[i].Status != c.status || res.Devices[0].Checks[i].From != c.from {
			t.Errorf("%s: %+v, want %s, %s from %q", name, res.Devices[0].Checks, c.check, c.status, c.from)
		}
	}
}

// TestVerifySet: a client is shown the set that the claims bind, which answers their nonce, or refuses.
func TestVerifySet(t *testing.T) {
	f := newFixture(t)
	claims := evidence.Claims{Static: [32]byte{1}, Epoch: 1, Authority: "default"}
	f.nonce = Nonce(claims)
	f.collect(t)
	good := DriverState{ConfidentialCompute: true, GPUs: 1, Switches: 1}
	document, err := (&Set{good, f.in.Devices}).Marshal()
	fatal(t, err)
	digest := SetDigest(document)
	claims.GPU = digest[:]
	bind := func(c *evidence.Claims, d []byte) []byte {
		s := SetDigest(d)
		c.GPU = s[:]
		return d
	}
	state := func(change func(s *DriverState)) func(*evidence.Claims, []byte) []byte {
		s := good
		change(&s)
		return func(c *evidence.Claims, _ []byte) []byte {
			d, err := (&Set{s, f.in.Devices}).Marshal()
			fatal(t, err)
			return bind(c, d)
		}
	}
	for name, c := range map[string]struct {
		change func(c *evidence.Claims, document []byte) []byte
		want   Reason
	}{
		"as bound":      {func(_ *evidence.Claims, d []byte) []byte { return d }, ""},
		"none bound":    {func(c *evidence.Claims, d []byte) []byte { c.GPU = nil; return d }, NoDevices},
		"another bound": {func(c *evidence.Claims, d []byte) []byte { c.GPU = make([]byte, 32); return d }, BadBinding},
		"another set":   {func(_ *evidence.Claims, d []byte) []byte { return append(bytes.Clone(d), ' ') }, BadBinding},
		"no document":   {func(_ *evidence.Claims, _ []byte) []byte { return nil }, BadBinding},
		"another key":   {func(c *evidence.Claims, d []byte) []byte { c.Static = [32]byte{2}; return d }, BadNonce},
		"no set, bound": {func(c *evidence.Claims, _ []byte) []byte { return bind(c, []byte("x")) }, BadReport},
		"a set whose nonce lies": {func(c *evidence.Claims, d []byte) []byte {
			return bind(c, bytes.Replace(d, []byte(`"nonce":"`), []byte(`"nonce":"00`), 1))
		}, BadNonce},
		"no word of the driver": {func(c *evidence.Claims, d []byte) []byte {
			_, after, _ := bytes.Cut(d, []byte(`"devices"`))
			return bind(c, append([]byte(`{"devices"`), after...))
		}, BadReport},
		"computing off":   {state(func(s *DriverState) { s.ConfidentialCompute = false }), BadMode},
		"developer tools": {state(func(s *DriverState) { s.DeveloperTools = true }), BadMode},
		"an open switch":  {state(func(s *DriverState) { s.SwitchesUnlocked = 1 }), BadMode},
		"a GPU left out":  {state(func(s *DriverState) { s.GPUs = 2 }), NoDevices},
		"a switch unsaid": {state(func(s *DriverState) { s.Switches = 0 }), NoDevices},
		"no GPU, it says": {state(func(s *DriverState) { s.GPUs = 0 }), NoDevices},
	} {
		bound := claims
		in := f.in
		in.Devices, in.Nonce = nil, nil
		shown := c.change(&bound, document)
		res, err := VerifySet(bound, shown, in)
		if (err == nil) != (c.want == "") || res == nil || res.Accepted != (err == nil) || res.Reason != c.want {
			t.Errorf("%s: %v: %+v, want %q", name, err, res, c.want)
		}
		if err == nil && (len(res.Checks) != 1 || res.Checks[0].Status != OK || res.Checks[0].From != "driver, to the enclave") {
			t.Errorf("%s: checks %+v", name, res.Checks)
		}
	}
	// What no claims bind is said to be so, and what it says against itself counts.
	res, err := Verify(f.in)
	if err != nil || res.Checks[0].Status != NotChecked || !strings.Contains(res.Checks[0].Got, "nobody asked the driver") {
		t.Errorf("no word of the driver: %+v, %v", res, err)
	}
	f.in.Driver = &good
	if res, err = Verify(f.in); err != nil || res.Checks[0].Status != NotChecked || !strings.Contains(res.Checks[0].Got, "as the file says") {
		t.Errorf("word that is not bound: %+v, %v", res, err)
	}
	f.in.Driver = &DriverState{ConfidentialCompute: true, DeveloperTools: true, GPUs: 1, Switches: 1}
	if res, err = Verify(f.in); err == nil || res.Reason != BadMode {
		t.Errorf("developer tools, not bound: %+v, %v", res, err)
	}
}

func TestParseSetRefuses(t *testing.T) {
	const driver = `{"confidential_compute":true,"developer_tools":false,"gpus":1,"switches":0,"switches_unlocked":0}`
	for in, want := range map[string]string{
		``:                                       "EOF",
		`{"driver":` + driver + `}`:              "devices: want an array",
		`{"driver":` + driver + `,"devices":[]}`: "0 devices",
		`{"driver":` + driver + `,"devices":[]}1`:            "more than one",
		`{"driver":` + driver + `,"devices":[],"verdict":1}`: "verdict",
		`{"devices":[]}`:             "driver",
		`{"driver":{},"devices":[]}`: "each of its fields once",
		`{"driver":{"developer_tools":true,` + driver[1:] + `,"devices":[]}`:                "each of its fields once",
		`{"driver":` + strings.Replace(driver, "gpus", "GPUS", 1) + `,"devices":[]}`:        "each of its fields once",
		`{"driver":` + strings.Replace(driver, "true", "1", 1) + `,"devices":[]}`:           "driver",
		`{"driver":` + strings.Replace(driver, "}", `,"mode":"spt"}`, 1) + `,"devices":[]}`: "each of its fields once",
	} {
		if s, err := ParseSet([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want %q", in, s, err, want)
		}
	}
}

// FuzzParseSet wants that what is read is written as it stood, but for the spelling of its devices.
func FuzzParseSet(f *testing.F) {
	x := newFixture(f)
	document, err := (&Set{DriverState{ConfidentialCompute: true, GPUs: 1, Switches: 1}, x.in.Devices}).Marshal()
	fatal(f, err)
	f.Add(document)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseSet(data)
		if err != nil {
			return
		}
		b, err := s.Marshal()
		fatal(t, err)
		again, err := ParseSet(b)
		if err != nil || again.Driver != s.Driver || len(again.Devices) != len(s.Devices) {
			t.Fatalf("%+v, %v; want %+v", again, err, s)
		}
	})
}
