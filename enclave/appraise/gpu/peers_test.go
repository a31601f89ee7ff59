package gpu

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestClaimsOracle compares the parser with what the parser of confidential-containers, in Rust, says of a report.
func TestClaimsOracle(t *testing.T) {
	var claims struct {
		Config struct {
			Driver     string `json:"driver_version"`
			VBIOS      string `json:"vbios_version"`
			FWID       string `json:"fwid"`
			ChipSKU    string `json:"chip_sku"`
			Project    string `json:"project"`
			ProjectSKU string `json:"project_sku"`
			NVDEC0     string `json:"nvdec0_status"`
			Protected  string `json:"protected_pcie_status"`
		}
		Measurements map[string]string
	}
	if err := json.Unmarshal(read(t, "trustee/hopperAttestationReport-claims.txt"), &claims); err != nil {
		t.Fatal(err)
	}
	r, err := ParseReport(devicesOf(t, "nvtrust/hopperAttestationReport.txt hopperCertChain.txt")[0].Report)
	if err != nil {
		t.Fatal(err)
	}
	driver, err1 := r.Driver()
	vbios, err2 := r.VBIOS()
	text := func(f Field) string { return string(bytes.TrimRight(r.Opaque[f], "\x00")) }
	for i, c := range [][2]string{
		{driver, claims.Config.Driver}, {vbios, strings.ToUpper(claims.Config.VBIOS)}, {fmt.Sprintf("%x", r.Opaque[FieldFWID]), claims.Config.FWID},
		{text(FieldChipSKU), claims.Config.ChipSKU}, {text(FieldProject), claims.Config.Project}, {text(FieldProjectSKU), claims.Config.ProjectSKU},
		{text(FieldNVDEC0), claims.Config.NVDEC0}, {text(FieldProtected), claims.Config.Protected}, // the letter U is 0x55
	} {
		if c[0] != c[1] || c[0] == "" {
			t.Errorf("field %d: %q, want %q (%v, %v)", i, c[0], c[1], err1, err2)
		}
	}
	if len(r.Blocks) != len(claims.Measurements) || len(r.Blocks) != 64 {
		t.Errorf("%d blocks, want %d", len(r.Blocks), len(claims.Measurements))
	}
	for i, d := range r.Blocks {
		if want := claims.Measurements[fmt.Sprint(i+1)]; d.String() != want {
			t.Errorf("block %d: %s, want %s", i+1, d, want)
		}
	}
}

