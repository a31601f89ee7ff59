package measure

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/ulikunitz/xz"
)

const root = "1111111111111111111111111111111111111111111111111111111111111111"

func amdsev(t testing.TB) []byte {
	t.Helper()
	b, err := readAmdSev()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var readAmdSev = sync.OnceValues(func() ([]byte, error) {
	f, err := os.Open("../examples/minimal/firmware/OVMF.amdsev.fd.xz")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := xz.NewReader(f)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
})

// out is an OUT directory in memory whose manifest is right for its files.
func out(t testing.TB, cmdline string) fstest.MapFS { return outOf(t, "kernel", "initrd", cmdline) }

func outOf(t testing.TB, kernel, initrd, cmdline string) fstest.MapFS {
	t.Helper()
	files := map[string]string{"vmlinuz": kernel, "initrd": initrd, "cmdline": cmdline, "firmware/amdsev.fd": string(amdsev(t))}
	roles := map[string]string{"vmlinuz": "kernel", "initrd": "initrd", "cmdline": "cmdline", "firmware/amdsev.fd": "firmware"}
	var artifacts []map[string]any
	fsys := fstest.MapFS{}
	for _, name := range []string{"cmdline", "firmware/amdsev.fd", "initrd", "vmlinuz"} {
		data := files[name]
		fsys[name] = &fstest.MapFile{Data: []byte(data)}
		artifacts = append(artifacts, map[string]any{"name": name, "role": roles[name], "sha256": fmt.Sprintf("%x", sha256.Sum256([]byte(data))), "size": len(data)})
	}
	m, err := json.Marshal(map[string]any{
		"schema": "tally.manifest/v1", "name": "x", "version": "1", "artifacts": artifacts,
		"firmware":  []any{map[string]any{"name": "amdsev", "file": "firmware/amdsev.fd"}},
		"platforms": []any{map[string]any{"name": "q", "tee": "snp", "vmm": "QEMU", "firmware": "amdsev", "kernel-hashes": true, "vcpu-type": "EPYC-v4", "vcpus": []int{1, 2, 8}, "guest-features": 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	fsys["manifest.json"] = &fstest.MapFile{Data: m}
	return fsys
}

func TestImageRoundTrip(t *testing.T) {
	rv, err := Image(t.Context(), out(t, "roothash="+root+" quiet"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(rv.Values) != 3 || len(rv.Values[0].Covers) != 5 {
		t.Fatalf("values %v", rv.Values)
	}
	data, err := rv.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(rv, again); d != "" {
		t.Error(d)
	}
}

func TestFirmwareOnlyCoversFirmwareOnly(t *testing.T) {
	ps, err := ParsePlatforms([]byte(`[{"name":"ec2","tee":"snp","vmm":"ec2","firmware":"amdsev","kernel-hashes":false,"vcpus":[2],"guest-features":1}]`))
	if err != nil {
		t.Fatal(err)
	}
	rv, err := Image(t.Context(), out(t, "quiet"), ps)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(rv.Values[0].Covers); got != "[firmware]" {
		t.Errorf("covers %s", got)
	}
}

func TestImageRefusals(t *testing.T) {
	good := "roothash=" + root
	for name, c := range map[string]struct {
		cmdline string
		change  func(fstest.MapFS)
		want    string
	}{
		"kernel changed":   {good, func(f fstest.MapFS) { f["vmlinuz"].Data = []byte("kernem") }, "vmlinuz: SHA-256"},
		"cmdline changed":  {good, func(f fstest.MapFS) { f["cmdline"].Data = []byte("x") }, "cmdline: SHA-256"},
		"firmware changed": {good, func(f fstest.MapFS) { f["firmware/amdsev.fd"].Data[0] ^= 1 }, "firmware/amdsev.fd: SHA-256"},
		"initrd missing":   {good, func(f fstest.MapFS) { delete(f, "initrd") }, "initrd"},
		"no manifest":      {good, func(f fstest.MapFS) { delete(f, "manifest.json") }, "manifest.json"},
		"other schema":     {good, replace("manifest/v1", "manifest/v2"), "schema"},
		"two kernels":      {good, replace(`"initrd","sha`, `"kernel","sha`), "two artefacts"},
		"no such firmware": {good, replace(`"firmware":"amdsev"`, `"firmware":"ovmf"`), `firmware "ovmf" is not in the image`},
		"climbing path":    {good, replace(`"name":"vmlinuz"`, `"name":"../vmlinuz"`), "clean relative path"},
		"no root hash":     {"quiet", nil, "exactly one roothash="},
		"two root hashes":  {good + " " + good, nil, "exactly one roothash="},
		"upper-case hash":  {"roothash=" + strings.Repeat("A", 64), nil, "exactly one roothash="},
		"short root hash":  {"roothash=00", nil, "exactly one roothash="},
		"newline":          {good + "\n", nil, "printable ASCII"},
		"long cmdline":     {good + strings.Repeat(" x", 1000), nil, "more than 2047"},
		"unknown platform": {good, replace(`"tee":"snp"`, `"tee":"sev"`), `tee "sev"`},
	} {
		fsys := out(t, c.cmdline)
		if c.change != nil {
			c.change(fsys)
		}
		if rv, err := Image(t.Context(), fsys, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, rv, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Image(ctx, out(t, good), nil); err == nil {
		t.Error("cancelled: no error")
	}
}

func replace(old, new string) func(fstest.MapFS) {
	return func(f fstest.MapFS) {
		s := string(f["manifest.json"].Data)
		if !strings.Contains(s, old) {
			panic("nothing to replace: " + old)
		}
		f["manifest.json"].Data = []byte(strings.Replace(s, old, new, 1))
	}
}

func TestParseRefusesEditedValues(t *testing.T) {
	rv, err := Image(t.Context(), out(t, "roothash="+root), nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := rv.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	good := string(data)
	digest := rv.Values[1].Digest.String()
	flipped := "0" + digest[1:]
	if digest[0] == '0' {
		flipped = "1" + digest[1:]
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"digest":     {digest, flipped, "its own inputs give"},
		"cmdline":    {root, strings.Repeat("2", 64), "its own inputs give"},
		"roothash":   {"roothash=" + root, "quiet", ErrCmdline.Error()},
		"covers":     {"\"root\"\n", "\"kernel\"\n", "its own inputs give"},
		"vcpus":      {"        2\n", "        4\n", "its own inputs give"},
		"register":   {"launch_digest", "mrtd", "its own inputs give"},
		"schema":     {"values/v1", "values/v9", "schema"},
		"unknown":    {`"name": "x"`, `"nome": "x"`, "unknown field"},
		"spacing":    {`"name": "x"`, `"name":  "x"`, "not in the form"},
		"trailing":   {"]\n}\n", "]\n} 1", "data after"},
		"upper case": {rv.Static.Kernel.String(), strings.ToUpper(rv.Static.Kernel.String()), "lower-case"},
	} {
		bad := strings.Replace(good, c.old, c.new, 1)
		if bad == good {
			t.Fatalf("%s: nothing replaced", name)
		}
		if _, err := Parse([]byte(bad)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		} else if follows := c.want != "its own inputs give" && name != "roothash"; errors.Is(err, ErrUnfounded) == follows {
			t.Errorf("%s: %v: says that the value does not follow: %v", name, err, follows)
		}
	}
}

func TestParsePlatformsRefusals(t *testing.T) {
	const good = `[{"name":"q","tee":"snp","vmm":"QEMU","firmware":"f","kernel-hashes":true,"vcpu-type":"EPYC","vcpus":[1,2],"guest-features":1}]`
	if _, err := ParsePlatforms([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"empty list":   {good, "[]", "0 platforms"},
		"unknown key":  {`"name"`, `"nam"`, `unknown key "nam"`},
		"other case":   {`"vcpus"`, `"VCPUs"`, `unknown key "VCPUs"`},
		"no hashes":    {`"kernel-hashes":true,`, "", "kernel-hashes: missing"},
		"no features":  {`,"guest-features":1`, "", "guest-features: missing"},
		"snp inactive": {`features":1`, `features":32`, "bit 0 (SNPActive)"},
		"cloud kernel": {`"QEMU"`, `"gce"`, "hands the firmware no kernel"},
		"not a list":   {good, "{}", "cannot unmarshal"},
		"too long":     {good, good + strings.Repeat(" ", 1<<20), "want at most 1048576"},
		"no name":      {`"q"`, `""`, "name: missing"},
		"vmm":          {"QEMU", "qemu", "vmm \"qemu\""},
		"cpu":          {"EPYC", "host", "vcpu type \"host\""},
		"descending":   {"[1,2]", "[2,1]", "ascending"},
		"zero":         {"[1,2]", "[0]", "ascending"},
		"too many":     {"[1,2]", "[513]", "ascending"},
		"none":         {"[1,2]", "[]", "0 shapes"},
		"useless type": {`"QEMU","firmware":"f","kernel-hashes":true`, `"ec2","firmware":"f","kernel-hashes":false`, "does not enter"},
		"trailing":     {"}]", "}] x", "data after"},
		"twice":        {"}]", "}," + good[1:], "twice"},
	} {
		bad := strings.Replace(good, c.old, c.new, 1)
		if _, err := ParsePlatforms([]byte(bad)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}

// TestRecomputeRefuses covers what an edit of the JSON text reaches badly.
func TestRecomputeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*ReferenceValues)
		want   string
	}{
		"twice":          {func(rv *ReferenceValues) { rv.Values = append(rv.Values, rv.Values[2]) }, "ascending"},
		"order":          {func(rv *ReferenceValues) { rv.Values[0], rv.Values[1] = rv.Values[1], rv.Values[0] }, "ascending"},
		"two shapes":     {func(rv *ReferenceValues) { rv.Values[0].Platform.VCPUs = []int{1, 2} }, "0 shapes"},
		"other features": {func(rv *ReferenceValues) { rv.Values[1].Platform.GuestFeatures = 0x21 }, "platform again"},
		"comes back":     {func(rv *ReferenceValues) { rv.Values[1].Platform.Name = "r" }, "platform again"},
		"features off":   {func(rv *ReferenceValues) { rv.Values[0].Platform.GuestFeatures = 0 }, "SNPActive"},
		"no measurement": {func(rv *ReferenceValues) { rv.Static.Firmware[0].SNP = nil }, "without its measurement"},
		"firmware twice": {func(rv *ReferenceValues) { rv.Static.Firmware = append(rv.Static.Firmware, rv.Static.Firmware[0]) }, "twice"},
		"cmdline":        {func(rv *ReferenceValues) { rv.Static.Cmdline += "\n" }, "printable ASCII"},
		"much memory":    {func(rv *ReferenceValues) { rv.Static.Firmware[0].SNP.Sections[0].Size = 0x7000000 }, "bytes of sections"},
		"no sections":    {func(rv *ReferenceValues) { rv.Static.Firmware[0].SNP.Sections = nil }, "KERNEL_HASHES is missing"},
	} {
		rv, err := Image(t.Context(), out(t, "roothash="+root), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := rv.Recompute(); err != nil {
			t.Fatal(err)
		}
		c.change(rv)
		if err := rv.Recompute(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}

// TestEveryArtefactMovesTheValue changes one input of an image at a time, with a manifest that agrees.
func TestEveryArtefactMovesTheValue(t *testing.T) {
	seen := map[string]string{}
	check := func(what, kernel, initrd, cmdline string) {
		t.Helper()
		rv, err := Image(t.Context(), outOf(t, kernel, initrd, cmdline), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range rv.Values {
			if other, ok := seen[v.Digest.String()]; ok {
				t.Errorf("%s gives the same digest as %s", what, other)
			}
			seen[v.Digest.String()] = fmt.Sprint(what, v.Platform.VCPUs)
		}
	}
	check("nothing", "kernel", "initrd", "roothash="+root)
	check("kernel", "kernel ", "initrd", "roothash="+root)
	check("initrd", "kernel", "initrd ", "roothash="+root)
	check("kernel and initrd swapped", "initrd", "kernel", "roothash="+root)
	check("root hash", "kernel", "initrd", "roothash="+strings.Repeat("2", 64))
	check("a trailing space", "kernel", "initrd", "roothash="+root+" ")
}
