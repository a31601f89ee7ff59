//go:build nvml

// Gpu-helper is the one program of this project that loads NVIDIA's library: it collects what GPUs say about themselves, and sets
// their ready state. NVML needs cgo, which the enclave does without; a crash in it ends one call of this
// process. Package tally/enclave/attest/gpu (Helper) says what it prints.
//
//	CGO_ENABLED=1 go build -tags nvml -trimpath -buildvcs=false ./cmd/gpu-helper
//
// NVSwitches are not behind NVML: their own library is asked where it is installed (nscq.go). It decides nothing: the enclave
// verifies what it prints.
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
	if len(args) != 2 && (len(args) != 1 || args[0] != "usage") {
		return fmt.Errorf("want collect NONCE, ready on|off, or usage")
	}
	if ret := nvml.Init(); ret != nvml.SUCCESS {
		return failed("init", ret)
	}
	defer nvml.Shutdown()
	switch {
	case args[0] == "usage":
		return usage()
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
	return fmt.Errorf("%.20q %.20q: want collect NONCE, ready on|off, or usage", args[0], args[1])
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
	a := gpu.HelperAnswer{Schema: gpu.HelperSchema, State: appraise.DriverState{
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
	more, unlocked, err := switches(nonce)
	if err != nil {
		return err
	}
	a.State.Switches, a.State.SwitchesUnlocked = len(more), unlocked
	if a.Devices, err = appraise.MarshalEvidence(append(devices, more...)); err != nil {
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

// usage prints who computes on which GPU.
func usage() error {
	n, ret := nvml.DeviceGetCount()
	if err := failed("count", ret); err != nil {
		return err
	}
	a := gpu.UsageAnswer{Schema: gpu.HelperSchema, Usage: gpu.Usage{Processes: []gpu.Process{}, Used: []uint64{}}}
	for i := range n {
		if err := usageOf(i, &a.Usage); err != nil {
			return fmt.Errorf("GPU %d: %w", i, err)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(a)
}

func usageOf(i int, u *gpu.Usage) error {
	d, ret := nvml.DeviceGetHandleByIndex(i)
	if err := failed("handle", ret); err != nil {
		return err
	}
	memory, ret := d.GetMemoryInfo_v2()
	if err := failed("memory", ret); err != nil {
		return err
	}
	// Not memory.Used: the driver's own share counts there or not, by the version, and an idle H200 has 615 MiB of it.
	u.Used = append(u.Used, memory.Total-min(memory.Total, memory.Free+memory.Reserved))
	all, ret := d.GetComputeRunningProcesses()
	if err := failed("processes", ret); err != nil {
		return err
	}
	for _, p := range all {
		one := gpu.Process{GPU: i, PID: int(p.Pid)}
		if p.UsedGpuMemory != notAvailable {
			one.Memory = &p.UsedGpuMemory
		}
		u.Processes = append(u.Processes, one)
	}
	return nil
}

// notAvailable is NVML_VALUE_NOT_AVAILABLE (nvml.h) as an unsigned long long.
const notAvailable = ^uint64(0)
