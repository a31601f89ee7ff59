package measure

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

const (
	svsmPlatform = `{"name":"s","tee":"snp","vmm":"QEMU","firmware":"ovmf","svsm":"coconut","vars-size":540672,"kernel-hashes":false,"vcpu-type":"EPYC-Milan","vcpus":[1,5],"guest-features":1}`
	igvmPlatform = `{"name":"i","tee":"snp","vmm":"QEMU","igvm":"all-in-one","vcpus":[1]}`

	// sev-snp-measure 0.0.13 (8f2b337) --mode snp:svsm over the same files; the IGVM file's maker.
	svsm1 = "572d61ac70f84de6af34be48f0738816a1be6eb2b0d2926689350eb3272e1563d2d64dbc78a8f8eab2a1b719b7409398"
	svsm5 = "93c5e5d4c6442ddb3048515db19acf0c8b0a555227b14c36d19ef276c05734b942825a437dc0f248f462b8821350939e"
	igvm1 = "e706ae13b8318661de068a183c84b65f62cd5506d9a904533d1da4b150f949c58a5669a42bedc73c9bc4cf8972c777d3"
)

// withSVSM is an image with an SVSM, a firmware above it, and an IGVM file.
func withSVSM(t testing.TB) fstest.MapFS {
	t.Helper()
	fsys := out(t, "roothash="+root)
	for name, file := range map[string]string{"ovmf": ovmf2025, "coconut": "snp/testdata/vectors/svsm.bin.xz", "all-in-one": "snp/testdata/vectors/simple.igvm.xz"} {
		data, err := unpacked(file)
		if err != nil {
			t.Fatal(err)
		}
		addFirmware(t, fsys, name, data)
	}
	return fsys
}

func imageValues(t testing.TB, fsys fstest.MapFS, platforms ...string) *ReferenceValues {
	t.Helper()
	ps, err := ParsePlatforms([]byte("[" + strings.Join(platforms, ",") + "]"))
	if err != nil {
		t.Fatal(err)
	}
	rv, err := Image(t.Context(), fsys, ps)
	if err != nil {
		t.Fatal(err)
	}
	return rv
}

// TestSVSMAndIGVMValues: the digests of other programs, through the file, beside a plain machine of the same firmware.
func TestSVSMAndIGVMValues(t *testing.T) {
	plain := `{"name":"q","tee":"snp","vmm":"QEMU","firmware":"ovmf","kernel-hashes":false,"vcpu-type":"EPYC-v4","vcpus":[1],"guest-features":1}`
	other := strings.NewReplacer(`"s"`, `"t"`, "540672", "0").Replace(svsmPlatform)
	rv := imageValues(t, withSVSM(t), plain, svsmPlatform, other, igvmPlatform)
	data, err := rv.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if rv, err = Parse(data); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, v := range rv.Values {
		got[fmt.Sprint(v.Platform.Name, v.Platform.VCPUs)] = v.Digest.String()
		if fmt.Sprint(v.Covers) != "[firmware]" || v.Mark != FirmwareOnly {
			t.Errorf("%s: covers %v, mark %q", v, v.Covers, v.Mark)
		}
	}
	for shape, want := range map[string]string{"s[1]": svsm1, "s[5]": svsm5, "i[1]": igvm1} {
		if got[shape] != want {
			t.Errorf("%s: %s, want %s", shape, got[shape], want)
		}
	}
	if len(got) != 6 || got["t[1]"] == svsm1 || got["t[1]"] == "" {
		t.Errorf("values %v: want six, and another one for another variable store", got)
	}
	if id := rv.Values[1].Profile + " " + rv.Values[5].Profile; id != "snp-qemu-svsm/1 snp-qemu-igvm/1" {
		t.Errorf("profiles %s", id)
	}
}

