package main

import (
	"strings"

	"tally/enclave/appraise/gpu"
)

// gpuManifests are the names under which the vendor's service has the manifests of what a report says it runs, as the vendor's own
// tools make them: of a GPU the driver's and the VBIOS's, of a switch the VBIOS's. A report that lacks a part of a name has none.
func gpuManifests(arch gpu.Arch, r *gpu.Report, driver, vbios string) []string {
	text := func(f gpu.Field) string { return strings.TrimRight(string(r.Opaque[f]), "\x00") }
	all, parts := []string{}, []string{"NV_GPU_VBIOS", text(gpu.FieldProject), text(gpu.FieldProjectSKU), text(gpu.FieldChipSKU)}
	switch arch {
	case gpu.Hopper:
		all = withName(all, "NV_GPU_DRIVER_GH100", driver)
	case gpu.Blackwell:
		chip := text(gpu.FieldChip)
		if chip == "" {
			chip = "GB100"
		}
		all = withName(all, "NV_GPU_CC_DRIVER", chip, driver)
	default: // switches state no board: there is one
		parts = []string{"NV_SWITCH_BIOS", "5612", "0002", "890"}
	}
	return withName(all, append(parts, strings.ReplaceAll(vbios, ".", ""))...)
}

// withName adds a name unless a part of it is missing.
func withName(all []string, parts ...string) []string {
	for _, p := range parts {
		if p == "" || strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return all
		}
	}
	return append(all, strings.Join(parts, "_"))
}