// TestChainsOfPeers pairs reports with chains that are not theirs whole: certificates are missing, or they are another device's.
// Google's tests pair the switch's with a verifier that is none.
func TestChainsOfPeers(t *testing.T) {
	for pair, want := range map[string]Reason{
		"nvtrust/hopperAttestationReport.txt nvtrust/hopperCertChain.txt":                                                          RIMMissing,
		"nvtrust/hopperAttestationReport.txt trustee/hopper_cert_chain_case2.txt":                                                  BadChain,     // the root alone
		"nvtrust/hopperAttestationReport.txt trustee/hopper_cert_chain_case3.txt":                                                  BadChain,     // one between is missing
		"nvtrust/hopperAttestationReport.txt trustee/hopper_cert_chain_case4.txt":                                                  BadSignature, // the leaf is missing
		"nvtrust/hopperAttestationReport.txt trustee/hopper_signing_cert.pem":                                                      BadChain,     // the leaf alone
		"go-nvattest-tools/test_raw_gpu_attestation_report.dat nvtrust/hopperCertChain.txt":                                        RIMMissing,
		"go-nvattest-tools/test_raw_switch_attestation_report.dat go-nvattest-tools/test_switch_attestation_certificate_chain.dat": BadSignature,
	} {
		report, chain, _ := strings.Cut(pair, " ")
		all, err := ParseEvidence(read(t, report), read(t, chain))
		if err != nil && strings.HasSuffix(chain, "case2.txt") { // a root is nobody's leaf
			all, err = []Device{{Hopper, devicesOf(t, "nvtrust/hopperAttestationReport.txt hopperCertChain.txt")[0].Report, read(t, chain)}}, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		v := &verifier{in: Input{Roots: nvidia(t), Now: now, Policy: pinning(rim(t, "nvtrust/Driver_RIM_test_no_gpu.swidtag"))}}
		if d := v.device(all[0]); d.Reason != want {
			t.Errorf("%s: %q (%v), want %q", pair, d.Reason, d.err, want)
		}
	}
}

// TestByteTooMany: a report from a run of confidential-containers' CI has a byte behind its signature, which nothing signs. Their verifier
// passes over it, the vendor's refuses it and so do we. Without it everything is in order.
func TestByteTooMany(t *testing.T) {
	dev := devicesOf(t, "trustee/hopper_coco_report1.txt hopper_coco_certs1.txt")[0]
	v := &verifier{in: Input{Roots: nvidia(t), Now: now, Policy: pinning(rim(t, "nvtrust/Driver_RIM_test_no_gpu.swidtag"))}}
	if d := v.device(dev); d.Reason != BadReport || !strings.Contains(d.err.Error(), "97 bytes, want 96") {
		t.Errorf("as it is: %q (%v)", d.Reason, d.err)
	}
	dev.Report = dev.Report[:len(dev.Report)-1]
	if d := v.device(dev); d.Reason != RIMMissing || d.Driver != "580.95.05" || d.VBIOS != "96.00.74.00.1A" || d.Mode != ModeSPT {
		t.Errorf("without the last byte: %q (%v), %+v", d.Reason, d.err, d)
	}
}

// ppcie reads Google's machine of eight GPUs and four switches.
func ppcie(t *testing.T) (all []Device) {
	t.Helper()
	type pems []struct{ PEM []byte }
	type report struct {
		B64 []byte `json:"py/b64"`
	}
	var file struct {
		GPUs []struct {
			AttestationReport report
			CertificateChains struct{ GpuAttestationCertificateChain pems }
		}
		NVSwitches []struct {
			Report report `json:"attestation_report"`
			Chain  pems   `json:"attestation_cert_chain"`
		}
	}
	if err := json.Unmarshal(read(t, "go-nvattest-tools/test_ppcie_data.json"), &file); err != nil {
		t.Fatal(err)
	}
	add := func(arch Arch, r report, chain pems) {
		d := Device{Arch: arch, Report: r.B64}
		for _, c := range chain {
			d.Chain = append(d.Chain, c.PEM...)
		}
		all = append(all, d)
	}
	for _, g := range file.GPUs {
		add(Hopper, g.AttestationReport, g.CertificateChains.GpuAttestationCertificateChain)
	}
	for _, s := range file.NVSwitches {
		add(LS10, s.Report, s.Chain)
	}
	return all
}

// TestSecondTopology is another real machine than TestTopology's, with an older driver, whose reports answer the nonce that Google's
// tests name. Manifests for it were not published.
func TestSecondTopology(t *testing.T) {
	nonce := [32]byte(bytes.Repeat([]byte{0x12, 0x34, 0x56, 0x78, 0x90}, 7)[:32])
	v := &verifier{in: Input{Roots: nvidia(t), Now: now, Policy: pinning(), Nonce: &nonce}}
	var results []DeviceResult
	for i, dev := range ppcie(t) {
		d := v.device(dev)
		gpu := d.Driver == "570.124.06" && d.VBIOS == "96.00.CF.00.02" && d.Mode == ModePPCIE && len(d.sees) == 4
		if sw := d.Driver == "" && d.VBIOS == "96.10.6D.00.01" && len(d.sees) == 8; d.Reason != RIMMissing || gpu != (i < 8) || sw != (i >= 8) {
			t.Errorf("device %d: %q (%v), %+v", i, d.Reason, d.err, d)
		}
		results = append(results, d)
	}
	if err := topology(results); err != nil || len(results) != 12 {
		t.Errorf("%d devices: %v", len(results), err)
	}
	if err := topology(results[1:]); reasonOf(err, "") != BadTopology {
		t.Errorf("a GPU less: %v", err)
	}
}

// TestRIMsOfPeers: manifests that others keep lead to the vendor's root like its own.
func TestRIMsOfPeers(t *testing.T) {
	text, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(read(t, "trustee/test-rim.b64"))))
	if err != nil {
		t.Fatal(err)
	}
	for version, file := range map[string][]byte{"96.00.74.00.1C": text, "96.00.6D.00.29": read(t, "go-nvattest-tools/rim/success_valid_rim.xml")} {
		r, err := ParseRIM(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Verify(nvidia(t).RIM, r.SignedAfter()); err != nil || r.Version != version || r.Product != "GH100" || r.Edition != "GPU" {
			t.Errorf("%s: %v, %s %s %s", version, err, r.Product, r.Edition, r.Version)
		}
	}
}

