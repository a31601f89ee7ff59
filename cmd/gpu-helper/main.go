//go:build nvml

// Gpu-helper is the one program of this project that loads NVIDIA's library: it collects what GPUs say about themselves, and sets
// their ready state. NVML needs cgo, which the enclave does without; a crash in it ends one call of this
// process. Package tally/enclave/attest/gpu (Helper) says what it prints.
//
//	CGO_ENABLED=1 go build -tags nvml -trimpath -buildvcs=false ./cmd/gpu-helper
//
// NVSwitches are not behind NVML and are not collected. It decides nothing: the enclave verifies what it prints.
package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	appraise "tally/enclave/appraise/gpu"
	"tally/enclave/attest/gpu"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "gpu-helper: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("want collect NONCE, or ready on|off")
	}
	if ret := nvml.Init(); ret != nvml.SUCCESS {
		return failed("init", ret)
	}
	defer nvml.Shutdown()
	switch {
	case args[0] == "collect":
		nonce, err := hex.DecodeString(args[1])
		if err != nil || len(nonce) != 32 {
			return fmt.Errorf("nonce %.80q: want 64 hexadecimal digits", args[1])
		}
		return collect([32]byte(nonce))
	case args[0] == "ready" && args[1] == "on":
		return failed("ready state", nvml.SystemSetConfComputeGpusReadyState(nvml.CC_ACCEPTING_CLIENT_REQUESTS_TRUE))
	case args[0] == "ready" && args[1] == "off":
		return failed("ready state", nvml.SystemSetConfComputeGpusReadyState(nvml.CC_ACCEPTING_CLIENT_REQUESTS_FALSE))
	}
	return fmt.Errorf("%.20q %.20q: want collect NONCE, or ready on|off", args[0], args[1])
}

func failed(what string, ret nvml.Return) error {
	if ret == nvml.SUCCESS {
		return nil
	}
	return fmt.Errorf("%s: NVML: %s", what, nvml.ErrorString(ret))
}

func collect(nonce [32]byte) error {
	settings, ret := nvml.SystemGetConfComputeSettings()
	if err := failed("settings", ret); err != nil {
		return err
	}
	n, ret := nvml.DeviceGetCount()
	if err := failed("count", ret); err != nil {
		return err
	}
	// With protected PCIe the GPUs of a machine are in confidential computing together, and CcFeature says off.
	on := settings.CcFeature == nvml.CC_SYSTEM_FEATURE_ENABLED || settings.MultiGpuMode == nvml.CC_SYSTEM_MULTIGPU_PROTECTED_PCIE
	a := gpu.HelperAnswer{Schema: gpu.HelperSchema, State: gpu.State{
		ConfidentialCompute: on, DeveloperTools: settings.DevToolsMode != nvml.CC_SYSTEM_DEVTOOLS_MODE_OFF, GPUs: n,
	}}
	var devices []appraise.Device
	if on { // otherwise there is nothing to collect, and the gate refuses for that reason
		for i := range n {
			d, err := device(i, nonce)
			if err != nil {
				return fmt.Errorf("GPU %d: %w", i, err)
			}
			devices = append(devices, d)
		}
	}
	var err error
	if a.Devices, err = appraise.MarshalEvidence(devices); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(a)
}

func device(i int, nonce [32]byte) (appraise.Device, error) {
	d, ret := nvml.DeviceGetHandleByIndex(i)
	if err := failed("handle", ret); err != nil {
		return appraise.Device{}, err
	}
	cert, ret := d.GetConfComputeGpuCertificate()
	if err := failed("certificate", ret); err != nil {
		return appraise.Device{}, err
	}
	report := nvml.ConfComputeGpuAttestationReport{Nonce: nonce}
	if err := failed("report", d.GetConfComputeGpuAttestationReport(&report)); err != nil {
		return appraise.Device{}, err
	}
	if int(cert.AttestationCertChainSize) > len(cert.AttestationCertChain) || int(report.AttestationReportSize) > len(report.AttestationReport) {
		return appraise.Device{}, fmt.Errorf("NVML states sizes %d and %d, more than it has room for", cert.AttestationCertChainSize, report.AttestationReportSize)
	}
	all, err := appraise.ParseEvidence(report.AttestationReport[:report.AttestationReportSize], cert.AttestationCertChain[:cert.AttestationCertChainSize])
	if err != nil {
		return appraise.Device{}, err
	}
	return all[0], nil
}
