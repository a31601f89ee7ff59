package gpu

import (
	"encoding/hex"
	"encoding/json"
	"testing"
	"time"
)

// claims are what NVIDIA's service says of a device.
type claims struct {
	Nonce     string `json:"eat_nonce"`
	At        int64  `json:"iat"`
	Chip      string `json:"hwmodel"` // of the certificate above the leaf
	ID        string `json:"ueid"`    // serial number of the leaf
	Result    string `json:"measres"`
	Driver    string `json:"x-nvidia-gpu-driver-version"`
	VBIOS     string `json:"x-nvidia-gpu-vbios-version"`
	Switch    string `json:"x-nvidia-switch-bios-version"`
	DriverRIM ending `json:"x-nvidia-gpu-driver-rim-cert-chain"`
	VBIOSRIM  ending `json:"x-nvidia-gpu-vbios-rim-cert-chain"`
}

// An ending is when the certificate of a manifest's signer ends.
type ending struct {
	Date time.Time `json:"x-nvidia-cert-expiration-date"`
}

// TestServiceVerdict: NVIDIA's service accepted two of the samples in June 2025. The same comes out here, from files and with no manifest pinned: of the
// GPU at the moment that the service states, by the manifests of the signers that it states; of the switch a year later, since the sample of its manifest was
// signed anew in May 2026.
func TestServiceVerdict(t *testing.T) {
	for file, c := range map[string]struct {
		device, evidence string
		rims             []string
		measured         int
	}{
		"attestation-sdk/hopperClaimsv3_decoded.json": {"GPU-0", "nvtrust/hopperAttestationReport.txt hopperCertChain.txt",
			[]string{"go-nvattest-tools/rim/NV_GPU_DRIVER_GH100_550.90.07.xml", "go-nvattest-tools/rim/NV_GPU_VBIOS_1010_0200_882_96009F0001.xml"}, 33},
		"attestation-sdk/switch_decoded.json": {"SWITCH-0", "attestation-sdk/switchAttestationReport.txt switchCertChain.txt",
			[]string{"attestation-sdk/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml"}, 31},
	} {
		all := map[string]claims{}
		if err := json.Unmarshal(read(t, file), &all); err != nil {
			t.Fatal(err)
		}
		said := all[c.device]
		nonce, err := hex.DecodeString(said.Nonce)
		if err != nil || len(nonce) != 32 || said.Result != "success" {
			t.Fatalf("%s: %v, %+v", file, err, said)
		}
		v := &verifier{in: Input{Roots: nvidia(t), Now: time.Unix(said.At, 0), Nonce: (*[32]byte)(nonce), Policy: pinning()}}
		v.in.Policy.UnpinnedRIM = true
		for i, name := range c.rims {
			v.rims = append(v.rims, rimState{rim: rim(t, name)})
			if end := v.rims[i].rim.SignerNotAfter(); said.Switch == "" && !end.Equal([]time.Time{said.DriverRIM.Date, said.VBIOSRIM.Date}[i]) {
				t.Errorf("%s: signer until %s, the service says %+v", name, end, said)
			}
		}
		if said.Switch != "" {
			said.VBIOS, v.in.Now = said.Switch, now
		}
		dev := devicesOf(t, c.evidence)[0]
		chain, err := ParseChain(dev.Chain)
		if err != nil {
			t.Fatal(err)
		}
		d := v.device(dev)
		if d.err != nil || d.Driver != said.Driver || d.VBIOS != said.VBIOS || d.Measured+d.Passed != c.measured || chain[0].SerialNumber.String() != said.ID || chain[1].Subject.CommonName != said.Chip {
			t.Errorf("%s: %v, driver %s, VBIOS %s, %d measurements; the service says %+v", file, d.err, d.Driver, d.VBIOS, d.Measured+d.Passed, said)
		}
	}
}
