package gpu_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	. "tally/enclave/appraise/gpu"
	"tally/enclave/attest/gpu/gputest"
)

// a fixture is one fake GPU and one switch, and what a verifier is handed about them.
type fixture struct {
	vendor *gputest.Vendor
	gpu    *gputest.Device
	sw     *gputest.Device
	nonce  [32]byte
	rims   [][]byte // in.RIMs, unread
	in     Input
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{nonce: [32]byte{7}}
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	var err error
	f.vendor, err = gputest.New(now)
	fatal(t, err)
	f.gpu, err = f.vendor.Device(Hopper, "550.90.07", "96.00.5E.00.01")
	fatal(t, err)
	f.sw, err = f.vendor.Device(LS10, "", "96.10.55.00.01")
	fatal(t, err)
	gputest.Connect(f.gpu, f.sw)
	f.in = Input{Nonce: &f.nonce, Roots: f.vendor.Roots(), Now: now, Policy: Policy{
		Floors: map[Arch]Floor{Hopper: {"550.54", "96.00.5E.00.00"}, LS10: {"", "96.10.55.00.01"}},
		Modes:  []Mode{ModeUnstated}, OCSPMaxAge: 24 * time.Hour, MinGPUs: 1,
	}}
	for _, m := range []struct {
		arch    Arch
		version string
		active  []int
	}{{Hopper, "550.90.07", []int{7, 9, 35}}, {Hopper, "96.00.5E.00.01", []int{1, 2}}, {LS10, "96.10.55.00.01", []int{0, 1, 30}}} {
		f.addRIM(t, m.arch, m.version, m.active...)
	}
	for _, d := range []*gputest.Device{f.gpu, f.sw} {
		all, err := f.vendor.OCSP(d, gputest.Good, now.Add(-time.Hour))
		fatal(t, err)
		f.in.OCSP = append(f.in.OCSP, all...)
	}
	f.collect(t)
	return f
}

func (f *fixture) addRIM(t testing.TB, arch Arch, version string, active ...int) {
	t.Helper()
	text, err := f.vendor.RIM(arch, version, active...)
	fatal(t, err)
	r, err := ParseRIM(text)
	fatal(t, err)
	f.rims, f.in.RIMs = append(f.rims, text), append(f.in.RIMs, r)
	f.in.Policy.RIMs = append(f.in.Policy.RIMs, r.SHA256)
}

func (f *fixture) collect(t testing.TB) {
	t.Helper()
	f.in.Devices = nil
	for _, d := range []*gputest.Device{f.gpu, f.sw} {
		e, err := d.Evidence(f.nonce)
		fatal(t, err)
		f.in.Devices = append(f.in.Devices, e)
	}
}

func TestVerify(t *testing.T) {
	f := newFixture(t)
	res, err := Verify(f.in)
	if err != nil || !res.Accepted || res.Reason != "" || len(res.Devices) != 2 {
		t.Fatalf("%v: %+v", err, res)
	}
	if d := res.Devices[0]; d.Measured != 5 || d.Passed != 0 || d.Uncovered != 59 {
		t.Errorf("%+v", d)
	}
	for _, d := range res.Devices {
		for _, c := range d.Checks {
			if c.Status != OK {
				t.Errorf("%s: %+v", d.Arch, c)
			}
		}
	}
}

