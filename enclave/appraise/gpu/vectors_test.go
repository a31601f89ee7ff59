package gpu

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// now is a time at which the vectors' certificates of devices are valid and those of RIM signers are not.
var now = time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata/vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func nvidia(t testing.TB) Roots {
	t.Helper()
	r, err := NVIDIA()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// devicesOf reads a JSON file, or a report and the chain beside it.
func devicesOf(t testing.TB, name string) []Device {
	t.Helper()
	report, chain, _ := strings.Cut(name, " ")
	var c []byte
	if chain != "" {
		c = read(t, filepath.Join(filepath.Dir(report), chain))
	}
	all, err := ParseEvidence(read(t, report), c)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func rim(t testing.TB, name string) *RIM {
	t.Helper()
	r, err := ParseRIM(read(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pinning is a policy that accepts what the vectors hold, given these manifests.
func pinning(rims ...*RIM) Policy {
	p := Policy{
		Floors:  map[Arch]Floor{Hopper: {"535.00", "96.00.5E.00.00"}, Blackwell: {"575.00", "97.00.00.00.00"}, LS10: {"", "96.10.00.00.00"}},
		Modes:   []Mode{ModeUnstated, ModeMPT, ModeSPT, ModePPCIE},
		NoOCSP:  true,
		MinGPUs: 1,
	}
	for _, r := range rims {
		p.RIMs = append(p.RIMs, r.SHA256)
	}
	return p
}

// TestSources wants every vector as its SOURCE file says it was fetched.
func TestSources(t *testing.T) {
	for _, dir := range []string{"testdata/vectors/nvtrust", "testdata/vectors/attestation-sdk", "testdata/vectors/go-nvtrust", "testdata/vectors/go-nvattest-tools", "testdata/vectors/trustee", "roots"} {
		source, err := os.ReadFile(filepath.Join(dir, "SOURCE"))
		if err != nil {
			t.Fatal(err)
		}
		listed := 0
		for line := range strings.Lines(string(source)) {
			sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
			if !ok || len(sum) != 64 {
				continue
			}
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%x", sha256.Sum256(data)); got != sum {
				t.Errorf("%s/%s: SHA-256 %s, SOURCE says %s", dir, name, got, sum)
			}
			listed++
		}
		files := 0
		if err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() && d.Name() != "SOURCE" {
				files++
			}
			return err
		}); err != nil || files != listed {
			t.Errorf("%s: %d files, SOURCE lists %d (%v)", dir, files, listed, err)
		}
	}
}

// TestParserOracle compares the parser with what the vendor's parser printed of the same reports and of the requests before them.
func TestParserOracle(t *testing.T) {
	for report, kind := range map[string]string{
		"attestation-sdk/hopperAttestationReport.txt": "",
		"attestation-sdk/switchAttestationReport.txt": "switch_",
	} {
		var asked struct{ Nonce string }
		if err := json.Unmarshal(read(t, "attestation-sdk/"+kind+"spdm_req_parsed_output.json"), &asked); err != nil {
			t.Fatal(err)
		}
		var oracle struct {
			Nonce             string
			MeasurementRecord struct {
				MeasurementBlocks map[string]struct {
					DMTFSpecMeasurementValue string
				}
			}
			OpaqueData struct{ OpaqueDataField map[string]json.RawMessage }
		}
		if err := json.Unmarshal(read(t, "attestation-sdk/"+kind+"spdm_parsed_output.json"), &oracle); err != nil {
			t.Fatal(err)
		}
		b, err := parseHex(bytes.TrimSpace(read(t, report)))
		if err != nil {
			t.Fatal(err)
		}
		r, err := ParseReport(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("0x%x", r.RequestNonce); got != asked.Nonce {
			t.Errorf("%s: nonce of the request %s, want %s", report, got, asked.Nonce)
		}
		if got := fmt.Sprintf("0x%x", r.ResponseNonce); got != oracle.Nonce {
			t.Errorf("%s: nonce %s, want %s", report, got, oracle.Nonce)
		}
		if len(r.Blocks) != len(oracle.MeasurementRecord.MeasurementBlocks) || len(r.Blocks) == 0 {
			t.Errorf("%s: %d blocks, want %d", report, len(r.Blocks), len(oracle.MeasurementRecord.MeasurementBlocks))
		}
		for i, d := range r.Blocks {
			if want := oracle.MeasurementRecord.MeasurementBlocks[fmt.Sprint(i+1)].DMTFSpecMeasurementValue; "0x"+d.String() != want {
				t.Errorf("%s: block %d is %s, want %s", report, i+1, d, want)
			}
		}
		compared := 0
		for field, name := range map[Field]string{FieldDriver: "DRIVER_VERSION", FieldVBIOS: "VBIOS_VERSION", FieldNVDEC0: "NVDEC0_STATUS", FieldChipSKU: "CHIP_SKU",
			FieldProject: "PROJECT", FieldProjectSKU: "PROJECT_SKU", FieldFWID: "FWID", FieldProtected: "PROTECTED_PCIE_STATUS", FieldSwitchPDIs: "DEVICE_PDI"} {
			var s string
			if json.Unmarshal(oracle.OpaqueData.OpaqueDataField["OPAQUE_FIELD_ID_"+name], &s) != nil {
				continue
			}
			if got := "0x" + hex.EncodeToString(r.Opaque[field]); got != s {
				t.Errorf("%s: field %d (%s) is %s, want %s", report, field, name, got, s)
			}
			compared++
		}
		if compared < 2 {
			t.Errorf("%s: only %d fields compared", report, compared)
		}
	}
}

// TestReports verifies chain, signature and firmware of every public sample. The manifests of most were never
// published as samples, so that is where they end, with that reason.
func TestReports(t *testing.T) {
	dr, vb := rim(t, "nvtrust/Driver_RIM_test_no_gpu.swidtag"), rim(t, "nvtrust/1010_0200_882_96005E0001_PROD.swidtag")
	sw := rim(t, "attestation-sdk/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml")
	for name, want := range map[string]Reason{
		"nvtrust/hopperAttestationReport.txt hopperCertChain.txt":                                RIMMissing, // but TestProduction
		"nvtrust/gpu_evidence.json":                                                              RIMMissing,
		"nvtrust/switch_evidence.json":                                                           RIMMissing,
		"attestation-sdk/hopperAttestationReport.txt hopperCertChain.txt":                        RIMMissing,
		"attestation-sdk/evidence_hopper_590_12.json":                                            RIMMissing,
		"attestation-sdk/hopper_evidence.json":                                                   RIMMissing,
		"attestation-sdk/hopper_evidence_cert_hold.json":                                         RIMMissing,
		"attestation-sdk/multi_gpu_hopper.json":                                                  RIMMissing,
		"attestation-sdk/multi_switch_ls10.json":                                                 "",
		"attestation-sdk/switch_evidence_ls10.json":                                              "",
		"attestation-sdk/switchAttestationReport.txt switchCertChain.txt":                        "",
		"attestation-sdk/gpu/hopperAttestationReport.txt hopperCertChain.txt":                    RIMMissing,
		"attestation-sdk/gpu/hopperAttestationReportExpired.txt hopperCertChainExpired.txt":      RIMMissing,
		"attestation-sdk/gpu/blackwellAttestationReport.txt blackwellCertChain.txt":              RIMMissing,
		"attestation-sdk/switch/switchAttestationReport.txt switchCertChain.txt":                 "",
		"attestation-sdk/gpu/hopperAttestationReportInvalidSignature.txt hopperCertChain.txt":    BadSignature,
		"attestation-sdk/switch/switchAttestationReportInvalidSignature.txt switchCertChain.txt": BadSignature,
		"go-nvtrust/attestationReport.txt gpuAkCertChain.txt":                                    BadMeasurement, // the manifest of another build of the same VBIOS version

		"go-nvtrust/attestationReport.txt invalidCertChain.txt": BadChain,
	} {
		t.Run(name, func(t *testing.T) {
			v := &verifier{in: Input{Roots: nvidia(t), Now: now, Policy: pinning(dr, vb, sw)}, rims: []rimState{{rim: dr}, {rim: vb}, {rim: sw}}}
			for _, dev := range devicesOf(t, name) {
				d := v.device(dev)
				if d.Reason != want {
					t.Errorf("%s: reason %q (%v), want %q; %+v", d.ID, d.Reason, d.err, want, d.Checks)
				}
			}
		})
	}
}

// TestComplete is the complete positive case: a report with both its manifests.
func TestComplete(t *testing.T) {
	dr, vb := rim(t, "nvtrust/Driver_RIM_test_no_gpu.swidtag"), rim(t, "nvtrust/1010_0200_882_96005E0001_test_no_gpu.swidtag")
	res, err := Verify(Input{Devices: devicesOf(t, "go-nvtrust/attestationReport.txt gpuAkCertChain.txt"), RIMs: []*RIM{dr, vb}, Roots: nvidia(t), Now: now, Policy: pinning(dr, vb)})
	if err != nil || !res.Accepted {
		t.Fatalf("%v: %+v", err, res)
	}
	d := res.Devices[0]
	if d.Measured+d.Passed != 33 || d.Driver != "545.00" || d.VBIOS != "96.00.5E.00.01" || d.Chip != "GH100" {
		t.Errorf("%+v", d)
	}
}

// production are an H100's report and the two manifests for it as NVIDIA's service hands them out.
func production(t *testing.T) (devices []Device, rims []*RIM) {
	return devicesOf(t, "nvtrust/hopperAttestationReport.txt hopperCertChain.txt"),
		[]*RIM{rim(t, "go-nvattest-tools/rim/NV_GPU_DRIVER_GH100_550.90.07.xml"), rim(t, "go-nvattest-tools/rim/NV_GPU_VBIOS_1010_0200_882_96009F0001.xml")}
}

// TestProduction is the complete positive case with what the vendor's service says of a driver and a VBIOS in use.
func TestProduction(t *testing.T) {
	devices, rims := production(t)
	res, err := Verify(Input{Devices: devices, RIMs: rims, Roots: nvidia(t), Now: now, Policy: pinning(rims...)})
	if err != nil || !res.Accepted {
		t.Fatalf("%v: %+v", err, res)
	}
	if d := res.Devices[0]; d.Measured+d.Passed != 33 || d.Driver != "550.90.07" || d.VBIOS != "96.00.9F.00.01" || d.Chip != "GH100" {
		t.Errorf("%+v", d)
	}
}

// TestProductionOCSP judges by what NVIDIA's responder said: of the device on one day, of the manifests on another. It has no word
// about leaves of devices.
func TestProductionOCSP(t *testing.T) {
	devices, rims := production(t)
	answers := func(names ...string) (all [][]byte) {
		for _, name := range names {
			der, err := base64.StdEncoding.DecodeString(string(read(t, "go-nvattest-tools/ocsp/test_gpu_"+name+"_base64encoded_ocsp_response.dat")))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, der)
		}
		return all
	}
	ofDevice, ofManifests := answers("certificate_l4", "certificate_l3", "certificate_l2"), answers("driver_rim_l4", "vbios_l4", "driver_rim_l3", "rim_l2")
	days := map[string]time.Time{"device": time.Date(2025, 8, 21, 12, 0, 0, 0, time.UTC), "manifests": time.Date(2025, 10, 24, 18, 0, 0, 0, time.UTC)}
	judge := func(what string, given [][]byte, at time.Time) error {
		v := &verifier{in: Input{Roots: nvidia(t), Now: at, Policy: pinning(rims...)}}
		v.in.Policy.NoOCSP, v.in.Policy.OCSPMaxAge = false, 12*time.Hour
		var err error
		if v.ocsp, err = indexResponses(given); err != nil {
			t.Fatal(err)
		}
		if what == "device" {
			return v.judge(devices[0], func(d *judged) []func() error { return []func() error{d.parse, d.chain, d.revocation} }).err
		}
		return cmp.Or(v.checkManifest(&rimState{rim: rims[0]}), v.checkManifest(&rimState{rim: rims[1]}))
	}
	for what, all := range map[string][][]byte{"device": ofDevice, "manifests": ofManifests} {
		if err := judge(what, all, days[what]); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		for i := range all {
			if err := judge(what, slices.Concat(all[:i], all[i+1:]), days[what]); reasonOf(err, "") != BadOCSP {
				t.Errorf("%s without response %d: %v", what, i, err)
			}
			changed := slices.Clone(all)
			changed[i] = bytes.Clone(all[i])
			changed[i][len(changed[i])/3] ^= 1 // a byte of what is signed, of its signature or of the responder's certificate
			if _, err := indexResponses(changed); err == nil {
				err = judge(what, changed, days[what])
				if reasonOf(err, "") != BadOCSP {
					t.Errorf("%s, response %d changed: %v", what, i, err)
				}
			}
		}
		if err := judge(what, all, days[what].Add(24*time.Hour)); reasonOf(err, "") != OCSPStale {
			t.Errorf("%s a day later: %v", what, err)
		}
	}
	// A leaf that the root itself issued is no chip's.
	v := &verifier{in: Input{Policy: Policy{OCSPMaxAge: time.Hour}}, ocsp: new(responses)}
	if err := (&judged{v: v, certs: forge(t, 2, now, func(int, *x509.Certificate) {})}).revocation(); reasonOf(err, "") != BadOCSP {
		t.Errorf("a leaf below the root: %v", err)
	}
}

// TestModeOfHopper: a GPU alone, of a family that has no MPT, says so.
func TestModeOfHopper(t *testing.T) {
	v := &verifier{in: Input{Roots: nvidia(t), Now: now, Policy: pinning()}}
	d := v.device(devicesOf(t, "attestation-sdk/hopperAttestationReport.txt hopperCertChain.txt")[0])
	if d.Driver != "580.159.03" || d.Mode != ModeSPT {
		t.Errorf("driver %s, mode %s (%v)", d.Driver, d.Mode, d.err)
	}
}

// TestBlackwellMachine is eight GPUs of a newer family and a newer driver, whose manifests were not published with them. They
// encrypt the links between them.
func TestBlackwellMachine(t *testing.T) {
	var file struct {
		GPUs []struct {
			AttestationReport struct {
				B64 []byte `json:"py/b64"`
			}
			DriverVersion, VbiosVersion string
			CertificateChains           struct {
				GpuAttestationCertificateChain []struct{ PEM []byte }
			}
		}
	}
	if err := json.Unmarshal(read(t, "go-nvattest-tools/test_mpt_data.json"), &file); err != nil || len(file.GPUs) != 8 {
		t.Fatal(err, len(file.GPUs))
	}
	v := &verifier{in: Input{Roots: nvidia(t), Now: now, Policy: pinning()}}
	for i, g := range file.GPUs {
		var chain []byte
		for _, c := range g.CertificateChains.GpuAttestationCertificateChain {
			chain = append(chain, c.PEM...)
		}
		d := v.device(Device{Arch: Blackwell, Report: g.AttestationReport.B64, Chain: chain})
		if d.Reason != RIMMissing || d.Driver != g.DriverVersion || d.VBIOS != g.VbiosVersion || d.Mode != ModeMPT {
			t.Errorf("GPU %d: %v, driver %s, VBIOS %s, mode %s", i, d.err, d.Driver, d.VBIOS, d.Mode)
		}
	}
}

// TestRIMs verifies every manifest; those that the vendor made wrong are refused for what is wrong.
func TestRIMs(t *testing.T) {
	root := nvidia(t).RIM
	for name, want := range map[string]Reason{
		"nvtrust/Driver_RIM_test_no_gpu.swidtag":                                           "",
		"nvtrust/1010_0200_882_96005E0001_test_no_gpu.swidtag":                             "",
		"attestation-sdk/NV_GPU_DRIVER_GH100_550.144.03.xml":                               "",
		"go-nvattest-tools/rim/NV_GPU_DRIVER_GH100_550.90.07.xml":                          "",
		"go-nvattest-tools/rim/NV_GPU_VBIOS_1010_0200_882_96009F0001.xml":                  "",
		"attestation-sdk/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml":       "",
		"attestation-sdk/incorrect_cert_chain_driver_rim.xml":                              RIMChain,
		"attestation-sdk/incorrect_signature_driver_rim.xml":                               RIMSignature,
		"attestation-sdk/NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml":           RIMSignature,
		"attestation-sdk/NV_GPU_DRIVER_GH100_570.124.03_expired.xml":                       RIMSignature,
		"attestation-sdk/NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml":   "", // in order, and not of the sample report
		"attestation-sdk/NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml":    RIMSignature,
		"attestation-sdk/NV_SWITCH_BIOS_5612_0002_890_9610550001_measurement_mismatch.xml": RIMSignature,
	} {
		r, err := ParseRIM(read(t, name))
		if err == nil {
			_, err = r.Verify(root, r.SignedAfter())
		}
		got := Reason("")
		if err != nil {
			got = reasonOf(err, BadRIM)
		}
		if got != want {
			t.Errorf("%s: reason %q (%v), want %q", name, got, err, want)
		}
	}
}

// TestProductionRIMs verifies the vendor's manifests of every VBIOS in its samples; another anchor than the vendor's root, here the
// signer of one of them, vouches for none.
func TestProductionRIMs(t *testing.T) {
	block, _ := pem.Decode(read(t, "attestation-sdk/incorrect_rim_root.crt"))
	other, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	all, err := filepath.Glob("testdata/vectors/nvtrust/*_PROD.swidtag")
	if err != nil || len(all) != 24 {
		t.Fatalf("%d manifests, %v; want 24", len(all), err)
	}
	root, seen := nvidia(t).RIM, map[string]bool{}
	for _, name := range append(all, "testdata/vectors/attestation-sdk/NV_GPU_DRIVER_GH100_550.144.03.xml") {
		r := rim(t, strings.TrimPrefix(name, "testdata/vectors/"))
		if _, err := r.Verify(root, r.SignedAfter()); err != nil || seen[r.TagID] {
			t.Errorf("%s: %v, or %s again", name, err, r.TagID)
		}
		seen[r.TagID] = true
		if _, err := r.Verify(other, r.SignedAfter()); reasonOf(err, "") != RIMChain {
			t.Errorf("%s by another root: %v, want %q", name, err, RIMChain)
		}
	}
}

// TestTopology is a real machine: eight GPUs and four switches, whose lists of each other agree. Without one of them they
// do not.
func TestTopology(t *testing.T) {
	all := append(devicesOf(t, "nvtrust/gpu_evidence.json"), devicesOf(t, "nvtrust/switch_evidence.json")...)
	v := &verifier{in: Input{Roots: nvidia(t), Now: now, Policy: pinning()}}
	var results []DeviceResult
	for _, dev := range all {
		d := v.judge(dev, func(d *judged) []func() error { return []func() error{d.parse, d.chain, d.signature, d.mode, d.links} })
		if d.err != nil {
			t.Fatal(d.err)
		}
		results = append(results, d)
	}
	if len(results) != 12 || results[0].Mode != ModePPCIE || len(results[0].sees) != 4 || len(results[11].sees) != 8 {
		t.Errorf("%d devices, mode %s, links to %d switches and %d GPUs", len(results), results[0].Mode, len(results[0].sees), len(results[11].sees))
	}
	if err := topology(results); err != nil {
		t.Error(err)
	}
	if err := distinct(results); err != nil {
		t.Error(err)
	}
	// One chip with two keys is one device.
	again := results[3]
	again.key += "x"
	if err := distinct(append(slices.Clone(results), again)); reasonOf(err, "") != NoDevices {
		t.Errorf("one chip twice: %v", err)
	}
	for i := range results {
		if err := topology(slices.Concat(results[:i], results[i+1:])); reasonOf(err, "") != BadTopology {
			t.Errorf("without device %d: %v, want %q", i, err, BadTopology)
		}
	}
}
