package snp

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// logText is a launch for comparison: what, pages and parts of each event.
func logText(l *Launch) string {
	var b strings.Builder
	for _, e := range l.Log() {
		fmt.Fprintf(&b, "%s: %s %v\n", e.What, e.Detail, e.Covers)
	}
	return b.String()
}

const sectionsText = `SEC_MEM: 9 zero pages at 0x800000 []
SEC_MEM: 3 zero pages at 0x80a000 []
SECRETS: 1 secrets pages at 0x80d000 []
CPUID: 1 cpuid pages at 0x80e000 []
SVSM_CAA: 1 zero pages at 0x80f000 []
SEC_MEM: 31 zero pages at 0x811000 []
KERNEL_HASHES: 1 normal pages at 0x810000 [kernel initrd cmdline]
`

// TestLog: --explain shows each run of pages, and what a value covers is what its events do.
func TestLog(t *testing.T) {
	const first = "firmware: 1024 normal pages at 0xffc00000 [firmware]\n"
	const boot = "vmsa of the boot processor: 1 vmsa pages at 0xfffffffff000 []\n"
	cpuid := "CPUID: 1 cpuid pages at 0x80e000 []\n"
	for name, c := range map[string]struct {
		change func(*Input)
		want   string
	}{
		"one vcpu":    {func(in *Input) { in.VCPUs = 1 }, first + sectionsText + boot},
		"three":       {func(in *Input) { in.VCPUs = 3 }, first + sectionsText + boot + "vmsa of the other processors: 2 vmsa pages at 0xfffffffff000 []\n"},
		"no kernel":   {func(in *Input) { in.VCPUs, in.Hashes = 1, nil }, first + strings.Replace(sectionsText, "1 normal pages at 0x810000 [kernel initrd cmdline]", "1 zero pages at 0x810000 []", 1) + boot},
		"cpuid last":  {func(in *Input) { in.VCPUs, in.VMM = 1, EC2 }, first + strings.Replace(sectionsText, cpuid, "", 1) + cpuid + boot},
		"empty stays": {func(in *Input) { in.VCPUs, in.Firmware.Sections = 1, append(in.Firmware.Sections, Section{Type: 1}) }, first + sectionsText + boot},
	} {
		in := good(t)
		c.change(&in)
		l, err := Measure(in)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, logText(l)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestSVSMLog(t *testing.T) {
	image := svsmImage(t)
	s, err := ReadSVSM(bytes.NewReader(image), int64(len(image)), &Firmware{Size: 3653632}, varsSize)
	if err != nil {
		t.Fatal(err)
	}
	l, err := MeasureSVSM(s, 3, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	text := logText(l)
	head := fmt.Sprintf("firmware: 892 normal pages at 0xffc84000 [firmware]\nsvsm: %d normal pages at %#x [firmware]\n", len(image)/pageSize, (1<<32)-3653632-varsSize-len(image))
	tail := "\nvmsa of every processor: 3 vmsa pages at 0xfffffffff000 []\n"
	if !strings.HasPrefix(text, head) || !strings.HasSuffix(text, tail) || strings.Count(text, "\n") != len(s.Own.Sections)+3 {
		t.Errorf("%s\nwant it to start with\n%s", text, head)
	}
}

// TestIGVMLog: pages of one kind that follow each other are one event, others are their own.
func TestIGVMLog(t *testing.T) {
	l, err := MeasureIGVM(makeIGVM(igvmPage(0x1000, 1, 0), igvmPage(0x2000, 1, 0), igvmPage(0x3000, 1, igvmUnmeasured), igvmPage(0x5000, 1, igvmUnmeasured),
		igvmArea(4096, 1), igvmInsert(0x6000, 1, 1), igvmSave(1), igvmSave(1)))
	if err != nil {
		t.Fatal(err)
	}
	want := `page data: 2 normal pages at 0x1000 [firmware]
page data: 1 unmeasured pages at 0x3000 []
page data: 1 unmeasured pages at 0x5000 []
parameters: 1 unmeasured pages at 0x6000 []
vmsa: 1 vmsa pages at 0xfffffffff000 []
vmsa: 1 vmsa pages at 0xfffffffff000 []
`
	if d := cmp.Diff(want, logText(l)); d != "" {
		t.Error(d)
	}
}