// TestRealRootsRefuseFakes: a fake must never pass for the vendor.
func TestRealRootsRefuseFakes(t *testing.T) {
	f := newFixture(t)
	real, err := NVIDIA()
	fatal(t, err)
	for _, c := range []struct {
		roots Roots
		want  Reason
	}{{real, BadChain}, {Roots{Device: f.in.Roots.Device, RIM: real.RIM}, RIMChain}, {Roots{}, BadChain}} {
		f.in.Roots = c.roots
		if res, err := Verify(f.in); err == nil || res.Accepted || res.Reason != c.want {
			t.Errorf("%v: %+v, want %q", err, res, c.want)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, f *fixture)
		want   Reason
	}{
		"zero policy":          {func(_ *testing.T, f *fixture) { f.in.Policy = Policy{} }, NoPolicy},
		"no floors":            {func(_ *testing.T, f *fixture) { f.in.Policy.Floors = nil }, NoPolicy},
		"no driver floor":      {func(_ *testing.T, f *fixture) { f.in.Policy.Floors[Hopper] = Floor{VBIOS: "96"} }, NoPolicy},
		"no VBIOS floor":       {func(_ *testing.T, f *fixture) { f.in.Policy.Floors[Hopper] = Floor{Driver: "550"} }, NoPolicy},
		"no modes":             {func(_ *testing.T, f *fixture) { f.in.Policy.Modes = nil }, NoPolicy},
		"no manifests pinned":  {func(_ *testing.T, f *fixture) { f.in.Policy.RIMs = nil }, NoPolicy},
		"no age":               {func(_ *testing.T, f *fixture) { f.in.Policy.OCSPMaxAge = 0 }, NoPolicy},
		"no GPU wanted":        {func(_ *testing.T, f *fixture) { f.in.Policy.MinGPUs = 0 }, NoPolicy},
		"no device":            {func(_ *testing.T, f *fixture) { f.in.Devices = nil }, NoDevices},
		"no GPU":               {func(_ *testing.T, f *fixture) { f.in.Devices = f.in.Devices[1:] }, NoDevices},
		"too few GPUs":         {func(_ *testing.T, f *fixture) { f.in.Policy.MinGPUs = 2 }, NoDevices},
		"too few switches":     {func(_ *testing.T, f *fixture) { f.in.Policy.MinSwitches = 2 }, NoDevices},
		"one GPU twice":        {func(_ *testing.T, f *fixture) { f.in.Devices = append(f.in.Devices, f.in.Devices[0]) }, NoDevices},
		"other nonce":          {func(_ *testing.T, f *fixture) { f.in.Nonce = &[32]byte{8} }, BadNonce},
		"family not accepted":  {func(_ *testing.T, f *fixture) { delete(f.in.Policy.Floors, LS10) }, BadArch},
		"switch as GPU":        {func(_ *testing.T, f *fixture) { f.in.Devices[1].Arch = Hopper }, BadArch},
		"GPU as switch":        {func(_ *testing.T, f *fixture) { f.in.Devices[0].Arch, f.in.Devices[1].Arch = LS10, Hopper }, BadArch},
		"other chain":          {func(_ *testing.T, f *fixture) { f.in.Devices[0].Chain = f.sw.Chain() }, BadSignature},
		"certificate too many": {func(_ *testing.T, f *fixture) { f.in.Devices[0].Chain = append(f.gpu.Chain(), f.sw.Chain()...) }, BadChain},
		"no chain":             {func(_ *testing.T, f *fixture) { f.in.Devices[0].Chain = nil }, BadChain},
		"root alone": {func(_ *testing.T, f *fixture) {
			chain := f.gpu.Chain()
			f.in.Devices[0].Chain = chain[bytes.LastIndex(chain, []byte("-----BEGIN")):]
		}, BadChain},
		"later":                {func(_ *testing.T, f *fixture) { f.in.Now = f.in.Now.AddDate(1, 0, 0) }, BadChain},
		"firmware":             {func(t *testing.T, f *fixture) { f.gpu.Fields[FieldFWID] = make([]byte, 48); f.collect(t) }, BadFWID},
		"old driver":           {func(t *testing.T, f *fixture) { f.gpu.Driver = "550.53"; f.collect(t) }, Rollback},
		"old VBIOS":            {func(t *testing.T, f *fixture) { f.gpu.VBIOS = "96.00.5D.FF.FF"; f.collect(t) }, Rollback},
		"driver is no version": {func(t *testing.T, f *fixture) { f.gpu.Driver = "beta"; f.collect(t) }, Rollback},
		"mode":                 {func(t *testing.T, f *fixture) { f.gpu.Fields[FieldFeatureFlags] = []byte{2, 0}; f.collect(t) }, BadMode},
		"unknown mode":         {func(t *testing.T, f *fixture) { f.gpu.Fields[FieldFeatureFlags] = []byte{9, 0}; f.collect(t) }, BadMode},
		"newer driver":         {func(t *testing.T, f *fixture) { f.gpu.Driver = "560.00"; f.collect(t) }, RIMMissing},
		"measurement":          {func(t *testing.T, f *fixture) { f.gpu.Blocks[9] = Digest{}; f.collect(t) }, BadMeasurement},
		"measurement missing":  {func(t *testing.T, f *fixture) { delete(f.gpu.Blocks, 9); f.collect(t) }, BadMeasurement},
		"index 35 counts":      {func(t *testing.T, f *fixture) { f.gpu.Blocks[35] = Digest{}; f.collect(t) }, BadMeasurement},
		"index 35 by two bytes": {func(t *testing.T, f *fixture) {
			f.gpu.Fields[FieldNVDEC0], f.gpu.Blocks[35] = []byte{0x55, 0}, Digest{}
			f.collect(t)
		}, BadMeasurement},
		"another chip's manifest": {func(t *testing.T, f *fixture) {
			f.in.RIMs = f.in.RIMs[1:]
			f.addRIM(t, LS10, "550.90.07", 7)
		}, RIMMissing},
		"index in both": {func(t *testing.T, f *fixture) {
			f.in.RIMs = f.in.RIMs[:1]
			f.addRIM(t, Hopper, "96.00.5E.00.01", 1, 7)
		}, RIMConflict},
		"manifest not pinned": {func(_ *testing.T, f *fixture) { f.in.Policy.RIMs = f.in.Policy.RIMs[1:] }, RIMUnpinned},
		"a second switch": {func(t *testing.T, f *fixture) {
			f.gpu.Fields[FieldSwitchPDIs] = append(f.gpu.Fields[FieldSwitchPDIs], 1, 2, 3, 4, 5, 6, 7, 8)
			f.collect(t)
		}, BadTopology},
		"a second GPU":                {func(t *testing.T, f *fixture) { f.sw.Fields[FieldSwitchGPUs][15] = 1; f.collect(t) }, BadTopology},
		"GPU sees no switch":          {func(t *testing.T, f *fixture) { delete(f.gpu.Fields, FieldSwitchPDIs); f.collect(t) }, BadTopology},
		"another switch's identifier": {func(t *testing.T, f *fixture) { f.sw.Fields[FieldSwitchPDIs] = make([]byte, 8); f.collect(t) }, BadTopology},
		"part of an identifier":       {func(t *testing.T, f *fixture) { f.gpu.Fields[FieldSwitchPDIs] = make([]byte, 9); f.collect(t) }, BadTopology},
		"links without their switches": {func(t *testing.T, f *fixture) {
			f.gpu.Fields[FieldFeatureFlags], f.in.Policy.Modes = []byte{2}, []Mode{ModePPCIE}
			f.collect(t)
			f.in.Devices = f.in.Devices[:1]
		}, BadTopology},
		"trusted links and nobody on them": {func(t *testing.T, f *fixture) {
			f.gpu.Fields[FieldFeatureFlags], f.in.Policy.Modes = []byte{2}, []Mode{ModePPCIE}
			delete(f.gpu.Fields, FieldSwitchPDIs)
			f.collect(t)
			f.in.Devices = f.in.Devices[:1]
		}, BadTopology},
		"trusted links that lead nowhere": {func(t *testing.T, f *fixture) {
			f.gpu.Fields[FieldFeatureFlags], f.in.Policy.Modes = []byte{2}, []Mode{ModePPCIE}
			f.gpu.Fields[FieldSwitchPDIs] = make([]byte, 32)
			f.collect(t)
			f.in.Devices = f.in.Devices[:1]
		}, BadTopology},
		"no manifests":     {func(_ *testing.T, f *fixture) { f.in.RIMs = nil }, RIMMissing},
		"no responses":     {func(_ *testing.T, f *fixture) { f.in.OCSP = nil }, BadOCSP},
		"one missing":      {func(_ *testing.T, f *fixture) { f.in.OCSP = f.in.OCSP[1:] }, BadOCSP},
		"signer's missing": {func(_ *testing.T, f *fixture) { f.in.OCSP = slices.Concat(f.in.OCSP[:3], f.in.OCSP[4:7]) }, BadOCSP},
		"response changed": {func(_ *testing.T, f *fixture) {
			r := bytes.Clone(f.in.OCSP[0])
			r[len(r)-1] ^= 1
			f.in.OCSP[0] = r
		}, BadOCSP},
		"stale": {func(_ *testing.T, f *fixture) { f.in.Policy.OCSPMaxAge = time.Minute }, OCSPStale},
		"overdue": {func(_ *testing.T, f *fixture) {
			f.in.Policy.OCSPMaxAge, f.in.Now = 999*time.Hour, f.in.Now.AddDate(0, 0, 8)
		}, OCSPStale},
		"future":  {func(_ *testing.T, f *fixture) { f.in.Now = f.in.Now.Add(-2 * time.Hour) }, OCSPStale},
		"on hold": {func(t *testing.T, f *fixture) { f.status(t, gputest.Revoked, 0) }, Revoked},
		"no longer good": {func(t *testing.T, f *fixture) {
			good := f.in.OCSP
			f.status(t, gputest.Revoked, 30*time.Minute)
			f.in.OCSP = append(f.in.OCSP, good...)
		}, Revoked},
		"good and revoked at once": {func(t *testing.T, f *fixture) {
			good := f.in.OCSP[0]
			f.status(t, gputest.Revoked, 0)
			f.in.OCSP = append(f.in.OCSP, good)
		}, Revoked},
		"revoked and good at once": {func(t *testing.T, f *fixture) {
			good := f.in.OCSP[0]
			f.status(t, gputest.Revoked, 0)
			f.in.OCSP = append([][]byte{good}, f.in.OCSP...)
		}, Revoked},
		"not known":                     {func(t *testing.T, f *fixture) { f.status(t, ocsp.Unknown, 0) }, BadOCSP},
		"no DER":                        {func(_ *testing.T, f *fixture) { f.in.OCSP = append(f.in.OCSP, []byte{1}) }, BadOCSP},
		"responder of tomorrow":         {func(t *testing.T, f *fixture) { f.vendor.Now = f.in.Now.AddDate(0, 7, 0); f.delegate(t, true) }, BadOCSP},
		"responder of last year":        {func(t *testing.T, f *fixture) { f.vendor.Now = f.in.Now.AddDate(0, -7, 0); f.delegate(t, true) }, BadOCSP},
		"responder without the purpose": {func(t *testing.T, f *fixture) { f.delegate(t, false) }, BadOCSP},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			c.change(t, f)
			res, err := Verify(f.in)
			var e *Error
			if !errors.As(err, &e) || res == nil || res.Accepted || res.Reason != c.want || e.Reason != c.want {
				t.Fatalf("%v: %+v, want %q", err, res, c.want)
			}
			if err.Error() == "" || strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("error %q: want one line", err)
			}
		})
	}
}

