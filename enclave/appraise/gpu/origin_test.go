package gpu_test

import (
	"bytes"
	"slices"
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
	document, err := MarshalEvidence(f.in.Devices)
	fatal(t, err)
	digest := SetDigest(document)
	claims.GPU = digest[:]
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
		"no set, bound": {func(c *evidence.Claims, _ []byte) []byte {
			s := SetDigest([]byte("x"))
			c.GPU = s[:]
			return []byte("x")
		}, BadReport},
		"a set whose nonce lies": {func(c *evidence.Claims, d []byte) []byte {
			d = bytes.Replace(d, []byte(`"nonce":"`), []byte(`"nonce":"00`), 1)
			s := SetDigest(d)
			c.GPU = s[:]
			return d
		}, BadNonce},
	} {
		bound := claims
		in := f.in
		in.Devices, in.Nonce = nil, nil
		shown := c.change(&bound, document)
		res, err := VerifySet(bound, shown, in)
		if (err == nil) != (c.want == "") || res == nil || res.Accepted != (err == nil) || res.Reason != c.want {
			t.Errorf("%s: %v: %+v, want %q", name, err, res, c.want)
		}
	}
}