// TestPayloadsOfPeers has the parts of manifests read that Google wrote by hand. As whole manifests all are refused, because nobody signed
// them. Of payloads those named success are read, the others refused for what their name says, once all their other values are of
// the size that SHA-384 has.
func TestPayloadsOfPeers(t *testing.T) {
	for name, want := range map[string]string{
		"success_payload_single_measurement": "", "success_payload_multiple_measurements": "", "success_payload_multiple_alternatives": "",
		"failure_duplicate_index": "index 0 twice", "failure_empty_payload": "no active measurement", "failure_hash_empty_namespace": `Hash0 ""`,
		"failure_invalid_alternatives": `alternatives "xyz"`, "failure_invalid_index": `index "abc"`, "failure_invalid_size": `size "abc"`,
		"failure_missing_alternatives": `alternatives ""`, "failure_missing_hash": `Hash0 ""`, "failure_missing_index": `index ""`, "failure_missing_size": `size ""`,
		"failure_no_payload": "no Payload", "failure_missing_meta": "", "failure_missing_colloquial_version": "", "failure_missing_x509_data": "",
		"failure_missing_x509_certificate": "", "failure_invalid_cert_bytes": "", "failure_invalid_pem_data": "", "failure_invalid_base64_cert": "",
	} {
		text := read(t, "go-nvattest-tools/rim/"+name+".xml")
		if _, err := ParseRIM(text); err == nil {
			t.Errorf("%s: read as a manifest", name)
		}
		if want == "" && strings.HasPrefix(name, "failure_") { // of certificates and Meta alone, in no namespace
			continue
		}
		zero := Digest{}.String()
		root, err := parseXML([]byte(strings.NewReplacer(`size="10"`, `size="48"`, `size="20"`, `size="48"`, `"hash0"`, `"`+zero+`"`, `"hashA"`, `"`+zero+`"`, `"hash1"`, `"`+zero+`"`).Replace(string(text))))
		if err != nil {
			t.Fatal(name, err)
		}
		err = errors.New("no Payload")
		for _, c := range root.elements() {
			if c.is(swidSpace, "Payload") {
				err = (&RIM{Measurements: map[int][]Digest{}}).readPayload(c)
			}
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// TestVendorMismatch is the vendor's own pair for measurements that differ: its report of driver 535.86.09, and a manifest of that VBIOS
// which is in order; its production manifest for the same VBIOS has them all.
func TestVendorMismatch(t *testing.T) {
	for name, want := range map[string]int{
		"attestation-sdk/NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml": -1,
		"nvtrust/1010_0200_882_96005E0001_PROD.swidtag":                                  12,
	} {
		r := rim(t, name)
		v := &verifier{in: Input{Roots: nvidia(t), Now: now, Policy: pinning(r)}, rims: []rimState{{rim: r}}}
		d := v.judge(devicesOf(t, "attestation-sdk/gpu/hopperAttestationReport.txt hopperCertChain.txt")[0], func(d *judged) []func() error {
			vbios := func() error { d.golden = map[int][]Digest{}; return d.manifest("vbios", d.VBIOS) }
			return []func() error{d.parse, d.chain, d.signature, d.arch, d.versions, vbios, d.measurements}
		})
		if want < 0 && d.Reason != BadMeasurement || want >= 0 && (d.err != nil || d.Measured+d.Passed != want) {
			t.Errorf("%s: %q (%v), %d equal", name, d.Reason, d.err, d.Measured)
		}
	}
}