// TestTooManyDevices: a set has an end, and no device is looked at beyond it.
func TestTooManyDevices(t *testing.T) {
	f := newFixture(t)
	f.in.Devices = slices.Repeat(f.in.Devices[:1], MaxDevices+1)
	if res, err := Verify(f.in); err == nil || res.Reason != NoDevices || len(res.Devices) != 0 || !strings.Contains(err.Error(), "at most 32") {
		t.Errorf("%v: %+v", err, res)
	}
	f.in.Devices = f.in.Devices[:MaxDevices] // as many as there may be, were they not one and the same
	if res, err := Verify(f.in); err == nil || res.Reason == NoDevices && len(res.Devices) != MaxDevices {
		t.Errorf("%v: %+v", err, res)
	}
}

// status replaces the response about the GPU's chip.
func (f *fixture) status(t testing.TB, status int, later time.Duration) {
	t.Helper()
	all, err := f.vendor.OCSP(f.gpu, status, f.in.Now.Add(-time.Hour+later))
	fatal(t, err)
	f.in.OCSP = append(all[:1:1], f.in.OCSP[1:]...)
}

func (f *fixture) delegate(t testing.TB, purpose bool) {
	t.Helper()
	r, err := f.vendor.DelegatedOCSP(f.gpu, purpose, f.in.Now.Add(-time.Hour))
	fatal(t, err)
	f.in.OCSP[0] = r
}