func TestSVSMAndIGVMEditsAreRefused(t *testing.T) {
	rv := imageValues(t, withSVSM(t), svsmPlatform, igvmPlatform)
	data, err := rv.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"value":     {`"digest": "` + svsm5, `"digest": "` + svsm1, "its own inputs give"},
		"vars":      {`"vars-size": 540672`, `"vars-size": 4096`, "not measured under firmware"},
		"static":    {`"vars_size": 540672`, `"vars_size": 4096`, "not measured under firmware"},
		"entry":     {`"entry": `, `"entry": 1`, "svsm"},
		"size":      {`"size": 1138688`, `"size": 1134592`, "the entry in them"},
		"igvm":      {`"digest": "` + igvm1 + "\",\n          \"vcpus\"", `"digest": "` + svsm1 + "\",\n          \"vcpus\"", "its own inputs give"},
		"igvm vcpu": {"\"vcpus\": 1\n", "\"vcpus\": 2\n", "save areas for 2"},
		"mark":      {`"mark": "firmware-only"`, `"mark": ""`, ""},
	} {
		bad := strings.Replace(string(data), c.old, c.new, 1)
		if bad == string(data) {
			t.Errorf("%s: nothing replaced in\n%.3000s", name, data)
			continue
		}
		if _, err := Parse([]byte(bad)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}

func TestSVSMAndIGVMRefusals(t *testing.T) {
	for name, c := range map[string]struct{ platform, old, new, want string }{
		"no store":       {svsmPlatform, `"vars-size":540672,`, "", "vars-size: missing"},
		"odd store":      {svsmPlatform, "540672", "540673", "vars-size 540673: want whole pages"},
		"negative store": {svsmPlatform, "540672", "-4096", "vars-size -4096"},
		"huge store":     {svsmPlatform, "540672", "1099511627776", "vars-size"},
		"null store":     {svsmPlatform, "540672", "null", "vars-size: missing"},
		"store alone":    {svsmPlatform, `"svsm":"coconut",`, "", `unknown key "vars-size"`},
		"no svsm":        {svsmPlatform, `"coconut"`, `""`, "vars-size: goes with svsm"},
		"itself":         {svsmPlatform, `"coconut"`, `"ovmf"`, "is the firmware above it"},
		"cloud":          {svsmPlatform, `"QEMU"`, `"gce"`, "known on QEMU alone"},
		"a kernel":       {svsmPlatform, `hashes":false`, `hashes":true`, "SVSM and firmware alone"},
		"a UKI":          {svsmPlatform, `"kernel-hashes":false`, `"boot":"uki","kernel-hashes":false`, "SVSM and firmware alone"},
		"no hashes":      {svsmPlatform, `"kernel-hashes":false,`, "", "kernel-hashes: missing"},
		"both":           {svsmPlatform, `"svsm"`, `"igvm":"x","svsm"`, `unknown key "igvm"`},
		"no cpu":         {svsmPlatform, `"EPYC-Milan"`, `"host"`, `vcpu type "host"`},
		"igvm firmware":  {igvmPlatform, `"igvm"`, `"firmware":"ovmf","igvm"`, `unknown key "firmware"`},
		"igvm features":  {igvmPlatform, `"igvm"`, `"guest-features":1,"igvm"`, `unknown key "guest-features"`},
		"igvm shapes":    {igvmPlatform, "[1]", "[1,2]", "2 shapes"},
		"igvm none":      {igvmPlatform, "[1]", "[0]", "ascending"},
		"igvm missing":   {igvmPlatform, `,"vcpus":[1]`, "", "vcpus: missing"},
		"igvm cloud":     {igvmPlatform, `"QEMU"`, `"ec2"`, "known on QEMU alone"},
		"igvm empty":     {igvmPlatform, `"all-in-one"`, `""`, "firmware: missing"},
		"igvm of tdx":    {igvmPlatform, `"snp"`, `"tdx"`, "unknown key"},
	} {
		bad := strings.Replace(c.platform, c.old, c.new, 1)
		if _, err := ParsePlatforms([]byte("[" + bad + "]")); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
	for name, c := range map[string]struct{ platform, old, new, want string }{
		"no such svsm":    {svsmPlatform, "coconut", "cocoanut", `firmware "cocoanut" is not in the image`},
		"not an svsm":     {svsmPlatform, "coconut", "amdsev", "firmware/amdsev.fd: "},
		"no such igvm":    {igvmPlatform, "all-in-one", "none", `firmware "none" is not in the image`},
		"not an igvm":     {igvmPlatform, "all-in-one", "coconut", "firmware/coconut.fd: igvm: "},
		"igvm of one":     {igvmPlatform, "[1]", "[4]", "has save areas for 1"},
		"svsm as machine": {svsmPlatform, `"firmware":"ovmf"`, `"firmware":"all-in-one"`, "firmware/all-in-one.fd: "},
	} {
		ps, err := ParsePlatforms([]byte("[" + strings.Replace(c.platform, c.old, c.new, 1) + "]"))
		if err != nil {
			t.Fatal(err)
		}
		if rv, err := Image(t.Context(), withSVSM(t), ps); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, rv, err, c.want)
		}
	}
}