func TestAccepted(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, f *fixture){
		"responder with the purpose": func(t *testing.T, f *fixture) { f.delegate(t, true) },
		"NVDEC0 disabled": func(t *testing.T, f *fixture) {
			f.gpu.Fields[FieldNVDEC0], f.gpu.Blocks[35] = []byte{0x55}, Digest{}
			f.collect(t)
		},
		"no responses asked for": func(_ *testing.T, f *fixture) { f.in.OCSP, f.in.Policy.NoOCSP, f.in.Policy.OCSPMaxAge = nil, true, 0 },
		"any manifest":           func(_ *testing.T, f *fixture) { f.in.Policy.RIMs, f.in.Policy.UnpinnedRIM = nil, true },
		"manifest of another board first": func(t *testing.T, f *fixture) {
			f.addRIM(t, Hopper, "96.00.5E.00.01", 200)
			n := len(f.in.RIMs) - 1
			f.in.RIMs[0], f.in.RIMs[n] = f.in.RIMs[n], f.in.RIMs[0]
		},
		"trusted links": func(t *testing.T, f *fixture) {
			f.gpu.Fields[FieldFeatureFlags], f.in.Policy.Modes = []byte{2}, []Mode{ModePPCIE}
			f.collect(t)
		},
		"a GPU alone":   func(_ *testing.T, f *fixture) { f.in.Devices = f.in.Devices[:1] },
		"one at a time": func(_ *testing.T, f *fixture) { f.in.Parallel = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			change(t, f)
			if res, err := Verify(f.in); err != nil || !res.Accepted {
				t.Fatalf("%v: %+v", err, res)
			}
		})
	}
}

// TestExpiredSigner: a manifest whose signer's certificate has ended is accepted when the release pins it, which the Result says.
func TestExpiredSigner(t *testing.T) {
	f := newFixture(t)
	f.in.Policy.NoOCSP = true
	var rims []*RIM
	for _, name := range []string{"nvtrust/Driver_RIM_test_no_gpu.swidtag", "nvtrust/1010_0200_882_96005E0001_test_no_gpu.swidtag"} {
		rims = append(rims, vectorRIM(t, name))
	}
	roots, err := NVIDIA()
	fatal(t, err)
	f.in.RIMs, f.in.Roots, f.in.Nonce = rims, roots, nil
	f.in.Devices = vectorEvidence(t, "go-nvtrust/attestationReport.txt", "go-nvtrust/gpuAkCertChain.txt")
	f.in.Policy.Floors[Hopper] = Floor{"545.00", "96.00.5E.00.01"}
	f.in.Policy.RIMs = [][32]byte{rims[0].SHA256, rims[1].SHA256}
	res, err := Verify(f.in)
	if err != nil || !strings.Contains(res.Devices[0].Checks[len(res.Devices[0].Checks)-2].Got, "because it is pinned") {
		t.Fatalf("%v: %+v", err, res)
	}
	f.in.Policy.RIMs, f.in.Policy.UnpinnedRIM = nil, true
	if res, err := Verify(f.in); err == nil || res.Reason != RIMExpired {
		t.Errorf("not pinned: %v, want %q", err, RIMExpired)
	}
}
